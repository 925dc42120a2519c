//! Identities: what is mirrored, what is left out, and that nothing a server sends makes us fall over.

use std::net::IpAddr;

use super::super::der::{Der, OCTET_STRING, OID, SEQUENCE, SET, UTF8_STRING, context_constructed};
use super::*;

/// A server's certificate with these subject attributes and general names, taken as they are; the signature is junk,
/// which does not matter here.
fn upstream(subject: &[(u8, &str)], names: &[(u8, &[u8])]) -> Vec<u8> {
    const KEY: &[u8] = &[0x30, 0x0a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x01, 0x00];
    const ALGORITHM: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70];
    let mut der = Der::with_capacity(1024);
    der.nest(SEQUENCE, |der| {
        der.nest(SEQUENCE, |der| {
            der.raw(&[0xa0, 3, 2, 1, 2, 2, 1, 1]);
            der.raw(ALGORITHM);
            der.element(SEQUENCE, &[]);
            der.nest(SEQUENCE, |der| {
                der.time(0);
                der.time(4_000_000_000);
            });
            der.nest(SEQUENCE, |der| {
                for (kind, value) in subject {
                    der.nest(SET, |der| {
                        der.nest(SEQUENCE, |der| {
                            der.element(OID, &[0x55, 0x04, *kind]);
                            der.element(UTF8_STRING, value.as_bytes());
                        });
                    });
                }
            });
            der.raw(KEY);
            if !names.is_empty() {
                der.nest(context_constructed(3), |der| der.nest(SEQUENCE, |der| names_extension(der, names)));
            }
        });
        der.raw(ALGORITHM);
        der.bit_string(&[1, 2, 3]);
    });
    der.finish()
}

fn names_extension(der: &mut Der, names: &[(u8, &[u8])]) {
    der.nest(SEQUENCE, |der| {
        der.element(OID, &[0x55, 0x1d, 0x11]);
        der.nest(OCTET_STRING, |der| {
            der.nest(SEQUENCE, |der| names.iter().for_each(|(tag, value)| der.element(*tag, value)));
        });
    });
}

const CN: u8 = 3;
const O: u8 = 10;
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const IP: u8 = 0x87;

/// Names as a test writes them: addresses in brackets, the rest by their looks.
fn shown(identity: &LeafIdentity) -> Vec<String> {
    let show = |name: &LeafName| match name {
        LeafName::Dns(name) => name.clone(),
        LeafName::Ip(ip) => format!("[{ip}]"),
        LeafName::Uri(text) | LeafName::Email(text) => format!("<{text}>"),
    };
    identity.names.iter().map(show).collect()
}

