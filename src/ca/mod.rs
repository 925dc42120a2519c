//! Mint a leaf that looks like the server's.
//!
//! An [`Authority`] is the CA as it lies on disk; a [`LeafIdentity`] is what the client expects to see (names copied
//! from the server's certificate, or made from the SNI); a [`LeafCache`] turns the one into the other and remembers.
//!
//! ```text
//! confdir -> Authority -> LeafTemplate (issuer, key id, algorithm: fixed bytes)
//! server's certificate + SNI -> LeafIdentity -> LeafCache::leaf -> Arc<Leaf> -> rustls::sign::CertifiedKey
//! ```
//!
//! Everything here is synchronous, shareable between workers and told the time: no sockets, no clock.

mod authority;
mod cache;
mod der;
mod error;
mod files;
mod identity;
mod leaf;
#[cfg(test)]
mod tests;

pub use authority::Authority;
pub use cache::{LEAF_CACHE_MAX, Leaf, LeafCache, LeafCounters};
pub use error::CaError;
pub use files::{Opened, Origin};
pub use identity::{LeafIdentity, LeafName, NAME_BYTES_MAX, NAMES_MAX, validity};
