//! What addons do with requests: URL and host, query, forms, cookies.

use std::borrow::Cow;
use std::fmt::Write;

use bytes::Bytes;

use super::message::Message;
use super::multidict::{MultiDict, MultiDictView};
use super::url::{self, UrlError};
use super::{BodyStream, Headers, Request, cookies, idna, multipart};

/// The form of a request's target (RFC 9112 §3.2). Origin form and asterisk form are both relative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstLineFormat {
    /// `CONNECT host:port`.
    Authority,
    /// `GET http://host/path`; in HTTP/2 and 3 every request.
    Absolute,
    /// `GET /path`, `OPTIONS *`.
    Relative,
}

impl FirstLineFormat {
    /// mitmproxy's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            FirstLineFormat::Authority => "authority",
            FirstLineFormat::Absolute => "absolute",
            FirstLineFormat::Relative => "relative",
        }
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

impl Request {
    /// A request of our own, HTTP/1.1, with a `Content-Length`. `now` is in Unix seconds.
    ///
    /// # Errors
    /// The URL names no server.
    pub fn make(
        method: &str,
        url: &str,
        content: &[u8],
        headers: Headers,
        now: f64,
    ) -> Result<Self, UrlError> {
        let mut request = Self {
            host: String::new(),
            port: 0,
            method: Bytes::copy_from_slice(method.as_bytes()),
            scheme: Bytes::new(),
            authority: Bytes::new(),
            path: Bytes::new(),
            http_version: Bytes::from_static(b"HTTP/1.1"),
            headers,
            content: Some(Bytes::new()),
            trailers: None,
            timestamp_start: now,
            timestamp_end: Some(now),
            stream: BodyStream::Auto,
        };
        request.set_url(url)?;
        request.set_content(Some(content));
        Ok(request)
    }

    /// The method in upper case, as people compare it; what was sent is in the field.
    pub fn method_upper(&self) -> String {
        text(&self.method).to_uppercase()
    }

    /// The form of the request's target.
    pub fn first_line_format(&self) -> FirstLineFormat {
        if self.method.eq_ignore_ascii_case(b"CONNECT") {
            FirstLineFormat::Authority
        } else if self.authority.is_empty() {
            FirstLineFormat::Relative
        } else {
            FirstLineFormat::Absolute
        }
    }

