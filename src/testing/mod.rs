//! What tests talk through: dialogues played by the real conversation code over in-memory connections. Benchmarks, which
//! are compiled apart, get it by the feature `testing`.

#[cfg(test)]
mod faults;
mod listener;
mod peers;
mod play;
mod playbook;
pub mod scripts;
#[cfg(test)]
mod sim;
mod stage;
pub(crate) mod tls;

use listener::Listener;
pub use playbook::Playbook;
pub use tls::{ClientHandshake, ServerHandshake};
