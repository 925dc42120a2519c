//! Faces.
pub mod dump;
