//! One raw TCP conversation as a record.

use bytes::Bytes;

use super::FlowMeta;

/// Bytes one side sent, as one read gave them.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpMessage {
    /// The client sent it.
    pub from_client: bool,
    /// What was sent. Emptied by an addon: dropped.
    pub content: Bytes,
    /// Unix seconds.
    pub timestamp: f64,
}

/// A raw TCP (or raw TLS payload) conversation.
#[derive(Clone, Debug)]
pub struct TcpFlow {
    /// What every flow has.
    pub meta: FlowMeta,
    /// What was said, in order of arrival.
    pub messages: Vec<TcpMessage>,
    /// An addon asked for the end of this flow.
    pub killed: bool,
}

impl TcpFlow {
    /// Bytes of memory the contents take, roughly.
    pub fn cost(&self) -> usize {
        size_of::<Self>()
            + self.meta.cost()
            + self.messages.iter().map(|m| m.content.len() + size_of::<TcpMessage>()).sum::<usize>()
    }
}
