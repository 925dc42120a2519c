//! What tests talk through: dialogues played by the real conversation code over in-memory connections.

mod listener;
mod peers;
mod play;
mod playbook;
mod sim;
mod stage;
pub(crate) mod tls;

pub(crate) use listener::Listener;
pub(crate) use playbook::Playbook;
pub(crate) use tls::{ClientHandshake, ServerHandshake};
