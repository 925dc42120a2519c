//! Whom we believe: the trust store, and the verifier built on it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::config::TlsSetupError;
use super::verified::{ChainId, Trust, VerifiedChains};

/// The verifier for servers' certificates.
pub(super) fn verifier(
    provider: &Arc<CryptoProvider>,
    trusted_ca: Option<&std::path::Path>,
    insecure: bool,
) -> Result<Arc<dyn ServerCertVerifier>, TlsSetupError> {
    if insecure {
        return Ok(Arc::new(BelieveAnyone { provider: provider.clone() }));
    }
    let roots = match trusted_ca {
        Some(path) => roots_of_file(path)?,
        None => roots_of_system()?,
    };
    Ok(Arc::new(PathOnce::new(provider.clone(), roots, Arc::default())))
}

/// What [`PathOnce`] asks of a path: names another policy if that ever changes.
const POLICY: &str = "server authentication, without revocation lists";

/// Verifies as the library does, but the signatures of a chain that has been seen lately only once.
#[derive(Debug)]
struct PathOnce {
    provider: Arc<CryptoProvider>,
    roots: RootCertStore,
    trust: Trust,
    chains: Arc<VerifiedChains>,
}

/// How a path was found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    Computed,
    Remembered,
}

impl PathOnce {
    fn new(provider: Arc<CryptoProvider>, roots: RootCertStore, chains: Arc<VerifiedChains>) -> Self {
        let trust = Trust::of(&roots, POLICY);
        Self { provider, roots, trust, chains }
    }

    /// Verifies the path from the server's certificate to a root, and all dates on it. Says nothing about the name.
    fn path(
        &self,
        parsed: &ParsedCertificate<'_>,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Path, rustls::Error> {
        let chain = ChainId::of(self.trust, end_entity, intermediates);
        if self.chains.believes(&chain, now.as_secs()) {
            return Ok(Path::Remembered);
        }
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(parsed, &self.roots, intermediates, now, algorithms)?;
        let certificates = std::iter::once(end_entity).chain(intermediates);
        self.chains.remember(chain, certificates, now.as_secs());
        Ok(Path::Computed)
    }
}

impl ServerCertVerifier for PathOnce {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        self.path(&parsed, end_entity, intermediates, now)?;
        verify_server_name(&parsed, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn roots_of_file(path: &std::path::Path) -> Result<RootCertStore, TlsSetupError> {
    let fail = |reason: String| TlsSetupError::TrustFile { path: path.to_owned(), reason };
    let pem = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(&pem) {
        let cert = cert.map_err(|e| fail(e.to_string()))?;
        roots.add(cert).map_err(|e| fail(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fail("no certificate in it".into()));
    }
    Ok(roots)
}

fn roots_of_system() -> Result<RootCertStore, TlsSetupError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // system stores hold odd old certificates: those that cannot be read are left out
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map_or_else(|| "it is empty".to_owned(), ToString::to_string);
        return Err(TlsSetupError::Trust(format!(
            "no trusted certificates in the system's store ({reason}): install ca-certificates, or give --set ssl_verify_upstream_trusted_ca=FILE"
        )));
    }
    Ok(roots)
}

/// `ssl_insecure`: any certificate will do, but its key must have signed the handshake.
#[derive(Debug)]
struct BelieveAnyone {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for BelieveAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
