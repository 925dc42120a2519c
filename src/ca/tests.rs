//! The CA as others see it: OpenSSL and rustls judge what we make, and make what we have to read.

mod certificates;
mod handshake;
mod hostile;
mod on_disk;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A directory of a test's own, gone at its end.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ringtap-ca-test-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A file with the mode of a key file.
    pub(super) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Runs openssl in this directory; it must succeed.
    pub(super) fn openssl(&self, arguments: &str) -> String {
        let output = self.try_openssl(arguments, &[]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "openssl {arguments}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }

    pub(super) fn try_openssl(&self, arguments: &str, input: &[u8]) -> Output {
        let mut child = Command::new("openssl")
            .args(arguments.split_whitespace().map(|word| word.replace('~', " ")))
            .current_dir(&self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("these tests need the openssl command");
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// The time by the system's clock, which is openssl's and rustls' too.
#[expect(clippy::disallowed_methods, reason = "openssl and rustls judge by the system's clock")]
pub(super) fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

/// A kind of CA: how openssl makes it in `ca.key` and `ca.pem`.
pub(super) const CAS: &[(&str, &str, &str)] = &[
    ("mitmproxy's RSA", "genrsa -traditional -out ca.key 2048", "/CN=mitmproxy/O=mitmproxy"),
    ("RSA 4096 in PKCS#8", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4096 -out ca.key", "/CN=big"),
    ("P-256 in SEC1", "ecparam -genkey -name prime256v1 -out ca.key", "/CN=p256"),
    ("P-384 in PKCS#8", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out ca.key", "/CN=p384"),
    ("P-521 in SEC1", "ecparam -genkey -noout -name secp521r1 -out ca.key", "/CN=p521"),
    ("Ed25519", "genpkey -algorithm ED25519 -out ca.key", "/CN=ed"),
    (
        "two organizational units",
        "ecparam -genkey -noout -name prime256v1 -out ca.key",
        "/C=DE/O=Example~Ltd/OU=Networks/OU=Gateways/CN=Inspection~CA/emailAddress=ca@example.com",
    ),
];

/// Makes such a CA with these extensions beside those of a CA.
pub(super) fn openssl_ca(scratch: &Scratch, key: &str, subject: &str, extra: &str) {
    scratch.openssl(key);
    scratch.openssl(&format!(
        "req -x509 -new -key ca.key -sha256 -days 3650 -subj {subject} -out ca.pem -multivalue-rdn {extra} \
         -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign"
    ));
}

pub(super) fn read(scratch: &Scratch, files: &[&str]) -> Vec<u8> {
    files.iter().flat_map(|file| fs::read(scratch.path(file)).unwrap()).collect()
}

pub(super) fn authority(scratch: &Scratch, files: &[&str]) -> Arc<Authority> {
    Arc::new(Authority::from_pem(&read(scratch, files), Path::new("ca.pem"), now()).unwrap())
}

pub(super) fn cache(authority: Arc<Authority>) -> LeafCache {
    LeafCache::new(authority, LEAF_CACHE_MAX).unwrap()
}

pub(super) fn dns(name: &str) -> LeafName {
    LeafName::Dns(name.to_owned())
}
