//! Conversations.
pub mod codec;
pub mod http;
pub mod tls;
