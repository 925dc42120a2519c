//! Tagged netstrings, as mitmproxy's flow files use them: `LENGTH:PAYLOAD TYPE`.
//!
//! | type | value | payload |
//! |---|---|---|
//! | `,` | bytes | raw |
//! | `;` | text, mitmproxy's own addition | UTF-8 |
//! | `#` | integer | decimal |
//! | `^` | float | as Python's `repr` prints it |
//! | `!` | truth value | `true` or `false` |
//! | `~` | null | empty |
//! | `]` | list | item after item |
//! | `}` | dict | key, value, key, value ... |
//!
//! A dict's entries are kept in the order they have in the input: whoever writes a file again needs it.

use std::fmt;
use std::ops::Deref;

use thiserror::Error;

/// A value with the place where its payload began.
#[derive(Clone, Debug, PartialEq)]
pub struct Node<'a> {
    /// Offset of the payload in the input.
    pub at: usize,
    /// The value.
    pub value: Value<'a>,
}

/// A dict's entries in input order. A key may come twice; the last one counts.
pub type Dict<'a> = Vec<(&'a [u8], Node<'a>)>;

/// A value that borrows its bytes from the input.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `~`
    Null,
    /// `!`
    Bool(bool),
    /// `#`
    Int(i64),
    /// `#` beyond 64 bits: the digits, with an optional sign.
    BigInt(&'a str),
    /// `^`
    Float(f64),
    /// `,`
    Bytes(&'a [u8]),
    /// `;`
    Text(&'a str),
    /// `]`
    List(Vec<Node<'a>>),
    /// `}`
    Dict(Dict<'a>),
}

/// Where and why an input is not a tagged netstring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{problem} (byte {at})")]
pub struct ParseError {
    /// Offset in the input.
    pub at: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// A value is longer than what holds it.
    #[error("a value is longer than what is left")]
    Truncated,
    /// A length is not decimal digits and a colon.
    #[error("a length should be decimal digits and a colon")]
    Length,
    /// A length has too many digits.
    #[error("a length has more than {LENGTH_DIGITS_MAX} digits")]
    LengthTooLong,
    /// The byte after a payload names no type.
    #[error("0x{0:02x} is no type")]
    UnknownType(u8),
    /// `#` without an integer.
    #[error("not an integer")]
    Integer,
    /// `^` without a number.
    #[error("not a number")]
    Float,
    /// `!` with something else than `true` or `false`.
    #[error("neither true nor false")]
    Bool,
    /// `~` with a payload.
    #[error("a null with a payload")]
    Null,
    /// `;` with bytes that are not UTF-8.
    #[error("text that is not UTF-8")]
    Utf8,
    /// A dict's key is neither text nor bytes.
    #[error("a key that is neither text nor bytes")]
    Key,
    /// A dict ends after a key.
    #[error("a key without a value")]
    OddDict,
    /// Lists and dicts in one another beyond [`DEPTH_MAX`].
    #[error("more than {DEPTH_MAX} levels of lists and dicts")]
    TooDeep,
    /// More than [`VALUES_MAX`] values.
    #[error("more than {VALUES_MAX} values")]
    TooManyValues,
}

/// Lists and dicts in one another. Flows need 8; the rest is for what addons keep in metadata.
pub const DEPTH_MAX: usize = 64;
/// Digits of a length; more is refused before anything is read.
pub const LENGTH_DIGITS_MAX: usize = 12;
/// Values in one item. A parsed value takes up to 20 times the memory of the shortest input (`0:~`), so the
/// size of the input alone is no bound. Enough for a conversation of 2 million messages.
pub const VALUES_MAX: usize = 8 << 20;

/// Parses one value; what follows it is not looked at. Returns it with the number of bytes it took.
pub fn parse(input: &[u8]) -> Result<(Node<'_>, usize), ParseError> {
    let mut parser = Parser { input, values: 0 };
    parser.value(0, input.len(), 0)
}

/// Parses a dict's payload, without length and type.
pub fn parse_dict_payload(payload: &[u8]) -> Result<Dict<'_>, ParseError> {
    let mut parser = Parser { input: payload, values: 0 };
    parser.dict(0, payload.len(), 0)
}

/// A length, as far as it has been seen. Fed byte by byte, so that a reader of a stream needs no look-ahead.
#[derive(Clone, Copy, Debug, Default)]
pub struct LengthPrefix {
    digits: usize,
    length: u64,
}

impl LengthPrefix {
    /// Takes the next byte; gives the length once that was the colon.
    pub fn push(&mut self, byte: u8) -> Result<Option<u64>, Problem> {
        match byte {
            b'0'..=b'9' if self.digits == LENGTH_DIGITS_MAX => Err(Problem::LengthTooLong),
            b'0'..=b'9' => {
                self.digits += 1;
                self.length = self.length * 10 + u64::from(byte - b'0');
                Ok(None)
            }
            b':' if self.digits > 0 => Ok(Some(self.length)),
            _ => Err(Problem::Length),
        }
    }
}

struct Parser<'a> {
    input: &'a [u8],
    values: usize,
}

impl<'a> Parser<'a> {
    /// Parses the value at `at`, which must end by `end`; gives it with the offset after it.
    fn value(&mut self, at: usize, end: usize, depth: usize) -> Result<(Node<'a>, usize), ParseError> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(ParseError { at, problem: Problem::TooManyValues });
        }
        let (start, stop) = self.payload(at, end)?;
        let payload = &self.input[start..stop];
        let problem = |problem| ParseError { at: start, problem };
        let value = match self.input[stop] {
            b',' => Value::Bytes(payload),
            b';' => Value::Text(std::str::from_utf8(payload).map_err(|_| problem(Problem::Utf8))?),
            b'#' => integer(payload).ok_or(problem(Problem::Integer))?,
            b'^' => Value::Float(float(payload).ok_or(problem(Problem::Float))?),
            b'!' => match payload {
                b"true" => Value::Bool(true),
                b"false" => Value::Bool(false),
                _ => return Err(problem(Problem::Bool)),
            },
            b'~' if payload.is_empty() => Value::Null,
            b'~' => return Err(problem(Problem::Null)),
            b']' => Value::List(self.list(start, stop, depth)?),
            b'}' => Value::Dict(self.dict(start, stop, depth)?),
            other => return Err(ParseError { at: stop, problem: Problem::UnknownType(other) }),
        };
        Ok((Node { at: start, value }, stop + 1))
    }

    /// The bounds of the payload of the value at `at`. The type byte after it is inside `end`.
    fn payload(&self, at: usize, end: usize) -> Result<(usize, usize), ParseError> {
        let mut prefix = LengthPrefix::default();
        for (index, byte) in self.input[at..end].iter().enumerate() {
            let length = prefix.push(*byte).map_err(|problem| ParseError { at: at + index, problem })?;
            let Some(length) = length else { continue };
            let start = at + index + 1;
            // A length has at most 12 digits, and offsets are those of a slice in memory: no overflow.
            let stop = start as u64 + length;
            if stop >= end as u64 {
                return Err(ParseError { at, problem: Problem::Truncated });
            }
            return Ok((start, start + length as usize));
        }
        Err(ParseError { at, problem: Problem::Truncated })
    }

    fn list(&mut self, mut at: usize, end: usize, depth: usize) -> Result<Vec<Node<'a>>, ParseError> {
        if depth >= DEPTH_MAX {
            return Err(ParseError { at, problem: Problem::TooDeep });
        }
        let mut items = Vec::new();
        while at < end {
            let (item, next) = self.value(at, end, depth + 1)?;
            items.push(item);
            at = next;
        }
        Ok(items)
    }

    fn dict(&mut self, mut at: usize, end: usize, depth: usize) -> Result<Dict<'a>, ParseError> {
        if depth >= DEPTH_MAX {
            return Err(ParseError { at, problem: Problem::TooDeep });
        }
        let mut entries = Vec::new();
        while at < end {
            let (key, next) = self.value(at, end, depth + 1)?;
            let key = match key.value {
                Value::Text(text) => text.as_bytes(),
                Value::Bytes(bytes) => bytes,
                _ => return Err(ParseError { at: key.at, problem: Problem::Key }),
            };
            if next == end {
                return Err(ParseError { at: next, problem: Problem::OddDict });
            }
            let (value, next) = self.value(next, end, depth + 1)?;
            entries.push((key, value));
            at = next;
        }
        Ok(entries)
    }
}

