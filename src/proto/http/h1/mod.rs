//! HTTP/1.0 and HTTP/1.1 (RFC 9112).

pub mod codec;
mod inbox;
mod lane;
mod layer;
mod passage;
#[cfg(test)]
mod playbook;
mod requests;
mod responses;

pub use layer::{converse, forbid};
