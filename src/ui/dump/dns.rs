//! DNS flows.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::names;
use super::style::{Colour, safe, safe_bytes};
use super::{Page, client};
use crate::flow::{DnsFlow, DnsRecord};

const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
const PTR: u16 = 12;
const TXT: u16 = 16;
const AAAA: u16 = 28;

pub(super) fn print(flow: &DnsFlow, page: &mut Page<'_>) {
    let paint = page.look.paint;
    let question = flow.request.questions.first();
    let kind = question.map_or_else(|| "no question".to_owned(), |question| names::dns_type(question.kind));
    let colour = match kind.as_str() {
        "A" => Colour::Green,
        "AAAA" => Colour::Magenta,
        _ => Colour::Red,
    };
    let what = format!("DNS {} ({kind})", names::dns_op_code(flow.request.op_code));
    let name = safe(question.map_or("", |question| &question.name));
    let line = format!(
        "{}: {} {}",
        client(&flow.meta, paint),
        paint.plain(Some(colour), &what),
        paint.bold(None, &name)
    );
    page.line(line.trim_end());
    if let Some(response) = &flow.response {
        let mut found =
            response.answers.iter().map(|record| paint.plain(Some(Colour::BrightBlue), &data(record)));
        let answers = match found.next() {
            Some(first) => found.fold(first, |line, answer| line + ", " + &answer),
            None => paint.plain(Some(Colour::Red), &names::dns_response_code(response.response_code)),
        };
        page.line(&format!("{} {answers}", paint.bold(None, " <<")));
    }
    if let Some(error) = &flow.meta.error {
        page.error(&error.msg);
    }
}

/// A record's data as people write it.
fn data(record: &DnsRecord) -> String {
    let data = &record.data[..];
    let known = match record.kind {
        A => <[u8; 4]>::try_from(data).ok().map(|octets| Ipv4Addr::from(octets).to_string()),
        AAAA => <[u8; 16]>::try_from(data).ok().map(|octets| Ipv6Addr::from(octets).to_string()),
        NS | CNAME | PTR => name(data),
        TXT => texts(data),
        _ => return hex(data),
    };
    known.unwrap_or_else(|| format!("{} (invalid {} data)", hex(data), names::dns_type(record.kind)))
}

fn hex(data: &[u8]) -> String {
    let digits: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

/// A domain name in wire form. Recorded names are not compressed.
fn name(data: &[u8]) -> Option<String> {
    let mut labels = Vec::new();
    let mut rest = data;
    loop {
        let (length, tail) = rest.split_first()?;
        match *length {
            0 => return tail.is_empty().then(|| labels.join(".")),
            // The upper two bits mark a pointer.
            length @ 1..=63 => {
                let (label, tail) = tail.split_at_checked(length.into())?;
                labels.push(safe_bytes(label));
                rest = tail;
            }
            _ => return None,
        }
    }
}

/// A TXT record's strings, joined as their readers do (RFC 7208 §3.3).
fn texts(data: &[u8]) -> Option<String> {
    let mut text = Vec::new();
    let mut rest = data;
    while let Some((length, tail)) = rest.split_first() {
        let (part, tail) = tail.split_at_checked((*length).into())?;
        text.extend_from_slice(part);
        rest = tail;
    }
    Some(std::str::from_utf8(&text).map_or_else(|_| safe_bytes(&text), safe))
}
