//! Bodies decoded and encoded again, and text in every charset a message can name.

use super::*;
use crate::coding::encode_one;

fn response(headers: &[(&str, &str)], raw: &[u8]) -> Response {
    let mut response = Response::make(200, b"", Headers::default(), 0.0);
    response.headers = Headers::from_pairs(headers.iter().copied());
    response.content = Some(Bytes::copy_from_slice(raw));
    response
}

#[test]
fn content_is_decoded_and_encoded_again_with_its_length() {
    for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd] {
        let raw = encode_one(b"old", coding).expect("encodes");
        let mut message = response(&[("content-encoding", coding.as_str()), ("content-length", "3")], &raw);
        assert_eq!(message.get_content().expect("decodes"), &b"old"[..]);
        message.set_content(Some(b"new and longer"));
        let raw = message.raw_content().expect("there").clone();
        assert_ne!(&raw[..], b"new and longer");
        assert_eq!(message.headers.get("content-length"), Some(raw.len().to_string()));
        assert_eq!(message.get_content().expect("decodes"), &b"new and longer"[..]);
        message.decode().expect("decodes");
        assert_eq!(message.headers.get("content-encoding"), None);
        assert_eq!(message.headers.get("content-length").as_deref(), Some("14"));
        assert_eq!(message.content.as_deref(), Some(&b"new and longer"[..]));
    }
}

#[test]
fn a_body_with_a_transfer_coding_gets_no_length() {
    let mut message = response(&[("Transfer-Encoding", "chunked")], b"");
    message.set_content(Some(b"abc"));
    assert!(!message.headers.contains("content-length"));
}

#[test]
fn a_missing_body_stays_missing() {
    let mut message = response(&[("Content-Encoding", "gzip")], b"");
    message.set_content(None);
    assert!(matches!(message.get_content(), Err(ContentError::Missing)));
    assert!(message.get_content_or_raw().is_none() && message.get_text_lossy().is_none());
    assert!(matches!(message.json(), Err(ContentError::Missing)));
    message.decode().expect("nothing to decode");
    assert_eq!(message.headers.get("content-encoding").as_deref(), Some("gzip"));
}

#[test]
fn what_cannot_be_decoded_is_an_error_or_as_it_came() {
    for coding in ["gzip", "deflate", "br", "zstd", "lz4", "utf8"] {
        let mut message = response(&[("Content-Encoding", coding)], b"\x01not coded");
        assert!(matches!(message.get_content(), Err(ContentError::Coding(_))), "{coding}");
        assert_eq!(message.get_content_or_raw().expect("raw"), &b"\x01not coded"[..]);
        assert!(message.decode().is_err());
        assert_eq!(message.headers.get("content-encoding").as_deref(), Some(coding), "unchanged");
    }
    let mut message = response(&[("Content-Encoding", "lz4")], b"x");
    message.set_content(Some(b"plain"));
    assert_eq!(message.headers.get("content-encoding"), None, "an unknown coding is removed");
    assert_eq!(message.content.as_deref(), Some(&b"plain"[..]));
}

#[test]
fn encode_takes_the_body_as_it_is() {
    let mut message = response(&[], b"text");
    message.encode("br").expect("known");
    assert_eq!(message.get_content().expect("decodes"), &b"text"[..]);
    assert!(message.encode("lz4").is_err());
    assert_eq!(message.headers.get("content-encoding").as_deref(), Some("br"));
    assert_eq!(message.codings(), Ok(vec![Coding::Brotli]));
}

#[test]
fn text_is_read_and_written_in_the_charset_of_the_message() {
    let mut message = response(&[("Content-Type", "text/html; charset=latin1")], b"caf\xe9");
    assert_eq!(message.get_text().expect("latin-1"), "café");
    message.set_text(Some("naïve"));
    assert_eq!(message.content.as_deref(), Some(&b"na\xefve"[..]));
    message.set_text(Some("日本"));
    assert_eq!(message.headers.get("content-type").as_deref(), Some("text/html; charset=utf-8"));
    assert_eq!(message.get_text().expect("utf-8"), "日本");
    let mut bare = response(&[], b"");
    bare.set_text(Some("€"));
    assert_eq!(bare.headers.get("content-type").as_deref(), Some("text/plain; charset=utf-8"));
    bare.set_text(None);
    assert_eq!(bare.content, None);
}

#[test]
fn text_in_no_known_charset_is_an_error_or_replaced() {
    let message = response(&[("Content-Type", "text/plain; charset=klingon")], b"a\xff");
    assert!(matches!(message.get_text(), Err(ContentError::Charset(_))));
    assert_eq!(message.get_text_lossy().as_deref(), Some("a\u{fffd}"));
    let coded = response(&[("Content-Encoding", "lz4")], b"\x80");
    assert_eq!(coded.get_text_lossy().as_deref(), Some("\u{80}"));
}

#[test]
fn json_is_parsed_whatever_its_coding() {
    let raw = encode_one(b"\xef\xbb\xbf{\"a\": [1, null]}", Coding::Gzip).expect("encodes");
    let message = response(&[("Content-Encoding", "gzip")], &raw);
    assert_eq!(message.json().expect("json")["a"][0], 1);
    assert!(matches!(response(&[], b"{").json(), Err(ContentError::Json(_))));
    let deep = "[".repeat(100_000);
    assert!(response(&[], deep.as_bytes()).json().is_err());
}

#[test]
fn versions_are_told_apart() {
    let mut message = response(&[], b"");
    assert!(message.is_http11() && !message.is_http10() && !message.is_http2() && !message.is_http3());
    message.http_version = Bytes::from_static(b"HTTP/2.0");
    assert!(message.is_http2());
}
