//! What cannot work fails at the start, with a code and a sentence that names the culprit.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::lab::daemon::ringtap_binary;
use crate::lab::process::Output;
use crate::lab::{Lab, text};

#[test]
fn an_unknown_flag_or_option_is_named() {
    let lab = Lab::new();
    let said = lab.dump_to_its_end(&[], &["--no-such-flag"]);
    assert_eq!(said.code(), 2, "a usage error; {}", said.stderr);
    refuses(&said, &["--no-such-flag"]);
    let said = lab.dump_to_its_end(&[], &["--mode", "regular@8081", "--set", "no_such_option=1"]);
    refuses(&said, &["no_such_option"]);
    let said = lab.dump_to_its_end(&[], &["--mode", "regular@8081", "--set", "workers=many"]);
    refuses(&said, &["workers", "many"]);
    let said = lab.dump_to_its_end(&[], &["--mode", "no-such-mode@8081"]);
    refuses(&said, &["no-such-mode"]);
}

#[test]
fn a_port_in_use_is_named() {
    let lab = Lab::new();
    let mut first = lab.start_ringtap(&["--mode", "regular@8081", "-q", "--set", &socket(&lab, "first")]);
    let said = lab.dump_to_its_end(&[], &["--mode", "regular@8081", "-q", "--set", &socket(&lab, "second")]);
    refuses(&said, &["8081", "in use"]);
    first.must_be_alive();
}

#[test]
fn a_certificate_authority_that_cannot_be_read_is_named() {
    let lab = Lab::new();
    fs::create_dir_all(lab.confdir()).expect("make confdir");
    fs::write(lab.confdir().join("ringtap-ca.pem"), "no key, no certificate\n").expect("write nonsense");
    let said = lab.dump_to_its_end(&[], &["--mode", "regular@8081", "-q"]);
    refuses(&said, &["ringtap-ca.pem"]);

    let missing = "ssl_verify_upstream_trusted_ca=/nowhere/ca.pem";
    let said = lab.dump_to_its_end(&[], &["--mode", "regular@8081", "-q", "--set", missing]);
    refuses(&said, &["/nowhere/ca.pem"]);
}

#[test]
fn intercepting_without_the_right_to_says_what_is_missing() {
    let lab = Lab::new();
    // where anybody may read it
    let binary = lab.dir().join("ringtap");
    fs::copy(ringtap_binary(), &binary).expect("copy ringtap");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).expect("let anybody run it");
    let confdir = lab.dir().join("nobody");
    fs::create_dir(&confdir).expect("make a confdir");
    std::os::unix::fs::chown(&confdir, Some(NOBODY), Some(NOBODY)).expect("give it to nobody");
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"];
    let run = |mode: &str, confdir: &str| {
        let binary = text(&binary);
        let confdir = format!("confdir={confdir}");
        let more = [binary.as_str(), "dump", "--set", &confdir, "--mode", mode, "-q"];
        lab.run(
            crate::lab::Place::Gateway,
            &[&nobody[..], &more].concat(),
            std::time::Duration::from_secs(15),
        )
    };
    let said = run("transparent@8080", &text(&confdir));
    refuses(&said, &["CAP_NET_ADMIN"]);
    // a directory that is somebody else's
    fs::create_dir_all(lab.confdir()).expect("make confdir");
    fs::set_permissions(lab.confdir(), fs::Permissions::from_mode(0o700)).expect("close confdir");
    let said = run("regular@8081", &text(&lab.confdir()));
    refuses(&said, &[&text(&lab.confdir()), "denied"]);
}

/// It ended by itself, not with success, not with a panic, and said these words.
#[track_caller]
fn refuses(said: &Output, words: &[&str]) {
    let told = said.stderr.to_lowercase();
    assert!(said.code() != 0 && !told.contains("panicked"), "{said:?}");
    for word in words {
        assert!(told.contains(&word.to_lowercase()), "`{}` does not say {word}: {}", said.line, said.stderr);
    }
}

fn socket(lab: &Lab, name: &str) -> String {
    format!("control_socket={}", text(&lab.dir().join(name)))
}

const NOBODY: u32 = 65_534;
