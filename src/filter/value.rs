//! Metadata as Python prints them: what `~meta` looks at.

use std::fmt::{Result, Write};

use crate::flow::MetaValue;

/// A value as `str()` gives it.
pub(super) fn print(value: &MetaValue, out: &mut String) -> Result {
    match value {
        MetaValue::Text(text) => out.write_str(text),
        other => repr(other, out),
    }
}

/// A value as `repr()` gives it.
fn repr(value: &MetaValue, out: &mut String) -> Result {
    match value {
        MetaValue::Null => out.write_str("None"),
        MetaValue::Bool(true) => out.write_str("True"),
        MetaValue::Bool(false) => out.write_str("False"),
        MetaValue::Int(number) => write!(out, "{number}"),
        MetaValue::BigInt(digits) => out.write_str(digits),
        MetaValue::Float(number) => float(*number, out),
        MetaValue::Bytes(bytes) => {
            out.write_char('b')?;
            quoted(bytes.iter().map(|byte| char::from(*byte)), true, out)
        }
        MetaValue::Text(text) => quoted(text.chars(), false, out),
        MetaValue::List(items) => {
            out.write_char('[')?;
            for (index, item) in items.iter().enumerate() {
                out.write_str(if index > 0 { ", " } else { "" })?;
                repr(item, out)?;
            }
            out.write_char(']')
        }
        MetaValue::Dict(entries) => {
            out.write_char('{')?;
            for (index, (key, item)) in entries.iter().enumerate() {
                out.write_str(if index > 0 { ", " } else { "" })?;
                quoted(key.chars(), false, out)?;
                out.write_str(": ")?;
                repr(item, out)?;
            }
            out.write_char('}')
        }
    }
}

/// Rust and Python agree on the digits, not on where exponents begin.
fn float(number: f64, out: &mut String) -> Result {
    let size = number.abs();
    if number.is_nan() {
        out.write_str("nan")
    } else if number.is_infinite() {
        out.write_str(if number < 0.0 { "-inf" } else { "inf" })
    } else if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        write!(out, "{digits}e{sign}{exponent:0>2}")
    } else {
        write!(out, "{number:?}")
    }
}

fn quoted(chars: impl Iterator<Item = char> + Clone, is_bytes: bool, out: &mut String) -> Result {
    let has = |quote: char| chars.clone().any(|c| c == quote);
    let quote = if has('\'') && !has('"') { '"' } else { '\'' };
    out.write_char(quote)?;
    for c in chars.clone() {
        match c {
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            c if c == quote => write!(out, "\\{c}")?,
            c if c.is_ascii_control() || is_bytes && !c.is_ascii() => write!(out, "\\x{:02x}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_printed_as_python_prints_them() {
        let text = |text: &str| MetaValue::Text(text.into());
        let table = [
            (MetaValue::Null, "None"),
            (MetaValue::Bool(true), "True"),
            (MetaValue::Int(-3), "-3"),
            (MetaValue::BigInt("99999999999999999999".into()), "99999999999999999999"),
            (MetaValue::Float(1.0), "1.0"),
            (MetaValue::Float(1e16), "1e+16"),
            (MetaValue::Float(1.5e-7), "1.5e-07"),
            (MetaValue::Float(0.0001), "0.0001"),
            (MetaValue::Float(f64::NEG_INFINITY), "-inf"),
            (text("it's \"so\"\n"), "it's \"so\"\n"),
            (MetaValue::Bytes(b"a'\xff\0".to_vec()), "b\"a'\\xff\\x00\""),
            (MetaValue::List(vec![text("a'\"b"), MetaValue::Int(1)]), "['a\\'\"b', 1]"),
            (MetaValue::Dict(vec![("k".into(), text("ü\t"))]), "{'k': 'ü\\t'}"),
        ];
        for (value, expected) in table {
            let mut out = String::new();
            print(&value, &mut out).expect("strings take anything");
            assert_eq!(out, expected);
        }
    }
}
