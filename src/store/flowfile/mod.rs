//! mitmproxy's flow files, format 21: one dict after another, nothing around them, so that appending is
//! writing and a file cut short is still good up to the cut.
//!
//! Three facts that the code keeps and a change must not break:
//! - Dicts are written in *reverse* order of their making: `websocket` first, `version` last. Readers look
//!   keys up by name, but only this order gives files that are byte for byte those of mitmproxy. Free dicts
//!   (metadata, the backup) are turned round when read and again when written: they come back as they were.
//! - Bytes and text are different types on disk. The reader takes either where mitmproxy's does.
//! - Certificates are DER in the model and PEM on disk.

mod decode;
mod fields;
pub(super) mod meta_value;
mod migrate;
mod pem;
mod read;
mod write;

pub use migrate::FormatVersion;
pub use read::{FLOW_SIZE_MAX, FlowReader, ReadError};
pub use write::write_flow;
pub(super) use write::write_flow_ref;

/// The format that is written.
pub const VERSION: i64 = 21;
