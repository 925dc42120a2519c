//! A WebSocket conversation: what an HTTP flow becomes after its upgrade.

use std::borrow::Cow;

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

impl WebSocketMessage {
    /// It is text.
    pub fn is_text(&self) -> bool {
        self.kind == WebSocketKind::Text
    }

    /// The text of a text message; what is no UTF-8 is replaced. None for a binary one.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        self.is_text().then(|| String::from_utf8_lossy(&self.content))
    }

    /// Replaces the content of a text message; says whether it is one.
    pub fn set_text(&mut self, text: &str) -> bool {
        if self.is_text() {
            self.content = Bytes::copy_from_slice(text.as_bytes());
        }
        self.is_text()
    }

    /// Keeps it from the receiver.
    pub fn discard(&mut self) {
        self.dropped = true;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_messages_have_text() {
        let mut message = WebSocketMessage {
            kind: WebSocketKind::Text,
            from_client: true,
            content: Bytes::from_static(b"a\xff"),
            timestamp: 1.0,
            dropped: false,
            injected: false,
        };
        assert_eq!(message.text().as_deref(), Some("a\u{fffd}"));
        assert!(message.set_text("b"));
        message.kind = WebSocketKind::Binary;
        assert!(message.text().is_none() && !message.set_text("c"));
        assert_eq!(&message.content[..], b"b");
        message.discard();
        assert!(message.dropped);
    }
}