/// A server's subject and general names, the SNI, and the names that the leaf is to have.
type Case<'a> = (&'a [(u8, &'a str)], &'a [(u8, &'a [u8])], Option<&'a str>, &'a [&'a str]);

fn check(cases: &[Case<'_>]) {
    for (subject, names, sni, expected) in cases {
        let server = "::ffff:192.0.2.1".parse().unwrap();
        let identity = LeafIdentity::mirror(&upstream(subject, names), *sni, Some(server));
        assert_eq!(shown(&identity), *expected, "{subject:?} {names:?} {sni:?}");
        assert_eq!(identity.not_after, Some(4_000_000_000));
        let first =
            identity.names.iter().find(|name| matches!(name, LeafName::Dns(_) | LeafName::Ip(_))).unwrap();
        let first = shown(&LeafIdentity { names: vec![first.clone()], ..LeafIdentity::default() }).remove(0);
        assert_eq!(identity.common_name.unwrap(), first.trim_matches(['[', ']']));
    }
}

#[test]
fn server_and_client_names_are_joined() {
    check(&[
        (
            &[(CN, "a.example")],
            &[(DNS, b"b.example")],
            Some("c.example"),
            &["a.example", "b.example", "c.example"],
        ),
        // Duplicates, whatever their case and final dots.
        (
            &[(CN, "A.example")],
            &[(DNS, b"a.EXAMPLE."), (DNS, b"a.example")],
            Some("a.Example"),
            &["a.example"],
        ),
        (&[], &[(DNS, b"*.example.com")], Some("www.example.com"), &["*.example.com", "www.example.com"]),
        // The server's address only if there is no SNI worth the name.
        (&[(CN, "a.example")], &[], None, &["a.example", "[192.0.2.1]"]),
        (&[(CN, "a.example")], &[], Some("not valid"), &["a.example", "[192.0.2.1]"]),
        (&[(CN, "a.example")], &[], Some("*.example"), &["a.example", "[192.0.2.1]"]),
        (&[(CN, "a.example")], &[], Some(""), &["a.example", "[192.0.2.1]"]),
        (&[(CN, "a.example")], &[], Some("b\u{fc}cher.example"), &["a.example", "[192.0.2.1]"]),
        (&[(CN, "a.example")], &[], Some("x.example\0.evil"), &["a.example", "[192.0.2.1]"]),
        (&[], &[], Some("203.0.113.9"), &["[203.0.113.9]"]),
        (&[], &[], Some("2001:db8::1"), &["[2001:db8::1]"]),
        // Addresses.
        (
            &[(CN, "192.0.2.9")],
            &[(IP, &[10, 0, 0, 1])],
            Some("a.example"),
            &["[192.0.2.9]", "[10.0.0.1]", "a.example"],
        ),
        (
            &[],
            &[(IP, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])],
            Some("a.b"),
            &["[2001:db8::1]", "a.b"],
        ),
        (&[], &[(IP, &[]), (IP, &[1, 2, 3]), (IP, &[0; 8]), (IP, &[0; 32])], Some("a.b"), &["a.b"]),
        // Other kinds of names.
        (
            &[],
            &[(URI, b"spiffe://x/y"), (EMAIL, b"me@x.example"), (0x88, &[0x2a]), (0xa4, &[0x30, 0])],
            Some("a.b"),
            &["<spiffe://x/y>", "<me@x.example>", "a.b"],
        ),
        // What a common name often is.
        (
            &[(CN, "Kubernetes Ingress Controller Fake Certificate")],
            &[(DNS, b"ingress.local")],
            Some("a.b"),
            &["ingress.local", "a.b"],
        ),
        // Only the first common name counts.
        (&[(CN, "a.example"), (CN, "b.example")], &[], Some("a.b"), &["a.example", "a.b"]),
    ]);
}

#[test]
fn hostile_names_are_left_out_one_by_one() {
    check(&[(
        &[(CN, "www.bank.example\0.evil.example")],
        &[
            (DNS, b"www.bank.example\0.evil.example"),
            (DNS, b"with space.example"),
            (DNS, b" a.example"),
            (DNS, b"a.example\n"),
            (DNS, b"\x1b[2J.example"),
            (DNS, b"\xff\xfe.example"),
            (DNS, "b\u{fc}cher.example".as_bytes()),
            (DNS, b""),
            (DNS, b"."),
            (DNS, b"*"),
            (DNS, b"*."),
            (DNS, b"*.*.example"),
            (DNS, b"a.*.example"),
            (DNS, b"f*.example"),
            (DNS, b"a..example"),
            (DNS, b".example"),
            (DNS, b"a/b.example"),
            (DNS, b"user@a.example"),
            (DNS, b"a.example:443"),
            (DNS, b"[::1]"),
            (URI, b"http://a b/"),
            (URI, b"http://a\0b/"),
            (URI, b""),
            (EMAIL, b"a\r\nb@c"),
            (DNS, b"good_one-.example"),
        ],
        Some("a.b"),
        &["good_one-.example", "a.b"],
    )]);
}

#[test]
fn label_and_name_lengths_are_limited() {
    let label = "a".repeat(63);
    let longest = [&label[..], &label, &label, &"a".repeat(61)].join(".");
    for (name, kept) in [
        (format!("{label}.example"), true),
        (format!("{label}a.example"), false),
        (longest.clone(), true),
        (format!("{longest}."), true),
        (format!("{longest}a"), false),
    ] {
        assert_eq!(LeafIdentity::from_names(Some(&name), None).names.len(), usize::from(kept), "{name}");
    }
}

#[test]
fn organizations_are_mirrored_if_they_fit() {
    let long = "x".repeat(65);
    for (values, expected) in [
        (&["Example & S\u{f6}hne"][..], Some("Example & S\u{f6}hne")),
        (&["  Example "], Some("Example")),
        (&[""], None),
        (&["a\0b"], None),
        (&["a\nb"], None),
        (&[&long], None),
        (&[&long[1..]], Some(&long[1..])),
        (&["a\u{1b}[2J", "second"], Some("second")),
        (&[], None),
    ] {
        let subject: Vec<_> = values.iter().map(|value| (O, *value)).collect();
        let identity = LeafIdentity::mirror(&upstream(&subject, &[]), Some("a.b"), None);
        assert_eq!(identity.organization.as_deref(), expected, "{values:?}");
    }
}

#[test]
fn names_are_limited_in_number_and_size_but_the_one_asked_for_is_always_there() {
    let cache = cache(Arc::new(Authority::generate(now()).unwrap()));
    let label = "x".repeat(60);
    let few = |n: usize| format!("h{n}.example").into_bytes();
    let long = |n: usize| format!("h{n}.{label}.{label}.{label}.example").into_bytes();
    for (names, expected) in [
        ((0..3_000).map(few).collect::<Vec<_>>(), NAMES_MAX),
        ((0..250).map(few).collect(), 251),
        ((0..3_000).map(long).collect(), 85),
    ] {
        let names: Vec<_> = names.iter().map(|name| (DNS, &name[..])).collect();
        let identity = LeafIdentity::mirror(&upstream(&[], &names), Some("asked.example"), None);
        assert_eq!(identity.names.len(), expected);
        assert_eq!(identity.names.last(), Some(&dns("asked.example")));
        assert!(identity.names.iter().map(LeafName::size).sum::<usize>() <= NAME_BYTES_MAX);
        let leaf = cache.leaf(&identity, now()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf.cert_der()).unwrap();
        let mirrored = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(mirrored.value.general_names.len(), expected);
        // What we mint reads back as what was asked for.
        let again = LeafIdentity::mirror(leaf.cert_der(), Some("asked.example"), None);
        assert_eq!(again.names, identity.names);
    }
}

#[test]
fn what_is_no_certificate_leaves_the_clients_names() {
    let ip: IpAddr = "2001:db8::5".parse().unwrap();
    for junk in [&b""[..], b"junk", &[0x30, 0x82, 0xff, 0xff], &[0x30, 0x80, 0, 0], &[0xff; 300]] {
        let mirrored = LeafIdentity::mirror(junk, Some("a.example"), Some(ip));
        assert_eq!(mirrored, LeafIdentity::from_names(Some("a.example"), Some(ip)));
        assert_eq!(shown(&LeafIdentity::mirror(junk, None, Some(ip))), ["[2001:db8::5]"]);
    }
}

/// Numbers that look random and are the same in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.roll(2) {
            let at = self.roll(bytes.len().max(1));
            match self.roll(12) {
                0..=3 if at < bytes.len() => bytes[at] ^= 1 << self.roll(8),
                4..=6 if at < bytes.len() => bytes[at] = self.roll(256) as u8,
                7..=8 if at < bytes.len() => bytes[at] = [0, 0x7f, 0x80, 0x84, 0xff][self.roll(5)],
                9 => bytes.truncate(at),
                10 if at < bytes.len() => drop(bytes.remove(at)),
                11 => bytes.insert(at.min(bytes.len()), self.roll(256) as u8),
                _ => {}
            }
        }
    }
}

