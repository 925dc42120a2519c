//! Certificates as PEM (RFC 7468): 64 columns, a newline at the end, as OpenSSL writes them.

use std::cell::RefCell;
use std::collections::VecDeque;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BYTES_PER_LINE: usize = 48;

/// Certificates whose text is remembered, and the longest of them in bytes: flows of one server follow each other.
const REMEMBERED_MAX: usize = 16;
const REMEMBERED_LEN_MAX: usize = 8 * 1024;

/// A certificate and its text.
type Known = (Box<[u8]>, Box<[u8]>);

thread_local! {
    static REMEMBERED: RefCell<VecDeque<Known>> = const { RefCell::new(VecDeque::new()) };
}

/// Appends a certificate's PEM text. Every recorded flow inside TLS has several, most often those of the flow before.
pub(super) fn append(der: &[u8], out: &mut Vec<u8>) {
    REMEMBERED.with_borrow_mut(|remembered| {
        if let Some((_, text)) = remembered.iter().find(|(known, _)| **known == *der) {
            out.extend_from_slice(text);
            return;
        }
        let start = out.len();
        append_anew(der, out);
        if der.len() <= REMEMBERED_LEN_MAX {
            remembered.truncate(REMEMBERED_MAX - 1);
            remembered.push_front((der.into(), out[start..].into()));
        }
    });
}

/// A line at a time, without branches.
fn append_anew(der: &[u8], out: &mut Vec<u8>) {
    out.reserve(der.len() / 3 * 4 + der.len() / BYTES_PER_LINE + 64);
    out.extend_from_slice(BEGIN.as_bytes());
    out.push(b'\n');
    let mut line = [b'\n'; BYTES_PER_LINE / 3 * 4 + 1];
    let mut whole_lines = der.chunks_exact(BYTES_PER_LINE);
    for bytes in &mut whole_lines {
        for (group, text) in bytes.chunks_exact(3).zip(line.chunks_exact_mut(4)) {
            text.copy_from_slice(&encoded(group[0], group[1], group[2]));
        }
        out.extend_from_slice(&line);
    }
    let mut groups = whole_lines.remainder().chunks_exact(3);
    for group in &mut groups {
        out.extend_from_slice(&encoded(group[0], group[1], group[2]));
    }
    // n bytes take n + 1 sextets; the rest is padding
    match groups.remainder() {
        [one] => {
            let [first, second, ..] = encoded(*one, 0, 0);
            out.extend_from_slice(&[first, second, b'=', b'=']);
        }
        [one, two] => {
            let [first, second, third, _] = encoded(*one, *two, 0);
            out.extend_from_slice(&[first, second, third, b'=']);
        }
        _ => {}
    }
    if !whole_lines.remainder().is_empty() {
        out.push(b'\n');
    }
    out.extend_from_slice(END.as_bytes());
    out.push(b'\n');
}

/// Three bytes as four characters.
fn encoded(one: u8, two: u8, three: u8) -> [u8; 4] {
    let bits = u32::from(one) << 16 | u32::from(two) << 8 | u32::from(three);
    [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift & 63) as usize])
}

/// The DER bytes of the first certificate in a PEM text.
pub(super) fn decode(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, body) = text.split_once(BEGIN)?;
    let (body, _) = body.split_once(END)?;
    let mut der = Vec::with_capacity(body.len() / 4 * 3);
    let (mut bits, mut sextets, mut padding) = (0u32, 0, 0);
    for byte in body.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let sextet = match byte {
            b'=' => {
                padding += 1;
                0
            }
            // Nothing may follow the padding.
            _ if padding > 0 => return None,
            _ => sextet(byte)?,
        };
        bits = bits << 6 | u32::from(sextet);
        sextets += 1;
        if sextets % 4 == 0 {
            der.extend_from_slice(&bits.to_be_bytes()[1..]);
            bits = 0;
        }
    }
    if sextets % 4 != 0 || padding > 2 || der.is_empty() {
        return None;
    }
    der.truncate(der.len() - padding);
    Some(der)
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(der: &[u8]) -> String {
        let mut out = Vec::new();
        append(der, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_length_comes_back() {
        for length in 1..200usize {
            let der: Vec<u8> = (0..length).map(|index| (index * 37 + length) as u8).collect();
            let pem = encode(&der);
            assert!(pem.lines().all(|line| line.len() <= 64));
            assert_eq!(decode(pem.as_bytes()).as_deref(), Some(&der[..]));
        }
    }

    #[test]
    fn a_certificate_is_written_alike_every_time_and_no_more_are_remembered_than_allowed() {
        let certificate = |n: u8| vec![n; 100];
        let first: Vec<String> = (0..40).map(|n| encode(&certificate(n))).collect();
        for n in [0, 39, 39, 20, 0] {
            assert_eq!(encode(&certificate(n)), first[usize::from(n)]);
        }
        REMEMBERED.with_borrow(|remembered| assert_eq!(remembered.len(), REMEMBERED_MAX));
        let long = vec![1; REMEMBERED_LEN_MAX + 1];
        assert_eq!(decode(encode(&long).as_bytes()), Some(long));
        REMEMBERED.with_borrow(|remembered| {
            assert!(remembered.iter().all(|(der, _)| der.len() <= REMEMBERED_LEN_MAX));
        });
    }

    #[test]
    fn lines_are_those_of_openssl() {
        let pem = encode(&[0; 50]);
        let lines: Vec<_> = pem.lines().collect();
        assert_eq!(lines, [BEGIN, &"A".repeat(64), "AAA=", END]);
        assert!(pem.ends_with("-----\n"));
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let of = |body: &str| decode(format!("{BEGIN}\n{body}\n{END}\n").as_bytes());
        assert_eq!(of("AAAA"), Some(vec![0, 0, 0]));
        for body in ["", "A", "AAA", "A===", "AA=A", "AA!A", "===="] {
            assert_eq!(of(body), None, "{body}");
        }
        assert_eq!(decode(b""), None);
        assert_eq!(decode(b"\xff"), None);
        assert_eq!(decode(BEGIN.as_bytes()), None);
    }
}
