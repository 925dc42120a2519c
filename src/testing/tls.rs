//! TLS at the ends of a dialogue: a client that believes our CA, and servers of an origin CA.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

use crate::ca::{Authority, LEAF_CACHE_MAX, LeafCache, LeafIdentity};
use crate::clock::Clock;
use crate::config::{Config, Source, Typed};
use crate::proto::tls::TlsSetup;

/// What a client says in its hello.
#[derive(Clone, Debug)]
pub struct ClientHandshake {
    name: String,
    alpn: Vec<Vec<u8>>,
    sends_name: bool,
    tls12: bool,
}

impl ClientHandshake {
    pub fn to(name: &str) -> Self {
        Self { name: name.to_owned(), alpn: Vec::new(), sends_name: true, tls12: false }
    }

    pub fn alpn(mut self, offers: &[&str]) -> Self {
        self.alpn = offers.iter().map(|offer| offer.as_bytes().to_vec()).collect();
        self
    }

    pub fn without_sni(mut self) -> Self {
        self.sends_name = false;
        self
    }

    pub fn tls12(mut self) -> Self {
        self.tls12 = true;
        self
    }

    pub(super) fn begin(&self) -> Connection {
        let mut roots = RootCertStore::empty();
        roots.add(ours().authority.certificate().clone()).expect("our CA is a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let versions: &[&rustls::SupportedProtocolVersion] =
            if self.tls12 { &[&rustls::version::TLS12] } else { rustls::ALL_VERSIONS };
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(StandsStill))
            .with_protocol_versions(versions)
            .expect("versions fit")
            .with_webpki_verifier(verifier.build().expect("a verifier"))
            .with_no_client_auth();
        config.alpn_protocols = self.alpn.clone();
        config.enable_sni = self.sends_name;
        let name = ServerName::try_from(self.name.clone()).expect("a server name");
        ClientConnection::new(Arc::new(config), name).expect("a client").into()
    }
}

/// Who a server says it is.
#[derive(Clone, Debug)]
pub struct ServerHandshake {
    name: String,
    alpn: Vec<Vec<u8>>,
    stranger: bool,
}

impl ServerHandshake {
    pub fn of(name: &str) -> Self {
        Self { name: name.to_owned(), alpn: Vec::new(), stranger: false }
    }

    pub fn alpn(mut self, known: &[&str]) -> Self {
        self.alpn = known.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// Its certificate is of a CA nobody knows.
    pub fn untrusted(mut self) -> Self {
        self.stranger = true;
        self
    }

    pub(super) fn begin(&self) -> Connection {
        let issuer = if self.stranger { ours() } else { origin() };
        let identity = LeafIdentity::from_names(Some(&self.name), None);
        let leaf = issuer.leaves.leaf(&identity, Clock::real().unix()).expect("a leaf");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions fit")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(leaf.certified_key.clone())));
        config.alpn_protocols = self.alpn.clone();
        ServerConnection::new(Arc::new(config)).expect("a server").into()
    }
}

/// The client lives in the playbook's time.
#[derive(Debug)]
struct StandsStill;

impl TimeProvider for StandsStill {
    fn current_time(&self) -> Option<UnixTime> {
        let now = Clock::test().unix();
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs_f64(now)))
    }
}

/// A CA with its leaves, made once for all playbooks.
pub(crate) struct Issuer {
    authority: Arc<Authority>,
    pub(crate) leaves: Arc<LeafCache>,
}

impl Issuer {
    fn new(now: f64) -> Self {
        let authority = Arc::new(Authority::generate(now).expect("a CA"));
        let leaves = Arc::new(LeafCache::new(authority.clone(), LEAF_CACHE_MAX).expect("a leaf key"));
        Self { authority, leaves }
    }
}

/// The CA of the proxy under test.
pub(crate) fn ours() -> &'static Issuer {
    static OURS: OnceLock<Issuer> = OnceLock::new();
    OURS.get_or_init(|| Issuer::new(Clock::test().unix()))
}

fn origin() -> &'static Issuer {
    static ORIGIN: OnceLock<Issuer> = OnceLock::new();
    ORIGIN.get_or_init(|| Issuer::new(Clock::real().unix()))
}

/// Believes the origin's CA, or anyone.
pub(super) fn setup(trusts_origin: bool) -> TlsSetup {
    static SETUPS: Mutex<[Option<TlsSetup>; 2]> = Mutex::new([None, None]);
    let mut setups = SETUPS.lock().expect("no play panicked here");
    let held = &mut setups[usize::from(trusts_origin)];
    if let Some(setup) = held {
        return setup.apart();
    }
    let mut typed = Typed::default();
    let file = std::env::temp_dir().join(format!("ringtap-playbook-{}.pem", std::process::id()));
    let option = if trusts_origin {
        std::fs::write(&file, origin().authority.certificate_pem()).expect("a file for the CA");
        format!("ssl_verify_upstream_trusted_ca={}", file.display())
    } else {
        "ssl_insecure".to_owned()
    };
    typed.set(&option, Source::CommandLine).expect("an option");
    let setup = TlsSetup::new(&Config::of(&typed).expect("options fit")).expect("a trust store");
    let _ = std::fs::remove_file(file);
    held.insert(setup).clone()
}

/// What an end made of wire bytes.
#[derive(Default)]
pub(crate) struct Opened {
    pub(crate) plain: Vec<u8>,
    pub(crate) closed: bool,
    pub(crate) error: Option<String>,
}

/// Feeds wire bytes to an end.
pub(crate) fn open(connection: &mut Connection, mut wire: &[u8]) -> Opened {
    let mut opened = Opened::default();
    while !wire.is_empty() {
        if connection.read_tls(&mut wire).is_err() {
            break;
        }
        match connection.process_new_packets() {
            Ok(state) => opened.closed |= state.peer_has_closed(),
            Err(error) => {
                opened.error = Some(error.to_string());
                break;
            }
        }
        let _ = connection.reader().read_to_end(&mut opened.plain);
    }
    opened
}

/// Seals what an end says.
pub(crate) fn seal(connection: &mut Connection, plain: &[u8]) {
    connection.set_buffer_limit(None);
    connection.writer().write_all(plain).expect("rustls buffers without limit");
}

/// What an end has for the wire.
pub(crate) fn wire_of(connection: &mut Connection) -> Vec<u8> {
    let mut wire = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut wire).expect("a vector takes all");
    }
    wire
}
