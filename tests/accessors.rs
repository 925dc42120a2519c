//! Accessors of requests and responses give what mitmproxy's give: `tests/data/accessors.json` holds what mitmproxy
//! 12.2 answered (`tests/oracle/accessors.py` asked it).

use std::fs;

use bytes::Bytes;
use ringtap::flow::{Headers, Message, MultiDict, Request, Response, charset, date, url};
use ringtap::flow::{SetCookie, format_cookie, format_set_cookie, parse_cookie, parse_set_cookie};
use serde_json::{Value, json};

fn answers(key: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/accessors.json");
    let all: Value = serde_json::from_str(&fs::read_to_string(path).expect("the answers")).expect("JSON");
    let found = all[key].as_array().cloned().unwrap_or_default();
    assert!(!found.is_empty(), "no answers for {key}");
    found
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn pairs(dict: &MultiDict) -> Value {
    dict.items().map(|(name, value)| json!([name, value])).collect()
}

/// Compares all answers before it complains.
#[derive(Default)]
struct Complaints(Vec<String>);

impl Complaints {
    fn compare(&mut self, what: &str, asked: &Value, ours: Value, theirs: &Value) {
        if ours != *theirs {
            self.0.push(format!("{what} of {asked}:\n   ours {ours}\n theirs {theirs}"));
        }
    }

    fn finish(self) {
        assert!(self.0.is_empty(), "{}:\n{}", self.0.len(), self.0.join("\n"));
    }
}

fn request(case: &Value) -> Request {
    let or = |key: &str, default: &'static str| {
        Bytes::copy_from_slice(case[key].as_str().unwrap_or(default).as_bytes())
    };
    let fields = case["fields"].as_array().cloned().unwrap_or_default();
    let headers = Headers::from_pairs(fields.iter().map(|field| (text(&field[0]), text(&field[1]))));
    let mut request = Request::make("GET", "http://192.0.2.7/", b"", headers, 1.0).expect("a URL");
    request.headers.remove("content-length");
    request.headers = Headers::from_pairs(fields.iter().map(|field| (text(&field[0]), text(&field[1]))));
    request.host = "192.0.2.7".into();
    request.port = case["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(80);
    request.method = or("method", "GET");
    request.scheme = or("scheme", "http");
    request.path = or("path", "/");
    request.authority = or("authority", "");
    request.http_version = or("version", "HTTP/1.1");
    request
}

#[test]
fn urls_hosts_and_paths_are_mitmproxy_s() {
    let mut complaints = Complaints::default();
    for entry in answers("requests") {
        let (case, found) = (&entry[0], &entry[1]);
        let mut r = request(case);
        // brackets around IPv6 addresses are ours: without them the URL names no port
        let theirs = |key: &str| {
            json!(text(&found[key]).replace("2001:db8::1", "[2001:db8::1]").replace("/::1", "/[::1]"))
        };
        complaints.compare("url", case, json!(r.url()), &theirs("url"));
        if case["method"] != "CONNECT" {
            complaints.compare("pretty_url", case, json!(r.pretty_url()), &theirs("pretty_url"));
        }
        complaints.compare("pretty_host", case, json!(r.pretty_host()), &found["pretty_host"]);
        complaints.compare("host_header", case, json!(r.host_header()), &found["host_header"]);
        let form = r.first_line_format().as_str();
        complaints.compare("first_line_format", case, json!(form), &found["first_line_format"]);
        if case["method"] == "CONNECT" {
            // there is no path: mitmproxy takes host and port for one
            continue;
        }
        complaints.compare("query", case, pairs(&r.query()), &found["query"]);
        complaints.compare("path_components", case, json!(r.path_components()), &found["path_components"]);
        r.query_mut().set("new", "x y&");
        complaints.compare(
            "query set",
            case,
            json!(String::from_utf8_lossy(&r.path)),
            &found["path_with_query"],
        );
        let mut r = request(case);
        r.set_path_components(["one", "t/o"]);
        let path = String::from_utf8_lossy(&r.path);
        complaints.compare("path_components set", case, json!(path), &found["path_with_components"]);
    }
    complaints.finish();
}

#[test]
fn urls_come_apart_as_mitmproxy_s() {
    let mut complaints = Complaints::default();
    for entry in answers("urls") {
        if !text(&entry[0]).is_ascii() {
            // international names are refused there
            continue;
        }
        let parts = url::parse(text(&entry[0])).ok();
        let ours = parts.map(|parts| json!([parts.scheme, parts.host, parts.port, parts.path]));
        complaints.compare("parts", &entry[0], json!(ours), &entry[1]);
    }
    complaints.finish();
}

#[test]
fn cookies_are_mitmproxy_s() {
    let mut complaints = Complaints::default();
    for entry in answers("cookies") {
        complaints.compare("cookies", &entry[0], json!(parse_cookie(text(&entry[0]))), &entry[1]);
    }
    for entry in answers("cookies_formatted") {
        let dict = MultiDict::from_pairs(parse_cookie(text(&entry[0])));
        complaints.compare("field", &entry[0], json!(format_cookie(&dict)), &entry[1]);
    }
    // mitmproxy takes what follows a short `Expires` for a part of the date, whatever it is
    let is_short_date = |cookie: &SetCookie| {
        let expires = cookie.attributes.iter().filter(|(name, _)| name.eq_ignore_ascii_case("expires"));
        expires.filter_map(|(_, value)| value.as_ref()).any(|value| value.len() <= 3)
    };
    for entry in answers("set_cookies") {
        let cookies = parse_set_cookie(text(&entry[0]));
        if cookies.iter().any(is_short_date) {
            continue;
        }
        let cookie = |cookie: &SetCookie| json!([cookie.name, cookie.value, cookie.attributes]);
        complaints.compare("cookies", &entry[0], cookies.iter().map(cookie).collect(), &entry[1]);
    }
    for entry in answers("set_cookies_formatted") {
        let cookies = parse_set_cookie(text(&entry[0]));
        if cookies.iter().any(is_short_date) {
            continue;
        }
        let field = cookies.iter().map(format_set_cookie).collect::<Vec<_>>().join(", ");
        complaints.compare("field", &entry[0], json!(field), &entry[1]);
    }
    complaints.finish();
}

#[test]
fn texts_are_mitmproxy_s() {
    let mut complaints = Complaints::default();
    for entry in answers("texts") {
        let (kind, body) = (text(&entry[0]), text(&entry[1]).chars().map(|c| c as u8).collect::<Vec<u8>>());
        let plain = |name: &str| name.trim_matches('"').replace("utf-8", "utf8").to_lowercase();
        let ours = plain(&charset::infer(kind, &body));
        complaints.compare("charset", &entry, json!(ours), &json!(plain(text(&entry[2]))));
        let mut response = Response::make(200, b"", Headers::default(), 1.0);
        if !kind.is_empty() {
            response.headers.set("Content-Type", kind);
        }
        response.set_raw_content(Some(Bytes::from(body)));
        // the charset as browsers know it has more characters than Python's
        if !(kind.contains("euc-kr") && entry[3].is_null()) {
            complaints.compare("text", &entry, json!(response.get_text().ok()), &entry[3]);
        }
    }
    complaints.finish();
}

#[test]
fn dates_are_python_s() {
    let mut complaints = Complaints::default();
    for entry in answers("dates") {
        complaints.compare("date", &entry[0], json!(date::parse(text(&entry[0]))), &entry[1]);
    }
    complaints.finish();
}

#[test]
fn forms_are_mitmproxy_s() {
    let mut complaints = Complaints::default();
    for entry in answers("forms") {
        let headers = Headers::from_pairs([("Content-Type", "application/x-www-form-urlencoded")]);
        let body = text(&entry[0]).as_bytes();
        let mut r = Request::make("POST", "http://a.test/", body, headers, 1.0).expect("a URL");
        complaints.compare("form", &entry[0], pairs(&r.urlencoded_form()), &entry[1]);
        r.urlencoded_form_mut().set("new", "");
        let content = r.content.as_deref().map(String::from_utf8_lossy);
        complaints.compare("form set", &entry[0], json!(content), &entry[2]);
    }
    complaints.finish();
}
