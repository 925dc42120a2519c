//! Hellos of a real client and made-up ones, cut into records and segments every way.

use std::sync::Arc;

use rustls::pki_types::ServerName;

use super::*;

type Verdict = Result<Parsed<ClientHello>, HelloError>;

/// What a real client sends first.
fn captured(name: &'static str, versions: &[&'static rustls::SupportedProtocolVersion]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from(name).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    wire
}

fn real() -> Vec<u8> {
    captured("www.Example.test", rustls::ALL_VERSIONS)
}

/// Puts a message into records of at most `size` bytes.
fn in_records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|part| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat())
        .collect()
}

/// Feeds prefixes that end at `cuts`, then everything.
fn fed(bytes: &[u8], cuts: impl Iterator<Item = usize>) -> Verdict {
    let mut reader = HelloReader::default();
    for cut in cuts {
        match reader.read(&bytes[..cut]) {
            Ok(Parsed::NeedMore) => {}
            verdict => return verdict,
        }
    }
    reader.read(bytes)
}

/// The verdict on these bytes, the same however they come.
fn verdict(bytes: &[u8]) -> Verdict {
    let whole = parse(bytes);
    assert_eq!(fed(bytes, 0..bytes.len()), whole, "byte by byte");
    for cut in 0..bytes.len() {
        assert_eq!(fed(bytes, std::iter::once(cut)), whole, "cut at {cut}");
    }
    if whole != Ok(Parsed::NeedMore) {
        assert_eq!(parse(&[bytes, &[20, 3, 3, 0, 1, 1]].concat()), whole, "with bytes behind");
    }
    whole
}

fn good(bytes: &[u8]) -> ClientHello {
    match verdict(bytes) {
        Ok(Parsed::Done { value, consumed }) if consumed == bytes.len() => value,
        other => panic!("{other:?}"),
    }
}

/// A vector with a length of so many bytes in front.
fn vec_of(length_bytes: usize, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    [&(content.len() as u32).to_be_bytes()[4 - length_bytes..], &content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vec_of(2, &[content])].concat()
}

fn server_name(names: &[(u8, &[u8])]) -> Vec<u8> {
    let names: Vec<u8> =
        names.iter().flat_map(|(kind, name)| [&[*kind][..], &vec_of(2, &[name])].concat()).collect();
    extension(0, &vec_of(2, &[&names]))
}

/// A whole handshake message with these bytes behind the compression methods.
fn message_with(tail: &[u8]) -> Vec<u8> {
    let suites = vec_of(2, &[&[0x0a, 0x0a, 0x13, 0x01, 0xc0, 0x2f]]);
    let body = [&[3, 3][..], &[7; 32], &vec_of(1, &[&[9; 32]]), &suites, &vec_of(1, &[&[0]]), tail].concat();
    [&[1][..], &vec_of(3, &[&body])].concat()
}

fn hello_with(extensions: &[&[u8]]) -> Vec<u8> {
    in_records(&message_with(&vec_of(2, extensions)), 16_384)
}

fn sni_of(name: &[u8]) -> Result<Option<String>, HelloError> {
    verdict(&hello_with(&[&server_name(&[(0, name)])])).map(|parsed| match parsed {
        Parsed::Done { value, .. } => value.sni,
        Parsed::NeedMore => panic!("whole"),
    })
}

