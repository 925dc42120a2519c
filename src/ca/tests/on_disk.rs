//! The CA's files: made, found, refused.

use std::os::unix::fs::symlink;

use super::*;

const RINGTAP_FILES: [&str; 5] =
    ["ringtap-ca.pem", "ringtap-ca.p12", "ringtap-ca-cert.pem", "ringtap-ca-cert.cer", "ringtap-ca-cert.p12"];

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn listing(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn open(confdir: &Path) -> (Authority, Opened) {
    Authority::open_or_create(confdir, now()).unwrap()
}

fn refusal(confdir: &Path) -> CaError {
    let error = Authority::open_or_create(confdir, now()).unwrap_err();
    let message = error.to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    error
}

#[test]
fn a_new_ca_is_made_once_and_opened_ever_after() {
    let scratch = Scratch::new();
    let confdir = scratch.path("a/b/.ringtap");
    let (made, opened) = open(&confdir);
    assert_eq!(opened.origin, Origin::Created);
    assert_eq!(opened.file, confdir.join("ringtap-ca.pem"));
    assert!(opened.unwritten.is_empty(), "{opened:?}");
    assert_eq!(mode(&confdir), 0o700);
    let mut expected = RINGTAP_FILES.map(str::to_owned);
    expected.sort();
    assert_eq!(listing(&confdir), expected);
    for name in ["ringtap-ca.pem", "ringtap-ca.p12"] {
        assert_eq!(mode(&confdir.join(name)), 0o600, "{name}");
    }
    for name in ["ringtap-ca-cert.pem", "ringtap-ca-cert.cer", "ringtap-ca-cert.p12"] {
        let public = fs::read(confdir.join(name)).unwrap();
        assert!(!public.windows(11).any(|window| window == b"PRIVATE KEY"), "{name}");
    }
    let before = fs::read(confdir.join("ringtap-ca.pem")).unwrap();
    let (again, opened) = open(&confdir);
    assert_eq!((opened.origin, opened.written.len()), (Origin::Ringtap, 0));
    assert_eq!(again.certificate(), made.certificate());
    assert_eq!(fs::read(confdir.join("ringtap-ca.pem")).unwrap(), before);
}

#[test]
fn openssl_reads_a_new_ca() {
    let scratch = Scratch::new();
    let confdir = scratch.path("conf");
    let (made, _) = open(&confdir);
    let text = scratch.openssl("x509 -in conf/ringtap-ca-cert.pem -noout -text -nameopt RFC2253");
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "Subject: CN=ringtap",
        ",O=ringtap",
        "X509v3 Basic Constraints: critical CA:TRUE",
        "X509v3 Key Usage: critical Certificate Sign, CRL Sign",
        "X509v3 Subject Key Identifier:",
        "NIST CURVE: P-256",
        "ecdsa-with-SHA256",
    ] {
        assert!(flat.contains(part), "no {part:?} in {flat}");
    }
    scratch.openssl("verify -x509_strict -CAfile conf/ringtap-ca-cert.pem conf/ringtap-ca-cert.pem");
    assert_eq!(
        fs::read(confdir.join("ringtap-ca-cert.cer")).unwrap(),
        fs::read(confdir.join("ringtap-ca-cert.pem")).unwrap()
    );
    let seconds = now() as i64;
    let (_, parsed) = x509_parser::parse_x509_certificate(made.certificate()).unwrap();
    let days = |time: x509_parser::time::ASN1Time| (time.timestamp() - seconds).div_euclid(86_400);
    assert!((-3..=-2).contains(&days(parsed.validity().not_before)));
    assert!((3_648..=3_651).contains(&days(parsed.validity().not_after)));
    assert!(parsed.raw_serial().len() <= 20);
    // The PKCS#12 files, without a password: one with the key, one without.
    let own = scratch.openssl("x509 -in conf/ringtap-ca-cert.pem");
    for (file, has_key) in [("ringtap-ca.p12", true), ("ringtap-ca-cert.p12", false)] {
        let inside = scratch.openssl(&format!("pkcs12 -in conf/{file} -passin pass: -noenc"));
        assert_eq!(inside.contains("PRIVATE KEY"), has_key, "{file}");
        assert!(inside.contains(own.trim()), "{file}: {inside}");
    }
    let key = scratch.openssl("pkcs12 -in conf/ringtap-ca.p12 -passin pass: -noenc -nocerts");
    scratch.write("p12.key", key);
    assert_eq!(
        scratch.openssl("pkey -in p12.key -pubout"),
        scratch.openssl("x509 -in conf/ringtap-ca.pem -noout -pubkey")
    );
}

