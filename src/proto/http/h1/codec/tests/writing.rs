//! Heads and bodies as they are written.

use super::*;
use crate::flow::{Headers, HttpVersion};

fn headers() -> Headers {
    Headers::from_pairs([("Host", "a"), ("x-Y", ""), ("Host2", "\u{e4}")])
}

#[test]
fn writes_heads_that_read_back_the_same() {
    let mut out = b"before".to_vec();
    write_request_head(&mut out, b"GET", b"/x", HttpVersion::Http10, &headers()).unwrap();
    assert_eq!(out, "beforeGET /x HTTP/1.0\r\nHost: a\r\nx-Y: \r\nHost2: \u{e4}\r\n\r\n".as_bytes());
    let bytes = bytes::Bytes::from(out.split_off(6));
    assert_eq!(good_request(&bytes).headers(&bytes), headers());

    write_response_head(&mut out, HttpVersion::Http2, 200, b"", &Headers::default()).unwrap();
    assert_eq!(out, b"beforeHTTP/1.1 200 \r\n\r\n");
    good_response(&out[6..]);
}

#[test]
fn refuses_parts_that_would_split_a_message_and_writes_nothing() {
    let none = Headers::default();
    let mut out = b"x".to_vec();
    for bad in [&b""[..], b"G T", b"G\r\nT", b"GET\0"] {
        assert_eq!(
            write_request_head(&mut out, bad, b"/", HttpVersion::Http11, &none),
            Err(WriteError::Method)
        );
    }
    for bad in [&b""[..], b"/ HTTP/1.1\r\nA: b", b"/\n", b"/\0", b"/ x", b"/\x7f"] {
        assert_eq!(
            write_request_head(&mut out, b"GET", bad, HttpVersion::Http11, &none),
            Err(WriteError::Target)
        );
    }
    for bad in ["a\r\nb", "a\nb", "a\rb", "a\0b"] {
        let value = Headers::from_pairs([("Good", "1"), ("A", bad)]);
        let name = Headers::from_pairs([("Good", "1"), (bad, "1")]);
        let v = HttpVersion::Http11;
        assert_eq!(write_request_head(&mut out, b"GET", b"/", v, &value), Err(WriteError::FieldValue));
        assert_eq!(write_response_head(&mut out, v, 200, b"OK", &name), Err(WriteError::FieldName));
        assert_eq!(write_response_head(&mut out, v, 200, bad.as_bytes(), &none), Err(WriteError::Reason));
    }
    for bad in ["", " A", "A ", "A:", "A b"] {
        let name = Headers::from_pairs([(bad, "1")]);
        assert_eq!(
            write_response_head(&mut out, HttpVersion::Http11, 200, b"", &name),
            Err(WriteError::FieldName)
        );
    }
    assert_eq!(write_response_head(&mut out, HttpVersion::Http11, 99, b"", &none), Err(WriteError::Status));
    assert_eq!(out, b"x");
}

#[test]
fn our_own_pages_are_whole_and_show_text_as_text() {
    let mut out = Vec::new();
    write_simple_response(&mut out, 502, "Bad Gateway", "<script>'\"&\r\n", true);
    let head = good_response(&out);
    assert_eq!((head.status, head.keep_alive), (502, false));
    let end = head_end(&out, 0).unwrap();
    assert_eq!(head.framing, BodyFraming::Length((out.len() - end) as u64));
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.contains("Server: ringtap\r\n") && text.contains("<p>&lt;script&gt;&#39;&quot;&amp;"),
        "{text}"
    );
    let mut out = Vec::new();
    write_simple_response(&mut out, 400, "Bad\r\nX: y", "x", false);
    assert!(good_response(&out).keep_alive);
}
