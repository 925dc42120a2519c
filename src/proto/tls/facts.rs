//! What flows say about a TLS connection.

use std::sync::Arc;

use rustls::{CipherSuite, CommonState, ProtocolVersion};

use crate::flow::TlsVersion;

/// The negotiated version.
pub(super) fn version(state: &CommonState) -> Option<TlsVersion> {
    match state.protocol_version()? {
        ProtocolVersion::TLSv1_2 => Some(TlsVersion::Tls12),
        ProtocolVersion::TLSv1_3 => Some(TlsVersion::Tls13),
        _ => None,
    }
}

/// The negotiated suite, by OpenSSL's name, which is what people and flow files know.
pub(super) fn cipher(state: &CommonState) -> Option<String> {
    let suite = state.negotiated_cipher_suite()?.suite();
    let name = match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        other => return Some(format!("{other:?}")),
    };
    Some(name.to_owned())
}

/// The peer's certificates, DER, end entity first.
pub(super) fn certificates(state: &CommonState) -> Arc<[Vec<u8>]> {
    state.peer_certificates().unwrap_or_default().iter().map(|cert| cert.to_vec()).collect()
}

/// Negotiated ALPN; empty if TLS went without.
pub(super) fn alpn(state: &CommonState) -> Vec<u8> {
    state.alpn_protocol().unwrap_or_default().to_vec()
}
