//! Certificates as addons and people look at them.

use aws_lc_rs::digest;
use thiserror::Error;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate, X509Name};
use x509_parser::public_key::PublicKey;

/// Alternative names that are looked at: a certificate is made by a stranger.
const NAMES_MAX: usize = 1000;

/// What is no certificate.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("no certificate: {0}")]
pub struct CertError(String);

/// A certificate (RFC 5280), taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cert {
    /// Who signed it: attributes and values, in order, e.g. `("CN", "Some CA")`.
    pub issuer: Vec<(String, String)>,
    /// Whom it is about.
    pub subject: Vec<(String, String)>,
    /// Serial number, hexadecimal digits.
    pub serial: String,
    /// Valid from, Unix seconds.
    pub notbefore: i64,
    /// Valid until, Unix seconds.
    pub notafter: i64,
    /// It may sign others.
    pub is_ca: bool,
    /// Kind and size of its key in bits, e.g. `("RSA", 2048)`.
    pub keyinfo: (String, usize),
    /// Alternative names: host names, addresses, mail addresses, URIs, as text.
    pub altnames: Vec<String>,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
}

impl Cert {
    /// Reads DER.
    ///
    /// # Errors
    /// It is no certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, CertError> {
        let (_, cert) = X509Certificate::from_der(der).map_err(|error| CertError(error.to_string()))?;
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        Ok(Self {
            issuer: attributes(cert.issuer()),
            subject: attributes(cert.subject()),
            serial: cert.tbs_certificate.raw_serial().iter().map(|byte| format!("{byte:02x}")).collect(),
            notbefore: cert.validity().not_before.timestamp(),
            notafter: cert.validity().not_after.timestamp(),
            is_ca: cert.is_ca(),
            keyinfo: keyinfo(&cert),
            altnames: altnames(&cert),
            fingerprint,
        })
    }

    /// The subject's common name.
    pub fn cn(&self) -> Option<&str> {
        self.attribute("CN")
    }

    /// The subject's organization.
    pub fn organization(&self) -> Option<&str> {
        self.attribute("O")
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        self.subject.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// It is not valid any more. `now` is in Unix seconds.
    pub fn has_expired(&self, now: f64) -> bool {
        now > self.notafter as f64
    }
}

fn attributes(name: &X509Name<'_>) -> Vec<(String, String)> {
    let short = |oid: String| match oid.as_str() {
        "2.5.4.3" => "CN".to_owned(),
        "2.5.4.6" => "C".to_owned(),
        "2.5.4.7" => "L".to_owned(),
        "2.5.4.8" => "ST".to_owned(),
        "2.5.4.10" => "O".to_owned(),
        "2.5.4.11" => "OU".to_owned(),
        _ => oid,
    };
    name.iter_attributes()
        .filter_map(|part| Some((short(part.attr_type().to_id_string()), part.as_str().ok()?.to_owned())))
        .collect()
}

fn keyinfo(cert: &X509Certificate<'_>) -> (String, usize) {
    let key = cert.public_key();
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => ("RSA".into(), rsa.key_size()),
        Ok(PublicKey::EC(point)) => ("EC".into(), point.key_size()),
        Ok(PublicKey::DSA(_)) => ("DSA".into(), 0),
        _ => (key.algorithm.algorithm.to_id_string(), key.subject_public_key.data.len() * 8),
    }
}

fn altnames(cert: &X509Certificate<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for extension in cert.extensions() {
        let ParsedExtension::SubjectAlternativeName(alternative) = extension.parsed_extension() else {
            continue;
        };
        for name in alternative.general_names.iter().take(NAMES_MAX) {
            names.extend(match name {
                GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
                    Some((*name).to_owned())
                }
                GeneralName::IPAddress(octets) => address(octets),
                _ => None,
            });
        }
    }
    names
}

fn address(octets: &[u8]) -> Option<String> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(|ip| std::net::Ipv4Addr::from(ip).to_string()),
        16 => <[u8; 16]>::try_from(octets).ok().map(|ip| std::net::Ipv6Addr::from(ip).to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_who_it_is() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params =
            rcgen::CertificateParams::new(vec!["a.test".into(), "192.0.2.1".into()]).expect("names");
        params.distinguished_name.push(rcgen::DnType::CommonName, "a.test");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Acme");
        params.not_before = rcgen::date_time_ymd(2025, 1, 1);
        params.not_after = rcgen::date_time_ymd(2025, 1, 2);
        let made = params.self_signed(&key).expect("a certificate");
        let cert = Cert::from_der(made.der()).expect("a certificate");
        assert_eq!((cert.cn(), cert.organization()), (Some("a.test"), Some("Acme")));
        assert_eq!(cert.altnames, ["a.test", "192.0.2.1"]);
        assert_eq!(cert.issuer, cert.subject);
        assert_eq!(cert.keyinfo, ("EC".to_owned(), 256));
        assert_eq!((cert.notbefore, cert.notafter), (1_735_689_600, 1_735_776_000));
        assert!(!cert.is_ca && cert.has_expired(1_735_776_001.0) && !cert.has_expired(1_735_775_999.0));
        for cut in 0..made.der().len() {
            assert!(Cert::from_der(&made.der()[..cut]).is_err());
        }
    }
}
