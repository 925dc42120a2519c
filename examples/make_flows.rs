//! Makes flows, changes one and puts it back, and writes them to a file that ringtap and mitmproxy read.
//!
//! ```console
//! $ cargo run --example make_flows -- flows
//! ```

use std::error::Error;
use std::sync::Arc;

use ringtap::clock::Clock;
use ringtap::flow::{
    Client, Flow, FlowMeta, Headers, HttpFlow, Message, MetaValue, Request, Response, Server, SetCookie,
};
use ringtap::store::{State, write_flow};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: make_flows FILE")?;
    let now = Clock::real().unix();

    let mut request = Request::make("POST", "https://api.example.com/v1", b"", Headers::default(), now)?;
    request.query_mut().set("page", "1");
    request.urlencoded_form_mut().add("name", "Zoë");
    request.cookies_mut().set("session", "42");

    // the body is encoded as the header says, and gets its length
    let headers = Headers::from_pairs([("Content-Type", "application/json"), ("Content-Encoding", "zstd")]);
    let mut response = Response::make(201, br#"{"id": 7}"#, headers, now);
    response.set_cookies(&[SetCookie::new("seen", "yes")]);

    let client =
        Client { peername: "192.0.2.9:50000".parse().ok(), timestamp_start: now, ..Client::default() };
    let client = Client { proxy_mode: "regular".into(), ..client };
    let server = Server { address: Some(("api.example.com".into(), 443)), ..Server::default() };
    let mut flow = HttpFlow::new(FlowMeta::new(Arc::new(client), Arc::new(server), now), request);
    flow.response = Some(response);
    flow.meta.live = false;
    flow.meta.note("made_by", MetaValue::Text("an example".into()));

    flow.backup()?;
    if let Some(response) = &mut flow.response {
        response.set_text(Some(r#"{"id": 8}"#));
    }
    assert!(flow.modified());
    let changed = flow.copy();
    flow.revert()?;

    let mut file = Vec::new();
    for flow in [flow, changed] {
        write_flow(&Flow::Http(Box::new(flow)), &mut file);
    }
    std::fs::write(path, file)?;
    Ok(())
}