    /// The authority as people write it: international names decoded.
    pub fn authority_text(&self) -> Cow<'_, str> {
        let authority = text(&self.authority);
        if authority.contains("xn--") { Cow::Owned(idna::to_unicode(&authority)) } else { authority }
    }

    /// Replaces the authority; international names are encoded.
    pub fn set_authority(&mut self, authority: &str) {
        let ascii = idna::to_ascii(authority);
        self.authority = Bytes::from(ascii.unwrap_or_else(|| authority.to_owned()));
    }

    /// Replaces the target host, and with it the Host field and the authority, where there are any.
    pub fn set_host(&mut self, host: &str) {
        host.clone_into(&mut self.host);
        self.tell_host_and_port();
    }

    /// Replaces the target port, and with it the Host field and the authority, where there are any.
    pub fn set_port(&mut self, port: u16) {
        self.port = port;
        self.tell_host_and_port();
    }

    fn tell_host_and_port(&mut self) {
        let value = url::hostport(&self.scheme, &self.host, self.port);
        if self.headers.contains("host") {
            self.headers.set("Host", &value);
        }
        if !self.authority.is_empty() {
            self.set_authority(&value);
        }
    }

    fn has_authority_field(&self) -> bool {
        self.is_http2() || self.is_http3()
    }

    /// The Host field or, in HTTP/2 and 3, `:authority`, as it came: with a port, if one was written.
    pub fn host_header(&self) -> Option<Cow<'_, str>> {
        if self.has_authority_field() && !self.authority.is_empty() {
            return Some(self.authority_text());
        }
        let mut values = self.headers.all("host");
        let first = values.next()?;
        if values.next().is_some() { self.headers.get("host").map(Cow::Owned) } else { Some(text(first)) }
    }

    /// Replaces the Host field or `:authority`; `None` removes it.
    pub fn set_host_header(&mut self, value: Option<&str>) {
        let Some(value) = value else {
            if self.has_authority_field() {
                self.authority = Bytes::new();
            }
            self.headers.remove("host");
            return;
        };
        if self.has_authority_field() {
            self.set_authority(value);
        }
        if !self.has_authority_field() || self.headers.contains("host") {
            self.headers.set("Host", value);
        }
    }

    /// The name in the Host field or `:authority`, without a port; else the target host. In transparent mode the
    /// host is an address, and this the name; but the client chose it.
    pub fn pretty_host(&self) -> Cow<'_, str> {
        match self.host_header() {
            Some(Cow::Borrowed(value)) if !value.is_empty() => Cow::Borrowed(url::parse_authority(value).0),
            Some(value) if !value.is_empty() => Cow::Owned(url::parse_authority(&value).0.to_owned()),
            _ => Cow::Borrowed(&self.host),
        }
    }

    /// The URL, with the target host. Ports that the scheme implies are left out; a CONNECT request has
    /// `host:port`.
    pub fn url(&self) -> String {
        let mut out = String::new();
        self.write_url(&self.host, self.port, &mut out);
        out
    }

    /// Replaces scheme, host, port and path, and with them the Host field and the authority, where there are any.
    ///
    /// # Errors
    /// It names no server; nothing is changed then.
    pub fn set_url(&mut self, url: &str) -> Result<(), UrlError> {
        let parts = url::parse(url)?;
        self.scheme = Bytes::from(parts.scheme);
        self.host = parts.host;
        self.port = parts.port;
        self.path = Bytes::from(parts.path);
        self.tell_host_and_port();
        Ok(())
    }

    /// The URL as a person knows it: with the name of the Host field, if there is one, and its port.
    pub fn pretty_url(&self) -> String {
        let mut out = String::new();
        self.write_pretty_url(&mut out);
        out
    }

    /// Appends the [`pretty_url`](Self::pretty_url); allocates nothing but room in `out`.
    pub fn write_pretty_url(&self, out: &mut String) {
        if self.first_line_format() == FirstLineFormat::Authority && !self.authority.is_empty() {
            out.push_str(&self.authority_text());
            return;
        }
        match self.host_header() {
            Some(value) if !value.is_empty() => {
                let (host, port) = url::parse_authority(&value);
                let port = port.filter(|port| *port != 0).or_else(|| url::default_port(&self.scheme));
                self.write_url(host, port.unwrap_or(443), out);
            }
            _ => self.write_url(&self.host, self.port, out),
        }
    }

    fn write_url(&self, host: &str, port: u16, out: &mut String) {
        let (open, close) = url::brackets(host);
        let host = format_args!("{open}{host}{close}");
        // writing to a string cannot fail
        let _ = match url::default_port(&self.scheme) {
            _ if self.first_line_format() == FirstLineFormat::Authority || self.scheme.is_empty() => {
                write!(out, "{host}:{port}")
            }
            Some(default) if default == port => {
                write!(out, "{}://{host}{}", text(&self.scheme), self.path_or_nothing())
            }
            _ => write!(out, "{}://{host}:{port}{}", text(&self.scheme), self.path_or_nothing()),
        };
    }

    fn path_or_nothing(&self) -> Cow<'_, str> {
        if *self.path == *b"*" { Cow::Borrowed("") } else { text(&self.path) }
    }

    /// The pairs of the query.
    pub fn query(&self) -> MultiDict {
        let path = text(&self.path);
        let [_, _, query, _] = url::split_path(&path);
        url::decode_form(query.strip_prefix('?').unwrap_or(query).as_bytes())
    }

    /// Replaces the query.
    pub fn set_query(&mut self, query: &MultiDict) {
        let path = self.path_or_nothing().into_owned();
        let [path, parameters, _, fragment] = url::split_path(&path);
        let encoded = url::encode_form(query, None);
        let mark = if encoded.is_empty() { "" } else { "?" };
        self.path = Bytes::from(format!("{path}{parameters}{mark}{encoded}{fragment}"));
    }

    /// The query, to be changed in place.
    pub fn query_mut(&mut self) -> MultiDictView<'_, Self> {
        let dict = self.query();
        MultiDictView::new(self, dict, Self::set_query)
    }

    /// The path's segments without percent-encoding; empty ones are left out.
    pub fn path_components(&self) -> Vec<String> {
        let path = self.path_or_nothing();
        let [path, ..] = url::split_path(&path);
        let plain = |part: &str| String::from_utf8_lossy(&url::unquote(part.as_bytes())).into_owned();
        path.split('/').filter(|part| !part.is_empty()).map(plain).collect()
    }

    /// Replaces the path's segments, and keeps what follows them.
    pub fn set_path_components<C: AsRef<[u8]>>(&mut self, components: impl IntoIterator<Item = C>) {
        let path = text(&self.path).into_owned();
        let [_, parameters, query, fragment] = url::split_path(&path);
        let quoted: Vec<_> = components.into_iter().map(|part| url::quote_all(part.as_ref())).collect();
        self.path = Bytes::from(format!("/{}{parameters}{query}{fragment}", quoted.join("/")));
    }

    /// The cookies of all `Cookie` fields.
    pub fn cookies(&self) -> MultiDict {
        let values = self.headers.get_all("cookie");
        MultiDict::from_pairs(values.iter().flat_map(|value| cookies::parse_cookie(value)))
    }

    /// Replaces the cookies; they are in one field then.
    pub fn set_cookies(&mut self, cookies: &MultiDict) {
        self.headers.set("Cookie", cookies::format_cookie(cookies));
    }

    /// The cookies, to be changed in place.
    pub fn cookies_mut(&mut self) -> MultiDictView<'_, Self> {
        let dict = self.cookies();
        MultiDictView::new(self, dict, Self::set_cookies)
    }

    /// The pairs of a form body (`application/x-www-form-urlencoded`); none if the body is something else.
    pub fn urlencoded_form(&self) -> MultiDict {
        if !self.content_type().to_ascii_lowercase().contains("application/x-www-form-urlencoded") {
            return MultiDict::default();
        }
        url::decode_form(&self.get_content_or_raw().unwrap_or_default())
    }

    /// Replaces the body by a form, and says so in `Content-Type`.
    pub fn set_urlencoded_form(&mut self, form: &MultiDict) {
        let before = self.get_content_or_raw().unwrap_or_default().into_owned();
        let encoded = url::encode_form(form, Some(&before));
        self.headers.set("Content-Type", "application/x-www-form-urlencoded");
        self.set_content(Some(encoded.as_bytes()));
    }

    /// The form body, to be changed in place.
    pub fn urlencoded_form_mut(&mut self) -> MultiDictView<'_, Self> {
        let dict = self.urlencoded_form();
        MultiDictView::new(self, dict, Self::set_urlencoded_form)
    }

    /// Names and contents of a `multipart/form-data` body; none if the body is something else.
    pub fn multipart_form(&self) -> MultiDict {
        let content_type = self.content_type();
        let is_form = content_type.to_ascii_lowercase().contains("multipart/form-data");
        let boundary = multipart::boundary(&content_type).filter(|_| is_form);
        match (boundary, self.get_content()) {
            (Some(boundary), Ok(content)) => multipart::decode(&content, &boundary),
            _ => MultiDict::default(),
        }
    }

    /// Replaces the body by a `multipart/form-data` form. The boundary that `Content-Type` names is kept, unless
    /// it stands in the form.
    pub fn set_multipart_form(&mut self, form: &MultiDict) {
        let content_type = self.content_type();
        let is_form = content_type.to_ascii_lowercase().starts_with("multipart/form-data");
        let held =
            multipart::boundary(&content_type).filter(|held| is_form && !multipart::collides(form, held));
        let boundary = held.unwrap_or_else(|| {
            let boundary = format!("--------------------{}", uuid::Uuid::new_v4().simple());
            self.headers.set("Content-Type", format!("multipart/form-data; boundary={boundary}"));
            boundary
        });
        self.set_content(Some(&multipart::encode(form, &boundary)));
    }

    /// The form, to be changed in place.
    pub fn multipart_form_mut(&mut self) -> MultiDictView<'_, Self> {
        let dict = self.multipart_form();
        MultiDictView::new(self, dict, Self::set_multipart_form)
    }

    /// Removes the fields that could bring an answer without a body: `If-Modified-Since`, `If-None-Match`.
    pub fn anticache(&mut self) {
        self.headers.remove("if-modified-since");
        self.headers.remove("if-none-match");
    }

    /// Asks for a response without content coding.
    pub fn anticomp(&mut self) {
        self.headers.set("Accept-Encoding", "identity");
    }

    /// Removes from `Accept-Encoding` the codings that we could not decode. What is left keeps its order and its
    /// weights.
    pub fn constrain_encoding(&mut self) {
        let Some(accepted) = self.headers.get("accept-encoding") else { return };
        let known = |item: &&str| {
            let name = item.split(';').next().unwrap_or_default();
            crate::coding::Coding::parse(name)
                .is_some_and(|coding| coding.as_str().eq_ignore_ascii_case(name.trim()))
        };
        let kept: Vec<_> = accepted.split(',').map(str::trim).filter(known).collect();
        self.headers.set("Accept-Encoding", kept.join(", "));
    }
}

#[cfg(test)]
mod tests;
