//! One direction's keys: records are opened where they lie and sealed straight into the block that is sent
//! (RFC 8446 §5.2, §5.3). Pure.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use rustls::{ConnectionTrafficSecrets, SupportedCipherSuite};

/// Record header (RFC 8446 §5.1).
pub(super) const HEADER_LEN: usize = 5;
/// Tag of every suite of TLS 1.3.
pub(super) const TAG_LEN: usize = 16;
/// Plaintext of one record.
pub(super) const FRAGMENT_MAX: usize = 16 * 1024;
/// What encryption may add: content type, padding, tag.
const EXPANSION_MAX: usize = 256;
/// What a sealed record adds: header, content type, tag.
pub(super) const SEALED_OVERHEAD: usize = HEADER_LEN + 1 + TAG_LEN;
/// Outer type of every protected record.
const APPLICATION_DATA: u8 = 23;

/// What a record was about (RFC 8446 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentType {
    Alert,
    Handshake,
    Data,
}

/// Why a record is refused: the alert to send, and words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) alert: u8,
    pub(super) reason: &'static str,
}

pub(super) const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const INTERNAL_ERROR: u8 = 80;

const fn refused(alert: u8, reason: &'static str) -> Refused {
    Refused { alert, reason }
}

/// Length of the whole first record, header included; `None`: the header is incomplete.
pub(super) fn record_len(bytes: &[u8]) -> Result<Option<usize>, Refused> {
    match bytes {
        [APPLICATION_DATA, 3, 3, high, low, ..] => {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            match len {
                _ if len > FRAGMENT_MAX + EXPANSION_MAX => {
                    Err(refused(RECORD_OVERFLOW, "a TLS record that is too long"))
                }
                _ if len <= TAG_LEN => Err(refused(BAD_RECORD_MAC, "a TLS record without contents")),
                _ => Ok(Some(HEADER_LEN + len)),
            }
        }
        // after the handshake everything is protected, ChangeCipherSpec is over (RFC 8446 §5)
        [kind, ..] if *kind != APPLICATION_DATA => {
            Err(refused(UNEXPECTED_MESSAGE, "an unprotected TLS record after the handshake"))
        }
        _ if bytes.len() >= HEADER_LEN => Err(refused(RECORD_OVERFLOW, "not a TLS record")),
        _ => Ok(None),
    }
}

/// Keys of one direction, and how far they have been used.
pub(super) struct Keys {
    key: LessSafeKey,
    iv: [u8; aead::NONCE_LEN],
    sequence: u64,
    /// Records after which the key must be changed (RFC 8446 §5.5).
    records_max: u64,
}

impl Keys {
    /// Keys as the handshake left them; `None` for a suite that is not of TLS 1.3.
    pub(super) fn new(
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
        suite: SupportedCipherSuite,
    ) -> Option<Self> {
        let SupportedCipherSuite::Tls13(suite) = suite else { return None };
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&aead::AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&aead::AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&aead::CHACHA20_POLY1305, key, iv),
            _ => return None,
        };
        Self::of(algorithm, key.as_ref(), iv.as_ref(), sequence, suite.common.confidentiality_limit)
    }

    /// Keys of these bytes; `None` if their number is wrong.
    pub(super) fn of(
        algorithm: &'static aead::Algorithm,
        key: &[u8],
        iv: &[u8],
        sequence: u64,
        records_max: u64,
    ) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
        Some(Self { key, iv: iv.try_into().ok()?, sequence, records_max })
    }

    /// The next record's nonce (RFC 8446 §5.3). A sequence number is never used twice.
    pub(super) fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, mask) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= mask;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Whether the key has been used as often as it may.
    pub(super) fn is_worn(&self) -> bool {
        self.sequence >= self.records_max.min(u64::MAX - 1)
    }

    /// Whether only a KeyUpdate may follow.
    pub(super) fn is_nearly_worn(&self) -> bool {
        self.sequence.saturating_add(2) >= self.records_max.min(u64::MAX - 1)
    }

    /// Opens a whole record in place; its contents are then at `HEADER_LEN..HEADER_LEN + length`.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<(ContentType, usize), Refused> {
        let (header, sealed) = record.split_at_mut(HEADER_LEN);
        let nonce = self.next_nonce();
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(&header[..]), sealed)
            .map_err(|_| refused(BAD_RECORD_MAC, "a TLS record that cannot be decrypted"))?;
        if plain.len() > FRAGMENT_MAX + 1 {
            return Err(refused(RECORD_OVERFLOW, "a TLS record whose contents are too long"));
        }
        let Some(last) = plain.iter().rposition(|byte| *byte != 0) else {
            return Err(refused(UNEXPECTED_MESSAGE, "a TLS record of padding alone"));
        };
        let content_type = match plain[last] {
            21 => ContentType::Alert,
            22 => ContentType::Handshake,
            23 => ContentType::Data,
            _ => return Err(refused(UNEXPECTED_MESSAGE, "a TLS record of a type that has no place here")),
        };
        Ok((content_type, last))
    }

    /// Seals `plain` into `out`, which must have [`SEALED_OVERHEAD`] bytes more; says how much was written.
    pub(super) fn seal(
        &mut self,
        content_type: ContentType,
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Refused> {
        let total = plain.len() + SEALED_OVERHEAD;
        let (header, body, rest) = self.split(out, plain.len())?;
        let nonce = self.next_nonce();
        self.key
            .seal_out_of_place_scatter(nonce, Aad::from(header), plain, body, &[wire(content_type)], rest)
            .map_err(|_| NOT_SEALED)?;
        Ok(total)
    }

    /// Seals the `len` bytes that lie in `out` behind room for a header; says how much was written.
    pub(super) fn seal_in_place(
        &mut self,
        content_type: ContentType,
        len: usize,
        out: &mut [u8],
    ) -> Result<usize, Refused> {
        let (header, body, rest) = self.split(out, len)?;
        let nonce = self.next_nonce();
        self.key
            .seal_in_place_scatter(nonce, Aad::from(header), body, &[wire(content_type)], rest)
            .map_err(|_| NOT_SEALED)?;
        Ok(len + SEALED_OVERHEAD)
    }

    /// Writes the header, and finds the places of contents and of type and tag.
    fn split<'a>(&self, out: &'a mut [u8], len: usize) -> Result<Places<'a>, Refused> {
        let sealed = u16::try_from(len + 1 + TAG_LEN).map_err(|_| NOT_SEALED)?;
        if self.is_worn() || len > FRAGMENT_MAX || out.len() < len + SEALED_OVERHEAD {
            return Err(NOT_SEALED);
        }
        let [high, low] = sealed.to_be_bytes();
        let header = [APPLICATION_DATA, 3, 3, high, low];
        let (first, rest) = out.split_at_mut(HEADER_LEN);
        first.copy_from_slice(&header);
        let (body, rest) = rest.split_at_mut(len);
        Ok((header, body, &mut rest[..1 + TAG_LEN]))
    }
}

/// A copy of the header; where contents go; where type and tag go.
type Places<'a> = ([u8; HEADER_LEN], &'a mut [u8], &'a mut [u8]);

const NOT_SEALED: Refused = refused(INTERNAL_ERROR, "a TLS record could not be sealed");

const fn wire(content_type: ContentType) -> u8 {
    match content_type {
        ContentType::Alert => 21,
        ContentType::Handshake => 22,
        ContentType::Data => 23,
    }
}
