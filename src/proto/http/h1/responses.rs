//! The response's half: from the server or an addon to the client.

use std::cell::Cell;

use bytes::Bytes;

use super::codec::{BodyFraming, RequestHead, response_framing, write_response_head};
use super::inbox::Inbox;
use super::lane::Lane;
use super::layer::{After, Refusal, Sent, Talk, gone, killed, refuse, run_hook};
use super::passage::{Broken, Form, Passage};
use super::requests::{fit_length, fit_trailers, put_in_chunks, size_of, write_body};
use crate::buf::Chunks;
use crate::flow::{BodyTransform, HttpVersion, Response};
use crate::hooks::Hook;
use crate::proto::http::exchange::{Exchange, Verdict};
use crate::proto::http::plan::{Gathered, Plan, Stop};
use crate::proto::http::tape::BodyTape;
use crate::proto::server::close_server;
use crate::proto::session::Session;
use crate::stream::Stream;

/// The response whose head is in the inbox goes to the client.
pub(super) async fn relay(
    session: &mut Session,
    talk: &mut Talk,
    mut exchange: Exchange,
    sent: Sent,
    length: usize,
) -> After {
    exchange.response_begun(|now| flow_response(talk, length, now));
    match run_hook(session, &mut exchange, Hook::Responseheaders).await {
        Verdict::Killed => return killed(exchange).await,
        Verdict::Go | Verdict::Answered => {}
    }
    let config = session.services.config.clone();
    let framing = talk.response.framing;
    if Passage::declared_too_large(framing, config.body_size_limit) {
        close_server(session).await;
        let reason = "the response's body is larger than body_size_limit".to_owned();
        return refuse(session, exchange, Refusal { status: 502, reason }).await;
    }
    let way = match exchange.plan(Hook::Response, size_of(framing)) {
        Plan::Stream => Way::Stream(None),
        Plan::Through(transform) => Way::Stream(Some(transform)),
        Plan::Collect(body) => Way::Collect(body),
        Plan::Refuse(reason) => {
            close_server(session).await;
            return refuse(session, exchange, Refusal { status: 502, reason }).await;
        }
    };
    let mut whole_request = !matches!(sent, Sent::Broken(_));
    let mut upload = match sent {
        Sent::Partly(passage) => Some(passage),
        Sent::Whole | Sent::Broken(_) => None,
    };
    let begun = Cell::new(false);
    let result = match way {
        Way::Collect(body) => {
            let upload = upload.as_deref_mut();
            collect(session, talk, &mut exchange, length, body, upload, &begun).await
        }
        Way::Stream(transform) => {
            let upload = upload.as_deref_mut();
            stream(session, talk, &mut exchange, length, transform, upload, &begun).await
        }
    };
    // a CONNECT that gets here goes to a proxy behind us, whose tunnel is not ours to look into
    let tunnelled = talk.request.connect && (200..300).contains(&talk.response.status);
    let switched = talk.response.status == 101 || tunnelled;
    if begun.get() {
        session.card.answered(exchange.status().unwrap_or(talk.response.status));
    }
    match result {
        Ok(Verdict::Killed) => killed(exchange).await,
        Ok(_) => {
            whole_request &= upload.is_none_or(|upload| upload.is_done());
            exchange.finish();
            after(session, talk, whole_request, switched).await
        }
        Err(broken) => {
            close_server(session).await;
            let reason = broken.reason("server", "client");
            if !begun.get() {
                // the client has seen nothing of it yet
                let status = broken.response_status();
                return refuse(session, exchange, Refusal { status, reason }).await;
            }
            exchange.fail(&reason).await;
            // to a TLS client the missing goodbye can be passed on as it is
            let mirrored = session.client.tls && matches!(broken, Broken::NoGoodbye(_));
            if talk.response.framing == BodyFraming::UntilClose && !mirrored {
                // nothing but a reset tells this end from the body's
                session.client_io.reset_on_close();
            }
            After::Abort
        }
    }
}

/// The response's body, while the rest of the request's goes out; whatever becomes of that, the response decides,
/// as long as there is a client.
async fn beside<T>(
    download: impl Future<Output = Result<T, Broken>>,
    upload: impl Future<Output = ()>,
    client: &Stream,
) -> Result<T, Broken> {
    let leaving = async {
        upload.await;
        gone(client).await;
    };
    tokio::select! {
        biased;
        downloaded = download => downloaded,
        () = leaving => Err(Broken::Receiver("connection closed".into())),
    }
}

