//! One DNS exchange as a record.

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::Bytes;

use super::FlowMeta;

/// What a DNS message asks about (RFC 1035 §4.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsQuestion {
    /// Domain name, ASCII, without the trailing dot.
    pub name: String,
    /// Record type, e.g. 1 for A.
    pub kind: u16,
    /// Class, e.g. 1 for IN.
    pub class: u16,
}

/// One resource record (RFC 1035 §4.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsRecord {
    /// Domain name, ASCII, without the trailing dot.
    pub name: String,
    /// Record type, e.g. 1 for A.
    pub kind: u16,
    /// Class, e.g. 1 for IN.
    pub class: u16,
    /// Seconds it may be kept.
    pub ttl: u32,
    /// The record's data; names in it are not compressed.
    pub data: Bytes,
}

impl DnsRecord {
    /// The data as people write them: addresses, names, texts joined (RFC 7208 §3.3), or hexadecimal digits for
    /// records of other types; none if they are not what their type says.
    pub fn data_text(&self) -> Option<String> {
        let data = &self.data[..];
        match self.kind {
            dns_type::A => <[u8; 4]>::try_from(data).ok().map(|octets| Ipv4Addr::from(octets).to_string()),
            dns_type::AAAA => {
                <[u8; 16]>::try_from(data).ok().map(|octets| Ipv6Addr::from(octets).to_string())
            }
            dns_type::NS | dns_type::CNAME | dns_type::PTR => name_of(data),
            dns_type::TXT => texts_of(data),
            _ => Some(self.hex()),
        }
    }

    /// A record of class IN with this data.
    fn make(name: &str, kind: u16, data: Vec<u8>) -> Self {
        Self { name: name.to_owned(), kind, class: CLASS_IN, ttl: TTL, data: Bytes::from(data) }
    }

    /// An address record, kept for a minute as all records made here.
    pub fn a(name: &str, ip: Ipv4Addr) -> Self {
        Self::make(name, dns_type::A, ip.octets().to_vec())
    }

    /// An IPv6 address record.
    pub fn aaaa(name: &str, ip: Ipv6Addr) -> Self {
        Self::make(name, dns_type::AAAA, ip.octets().to_vec())
    }

    /// A record that says what a name stands for; none if that is no name.
    pub fn cname(alias: &str, canonical: &str) -> Option<Self> {
        Some(Self::make(alias, dns_type::CNAME, wire_name(canonical)?))
    }

    /// A record that names an address; none if that is no name.
    pub fn ptr(address: &str, name: &str) -> Option<Self> {
        Some(Self::make(address, dns_type::PTR, wire_name(name)?))
    }

    /// A text record, in strings of at most 255 bytes.
    pub fn txt(name: &str, text: &str) -> Self {
        let mut data = Vec::new();
        for part in text.as_bytes().chunks(255) {
            data.extend(u8::try_from(part.len()));
            data.extend_from_slice(part);
        }
        Self::make(name, dns_type::TXT, data)
    }

    /// The data in hexadecimal digits, after `0x`.
    pub fn hex(&self) -> String {
        let digits: String = self.data.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("0x{digits}")
    }
}

/// Record types whose data have a text (RFC 1035 §3.2.2, RFC 3596).
mod dns_type {
    pub(super) const A: u16 = 1;
    pub(super) const NS: u16 = 2;
    pub(super) const CNAME: u16 = 5;
    pub(super) const PTR: u16 = 12;
    pub(super) const TXT: u16 = 16;
    pub(super) const AAAA: u16 = 28;
}

/// The Internet's class.
const CLASS_IN: u16 = 1;
/// Seconds that records made here may be kept.
const TTL: u32 = 60;

/// A name as records hold it (RFC 1035 §3.1), not compressed; none if a label is empty or too long.
fn wire_name(name: &str) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    for label in name.strip_suffix('.').unwrap_or(name).split('.').filter(|_| !name.is_empty()) {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        data.push(length);
        data.extend_from_slice(label.as_bytes());
    }
    data.push(0);
    (data.len() <= 255).then_some(data)
}

/// A domain name in wire form. Recorded names are not compressed.
fn name_of(data: &[u8]) -> Option<String> {
    let mut labels = Vec::new();
    let mut rest = data;
    loop {
        let (length, tail) = rest.split_first()?;
        match *length {
            0 => return tail.is_empty().then(|| labels.join(".")),
            // The upper two bits mark a pointer.
            length @ 1..=63 => {
                let (label, tail) = tail.split_at_checked(length.into())?;
                labels.push(text_of(label));
                rest = tail;
            }
            _ => return None,
        }
    }
}

/// A TXT record's strings, joined as their readers do.
fn texts_of(data: &[u8]) -> Option<String> {
    let mut text = Vec::new();
    let mut rest = data;
    while let Some((length, tail)) = rest.split_first() {
        let (part, tail) = tail.split_at_checked((*length).into())?;
        text.extend_from_slice(part);
        rest = tail;
    }
    Some(text_of(&text))
}

