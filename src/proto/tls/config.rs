//! TLS configurations, made once and used often.
//!
//! Towards clients: one per leaf and ALPN answer, all with the same ticket keys. Towards servers: one per
//! (address, name, ALPN offer), each with its own session store, so that a session is only ever resumed where
//! it was made. All workers use the same one: what one of them has agreed on with a server, the others resume.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ClientConfig, NamedGroup, ServerConfig};
use thiserror::Error;

use super::verify;
use crate::ca::Leaf;
use crate::config::Config;

/// Configurations kept per worker and direction; the oldest goes first.
const CONTEXTS_MAX: usize = 1024;
/// Sessions kept per server configuration: tickets of one server name.
const SESSIONS_MAX: usize = 8;

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsSetupError {
    /// No trust store.
    #[error("{0}")]
    Trust(String),
    /// The file of trusted certificates is no use.
    #[error("option 'ssl_verify_upstream_trusted_ca': {}: {reason}", path.display())]
    TrustFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The library refuses.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}

/// What all workers share.
#[derive(Clone)]
pub struct TlsSetup {
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
    ticketer: Arc<dyn ProducesTickets>,
    /// One configuration, with one session store, for each server.
    clients: Arc<Mutex<Fifo<ClientKey, Arc<ClientConfig>>>>,
    /// The record layer is to be ours once the handshake is done.
    in_place: bool,
}

impl TlsSetup {
    /// The same, with nothing agreed on with any server yet.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn apart(&self) -> Self {
        Self { clients: Arc::default(), ..self.clone() }
    }

    /// Loads the trust store and makes ticket keys.
    ///
    /// # Errors
    /// The trust store cannot be had.
    pub fn new(config: &Config) -> Result<Self, TlsSetupError> {
        let provider = Arc::new(preferred(aws_lc_rs::default_provider()));
        let verifier = verify::verifier(&provider, config.trusted_ca.as_deref(), config.ssl_insecure)?;
        let ticketer = aws_lc_rs::Ticketer::new()?;
        Ok(Self {
            provider,
            verifier,
            ticketer,
            clients: Arc::default(),
            in_place: config.tls_inplace_records,
        })
    }
}

/// AES-128-GCM with SHA-256 and X25519 first: the cheapest handshake on processors with SHA and AES instructions.
/// The hybrid group is accepted, and asked for with a retry by clients that insist.
fn preferred(mut provider: CryptoProvider) -> CryptoProvider {
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider.kx_groups.sort_by_key(|group| group.name() != NamedGroup::X25519);
    provider
}

/// A worker's configurations.
pub struct TlsContexts {
    setup: TlsSetup,
    servers: RefCell<Fifo<ServerKey, ForLeaf>>,
    clients: RefCell<Fifo<ClientKey, Arc<ClientConfig>>>,
}

/// A leaf, by its address, and the ALPN answer.
type ServerKey = (usize, Option<Vec<u8>>);
/// The leaf is held, so that its address stays its own.
type ForLeaf = (Arc<Leaf>, Arc<ServerConfig>);
/// Address, server name, ALPN offer.
type ClientKey = (SocketAddr, String, Vec<Vec<u8>>);

impl TlsContexts {
    /// None yet.
    pub fn new(setup: TlsSetup) -> Self {
        Self { setup, servers: RefCell::default(), clients: RefCell::default() }
    }

