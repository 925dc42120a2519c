//! HTTP.
pub mod h1;
