//! What a remembered chain is good for, and what it must never be good for.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};

use super::super::verified::{BELIEVED_S, CHAINS_MAX};
use super::*;

/// The summer of 2025.
const NOW: u64 = 1_750_000_000;
/// New Year's Day of 2026, when the intermediate ends; the leaf would go on.
const INTERMEDIATE_ENDS: u64 = 1_767_225_600;
const NAME: &str = "example.com";

fn params(name: &str, years: (i32, i32), is_ca: bool) -> CertificateParams {
    let names = if is_ca { Vec::new() } else { vec![name.to_owned()] };
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// A CA, an intermediate, and a leaf of example.com.
struct Chain {
    root: CertificateDer<'static>,
    intermediate: CertificateDer<'static>,
    leaf: CertificateDer<'static>,
    leaf_key: KeyPair,
}

impl Chain {
    fn new() -> Self {
        let (root_key, intermediate_key, leaf_key) = (key(), key(), key());
        let root_params = params("root", (2020, 2040), true);
        let root = root_params.self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(root_params, root_key);
        let intermediate_params = params("intermediate", (2024, 2026), true);
        let intermediate = intermediate_params.signed_by(&intermediate_key, &root_issuer).unwrap();
        let issuer = Issuer::new(intermediate_params, intermediate_key);
        let leaf = params(NAME, (2025, 2027), false).signed_by(&leaf_key, &issuer).unwrap();
        Self {
            root: root.der().clone(),
            intermediate: intermediate.der().clone(),
            leaf: leaf.der().clone(),
            leaf_key,
        }
    }

    fn sent(&self) -> Vec<CertificateDer<'static>> {
        vec![self.leaf.clone(), self.intermediate.clone()]
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn trusting(root: &CertificateDer<'static>, chains: &Arc<VerifiedChains>) -> PathOnce {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    PathOnce::new(provider(), roots, chains.clone())
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

fn path(verifier: &PathOnce, sent: &[CertificateDer<'static>], now: u64) -> Result<Path, Error> {
    let parsed = ParsedCertificate::try_from(&sent[0])?;
    verifier.path(&parsed, &sent[0], &sent[1..], at(now))
}

fn verify(
    verifier: &PathOnce,
    sent: &[CertificateDer<'static>],
    name: &str,
    now: u64,
) -> Result<ServerCertVerified, Error> {
    let name = ServerName::try_from(name).unwrap();
    verifier.verify_server_cert(&sent[0], &sent[1..], &name, &[], at(now))
}

#[test]
fn a_path_is_computed_once() {
    let (chain, chains) = (Chain::new(), Arc::default());
    let verifier = trusting(&chain.root, &chains);
    assert_eq!(path(&verifier, &chain.sent(), NOW), Ok(Path::Computed));
    assert_eq!(path(&verifier, &chain.sent(), NOW), Ok(Path::Remembered));
    assert_eq!(path(&verifier, &chain.sent(), NOW + BELIEVED_S), Ok(Path::Remembered));
    assert!(verify(&verifier, &chain.sent(), NAME, NOW + 1).is_ok());
    assert_eq!(chains.len(), 1);
}

#[test]
fn a_path_is_computed_again_after_a_while_and_when_the_clock_goes_back() {
    let (chain, chains) = (Chain::new(), Arc::default());
    let verifier = trusting(&chain.root, &chains);
    assert_eq!(path(&verifier, &chain.sent(), NOW), Ok(Path::Computed));
    assert_eq!(path(&verifier, &chain.sent(), NOW + BELIEVED_S + 1), Ok(Path::Computed));
    assert_eq!(path(&verifier, &chain.sent(), NOW), Ok(Path::Computed));
    assert_eq!(chains.len(), 1, "it takes its own place");
}

#[test]
fn a_remembered_chain_vouches_for_nothing_else() {
    let (chain, other, chains) = (Chain::new(), Chain::new(), Arc::default());
    let verifier = trusting(&chain.root, &chains);
    let sent = chain.sent();
    assert_eq!(path(&verifier, &sent, NOW), Ok(Path::Computed));
    // the last byte belongs to the signature
    let mut forged = chain.leaf.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let leaf = || chain.leaf.clone();
    let hostile: Vec<(&str, Vec<CertificateDer<'static>>)> = vec![
        ("without its intermediate", vec![leaf()]),
        ("with another intermediate of the same name", vec![leaf(), other.intermediate.clone()]),
        ("with the root in the intermediate's place", vec![leaf(), chain.root.clone()]),
        ("with a changed signature", vec![forged.into(), chain.intermediate.clone()]),
        ("another leaf of that name", vec![other.leaf.clone(), chain.intermediate.clone()]),
        ("another chain of that name", other.sent()),
        ("the intermediate as a server", vec![chain.intermediate.clone(), leaf()]),
    ];
    for (what, sent) in hostile {
        assert!(path(&verifier, &sent, NOW).is_err(), "{what}");
        assert!(verify(&verifier, &sent, NAME, NOW).is_err(), "{what}");
    }
    assert_eq!(chains.len(), 1, "what was refused is not remembered");
    assert_eq!(path(&verifier, &sent, NOW), Ok(Path::Remembered));
}

#[test]
fn the_name_is_compared_every_time() {
    let (chain, chains) = (Chain::new(), Arc::default());
    let verifier = trusting(&chain.root, &chains);
    // a chain may be remembered under a name that was wrong: its path was good
    for _ in 0..2 {
        for name in ["other.test", "www.example.com", "93.184.216.34"] {
            let refused = verify(&verifier, &chain.sent(), name, NOW);
            assert!(
                matches!(
                    refused,
                    Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. }))
                ),
                "{name}: {refused:?}"
            );
        }
        assert!(verify(&verifier, &chain.sent(), NAME, NOW).is_ok());
    }
    assert_eq!(chains.len(), 1);
}

#[test]
fn a_chain_is_believed_no_longer_than_its_first_certificate_that_ends() {
    let (chain, chains) = (Chain::new(), Arc::default());
    let verifier = trusting(&chain.root, &chains);
    let late = INTERMEDIATE_ENDS - 10;
    assert_eq!(path(&verifier, &chain.sent(), late), Ok(Path::Computed));
    assert_eq!(path(&verifier, &chain.sent(), INTERMEDIATE_ENDS), Ok(Path::Remembered));
    let expired = verify(&verifier, &chain.sent(), NAME, INTERMEDIATE_ENDS + 1);
    assert!(
        matches!(expired, Err(Error::InvalidCertificate(CertificateError::ExpiredContext { .. }))),
        "{expired:?}"
    );
    let early = verify(&verifier, &chain.sent(), NAME, NOW - 365 * 86400);
    assert!(
        matches!(early, Err(Error::InvalidCertificate(CertificateError::NotValidYetContext { .. }))),
        "{early:?}"
    );
}

#[test]
fn an_expired_certificate_that_is_sent_for_nothing_does_not_matter() {
    let (chain, chains) = (Chain::new(), Arc::default());
    let verifier = trusting(&chain.root, &chains);
    let old = params("old", (2010, 2020), true).self_signed(&key()).unwrap();
    let sent = [chain.sent(), vec![old.der().clone()]].concat();
    assert_eq!(path(&verifier, &sent, NOW), Ok(Path::Computed));
    assert_eq!(path(&verifier, &sent, NOW), Ok(Path::Remembered));
    assert!(path(&verifier, &sent, INTERMEDIATE_ENDS + 1).is_err());
}

#[test]
fn what_others_trust_is_not_believed() {
    let (chain, other, chains) = (Chain::new(), Chain::new(), Arc::default());
    let verifier = trusting(&chain.root, &chains);
    assert_eq!(path(&verifier, &chain.sent(), NOW), Ok(Path::Computed));
    let stranger = trusting(&other.root, &chains);
    assert!(path(&stranger, &chain.sent(), NOW).is_err());
    let mut stricter = trusting(&chain.root, &chains);
    stricter.trust = Trust::of(&stricter.roots, "another policy");
    assert_eq!(path(&stricter, &chain.sent(), NOW), Ok(Path::Computed), "not the first policy's word");
    // loaded again, with the same roots
    assert_eq!(path(&trusting(&chain.root, &chains), &chain.sent(), NOW), Ok(Path::Remembered));
}

#[test]
fn the_oldest_of_too_many_chains_is_forgotten() {
    let chain = Chain::new();
    let trust = Trust::of(&RootCertStore::empty(), POLICY);
    let chains = VerifiedChains::default();
    let id = |n: usize| ChainId::of(trust, &CertificateDer::from(n.to_be_bytes().to_vec()), &[]);
    for n in 0..=CHAINS_MAX {
        chains.remember(id(n), [&chain.leaf].into_iter(), NOW);
    }
    assert_eq!(chains.len(), CHAINS_MAX);
    assert!(!chains.believes(&id(0), NOW) && chains.believes(&id(1), NOW));
    assert!(chains.believes(&id(CHAINS_MAX), NOW));
}

#[test]
fn certificates_cut_elsewhere_are_another_chain() {
    let trust = Trust::of(&RootCertStore::empty(), POLICY);
    let of = |parts: &[&'static [u8]]| {
        let parts: Vec<_> = parts.iter().map(|part| CertificateDer::from(*part)).collect();
        ChainId::of(trust, &parts[0], &parts[1..])
    };
    let ids = [of(&[b"ab", b"c"]), of(&[b"a", b"bc"]), of(&[b"abc"]), of(&[b"abc", b""]), of(&[b"c", b"ab"])];
    for (n, id) in ids.iter().enumerate() {
        assert!(!ids[n + 1..].contains(id));
    }
}

/// Whether a client with that verifier takes a server with that chain and that key.
fn handshake(
    verifier: &Arc<PathOnce>,
    sent: Vec<CertificateDer<'static>>,
    key: &KeyPair,
) -> Result<(), Error> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(Summer));
    let config = builder
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from(NAME).unwrap())?;
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = CertifiedKey::new(sent, provider().key_provider.load_private_key(key)?);
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let config = builder.with_no_client_auth().with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    let mut server = ServerConnection::new(Arc::new(config))?;
    while client.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[derive(Debug)]
struct Summer;

impl rustls::time_provider::TimeProvider for Summer {
    fn current_time(&self) -> Option<UnixTime> {
        Some(at(NOW))
    }
}

#[test]
fn who_shows_a_remembered_chain_must_hold_its_key() {
    let (chain, chains) = (Chain::new(), Arc::default());
    let verifier = Arc::new(trusting(&chain.root, &chains));
    assert_eq!(handshake(&verifier, chain.sent(), &chain.leaf_key), Ok(()));
    assert_eq!(path(&verifier, &chain.sent(), NOW), Ok(Path::Remembered));
    let stolen = handshake(&verifier, chain.sent(), &key());
    assert_eq!(stolen, Err(Error::InvalidCertificate(CertificateError::BadSignature)));
}
