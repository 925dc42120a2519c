//! A compiled expression and a flow: does it hold?

use std::cell::RefCell;
use std::fmt::Write;

use regex::bytes::Regex;

use super::parse::{Fact, Node, Place};
use super::{DECODED_MAX, value};
use crate::coding::Limits;
use crate::flow::{DnsMessage, FlowMeta, FlowRef, Headers, HttpFlow, Message, MetaValue, Replay};

/// Bytes of room that are kept for the next flow.
const KEPT_MAX: usize = 64 << 10;

/// Content types of assets, as parts of a value.
const ASSETS: [&str; 7] = [
    "text/javascript",
    "application/x-javascript",
    "application/javascript",
    "text/css",
    "image/",
    "font/",
    "application/font",
];

thread_local! {
    /// Room for what is put together to be searched: URLs, header lines, addresses.
    static ROOM: RefCell<Room> = const { RefCell::new(Room { text: String::new(), bytes: Vec::new() }) };
}

struct Room {
    text: String,
    bytes: Vec<u8>,
}

pub(super) fn holds(node: &Node, flow: FlowRef<'_>) -> bool {
    match node {
        Node::Fact(fact) => is(*fact, flow),
        Node::Code(code) => match flow {
            FlowRef::Http(flow) => flow.response.as_ref().is_some_and(|r| Some(r.status_code) == *code),
            _ => false,
        },
        Node::Pattern(place, regex) => found(*place, regex, flow),
        Node::Not(node) => !holds(node, flow),
        Node::And(nodes) => nodes.iter().all(|node| holds(node, flow)),
        Node::Or(nodes) => nodes.iter().any(|node| holds(node, flow)),
    }
}

fn is(fact: Fact, flow: FlowRef<'_>) -> bool {
    let meta = flow.meta();
    match fact {
        Fact::All => true,
        Fact::Asset => match flow {
            FlowRef::Http(HttpFlow { response: Some(response), .. }) => {
                response.headers.all("content-type").any(is_asset)
            }
            _ => false,
        },
        Fact::Dns => matches!(flow, FlowRef::Dns(_)),
        Fact::Error => meta.error.is_some(),
        Fact::Http => matches!(flow, FlowRef::Http(_)),
        Fact::Marked => !meta.marked.is_empty(),
        Fact::Replay => meta.is_replay.is_some(),
        Fact::ReplayRequest => meta.is_replay == Some(Replay::Request),
        Fact::ReplayResponse => meta.is_replay == Some(Replay::Response),
        Fact::NoResponse => has_response(flow) == Some(false),
        Fact::Response => has_response(flow) == Some(true),
        Fact::Tcp => matches!(flow, FlowRef::Tcp(_)),
        Fact::Udp => matches!(flow, FlowRef::Udp(_)),
        Fact::WebSocket => matches!(flow, FlowRef::Http(HttpFlow { websocket: Some(_), .. })),
    }
}

/// None where there are no responses.
fn has_response(flow: FlowRef<'_>) -> Option<bool> {
    match flow {
        FlowRef::Http(flow) => Some(flow.response.is_some()),
        FlowRef::Dns(flow) => Some(flow.response.is_some()),
        FlowRef::Tcp(_) | FlowRef::Udp(_) => None,
    }
}

fn is_asset(content_type: &[u8]) -> bool {
    let has = |part: &str| content_type.windows(part.len()).any(|window| window == part.as_bytes());
    ASSETS.iter().any(|part| has(part))
}

fn found(place: Place, regex: &Regex, flow: FlowRef<'_>) -> bool {
    let meta = flow.meta();
    let (request, response) = match flow {
        FlowRef::Http(flow) => (Some(&flow.request), flow.response.as_ref()),
        _ => (None, None),
    };
    let (asked, answered) = (request.map(|r| &r.headers), response.map(|r| &r.headers));
    match place {
        Place::Body => body(regex, flow, true, true),
        Place::BodyRequest => body(regex, flow, true, false),
        Place::BodyResponse => body(regex, flow, false, true),
        Place::ContentType => content_type(regex, asked) || content_type(regex, answered),
        Place::ContentTypeRequest => content_type(regex, asked),
        Place::ContentTypeResponse => content_type(regex, answered),
        Place::Head => head(regex, asked) || head(regex, answered),
        Place::HeadRequest => head(regex, asked),
        Place::HeadResponse => head(regex, answered),
        Place::Method => request.is_some_and(|request| regex.is_match(&request.method)),
        Place::Domain => request.is_some_and(|request| {
            regex.is_match(request.host.as_bytes()) || regex.is_match(request.pretty_host().as_bytes())
        }),
        Place::Url => url(regex, flow),
        Place::Source => in_text(regex, |out| match meta.client_conn.peername {
            Some(peer) => write!(out, "{}:{}", peer.ip(), peer.port()).is_ok(),
            None => false,
        }),
        Place::Destination => in_text(regex, |out| match &meta.server_conn.address {
            Some((host, port)) => write!(out, "{host}:{port}").is_ok(),
            None => false,
        }),
        Place::Meta => in_text(regex, |out| metadata(&meta.metadata, out)),
        Place::Marker => regex.is_match(meta.marked.as_bytes()),
        Place::Comment => regex.is_match(meta.comment.as_bytes()),
        Place::Sni => meta.client_conn.sni.as_ref().is_some_and(|sni| regex.is_match(sni.as_bytes())),
        Place::Alpn => meta.client_conn.alpn.as_ref().is_some_and(|alpn| regex.is_match(alpn)),
        Place::Ja3 => fingerprint(regex, meta, "ja3"),
        Place::Ja4 => fingerprint(regex, meta, "ja4"),
    }
}