#[test]
fn missing_public_files_are_made_again_and_foreign_ones_replaced() {
    let scratch = Scratch::new();
    let confdir = scratch.path("conf");
    open(&confdir);
    fs::remove_file(confdir.join("ringtap-ca-cert.cer")).unwrap();
    fs::remove_file(confdir.join("ringtap-ca.p12")).unwrap();
    let (_, opened) = open(&confdir);
    // The key is not spread again once somebody has removed it.
    assert_eq!(opened.written, [confdir.join("ringtap-ca-cert.cer")]);
    // Somebody puts his own CA in: devices must not be given the old certificate.
    openssl_ca(&scratch, CAS[0].1, CAS[0].2, "");
    scratch.write("conf/ringtap-ca.pem", read(&scratch, &["ca.pem", "ca.key"]));
    let (authority, opened) = open(&confdir);
    assert_eq!(opened.written.len(), 3);
    assert_eq!(fs::read_to_string(confdir.join("ringtap-ca-cert.pem")).unwrap(), authority.certificate_pem());
    assert_eq!(open(&confdir).1.written.len(), 0);
    scratch.openssl("pkcs12 -in conf/ringtap-ca-cert.p12 -passin pass: -nokeys");
}

#[test]
fn a_confdir_that_cannot_be_written_still_serves_its_ca() {
    let scratch = Scratch::new();
    let confdir = scratch.path("conf");
    open(&confdir);
    // A directory in a file's place, because the superuser may write anywhere.
    fs::remove_file(confdir.join("ringtap-ca-cert.p12")).unwrap();
    fs::remove_file(confdir.join("ringtap-ca-cert.pem")).unwrap();
    fs::create_dir_all(confdir.join("ringtap-ca-cert.pem/x")).unwrap();
    let (_, opened) = open(&confdir);
    assert_eq!((opened.unwritten.len(), opened.origin), (1, Origin::Ringtap), "{opened:?}");
    assert!(listing(&confdir).iter().all(|name| !name.ends_with(".tmp")));
}

#[test]
fn mitmproxys_ca_is_used_until_there_is_one_of_our_own() {
    let scratch = Scratch::new();
    openssl_ca(&scratch, CAS[0].1, CAS[0].2, "");
    let path = scratch.write("mitmproxy-ca.pem", read(&scratch, &["ca.key", "ca.pem"]));
    let (_, opened) = open(&scratch.0);
    assert_eq!((opened.origin, opened.file, opened.written.len()), (Origin::Mitmproxy, path, 0));
    scratch.write("ringtap-ca.pem", read(&scratch, &["ca.pem", "ca.key"]));
    assert_eq!(open(&scratch.0).1.origin, Origin::Ringtap);
}

#[test]
fn a_key_that_others_can_open_is_refused_with_the_command_that_mends_it() {
    let scratch = Scratch::new();
    openssl_ca(&scratch, CAS[2].1, CAS[2].2, "");
    for name in ["mitmproxy-ca.pem", "ringtap-ca.pem"] {
        let path = scratch.write(name, read(&scratch, &["ca.key", "ca.pem"]));
        for (mode, fine) in
            [(0o644, false), (0o640, false), (0o604, false), (0o620, false), (0o600, true), (0o400, true)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            if fine {
                open(&scratch.0);
                continue;
            }
            let message = refusal(&scratch.0).to_string();
            assert!(message.ends_with(&format!("run `chmod 600 {}`", path.display())), "{message}");
            assert!(message.contains(&format!("{mode:04o}")), "{message}");
        }
    }
}

