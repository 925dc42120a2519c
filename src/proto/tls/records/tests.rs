//! Published vectors, and rustls at the other end.

use std::sync::Arc;

use aws_lc_rs::aead;
use rustls::{CipherSuite, ClientConfig, Connection, ServerConfig, SupportedCipherSuite};

use super::keys::record_len;
use super::*;
use crate::proto::tls::TlsCodec;
use crate::testing::tls::{open, ours, seal, wire_of};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16);
    digits.chunks(2).map(|two| pair(two).expect("hex")).collect()
}

/// RFC 8448 §3: the client's application traffic.
fn published(records_max: u64) -> Keys {
    let (key, iv) = (hex("17422dda596ed5d9acd890e3c63f5051"), hex("5b78923dee08579033e523d9"));
    Keys::of(&aead::AES_128_GCM, &key, &iv, 0, records_max).expect("keys")
}

const PUBLISHED_RECORD: &str = "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea
    42 f9 14 aa 66 bc ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70
    14 bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4";

#[test]
fn a_published_record_is_sealed_and_opened() {
    let plain: Vec<u8> = (0..50).collect();
    let record = hex(PUBLISHED_RECORD);
    let mut out = [0; 100];
    let written = published(9).seal(ContentType::Data, &plain, &mut out).expect("sealed");
    assert_eq!(&out[..written], record);
    let mut out = [0; 100];
    out[HEADER_LEN..HEADER_LEN + 50].copy_from_slice(&plain);
    let written = published(9).seal_in_place(ContentType::Data, 50, &mut out).expect("sealed");
    assert_eq!(&out[..written], record);
    let mut record = record;
    assert_eq!(record_len(&record), Ok(Some(record.len())));
    assert_eq!(published(9).open(&mut record), Ok((ContentType::Data, 50)));
    assert_eq!(&record[HEADER_LEN..HEADER_LEN + 50], plain);
}

/// A record with these inner bytes, type and padding included.
fn inner(keys: &mut Keys, inner: &[u8]) -> Vec<u8> {
    let (kind, plain) = inner.split_last().expect("a content type");
    let key = aead::LessSafeKey::new(
        aead::UnboundKey::new(&aead::AES_128_GCM, &hex("17422dda596ed5d9acd890e3c63f5051")).expect("a key"),
    );
    let mut sealed = [plain, &[*kind]].concat();
    let [high, low] = u16::try_from(sealed.len() + 16).expect("short").to_be_bytes();
    let header = [23, 3, 3, high, low];
    let nonce = keys.next_nonce();
    key.seal_in_place_append_tag(nonce, aead::Aad::from(header), &mut sealed).expect("sealed");
    [&header[..], &sealed].concat()
}

#[test]
fn padding_is_taken_off_and_padding_alone_is_refused() {
    let mut sealing = published(99);
    let mut opening = published(99);
    let mut record = inner(&mut sealing, b"hello\x17\0\0\0");
    assert_eq!(opening.open(&mut record), Ok((ContentType::Data, 5)));
    let mut record = inner(&mut sealing, &[0; 9]);
    assert_eq!(opening.open(&mut record).map_err(|refused| refused.alert), Err(UNEXPECTED_MESSAGE));
    let mut record = inner(&mut sealing, b"x\x14");
    assert_eq!(opening.open(&mut record).map_err(|refused| refused.alert), Err(UNEXPECTED_MESSAGE));
    let longest = [&vec![b'x'; FRAGMENT_MAX][..], &[23]].concat();
    assert_eq!(opening.open(&mut inner(&mut sealing, &longest)), Ok((ContentType::Data, FRAGMENT_MAX)));
    let too_long = [&vec![b'x'; FRAGMENT_MAX + 1][..], &[23]].concat();
    let refused = opening.open(&mut inner(&mut sealing, &too_long));
    assert_eq!(refused.map_err(|refused| refused.alert), Err(22));
}

#[test]
fn headers_that_no_protected_record_has_are_refused() {
    let alert = |bytes: &[u8]| record_len(bytes).map_err(|refused| refused.alert);
    assert_eq!(alert(&[]), Ok(None));
    assert_eq!(alert(&[23, 3, 3, 0]), Ok(None));
    assert_eq!(alert(&[23, 3, 3, 0, 17]), Ok(Some(22)));
    assert_eq!(alert(&[23, 3, 3, 0x41, 0]), Ok(Some(16645)));
    assert_eq!(alert(&[23, 3, 3, 0x41, 1]), Err(22));
    assert_eq!(alert(&[23, 3, 3, 0, 16]), Err(20));
    assert_eq!(alert(&[20, 3, 3, 0, 1]), Err(10));
    assert_eq!(alert(b"GET /"), Err(10));
    assert_eq!(alert(&[23, 2, 0, 0, 99]), Err(22));
}

