//! One DNS exchange as a record.

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
