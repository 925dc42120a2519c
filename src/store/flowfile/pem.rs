//! Certificates as PEM (RFC 7468): 64 columns, a newline at the end, as OpenSSL writes them.

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const BYTES_PER_LINE: usize = 48;

/// A certificate's PEM text.
pub(super) fn encode(der: &[u8]) -> String {
    let mut text = String::with_capacity(der.len() / 3 * 4 + der.len() / BYTES_PER_LINE + 64);
    text.push_str(BEGIN);
    text.push('\n');
    for line in der.chunks(BYTES_PER_LINE) {
        for group in line.chunks(3) {
            push_group(group, &mut text);
        }
        text.push('\n');
    }
    text.push_str(END);
    text.push('\n');
    text
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

fn push_group(group: &[u8], text: &mut String) {
    let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
    let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
    for index in 0..4 {
        let sextet = bits >> (18 - 6 * index) & 63;
        // n bytes take n + 1 sextets; the rest is padding.
        text.push(if index <= group.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
    }
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