#[test]
fn a_key_is_used_no_more_often_than_its_suite_allows() {
    let mut keys = published(2);
    let mut out = [0; 100];
    assert!(keys.seal(ContentType::Data, b"1", &mut out).is_ok());
    assert!(keys.is_nearly_worn());
    assert!(keys.seal(ContentType::Data, b"2", &mut out).is_ok());
    assert!(keys.seal(ContentType::Data, b"3", &mut out).is_err());
}

/// Our end as records, and rustls at the other.
struct Ends {
    records: Box<dyn Transform>,
    peer: Connection,
    pool: Rc<BlockPool>,
}

fn provider(suite: CipherSuite) -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.retain(|one: &SupportedCipherSuite| one.suite() == suite);
    Arc::new(provider)
}

const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

impl Ends {
    fn shaken(suite: CipherSuite, we_are_client: bool) -> Self {
        let provider = provider(suite);
        let leaf = crate::ca::LeafIdentity::from_names(Some("example.com"), None);
        let now = crate::clock::Clock::real().unix();
        let leaf = ours().leaves.leaf(&leaf, now).expect("a leaf");
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(leaf.certified_key.clone())));
        server.enable_secret_extraction = true;
        let trust = crate::proto::tls::verify::verifier(&provider, None, true).expect("a verifier");
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(trust)
            .with_no_client_auth();
        client.enable_secret_extraction = true;
        let name = rustls::pki_types::ServerName::try_from("example.com").expect("a name");
        let pool = BlockPool::new(1000, 4);
        let (server, client) = (Arc::new(server), Arc::new(client));
        let (codec, peer) = if we_are_client {
            let ours = rustls::client::UnbufferedClientConnection::new(client, name).expect("a client");
            let peer = rustls::ServerConnection::new(server).expect("a server");
            (TlsCodec::client(ours, pool.clone()), Connection::from(peer))
        } else {
            let ours = rustls::server::UnbufferedServerConnection::new(server).expect("a server");
            let peer = rustls::ClientConnection::new(client, name).expect("a client");
            (TlsCodec::server(ours, pool.clone()), Connection::from(peer))
        };
        Self::shake(codec, peer, pool, we_are_client)
    }

    fn shake(mut codec: TlsCodec, mut peer: Connection, pool: Rc<BlockPool>, starts: bool) -> Self {
        let mut step = Step::default();
        if starts {
            codec.start(&mut step).expect("a hello");
        }
        while !codec.is_established() || peer.is_handshaking() || !step.wire.is_empty() {
            let wire = bytes(std::mem::take(&mut step.wire));
            assert_eq!(open(&mut peer, &wire).error, None);
            let wire = wire_of(&mut peer);
            // what follows our handshake is for the record layer: tickets, at a client
            if !codec.is_established() && !wire.is_empty() {
                codec.open(Buffer::copied(&wire), &mut step).expect("a handshake");
            } else if !wire.is_empty() {
                let mut records = codec.into_transform(true);
                records.open(Buffer::copied(&wire), &mut step).expect("tickets");
                assert!(step.plain.is_empty());
                return Self { records, peer, pool };
            }
        }
        Self { records: codec.into_transform(true), peer, pool }
    }

    /// What we make of wire bytes: contents, whether that was all, and our answer.
    fn opens(&mut self, wire: &[u8]) -> Result<Found, (TransformError, Vec<u8>)> {
        let mut step = Step::default();
        match self.records.open(Buffer::copied(wire), &mut step) {
            Ok(()) => Ok((bytes(step.plain), step.ended, bytes(step.wire))),
            Err(error) => Err((error, bytes(step.wire))),
        }
    }

    fn seals(&mut self, plain: Chunks) -> Vec<u8> {
        let mut step = Step::default();
        self.records.seal(plain, &mut step).expect("sealed");
        bytes(step.wire)
    }

    fn peer_says(&mut self, plain: &[u8]) -> Vec<u8> {
        seal(&mut self.peer, plain);
        wire_of(&mut self.peer)
    }
}