    /// How to answer a client with this leaf and this ALPN answer.
    ///
    /// # Errors
    /// The library refuses.
    pub fn for_client(
        &self,
        leaf: &Arc<Leaf>,
        alpn: Option<&[u8]>,
    ) -> Result<Arc<ServerConfig>, TlsSetupError> {
        // the entry holds the leaf, so its address cannot be another's
        let key = (Arc::as_ptr(leaf) as usize, alpn.map(<[u8]>::to_vec));
        if let Some((_, config)) = self.servers.borrow().get(&key) {
            return Ok(config.clone());
        }
        let builder = ServerConfig::builder_with_provider(self.setup.provider.clone());
        let mut config = builder
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(One(leaf.certified_key.clone())));
        config.alpn_protocols = key.1.iter().cloned().collect();
        config.ticketer = self.setup.ticketer.clone();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ignore_client_order = true;
        config.enable_secret_extraction = self.setup.in_place;
        let config = Arc::new(config);
        self.servers.borrow_mut().put(key, (leaf.clone(), config.clone()));
        Ok(config)
    }

    /// How to speak to that server, offering these protocols.
    ///
    /// # Errors
    /// The library refuses.
    pub fn for_server(
        &self,
        addr: SocketAddr,
        name: &str,
        alpn_offers: &[Vec<u8>],
    ) -> Result<Arc<ClientConfig>, TlsSetupError> {
        let key = (addr, name.to_owned(), alpn_offers.to_vec());
        if let Some(config) = self.clients.borrow().get(&key) {
            return Ok(config.clone());
        }
        let config = self.setup.for_server(key.clone())?;
        self.clients.borrow_mut().put(key, config.clone());
        Ok(config)
    }
}

impl TlsSetup {
    /// The configuration that all workers use towards a server. Each asks once and then knows it.
    fn for_server(&self, key: ClientKey) -> Result<Arc<ClientConfig>, TlsSetupError> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = clients.get(&key) {
            return Ok(config.clone());
        }
        let builder = ClientConfig::builder_with_provider(self.provider.clone());
        let mut config = builder
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier.clone())
            .with_no_client_auth();
        config.alpn_protocols = key.2.clone();
        config.enable_secret_extraction = self.in_place;
        config.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(SESSIONS_MAX)));
        let config = Arc::new(config);
        clients.put(key, config.clone());
        Ok(config)
    }
}

/// The one certificate of a configuration.
#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesServerCert for One {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A map of bounded size that forgets its oldest entry.
struct Fifo<K, V> {
    map: HashMap<K, V>,
    order: std::collections::VecDeque<K>,
}

impl<K, V> Default for Fifo<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), order: std::collections::VecDeque::new() }
    }
}

impl<K: Clone + Eq + std::hash::Hash, V> Fifo<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    fn put(&mut self, key: K, value: V) {
        if self.map.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > CONTEXTS_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.map.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_what_was_agreed_on_with_a_server_and_nothing_else() {
        let mut typed = crate::config::Typed::default();
        typed.set("ssl_insecure", crate::config::Source::CommandLine).expect("an option");
        let setup = TlsSetup::new(&Config::of(&typed).expect("options fit")).expect("a setup");
        let [one, other] = [TlsContexts::new(setup.clone()), TlsContexts::new(setup)];
        let addr: SocketAddr = "192.0.2.1:443".parse().expect("an address");
        let offers = [b"http/1.1".to_vec()];
        let made = one.for_server(addr, "example.com", &offers).expect("a configuration");
        let same = |addr: &str, name, offers: &[Vec<u8>]| {
            let addr = addr.parse().expect("an address");
            Arc::ptr_eq(&made, &other.for_server(addr, name, offers).expect("a configuration"))
        };
        assert!(same("192.0.2.1:443", "example.com", &offers));
        assert!(!same("192.0.2.2:443", "example.com", &offers));
        assert!(!same("192.0.2.1:443", "example.org", &offers));
        assert!(!same("192.0.2.1:443", "example.com", &[]));
    }

    #[test]
    fn the_oldest_of_too_many_contexts_is_forgotten() {
        let mut fifo = Fifo::default();
        for n in 0..=CONTEXTS_MAX {
            fifo.put(n, n);
        }
        assert_eq!(fifo.get(&0), None);
        assert_eq!(fifo.get(&CONTEXTS_MAX), Some(&CONTEXTS_MAX));
        assert_eq!(fifo.map.len(), CONTEXTS_MAX);
    }

    #[test]
    fn the_cheap_suite_and_group_come_first_and_the_hybrid_group_is_there() {
        let provider = preferred(aws_lc_rs::default_provider());
        assert_eq!(provider.cipher_suites[0].suite(), CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(provider.kx_groups[0].name(), NamedGroup::X25519);
        assert!(provider.kx_groups.iter().any(|group| group.name() == NamedGroup::X25519MLKEM768));
    }
}
