//! TLS.
pub mod client_hello;
