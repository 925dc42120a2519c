//! One request and its response: hooks, flow and limits, whatever the version on the wire.
//!
//! LIFECYCLE
//! ```text
//! requestheaders ─▶ request ─▶ responseheaders ─▶ response      each flow ends in exactly one of
//!        │             │               │                        `response` and `error`
//!        └─────────────┴───────────────┴────────▶ error
//! ```
//! A flow is built only if somebody listens or records. Bodies are collected only for addons that listen to
//! `request` or `response`, who may change them; otherwise they are streamed, and a copy is kept for recorders
//! (`plan.rs`).

use std::rc::Rc;
use std::sync::Arc;

use crate::flow::{Flow, FlowMeta, Headers, HttpFlow, KILLED_MESSAGE, MetaValue, Request, Response};
use crate::hooks::{Hook, Hooks, Subject};
use crate::proto::budget::Charge;
use crate::proto::session::{Card, Services, Session, count};

use super::plan::Gathered;
use super::tape::BodyTape;

/// An exchange under way.
pub struct Exchange {
    services: Rc<Services>,
    flow: Option<Box<HttpFlow>>,
    wants: Hooks,
    recorded: bool,
    /// `response` has run: the flow has its ending.
    responded: bool,
    /// The response has come whole and was sent on.
    complete: bool,
    failed: bool,
    card: Rc<Card>,
    /// The response asks the client to come back on a new connection.
    leaving: bool,
    /// For the request's body and the response's in the flow.
    charges: [Option<Charge>; 2],
}

/// What an addon wants to happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Go,
    /// It has set a response: the server is not asked.
    Answered,
    /// End the connection without an answer.
    Killed,
}

impl Exchange {
    /// An exchange; `request` is called only if a flow is wanted.
    pub fn begin(session: &Session, request: impl FnOnce(f64) -> Request) -> Self {
        let services = session.services.clone();
        let wants = services.chain.wants();
        // while clients are asked to come back on a new connection, the flow is where their response is edited
        let leaving = services.draining.is_announced();
        let flow = (wants.intersects(Hooks::HTTP) || services.outbox.wanted() || leaving).then(|| {
            let now = services.now();
            let request = request(now);
            let mut meta = FlowMeta::new(Arc::clone(&session.client), Arc::clone(&session.server), now);
            note_mismatch(&mut meta, session, &request);
            Box::new(HttpFlow { meta, request, response: None, websocket: None, killed: false })
        });
        Self {
            services,
            flow,
            wants,
            recorded: true,
            responded: false,
            complete: false,
            failed: false,
            card: session.card.clone(),
            leaving: false,
            charges: [None, None],
        }
    }

    /// A CONNECT request: a flow for hooks, which no recorder gets.
    pub fn tunnel(session: &Session, request: impl FnOnce(f64) -> Request) -> Self {
        let services = session.services.clone();
        let wants = services.chain.wants();
        let connects = Hooks::of(&[Hook::HttpConnect, Hook::HttpConnected, Hook::HttpConnectError]);
        let flow = wants.intersects(connects).then(|| {
            let now = services.now();
            let meta = FlowMeta::new(Arc::clone(&session.client), Arc::clone(&session.server), now);
            Box::new(HttpFlow { meta, request: request(now), response: None, websocket: None, killed: false })
        });
        Self {
            services,
            flow,
            wants,
            recorded: false,
            responded: false,
            complete: false,
            failed: false,
            card: session.card.clone(),
            leaving: false,
            charges: [None, None],
        }
    }

    /// The flow's id, if there is a flow.
    pub fn id(&self) -> Option<uuid::Uuid> {
        self.flow.as_ref().map(|flow| flow.meta.id)
    }

    /// The flow, if there is one.
    pub fn flow(&mut self) -> Option<&mut HttpFlow> {
        self.flow.as_deref_mut()
    }

    /// The status of the flow's response, if there is one.
    pub fn status(&self) -> Option<u16> {
        self.flow.as_ref()?.response.as_ref().map(|response| response.status_code)
    }

    /// Whether what the flow says may have been changed, by addons or by us: then it is what goes out, not the bytes
    /// that came.
    pub fn is_editable(&self) -> bool {
        self.flow.is_some() && (self.wants.intersects(Hooks::HTTP) || self.leaving)
    }

    /// Whether the end of that message's body waits until addons have seen it: they may change its trailers.
    pub fn holds_end(&self, hook: Hook) -> bool {
        self.flow.is_some() && self.wants.contains(hook)
    }

    pub(super) fn wants(&self) -> Hooks {
        self.wants
    }

    pub(super) fn services(&self) -> &Rc<Services> {
        &self.services
    }

    /// Connections may have become known or changed since the flow began.
    pub fn refresh(&mut self, session: &Session) {
        if let Some(flow) = &mut self.flow {
            flow.meta.client_conn = Arc::clone(&session.client);
            flow.meta.server_conn = Arc::clone(&session.server);
        }
    }

    /// Runs a hook on the flow.
    pub async fn run(&mut self, hook: Hook) -> Verdict {
        let Some(flow) = &mut self.flow else { return Verdict::Go };
        let had_response = flow.response.is_some();
        self.responded |= hook == Hook::Response;
        self.services.chain.run(hook, Subject::Http(flow)).await;
        if flow.killed {
            return Verdict::Killed;
        }
        if !had_response && flow.response.is_some() { Verdict::Answered } else { Verdict::Go }
    }

