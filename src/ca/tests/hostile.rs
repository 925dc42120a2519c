//! Identities: what is mirrored, what is left out, and that nothing a server sends makes us fall over.
use super::*;
