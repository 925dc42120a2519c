//! What requests and responses have in common: a body that may be coded, and text in some charset.

use std::borrow::Cow;

use bytes::Bytes;
use thiserror::Error;

use super::charset::{self, CharsetError, ContentType};
use super::{Headers, Request, Response};
use crate::coding::{self, Coding, CodingError, Limits};

/// Why a body cannot be had as asked.
#[derive(Debug, Error)]
pub enum ContentError {
    /// It is missing: streamed past us.
    #[error("the body is missing")]
    Missing,
    /// Its content coding.
    #[error(transparent)]
    Coding(#[from] CodingError),
    /// Its charset.
    #[error(transparent)]
    Charset(#[from] CharsetError),
    /// It is no JSON.
    #[error("the body is no JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// A request or a response.
///
/// The stored field `content` is the body as it came: without transfer coding, still content-coded. `None`: it is
/// missing, streamed past us. The methods here are the view of it that addons work with: decoded, and encoded
/// again when set.
pub trait Message {
    /// Version as text, e.g. `HTTP/1.1`.
    fn version(&self) -> &[u8];
    /// Header fields.
    fn fields(&self) -> &Headers;
    /// Header fields, to be changed.
    fn fields_mut(&mut self) -> &mut Headers;
    /// The body as it came (mitmproxy's `raw_content`).
    fn raw_content(&self) -> Option<&Bytes>;
    /// Replaces the body as it is sent. Touches no header field.
    fn set_raw_content(&mut self, content: Option<Bytes>);

    /// Spoken over HTTP/1.0.
    fn is_http10(&self) -> bool {
        self.version() == b"HTTP/1.0"
    }

    /// Spoken over HTTP/1.1.
    fn is_http11(&self) -> bool {
        self.version() == b"HTTP/1.1"
    }

    /// Spoken over HTTP/2.
    fn is_http2(&self) -> bool {
        self.version() == b"HTTP/2.0"
    }

    /// Spoken over HTTP/3.
    fn is_http3(&self) -> bool {
        self.version() == b"HTTP/3"
    }

    /// The body without its content coding, borrowed where it has none. At most
    /// [`OUTPUT_MAX`](coding::OUTPUT_MAX) bytes.
    ///
    /// # Errors
    /// The body is missing, its coding unknown, its data damaged, or too large.
    fn get_content(&self) -> Result<Cow<'_, [u8]>, ContentError> {
        self.get_content_within(&Limits::default())
    }

    /// The body without its content coding, within these limits.
    ///
    /// # Errors
    /// As [`get_content`](Self::get_content).
    fn get_content_within(&self, limits: &Limits) -> Result<Cow<'_, [u8]>, ContentError> {
        let raw = self.raw_content().ok_or(ContentError::Missing)?;
        match self.fields().get("content-encoding") {
            Some(coding) => Ok(coding::decode(raw, &coding, limits)?),
            None => Ok(Cow::Borrowed(raw)),
        }
    }

    /// The body without its content coding or, where it cannot be decoded, as it came (mitmproxy's
    /// `get_content(strict=False)`). `None`: it is missing.
    fn get_content_or_raw(&self) -> Option<Cow<'_, [u8]>> {
        self.get_content().ok().or_else(|| self.raw_content().map(|raw| Cow::Borrowed(&raw[..])))
    }

    /// Replaces the body: it is encoded as `Content-Encoding` says, and `Content-Length` is set, unless there is a
    /// `Transfer-Encoding` (RFC 9112 §6.2). A `Content-Encoding` that is unknown is removed. `None`: the body is
    /// missing from now on.
    fn set_content(&mut self, content: Option<&[u8]>) {
        let Some(content) = content else {
            self.set_raw_content(None);
            return;
        };
        let coding = self.fields().get("content-encoding").unwrap_or_default();
        let raw = match coding::encode(content, &coding) {
            Ok(encoded) => Bytes::copy_from_slice(&encoded),
            Err(_) => {
                self.fields_mut().remove("content-encoding");
                Bytes::copy_from_slice(content)
            }
        };
        if !self.fields().contains("transfer-encoding") {
            self.fields_mut().set("Content-Length", raw.len().to_string());
        }
        self.set_raw_content(Some(raw));
    }

