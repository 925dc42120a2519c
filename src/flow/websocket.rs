//! A WebSocket conversation: what an HTTP flow becomes after its upgrade.

use bytes::Bytes;

/// What a WebSocket data message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebSocketKind {
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
}

impl WebSocketKind {
    /// The frame opcode (RFC 6455 §5.2).
    pub fn opcode(self) -> u8 {
        match self {
            WebSocketKind::Text => 1,
            WebSocketKind::Binary => 2,
        }
    }

    /// The kind of that opcode, if it is one of a data message.
    pub fn from_opcode(opcode: u8) -> Option<Self> {
        match opcode {
            1 => Some(WebSocketKind::Text),
            2 => Some(WebSocketKind::Binary),
            _ => None,
        }
    }
}

/// One message, whole, decompressed.
#[derive(Clone, Debug, PartialEq)]
pub struct WebSocketMessage {
    /// Text or binary.
    pub kind: WebSocketKind,
    /// The client sent it.
    pub from_client: bool,
    /// What was sent, as the addons left it.
    pub content: Bytes,
    /// Unix seconds.
    pub timestamp: f64,
    /// An addon kept it from the receiver.
    pub dropped: bool,
    /// We made it, neither side did.
    pub injected: bool,
}

/// The messages of an upgraded connection and how it ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WebSocketData {
    /// What was said, in order of arrival.
    pub messages: Vec<WebSocketMessage>,
    /// Who closed; `None` while open.
    pub closed_by_client: Option<bool>,
    /// Close status (RFC 6455 §7.4).
    pub close_code: Option<u16>,
    /// Close reason.
    pub close_reason: Option<String>,
    /// When it ended, Unix seconds.
    pub timestamp_end: Option<f64>,
}

impl WebSocketData {
    /// Bytes of memory the contents take, roughly.
    pub fn cost(&self) -> usize {
        let messages = self.messages.iter().map(|m| m.content.len() + size_of::<WebSocketMessage>());
        size_of::<Self>() + messages.sum::<usize>() + self.close_reason.as_ref().map_or(0, String::len)
    }
}
