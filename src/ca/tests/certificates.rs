//! Leaves under every kind of CA, judged by openssl.

use super::super::der::pem;
use super::*;

const WITH_EVERYTHING: &str = "with everything";

fn everything() -> LeafIdentity {
    LeafIdentity {
        common_name: Some("www.example.com".into()),
        names: vec![
            dns("www.example.com"),
            dns("*.example.org"),
            dns("xn--bcher-kva.example"),
            LeafName::Ip("192.0.2.7".parse().unwrap()),
            LeafName::Ip("2001:db8::7".parse().unwrap()),
            LeafName::Uri("spiffe://example.org/ns/a".into()),
            LeafName::Email("post@example.com".into()),
        ],
        organization: Some("Bücher & Söhne".into()),
        not_after: None,
    }
}

fn write_leaf(scratch: &Scratch, leaf: &Leaf) {
    scratch.write("leaf.pem", pem("CERTIFICATE", leaf.cert_der()));
}

#[test]
fn openssl_accepts_leaves_of_every_kind_of_ca() {
    for (kind, key, subject) in CAS {
        let scratch = Scratch::new();
        openssl_ca(&scratch, key, subject, "");
        let leaf = cache(authority(&scratch, &["ca.key", "ca.pem"])).leaf(&everything(), now()).unwrap();
        write_leaf(&scratch, &leaf);
        for name in [
            "-verify_hostname www.example.com",
            "-verify_hostname any.example.org",
            "-verify_ip 192.0.2.7",
            "-verify_ip 2001:db8::7",
            "-verify_email post@example.com",
        ] {
            scratch
                .openssl(&format!("verify -x509_strict -purpose sslserver -CAfile ca.pem {name} leaf.pem"));
        }
        for name in
            ["-verify_hostname example.com", "-verify_hostname a.b.example.org", "-verify_ip 192.0.2.8"]
        {
            let verdict = scratch.try_openssl(&format!("verify -CAfile ca.pem {name} leaf.pem"), b"");
            assert!(!verdict.status.success(), "{kind}: {name}");
        }
        let issuer = scratch.openssl("x509 -in leaf.pem -noout -issuer -nameopt RFC2253,show_type");
        let ca = scratch.openssl("x509 -in ca.pem -noout -subject -nameopt RFC2253,show_type");
        assert_eq!(issuer.strip_prefix("issuer="), ca.strip_prefix("subject="), "{kind}");
        if *kind == "two organizational units" {
            assert_eq!(issuer.matches("OU=").count(), 2);
        }
    }
}

#[test]
fn a_leaf_says_what_it_has_to_and_no_more() {
    let scratch = Scratch::new();
    let authority = Arc::new(Authority::generate(now()).unwrap());
    scratch.write("ca.pem", authority.certificate_pem());
    let leaf = cache(authority).leaf(&everything(), now()).unwrap();
    write_leaf(&scratch, &leaf);
    let text = scratch.openssl("x509 -in leaf.pem -noout -text -nameopt RFC2253,-esc_msb,utf8");
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "Version: 3 (0x2)",
        "Signature Algorithm: ecdsa-with-SHA256",
        "Subject: CN=www.example.com,O=Bücher & Söhne",
        "NIST CURVE: P-256",
        "X509v3 Basic Constraints: critical CA:FALSE",
        "X509v3 Key Usage: critical Digital Signature X509v3",
        "X509v3 Extended Key Usage: TLS Web Server Authentication X509v3",
        "X509v3 Subject Alternative Name: DNS:www.example.com, DNS:*.example.org, DNS:xn--bcher-kva.example, \
         IP Address:192.0.2.7, IP Address:2001:DB8:0:0:0:0:0:7, URI:spiffe://example.org/ns/a, email:post@example.com",
    ] {
        assert!(flat.contains(part), "{WITH_EVERYTHING}: no {part:?} in {flat}");
    }
    let ca = scratch.openssl("x509 -in ca.pem -noout -ext subjectKeyIdentifier");
    let leaf = scratch.openssl("x509 -in leaf.pem -noout -ext authorityKeyIdentifier");
    assert_eq!(ca.lines().nth(1).unwrap().trim(), leaf.lines().nth(1).unwrap().trim());
    let dump = scratch.openssl("asn1parse -in leaf.pem");
    // what is not in the dump of a random key's digits
    let said = dump.split("[HEX DUMP]").map(|part| part.split_once('\n').map_or(part, |(_, rest)| rest));
    let said: String = said.collect();
    assert!(!said.contains("BAD") && !said.to_lowercase().contains("error"), "{dump}");
}

#[test]
fn the_names_are_critical_if_the_subject_is_empty() {
    let scratch = Scratch::new();
    openssl_ca(&scratch, CAS[2].1, CAS[2].2, "");
    let long = format!("{}.{}.example.com", "a".repeat(30), "b".repeat(30));
    let identity = LeafIdentity::from_names(Some(&long), None);
    assert_eq!(identity.common_name, None);
    let leaf = cache(authority(&scratch, &["ca.pem", "ca.key"])).leaf(&identity, now()).unwrap();
    write_leaf(&scratch, &leaf);
    scratch.openssl(&format!("verify -x509_strict -CAfile ca.pem -verify_hostname {long} leaf.pem"));
    let text = scratch.openssl("x509 -in leaf.pem -noout -text");
    assert!(text.contains("X509v3 Subject Alternative Name: critical"), "{text}");
}