/// The rest of a request's body.
async fn finish_upload(
    upload: Option<&mut Passage>,
    inbox: &mut Inbox,
    session: &Session,
    exchange: &mut Exchange,
) {
    let (Some(upload), Some(server)) = (upload, &session.server_io) else { return };
    let services = &session.services;
    let idle_ms = services.config.timeouts.idle_ms;
    if upload.pass(inbox, &session.client_io, server, &services.timers, idle_ms).await.is_ok() {
        let trailers = upload.trailers();
        exchange.request_streamed(&mut upload.tape, trailers).await;
        // what a server that has answered already makes of it, its response will tell
        let _ = upload.end(exchange.request_trailers(), server, &services.timers, idle_ms).await;
    }
}

/// Can the connections carry another exchange?
async fn after(session: &mut Session, talk: &Talk, whole_request: bool, switched: bool) -> After {
    if switched {
        return After::Raw;
    }
    let client_lives = talk.request.keep_alive && whole_request;
    if !talk.response.keep_alive || talk.response.framing == BodyFraming::UntilClose || !whole_request {
        close_server(session).await;
        // the client has read the server's wish to close
        return After::Close;
    }
    if !talk.server.peek().is_empty() {
        // bytes behind the response are no answer to anything: they must not become the next one's
        tracing::info!(
            "{} sent more than its response: that connection is closed",
            session.destination_text()
        );
        close_server(session).await;
    }
    if client_lives { After::Again } else { After::Close }
}

fn flow_response(talk: &Talk, length: usize, now: f64) -> Response {
    let head = Bytes::copy_from_slice(&talk.server.peek()[..length]);
    let response = &talk.response;
    Response {
        http_version: Bytes::from_static(response.version.as_str().as_bytes()),
        status_code: response.status,
        reason: head.slice(response.reason.range()),
        headers: response.headers(&head),
        content: None,
        trailers: None,
        timestamp_start: now,
        timestamp_end: None,
        stream: crate::flow::BodyStream::Auto,
    }
}

/// How a response's body goes.
enum Way {
    Stream(Option<BodyTransform>),
    Collect(Gathered),
}

/// The form in which a streamed body reaches this client. An HTTP/1.0 client knows no chunks: it sees the end of the
/// connection.
fn form_for(client: HttpVersion, framing: BodyFraming, transformed: bool) -> Form {
    match (framing, transformed, client) {
        (BodyFraming::None, ..) => Form::AsCame,
        (BodyFraming::UntilClose, true, _) => Form::Bare,
        (BodyFraming::Chunked, _, HttpVersion::Http10) | (_, true, HttpVersion::Http10) => Form::Bare,
        (_, true, _) => Form::Chunks,
        (_, false, _) => Form::AsCame,
    }
}

/// The body passes piece by piece, as it comes.
async fn stream(
    session: &Session,
    talk: &mut Talk,
    exchange: &mut Exchange,
    length: usize,
    transform: Option<BodyTransform>,
    mut upload: Option<&mut Passage>,
    begun: &Cell<bool>,
) -> Result<Verdict, Broken> {
    let Some(server) = &session.server_io else { return Err(Broken::Sender("connection closed".into())) };
    let services = &session.services;
    let (timers, idle_ms) = (&services.timers, services.config.timeouts.idle_ms);
    let framing = talk.response.framing;
    let form = form_for(talk.request.version, framing, transform.is_some());
    let tape = exchange.tape(Hook::Response, size_of(framing));
    let mut passage = Passage::new(framing, tape, services.config.body_size_limit)
        .holding_end(exchange.holds_end(Hook::Response))
        .leaving(form);
    if let Some(transform) = transform {
        passage = passage.through(Lane::new(transform, services.config.timeouts.hook_ms), form);
    }
    let mut first = Chunks::default();
    if exchange.is_editable() || form != Form::AsCame {
        first.push(head_in(talk, exchange, length, form)?.into());
        talk.server.take(length);
        first.push(passage.step(&mut talk.server, 0)?);
    } else {
        first.push(passage.step(&mut talk.server, length)?);
    }
    begun.set(true);
    let written = timers.timeout(idle_ms, session.client_io.write(first)).await;
    written.map_err(|_| Broken::Receiver("takes no data".into()))?.map_err(super::passage::receiver)?;
    if !passage.is_through() {
        let download = passage.pass(&mut talk.server, server, &session.client_io, timers, idle_ms);
        let uploading = finish_upload(upload.as_deref_mut(), &mut talk.client, session, exchange);
        Box::pin(beside(download, uploading, &session.client_io)).await?;
    }
    if talk.response.keep_alive && !talk.request.expect_continue {
        // a server that lives on goes on reading, and so its client may go on sending
        let unfinished = upload.filter(|upload| !upload.is_done());
        if unfinished.is_some() {
            // it may want to see the end of its answer first: addons come too late for these trailers
            let trailers = passage.trailers();
            passage.end(trailers.as_ref(), &session.client_io, timers, idle_ms).await?;
        }
        finish_upload(unfinished, &mut talk.client, session, exchange).await;
    }
    streamed(session, exchange, &mut passage).await
}

