//! Write and sign a leaf certificate.
//!
//! Written by hand, because a leaf's issuer must be the CA's subject byte for byte: a library that takes a name apart
//! and puts it together again changes string types, and loses attributes that occur twice.

use std::net::IpAddr;
use std::sync::Arc;

use super::authority::whole_seconds;
use super::der::{
    BIT_STRING, BOOLEAN, Der, INTEGER, OCTET_STRING, OID, SEQUENCE, SET, UTF8_STRING, context_constructed,
    context_primitive,
};
use super::files::random;
use super::{Authority, CaError, LeafIdentity, LeafName};

const DAY: i64 = 86_400;
/// Clients whose clocks are behind accept the leaf all the same.
const BACKDATED: i64 = 2 * DAY;
/// Counted from now; together with the backdating well below the 398 days that clients accept.
const VALID: i64 = 199 * DAY;

const AT_COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const AT_ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const EXT_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const EXT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const EXT_BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const EXT_AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
const EXT_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const KP_SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// What all leaves of a CA have in common, as DER.
pub(super) struct LeafTemplate {
    authority: Arc<Authority>,
    /// The public half of the leaves' key, a SubjectPublicKeyInfo.
    public_key: Vec<u8>,
    /// All extensions but the names.
    extensions: Vec<u8>,
}

/// A signed leaf.
pub(super) struct Minted {
    pub(super) der: Vec<u8>,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl LeafTemplate {
    /// A template for leaves with this public key (a SubjectPublicKeyInfo).
    pub(super) fn new(authority: Arc<Authority>, public_key: &[u8]) -> Self {
        let mut der = Der::with_capacity(128);
        extension(&mut der, EXT_BASIC_CONSTRAINTS, true, |der| der.element(SEQUENCE, &[]));
        // digitalSignature: bit 0, so 7 bits are unused. ECDSA keys do nothing else in TLS.
        extension(&mut der, EXT_KEY_USAGE, true, |der| der.element(BIT_STRING, &[7, 0x80]));
        extension(&mut der, EXT_EXTENDED_KEY_USAGE, false, |der| {
            der.nest(SEQUENCE, |der| der.element(OID, KP_SERVER_AUTH));
        });
        extension(&mut der, EXT_AUTHORITY_KEY_ID, false, |der| {
            der.nest(SEQUENCE, |der| der.element(context_primitive(0), authority.key_id()));
        });
        Self { authority, public_key: public_key.to_vec(), extensions: der.finish() }
    }

    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A leaf for this identity.
    pub(super) fn mint(&self, identity: &LeafIdentity, now_unix: f64) -> Result<Minted, CaError> {
        if identity.names.is_empty() {
            return Err(CaError::NoName);
        }
        let (not_before, not_after) = self.validity(identity, now_unix)?;
        let mut serial = random::<16>()?;
        // A leading 01 bit: positive, and always of the same length.
        serial[0] = serial[0] & 0x3f | 0x40;

        let name_bytes = identity.names.len() * 4 + identity.names.iter().map(LeafName::size).sum::<usize>();
        let mut tbs = Der::with_capacity(512 + name_bytes + self.authority.subject().len());
        tbs.nest(SEQUENCE, |der| {
            der.nest(context_constructed(0), |der| der.element(INTEGER, &[2])); // version 3
            der.element(INTEGER, &serial);
            der.raw(self.authority.algorithm());
            der.raw(self.authority.subject());
            der.nest(SEQUENCE, |der| {
                der.time(not_before);
                der.time(not_after);
            });
            let subject_is_empty = subject(der, identity);
            der.raw(&self.public_key);
            der.nest(context_constructed(3), |der| {
                der.nest(SEQUENCE, |der| {
                    der.raw(&self.extensions);
                    // RFC 5280 §4.2.1.6: critical when the subject says nothing.
                    extension(der, EXT_ALTERNATIVE_NAME, subject_is_empty, |der| {
                        der.nest(SEQUENCE, |der| {
                            identity.names.iter().for_each(|name| alternative_name(der, name));
                        });
                    });
                });
            });
        });
        let tbs = tbs.finish();
        let signature = self.authority.sign(&tbs)?;

        let mut certificate = Der::with_capacity(tbs.len() + signature.len() + 32);
        certificate.nest(SEQUENCE, |der| {
            der.raw(&tbs);
            der.raw(self.authority.algorithm());
            der.bit_string(&signature);
        });
        Ok(Minted { der: certificate.finish(), not_before, not_after })
    }

    fn validity(&self, identity: &LeafIdentity, now_unix: f64) -> Result<(i64, i64), CaError> {
        let now = whole_seconds(now_unix);
        let ca_not_after = self.authority.not_after();
        if now > ca_not_after {
            let path = self.authority.file().to_path_buf();
            return Err(CaError::Expired { path, not_after: ca_not_after });
        }
        // Whether an expired server is acceptable has been decided by the time a leaf is asked for.
        let upstream = identity.not_after.filter(|not_after| *not_after > now).unwrap_or(i64::MAX);
        Ok(((now - BACKDATED).max(0), (now + VALID).min(ca_not_after).min(upstream)))
    }
}

/// Writes the subject; says whether it is empty.
fn subject(der: &mut Der, identity: &LeafIdentity) -> bool {
    let attributes = [(AT_ORGANIZATION, &identity.organization), (AT_COMMON_NAME, &identity.common_name)];
    der.nest(SEQUENCE, |der| {
        for (kind, value) in &attributes {
            let Some(value) = value else { continue };
            der.nest(SET, |der| {
                der.nest(SEQUENCE, |der| {
                    der.element(OID, kind);
                    der.element(UTF8_STRING, value.as_bytes());
                });
            });
        }
    });
    attributes.iter().all(|(_, value)| value.is_none())
}

fn extension(der: &mut Der, id: &[u8], critical: bool, value: impl FnOnce(&mut Der)) {
    der.nest(SEQUENCE, |der| {
        der.element(OID, id);
        if critical {
            der.element(BOOLEAN, &[0xff]);
        }
        der.nest(OCTET_STRING, value);
    });
}

/// A GeneralName (RFC 5280 §4.2.1.6).
fn alternative_name(der: &mut Der, name: &LeafName) {
    match name {
        LeafName::Email(address) => der.element(context_primitive(1), address.as_bytes()),
        LeafName::Dns(name) => der.element(context_primitive(2), name.as_bytes()),
        LeafName::Uri(uri) => der.element(context_primitive(6), uri.as_bytes()),
        LeafName::Ip(IpAddr::V4(ip)) => der.element(context_primitive(7), &ip.octets()),
        LeafName::Ip(IpAddr::V6(ip)) => der.element(context_primitive(7), &ip.octets()),
    }
}
