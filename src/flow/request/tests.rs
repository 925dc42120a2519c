//! Requests as addons see and change them.

use super::*;

fn request(scheme: &'static str, port: u16, host_header: &str) -> Request {
    let mut request =
        Request::make("GET", "http://192.0.2.7/a?b", b"", Headers::default(), 1.0).expect("a URL");
    request.scheme = Bytes::from_static(scheme.as_bytes());
    request.port = port;
    request.headers = Headers::from_pairs([("Host", host_header)]);
    request
}

fn get(url: &str) -> Request {
    Request::make("GET", url, b"", Headers::default(), 1.0).expect(url)
}

#[test]
fn urls_name_the_target_and_pretty_urls_the_host_field() {
    let r = request("https", 443, "example.test:443");
    assert_eq!(r.url(), "https://192.0.2.7/a?b");
    assert_eq!(r.pretty_url(), "https://example.test/a?b");
    assert_eq!(r.pretty_host(), "example.test");
    assert_eq!(r.host_header().as_deref(), Some("example.test:443"));
    assert_eq!(request("http", 8080, "[2001:db8::1]:8080").pretty_url(), "http://[2001:db8::1]:8080/a?b");
    assert_eq!(
        request("http", 8080, "name.test").pretty_url(),
        "http://name.test/a?b",
        "the port of the field"
    );
    assert_eq!(request("http", 80, "").pretty_url(), "http://192.0.2.7/a?b");
    assert_eq!(request("http", 80, "a b").pretty_host(), "a b");
}

#[test]
fn a_connect_request_is_shown_as_host_and_port() {
    let mut r = request("", 443, "x");
    assert_eq!(r.url(), "192.0.2.7:443");
    r.method = Bytes::from_static(b"Connect");
    r.authority = Bytes::from_static(b"example.test:443");
    assert_eq!(r.pretty_url(), "example.test:443");
    assert_eq!(r.first_line_format().as_str(), "authority");
    assert_eq!(r.method_upper(), "CONNECT");
}

#[test]
fn an_http2_request_has_its_host_in_the_authority() {
    let mut r = request("https", 443, "old.test");
    r.http_version = Bytes::from_static(b"HTTP/2.0");
    r.set_host_header(Some("bücher.test"));
    assert_eq!(&r.authority[..], b"xn--bcher-kva.test");
    assert_eq!(r.headers.get("host").as_deref(), Some("bücher.test"));
    assert_eq!(r.pretty_url(), "https://bücher.test/a?b");
    r.set_host_header(None);
    assert_eq!((r.authority.len(), r.host_header()), (0, None));
    r.set_host_header(Some("new.test"));
    assert!(!r.headers.contains("host"), "HTTP/2 has no Host field unless there was one");
}

#[test]
fn a_new_host_or_port_is_told_to_the_server() {
    let mut r = request("http", 80, "old.test");
    r.set_host("new.test");
    assert_eq!(r.headers.get("host").as_deref(), Some("new.test"));
    r.set_port(8080);
    assert_eq!(r.headers.get("host").as_deref(), Some("new.test:8080"));
    r.authority = Bytes::from_static(b"old.test");
    r.set_url("https://[2001:db8::1]/x").expect("a URL");
    assert_eq!(r.headers.get("host").as_deref(), Some("[2001:db8::1]"));
    assert_eq!((&r.authority[..], r.host.as_str(), r.port), (&b"[2001:db8::1]"[..], "2001:db8::1", 443));
    assert_eq!(r.first_line_format(), FirstLineFormat::Absolute);
    assert!(r.set_url("nowhere").is_err());
    assert_eq!(r.host, "2001:db8::1", "unchanged");
}

#[test]
fn a_made_request_goes_where_its_url_says() {
    let r = Request::make("POST", "http://a.test:81/x?y=z", b"body", Headers::default(), 2.0).expect("a URL");
    assert_eq!((r.host.as_str(), r.port, r.url().as_str()), ("a.test", 81, "http://a.test:81/x?y=z"));
    assert_eq!(r.headers.get("content-length").as_deref(), Some("4"));
    assert!(Request::make("GET", "a.test", b"", Headers::default(), 0.0).is_err());
}