/// A response has been streamed: it is shown, and past changing but for its trailers.
async fn streamed(
    session: &Session,
    exchange: &mut Exchange,
    passage: &mut Passage,
) -> Result<Verdict, Broken> {
    if let Some(flow) = exchange.flow()
        && let Some(response) = &mut flow.response
    {
        response.trailers = passage.trailers();
    }
    exchange.response_done(&mut passage.tape);
    let verdict = exchange.run(Hook::Response).await;
    if verdict != Verdict::Killed {
        let services = &session.services;
        let (client, idle_ms) = (&session.client_io, services.config.timeouts.idle_ms);
        passage.end(exchange.response_trailers(), client, &services.timers, idle_ms).await?;
    }
    Ok(verdict)
}

/// The head of a response whose body leaves in that form.
fn head_in(talk: &mut Talk, exchange: &mut Exchange, length: usize, form: Form) -> Result<Vec<u8>, Broken> {
    if form == Form::AsCame {
        return edited_head(talk, exchange);
    }
    let mut own = None;
    let response = match exchange.flow().and_then(|flow| flow.response.as_mut()) {
        Some(response) => response,
        None => own.insert(flow_response(talk, length, 0.0)),
    };
    let headers = &mut response.headers;
    if form == Form::Chunks {
        put_in_chunks(headers);
    } else {
        for name in ["Content-Length", "Transfer-Encoding", "Trailer"] {
            headers.remove(name);
        }
        headers.set("Connection", "close");
        talk.response.framing = BodyFraming::UntilClose;
    }
    let mut out = Vec::with_capacity(512);
    write_response_head(
        &mut out,
        HttpVersion::Http11,
        response.status_code,
        &response.reason,
        &response.headers,
    )
    .map_err(|e| Broken::Framing(e.to_string()))?;
    Ok(out)
}

fn edited_head(talk: &Talk, exchange: &mut Exchange) -> Result<Vec<u8>, Broken> {
    let mut out = Vec::with_capacity(512);
    if let Some(response) = exchange.flow().and_then(|flow| flow.response.as_ref()) {
        let (head, facts) = (&talk.response, talk.request.request_facts());
        let said = response_framing(head.version, response.status_code, facts, &response.headers);
        if said.map_err(|e| Broken::Framing(e.to_string()))? != head.framing {
            return Err(Broken::Framing("an addon changed how a streamed body is framed".into()));
        }
        let version = version_of(&response.http_version);
        write_response_head(&mut out, version, response.status_code, &response.reason, &response.headers)
            .map_err(|e| Broken::Framing(e.to_string()))?;
    }
    Ok(out)
}

fn version_of(text: &[u8]) -> HttpVersion {
    if text == b"HTTP/1.0" { HttpVersion::Http10 } else { HttpVersion::Http11 }
}

