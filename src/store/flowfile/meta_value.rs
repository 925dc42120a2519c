//! Free values: what addons keep in a flow's metadata, and the backup of a changed flow.

use crate::flow::MetaValue;
use crate::store::tnetstring::{self as tnet, Node, Value};

/// The value of a parsed item. `Err` is the offset of a key that is not text.
pub(in crate::store) fn decode(node: &Node<'_>) -> Result<MetaValue, usize> {
    Ok(match &node.value {
        Value::Null => MetaValue::Null,
        Value::Bool(value) => MetaValue::Bool(*value),
        Value::Int(value) => MetaValue::Int(*value),
        Value::BigInt(digits) => MetaValue::BigInt((*digits).to_owned()),
        Value::Float(value) => MetaValue::Float(*value),
        Value::Bytes(bytes) => MetaValue::Bytes(bytes.to_vec()),
        Value::Text(text) => MetaValue::Text((*text).to_owned()),
        Value::List(items) => MetaValue::List(items.iter().map(decode).collect::<Result<_, _>>()?),
        Value::Dict(entries) => MetaValue::Dict(decode_dict(entries)?),
    })
}

/// A free dict in insertion order, the reverse of what is on disk.
pub(super) fn decode_dict(entries: &tnet::Dict<'_>) -> Result<Vec<(String, MetaValue)>, usize> {
    let entry = |(key, node): &(&[u8], Node<'_>)| {
        let key = String::from_utf8(key.to_vec()).map_err(|_| node.at)?;
        Ok((key, decode(node)?))
    };
    entries.iter().rev().map(entry).collect()
}

pub(in crate::store) fn write(value: &MetaValue, out: &mut Vec<u8>) {
    match value {
        MetaValue::Null => tnet::write_null(out),
        MetaValue::Bool(value) => tnet::write_bool(*value, out),
        MetaValue::Int(value) => tnet::write_int(*value, out),
        MetaValue::BigInt(digits) => tnet::write_big_int(digits, out),
        MetaValue::Float(value) => tnet::write_float(*value, out),
        MetaValue::Bytes(bytes) => tnet::write_bytes(bytes, out),
        MetaValue::Text(text) => tnet::write_text(text, out),
        MetaValue::List(items) => tnet::write_list(out, |out| items.iter().for_each(|item| write(item, out))),
        MetaValue::Dict(entries) => write_dict(entries, out),
    }
}

pub(super) fn write_dict(entries: &[(String, MetaValue)], out: &mut Vec<u8>) {
    tnet::write_dict(out, |out| {
        for (key, value) in entries.iter().rev() {
            tnet::write_text(key, out);
            write(value, out);
        }
    });
}
