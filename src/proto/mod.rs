//! Conversations.
pub mod http;