type Found = (Vec<u8>, bool, Vec<u8>);

fn bytes(chunks: Chunks) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| chunk.iter().copied()).collect()
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n % 251) as u8).collect()
}

#[test]
fn every_suite_and_side_speaks_with_rustls_both_ways() {
    for suite in SUITES {
        for we_are_client in [false, true] {
            let mut ends = Ends::shaken(suite, we_are_client);
            for len in [1, 1000, FRAGMENT_MAX - 1, FRAGMENT_MAX, FRAGMENT_MAX + 1, 200_000] {
                let said = text(len);
                let wire = ends.peer_says(&said);
                assert_eq!(ends.opens(&wire).expect("opened").0, said, "{suite:?} {len}");
                let wire = ends.seals(Chunks::from(said.clone()));
                let opened = open(&mut ends.peer, &wire);
                assert_eq!((opened.error, opened.plain), (None, said), "{suite:?} {len}");
            }
            assert_eq!(ends.pool.in_use(), 0, "every block went home");
        }
    }
}

#[test]
fn records_may_come_in_any_pieces() {
    let said = text(40_000);
    for piece in [1, 2, 3, 4, 5, 6, 7, 21, 1000, 16_405, 16_406, 16_407, 20_000, 33_000] {
        let mut ends = Ends::shaken(SUITES[0], false);
        let wire = ends.peer_says(&said);
        let mut opened = Vec::new();
        for piece in wire.chunks(piece) {
            opened.extend(ends.opens(piece).expect("opened").0);
        }
        assert_eq!(opened, said, "in pieces of {piece}");
        assert_eq!(ends.pool.in_use(), 0);
    }
}

#[test]
fn small_neighbours_share_a_record_and_large_ones_do_not_grow_it() {
    let mut ends = Ends::shaken(SUITES[0], false);
    let chunks = |lens: &[usize]| {
        let mut chunks = Chunks::default();
        lens.iter().for_each(|len| chunks.push(text(*len).into()));
        chunks
    };
    let records = |wire: &[u8]| {
        let (mut at, mut count) = (0, 0);
        while let Ok(Some(len)) = record_len(&wire[at..]) {
            (at, count) = (at + len, count + 1);
        }
        count
    };
    for (lens, count) in [
        (&[100, 900][..], 1),
        (&[100, 900, 5, 6, 7], 1),
        (&[100, FRAGMENT_MAX - 100], 1),
        (&[100, FRAGMENT_MAX - 99], 2),
        (&[FRAGMENT_MAX + 1, 10], 3),
        (&[10, 40_000, 10], 5),
    ] {
        let wire = ends.seals(chunks(lens));
        assert_eq!(records(&wire), count, "{lens:?}");
        let opened = open(&mut ends.peer, &wire);
        assert_eq!((opened.error, opened.plain), (None, bytes(chunks(lens))), "{lens:?}");
    }
}

#[test]
fn keys_change_when_the_peer_wants_it_and_ours_follow() {
    for we_are_client in [false, true] {
        let mut ends = Ends::shaken(SUITES[0], we_are_client);
        for round in 0..5 {
            ends.peer.refresh_traffic_keys().expect("a KeyUpdate");
            let wire = [wire_of(&mut ends.peer), ends.peer_says(b"after")].concat();
            assert_eq!(ends.opens(&wire).expect("opened").0, b"after", "round {round}");
            // ours are changed before the next data, and only once
            let (first, second) = (ends.seals("one".into()), ends.seals("two".into()));
            assert!(first.len() > second.len(), "the KeyUpdate goes before the data");
            let opened = open(&mut ends.peer, &[first, second].concat());
            assert_eq!((opened.error, &opened.plain[..]), (None, &b"onetwo"[..]));
        }
    }
}

#[test]
fn key_updates_without_data_are_limited() {
    let mut ends = Ends::shaken(SUITES[0], false);
    for _ in 0..KEY_UPDATES_MAX {
        ends.peer.refresh_traffic_keys().expect("a KeyUpdate");
        let wire = wire_of(&mut ends.peer);
        assert!(ends.opens(&wire).expect("allowed").2.is_empty(), "nothing is queued for one who only asks");
    }
    ends.peer.refresh_traffic_keys().expect("a KeyUpdate");
    let wire = wire_of(&mut ends.peer);
    let (error, alert) = ends.opens(&wire).expect_err("too many");
    assert!(error.to_string().contains("KeyUpdate"), "{error}");
    assert!(open(&mut ends.peer, &alert).error.is_some_and(|said| said.contains("UnexpectedMessage")));
}

