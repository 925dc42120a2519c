//! HTTP/1.
pub mod codec;
