//! Heads that are written anew, and those that stay refused.

use super::*;

const LIMITS: HeadLimits =
    HeadLimits { head_size_max: 64 * 1024, headers_max: 256, line_len_max: 64 * 1024, mends: true };

/// What is mended is parsed strictly, with the framing it was given.
fn mended(side: Side, head: &str) -> Option<String> {
    let out = mend_head(side, head.as_bytes())?;
    let strict = match side {
        Side::Client => parse_request_head(&out, &LIMITS).map(|parsed| matches!(parsed, Parsed::Done { .. })),
        Side::Server => parse_response_head(&out, RequestFacts::default(), &LIMITS)
            .map(|parsed| matches!(parsed, Parsed::Done { .. })),
    };
    strict.ok().filter(|whole| *whole).map(|_| String::from_utf8_lossy(&out).into_owned())
}

#[test]
fn what_can_be_read_in_one_way_is_written_that_way() {
    for (fields, as_written) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\n"),
        ("Content-Length: 5\r\ncontent-length: 5\r\n", "Content-Length: 5\r\n"),
        ("Content-Length: 5, 5\r\n", "Content-Length: 5\r\n"),
        ("Content-Length: 005\r\n", "Content-Length: 5\r\n"),
        ("Content-Length: +5\r\n", "Content-Length: 5\r\n"),
        ("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "Content-Length: 5\r\n"),
        ("Transfer-Encoding: identity, Chunked\r\n", "Transfer-Encoding: chunked\r\n"),
        ("Transfer-Encoding:\r\n chunked\r\n", "Transfer-Encoding: chunked\r\n"),
        ("A: b\nC: d\n", "A: b\r\nC: d\r\n"),
        ("A: b\r\n\tfolded\r\n", "A: b folded\r\n"),
        ("A : b\r\n", "A: b\r\n"),
        ("Host: a\r\nhost: A\r\n", "Host: a\r\n"),
        (
            "Connection: close, Content-Length\r\nContent-Length: 5\r\n",
            "Connection: close\r\nContent-Length: 5\r\n",
        ),
    ] {
        let head = format!("POST / HTTP/1.1\r\n{fields}\r\n");
        assert!(parse_request_head(head.as_bytes(), &LIMITS).is_err(), "mended for nothing: {fields:?}");
        let wanted = format!("POST / HTTP/1.1\r\n{as_written}\r\n");
        assert_eq!(mended(Side::Client, &head).as_deref(), Some(&*wanted), "{fields:?}");
    }
    let spaced = mended(Side::Client, "GET   / \t HTTP/1.1\r\n\r\n");
    assert_eq!(spaced.as_deref(), Some("GET / HTTP/1.1\r\n\r\n"));
}

#[test]
fn what_could_be_read_in_two_ways_stays_refused() {
    for head in [
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, identity, x\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
        "POST / HTTP/1.1\r\nA: b\0\r\n\r\n",
        "POST / HTTP/1.1\r\n A: b\r\n\r\n",
        "POST / HTTP/1.1\r\nno colon\r\n\r\n",
        "POST / HTTP/1.1\r\n: nameless\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / and more HTTP/1.1\r\n\r\n",
        "GET / HTTP/3.1\r\n\r\n",
        "GET /\r\n\r\n",
        "",
        "\r\n\r\n",
    ] {
        assert_eq!(mended(Side::Client, head), None, "{head:?}");
    }
}

#[test]
fn responses_that_cannot_have_a_body_lose_the_claim_to_one() {
    for (head, as_written) in [
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
        ),
        (
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n",
            "HTTP/1.1 204 No Content\r\nA: b\r\nConnection: close\r\n\r\n",
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        ),
        ("HTTP/1.1 200 OK\nContent-Length: 2\n\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
    ] {
        assert_eq!(mended(Side::Server, head).as_deref(), Some(as_written), "{head:?}");
    }
}
