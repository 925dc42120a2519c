//! What addons do with responses: making them, cookies, dates.

use bytes::Bytes;

use super::cookies::{self, SetCookie, shifted};
use super::message::Message;
use super::{BodyStream, Headers, Response, date, status::reason_phrase};

impl Response {
    /// A response of our own, HTTP/1.1, with a `Content-Length` and the status code's phrase. `now` is in Unix
    /// seconds.
    pub fn make(status_code: u16, content: &[u8], headers: Headers, now: f64) -> Self {
        let mut response = Self {
            http_version: Bytes::from_static(b"HTTP/1.1"),
            status_code,
            reason: Bytes::from_static(reason_phrase(status_code).as_bytes()),
            headers,
            content: None,
            trailers: None,
            timestamp_start: now,
            timestamp_end: Some(now),
            stream: BodyStream::Auto,
        };
        response.set_content(Some(content));
        response
    }

    /// The reason phrase as text: Latin-1 (RFC 9112 §4 allows bytes above ASCII).
    pub fn reason_text(&self) -> String {
        self.reason.iter().map(|byte| char::from(*byte)).collect()
    }

    /// Replaces the reason phrase. Characters outside Latin-1, and line ends, become `?`.
    pub fn set_reason(&mut self, reason: &str) {
        let byte =
            |c: char| u8::try_from(u32::from(c)).ok().filter(|b| !b"\r\n\0".contains(b)).unwrap_or(b'?');
        self.reason = reason.chars().map(byte).collect();
    }

    /// The cookies of all `Set-Cookie` fields.
    pub fn cookies(&self) -> Vec<SetCookie> {
        let values = self.headers.get_all("set-cookie");
        values.iter().flat_map(|value| cookies::parse_set_cookie(value)).collect()
    }

    /// The first cookie of that name.
    pub fn cookie(&self, name: &str) -> Option<SetCookie> {
        self.cookies().into_iter().find(|cookie| cookie.name == name)
    }

    /// Replaces the cookies, a field each.
    pub fn set_cookies(&mut self, cookies: &[SetCookie]) {
        self.headers.set_all("Set-Cookie", cookies.iter().map(cookies::format_set_cookie));
    }

    /// Makes a recorded response look as if it were made `now` (Unix seconds): `Date`, `Expires`, `Last-Modified`
    /// and the dates of cookies move by the time that passed since it was received. What is no date stays.
    pub fn refresh(&mut self, now: f64) {
        let delta = now - self.timestamp_start;
        for name in ["date", "expires", "last-modified"] {
            if let Some(unix) = self.headers.get(name).as_deref().and_then(date::parse) {
                self.headers.set(name, date::format(shifted(unix, delta)));
            }
        }
        let values = self.headers.get_all("set-cookie");
        if !values.is_empty() {
            let refreshed = values.into_iter().map(|v| cookies::refresh_set_cookie(&v, delta).unwrap_or(v));
            let refreshed: Vec<_> = refreshed.collect();
            self.headers.set_all("Set-Cookie", refreshed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_response_has_its_phrase_and_length() {
        let response = Response::make(404, b"gone", Headers::from_pairs([("X", "y")]), 5.0);
        assert_eq!((response.reason_text().as_str(), response.timestamp_end), ("Not Found", Some(5.0)));
        assert_eq!(response.headers.to_bytes(), b"X: y\r\nContent-Length: 4\r\n");
        let gzip = Response::make(200, b"zipped", Headers::from_pairs([("Content-Encoding", "gzip")]), 5.0);
        assert_ne!(gzip.raw_content().map(|raw| &raw[..]), Some(&b"zipped"[..]));
        assert_eq!(gzip.get_content().expect("decodes"), &b"zipped"[..]);
    }

    #[test]
    fn a_reason_cannot_end_the_line() {
        let mut response = Response::make(200, b"", Headers::default(), 0.0);
        response.set_reason("d\u{e9}j\u{e0} \u{20ac}\r\nX: y");
        assert_eq!(&response.reason[..], b"d\xe9j\xe0 ???X: y");
        assert_eq!(response.reason_text(), "d\u{e9}j\u{e0} ???X: y");
    }

    #[test]
    fn cookies_can_be_read_and_replaced() {
        let mut response = Response::make(200, b"", Headers::default(), 0.0);
        assert_eq!(response.cookies(), []);
        let mut cookie = SetCookie::new("a", "b c");
        cookie.set_attribute("Path", Some("/"));
        cookie.set_attribute("Secure", None);
        response.set_cookies(&[cookie.clone(), SetCookie::new("d", "e")]);
        assert_eq!(response.headers.get_all("set-cookie"), ["a=\"b c\"; Path=/; Secure", "d=e"]);
        assert_eq!(response.cookies()[0], cookie);
        assert_eq!(response.cookie("d").and_then(|c| c.value).as_deref(), Some("e"));
    }

    #[test]
    fn a_refreshed_response_looks_new() {
        let headers = Headers::from_pairs([
            ("Date", "Thu, 01 Jan 1970 00:01:40 GMT"),
            ("Expires", "-1"),
            ("last-modified", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("Set-Cookie", "a=b; expires=Thu, 01 Jan 1970 00:02:00 GMT"),
            ("Set-Cookie", "=broken"),
        ]);
        let mut response = Response::make(200, b"", headers, 100.0);
        response.refresh(3700.5);
        assert_eq!(response.headers.get("date").as_deref(), Some("Thu, 01 Jan 1970 01:01:40 GMT"));
        assert_eq!(response.headers.get("expires").as_deref(), Some("-1"));
        assert_eq!(response.headers.get("last-modified").as_deref(), Some("Thu, 01 Jan 1970 01:00:00 GMT"));
        assert_eq!(
            response.headers.get_all("set-cookie"),
            ["a=b; expires=Thu, 01 Jan 1970 01:02:00 GMT", "=broken"]
        );
    }
}
