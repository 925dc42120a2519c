//! What it costs to make a leaf that was not asked for before, and to verify a server's chain.

mod quick;

use std::cell::Cell;
use std::hint::black_box;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use ringtap::ca::{Authority, LEAF_CACHE_MAX, LeafCache, LeafIdentity};
use ringtap::config::{Config, Source, Typed};
use ringtap::proto::tls::{TlsContexts, TlsSetup};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

fn now() -> f64 {
    ringtap::clock::Clock::real().unix()
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "a benchmark's CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn rsa_authority() -> Authority {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::{KeyPair as RsaKey, KeySize};
    let key = RsaKey::generate(KeySize::Rsa2048).expect("a key");
    let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().expect("a key as PKCS#8");
    let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(der.as_ref())).expect("a key for rcgen");
    let certificate = ca_params().self_signed(&key).expect("a certificate");
    let pem = key.serialize_pem() + &certificate.pem();
    Authority::from_pem(pem.as_bytes(), Path::new("benchmark.pem"), now()).expect("a CA")
}

fn leaves(c: &mut Criterion) {
    let mut group = c.benchmark_group("leaf");
    for (name, authority) in
        [("P-256", Authority::generate(now()).expect("a CA")), ("RSA 2048", rsa_authority())]
    {
        let leaves = LeafCache::new(Arc::new(authority), LEAF_CACHE_MAX).expect("a leaf key");
        let count = Cell::new(0u64);
        let now = now();
        group.bench_function(format!("new, signed with {name}"), |b| {
            b.iter_batched(
                || {
                    count.set(count.get() + 1);
                    LeafIdentity::from_names(Some(&format!("host-{}.example.com", count.get())), None)
                },
                |identity| leaves.leaf(&identity, now).is_ok(),
                BatchSize::SmallInput,
            );
        });
        let known = LeafIdentity::from_names(Some("example.com"), None);
        group.bench_function(format!("known, signed with {name}"), |b| {
            b.iter(|| leaves.leaf(black_box(&known), now).is_ok());
        });
    }
    group.finish();
}

/// A server with a root, an intermediate and a leaf, all P-256, and a file with the root.
struct Origin {
    server: Arc<ServerConfig>,
    trust: std::path::PathBuf,
}

impl Origin {
    fn new() -> Self {
        let key = || KeyPair::generate().expect("a key");
        let (root_key, intermediate_key, leaf_key) = (key(), key(), key());
        let root = ca_params().self_signed(&root_key).expect("a root");
        let root_issuer = Issuer::new(ca_params(), root_key);
        let mut params = ca_params();
        params.distinguished_name.push(rcgen::DnType::CommonName, "an intermediate");
        let intermediate = params.signed_by(&intermediate_key, &root_issuer).expect("an intermediate");
        let issuer = Issuer::new(params, intermediate_key);
        let leaf = CertificateParams::new(vec!["example.com".to_owned()]).expect("a name");
        let leaf = leaf.signed_by(&leaf_key, &issuer).expect("a leaf");
        let chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone(), intermediate.der().clone()];

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(leaf_key.serialize_der()).expect("a key");
        let key = provider.key_provider.load_private_key(key).expect("a key for the server");
        let resolver = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("versions fit").with_no_client_auth();
        let trust = std::env::temp_dir().join(format!("ringtap-benchmark-{}.pem", std::process::id()));
        std::fs::write(&trust, root.pem()).expect("a file for the root");
        Self { server: Arc::new(builder.with_cert_resolver(Arc::new(resolver))), trust }
    }

    fn setup(&self) -> TlsSetup {
        let mut typed = Typed::default();
        let option = format!("ssl_verify_upstream_trusted_ca={}", self.trust.display());
        typed.set(&option, Source::CommandLine).expect("an option");
        TlsSetup::new(&Config::of(&typed).expect("options fit")).expect("a trust store")
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.trust);
    }
}

fn client_config(setup: TlsSetup) -> Arc<ClientConfig> {
    let addr = SocketAddr::from(([192, 0, 2, 1], 443));
    TlsContexts::new(setup).for_server(addr, "example.com", &[]).expect("a configuration")
}

fn shake_hands(config: Arc<ClientConfig>, server: Arc<ServerConfig>) {
    let name = ServerName::try_from("example.com").expect("a name");
    let mut client = ClientConnection::new(config, name).expect("a client");
    let mut server = ServerConnection::new(server).expect("a server");
    let mut wire = Vec::with_capacity(8192);
    while client.is_handshaking() {
        wire.clear();
        client.write_tls(&mut wire).expect("a vector takes all");
        server.read_tls(&mut &wire[..]).expect("a server reads");
        server.process_new_packets().expect("a server goes on");
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("a vector takes all");
        }
        client.read_tls(&mut &wire[..]).expect("a client reads");
        client.process_new_packets().expect("a client goes on");
    }
}

/// Both sides of a full handshake: what differs is whether we have verified the chain before.
fn chains(c: &mut Criterion) {
    let origin = Origin::new();
    let mut group = c.benchmark_group("handshake with a server");
    group.bench_function("chain not seen before", |b| {
        b.iter_batched(
            || client_config(origin.setup()),
            |config| shake_hands(config, origin.server.clone()),
            BatchSize::SmallInput,
        );
    });
    let setup = origin.setup();
    shake_hands(client_config(setup.clone()), origin.server.clone());
    group.bench_function("chain verified before", |b| {
        b.iter_batched(
            || client_config(setup.clone()),
            |config| shake_hands(config, origin.server.clone()),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group! { name = benches; config = quick::criterion(); targets = leaves, chains }
criterion_main!(benches);