    /// The body as text: decoded, then read in the charset that its byte order mark, `Content-Type` or contents
    /// name; Latin-1 where nothing does.
    ///
    /// # Errors
    /// As [`get_content`](Self::get_content); the charset is unknown, or the body is not in it.
    fn get_text(&self) -> Result<String, ContentError> {
        let content = self.get_content()?;
        Ok(charset::decode(&content, &charset::infer(&self.content_type(), &content))?)
    }

    /// The body as text as far as it can be: what cannot be decoded is as it came, and what is in no known
    /// charset is read as UTF-8, with replacements. `None`: it is missing.
    fn get_text_lossy(&self) -> Option<String> {
        let content = self.get_content_or_raw()?;
        let text = charset::decode(&content, &charset::infer(&self.content_type(), &content));
        Some(text.unwrap_or_else(|_| String::from_utf8_lossy(&content).into_owned()))
    }

    /// Replaces the body by text in the charset of `Content-Type`. What that cannot express is written in UTF-8,
    /// and `Content-Type` says so. `None`: the body is missing from now on.
    fn set_text(&mut self, text: Option<&str>) {
        let Some(text) = text else {
            self.set_raw_content(None);
            return;
        };
        let content_type = self.content_type();
        if let Ok(bytes) = charset::encode(text, &charset::infer(&content_type, b"")) {
            self.set_content(Some(&bytes));
            return;
        }
        let mut content_type = ContentType::parse(&content_type).unwrap_or_else(|| ContentType {
            kind: "text".into(),
            subtype: "plain".into(),
            parameters: Vec::new(),
        });
        content_type.set_parameter("charset", "utf-8");
        self.fields_mut().set("Content-Type", content_type.format());
        self.set_content(Some(text.as_bytes()));
    }

    /// Removes the body's content coding, and the header field. A missing or empty body is left alone.
    ///
    /// # Errors
    /// As [`get_content`](Self::get_content); nothing is changed then.
    fn decode(&mut self) -> Result<(), ContentError> {
        if self.raw_content().is_none_or(Bytes::is_empty) {
            return Ok(());
        }
        let content = self.get_content()?.into_owned();
        self.fields_mut().remove("content-encoding");
        self.set_content(Some(&content));
        Ok(())
    }

    /// Encodes the body as it is now, and says so in `Content-Encoding`, whatever that said before.
    ///
    /// # Errors
    /// No such coding; nothing is changed then.
    fn encode(&mut self, content_encoding: &str) -> Result<(), ContentError> {
        coding::parse_list(content_encoding)?;
        self.fields_mut().set("Content-Encoding", content_encoding);
        if let Some(raw) = self.raw_content().cloned() {
            self.set_content(Some(&raw));
        }
        Ok(())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// The body is missing, or no JSON.
    fn json(&self) -> Result<serde_json::Value, ContentError> {
        let content = self.get_content_or_raw().ok_or(ContentError::Missing)?;
        Ok(serde_json::from_slice(content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content))?)
    }

    /// The value of `Content-Type`, empty if there is none.
    fn content_type(&self) -> String {
        self.fields().get("content-type").unwrap_or_default()
    }

    /// The codings of `Content-Encoding`.
    ///
    /// # Errors
    /// One is unknown.
    fn codings(&self) -> Result<Vec<Coding>, CodingError> {
        coding::parse_list(&self.fields().get("content-encoding").unwrap_or_default())
    }
}

macro_rules! message {
    ($kind:ty) => {
        impl Message for $kind {
            fn version(&self) -> &[u8] {
                &self.http_version
            }

            fn fields(&self) -> &Headers {
                &self.headers
            }

            fn fields_mut(&mut self) -> &mut Headers {
                &mut self.headers
            }

            fn raw_content(&self) -> Option<&Bytes> {
                self.content.as_ref()
            }

            fn set_raw_content(&mut self, content: Option<Bytes>) {
                self.content = content;
            }
        }
    };
}

message!(Request);
message!(Response);

#[cfg(test)]
mod tests;
