//! The commands.
pub mod redirect;