/// The whole body is shown to addons before the client gets any of it.
async fn collect(
    session: &Session,
    talk: &mut Talk,
    exchange: &mut Exchange,
    length: usize,
    mut body: Gathered,
    mut upload: Option<&mut Passage>,
    begun: &Cell<bool>,
) -> Result<Verdict, Broken> {
    let Some(server) = &session.server_io else { return Err(Broken::Sender("connection closed".into())) };
    let services = &session.services;
    let (timers, idle_ms) = (&services.timers, services.config.timeouts.idle_ms);
    let framing = talk.response.framing;
    talk.server.take(length);
    let mut passage = Passage::new(framing, BodyTape::counting(), services.config.body_size_limit);
    let stop = {
        let download = passage.collect(&mut talk.server, server, &mut body, timers, idle_ms);
        let uploading = finish_upload(upload.as_deref_mut(), &mut talk.client, session, exchange);
        Box::pin(beside(download, uploading, &session.client_io)).await?
    };
    if let Some(stop) = stop {
        if stop == Stop::Overflow {
            exchange.overflowed(Hook::Response).map_err(Broken::Refused)?;
        }
        let form = match form_for(talk.request.version, framing, false) {
            Form::AsCame if framing == BodyFraming::Chunked => Form::Chunks,
            form => form,
        };
        let mut out = head_in(talk, exchange, length, form)?;
        let tape = exchange.tape(Hook::Response, size_of(framing));
        passage.go_on_after(&body.into_parts().0, tape, &mut out, form);
        begun.set(true);
        session.write_client(Chunks::from(out)).await.map_err(super::passage::receiver)?;
        let download = passage.pass(&mut talk.server, server, &session.client_io, timers, idle_ms);
        let uploading = finish_upload(upload, &mut talk.client, session, exchange);
        Box::pin(beside(download, uploading, &session.client_io)).await?;
        return streamed(session, exchange, &mut passage).await;
    }
    exchange.response_collected(body, passage.trailers());
    let verdict = run_hook(session, exchange, Hook::Response).await;
    if verdict == Verdict::Killed {
        return Ok(verdict);
    }
    if let Some(bytes) = whole_response(exchange, framing, &talk.request)? {
        begun.set(true);
        session.write_client(Chunks::from(bytes)).await.map_err(super::passage::receiver)?;
    }
    Ok(verdict)
}

/// A response with all of its body, as it goes to an HTTP/1 client.
fn whole_response(
    exchange: &mut Exchange,
    framing: BodyFraming,
    request: &RequestHead,
) -> Result<Option<Vec<u8>>, Broken> {
    let Some(response) = exchange.flow().and_then(|flow| flow.response.as_mut()) else { return Ok(None) };
    let body = response.content.clone().unwrap_or_default();
    let bodiless = request.is_head || response.status_code < 200 || matches!(response.status_code, 204 | 304);
    let old = request.version == HttpVersion::Http10;
    if old {
        response.headers.remove("transfer-encoding");
    }
    if !bodiless && framing != BodyFraming::UntilClose {
        let takes_trailers = request.te_trailers && !old;
        fit_trailers(&mut response.headers, response.trailers.as_ref(), takes_trailers);
        fit_length(&mut response.headers, &body, BodyFraming::Length(0));
    }
    let mut out = Vec::with_capacity(512 + body.len());
    let version = version_of(&response.http_version);
    let written =
        write_response_head(&mut out, version, response.status_code, &response.reason, &response.headers)
            .and_then(|()| match bodiless {
                true => Ok(()),
                false => write_body(&mut out, &response.headers, &body, response.trailers.as_ref()),
            });
    written.map(|()| Some(out)).map_err(|e| Broken::Framing(e.to_string()))
}

/// An addon has answered in the server's place.
pub(super) async fn answer_of_addon(session: &Session, talk: &mut Talk, mut exchange: Exchange) -> After {
    let now = session.services.now();
    if let Some(response) = exchange.flow().and_then(|flow| flow.response.as_mut()) {
        response.timestamp_end.get_or_insert(now);
    }
    for hook in [Hook::Responseheaders, Hook::Response] {
        if exchange.run(hook).await == Verdict::Killed {
            return killed(exchange).await;
        }
    }
    let bytes = match whole_response(&mut exchange, BodyFraming::None, &talk.request) {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(broken) => {
            let reason = broken.reason("addon", "client");
            return refuse(session, exchange, Refusal { status: 502, reason }).await;
        }
    };
    session.card.answered(exchange.status().unwrap_or(0));
    let written = session.write_client(Chunks::from(bytes)).await;
    // a body that was not read cannot be told apart from the next request
    let unread = talk.request.framing != BodyFraming::None && !exchange.has_request_body();
    exchange.finish();
    if written.is_err() || unread || !talk.request.keep_alive {
        return After::Close;
    }
    After::Again
}
