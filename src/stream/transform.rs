//! What a stream may wear. Pure: bytes in, bytes out.

use std::io;
use std::sync::Arc;

use crate::buf::{Buffer, Chunks};

/// What came of one step of a transform.
#[derive(Debug, Default)]
pub struct Step {
    /// Opened bytes, for the reader.
    pub plain: Chunks,
    /// Bytes for the peer.
    pub wire: Chunks,
    /// The peer has properly ended its direction.
    pub ended: bool,
}

/// Turns wire bytes into plain ones and back.
pub trait Transform {
    /// Opens what `wire` completes; keeps what is incomplete.
    ///
    /// # Errors
    /// The peer broke the protocol. The step's wire bytes (an alert) are to be sent all the same.
    fn open(&mut self, wire: Buffer, step: &mut Step) -> Result<(), TransformError>;

    /// Seals bytes for the peer.
    ///
    /// # Errors
    /// The direction is closed or broken.
    fn seal(&mut self, plain: Chunks, step: &mut Step) -> Result<(), TransformError>;

    /// Says goodbye.
    fn close(&mut self, step: &mut Step);
}

/// Why a transform gave up.
#[derive(Clone, Debug)]
pub struct TransformError {
    kind: io::ErrorKind,
    reason: Arc<str>,
}

impl TransformError {
    /// The peer sent something it may not.
    pub fn invalid(reason: impl Into<Arc<str>>) -> Self {
        Self { kind: io::ErrorKind::InvalidData, reason: reason.into() }
    }

    /// The connection ended without a proper goodbye (RFC 8446 §6.1).
    pub fn truncated() -> Self {
        Self {
            kind: io::ErrorKind::UnexpectedEof,
            reason: "connection closed without TLS close_notify".into(),
        }
    }
}

impl std::fmt::Display for TransformError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for TransformError {}

impl From<TransformError> for io::Error {
    fn from(error: TransformError) -> Self {
        io::Error::new(error.kind, error)
    }
}
