//! What tests talk through: dialogues played by the real conversation code over in-memory connections.

mod faults;
mod listener;
mod peers;
mod play;
mod playbook;
mod sim;
mod stage;
mod tls;

pub(crate) use listener::Listener;
pub(crate) use playbook::Playbook;
pub(crate) use tls::{ClientHandshake, ServerHandshake};
