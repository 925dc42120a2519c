//! Heads that a strict parser refuses, written anew so that they can be read in one way only (RFC 9112 §2.2, §5,
//! §6.3): for operators who must serve broken peers. What could be meant in two ways stays refused.
//!
//! What comes out is judged as strictly as anything else: whoever mends a head parses the result.

use super::error::Side;
use super::facts::frames;

type Field = (Vec<u8>, Vec<u8>);

/// A head written anew; `head` ends behind its empty line. `None`: there is no one way to read it.
pub fn mend_head(side: Side, head: &[u8]) -> Option<Vec<u8>> {
    let mut lines = lines(head)?.into_iter();
    let mut first = lines.next()?;
    if side == Side::Client {
        first = request_line(&first)?;
    }
    let mut fields = unfold(lines)?;
    let bodiless = side == Side::Server && is_bodiless(&first);
    let chunked = mend_encoding(&mut fields)?;
    let length = mend_length(&mut fields)?;
    if chunked {
        drop_all(&mut fields, b"content-length");
        if first.starts_with(b"HTTP/1.0") {
            first[7] = b'1';
            set_close(&mut fields);
        } else if first.ends_with(b"HTTP/1.0") {
            // its client would not understand an answer in kind
            return None;
        }
    }
    if bodiless && (chunked || length.is_some_and(|length| length > 0)) {
        drop_all(&mut fields, b"content-length");
        drop_all(&mut fields, b"transfer-encoding");
        set_close(&mut fields);
    }
    mend_hosts(side, &mut fields)?;
    mend_connection(&mut fields);
    Some(written(&first, &fields))
}

fn written(first: &[u8], fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(first);
    out.extend_from_slice(b"\r\n");
    for (name, value) in fields {
        for part in [name, &b": "[..], value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// The lines of a head, whether they end in CRLF or in LF alone; without the empty ones around it.
fn lines(head: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut lines = Vec::new();
    for line in head.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().any(|b| matches!(b, 0 | b'\r')) {
            return None;
        }
        if !line.is_empty() {
            lines.push(line.to_vec());
        }
    }
    Some(lines)
}

/// Three words, however much white space is between them.
fn request_line(line: &[u8]) -> Option<Vec<u8>> {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let words: Vec<&[u8]> = line.split(blank).filter(|word| !word.is_empty()).collect();
    (words.len() == 3).then(|| words.join(&b' '))
}

fn unfold(lines: impl Iterator<Item = Vec<u8>>) -> Option<Vec<Field>> {
    let mut fields: Vec<Field> = Vec::new();
    for line in lines {
        if matches!(line[0], b' ' | b'\t') {
            let (_, value) = fields.last_mut()?;
            value.push(b' ');
            value.extend_from_slice(line.trim_ascii());
            continue;
        }
        let colon = line.iter().position(|b| *b == b':')?;
        let name = line[..colon].trim_ascii_end();
        if name.is_empty() {
            return None;
        }
        fields.push((name.to_vec(), line[colon + 1..].trim_ascii().to_vec()));
    }
    for (_, value) in &mut fields {
        *value = value.trim_ascii().to_vec();
    }
    Some(fields)
}

/// Whether the body is chunked. Any coding besides that is nobody's to guess.
fn mend_encoding(fields: &mut Vec<Field>) -> Option<bool> {
    let mut codings = tokens_of(fields, b"transfer-encoding");
    codings.retain(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    let chunked = match &codings[..] {
        [] => false,
        [one] if one.eq_ignore_ascii_case(b"chunked") => true,
        _ => return None,
    };
    replace(fields, b"transfer-encoding", chunked.then_some(&b"chunked"[..]));
    Some(chunked)
}

/// The one length that all lengths say.
fn mend_length(fields: &mut Vec<Field>) -> Option<Option<u64>> {
    let mut said = None;
    for text in tokens_of(fields, b"content-length") {
        let digits = text.strip_prefix(b"+").unwrap_or(&text);
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let length: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
        if said.is_some_and(|said| said != length) {
            return None;
        }
        said = Some(length);
    }
    let text = said.map(|length| length.to_string());
    replace(fields, b"content-length", text.as_ref().map(String::as_bytes));
    Some(said)
}

fn mend_hosts(side: Side, fields: &mut Vec<Field>) -> Option<()> {
    if side == Side::Server {
        return Some(());
    }
    let hosts: Vec<Vec<u8>> =
        fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"host")).map(|f| f.1.clone()).collect();
    let [first, rest @ ..] = &hosts[..] else { return Some(()) };
    if rest.iter().any(|host| !host.eq_ignore_ascii_case(first)) {
        return None;
    }
    let first = first.clone();
    replace(fields, b"host", Some(&first));
    Some(())
}

/// Nobody may have a field dropped that frames or routes the message.
fn mend_connection(fields: &mut [Field]) {
    for (name, value) in fields {
        if name.eq_ignore_ascii_case(b"connection") && value.split(|b| *b == b',').any(names_framing) {
            let kept: Vec<&[u8]> =
                value.split(|b| *b == b',').filter(|token| !names_framing(token)).collect();
            *value = kept.join(&b',').trim_ascii().to_vec();
        }
    }
}

fn names_framing(token: &[u8]) -> bool {
    frames(token.trim_ascii())
}

fn is_bodiless(status_line: &[u8]) -> bool {
    let status = status_line.get(9..12).unwrap_or_default();
    status.first() == Some(&b'1') || status == b"204"
}

fn tokens_of(fields: &[Field], wanted: &[u8]) -> Vec<Vec<u8>> {
    let values = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
    let tokens = values.flat_map(|(_, value)| value.split(|b| *b == b',').map(<[u8]>::trim_ascii));
    tokens.map(<[u8]>::to_vec).filter(|token| !token.is_empty()).collect()
}

/// One field of that name with this value, where the first one was; none: none.
fn replace(fields: &mut Vec<Field>, wanted: &[u8], value: Option<&[u8]>) {
    let mut value = value;
    fields.retain_mut(|(name, held)| {
        if !name.eq_ignore_ascii_case(wanted) {
            return true;
        }
        match value.take() {
            Some(value) => {
                *held = value.to_vec();
                true
            }
            None => false,
        }
    });
}

fn drop_all(fields: &mut Vec<Field>, wanted: &[u8]) {
    replace(fields, wanted, None);
}

fn set_close(fields: &mut Vec<Field>) {
    drop_all(fields, b"connection");
    fields.push((b"Connection".to_vec(), b"close".to_vec()));
}
