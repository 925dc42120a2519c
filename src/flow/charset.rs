//! Which charset a body is in, and text from and to it.

use encoding_rs::{DecoderResult, EncoderResult, Encoding};
use thiserror::Error;

/// Bytes of a document that are searched for a declaration of its charset.
const DECLARATION_MAX: usize = 64 << 10;

/// Text that cannot be had.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CharsetError {
    /// No such charset.
    #[error("unknown charset '{0}'")]
    Unknown(String),
    /// Bytes that mean nothing in it.
    #[error("the body is no {0} text")]
    Undecodable(String),
    /// Characters it does not have.
    #[error("the text cannot be written in {0}")]
    Unencodable(String),
}

/// A `Content-Type` value taken apart (RFC 9110 §8.3.1): type, subtype, parameters as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentType {
    /// In lower case, e.g. `text`.
    pub kind: String,
    /// In lower case, e.g. `html`.
    pub subtype: String,
    /// Names and values without the white space around them.
    pub parameters: Vec<(String, String)>,
}

impl ContentType {
    /// Takes it apart; none without a `/`.
    pub fn parse(value: &str) -> Option<Self> {
        let (media, rest) = value.split_once(';').unwrap_or((value, ""));
        let (kind, subtype) = media.split_once('/')?;
        let pair = |text: &str| {
            let (name, value) = text.split_once('=')?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        };
        let parameters = rest.split(';').filter_map(pair).collect();
        Some(Self {
            kind: kind.trim_start().to_ascii_lowercase(),
            subtype: subtype.trim_end().to_ascii_lowercase(),
            parameters,
        })
    }

    /// The parameter of that name, without quotes.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let is = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.parameters.iter().rfind(is).map(|(_, value)| value.trim_matches('"'))
    }

    /// Gives the parameter this value.
    pub fn set_parameter(&mut self, name: &str, value: &str) {
        match self.parameters.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case(name)) {
            Some((_, held)) => value.clone_into(held),
            None => self.parameters.push((name.to_owned(), value.to_owned())),
        }
    }

    /// The value it stands for.
    pub fn format(&self) -> String {
        let mut out = format!("{}/{}", self.kind, self.subtype);
        for (name, value) in &self.parameters {
            out.push_str(&format!("; {name}={value}"));
        }
        out
    }
}

/// The charset of a body: by its byte order mark, else by its `Content-Type`, else by what the document says of
/// itself (HTML, XML, CSS), else UTF-8 for JSON, HTML, XML, scripts and CSS, and Latin-1 for anything else.
pub fn infer(content_type: &str, content: &[u8]) -> String {
    let marks: [(&[u8], &str); 5] = [
        (b"\x00\x00\xfe\xff", "utf-32be"),
        (b"\xff\xfe\x00\x00", "utf-32le"),
        (b"\xfe\xff", "utf-16be"),
        (b"\xff\xfe", "utf-16le"),
        (b"\xef\xbb\xbf", "utf-8-sig"),
    ];
    if let Some((_, name)) = marks.iter().find(|(mark, _)| content.starts_with(mark)) {
        return (*name).to_owned();
    }
    let declared = ContentType::parse(content_type).and_then(|c| c.parameter("charset").map(str::to_owned));
    let name = declared.filter(|name| !name.is_empty()).or_else(|| by_document(content_type, content));
    let name = name.unwrap_or_else(|| "latin-1".into());
    // the superset of both: what is labelled so often has more in it
    match name.to_ascii_lowercase().as_str() {
        "gb2312" | "gbk" => "gb18030".into(),
        _ => name,
    }
}

fn by_document(content_type: &str, content: &[u8]) -> Option<String> {
    let is = |word| content_type.contains(word);
    let head = &content[..content.len().min(DECLARATION_MAX)];
    let declared = if is("json") {
        None
    } else if is("html") {
        meta_charset(head)
    } else if is("xml") {
        xml_encoding(head)
    } else if is("javascript") || is("ecmascript") {
        None
    } else if is("text/css") {
        css_charset(head)
    } else {
        return None;
    };
    Some(declared.unwrap_or_else(|| "utf-8".into()))
}