#[test]
fn reads_a_real_clients_hello() {
    let wire = real();
    let hello = good(&wire);
    assert_eq!(hello.legacy_version, 0x0303);
    assert_eq!(hello.sni.as_deref().map(str::to_ascii_lowercase).as_deref(), Some("www.example.test"));
    assert_eq!(hello.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!(hello.supported_versions, [0x0304, 0x0303]);
    assert!(hello.cipher_suites.contains(&0x1301) && hello.cipher_suites.contains(&0xc02f));
    assert!(hello.extensions.iter().any(|(kind, _)| *kind == 51));
    assert_eq!(hello.raw, wire[5..]);
}

#[test]
fn reads_it_from_records_of_any_size() {
    let wire = real();
    let expected = good(&wire);
    for size in (1..40).chain([100, 255, 256, 1000, wire.len()]) {
        let cut = in_records(&wire[5..], size);
        assert_eq!(parse(&cut), Ok(Parsed::Done { value: expected.clone(), consumed: cut.len() }), "{size}");
        assert_eq!(fed(&cut, 0..cut.len()), parse(&cut), "{size}");
    }
    for at in 1..wire.len() - 5 {
        let (first, second) = wire[5..].split_at(at);
        let cut = [in_records(first, 16_384), in_records(second, 16_384)].concat();
        assert_eq!(parse(&cut), Ok(Parsed::Done { value: expected.clone(), consumed: cut.len() }), "{at}");
    }
}

#[test]
fn an_old_client_offers_no_supported_versions() {
    let hello = good(&captured("a.test", &[&rustls::version::TLS12]));
    assert!(hello.supported_versions.is_empty() || hello.supported_versions == [0x0303]);
    let hello = good(&in_records(&message_with(&[]), 16_384));
    assert_eq!((hello.sni, hello.extensions.len(), hello.legacy_version), (None, 0, 0x0303));
    assert_eq!(good(&hello_with(&[])).extensions, []);
}

#[test]
fn keeps_values_nobody_knows() {
    let grease = extension(0x1a1a, b"");
    let versions = extension(43, &vec_of(1, &[&[0x2a, 0x2a, 3, 4]]));
    let alpn = extension(16, &vec_of(2, &[&vec_of(1, &[b"\x0a\x0a"]), &vec_of(1, &[b"h2"])]));
    let hello = good(&hello_with(&[&grease, &versions, &alpn, &extension(0xfe0d, b"ech")]));
    assert_eq!(hello.cipher_suites, [0x0a0a, 0x1301, 0xc02f]);
    assert_eq!(hello.supported_versions, [0x2a2a, 0x0304]);
    assert_eq!(hello.alpn_protocols, [b"\x0a\x0a".to_vec(), b"h2".to_vec()]);
    assert_eq!(hello.extensions[0], (0x1a1a, vec![]));
    assert_eq!(hello.extensions[3], (0xfe0d, b"ech".to_vec()));
}

#[test]
fn takes_host_names_and_nothing_else_for_a_server_name() {
    for name in ["a", "www.example.test", "xn--bcher-kva.example", "_dmarc.a-b.test", "0.a", "A.Test"] {
        assert_eq!(sni_of(name.as_bytes()), Ok(Some(name.to_owned())));
    }
    assert_eq!(sni_of(b"a.test."), Ok(Some("a.test".to_owned())));
    assert_eq!(sni_of(b"192.0.2.1"), Ok(None));
    assert_eq!(sni_of(b"2001:db8::1"), Ok(None));
    let (label, name) = ("x".repeat(63), ["x".repeat(62).as_str(); 4].join("."));
    assert_eq!(sni_of(label.as_bytes()), Ok(Some(label.clone())));
    assert_eq!(sni_of(name.as_bytes()), Ok(Some(name.clone())));
    let (label, name) = (label + "x", name + ".xyz");
    let bad = [
        "",
        ".",
        "a..b",
        ".a",
        "a b",
        "a/b",
        "../a",
        "a:443",
        "*.a",
        "a\0b",
        "a\n",
        "b\u{fc}cher.test",
        "[::1]",
        "a@b",
        &label,
        &name,
    ];
    for name in bad {
        assert_eq!(sni_of(name.as_bytes()), Err(HelloError::BadServerName), "{name:?}");
    }
    assert_eq!(sni_of(b"\xff"), Err(HelloError::BadServerName));
    let malformed = Err(HelloError::Malformed { part: "server name" });
    assert_eq!(verdict(&hello_with(&[&server_name(&[(0, b"a"), (0, b"b")])])), malformed);
    assert_eq!(verdict(&hello_with(&[&server_name(&[])])), malformed);
    assert_eq!(verdict(&hello_with(&[&extension(0, b"")])), malformed);
    assert_eq!(good(&hello_with(&[&server_name(&[(7, b"x y")])])).sni, None);
}

#[test]
fn refuses_what_is_not_a_client_hello() {
    assert_eq!(verdict(b"GET / HTTP/1.1\r\n"), Err(HelloError::NotHandshake));
    assert_eq!(verdict(&[22, 2, 0, 0, 1, 1]), Err(HelloError::NotHandshake));
    assert_eq!(verdict(&[22, 3, 4, 0, 1, 1]), Ok(Parsed::NeedMore));
    assert_eq!(verdict(&[21, 3, 1, 0, 2, 2, 40]), Err(HelloError::NotHandshake));
    assert_eq!(verdict(&[0x80, 0x2e, 1, 0, 2]), Err(HelloError::NotHandshake));
    assert_eq!(verdict(&[22, 3, 1, 0, 0]), Err(HelloError::BadRecordLength { length: 0 }));
    assert_eq!(verdict(&[22, 3, 1, 0x40, 1]), Err(HelloError::BadRecordLength { length: 16_385 }));
    assert_eq!(verdict(&[22, 3, 1, 0, 1, 2]), Err(HelloError::NotClientHello { kind: 2 }));
    assert_eq!(verdict(&[22, 3, 1, 0, 4, 1, 1, 0, 0]), Err(HelloError::TooLarge { length: 65_540 }));
    let message = message_with(&[]);
    let other_record = [in_records(&message[..9], 9), vec![23, 3, 3, 0, 1, 0]].concat();
    assert_eq!(verdict(&other_record), Err(HelloError::NotHandshake));
    let behind = in_records(&[&message[..], b"x"].concat(), 16_384);
    assert_eq!(verdict(&behind), Err(HelloError::DataBehindHello));
}

#[test]
fn refuses_lengths_that_do_not_fit() {
    let malformed = |part| Err(HelloError::Malformed { part });
    assert_eq!(verdict(&in_records(&[1, 0, 0, 0], 9)), malformed("header"));
    assert_eq!(verdict(&in_records(&message_with(&[0]), 999)), malformed("extensions"));
    assert_eq!(verdict(&in_records(&message_with(&[0, 0, 1]), 999)), malformed("extensions"));
    assert_eq!(verdict(&in_records(&message_with(&[0, 3, 0, 5, 0]), 999)), malformed("extensions"));
    assert_eq!(verdict(&hello_with(&[&extension(16, b"")])), malformed("application protocols"));
    assert_eq!(verdict(&hello_with(&[&extension(16, &[0, 0])])), malformed("application protocols"));
    assert_eq!(verdict(&hello_with(&[&extension(16, &[0, 1, 0])])), malformed("application protocols"));
    assert_eq!(verdict(&hello_with(&[&extension(43, &[0])])), malformed("supported versions"));
    assert_eq!(verdict(&hello_with(&[&extension(43, &[3, 3, 4, 3])])), malformed("supported versions"));
    let twice = hello_with(&[&extension(5, b""), &extension(6, b""), &extension(5, b"")]);
    assert_eq!(verdict(&twice), Err(HelloError::DuplicateExtension { kind: 5 }));
    let mut long_session = message_with(&[]);
    long_session[38] = 33;
    assert_eq!(verdict(&in_records(&long_session, 999)), malformed("session id"));
}

#[test]
fn reads_the_largest_hello_even_in_the_smallest_records() {
    let padding = extension(21, &vec![0; HELLO_SIZE_MAX - message_with(&[]).len() - 2 - 4]);
    let message = message_with(&vec_of(2, &[&padding]));
    assert_eq!(message.len(), HELLO_SIZE_MAX);
    let wire = in_records(&message, 1);
    assert_eq!(wire.len(), HELLO_WIRE_SIZE_MAX);
    let verdict = fed(&wire, 0..wire.len());
    assert!(
        matches!(verdict, Ok(Parsed::Done { value, consumed }) if value.raw == message && consumed == wire.len())
    );
}

#[test]
fn tells_tls_by_three_bytes() {
    for minor in 0..=3 {
        assert_eq!(looks_like_tls(&[22, 3, minor, 0xff]), Sniff::Tls);
    }
    for more in [&[][..], &[22], &[22, 3]] {
        assert_eq!(looks_like_tls(more), Sniff::NeedMore);
    }
    for other in [&b"G"[..], &[22, 2], &[22, 3, 4], &[23], &[22, 254, 253], &[0x80]] {
        assert_eq!(looks_like_tls(other), Sniff::NotTls, "{other:?}");
    }
}

/// Numbers that look random and are the same in every run.
fn dice(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    }
}

