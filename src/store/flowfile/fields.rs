//! Typed access to a parsed dict. Errors name the field and what should be there.

use std::borrow::Cow;

use bytes::Bytes;

use crate::store::tnetstring::{Dict, Node, Value};

/// A field that is not what a flow needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FieldError {
    /// Offset in the flow's payload.
    pub(super) at: usize,
    /// The field with what holds it, e.g. `server_conn.sni`.
    pub(super) field: String,
    /// What should be there.
    pub(super) expected: &'static str,
}

pub(super) type Result<T> = std::result::Result<T, FieldError>;

/// A dict and the name it goes by.
#[derive(Clone, Copy)]
pub(super) struct Fields<'n, 'a> {
    name: &'static str,
    at: usize,
    entries: &'n Dict<'a>,
}

impl<'n, 'a> Fields<'n, 'a> {
    pub(super) fn root(entries: &'n Dict<'a>) -> Self {
        Self { name: "flow", at: 0, entries }
    }

    pub(super) fn of(name: &'static str, node: &'n Node<'a>) -> Result<Self> {
        match &node.value {
            Value::Dict(entries) => Ok(Self { name, at: node.at, entries }),
            _ => Err(FieldError { at: node.at, field: name.to_owned(), expected: "a dict" }),
        }
    }

    /// The field of that name. When it is there twice the last one counts, as in a Python dict.
    pub(super) fn find(&self, name: &str) -> Option<&'n Node<'a>> {
        self.entries.iter().rev().find(|(key, _)| *key == name.as_bytes()).map(|(_, node)| node)
    }

    pub(super) fn node(&self, name: &str) -> Result<&'n Node<'a>> {
        self.find(name).ok_or_else(|| self.error(self.at, name, "there"))
    }

    pub(super) fn error(&self, at: usize, name: &str, expected: &'static str) -> FieldError {
        FieldError { at, field: format!("{}.{name}", self.name), expected }
    }

    /// The field read by `read`; an error names the field.
    pub(super) fn read<T>(
        &self,
        name: &str,
        expected: &'static str,
        read: impl FnOnce(&'n Node<'a>) -> Option<T>,
    ) -> Result<T> {
        let node = self.node(name)?;
        read(node).ok_or_else(|| self.error(node.at, name, expected))
    }

    /// Like [`Fields::read`], with null as `None`.
    pub(super) fn optional<T>(
        &self,
        name: &str,
        expected: &'static str,
        read: impl FnOnce(&'n Node<'a>) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.node(name)? {
            Node { value: Value::Null, .. } => Ok(None),
            _ => self.read(name, expected, read).map(Some),
        }
    }

    /// A dict of its own, or null.
    pub(super) fn optional_dict<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(Fields<'n, 'a>) -> Result<T>,
    ) -> Result<Option<T>> {
        match self.node(name)? {
            Node { value: Value::Null, .. } => Ok(None),
            node => read(Fields::of(name, node)?).map(Some),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<String> {
        self.read(name, "text", text)
    }

    pub(super) fn optional_text(&self, name: &str) -> Result<Option<String>> {
        self.optional(name, "text or null", text)
    }

    pub(super) fn bytes(&self, name: &str) -> Result<Bytes> {
        self.read(name, "bytes", bytes)
    }

    pub(super) fn bool(&self, name: &str) -> Result<bool> {
        self.read(name, "true or false", boolean)
    }

    pub(super) fn float(&self, name: &str) -> Result<f64> {
        self.read(name, "a number", float)
    }

    pub(super) fn optional_float(&self, name: &str) -> Result<Option<f64>> {
        self.optional(name, "a number or null", float)
    }

    pub(super) fn int<T: TryFrom<i64>>(&self, name: &str, expected: &'static str) -> Result<T> {
        self.read(name, expected, int)
    }

    /// A list, each item read by `read`.
    pub(super) fn list<T>(
        &self,
        name: &str,
        expected: &'static str,
        read: impl Fn(&'n Node<'a>) -> Option<T>,
    ) -> Result<Vec<T>> {
        let items = self.read(name, "a list", list)?;
        let item = |node: &'n Node<'a>| read(node).ok_or_else(|| self.error(node.at, name, expected));
        items.iter().map(item).collect()
    }
}

/// Text, or bytes that are text: mitmproxy takes either where it holds text.
pub(super) fn text(node: &Node<'_>) -> Option<String> {
    match node.value {
        Value::Text(text) => Some(text.to_owned()),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
        _ => None,
    }
}

/// Bytes, or text: mitmproxy takes either where it holds bytes.
pub(super) fn raw<'a>(node: &Node<'a>) -> Option<&'a [u8]> {
    match node.value {
        Value::Bytes(bytes) => Some(bytes),
        Value::Text(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// Copied, so that a flow does not hold the whole of what it was read from.
pub(super) fn bytes(node: &Node<'_>) -> Option<Bytes> {
    raw(node).map(Bytes::copy_from_slice)
}

pub(super) fn boolean(node: &Node<'_>) -> Option<bool> {
    match node.value {
        Value::Bool(value) => Some(value),
        _ => None,
    }
}

/// A float, or an integer: Python makes no difference.
pub(super) fn float(node: &Node<'_>) -> Option<f64> {
    match node.value {
        Value::Float(value) => Some(value),
        Value::Int(value) => Some(value as f64),
        _ => None,
    }
}

pub(super) fn int<T: TryFrom<i64>>(node: &Node<'_>) -> Option<T> {
    match node.value {
        Value::Int(value) => T::try_from(value).ok(),
        _ => None,
    }
}

pub(super) fn list<'n, 'a>(node: &'n Node<'a>) -> Option<&'n [Node<'a>]> {
    match &node.value {
        Value::List(items) => Some(items),
        _ => None,
    }
}

/// A host and a port; more items, as IPv6 addresses have them, are given too.
pub(super) fn host_port<'n, 'a>(node: &'n Node<'a>) -> Option<(Cow<'a, str>, u16, &'n [Node<'a>])> {
    let [host, port, rest @ ..] = list(node)? else { return None };
    let host = match host.value {
        Value::Text(text) => Cow::Borrowed(text),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes),
        _ => return None,
    };
    Some((host, int(port)?, rest))
}
