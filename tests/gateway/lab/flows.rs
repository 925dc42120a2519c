//! A reader of recordings that shares nothing with ringtap's own: tnetstrings, one flow after the other.

use std::fs;
use std::path::Path;

#[derive(Debug)]
pub(crate) enum Value {
    Bytes(Vec<u8>),
    Number(String),
    Bool(bool),
    Null,
    List(Vec<Value>),
    Dict(Vec<(Vec<u8>, Value)>),
}

/// All flows of a file; a torn end is a failure.
pub(crate) fn read(path: &Path) -> Vec<Value> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut rest = bytes.as_slice();
    let mut flows = Vec::new();
    while !rest.is_empty() {
        flows.push(value(&mut rest));
    }
    flows
}

impl Value {
    /// The value under a path of keys: `flow.at("request/path")`; `Null` where there is none.
    pub(crate) fn at(&self, path: &str) -> &Value {
        path.split('/').fold(self, |value, key| {
            let Value::Dict(entries) = value else { return &Value::Null };
            entries.iter().find(|(name, _)| name == key.as_bytes()).map_or(&Value::Null, |(_, value)| value)
        })
    }

    pub(crate) fn text(&self) -> String {
        match self {
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Value::Number(number) => number.clone(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null => String::new(),
            Value::List(_) | Value::Dict(_) => format!("{self:?}"),
        }
    }

    pub(crate) fn list(&self) -> &[Value] {
        if let Value::List(values) = self { values } else { &[] }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }
}

fn value(rest: &mut &[u8]) -> Value {
    let colon = rest.iter().position(|byte| *byte == b':').expect("a length, then a colon");
    let length = std::str::from_utf8(&rest[..colon]).ok().and_then(|digits| digits.parse::<usize>().ok());
    let start = colon + 1;
    let end = start + length.expect("a length in decimal digits");
    assert!(end < rest.len(), "the recording is torn: {end} bytes announced, {} there", rest.len());
    let (mut data, tag) = (&rest[start..end], rest[end]);
    *rest = &rest[end + 1..];
    match tag {
        b',' | b';' => Value::Bytes(data.to_vec()),
        b'#' | b'^' => Value::Number(String::from_utf8_lossy(data).into_owned()),
        b'!' => Value::Bool(data == b"true"),
        b'~' => Value::Null,
        b']' => {
            let mut list = Vec::new();
            while !data.is_empty() {
                list.push(value(&mut data));
            }
            Value::List(list)
        }
        b'}' => {
            let mut dict = Vec::new();
            while !data.is_empty() {
                let Value::Bytes(key) = value(&mut data) else { panic!("a key that is no string") };
                dict.push((key, value(&mut data)));
            }
            Value::Dict(dict)
        }
        other => panic!("no tnetstring type: {other:#x}"),
    }
}
