//! Flows at rest: in files and in memory.

pub mod flowfile;
pub mod memory;
pub mod recorder;
mod state;
pub mod tnetstring;

pub use flowfile::{FlowReader, ReadError, write_flow};
pub use memory::FlowStore;
pub use recorder::RecorderFile;
pub use state::{State, StateError};