fn integer(payload: &[u8]) -> Option<Value<'_>> {
    let text = std::str::from_utf8(payload).ok()?;
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().map_or(Value::BigInt(text), Value::Int))
}

fn float(payload: &[u8]) -> Option<f64> {
    std::str::from_utf8(payload).ok()?.parse().ok()
}

/// Appends a null.
pub fn write_null(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0:~");
}

/// Appends a truth value.
pub fn write_bool(value: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if value { b"4:true!" } else { b"5:false!" });
}

/// Appends an integer.
pub fn write_int(value: i64, out: &mut Vec<u8>) {
    write_payload(Brief::of(value).as_bytes(), b'#', out);
}

/// Appends an integer given as its decimal digits.
pub fn write_big_int(digits: &str, out: &mut Vec<u8>) {
    write_payload(digits.as_bytes(), b'#', out);
}

/// Appends a float.
pub fn write_float(value: f64, out: &mut Vec<u8>) {
    write_payload(repr(value).as_bytes(), b'^', out);
}

/// Appends as text what takes few bytes to show: an address of the network.
pub fn write_shown(value: impl fmt::Display, out: &mut Vec<u8>) {
    write_payload(Brief::of(value).as_bytes(), b';', out);
}

/// Appends bytes.
pub fn write_bytes(value: &[u8], out: &mut Vec<u8>) {
    write_payload(value, b',', out);
}

