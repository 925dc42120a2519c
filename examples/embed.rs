//! ringtap inside a program of yours, with an addon written in Rust. It takes the flags of `ringtap dump` that are
//! `--set OPTION=VALUE`, and does what the paths of requests ask for:
//!
//! ```text
//! cargo run --release --example embed -- --set mode=regular@8080 --set flow_detail=0
//! ?addon=shout    both bodies stream through a function that turns letters into capitals
//! ?addon=copy     both bodies stream through a function that changes nothing
//! ?addon=append   the response is collected, and gets a line at its end
//! ?addon=answer   the request is collected, and answered here: no byte of it reaches the server
//! ```

use std::process::ExitCode;

use ringtap::config::{Config, Source, Typed};
use ringtap::engine;
use ringtap::flow::{BodyStream, Headers, HttpFlow, Response};
use ringtap::hooks::{Addon, Flowed, Hook, HookCx, Hooks};

/// Does what the request's path asks for.
struct AsAsked;

impl AsAsked {
    fn asked(flow: &HttpFlow, wish: &str) -> bool {
        String::from_utf8_lossy(&flow.request.path).contains(&format!("addon={wish}"))
    }

    fn stream(flow: &HttpFlow) -> BodyStream {
        if Self::asked(flow, "shout") {
            BodyStream::through(|piece: &[u8]| piece.to_ascii_uppercase())
        } else if Self::asked(flow, "copy") {
            BodyStream::through(|piece: &[u8]| piece.to_vec())
        } else if Self::asked(flow, "append") || Self::asked(flow, "answer") {
            BodyStream::Auto
        } else {
            BodyStream::Pass
        }
    }
}

impl Addon for AsAsked {
    fn wants(&self) -> Hooks {
        Hooks::of(&[Hook::Requestheaders, Hook::Request, Hook::Responseheaders, Hook::Response])
    }

    fn requestheaders(&mut self, flow: &mut HttpFlow, _: &mut HookCx) -> Flowed {
        flow.request.stream = Self::stream(flow);
        Flowed::Continue
    }

    fn request(&mut self, flow: &mut HttpFlow, cx: &mut HookCx) -> Flowed {
        if Self::asked(flow, "answer") {
            let length = flow.request.content.as_ref().map_or(0, bytes::Bytes::len);
            flow.response = Some(Response {
                http_version: "HTTP/1.1".into(),
                status_code: 200,
                reason: "OK".into(),
                headers: Headers::from_pairs([("Content-Type", "text/plain")]),
                content: Some(format!("{length} bytes stayed here\n").into()),
                trailers: None,
                timestamp_start: cx.now(),
                timestamp_end: None,
                stream: BodyStream::Auto,
            });
        }
        Flowed::Continue
    }

    fn responseheaders(&mut self, flow: &mut HttpFlow, _: &mut HookCx) -> Flowed {
        let stream = Self::stream(flow);
        if let Some(response) = &mut flow.response {
            response.stream = stream;
        }
        Flowed::Continue
    }

    fn response(&mut self, flow: &mut HttpFlow, _: &mut HookCx) -> Flowed {
        if Self::asked(flow, "append")
            && let Some(response) = &mut flow.response
            && let Some(body) = &response.content
        {
            response.content = Some([body, &b"appended\n"[..]].concat().into());
        }
        Flowed::Continue
    }
}

fn main() -> ExitCode {
    let mut typed = Typed::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let assignment = if word == "--set" { words.next() } else { None };
        let Some(assignment) = assignment else {
            eprintln!("only --set OPTION=VALUE is understood here, not '{word}'");
            return ExitCode::from(2);
        };
        if let Err(error) = typed.set(&assignment, Source::CommandLine) {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    }
    let done = Config::of(&typed).map_err(|error| error.to_string()).and_then(|config| {
        engine::run(config, vec![Box::new(|_| Box::new(AsAsked))], None).map_err(|e| e.to_string())
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
