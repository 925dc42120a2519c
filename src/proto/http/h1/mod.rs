//! HTTP/1.0 and HTTP/1.1 (RFC 9112).

pub mod codec;
mod inbox;
mod layer;
mod passage;
mod requests;
mod responses;
#[cfg(test)]
mod playbook;

pub use layer::converse;
