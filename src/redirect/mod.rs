//! The rules that bend a segment's traffic to us, and what becomes of it when we are gone.
//!
//! `apply` loads the rules and leaves a note in `/run/ringtap`; the daemon's [`heartbeat`] finds the note and keeps the
//! rules alive; `check` looks at all of it; `remove` leaves nothing. Everything is ours alone: one nftables table, or a
//! few chains and one jump to each, so that other firewalls stay as they are. `ringtap redirect` is the way to it.

pub(crate) mod apply;
pub(crate) mod check;
mod error;
pub mod heartbeat;
pub(crate) mod iptables;
mod netlink;
pub(crate) mod nft;
mod routing;
pub(crate) mod settings;
pub(crate) mod state;
mod sysctl;
pub(crate) mod tool;
pub(crate) mod value;

pub use error::Error;