#[test]
fn keys_and_certificates_may_come_in_any_order_with_anything_between() {
    for (kind, key, subject) in CAS {
        let scratch = Scratch::new();
        openssl_ca(&scratch, key, subject, "");
        scratch.write("note", "Bag Attributes\n    friendlyName: x\n\n");
        for files in [vec!["ca.key", "ca.pem"], vec!["note", "ca.pem", "note", "ca.key", "note"]] {
            authority(&scratch, &files);
        }
        let crlf = String::from_utf8(read(&scratch, &["ca.key", "ca.pem"])).unwrap().replace('\n', "\r\n");
        Authority::from_pem(crlf.as_bytes(), Path::new("x"), now())
            .unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}

#[test]
fn every_fault_has_its_own_message() {
    let scratch = Scratch::new();
    openssl_ca(&scratch, CAS[0].1, CAS[0].2, "");
    scratch.openssl("ecparam -genkey -noout -name prime256v1 -out other.key");
    scratch.openssl("pkcs8 -topk8 -in ca.key -passout pass:x -out encrypted8.key");
    scratch.openssl("rsa -traditional -aes128 -in ca.key -passout pass:x -out encrypted1.key");
    scratch.openssl("genrsa -out weak.key 1024");
    scratch.openssl("req -x509 -new -key weak.key -subj /CN=weak -out weak.pem");
    scratch
        .openssl("req -x509 -new -key ca.key -subj /CN=leaf -out leaf.pem -addext basicConstraints=CA:FALSE");
    scratch.openssl("req -x509 -new -key ca.key -subj / -out empty.pem");
    scratch.openssl(
        "req -x509 -new -key ca.key -subj /CN=nosign -out nosign.pem -addext keyUsage=digitalSignature",
    );
    scratch.write("junk", "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
    scratch.write("short", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    scratch.write("torn", "-----BEGIN PRIVATE KEY-----\nMIIB\n");
    scratch.write("nothing", "");
    type Is = fn(&CaError) -> bool;
    let table: &[(&[&str], &str, Is)] = &[
        (&["nothing"], "no private key", |e| matches!(e, CaError::NoKey { .. })),
        (&["ca.pem"], "no private key", |e| matches!(e, CaError::NoKey { .. })),
        (&["ca.key"], "no certificate", |e| matches!(e, CaError::NoCertificate { .. })),
        (&["other.key", "ca.pem"], "belongs to none", |e| matches!(e, CaError::KeyMismatch { .. })),
        (&["encrypted8.key", "ca.pem"], "encrypted", |e| matches!(e, CaError::EncryptedKey { .. })),
        (&["ca.pem", "encrypted1.key"], "encrypted", |e| matches!(e, CaError::EncryptedKey { .. })),
        (&["weak.key", "weak.pem"], "cannot sign", |e| matches!(e, CaError::UnusableKey { .. })),
        (&["ca.key", "leaf.pem"], "basicConstraints", |e| matches!(e, CaError::NotACa { .. })),
        (&["ca.key", "nosign.pem"], "keyCertSign", |e| matches!(e, CaError::NotACa { .. })),
        (&["ca.key", "empty.pem"], "subject is empty", |e| matches!(e, CaError::NotACa { .. })),
        (&["ca.key", "junk"], "damaged", |e| matches!(e, CaError::Damaged { .. })),
        (&["ca.key", "short"], "damaged", |e| matches!(e, CaError::Damaged { .. })),
        (&["torn"], "damaged", |e| matches!(e, CaError::Damaged { .. })),
    ];
    for (files, says, is) in table {
        let path = scratch.write("ringtap-ca.pem", read(&scratch, files));
        let error = refusal(&scratch.0);
        let message = error.to_string();
        assert!(is(&error), "{files:?}: {error:?}");
        assert!(message.starts_with(&format!("{}: ", path.display())) && message.contains(says), "{message}");
    }
}

#[test]
fn an_expired_ca_and_a_clock_never_set_are_refused() {
    let scratch = Scratch::new();
    let confdir = scratch.path("conf");
    let (made, _) = open(&confdir);
    let later = made.not_after() as f64 + 1.0;
    let error = Authority::open_or_create(&confdir, later).unwrap_err();
    assert!(matches!(error, CaError::Expired { .. }), "{error}");
    for clock in [0.0, 1_000_000_000.0, f64::NAN, f64::NEG_INFINITY] {
        let error = Authority::open_or_create(&scratch.path("other"), clock).unwrap_err();
        assert!(matches!(error, CaError::ClockWrong { .. }), "{error}");
    }
    // An existing CA is opened by such a clock: a gateway must start before the time servers have answered.
    Authority::open_or_create(&confdir, 0.0).unwrap();
    assert!(Authority::open_or_create(&scratch.path("other"), f64::INFINITY).is_err());
}

#[test]
fn odd_files_are_refused_not_replaced() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("ringtap-ca.pem")).unwrap();
    assert!(matches!(refusal(&scratch.0), CaError::Unreadable { .. }));
    fs::remove_dir(scratch.path("ringtap-ca.pem")).unwrap();
    scratch.write("ringtap-ca.pem", vec![b'x'; 2 << 20]);
    assert!(matches!(refusal(&scratch.0), CaError::Unreadable { .. }));
    fs::remove_file(scratch.path("ringtap-ca.pem")).unwrap();
    symlink("/nonexistent/ca.pem", scratch.path("ringtap-ca.pem")).unwrap();
    assert!(matches!(refusal(&scratch.0), CaError::Unreadable { .. }));
    scratch.write("file", "");
    assert!(matches!(refusal(&scratch.path("file/conf")), CaError::Unwritable { .. }));
}

#[test]
fn those_who_start_at_once_agree_on_one_ca() {
    for _ in 0..20 {
        let scratch = Scratch::new();
        let confdir = scratch.path("conf");
        let barrier = std::sync::Barrier::new(4);
        let results: Vec<_> = std::thread::scope(|scope| {
            let start = || {
                barrier.wait();
                open(&confdir)
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let created = results.iter().filter(|(_, opened)| opened.origin == Origin::Created).count();
        assert_eq!(created, 1);
        assert!(results.iter().all(|(authority, _)| authority.certificate() == results[0].0.certificate()));
        let public = fs::read_to_string(confdir.join("ringtap-ca-cert.pem")).unwrap();
        assert_eq!(public, results[0].0.certificate_pem());
        assert_eq!(listing(&confdir).len(), RINGTAP_FILES.len());
    }
}
