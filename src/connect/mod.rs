//! Reaching a server: names to addresses, what may be reached, and the connection itself.

mod failure;
mod nested;
mod policy;
mod resolve;
mod source;

pub use failure::{ConntrackFull, Failure};
pub use policy::{Entry, Origin, Policy, Refusal, SharedPolicy, UpstreamMark};
pub use resolve::Resolver;
pub use source::{SourceAddrs, SourceError, SourceTurns};

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use crate::ring::{ConnectOptions, Ring, TcpStream};
use crate::stream::Stream;

/// The one way out.
pub struct Connector {
    kind: Kind,
    resolver: Resolver,
}

enum Kind {
    Tcp { ring: Ring, options: ConnectOptions, sources: SourceTurns },
    Test(TestDial),
}

/// A test's server: makes an in-memory connection to an address. `WouldBlock`: nobody ever answers.
pub type TestDial = Rc<dyn Fn(SocketAddr) -> io::Result<Stream>>;

impl Connector {
    /// Connects through the worker's ring, from these addresses in turn.
    pub fn new(ring: Ring, options: ConnectOptions, sources: SourceTurns) -> Self {
        Self { kind: Kind::Tcp { ring, options, sources }, resolver: Resolver::system() }
    }

    /// Connects to a test's servers; names resolve by this table only.
    pub fn test(dial: TestDial, names: Vec<(String, SocketAddr)>) -> Self {
        Self { kind: Kind::Test(dial), resolver: Resolver::table(names) }
    }

    /// The addresses of a host.
    ///
    /// # Errors
    /// The name does not resolve.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.resolver.resolve(host, port).await
    }

    /// Connects.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn connect(&self, addr: SocketAddr) -> io::Result<Stream> {
        match &self.kind {
            Kind::Tcp { ring, options, sources } => {
                let mut sources = sources.next(addr);
                let mut options = ConnectOptions { bind: sources.next(), ..*options };
                loop {
                    let error = match TcpStream::connect(ring, addr, options).await {
                        Ok(stream) => return Ok(stream.into()),
                        Err(error) => error,
                    };
                    // another address of ours may have a port left
                    match (Failure::of(&error), sources.next()) {
                        (Failure::Ports | Failure::Source, Some(bind)) => options.bind = Some(bind),
                        _ => return Err(error),
                    }
                }
            }
            Kind::Test(dial) => match dial(addr) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::future::pending().await,
                answer => answer,
            },
        }
    }
}
