//! What operators see of the inside.

pub mod log;
pub mod metrics;
