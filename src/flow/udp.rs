//! One UDP conversation as a record.

use bytes::Bytes;

use super::FlowMeta;

/// One datagram.
#[derive(Clone, Debug, PartialEq)]
pub struct UdpMessage {
    /// The client sent it.
    pub from_client: bool,
    /// What was sent. Emptied by an addon: dropped.
    pub content: Bytes,
    /// Unix seconds.
    pub timestamp: f64,
}

/// A UDP conversation: the datagrams between one client port and one server port.
#[derive(Clone, Debug)]
pub struct UdpFlow {
    /// What every flow has.
    pub meta: FlowMeta,
    /// What was said, in order of arrival.
    pub messages: Vec<UdpMessage>,
    /// An addon asked for the end of this flow.
    pub killed: bool,
}

impl UdpFlow {
    /// Bytes of memory the contents take, roughly.
    pub fn cost(&self) -> usize {
        size_of::<Self>()
            + self.meta.cost()
            + self.messages.iter().map(|m| m.content.len() + size_of::<UdpMessage>()).sum::<usize>()
    }
}
