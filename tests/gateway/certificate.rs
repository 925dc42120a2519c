//! The certificate a client sees is ours, and names what the origin's own names.

use crate::lab::client::{ORIGIN_ISSUER, Trust};
use crate::lab::daemon::TRANSPARENT;
use crate::lab::{Lab, must, text};

#[test]
fn the_certificate_is_ours_with_the_origins_names() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    for (url, names) in [
        ("https://example.test/1k", &["DNS:example.test", "DNS:www.example.test", "IP:10.78.2.2"][..]),
        ("https://www.example.test/1k", &["DNS:www.example.test", "IP:fd00:78:2::2"]),
        ("https://a.wild.test/1k", &["DNS:*.wild.test"]),
        ("https://b.wild.test/1k", &["DNS:*.wild.test"]),
        // no server name in these: the address is all there is
        ("https://10.78.2.2/1k", &["IP:10.78.2.2"]),
        ("https://[fd00:78:2::2]/1k", &["IP:fd00:78:2::2"]),
    ] {
        // curl trusts ringtap's authority alone, and checks the name
        let reply = lab.client().curl([url]).expect_status(200);
        assert!(!reply.issuer().contains(ORIGIN_ISSUER), "{url} was not intercepted");
        let certificate = reply.certificate.expect("a certificate");
        for name in names {
            assert!(
                certificate.names.iter().any(|found| found == name),
                "{url}: {name} not in {certificate:?}"
            );
        }
        assert!(certificate.days <= 398, "{url}: clients refuse what is valid for {} days", certificate.days);
        assert!(!certificate.subject.contains("ringtap"), "{url}: {certificate:?}");
    }
}

#[test]
fn without_the_servers_certificate_only_the_asked_name_is_in_ours() {
    for option in ["upstream_cert=false", "connection_strategy=lazy"] {
        let lab = Lab::new();
        let _daemon = lab.start_ringtap(&[&TRANSPARENT[..], &["--set", option]].concat());
        lab.redirect("redirect");
        let reply = lab.client().curl(["https://www.example.test/1k"]).expect_status(200);
        let certificate = reply.certificate.expect("a certificate");
        let names: Vec<_> = certificate.names.iter().filter(|name| name.starts_with("DNS:")).collect();
        assert_eq!(names, ["DNS:www.example.test"], "{option}");
    }
}

#[test]
fn who_trusts_only_the_origin_is_not_deceived() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    let reply = lab.client().trusting(Trust::Origin).curl(["https://example.test/1k"]);
    assert_eq!(reply.exit, 60, "curl: the issuer is unknown; {}", reply.error);
}

#[test]
fn openssl_verifies_the_chain_to_our_authority() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    let ca = text(&lab.ringtap_ca());
    let purpose = must(&["openssl", "x509", "-in", &ca, "-noout", "-ext", "basicConstraints,keyUsage"]);
    assert!(purpose.contains("CA:TRUE"), "{purpose}");
    for version in ["-tls1_2", "-tls1_3"] {
        let argv = [
            "openssl",
            "s_client",
            version,
            "-connect",
            "example.test:443",
            "-servername",
            "example.test",
            "-verify_hostname",
            "example.test",
            "-verify_return_error",
            "-x509_strict",
            "-CAfile",
            &ca,
        ];
        let said = lab.run(crate::lab::Place::Client, &argv, std::time::Duration::from_secs(15)).succeeded();
        assert!(said.stdout.contains("Verify return code: 0"), "{version}\n{}", said.stdout);
    }
}

#[test]
fn an_origin_that_cannot_prove_its_name_is_refused_and_the_client_told() {
    let lab = Lab::new();
    let _daemon = lab.start_ringtap(&TRANSPARENT);
    lab.redirect("redirect");
    let reply = lab
        .client()
        .curl(["--resolve", "other.test:443:10.78.2.2", "https://other.test/1k"])
        .expect_status(502);
    let told = reply.text().to_lowercase();
    assert!(told.contains("certificate"), "{told}");
}