#[test]
fn a_goodbye_is_told_from_a_broken_connection() {
    let mut ends = Ends::shaken(SUITES[0], false);
    let wire = ends.peer_says(b"last words");
    ends.peer.send_close_notify();
    let wire = [wire, wire_of(&mut ends.peer)].concat();
    let (plain, ended, answer) = ends.opens(&wire).expect("opened");
    assert_eq!((&plain[..], ended, answer.len()), (&b"last words"[..], true, 0));
    // our direction goes on until we end it ourselves, once
    let wire = ends.seals("mine".into());
    assert_eq!(open(&mut ends.peer, &wire).plain, b"mine");
    let mut step = Step::default();
    ends.records.close(&mut step);
    let length = step.wire.len();
    ends.records.close(&mut step);
    assert_eq!(step.wire.len(), length);
    assert!(open(&mut ends.peer, &bytes(step.wire)).closed);
    assert!(ends.records.seal("more".into(), &mut Step::default()).is_err());
}

#[test]
fn what_comes_before_a_broken_record_is_delivered_and_the_peer_is_told() {
    let mut ends = Ends::shaken(SUITES[0], false);
    let (good, mut bad) = (ends.peer_says(b"good"), ends.peer_says(b"bad"));
    *bad.last_mut().expect("a tag") ^= 1;
    let mut step = Step::default();
    let wire = [good, bad].concat();
    let error = ends.records.open(Buffer::copied(&wire), &mut step).expect_err("cannot be decrypted");
    assert_eq!(bytes(step.plain), b"good");
    assert!(error.to_string().contains("cannot be decrypted"), "{error}");
    let told = open(&mut ends.peer, &bytes(step.wire)).error.expect("an alert");
    assert!(told.contains("BadRecordMac"), "{told}");
    assert!(ends.opens(b"more").is_err(), "and that was it");
}

#[test]
fn a_peers_alert_is_named_and_not_answered() {
    let mut ends = Ends::shaken(SUITES[0], false);
    // rustls sends one for a record it cannot read
    let told = open(&mut ends.peer, &[&[23, 3, 3, 0, 40][..], &[7; 40]].concat());
    assert!(told.error.is_some());
    let wire = wire_of(&mut ends.peer);
    let (error, answer) = ends.opens(&wire).expect_err("an alert");
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    assert!(answer.is_empty());
}

#[test]
fn garbage_and_repeated_records_end_the_connection() {
    let mut ends = Ends::shaken(SUITES[0], false);
    let once = ends.peer_says(b"once");
    assert!(ends.opens(&once).is_ok());
    assert!(ends.opens(&once).is_err(), "a sequence number counts once");
    for garbage in [&b"GET / HTTP/1.1\r\n"[..], &[20, 3, 3, 0, 1, 1], &[22, 3, 3, 0, 2, 0, 0], &[0; 40]] {
        assert!(Ends::shaken(SUITES[0], false).opens(garbage).is_err(), "{garbage:?}");
    }
}

#[test]
fn a_peer_that_sends_little_holds_little() {
    let mut ends = Ends::shaken(SUITES[0], false);
    let wire = ends.peer_says(&text(16_000));
    assert!(ends.opens(&wire[..100]).expect("a piece").0.is_empty());
    assert_eq!(ends.pool.in_use(), 0, "a small piece takes no block");
    assert_eq!(ends.opens(&wire[100..]).expect("the rest").0.len(), 16_000);
}

#[test]
fn tls_1_2_stays_with_rustls() {
    use crate::testing::{ClientHandshake, Playbook, ServerHandshake};
    let said = text(100_000);
    Playbook::transparent("93.184.216.34:443")
        .trusting_origin()
        .option("tls_inplace_records", "true")
        .client_starts_tls(ClientHandshake::to("example.com").tls12())
        .connects_tls("93.184.216.34:443", ServerHandshake::of("example.com"))
        .client_sends("PUT / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100000\r\n\r\n")
        .server_gets("PUT / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 100000\r\n\r\n")
        .client_sends(said.clone())
        .server_gets(said)
        .server_sends("HTTP/1.1 204 No Content\r\n\r\n")
        .client_gets("HTTP/1.1 204 No Content\r\n\r\n")
        .client_closes()
        .client_sees_end()
        .server_sees_end()
        .play();
}
