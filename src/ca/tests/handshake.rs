//! rustls' own verdict: its verifier, and a handshake in memory.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::*;

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).unwrap();
    Arc::new(roots)
}

/// Both ends in memory, until neither has anything to say.
fn handshake(leaf: &Leaf, roots: Arc<RootCertStore>, host: &str) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&leaf.certified_key))));
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut server = ServerConnection::new(Arc::new(server))?;
    let host = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), host)?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets()?;
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = &wire[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(())
}

#[test]
fn rustls_shakes_hands_under_every_kind_of_ca() {
    let identity = LeafIdentity {
        names: vec![dns("*.example.com"), LeafName::Ip("2001:db8::1".parse().unwrap())],
        ..LeafIdentity::from_names(Some("example.com"), None)
    };
    for (kind, key, subject) in CAS {
        let scratch = Scratch::new();
        openssl_ca(&scratch, key, subject, "");
        let authority = authority(&scratch, &["ca.key", "ca.pem"]);
        let leaf = cache(Arc::clone(&authority)).leaf(&identity, now()).unwrap();
        for host in ["www.example.com", "2001:db8::1"] {
            handshake(&leaf, roots(&authority), host)
                .unwrap_or_else(|error| panic!("{kind}: {host}: {error}"));
        }
        assert!(handshake(&leaf, roots(&authority), "example.org").is_err(), "{kind}");
    }
}

#[test]
fn rustls_accepts_leaves_of_our_own_ca_only() {
    let ours = Arc::new(Authority::generate(now()).unwrap());
    let other = Authority::generate(now()).unwrap();
    let leaf =
        cache(Arc::clone(&ours)).leaf(&LeafIdentity::from_names(Some("example.com"), None), now()).unwrap();
    handshake(&leaf, roots(&ours), "example.com").unwrap();
    assert!(handshake(&leaf, roots(&other), "example.com").is_err());
}

#[test]
fn every_kept_name_verifies_even_among_odd_ones() {
    let ours = Arc::new(Authority::generate(now()).unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(&ours), provider).build().unwrap();
    let identity = LeafIdentity {
        names: vec![dns("-odd-.example.com"), dns("*.a"), dns("_srv.example.com"), dns("fine.example.com")],
        ..LeafIdentity::default()
    };
    let leaf = cache(ours).leaf(&identity, now()).unwrap();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs_f64(now()));
    for host in ["_srv.example.com", "fine.example.com"] {
        let host = ServerName::try_from(host).unwrap();
        verifier.verify_server_cert(leaf.cert_der(), &[], &host, &[], at).unwrap();
    }
}
