//! Heads, good and bad.

use bytes::Bytes;

use super::*;
use crate::flow::HttpVersion;
use HeadReason::*;

const BROWSER: &str = "GET /wiki/Hauptseite?x=%20y HTTP/1.1\r\nHost: de.example.org\r\nUser-Agent: Mozilla/5.0 (X11; Linux \
     x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n\
     Accept-Language: de,en-US;q=0.7\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\n\
     Cookie: session=0123456789abcdef; theme=dark\r\nUpgrade-Insecure-Requests: 1\r\nSec-Fetch-Dest: document\r\n\r\n";

#[test]
fn reads_a_browsers_request_into_ranges() {
    let head = good_request(BROWSER);
    let bytes = Bytes::from_static(BROWSER.as_bytes());
    assert_eq!(head.method.of(&bytes), b"GET");
    assert_eq!(head.target.of(&bytes), b"/wiki/Hauptseite?x=%20y");
    assert_eq!(head.target_form, TargetForm::Origin);
    assert_eq!(head.version, HttpVersion::Http11);
    assert_eq!(head.framing, BodyFraming::None);
    assert_eq!(head.host.map(|host| host.of(&bytes)), Some(&b"de.example.org"[..]));
    assert!(head.keep_alive && !head.upgrade && !head.expect_continue && !head.connect && !head.is_head);
    let headers = head.headers(&bytes);
    assert_eq!(headers.len(), 9);
    assert_eq!(headers.first("sec-fetch-dest"), Some(&b"document"[..]));
    assert_eq!(headers.first("cookie"), Some(&b"session=0123456789abcdef; theme=dark"[..]));
    assert!(bytes.as_ptr_range().contains(&headers.fields()[3].value.as_ptr()), "shared, not copied");
}

#[test]
fn values_lose_the_white_space_around_them_and_nothing_else() {
    let text = "GET / HTTP/1.1\r\nA: \t x  y \t\r\nEmpty:\r\nBlank:  \t\r\nb:\u{e4}\r\n\r\n";
    let raw: Vec<u8> = text.chars().map(|c| c as u8).collect();
    let head = good_request(&raw);
    let headers = head.headers(&Bytes::from(raw));
    let values: Vec<_> = headers.fields().iter().map(|f| (&f.name[..], &f.value[..])).collect();
    let expected: [(&[u8], &[u8]); 4] = [(b"A", b"x  y"), (b"Empty", b""), (b"Blank", b""), (b"b", b"\xe4")];
    assert_eq!(values, expected);
}

#[test]
fn waits_for_what_is_missing() {
    for cut in 0..BROWSER.len() {
        assert!(matches!(request(&BROWSER[..cut.min(80)]), Ok(Parsed::NeedMore)));
        let parsed = parse_request_head(&BROWSER.as_bytes()[..cut], &HeadLimits::default());
        assert!(matches!(parsed, Ok(Parsed::NeedMore)), "{cut}");
    }
}

#[test]
fn a_head_without_fields_is_fine_and_so_is_a_missing_host() {
    let head = good_request("GET / HTTP/1.1\r\n\r\n");
    assert_eq!((head.host, head.fields.len(), head.keep_alive), (None, 0, true));
}

#[test]
fn a_used_head_forgets_the_request_before() {
    let (limits, mut head) = (HeadLimits::default(), RequestHead::default());
    let first =
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: x, close\r\nUpgrade: y\r\n\r\n";
    head.parse_into(first, &mut HeadProgress::default(), &limits).unwrap();
    let capacity = head.fields.capacity();
    head.parse_into(b"GET / HTTP/1.1\r\nA: b\r\n\r\n", &mut HeadProgress::default(), &limits).unwrap();
    assert_eq!(format!("{head:?}"), format!("{:?}", good_request("GET / HTTP/1.1\r\nA: b\r\n\r\n")));
    assert_eq!(head.fields.capacity(), capacity);
}