/// The place behind a word, in any case.
fn behind(text: &[u8], word: &[u8]) -> Option<usize> {
    let found = text.windows(word.len()).position(|window| window.eq_ignore_ascii_case(word));
    found.map(|at| at + word.len())
}

fn name_until(text: &[u8], ends: &[u8]) -> Option<String> {
    let end = text.iter().position(|byte| ends.contains(byte)).unwrap_or(text.len());
    (end > 0)
        .then(|| text[..end].iter().filter(|byte| byte.is_ascii()).map(|byte| char::from(*byte)).collect())
}

/// `<meta … charset=NAME`.
fn meta_charset(document: &[u8]) -> Option<String> {
    let mut rest = document;
    while let Some(at) = behind(rest, b"<meta") {
        rest = &rest[at..];
        let tag = &rest[..rest.iter().position(|byte| *byte == b'>').unwrap_or(rest.len())];
        if let Some(at) = behind(tag, b"charset=") {
            let value = &tag[at..];
            let value = value.strip_prefix(b"'").or(value.strip_prefix(b"\"")).unwrap_or(value);
            if let Some(name) = name_until(value, b"'\">") {
                return Some(name);
            }
        }
    }
    None
}

/// `<?xml … encoding="NAME"`.
fn xml_encoding(document: &[u8]) -> Option<String> {
    let declaration = &document[behind(document, b"<?xml")?..];
    let end = declaration.iter().position(|byte| *byte == b'>').unwrap_or(declaration.len());
    let value = &declaration[behind(&declaration[..end], b"encoding=")?..end];
    let value = value.strip_prefix(b"'").or(value.strip_prefix(b"\""))?;
    name_until(value, b"'\"?>")
}

/// `@charset "NAME";` as the very first thing.
fn css_charset(document: &[u8]) -> Option<String> {
    const RULE: &[u8] = b"@charset \"";
    let start = document.get(..RULE.len())?;
    let value = document.get(RULE.len()..).filter(|_| start.eq_ignore_ascii_case(RULE))?;
    let end = behind(value, b"\";")?;
    name_until(&value[..end], b"\"")
}

