//! What flows say about a TLS connection.

use std::sync::Arc;

use rustls::{CipherSuite, CommonState, ProtocolVersion};

use crate::flow::TlsVersion;
use crate::proto::counters::HandshakeFailure;

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

/// What kind of failure a handshake's reason tells of: rustls' words, the kernel's, or our own.
pub(super) fn failure(reason: &str) -> HandshakeFailure {
    let said = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    const DISTRUST: [&str; 6] = [
        "UnknownCA",
        "CertificateUnknown",
        "BadCertificate",
        "CertificateExpired",
        "CertificateRevoked",
        "UnsupportedCertificate",
    ];
    if said(&["received fatal alert"]) {
        return if said(&DISTRUST) { HandshakeFailure::Untrusted } else { HandshakeFailure::Alert };
    }
    if said(&["invalid peer certificate", "peer sent no certificates"]) {
        HandshakeFailure::Untrusted
    } else if said(&["took too long", "no TLS handshake", "in time", "takes no data"]) {
        HandshakeFailure::Timeout
    } else if said(&["is incompatible", "known protocol", "protocol in common"]) {
        HandshakeFailure::Incompatible
    } else if said(&["closed", "reset by peer", "Broken pipe", "ended the handshake"]) {
        HandshakeFailure::Closed
    } else if said(&[
        "corrupt",
        "peer misbehaved",
        "cannot decrypt",
        "ClientHello",
        "inappropriate",
        "excess",
    ]) {
        HandshakeFailure::Malformed
    } else {
        HandshakeFailure::Internal
    }
}

#[cfg(test)]
mod tests {
    use rustls::{
        AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved,
    };

    use super::*;

    #[test]
    fn failures_are_told_apart_by_what_the_library_says() {
        use HandshakeFailure as Kind;
        let table = [
            (Error::AlertReceived(AlertDescription::UnknownCA), Kind::Untrusted),
            (Error::AlertReceived(AlertDescription::CertificateUnknown), Kind::Untrusted),
            (Error::AlertReceived(AlertDescription::BadCertificate), Kind::Untrusted),
            (Error::AlertReceived(AlertDescription::HandshakeFailure), Kind::Alert),
            (Error::AlertReceived(AlertDescription::ProtocolVersion), Kind::Alert),
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), Kind::Untrusted),
            (Error::InvalidCertificate(CertificateError::Expired), Kind::Untrusted),
            (Error::NoCertificatesPresented, Kind::Untrusted),
            (Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), Kind::Incompatible),
            (Error::NoApplicationProtocol, Kind::Incompatible),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), Kind::Malformed),
            (Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedCipherSuite), Kind::Malformed),
            (Error::DecryptError, Kind::Malformed),
            (Error::FailedToGetRandomBytes, Kind::Internal),
        ];
        for (error, kind) in table {
            let text = error.to_string();
            assert_eq!(failure(&text), kind, "{text}");
            assert_eq!(failure(&format!("TLS with example.test:443: {text}")), kind, "{text}");
        }
    }

    #[test]
    fn failures_are_told_apart_by_what_we_and_the_kernel_say() {
        use HandshakeFailure as Kind;
        let table = [
            ("connection closed during the handshake", Kind::Closed),
            ("the peer ended the handshake", Kind::Closed),
            ("closed inside the ClientHello", Kind::Closed),
            ("Connection reset by peer (os error 104)", Kind::Closed),
            ("Broken pipe (os error 32)", Kind::Closed),
            ("no complete ClientHello in time", Kind::Timeout),
            ("the handshake took too long", Kind::Timeout),
            ("no TLS handshake with 192.0.2.1:443 within 20 s", Kind::Timeout),
            ("no certificate: the CA cannot sign", Kind::Internal),
        ];
        for (text, kind) in table {
            assert_eq!(failure(text), kind, "{text}");
        }
    }
}
