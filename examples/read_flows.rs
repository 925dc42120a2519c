//! Reads a recording and looks into the flows that match a filter.
//!
//! ```console
//! $ cargo run --example read_flows -- flows '~t json & ~c 200'
//! ```

use std::error::Error;
use std::fs::File;

use ringtap::filter::Filter;
use ringtap::flow::{Flow, HttpFlow, Message};
use ringtap::store::FlowReader;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: read_flows FILE [FILTER]")?;
    let filter = Filter::parse(&arguments.next().unwrap_or_else(|| "~all".into()))?;
    // one flow at a time, however large the file is
    for flow in FlowReader::new(File::open(path)?) {
        let flow = flow?;
        if !filter.matches(&flow) {
            continue;
        }
        match &flow {
            Flow::Http(flow) => show(flow),
            Flow::Tcp(flow) => println!("tcp: {} messages", flow.messages.len()),
            Flow::Udp(flow) => println!("udp: {} messages", flow.messages.len()),
            Flow::Dns(flow) => println!("dns: {}", flow.request.text()),
        }
    }
    Ok(())
}

fn show(flow: &HttpFlow) {
    println!("{} {}", flow.request.method_upper(), flow.request.pretty_url());
    for (name, value) in flow.request.query().items() {
        println!("  query   {name} = {value}");
    }
    for (name, value) in flow.request.cookies().items() {
        println!("  cookie  {name} = {value}");
    }
    let Some(response) = &flow.response else { return };
    println!("  status  {} {}", response.status_code, response.reason_text());
    // decoded, whatever the content coding and the charset
    match response.get_text() {
        Ok(text) => println!("  text    {} characters", text.chars().count()),
        Err(error) => println!("  text    none: {error}"),
    }
    if let Ok(json) = response.json() {
        println!("  json    {json}");
    }
}
