//! TLS on both legs: the ClientHello, the record layer over pooled buffers, configurations, and the layer that
//! puts us in the middle.

pub mod client_hello;
mod codec;
mod config;
mod facts;
mod layer;
#[cfg(test)]
mod playbook;
mod records;
mod verified;
mod verify;

pub use codec::TlsCodec;
pub use config::{TlsContexts, TlsSetup, TlsSetupError};
pub use layer::{connect_server, intercept};