#[test]
fn a_ca_without_key_identifier_is_named_by_the_hash_of_its_key() {
    let scratch = Scratch::new();
    openssl_ca(&scratch, CAS[0].1, CAS[0].2, "-addext subjectKeyIdentifier=none");
    let text = scratch.openssl("x509 -in ca.pem -noout -text");
    assert!(!text.contains("Subject Key Identifier"), "{text}");
    let leaf = cache(authority(&scratch, &["ca.key", "ca.pem"])).leaf(&everything(), now()).unwrap();
    write_leaf(&scratch, &leaf);
    scratch.openssl("verify -CAfile ca.pem -verify_hostname www.example.com leaf.pem");
    // openssl's own idea of the hash, from a certificate that has one.
    openssl_with_hash(&scratch);
    let hash = scratch.openssl("x509 -in hash.pem -noout -ext subjectKeyIdentifier");
    let leaf = scratch.openssl("x509 -in leaf.pem -noout -ext authorityKeyIdentifier");
    assert_eq!(hash.lines().nth(1).unwrap().trim(), leaf.lines().nth(1).unwrap().trim());
}

fn openssl_with_hash(scratch: &Scratch) {
    scratch.openssl("req -x509 -new -key ca.key -subj /CN=h -out hash.pem -addext subjectKeyIdentifier=hash");
}

#[test]
fn an_intermediate_ca_sends_its_chain() {
    let scratch = Scratch::new();
    openssl_ca(&scratch, CAS[3].1, "/CN=root", "");
    scratch.openssl("ecparam -genkey -noout -name prime256v1 -out sub.key");
    scratch.openssl("req -new -key sub.key -subj /CN=intermediate -out sub.csr");
    scratch.write(
        "sub.ext",
        "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n\
         subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
    );
    scratch.openssl(
        "x509 -req -in sub.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 900 -extfile sub.ext -out sub.pem",
    );
    let sub = authority(&scratch, &["sub.key", "sub.pem"]).certificate().clone();
    let root = authority(&scratch, &["ca.key", "ca.pem"]).certificate().clone();
    // The key says which certificate is the CA's, wherever it stands; a lone intermediate is sent as well.
    for (files, sent) in [
        (vec!["sub.key", "sub.pem"], vec![&sub]),
        (vec!["sub.key", "sub.pem", "ca.pem"], vec![&sub, &root]),
        (vec!["ca.pem", "sub.pem", "sub.key", "sub.pem"], vec![&sub, &root]),
    ] {
        let authority = authority(&scratch, &files);
        assert_eq!(authority.certificate(), &sub);
        assert_eq!(authority.chain().iter().collect::<Vec<_>>(), sent, "{files:?}");
        let leaf = cache(authority).leaf(&everything(), now()).unwrap();
        assert_eq!(leaf.certified_key.cert[1..].iter().collect::<Vec<_>>(), sent, "{files:?}");
        write_leaf(&scratch, &leaf);
        let verify =
            "verify -x509_strict -CAfile ca.pem -untrusted sub.pem -verify_hostname www.example.com leaf.pem";
        scratch.openssl(verify);
    }
    assert!(authority(&scratch, &["ca.key", "ca.pem"]).chain().is_empty());
}

#[test]
fn a_leaf_ends_with_whatever_ends_first() {
    const DAY: i64 = 86_400;
    let scratch = Scratch::new();
    scratch.openssl(CAS[2].1);
    let ca = |days: i64| {
        scratch.openssl(&format!(
            "req -x509 -new -key ca.key -days {days} -subj /CN=short -out ca.pem -addext keyUsage=critical,keyCertSign"
        ));
        authority(&scratch, &["ca.key", "ca.pem"])
    };
    let now = now();
    let seconds = now as i64;
    let (long, short) = (ca(3650), ca(30));
    let short_end = short.not_after();
    let (long, short) = (cache(long), cache(short));
    for (cache, upstream, expires) in [
        (&long, None, seconds + 199 * DAY),
        (&long, Some(seconds + 90 * DAY), seconds + 90 * DAY),
        (&long, Some(seconds + 900 * DAY), seconds + 199 * DAY),
        (&long, Some(seconds - 1), seconds + 199 * DAY),
        (&long, Some(i64::MAX), seconds + 199 * DAY),
        (&long, Some(i64::MIN), seconds + 199 * DAY),
        (&short, None, short_end),
        (&short, Some(seconds + 7 * DAY), seconds + 7 * DAY),
    ] {
        let identity = LeafIdentity { not_after: upstream, ..everything() };
        let leaf = cache.leaf(&identity, now).unwrap();
        assert_eq!(leaf.expires, expires, "{upstream:?}");
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf.cert_der()).unwrap();
        assert_eq!(parsed.validity().not_after.timestamp(), expires);
        assert_eq!(parsed.validity().not_before.timestamp(), seconds - 2 * DAY);
    }
    let later = now + 31.0 * 86_400.0;
    assert!(matches!(short.leaf(&everything(), later), Err(CaError::Expired { .. })));
}

#[test]
fn serials_are_random_positive_and_short() {
    let cache = cache(Arc::new(Authority::generate(now()).unwrap()));
    let mut seen = std::collections::HashSet::new();
    for host in 0..500 {
        let identity = LeafIdentity::from_names(Some(&format!("h{host}.example.com")), None);
        let leaf = cache.leaf(&identity, now()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(leaf.cert_der()).unwrap();
        let serial = parsed.raw_serial().to_vec();
        assert!(serial.len() == 16 && serial[0] & 0xc0 == 0x40, "{serial:x?}");
        assert!(seen.insert(serial));
    }
}

#[test]
fn an_identity_without_names_is_refused() {
    let cache = cache(Arc::new(Authority::generate(now()).unwrap()));
    let identity = LeafIdentity::from_names(None, None);
    assert!(matches!(cache.leaf(&identity, now()), Err(CaError::NoName)));
}
