//! DNS flows.

use super::names;
use super::style::{Colour, safe};
use super::{Page, client};
use crate::flow::{DnsFlow, DnsRecord};

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
    let text = record.data_text().map(|text| safe(&text));
    text.unwrap_or_else(|| format!("{} (invalid {} data)", record.hex(), names::dns_type(record.kind)))
}