/// Appends as bytes whatever `inside` appends.
pub fn write_bytes_of(out: &mut Vec<u8>, inside: impl FnOnce(&mut Vec<u8>)) {
    write_nested(b',', out, inside);
}

/// Appends text.
pub fn write_text(value: &str, out: &mut Vec<u8>) {
    write_payload(value.as_bytes(), b';', out);
}

/// Appends a list of whatever `items` appends.
pub fn write_list(out: &mut Vec<u8>, items: impl FnOnce(&mut Vec<u8>)) {
    write_nested(b']', out, items);
}

/// Appends a dict of the keys and values that `entries` appends.
pub fn write_dict(out: &mut Vec<u8>, entries: impl FnOnce(&mut Vec<u8>)) {
    write_nested(b'}', out, entries);
}

fn write_payload(payload: &[u8], kind: u8, out: &mut Vec<u8>) {
    let (digits, from) = decimal(payload.len());
    out.extend_from_slice(&digits[from..]);
    out.push(b':');
    out.extend_from_slice(payload);
    out.push(kind);
}

/// The length comes before what it counts, so the payload is written first and moved up by the few bytes of
/// its length: one `memmove` per level, where measuring first would format every number once per level.
fn write_nested(kind: u8, out: &mut Vec<u8>, inside: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    inside(out);
    let end = out.len();
    let (digits, from) = decimal(end - start);
    let prefix = digits.len() - from + 1;
    out.resize(end + prefix, kind);
    out.copy_within(start..end, start + prefix);
    out[start..start + prefix - 1].copy_from_slice(&digits[from..]);
    out[start + prefix - 1] = b':';
    out.push(kind);
}

/// The decimal digits of a number, at the end of the array, and where they begin.
fn decimal(mut number: usize) -> ([u8; 20], usize) {
    let mut digits = [b'0'; 20];
    let mut from = digits.len() - 1;
    loop {
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return (digits, from);
        }
        from -= 1;
    }
}