/// UTF-8, or bytes one by one, each that is no ASCII as `\xNN`.
fn text_of(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

/// One DNS message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DnsMessage {
    /// Pairs a response with its query.
    pub id: u16,
    /// A query, not a response.
    pub query: bool,
    /// Kind of query, 0 for a standard one.
    pub op_code: u8,
    /// AA: the server speaks for the zone.
    pub authoritative_answer: bool,
    /// TC: the message was cut.
    pub truncation: bool,
    /// RD: the client wants recursion.
    pub recursion_desired: bool,
    /// RA: the server offers recursion.
    pub recursion_available: bool,
    /// The three Z bits (AD and CD among them).
    pub reserved: u8,
    /// RCODE, 0 for no error.
    pub response_code: u16,
    /// What is asked.
    pub questions: Vec<DnsQuestion>,
    /// Answer section.
    pub answers: Vec<DnsRecord>,
    /// Authority section.
    pub authorities: Vec<DnsRecord>,
    /// Additional section, with EDNS's OPT record.
    pub additionals: Vec<DnsRecord>,
    /// Unix seconds.
    pub timestamp: Option<f64>,
}

impl DnsMessage {
    /// The question, if there is exactly one: more are allowed and never sent.
    pub fn question(&self) -> Option<&DnsQuestion> {
        match &self.questions[..] {
            [question] => Some(question),
            _ => None,
        }
    }

    /// All records: answers, authorities, additionals.
    pub fn records(&self) -> impl Iterator<Item = &DnsRecord> {
        self.answers.iter().chain(&self.authorities).chain(&self.additionals)
    }

    /// Bytes of data in all records.
    pub fn size(&self) -> usize {
        self.records().map(|record| record.data.len()).sum()
    }

    /// The names asked for and the data of all records, a line each: what a person searches in.
    pub fn text(&self) -> String {
        let questions = self.questions.iter().map(|question| question.name.clone());
        let record = |record: &DnsRecord| {
            record.data_text().unwrap_or_else(|| format!("{} (invalid data)", record.hex()))
        };
        questions.chain(self.records().map(record)).collect::<Vec<_>>().join("\r\n")
    }

    /// An answer to this query with these records. `now` is in Unix seconds.
    pub fn succeed(&self, answers: Vec<DnsRecord>, now: f64) -> Self {
        Self { recursion_available: true, answers, ..self.reply(now) }
    }

    /// An answer to this query that says why there is none. `now` is in Unix seconds.
    pub fn fail(&self, response_code: u16, now: f64) -> Self {
        Self { response_code, ..self.reply(now) }
    }

    fn reply(&self, now: f64) -> Self {
        Self {
            id: self.id,
            op_code: self.op_code,
            recursion_desired: self.recursion_desired,
            questions: self.questions.clone(),
            timestamp: Some(now),
            ..Self::default()
        }
    }

    fn cost(&self) -> usize {
        let questions = self.questions.iter().map(|q| q.name.len() + size_of::<DnsQuestion>());
        let records = [&self.answers, &self.authorities, &self.additionals];
        let records = records.into_iter().flatten();
        let records = records.map(|r| r.name.len() + r.data.len() + size_of::<DnsRecord>());
        size_of::<Self>() + questions.sum::<usize>() + records.sum::<usize>()
    }
}

/// One query with its response.
#[derive(Clone, Debug)]
pub struct DnsFlow {
    /// What every flow has.
    pub meta: FlowMeta,
    /// The query.
    pub request: DnsMessage,
    /// The response, once there is one.
    pub response: Option<DnsMessage>,
    /// An addon asked for the end of this flow.
    pub killed: bool,
}

impl DnsFlow {
    /// Bytes of memory the contents take, roughly.
    pub fn cost(&self) -> usize {
        let response = self.response.as_ref().map_or(0, DnsMessage::cost);
        size_of::<Self>() + self.meta.cost() + self.request.cost() + response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_are_made_can_be_read() {
        let long = "x".repeat(300);
        let records = [
            (Some(DnsRecord::a("a.test", Ipv4Addr::new(192, 0, 2, 1))), "192.0.2.1"),
            (Some(DnsRecord::aaaa("a.test", Ipv6Addr::LOCALHOST)), "::1"),
            (DnsRecord::cname("b.test", "a.test."), "a.test"),
            (DnsRecord::ptr("1.2.0.192.in-addr.arpa", "a.test"), "a.test"),
            (Some(DnsRecord::txt("a.test", &long)), &long),
        ];
        for (record, text) in records {
            assert_eq!(record.expect("a name").data_text().as_deref(), Some(text));
        }
        assert_eq!(DnsRecord::cname("a", "b..c"), None);
        assert_eq!(DnsRecord::cname("a", &"b".repeat(64)), None);
    }

    #[test]
    fn an_answer_belongs_to_its_query() {
        let question = DnsQuestion { name: "a.test".into(), kind: 1, class: 1 };
        let query = DnsMessage { id: 7, query: true, questions: vec![question], ..DnsMessage::default() };
        let answer = query.succeed(vec![DnsRecord::a("a.test", Ipv4Addr::LOCALHOST)], 2.0);
        assert_eq!((answer.id, answer.query, answer.timestamp, answer.size()), (7, false, Some(2.0), 4));
        assert_eq!(answer.question(), query.question());
        assert_eq!(answer.text(), "a.test\r\n127.0.0.1");
        let refusal = query.fail(3, 2.0);
        assert_eq!((refusal.response_code, refusal.recursion_available), (3, false));
    }
}
