//! ringtap.
pub mod addr;
pub mod buf;
pub mod ca;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connect;
pub mod engine;
pub mod flow;
pub mod hooks;
pub mod mode;
pub mod proto;
pub mod ring;
pub mod store;
pub mod stream;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod ui;
