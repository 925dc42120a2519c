//! Forms as `multipart/form-data` (RFC 7578).

use super::MultiDict;
use super::charset::ContentType;

/// Parts of one body that are looked at.
const PARTS_MAX: usize = 10_000;

/// The boundary that a `Content-Type` value names.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let content_type = ContentType::parse(content_type)?;
    let boundary = content_type.parameter("boundary")?;
    (!boundary.is_empty() && boundary.is_ascii()).then(|| boundary.to_owned())
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

/// Names and contents of the parts. Parts without a name are passed over.
pub(super) fn decode(body: &[u8], boundary: &str) -> MultiDict {
    let mark = [b"--", boundary.as_bytes()].concat();
    let mut dict = MultiDict::default();
    let Some(start) = find(body, &mark) else { return dict };
    let mut rest = &body[start + mark.len()..];
    for _ in 0..PARTS_MAX {
        if rest.starts_with(b"--") {
            break;
        }
        let Some(end) = find(rest, &mark) else { break };
        part(&rest[..end], &mut dict);
        rest = &rest[end + mark.len()..];
    }
    dict
}

fn part(part: &[u8], dict: &mut MultiDict) {
    let (mut rest, mut name) = (line(part).1, None);
    loop {
        let (header, tail) = line(rest);
        if header.is_empty() {
            rest = tail;
            break;
        }
        name = name.or_else(|| name_in(header));
        if tail.is_empty() {
            return;
        }
        rest = tail;
    }
    if let Some(name) = name {
        let content = rest.strip_suffix(b"\r\n").or(rest.strip_suffix(b"\n")).unwrap_or(rest);
        dict.add(name, content);
    }
}

/// A line without its end, and what follows.
fn line(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b'\n') {
        Some(end) => (text[..end].strip_suffix(b"\r").unwrap_or(&text[..end]), &text[end + 1..]),
        None => (text, b""),
    }
}

/// `name="NAME"` in a `Content-Disposition` field.
fn name_in(header: &[u8]) -> Option<&[u8]> {
    const FIELD: &[u8] = b"content-disposition:";
    const NAME: &[u8] = b"name=\"";
    let is_field = header.get(..FIELD.len()).is_some_and(|start| start.eq_ignore_ascii_case(FIELD));
    let mut rest = header.get(FIELD.len()..).filter(|_| is_field)?;
    loop {
        let at = find(rest, NAME)?;
        // not the end of `filename="`
        let is_word = at == 0 || !rest[at - 1].is_ascii_alphanumeric();
        rest = &rest[at + NAME.len()..];
        if is_word {
            let end = rest.iter().position(|byte| *byte == b'"')?;
            return (end > 0).then(|| &rest[..end]);
        }
    }
}

/// Whether the boundary stands in one of the contents: another one must be chosen.
pub(super) fn collides(dict: &MultiDict, boundary: &str) -> bool {
    let mark = [b"--", boundary.as_bytes()].concat();
    dict.fields().iter().any(|(name, content)| find(content, &mark).is_some() || find(name, &mark).is_some())
}

/// The parts as a body.
pub(super) fn encode(dict: &MultiDict, boundary: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in dict.fields() {
        out.extend_from_slice(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"").as_bytes());
        // what would end the name or the line is encoded as browsers do
        for byte in name {
            match byte {
                b'"' => out.extend_from_slice(b"%22"),
                b'\r' => out.extend_from_slice(b"%0D"),
                b'\n' => out.extend_from_slice(b"%0A"),
                byte => out.push(*byte),
            }
        }
        out.extend_from_slice(b"\"\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n");
        out.extend_from_slice(content);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_come_back_as_they_were() {
        let dict = MultiDict::from_pairs([("a", "1"), ("file", "line\r\nline\n"), ("a", ""), ("b", "--x")]);
        assert_eq!(decode(&encode(&dict, "xyz"), "xyz"), dict);
        assert!(!collides(&dict, "xyz") && collides(&dict, "x"));
    }

    #[test]
    fn what_browsers_send_comes_apart() {
        let body = b"preamble\r\n--B\r\nContent-Disposition: form-data; filename=\"f\"; name=\"up\"\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n\0\r\n--B\r\ncontent-disposition: form-data; name=\"t\"\r\n\r\ntext\r\n--B\r\nX: y\r\n\r\nnameless\r\n--B--\r\nepilogue";
        let dict = decode(body, "B");
        assert_eq!(dict.first("up"), Some(&b"\x89PNG\r\n\0"[..]));
        assert_eq!(dict.get("t").as_deref(), Some("text"));
        assert_eq!(dict.len(), 2);
        for cut in 0..body.len() {
            let _ = decode(&body[..cut], "B");
        }
    }

    #[test]
    fn boundaries_are_found_with_and_without_quotes() {
        assert_eq!(boundary("multipart/form-data; boundary=abc").as_deref(), Some("abc"));
        assert_eq!(boundary("multipart/form-data; boundary=\"a b\"").as_deref(), Some("a b"));
        assert_eq!(boundary("multipart/form-data; boundary="), None);
        assert_eq!(boundary("multipart/form-data"), None);
    }
}
