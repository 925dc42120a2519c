//! Flows at rest: in files and in memory.

pub mod flowfile;
pub mod tnetstring;

pub use flowfile::{FlowReader, ReadError, write_flow};
