//! ringtap.
pub mod addr;
pub mod ca;
pub mod cli;
pub mod flow;
pub mod proto;
pub mod store;
pub mod ui;