    /// Whether the request's body has been read.
    pub fn has_request_body(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.request.timestamp_end.is_some())
    }

    /// A request that was streamed has come whole. One that was collected has been told about before.
    pub async fn request_streamed(&mut self, tape: &mut BodyTape, trailers: Option<Headers>) {
        let Some(flow) = &mut self.flow else { return };
        if flow.request.timestamp_end.is_some() {
            return;
        }
        flow.request.trailers = trailers;
        self.request_done(tape);
        self.run(Hook::Request).await;
    }

    fn request_done(&mut self, tape: &mut BodyTape) {
        let now = self.services.now();
        if let Some(flow) = &mut self.flow {
            flow.request.timestamp_end = Some(now);
            flow.request.content = tape.take().map(|(body, charge)| {
                self.charges[0] = Some(charge);
                body
            });
            if flow.request.content.is_none() {
                note_streamed(&mut flow.meta, "request_length", tape.passed);
            }
        }
    }

    /// A request's body was collected, and takes its share of the budget as long as the flow is under way.
    pub fn request_collected(&mut self, body: Gathered, trailers: Option<Headers>) {
        let now = self.services.now();
        let (data, charge) = body.into_parts();
        self.charges[0] = Some(charge);
        if let Some(flow) = &mut self.flow {
            flow.request.timestamp_end = Some(now);
            flow.request.trailers = trailers;
            flow.request.content = Some(data.into());
        }
    }

    /// A response's body was collected; as [`request_collected`](Self::request_collected).
    pub fn response_collected(&mut self, body: Gathered, trailers: Option<Headers>) {
        let now = self.services.now();
        let (data, charge) = body.into_parts();
        self.charges[1] = Some(charge);
        if let Some(response) = self.flow.as_mut().and_then(|flow| flow.response.as_mut()) {
            response.timestamp_end = Some(now);
            response.trailers = trailers;
            response.content = Some(data.into());
        }
    }

    /// The trailers that the request has by now.
    pub fn request_trailers(&self) -> Option<&Headers> {
        self.flow.as_ref().and_then(|flow| flow.request.trailers.as_ref())
    }

    /// The trailers that the response has by now.
    pub fn response_trailers(&self) -> Option<&Headers> {
        let response = self.flow.as_ref().and_then(|flow| flow.response.as_ref());
        response.and_then(|response| response.trailers.as_ref())
    }

    /// The response's head has come.
    pub fn response_begun(&mut self, response: impl FnOnce(f64) -> Response) {
        let Some(flow) = &mut self.flow else { return };
        let response = flow.response.insert(response(self.services.now()));
        if self.services.draining.is_announced() && response.status_code != 101 {
            self.leaving = true;
            ask_to_come_back(&mut response.headers);
        }
    }

    /// The response has come whole.
    pub fn response_done(&mut self, tape: &mut BodyTape) {
        let now = self.services.now();
        if let Some(flow) = &mut self.flow
            && let Some(response) = &mut flow.response
        {
            response.timestamp_end = Some(now);
            response.content = tape.take().map(|(body, charge)| {
                self.charges[1] = Some(charge);
                body
            });
            if response.content.is_none() {
                note_streamed(&mut flow.meta, "response_length", tape.passed);
            }
        }
    }

    /// The exchange is complete: the flow goes to whoever records.
    pub fn finish(mut self) {
        self.complete = !self.failed;
        if let Some(mut flow) = self.flow.take()
            && self.recorded
        {
            flow.meta.live = false;
            self.services.outbox.deliver(Flow::Http(flow));
        }
    }

    /// The exchange failed.
    pub async fn fail(mut self, reason: &str) {
        self.failed = true;
        let now = self.services.now();
        if let Some(flow) = &mut self.flow {
            flow.meta.error = Some(crate::flow::Error { msg: reason.to_owned(), timestamp: now });
            if !self.responded {
                self.services.chain.run(Hook::Error, Subject::Http(flow)).await;
            }
        }
        self.finish();
    }
}

impl Drop for Exchange {
    /// A session that is killed is dropped where it stands: its flow still reaches the recorders.
    fn drop(&mut self) {
        self.card.done();
        let counters = &self.services.counters;
        // a CONNECT has no response of its own to be complete
        let answered = self.complete || !self.recorded;
        count(if answered { &counters.responses } else { &counters.request_errors });
        if let Some(mut flow) = self.flow.take()
            && self.recorded
        {
            let now = self.services.now();
            flow.meta.error = Some(crate::flow::Error { msg: KILLED_MESSAGE.into(), timestamp: now });
            flow.meta.live = false;
            self.services.outbox.deliver(Flow::Http(flow));
        }
    }
}

/// `close` in the Connection field, beside what else it names (RFC 9112 §9.6).
fn ask_to_come_back(headers: &mut Headers) {
    let said = headers.get("connection").unwrap_or_default();
    let named = said.split(',').map(str::trim).filter(|option| {
        !option.is_empty() && !["close", "keep-alive"].iter().any(|word| option.eq_ignore_ascii_case(word))
    });
    let options: Vec<&str> = named.chain(["close"]).collect();
    headers.remove("keep-alive");
    headers.set("Connection", options.join(", "));
}

fn note_streamed(meta: &mut FlowMeta, key: &str, length: u64) {
    meta.note(key, MetaValue::Int(i64::try_from(length).unwrap_or(i64::MAX)));
}

/// A transparent client goes where its packets went. That its Host names somebody else is worth knowing, and
/// never an error: content networks answer for many names.
fn note_mismatch(meta: &mut FlowMeta, session: &Session, request: &Request) {
    let (Some(sni), Some(_)) = (&session.client.sni, request.host_header()) else { return };
    let host = request.pretty_host();
    if !sni.eq_ignore_ascii_case(&host) {
        meta.note("authority_mismatch", MetaValue::Text(format!("SNI {sni}, Host {host}")));
    }
}