fn mutate(sample: &[u8], roll: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..=roll(3) {
        // The first bytes hold most of the lengths.
        let reach = if roll(2) == 0 { bytes.len().min(60) } else { bytes.len() };
        let at = roll(reach);
        match roll(4) {
            0 => bytes[at] = roll(256) as u8,
            1 => bytes[at] = bytes[at].wrapping_add(1),
            2 => bytes[at] = 0xff,
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

/// What the server that will do the handshake makes of these bytes: name and protocols.
fn as_the_server_reads(bytes: &[u8]) -> Option<(Option<String>, Vec<Vec<u8>>)> {
    let (mut acceptor, mut rest) = (rustls::server::Acceptor::default(), bytes);
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            let alpn = hello.alpn().map_or_else(Vec::new, |names| names.map(<[u8]>::to_vec).collect());
            return Some((hello.server_name().map(str::to_owned), alpn));
        }
    }
    None
}

#[test]
fn whatever_the_server_would_accept_is_read_the_same_here() {
    let samples = [real(), in_records(&real()[5..], 50)];
    let (mut roll, mut accepted) = (dice(0x1357_9bdf_0246_8ace), 0);
    for turn in 0..20_000 {
        let bytes = mutate(&samples[turn % samples.len()], &mut roll);
        let Some((name, alpn)) = as_the_server_reads(&bytes) else { continue };
        let shown = bytes.escape_ascii();
        let value = match parse(&bytes) {
            Ok(Parsed::Done { value, .. }) => value,
            // Junk behind the first name is passed over there; a name that can be read in two ways is refused here.
            Err(HelloError::Malformed { part: "server name" }) => continue,
            other => panic!("{other:?}: {shown}"),
        };
        accepted += 1;
        let same = |ours: &str, theirs: &str| ours.eq_ignore_ascii_case(theirs.trim_end_matches('.'));
        let names = (value.sni.as_deref(), name.as_deref());
        assert!(
            matches!(names, (None, None)) || matches!(names, (Some(a), Some(b)) if same(a, b)),
            "{names:?}: {shown}"
        );
        assert_eq!(value.alpn_protocols, alpn, "{shown}");
    }
    assert!(accepted > 1000, "{accepted}");
}

#[test]
fn random_changes_to_a_hello_never_panic_and_do_not_depend_on_the_split() {
    let samples = [
        real(),
        in_records(&real()[5..], 7),
        hello_with(&[&server_name(&[(0, b"a.test")]), &extension(43, &[2, 3, 4])]),
    ];
    let mut roll = dice(0x2545_f491_4f6c_dd1d);
    for turn in 0..100_000 {
        let bytes = mutate(&samples[turn % samples.len()], &mut roll);
        let cut = roll(bytes.len());
        assert_eq!(
            fed(&bytes, std::iter::once(cut)),
            parse(&bytes),
            "cut at {cut}: {}",
            bytes.escape_ascii()
        );
    }
}