#[test]
fn the_query_can_be_read_and_changed_in_place() {
    let mut r = get("http://a.test/p;x?a=1&b=%20&a=2#f");
    assert_eq!(r.query().get_all("a"), ["1", "2"]);
    r.query_mut().set("b", "ü&");
    assert_eq!(&r.path[..], b"/p;x?a=1&b=%C3%BC%26&a=2#f");
    r.query_mut().clear();
    assert_eq!(&r.path[..], b"/p;x#f");
    r.path = Bytes::from_static(b"/raw?%zz&&=");
    assert_eq!(r.query().len(), 2);
    let _ = r.query_mut().get("a");
    assert_eq!(&r.path[..], b"/raw?%zz&&=", "reading changes nothing");
    r.path = Bytes::from_static(b"*");
    assert!(r.query().is_empty() && r.url().ends_with("a.test"));
}

#[test]
fn path_components_are_without_their_encoding() {
    let mut r = get("http://a.test/one/two%20and%2Fhalf//three;p?q");
    assert_eq!(r.path_components(), ["one", "two and/half", "three"]);
    r.set_path_components(["x y", "/"]);
    assert_eq!(&r.path[..], b"/x%20y/%2F;p?q");
}

#[test]
fn cookies_of_a_request_can_be_read_and_changed_in_place() {
    let mut r = get("http://a.test/");
    r.headers = Headers::from_pairs([("Cookie", "a=1; b=2"), ("cookie", "c=\"3;\"")]);
    assert_eq!(r.cookies().get("c").as_deref(), Some("3;"));
    r.cookies_mut().set("a", "x y");
    assert_eq!(r.headers.get_all("cookie"), ["a=\"x y\"; b=2; c=\"3;\""]);
}

#[test]
fn forms_can_be_read_and_changed_in_place() {
    let mut r = get("http://a.test/");
    assert!(r.urlencoded_form().is_empty() && r.multipart_form().is_empty());
    r.urlencoded_form_mut().add("k", "v 1");
    assert_eq!(r.headers.get("content-type").as_deref(), Some("application/x-www-form-urlencoded"));
    assert_eq!(r.headers.get("content-length").as_deref(), Some("5"));
    r.urlencoded_form_mut().add("l", "");
    assert_eq!(r.content.as_deref(), Some(&b"k=v+1&l="[..]));
    r.set_content(Some(b"bare&x=1"));
    r.urlencoded_form_mut().set("x", "2");
    assert_eq!(r.content.as_deref(), Some(&b"bare&x=2"[..]));
    r.encode("gzip").expect("known");
    assert_eq!(r.urlencoded_form().get("x").as_deref(), Some("2"));

    r.multipart_form_mut().add("file", "line\r\n");
    assert!(r.content_type().starts_with("multipart/form-data; boundary=-----"));
    assert_eq!(r.multipart_form().get("file").as_deref(), Some("line\r\n"));
    r.headers.set("Content-Type", "multipart/form-data; boundary=B");
    r.set_multipart_form(&MultiDict::from_pairs([("a", "b")]));
    assert_eq!(r.content_type(), "multipart/form-data; boundary=B");
    r.set_multipart_form(&MultiDict::from_pairs([("a", "--B")]));
    assert_ne!(r.content_type(), "multipart/form-data; boundary=B", "the boundary stands in the content");
    assert_eq!(r.multipart_form().get("a").as_deref(), Some("--B"));
}

#[test]
fn header_helpers_ask_for_bodies_that_can_be_read() {
    let mut r = get("http://a.test/");
    r.headers = Headers::from_pairs([
        ("If-None-Match", "x"),
        ("If-Modified-Since", "y"),
        ("Accept-Encoding", "gzip;q=0.5, sdch, BR, zstd"),
    ]);
    r.anticache();
    assert_eq!(r.headers.len(), 1);
    r.constrain_encoding();
    assert_eq!(r.headers.get("accept-encoding").as_deref(), Some("gzip;q=0.5, BR, zstd"));
    r.anticomp();
    assert_eq!(r.headers.get("accept-encoding").as_deref(), Some("identity"));
}