/// What a filter's operator of that name finds in the metadata.
fn fingerprint(regex: &Regex, meta: &FlowMeta, key: &str) -> bool {
    match meta.noted(key) {
        Some(MetaValue::Text(text)) => regex.is_match(text.as_bytes()),
        Some(MetaValue::Bytes(bytes)) => regex.is_match(bytes),
        _ => false,
    }
}

/// Searches in what is put together; `false` from `write` says that there is nothing.
fn in_text(regex: &Regex, write: impl FnOnce(&mut String) -> bool) -> bool {
    ROOM.with_borrow_mut(|room| {
        room.text.clear();
        let found = write(&mut room.text) && regex.is_match(room.text.as_bytes());
        room.text.clear();
        room.text.shrink_to(KEPT_MAX);
        found
    })
}

fn url(regex: &Regex, flow: FlowRef<'_>) -> bool {
    match flow {
        FlowRef::Http(flow) => in_text(regex, |out| {
            flow.request.write_pretty_url(out);
            true
        }),
        FlowRef::Dns(flow) => {
            flow.request.questions.first().is_some_and(|question| regex.is_match(question.name.as_bytes()))
        }
        FlowRef::Tcp(_) | FlowRef::Udp(_) => false,
    }
}

fn content_type(regex: &Regex, headers: Option<&Headers>) -> bool {
    headers.is_some_and(|headers| headers.all("content-type").any(|value| regex.is_match(value)))
}

fn head(regex: &Regex, headers: Option<&Headers>) -> bool {
    let Some(headers) = headers else { return false };
    ROOM.with_borrow_mut(|room| {
        room.bytes.clear();
        headers.write_block(&mut room.bytes);
        let found = regex.is_match(&room.bytes);
        room.bytes.clear();
        room.bytes.shrink_to(KEPT_MAX);
        found
    })
}

fn metadata(entries: &[(String, MetaValue)], out: &mut String) -> bool {
    for (index, (key, value)) in entries.iter().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        out.push_str(key);
        out.push_str(": ");
        if value::print(value, out).is_err() {
            return false;
        }
    }
    true
}

/// Bodies and messages of the sides that are asked for.
fn body(regex: &Regex, flow: FlowRef<'_>, client: bool, server: bool) -> bool {
    let wanted = |from_client: bool| if from_client { client } else { server };
    match flow {
        FlowRef::Http(flow) => {
            client && content(regex, &flow.request)
                || server && flow.response.as_ref().is_some_and(|response| content(regex, response))
                || flow.websocket.as_ref().is_some_and(|data| {
                    data.messages.iter().any(|m| wanted(m.from_client) && regex.is_match(&m.content))
                })
        }
        FlowRef::Tcp(flow) => {
            flow.messages.iter().any(|m| wanted(m.from_client) && regex.is_match(&m.content))
        }
        FlowRef::Udp(flow) => {
            flow.messages.iter().any(|m| wanted(m.from_client) && regex.is_match(&m.content))
        }
        FlowRef::Dns(flow) => {
            let in_message = |message: &DnsMessage| regex.is_match(message.text().as_bytes());
            client && in_message(&flow.request) || server && flow.response.as_ref().is_some_and(in_message)
        }
    }
}

fn content(regex: &Regex, message: &impl Message) -> bool {
    let limits = Limits { output_max: DECODED_MAX, ..Limits::default() };
    match message.get_content_within(&limits) {
        Ok(content) => regex.is_match(&content),
        Err(_) => message.raw_content().is_some_and(|raw| regex.is_match(raw)),
    }
}