/// Kinds of charset, as far as text is concerned.
enum Charset {
    Ascii,
    Latin1,
    Utf8 { strip_mark: bool },
    Wide { unit: usize, little: bool, mark: bool },
    Table(&'static Encoding),
}

fn find(name: &str) -> Result<Charset, CharsetError> {
    let plain: String =
        name.trim().to_ascii_lowercase().chars().map(|c| if c == '_' { '-' } else { c }).collect();
    Ok(match plain.as_str() {
        "utf-8" | "utf8" | "u8" => Charset::Utf8 { strip_mark: false },
        "utf-8-sig" => Charset::Utf8 { strip_mark: true },
        "ascii" | "us-ascii" => Charset::Ascii,
        "latin-1" | "latin1" | "iso-8859-1" | "iso8859-1" | "l1" | "8859" | "cp819" => Charset::Latin1,
        "utf-16" => Charset::Wide { unit: 2, little: true, mark: true },
        "utf-16le" | "utf-16-le" => Charset::Wide { unit: 2, little: true, mark: false },
        "utf-16be" | "utf-16-be" => Charset::Wide { unit: 2, little: false, mark: false },
        "utf-32" => Charset::Wide { unit: 4, little: true, mark: true },
        "utf-32le" | "utf-32-le" => Charset::Wide { unit: 4, little: true, mark: false },
        "utf-32be" | "utf-32-be" => Charset::Wide { unit: 4, little: false, mark: false },
        label => match Encoding::for_label(label.as_bytes()) {
            Some(encoding) if encoding != encoding_rs::REPLACEMENT => Charset::Table(encoding),
            _ => {
                return Err(CharsetError::Unknown(
                    name.chars().take(40).flat_map(char::escape_debug).collect(),
                ));
            }
        },
    })
}

/// Text of bytes in that charset.
///
/// # Errors
/// No such charset, or bytes that mean nothing in it.
pub fn decode(bytes: &[u8], name: &str) -> Result<String, CharsetError> {
    let text = match find(name)? {
        Charset::Latin1 => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        Charset::Ascii => bytes.is_ascii().then(|| bytes.iter().map(|byte| char::from(*byte)).collect()),
        Charset::Utf8 { strip_mark } => {
            let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").filter(|_| strip_mark).unwrap_or(bytes);
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        }
        Charset::Wide { unit, little, mark } => wide(bytes, unit, little, mark),
        Charset::Table(encoding) => by_table(bytes, encoding),
    };
    text.ok_or_else(|| CharsetError::Undecodable(name.to_owned()))
}

fn by_table(bytes: &[u8], encoding: &'static Encoding) -> Option<String> {
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let mut text = String::with_capacity(decoder.max_utf8_buffer_length_without_replacement(bytes.len())?);
    let (result, read) = decoder.decode_to_string_without_replacement(bytes, &mut text, true);
    (matches!(result, DecoderResult::InputEmpty) && read == bytes.len()).then_some(text)
}

fn wide(bytes: &[u8], unit: usize, little: bool, mark: bool) -> Option<String> {
    let marks: [&[u8]; 2] =
        if unit == 2 { [b"\xff\xfe", b"\xfe\xff"] } else { [b"\xff\xfe\0\0", b"\0\0\xfe\xff"] };
    let (little, bytes) = match marks.map(|m| bytes.strip_prefix(m).filter(|_| mark)) {
        [Some(rest), _] => (true, rest),
        [_, Some(rest)] => (false, rest),
        _ => (little, bytes),
    };
    if !bytes.len().is_multiple_of(unit) {
        return None;
    }
    let number = |unit: &[u8]| {
        let add = |number: u32, byte: &u8| number << 8 | u32::from(*byte);
        if little { unit.iter().rev().fold(0, add) } else { unit.iter().fold(0, add) }
    };
    let numbers = bytes.chunks_exact(unit).map(number);
    if unit == 4 {
        return numbers.map(char::from_u32).collect();
    }
    let halves: Vec<u16> = numbers.filter_map(|number| u16::try_from(number).ok()).collect();
    String::from_utf16(&halves).ok()
}

/// Bytes of text in that charset.
///
/// # Errors
/// No such charset, or characters it does not have.
pub fn encode(text: &str, name: &str) -> Result<Vec<u8>, CharsetError> {
    let narrow = |max: u32| {
        text.chars().map(|c| u8::try_from(u32::from(c)).ok().filter(|b| u32::from(*b) <= max)).collect()
    };
    let bytes = match find(name)? {
        Charset::Latin1 => narrow(0xff),
        Charset::Ascii => narrow(0x7f),
        Charset::Utf8 { strip_mark: false } => Some(text.as_bytes().to_vec()),
        Charset::Utf8 { strip_mark: true } => Some([b"\xef\xbb\xbf", text.as_bytes()].concat()),
        Charset::Wide { unit, little, mark } => {
            let mark = if mark { "\u{feff}" } else { "" };
            let chars = mark.chars().chain(text.chars());
            let order = |bytes: [u8; 4]| {
                let bytes = &bytes[4 - unit..];
                if little { bytes.iter().rev().copied().collect::<Vec<u8>>() } else { bytes.to_vec() }
            };
            let mut halves = [0; 2];
            Some(if unit == 4 {
                chars.flat_map(|c| order(u32::from(c).to_be_bytes())).collect()
            } else {
                let units = |c: char| c.encode_utf16(&mut halves).to_vec();
                chars.flat_map(units).flat_map(|half| order(u32::from(half).to_be_bytes())).collect()
            })
        }
        Charset::Table(encoding) => {
            let mut encoder = encoding.output_encoding().new_encoder();
            let is_same = encoding.output_encoding() == encoding;
            let room = encoder.max_buffer_length_from_utf8_without_replacement(text.len());
            room.filter(|_| is_same).and_then(|room| {
                let mut bytes = Vec::with_capacity(room);
                let (result, _) = encoder.encode_from_utf8_to_vec_without_replacement(text, &mut bytes, true);
                matches!(result, EncoderResult::InputEmpty).then_some(bytes)
            })
        }
    };
    bytes.ok_or_else(|| CharsetError::Unencodable(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_charset_is_found_as_mitmproxy_finds_it() {
        let table: [(&str, &[u8], &str); 22] = [
            ("", b"", "latin-1"),
            ("text/plain", b"x", "latin-1"),
            ("text/plain; charset=UTF-8", b"x", "UTF-8"),
            ("text/plain; charset=\"utf-8\"", b"x", "utf-8"),
            ("text/plain; charset=gb2312", b"x", "gb18030"),
            ("text/plain; charset=GBK", b"x", "gb18030"),
            ("text/plain; charset=latin1", b"\xef\xbb\xbfx", "utf-8-sig"),
            ("", b"\xff\xfex\0", "utf-16le"),
            ("", b"\xfe\xff\0x", "utf-16be"),
            ("", b"\xff\xfe\0\0", "utf-32le"),
            ("", b"\0\0\xfe\xff", "utf-32be"),
            ("application/json", b"{}", "utf-8"),
            ("text/html", b"<p>", "utf-8"),
            ("text/html", b"<meta charset=gb2312>", "gb18030"),
            ("text/html", b"<META http-equiv=x content='a; charset=Shift_JIS'>", "Shift_JIS"),
            ("text/html", b"<meta name=a><meta charset=\"latin1\">", "latin1"),
            ("text/xml", b"<?xml version='1.0' encoding='euc-kr'?>", "euc-kr"),
            ("image/svg+xml", b"<svg>", "utf-8"),
            ("text/javascript", b"x", "utf-8"),
            ("text/css", b"@charset \"gb2312\";#f{}", "gb18030"),
            ("text/css", b"h1{} @charset \"gb2312\";", "utf-8"),
            ("application/octet-stream", b"\x80", "latin-1"),
        ];
        for (content_type, content, expected) in table {
            assert_eq!(infer(content_type, content), expected, "{content_type} {content:?}");
        }
    }

    #[test]
    fn text_goes_there_and_back() {
        for (text, name) in [
            ("plain", "ascii"),
            ("naïve", "latin-1"),
            ("naïve", "windows-1252"),
            ("日本語", "shift_jis"),
            ("日本語", "EUC_JP"),
            ("中文𠀀", "gb18030"),
            ("한국어", "euc-kr"),
            ("Привет", "koi8-r"),
            ("a😀", "utf-16"),
            ("a😀", "utf-16le"),
            ("a😀", "UTF-16BE"),
            ("a😀", "utf-32"),
            ("a😀", "utf-32be"),
            ("a😀", "utf8"),
            ("a😀", "utf-8-sig"),
        ] {
            let bytes = encode(text, name).expect(name);
            assert_eq!(decode(&bytes, name).as_deref(), Ok(text), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_is_said() {
        assert_eq!(decode(b"\xff", "utf-8"), Err(CharsetError::Undecodable("utf-8".into())));
        assert_eq!(decode(b"\x80", "ascii"), Err(CharsetError::Undecodable("ascii".into())));
        assert_eq!(decode(b"abc", "utf-16"), Err(CharsetError::Undecodable("utf-16".into())));
        assert_eq!(decode(b"\0\xd8\0\0", "utf-16le"), Err(CharsetError::Undecodable("utf-16le".into())));
        assert_eq!(decode(b"\xff\xff", "shift_jis"), Err(CharsetError::Undecodable("shift_jis".into())));
        assert_eq!(encode("€", "latin-1"), Err(CharsetError::Unencodable("latin-1".into())));
        assert_eq!(encode("😀", "koi8-r"), Err(CharsetError::Unencodable("koi8-r".into())));
        assert_eq!(decode(b"a", "klingon"), Err(CharsetError::Unknown("klingon".into())));
        assert_eq!(decode(b"a", "hz-gb-2312"), Err(CharsetError::Unknown("hz-gb-2312".into())));
    }
}