/// The text Python's `repr` gives a float: the shortest that reads back, positional from 1e-4 up to 1e16.
pub fn python_repr(value: f64) -> String {
    (*repr(value)).to_owned()
}

fn repr(value: f64) -> Brief {
    if value.is_nan() {
        return Brief::of("nan");
    }
    if value.is_infinite() {
        return Brief::of(if value < 0.0 { "-inf" } else { "inf" });
    }
    let scientific = Brief::of(format_args!("{:e}", value.abs()));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    // the first digit, and those behind the point
    let (first, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // Where the decimal point stands, counted in digits from the first one.
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if !(-3..=16).contains(&point) {
        let dot = if rest.is_empty() { "" } else { "." };
        let exponent = point - 1;
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return Brief::of(format_args!("{sign}{first}{dot}{rest}e{exponent_sign}{:02}", exponent.abs()));
    }
    if point <= 0 {
        let zeros = &ZEROS[..point.unsigned_abs() as usize];
        return Brief::of(format_args!("{sign}0.{zeros}{first}{rest}"));
    }
    let behind_first = point as usize - 1;
    if behind_first >= rest.len() {
        let zeros = &ZEROS[..behind_first - rest.len()];
        return Brief::of(format_args!("{sign}{first}{rest}{zeros}.0"));
    }
    let (before, after) = rest.split_at(behind_first);
    Brief::of(format_args!("{sign}{first}{before}.{after}"))
}

/// As many as a positional float needs.
const ZEROS: &str = "0000000000000000";

/// A short text without memory of its own: a recorded flow has dozens of numbers.
#[derive(Clone, Copy, Debug)]
struct Brief {
    bytes: [u8; BRIEF_MAX],
    len: usize,
}

/// Bytes of the longest: an IPv6 address with its zone has 56, a float 25.
const BRIEF_MAX: usize = 64;

impl Brief {
    /// What the value shows. What has more than 64 bytes, as nothing here has, is cut.
    fn of(value: impl fmt::Display) -> Self {
        let mut brief = Self { bytes: [0; BRIEF_MAX], len: 0 };
        let _ = fmt::Write::write_fmt(&mut brief, format_args!("{value}"));
        brief
    }
}

impl fmt::Write for Brief {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        let room = self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl Deref for Brief {
    type Target = str;
    fn deref(&self) -> &str {
        // only whole strs were written
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(input: &[u8]) -> Value<'_> {
        let (node, used) = parse(input).unwrap();
        assert_eq!(used, input.len());
        node.value
    }

    #[test]
    fn every_type_is_read() {
        assert_eq!(value(b"0:~"), Value::Null);
        assert_eq!(value(b"4:true!"), Value::Bool(true));
        assert_eq!(value(b"5:false!"), Value::Bool(false));
        assert_eq!(value(b"3:-12#"), Value::Int(-12));
        assert_eq!(value(b"20:18446744073709551616#"), Value::BigInt("18446744073709551616"));
        assert_eq!(value(b"3:1.5^"), Value::Float(1.5));
        assert_eq!(value(b"5:1e+16^"), Value::Float(1e16));
        assert_eq!(value(b"4:-inf^"), Value::Float(f64::NEG_INFINITY));
        assert_eq!(value(b"2:\xff:,"), Value::Bytes(b"\xff:"));
        assert_eq!(value("2:ü;".as_bytes()), Value::Text("ü"));
        assert_eq!(value(b"003:abc,"), Value::Bytes(b"abc"));
        let Value::List(items) = value(b"7:0:~1:7#]") else { panic!("a list") };
        assert_eq!(items[1], Node { at: 7, value: Value::Int(7) });
        let Value::Dict(entries) = value(b"16:1:b;1:1#1:a,1:2#}") else { panic!("a dict") };
        assert_eq!(entries.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [b"b", b"a"]);
    }

    #[test]
    fn what_follows_a_value_is_left_alone() {
        assert_eq!(parse(b"0:~rest").map(|(_, used)| used), Ok(3));
    }

    #[test]
    fn errors_name_the_place() {
        let table: &[(&[u8], usize, Problem)] = &[
            (b"", 0, Problem::Truncated),
            (b"12", 0, Problem::Truncated),
            (b"3:ab,", 0, Problem::Truncated),
            (b"3:abc", 0, Problem::Truncated),
            (b":abc,", 0, Problem::Length),
            (b"-1:a,", 0, Problem::Length),
            (b"\n", 0, Problem::Length),
            (b"1a:x,", 1, Problem::Length),
            (b"1234567890123:", 12, Problem::LengthTooLong),
            (b"999999999999:a,", 0, Problem::Truncated),
            (b"1:a?", 3, Problem::UnknownType(b'?')),
            (b"1:a#", 2, Problem::Integer),
            (b"0:#", 2, Problem::Integer),
            (b"1:-#", 2, Problem::Integer),
            (b"1:x^", 2, Problem::Float),
            (b"4:True!", 2, Problem::Bool),
            (b"1:a~", 2, Problem::Null),
            (b"1:\xff;", 2, Problem::Utf8),
            (b"6:0:~0:~}", 4, Problem::Key),
            (b"4:1:a;}", 6, Problem::OddDict),
            // An item may not reach beyond the list that holds it.
            (b"4:9:ab]cdefghi,", 2, Problem::Truncated),
        ];
        for (input, at, problem) in table {
            let expected = ParseError { at: *at, problem: *problem };
            assert_eq!(parse(input), Err(expected), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |levels: usize| {
            let mut bytes = Vec::new();
            for _ in 0..levels {
                let inner = std::mem::take(&mut bytes);
                write_list(&mut bytes, |out| out.extend_from_slice(&inner));
            }
            bytes
        };
        assert!(parse(&nested(DEPTH_MAX)).is_ok());
        let error = parse(&nested(DEPTH_MAX + 1)).unwrap_err();
        assert_eq!(error.problem, Problem::TooDeep);
        assert_eq!(parse(&nested(3_000)).unwrap_err().problem, Problem::TooDeep);
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = b"before".to_vec();
        write_dict(&mut out, |out| {
            write_text("list", out);
            write_list(out, |out| {
                write_int(i64::MIN, out);
                write_big_int("99999999999999999999", out);
                write_bytes(&[0; 300], out);
                write_null(out);
                write_bool(false, out);
                write_float(0.1, out);
            });
        });
        let (node, used) = parse(&out[6..]).unwrap();
        assert_eq!(used, out.len() - 6);
        let Value::Dict(entries) = node.value else { panic!("a dict") };
        let Value::List(items) = &entries[0].1.value else { panic!("a list") };
        let values: Vec<_> = items.iter().map(|item| item.value.clone()).collect();
        let expected = [
            Value::Int(i64::MIN),
            Value::BigInt("99999999999999999999"),
            Value::Bytes(&[0; 300]),
            Value::Null,
            Value::Bool(false),
            Value::Float(0.1),
        ];
        assert_eq!(values, expected);
        let mut empty = Vec::new();
        write_list(&mut empty, |_| ());
        assert_eq!(empty, b"0:]");
    }

    #[test]
    fn floats_look_as_python_prints_them() {
        let table = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-2.5, "-2.5"),
            (0.1, "0.1"),
            (0.30000000000000004, "0.30000000000000004"),
            (0.0001, "0.0001"),
            (0.00012345, "0.00012345"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (123456789012345.6, "123456789012345.6"),
            (1e15, "1000000000000000.0"),
            (9007199254740993.0, "9007199254740992.0"),
            (1e16, "1e+16"),
            (1.2345e17, "1.2345e+17"),
            (1e22, "1e+22"),
            (1e100, "1e+100"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (1795170212.4536734, "1795170212.4536734"),
            (1795170226.65837, "1795170226.65837"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ];
        for (number, text) in table {
            assert_eq!(python_repr(number), text);
        }
    }
}