#[test]
fn finds_the_end_of_a_head_from_any_place_searched_before() {
    let bytes = b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest";
    for from in 0..24 {
        assert_eq!(head_end(bytes, from), Some(24), "{from}");
    }
    assert_eq!(head_end(&bytes[..23], 0), None);
    assert_eq!(head_end(b"a\n\nb", 0), Some(3));
    assert_eq!(head_end(b"", 7), None);
}

#[test]
fn skips_a_few_empty_lines_before_a_request_and_no_more() {
    let head = good_request("\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    assert_eq!((head.start, head.method), (4, Span { start: 4, end: 7 }));
    good_request("\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    assert_eq!(refused_request("\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n"), TooManyEmptyLines);
    assert_eq!(refused_request("\nGET / HTTP/1.1\r\n\r\n"), BareLf);
    assert_eq!(refused_request("\rGET / HTTP/1.1\r\n\r\n"), BareCr);
    assert_eq!(refused_response("\r\nHTTP/1.1 200 OK\r\n\r\n"), BadStatusLine);
}

#[test]
fn refuses_request_lines_that_are_not_three_words() {
    for line in [
        "GET /",
        "GET",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET / x HTTP/1.1",
        "GET / HTTP",
        "GET / http/1.1",
        "GET  HTTP/1.1",
    ] {
        assert_eq!(refused_request(format!("{line}\r\nHost: a\r\n\r\n")), BadRequestLine, "{line}");
    }
    for line in [
        "G(T / HTTP/1.1",
        "G\tT / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GÄT / HTTP/1.1",
        "\x16\x03\x01\x02 / HTTP/1.1",
    ] {
        assert_eq!(refused_request(format!("{line}\r\nHost: a\r\n\r\n")), BadMethod, "{line}");
    }
    assert_eq!(refused_request("GET / HTTP/1.1\nHost: a\r\n\r\n"), BareLf);
    assert_eq!(refused_request("GET / HTTP/1.1\rHost: a\r\n\r\n"), BareCr);
    assert_eq!(refused_request("GET /\rx HTTP/1.1\r\n\r\n"), BareCr);
    assert_eq!(refused_request("GET /\0 HTTP/1.1\r\n\r\n"), Nul);
}

#[test]
fn refuses_versions_other_than_1_0_and_1_1() {
    for version in
        ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3", "HTTP/1.10", "HTTP/01.1", "HTTP/1,1", "HTTP/"]
    {
        let bytes = format!("GET / {version}\r\nHost: a\r\n\r\n");
        assert_eq!(refused_request(&bytes), UnsupportedVersion, "{version}");
        assert_eq!(parse_request_head(bytes.as_bytes(), &HeadLimits::default()).unwrap_err().status(), 505);
    }
    assert_eq!(refused_request("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Http2Preface);
    assert_eq!(good_request("GET / HTTP/1.0\r\n\r\n").version, HttpVersion::Http10);
}

#[test]
fn knows_the_four_forms_of_a_target_and_who_may_use_them() {
    let form = |line: &str| good_request(format!("{line} HTTP/1.1\r\n\r\n")).target_form;
    assert_eq!(form("GET /a?b#c"), TargetForm::Origin);
    assert_eq!(form("GET //a"), TargetForm::Origin);
    assert_eq!(form("GET http://a.test"), TargetForm::Absolute);
    assert_eq!(form("GET HTTP://[::1]:80/x?y"), TargetForm::Absolute);
    assert_eq!(form("CONNECT a.test:443"), TargetForm::Authority);
    assert_eq!(form("CONNECT [2001:db8::1]:443"), TargetForm::Authority);
    assert_eq!(form("OPTIONS *"), TargetForm::Asterisk);
    for line in [
        "GET *",
        "GET a.test:443",
        "GET a",
        "CONNECT /",
        "CONNECT a.test",
        "CONNECT http://a/",
        "CONNECT a:0",
        "CONNECT a:65536",
        "CONNECT a:+1",
        "CONNECT u@a:1",
        "CONNECT :1",
        "GET http://",
        "GET http://u@a/",
        "GET http://a:b/",
        "GET ://a/",
        "GET 1http://a/",
        "GET ?x",
    ] {
        assert_eq!(refused_request(format!("{line} HTTP/1.1\r\n\r\n")), BadTarget, "{line}");
    }
    assert_eq!(refused_request("GET /\x01 HTTP/1.1\r\n\r\n"), BadTarget);
    assert_eq!(refused_request("GET /\x7f HTTP/1.1\r\n\r\n"), BadTarget);
    let raw = b"GET /\xff\xe4 HTTP/1.1\r\n\r\n";
    assert_eq!(good_request(raw).target.of(raw), b"/\xff\xe4");
}

#[test]
fn rejects_two_content_lengths_that_differ() {
    assert_eq!(refused_lines("Content-Length: 1\r\ncontent-length: 2"), SeveralContentLengths);
    assert_eq!(
        refused_response("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        SeveralContentLengths
    );
}

#[test]
fn rejects_two_content_lengths_that_are_the_same() {
    assert_eq!(refused_lines("Content-Length: 1\r\nContent-Length: 1"), SeveralContentLengths);
}

#[test]
fn rejects_content_lengths_that_are_not_canonical() {
    for value in [
        "",
        "+1",
        "-1",
        "01",
        "00",
        "1,1",
        "1, 1",
        "1 1",
        "0x1",
        "1.0",
        "1e3",
        "18446744073709551616",
        "99999999999999999999",
        "\u{663}",
        "a",
        "1;",
    ] {
        assert_eq!(refused_lines(&format!("Content-Length: {value}")), BadContentLength, "{value}");
    }
    let framing =
        |value: &str| good_request(format!("POST / HTTP/1.1\r\nContent-Length: {value}\r\n\r\n")).framing;
    assert_eq!(framing("0"), BodyFraming::Length(0));
    assert_eq!(framing(" 10 \t"), BodyFraming::Length(10));
    assert_eq!(framing("18446744073709551615"), BodyFraming::Length(u64::MAX));
}

#[test]
fn rejects_a_length_beside_a_transfer_encoding_in_either_order() {
    assert_eq!(refused_lines("Content-Length: 1\r\nTransfer-Encoding: chunked"), LengthAndTransferEncoding);
    assert_eq!(refused_lines("Transfer-Encoding: chunked\r\nContent-Length: 0"), LengthAndTransferEncoding);
}

#[test]
fn rejects_every_transfer_encoding_but_chunked() {
    for value in [
        "",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked,",
        ",chunked",
        "identity",
        "chunke d",
        "\x0bchunked",
    ] {
        let reason = refused_lines(&format!("Transfer-Encoding: {value}"));
        assert!(matches!(reason, UnknownTransferEncoding | BadFieldValue), "{value}: {reason}");
    }
    assert_eq!(
        refused_lines("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        SeveralTransferEncodings
    );
    assert_eq!(
        refused_lines("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
        UnknownTransferEncoding
    );
    assert_eq!(
        refused_request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        TransferEncodingInHttp10
    );
    assert_eq!(
        good_request("POST / HTTP/1.1\r\ntransfer-ENCODING:\tChunked \r\n\r\n").framing,
        BodyFraming::Chunked
    );
    let error = HeadError { side: Side::Client, reason: UnknownTransferEncoding };
    assert_eq!((error.status(), error.to_string().as_str()), (501, "unknown transfer encoding"));
}

#[test]
fn rejects_line_ends_that_are_not_crlf() {
    assert_eq!(refused_lines("A: b\nC: d"), BareLf);
    assert_eq!(refused_lines("A: b\n"), BareLf);
    assert_eq!(refused_lines("A: b\n\nGET / HTTP/1.1"), BareLf);
    assert_eq!(refused_lines("A: b\rC: d"), BareCr);
    assert_eq!(refused_lines("A: b\r"), BareCr);
    assert_eq!(refused_lines("A\r: b"), BareCr);
    assert_eq!(refused_lines("A: \r b"), BareCr);
    assert_eq!(refused_request("GET / HTTP/1.1\r\nA: b\n\n"), BareLf);
    assert_eq!(refused_request("GET / HTTP/1.1\r\nA: b\n\r\n"), BareLf);
    assert_eq!(refused_request("GET / HTTP/1.1\r\nA: b\r\n\n"), BareLf);
    assert_eq!(refused_request("GET / HTTP/1.1\r\n\n"), BareLf);
    assert_eq!(refused_request("GET / HTTP/1.1\r\nA:\nB: c\r\n\r\n"), BareLf);
}

#[test]
fn rejects_continued_lines_and_stray_white_space() {
    assert_eq!(refused_lines("A: b\r\n c"), ObsFold);
    assert_eq!(refused_lines("A: b\r\n\tContent-Length: 5"), ObsFold);
    assert_eq!(refused_lines("A:\r\n b"), ObsFold);
    assert_eq!(refused_request("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), SpaceBeforeFirstField);
    assert_eq!(refused_lines("Content-Length : 5"), SpaceBeforeColon);
    assert_eq!(refused_lines("Transfer-Encoding\t: chunked"), SpaceBeforeColon);
    assert_eq!(refused_response("HTTP/1.1 200 OK\r\nA : b\r\n\r\n"), SpaceBeforeColon);
    assert_eq!(refused_response("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"), ObsFold);
}

#[test]
fn accepts_exactly_the_token_characters_in_names() {
    for b in 0..=255_u8 {
        let bytes = [b"GET / HTTP/1.1\r\nA", &[b][..], b"B: c\r\n\r\n"].concat();
        let token = b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b) || b == b':';
        assert_eq!(matches!(request(&bytes), Ok(Parsed::Done { .. })), token, "{b:#x}");
        let bytes = [b"G", &[b][..], b"T / HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(matches!(request(&bytes), Ok(Parsed::Done { .. })), token && b != b':', "method {b:#x}");
        let bytes = [b"GET / HTTP/1.1\r\nA: x", &[b][..], b"y\r\n\r\n"].concat();
        let value = b >= b' ' && b != 0x7f || b == b'\t';
        assert_eq!(matches!(request(&bytes), Ok(Parsed::Done { .. })), value, "value {b:#x}");
    }
    assert_eq!(refused_lines(": b"), EmptyFieldName);
    assert_eq!(refused_lines("no colon"), BadFieldName);
    assert_eq!(refused_lines("A\0: b"), Nul);
    assert_eq!(refused_lines("A: b\0"), Nul);
    assert_eq!(refused_lines("A: \x01"), BadFieldValue);
}

#[test]
fn rejects_hosts_that_could_be_two() {
    assert_eq!(refused_lines("Host: a"), SeveralHosts);
    for host in ["a, b", "a b", "a/b", "u@a", "a?b", "a#b", "a\\b", "a,b", "<a>"] {
        assert_eq!(refused_request(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), BadHost, "{host}");
    }
    for host in ["", "a.test", "a_b.test:80", "[::1]:8080", "192.0.2.1", "xn--a", "ä.test"] {
        good_request(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
    good_response("HTTP/1.1 200 OK\r\nHost: a\r\nHost: b c\r\n\r\n");
}

#[test]
fn connection_options_decide_about_the_connection() {
    let facts = |version: &str, lines: &str| {
        let head = good_request(format!("GET / HTTP/{version}\r\n{lines}\r\n"));
        (head.keep_alive, head.upgrade, head.has_connection_options)
    };
    assert_eq!(facts("1.1", ""), (true, false, false));
    assert_eq!(facts("1.1", "Connection: CLOSE\r\n"), (false, false, false));
    assert_eq!(facts("1.1", "Connection: keep-alive\r\nConnection: x,, close\r\n"), (false, false, true));
    assert_eq!(facts("1.0", ""), (false, false, false));
    assert_eq!(facts("1.0", "Connection: Keep-Alive\r\n"), (true, false, false));
    assert_eq!(
        facts("1.1", "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"),
        (true, true, false)
    );
    assert_eq!(facts("1.1", "Upgrade: websocket\r\n"), (true, false, false));
    assert_eq!(facts("1.1", "Connection: upgrade\r\n"), (true, false, false));
    assert_eq!(facts("1.0", "Connection: upgrade\r\nUpgrade: websocket\r\n"), (false, false, false));
    for name in ["Content-Length", "transfer-encoding", "Host"] {
        assert_eq!(refused_lines(&format!("Connection: close, {name}")), ConnectionNamesFraming, "{name}");
    }
}

#[test]
fn expectations_and_trailers_are_noted() {
    let head = good_request(
        "POST / HTTP/1.1\r\nExpect: 100-Continue\r\nTE: gzip, trailers\r\nContent-Length: 3\r\n\r\n",
    );
    assert!(head.expect_continue && head.te_trailers);
    assert!(!good_request("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expect_continue);
    assert!(!good_request("POST / HTTP/1.1\r\nTE: deflate\r\n\r\n").te_trailers);
}

#[test]
fn a_connect_request_has_no_body() {
    assert!(good_request("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 0\r\n\r\n").connect);
    assert_eq!(refused_request("CONNECT a:1 HTTP/1.1\r\nContent-Length: 1\r\n\r\n"), BodyOnConnect);
    assert_eq!(refused_request("CONNECT a:1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), BodyOnConnect);
}

#[test]
fn heads_have_limits() {
    let limits = HeadLimits { head_size_max: 100, headers_max: 3, line_len_max: 40, mends: false };
    let verdict = |bytes: &str| match request_with(bytes.as_bytes(), &limits) {
        Ok(parsed) => Ok(matches!(parsed, Parsed::Done { .. })),
        Err(error) => Err((error.reason, error.status())),
    };
    let long = "x".repeat(60);
    assert_eq!(verdict("GET / HTTP/1.1\r\nA: b\r\nA: b\r\nA: b\r\n\r\n"), Ok(true));
    let many = "GET / HTTP/1.1\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n";
    assert_eq!(verdict(many), Err((TooManyFields { max: 3 }, 431)));
    assert_eq!(verdict(&format!("GET /{long} HTTP/1.1\r\n\r\n")), Err((FirstLineTooLong { max: 40 }, 414)));
    assert_eq!(verdict(&format!("GET /{}", "x".repeat(37))), Err((FirstLineTooLong { max: 40 }, 414)));
    assert_eq!(verdict(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(26))), Ok(true));
    assert_eq!(
        verdict(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(27))),
        Err((FirstLineTooLong { max: 40 }, 414))
    );
    assert_eq!(
        verdict(&format!("GET / HTTP/1.1\r\nA: {long}\r\n\r\n")),
        Err((FieldLineTooLong { max: 40 }, 431))
    );
    let large = format!("GET / HTTP/1.1\r\nA: {long}\r\nB: {long}\r\n\r\n");
    assert_eq!(verdict(&large), Err((HeadTooLarge { max: 100 }, 431)));
    assert_eq!(verdict(&large[..101]), Err((HeadTooLarge { max: 100 }, 431)));
    assert_eq!(verdict(&large[..100]), Ok(false));
}

#[test]
fn every_refusal_has_a_status_for_the_client() {
    let status = |side, reason| HeadError { side, reason }.status();
    let table = [
        (BadMethod, 400),
        (SeveralHosts, 400),
        (LengthAndTransferEncoding, 400),
        (HeadTooLarge { max: 1 }, 431),
        (TooManyFields { max: 1 }, 431),
        (FieldLineTooLong { max: 1 }, 431),
        (FirstLineTooLong { max: 1 }, 414),
        (UnknownTransferEncoding, 501),
        (UnsupportedVersion, 505),
        (Http2Preface, 505),
    ];
    for (reason, expected) in table {
        assert_eq!(status(Side::Client, reason), expected, "{reason}");
        assert_eq!(status(Side::Server, reason), 502, "{reason}");
    }
}

#[test]
fn more_fields_than_usual_are_read_up_to_the_limit() {
    let lines = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
    for count in [63, 64, 65, 256] {
        let parsed = parse_request_head(lines(count).as_bytes(), &HeadLimits::default()).unwrap();
        let Parsed::Done { value, .. } = parsed else { panic!("{count}") };
        assert_eq!(value.fields.len(), count);
    }
    assert_eq!(refused_request(lines(257)), TooManyFields { max: 256 });
}

#[test]
fn a_head_that_trickles_in_is_not_searched_again_and_again() {
    let limits =
        HeadLimits { head_size_max: 1 << 20, headers_max: 200_000, line_len_max: 1 << 20, mends: false };
    let bytes = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(80_000));
    let (mut head, mut progress) = (RequestHead::default(), HeadProgress::default());
    for end in 0..bytes.len() {
        let parsed = head.parse_into(&bytes.as_bytes()[..end], &mut progress, &limits).unwrap();
        assert_eq!(parsed, Parsed::NeedMore);
    }
    assert!(matches!(head.parse_into(bytes.as_bytes(), &mut progress, &limits), Ok(Parsed::Done { .. })));
}

#[test]
fn reads_status_lines() {
    let raw = b"HTTP/1.1 404 Not \xff Found\r\nContent-Length: 3\r\n\r\n";
    let head = good_response(raw);
    assert_eq!(
        (head.status, head.reason.of(raw), head.framing),
        (404, &b"Not \xff Found"[..], BodyFraming::Length(3))
    );
    assert_eq!(good_response("HTTP/1.0 200 \r\n\r\n").reason.range().len(), 0);
    assert_eq!(good_response("HTTP/1.1 200\r\n\r\n").status, 200);
    assert_eq!(good_response("HTTP/1.1 999 x\r\n\r\n").status, 999);
    for line in [
        "HTTP/1.1 099 x",
        "HTTP/1.1 20 x",
        "HTTP/1.1 2000 x",
        "HTTP/1.1  200 x",
        "HTTP/1.1 +20 x",
        "HTTP/1.1 2x0 x",
        "HTTP/1.1",
        "200 OK",
        "ICY 200 OK",
        "http/1.1 200 OK",
        " HTTP/1.1 200 OK",
        "HTTP/1.1 200 \x01",
        "HTTP/1.1 200\tOK",
    ] {
        let reason = refused_response(format!("{line}\r\nA: b\r\n\r\n"));
        assert!(matches!(reason, BadStatusLine | UnsupportedVersion), "{line}: {reason}");
    }
    assert_eq!(refused_response("HTTP/2.0 200 OK\r\n\r\n"), UnsupportedVersion);
    assert_eq!(refused_response("HTTP/1.1 200 OK\nA: b\r\n\r\n"), BareLf);
    assert_eq!(refused_response("HTTP/1.1 200 O\rK\r\n\r\n"), BareCr);
    assert_eq!(refused_response("HTTP/1.1 200 O\0K\r\n\r\n"), Nul);
}

#[test]
fn a_response_without_framing_ends_with_the_connection() {
    let head = good_response("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!((head.framing, head.keep_alive), (BodyFraming::UntilClose, false));
    assert_eq!(
        good_response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").framing,
        BodyFraming::Chunked
    );
    assert_eq!(
        refused_response("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        TransferEncodingInHttp10
    );
}

#[test]
fn responses_that_cannot_have_a_body_have_none() {
    let to = |head, connect| RequestFacts { head, connect };
    let framing = |text: &str, request| good_response_to(text, request).framing;
    assert_eq!(framing("HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n", to(false, false)), BodyFraming::None);
    assert_eq!(
        framing("HTTP/1.1 304 x\r\nTransfer-Encoding: chunked\r\n\r\n", to(false, false)),
        BodyFraming::None
    );
    assert_eq!(framing("HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\n", to(true, false)), BodyFraming::None);
    assert_eq!(framing("HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n", to(false, false)), BodyFraming::None);
    assert_eq!(
        framing("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n", to(false, false)),
        BodyFraming::None
    );
    for lines in [
        "",
        "Content-Length: 1\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert_eq!(framing(&format!("HTTP/1.1 200 x\r\n{lines}\r\n"), to(false, true)), BodyFraming::None);
    }
    assert_eq!(
        framing("HTTP/1.1 407 x\r\nContent-Length: 1\r\n\r\n", to(false, true)),
        BodyFraming::Length(1)
    );
    for status in [100, 103, 204] {
        for line in ["Content-Length: 1", "Transfer-Encoding: chunked"] {
            assert_eq!(refused_response(format!("HTTP/1.1 {status} x\r\n{line}\r\n\r\n")), BodyNotAllowed);
        }
    }
    assert!(good_response("HTTP/1.1 103 Early Hints\r\n\r\n").interim);
    assert!(!good_response("HTTP/1.1 101 x\r\n\r\n").interim);
    assert!(good_response("HTTP/1.1 204 x\r\n\r\n").keep_alive);
}

#[test]
fn edited_headers_are_judged_like_heads_off_the_wire() {
    use crate::flow::Headers;
    let both = Headers::from_pairs([("Content-Length", "1"), ("Transfer-Encoding", "chunked")]);
    let v = HttpVersion::Http11;
    assert_eq!(request_framing(v, false, &both).unwrap_err().reason, LengthAndTransferEncoding);
    assert_eq!(response_framing(v, 200, RequestFacts::default(), &both).unwrap_err().status(), 502);
    let length = Headers::from_pairs([("Content-Length", "7")]);
    assert_eq!(request_framing(v, false, &length), Ok(BodyFraming::Length(7)));
    assert_eq!(response_framing(v, 304, RequestFacts::default(), &length), Ok(BodyFraming::None));
}

#[test]
fn tells_http_from_other_protocols() {
    let table: [(&[u8], Sniff); 22] = [
        (b"", Sniff::NeedMore),
        (b"GE", Sniff::NeedMore),
        (b"GET", Sniff::NeedMore),
        (b"GET ", Sniff::Http),
        (b"POST / HTTP/1.1\r\n", Sniff::Http),
        (b"P", Sniff::NeedMore),
        (b"PRI", Sniff::NeedMore),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Sniff::Http2Preface),
        (b"PRI * HTTP/1.1\r\n", Sniff::Http),
        (b"\x16\x03\x01", Sniff::NotHttp),
        (b"\0", Sniff::NotHttp),
        (b" GET", Sniff::NotHttp),
        (b"SSH-2.0-x\r\n", Sniff::NotHttp),
        (b"EHLO host\r\n", Sniff::NotHttp),
        (b"EHLO ho", Sniff::NeedMore),
        (b"PURGE /x HTTP/1.1\r\n", Sniff::Http),
        (b"PURGE /x HTT", Sniff::NeedMore),
        (b"M-SEARCH * HTTP/1.1\r\n", Sniff::Http),
        (b"RPC_IN_DATA /a HTTP/1.1\r\n", Sniff::Http),
        (b"STARTTLS\r\n", Sniff::NotHttp),
        (b"abcdefghijklmnopqrstuvwxyzabcdefg", Sniff::NotHttp),
        (b"-", Sniff::NotHttp),
    ];
    for (bytes, expected) in table {
        let found = looks_like_http(bytes);
        let shown = bytes.escape_ascii();
        // A dash may begin nothing, but that is known only at the next byte.
        if bytes == b"-" {
            assert_ne!(found, Sniff::Http);
            continue;
        }
        assert_eq!(found, expected, "{shown}");
        let first = (0..=bytes.len())
            .map(|cut| looks_like_http(&bytes[..cut]))
            .find(|sniff| *sniff != Sniff::NeedMore);
        assert_eq!(first.unwrap_or(Sniff::NeedMore), expected, "{shown} byte by byte");
    }
    assert_eq!(looks_like_http(&[b"PURGE /", &[b'x'; 5000][..]].concat()), Sniff::Http);
}

#[test]
fn splits_targets_and_authorities_strictly() {
    assert_eq!(split_absolute(b"http://a.test/x?y"), Some(("http", "a.test", None, &b"/x?y"[..])));
    assert_eq!(split_absolute(b"https://[::1]:8443"), Some(("https", "::1", Some(8443), &b""[..])));
    assert_eq!(split_absolute(b"http://a?q"), Some(("http", "a", None, &b"?q"[..])));
    for bad in [
        "",
        "http",
        "http:",
        "http:/a",
        "http:///a",
        "http://a:/",
        "http://[::1",
        "http://[::1]x/",
        "http://[a]/",
        "http://a:1:2/",
    ] {
        assert_eq!(split_absolute(bad.as_bytes()), None, "{bad}");
    }
    assert_eq!(split_authority(b"a.test:443"), Ok(("a.test", 443)));
    assert_eq!(split_authority(b"[::1]:1"), Ok(("::1", 1)));
    assert_eq!(split_authority(b"a"), Err(TargetError::NoPort));
    assert_eq!(split_authority(b"a:"), Err(TargetError::BadPort));
    assert_eq!(split_authority(b"a:00080"), Ok(("a", 80)));
    assert_eq!(split_authority(b"::1:80"), Err(TargetError::BadHost));
    assert_eq!(split_authority(b"a\xff:80"), Err(TargetError::BadHost));
}

#[test]
fn random_changes_never_panic_and_never_change_the_verdict_with_the_split() {
    let samples: [&[u8]; 4] = [
        BROWSER.as_bytes(),
        b"POST http://a.test:80/x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n",
        b"\r\nCONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nProxy-Connection: keep-alive\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: keep-alive, Upgrade\r\nUpgrade: x\r\n\r\n",
    ];
    let (mut dice, limits) = (Dice(0x9e37_79b9_7f4a_7c15), HeadLimits::default());
    for turn in 0..100_000 {
        let bytes = dice.mutate(samples[turn % 4]);
        let cuts = [dice.roll(bytes.len()), bytes.len()];
        let facts = RequestFacts { head: turn % 3 == 0, connect: turn % 5 == 0 };
        let requests = || {
            let (mut head, mut progress) = (RequestHead::default(), HeadProgress::default());
            move |bytes: &[u8]| request_step(&mut head, &mut progress, bytes, &limits)
        };
        let responses = || {
            let (mut head, mut progress) = (ResponseHead::default(), HeadProgress::default());
            move |bytes: &[u8]| response_step(&mut head, &mut progress, bytes, facts, &limits)
        };
        let shown = bytes.escape_ascii();
        if turn % 4 == 3 {
            let whole = fed(&bytes, std::iter::empty(), responses());
            assert_eq!(fed(&bytes, cuts.into_iter(), responses()), whole, "{shown}");
        } else {
            let whole = fed(&bytes, std::iter::empty(), requests());
            assert_eq!(fed(&bytes, cuts.into_iter(), requests()), whole, "{shown}");
        }
        looks_like_http(&bytes);
    }
}