#[test]
fn mutated_certificates_never_panic_and_never_yield_a_bad_name() {
    let scratch = Scratch::new();
    openssl_ca(
        &scratch,
        CAS[0].1,
        CAS[6].2,
        "-addext subjectAltName=DNS:a.example,DNS:*.b.example,IP:10.0.0.1,IP:::1,URI:urn:x,email:a@b,RID:1.2.3,\
         otherName:1.2.3;UTF8:x",
    );
    let openssls = authority(&scratch, &["ca.key", "ca.pem"]).certificate().to_vec();
    let names: &[(u8, &[u8])] = &[(DNS, b"a.example"), (IP, &[1, 2, 3, 4]), (URI, b"urn:x"), (EMAIL, b"a@b")];
    let ours = upstream(&[(O, "Org"), (CN, "a.example")], names);
    let cache = cache(Arc::new(Authority::generate(now()).unwrap()));
    let mut dice = Dice(0x0123_4567_89ab_cdef);
    let mut parsed = 0;
    for round in 0..20_000 {
        let mut der = if round % 2 == 0 { openssls.clone() } else { ours.clone() };
        dice.mutate(&mut der);
        let identity = LeafIdentity::mirror(&der, Some("asked.example"), None);
        parsed += usize::from(identity.not_after.is_some());
        for name in &identity.names {
            let (LeafName::Dns(text) | LeafName::Uri(text) | LeafName::Email(text)) = name else { continue };
            assert!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
        }
        assert!(identity.names.contains(&dns("asked.example")));
        if round % 20 == 0 {
            let leaf = cache.leaf(&identity, now()).unwrap();
            x509_parser::parse_x509_certificate(leaf.cert_der()).unwrap();
        }
    }
    // The mutations are mild enough to reach what lies behind the parser.
    assert!(parsed > 4_000, "{parsed}");
}

#[test]
fn fingerprints_tell_parts_apart() {
    let base = LeafIdentity::from_names(Some("a.example"), None);
    let with = |names: Vec<LeafName>| LeafIdentity { names, ..base.clone() };
    let all = [
        base.clone(),
        LeafIdentity { common_name: None, ..base.clone() },
        LeafIdentity { organization: Some("a.example".into()), ..base.clone() },
        LeafIdentity { organization: Some("a.example".into()), common_name: None, ..base.clone() },
        LeafIdentity { not_after: Some(0), ..base.clone() },
        LeafIdentity { not_after: Some(1), ..base.clone() },
        with(vec![dns("a.exampl"), dns("e")]),
        with(vec![dns("e"), dns("a.exampl")]),
        with(vec![LeafName::Uri("a.example".into())]),
        with(vec![LeafName::Email("a.example".into())]),
        with(vec![LeafName::Ip([97, 46, 101, 120].into())]),
        with(vec![]),
        // Without lengths these two would be the same bytes.
        LeafIdentity { organization: Some("x".into()), ..with(vec![dns("y")]) },
        LeafIdentity { organization: Some("x\u{3}y".into()), ..with(vec![]) },
    ];
    let prints: std::collections::HashSet<_> = all.iter().map(LeafIdentity::fingerprint).collect();
    assert_eq!(prints.len(), all.len());
    assert_eq!(base.fingerprint(), base.clone().fingerprint());
}
