//! Names to addresses, by the system's resolver: its hosts file, its servers, its rules.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::sync::Semaphore;

/// Look-ups of one worker at once: each takes a thread while it waits.
const LOOKUPS_MAX: usize = 32;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Resolves names.
pub struct Resolver {
    kind: Kind,
}

enum Kind {
    System(Semaphore),
    Table(Vec<(String, SocketAddr)>),
}

impl Resolver {
    /// The system's resolver.
    pub fn system() -> Self {
        Self { kind: Kind::System(Semaphore::new(LOOKUPS_MAX)) }
    }

    /// A fixed table.
    pub fn table(names: Vec<(String, SocketAddr)>) -> Self {
        Self { kind: Kind::Table(names) }
    }

    /// The addresses of a host, in the order in which to try them.
    ///
    /// # Errors
    /// The name does not resolve.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let found: Vec<SocketAddr> = match &self.kind {
            Kind::System(lookups) => {
                let _permit = lookups.acquire().await.map_err(io::Error::other)?;
                tokio::net::lookup_host((host, port)).await?.take(ADDRESSES_MAX).collect()
            }
            Kind::Table(names) => names
                .iter()
                .filter(|(name, addr)| name == host && addr.port() == port)
                .map(|(_, addr)| *addr)
                .collect(),
        };
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(found)
    }
}
