//! The CA: its certificate, its key, and the certificates that clients need beside a leaf.

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{Signer, SigningKey};
use x509_parser::prelude::{FromDer, ParsedExtension, SubjectPublicKeyInfo, X509Certificate};

use super::CaError;
use super::der::{Civil, pem};

/// A CA that can sign leaves.
pub struct Authority {
    file: PathBuf,
    certificate: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    subject: Vec<u8>,
    key_id: Vec<u8>,
    not_after: i64,
    signer: Box<dyn Signer>,
    algorithm: &'static [u8],
}

impl Authority {
    /// A CA of PEM text with a private key and one or more certificates, in any order. `file` is for messages only.
    pub fn from_pem(text: &[u8], file: &Path, now_unix: f64) -> Result<Self, CaError> {
        let key = private_key(text, file)?;
        let certificates = certificates(text, file)?;
        let unusable = |reason: String| CaError::UnusableKey { path: file.into(), reason };
        let key = any_supported_type(&key).map_err(|error| unusable(error.to_string()))?;
        let public = key.public_key().ok_or_else(|| unusable("it has no public half".into()))?;
        let (_, public) =
            SubjectPublicKeyInfo::from_der(&public).map_err(|error| unusable(error.to_string()))?;
        // Key bits are compared, not whole key infos: parameters may be written in more than one way.
        let public = public.subject_public_key.data;

        let mut own = None;
        for (at, der) in certificates.iter().enumerate() {
            let parsed = parse(der, file)?;
            if own.is_none() && parsed.public_key().subject_public_key.data == public {
                own = Some((at, parsed));
            }
        }
        let (at, own) = own.ok_or_else(|| CaError::KeyMismatch { path: file.into() })?;
        check_is_ca(&own, file)?;
        let not_after = own.validity().not_after.timestamp();
        if whole_seconds(now_unix) > not_after {
            return Err(CaError::Expired { path: file.into(), not_after });
        }
        let (signer, algorithm) = signer(&*key).ok_or_else(|| unusable("unsupported kind".into()))?;
        Ok(Self {
            file: file.into(),
            subject: own.subject().as_raw().to_vec(),
            key_id: key_id(&own),
            chain: chain(&certificates, at, own.subject().as_raw() == own.issuer().as_raw()),
            certificate: certificates[at].clone(),
            not_after,
            signer,
            algorithm,
        })
    }

    /// The CA's own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The CA's own certificate as PEM, as a device imports it.
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// What clients are sent after the leaf. Empty for a lone root, which they have already.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Last second of the CA's validity, in unix seconds.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// The file it came from, for messages.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The CA's subject, DER as in its certificate: a leaf's issuer has to be equal byte for byte.
    pub(super) fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// What a leaf's authority key identifier says.
    pub(super) fn key_id(&self) -> &[u8] {
        &self.key_id
    }

    /// The AlgorithmIdentifier of [`Authority::sign`], as DER.
    pub(super) fn algorithm(&self) -> &'static [u8] {
        self.algorithm
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CaError> {
        let failed =
            |error: rustls::Error| CaError::Crypto { doing: "sign a leaf", reason: error.to_string() };
        self.signer.sign(message).map_err(failed)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Unix seconds without the fraction, within what a certificate can name.
pub(super) fn whole_seconds(unix: f64) -> i64 {
    (unix as i64).clamp(0, Civil::MAX_UNIX)
}

fn private_key(text: &[u8], file: &Path) -> Result<PrivateKeyDer<'static>, CaError> {
    let path = || file.into();
    let has = |marker: &[u8]| text.windows(marker.len()).any(|window| window == marker);
    if has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(CaError::EncryptedKey { path: path() });
    }
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => Err(CaError::NoKey { path: path() }),
        // The library's own words would repeat the damaged line, and that may be part of the key.
        Err(_) => Err(CaError::Damaged { path: path(), reason: "a PEM section cannot be decoded".into() }),
    }
}

fn certificates(text: &[u8], file: &Path) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let mut found: Vec<CertificateDer<'static>> = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let damaged =
            |_| CaError::Damaged { path: file.into(), reason: "a PEM section cannot be decoded".into() };
        let certificate = certificate.map_err(damaged)?;
        if !found.contains(&certificate) {
            found.push(certificate);
        }
    }
    if found.is_empty() { Err(CaError::NoCertificate { path: file.into() }) } else { Ok(found) }
}

fn parse<'a>(der: &'a [u8], file: &Path) -> Result<X509Certificate<'a>, CaError> {
    let damaged = |error| CaError::Damaged {
        path: file.into(),
        reason: format!("a certificate cannot be parsed ({error})"),
    };
    X509Certificate::from_der(der).map(|(_, certificate)| certificate).map_err(damaged)
}

fn check_is_ca(certificate: &X509Certificate<'_>, file: &Path) -> Result<(), CaError> {
    let mut is_ca = false;
    let mut may_sign = true;
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::BasicConstraints(constraints) => is_ca = constraints.ca,
            ParsedExtension::KeyUsage(usage) => may_sign = usage.key_cert_sign(),
            _ => {}
        }
    }
    let reason = if !is_ca {
        "its basicConstraints do not say CA:TRUE"
    } else if !may_sign {
        "its keyUsage does not allow keyCertSign"
    } else if certificate.subject().iter().next().is_none() {
        "its subject is empty"
    } else {
        return Ok(());
    };
    Err(CaError::NotACa { path: file.into(), reason })
}

/// The CA's subject key identifier, or the SHA-1 of its key (RFC 5280 §4.2.1.2, method 1) if it has none.
fn key_id(certificate: &X509Certificate<'_>) -> Vec<u8> {
    let stated = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
        _ => None,
    });
    stated.unwrap_or_else(|| {
        let bits = &certificate.public_key().subject_public_key.data;
        digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bits).as_ref().to_vec()
    })
}

/// The certificates to send: ours first, then the others as they came. A lone root is not worth its bytes, but an
/// intermediate CA has to be sent even when the file holds nothing else.
fn chain(all: &[CertificateDer<'static>], own: usize, self_issued: bool) -> Vec<CertificateDer<'static>> {
    if all.len() == 1 && self_issued {
        return Vec::new();
    }
    let others = all.iter().enumerate().filter(|(at, _)| *at != own).map(|(_, certificate)| certificate);
    std::iter::once(&all[own]).chain(others).cloned().collect()
}

/// Who signs, and the DER AlgorithmIdentifier that says how (RFC 3279, RFC 4055, RFC 5758, RFC 8410).
fn signer(key: &dyn SigningKey) -> Option<(Box<dyn Signer>, &'static [u8])> {
    const ALGORITHMS: &[(SignatureScheme, &[u8])] = &[
        // sha256WithRSAEncryption 1.2.840.113549.1.1.11, with NULL parameters
        (
            SignatureScheme::RSA_PKCS1_SHA256,
            &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00],
        ),
        // ecdsa-with-SHA256, -SHA384, -SHA512 1.2.840.10045.4.3.{2,3,4}
        (
            SignatureScheme::ECDSA_NISTP256_SHA256,
            &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
        ),
        (
            SignatureScheme::ECDSA_NISTP384_SHA384,
            &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03],
        ),
        (
            SignatureScheme::ECDSA_NISTP521_SHA512,
            &[0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04],
        ),
        // id-Ed25519 1.3.101.112
        (SignatureScheme::ED25519, &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70]),
    ];
    ALGORITHMS.iter().find_map(|(scheme, algorithm)| Some((key.choose_scheme(&[*scheme])?, *algorithm)))
}
