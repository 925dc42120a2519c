//! The CA's files: found, or made once for all.
//!
//! ```text
//! ringtap-ca.pem        private key + certificate          0600   the one that counts
//! ringtap-ca.p12        the same for a keychain            0600   made together with it, never again
//! ringtap-ca-cert.pem   certificate, for most devices      0644 \
//! ringtap-ca-cert.cer   the same, for Android              0644  } made again when missing or of another CA
//! ringtap-ca-cert.p12   the same, for Windows              0644 /
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey, PrivateKeyChain,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, SerialNumber};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::time::ASN1Time;

use super::authority::whole_seconds;
use super::der::pem;
use super::{Authority, CaError};

/// Where a CA came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// There was none: it was made just now.
    Created,
    /// `ringtap-ca.pem`.
    Ringtap,
    /// `mitmproxy-ca.pem`, there being no `ringtap-ca.pem`.
    Mitmproxy,
}

/// What [`Authority::open_or_create`] found and did.
#[derive(Debug)]
pub struct Opened {
    /// Where the CA came from.
    pub origin: Origin,
    /// The file with its private key.
    pub file: PathBuf,
    /// Files that were written.
    pub written: Vec<PathBuf>,
    /// Files for devices that could not be written. The CA works without them, so this is only worth a warning.
    pub unwritten: Vec<CaError>,
}

const KEY_FILE: &str = "ringtap-ca.pem";
const KEY_P12_FILE: &str = "ringtap-ca.p12";
const CERT_FILE: &str = "ringtap-ca-cert.pem";
const CERT_CER_FILE: &str = "ringtap-ca-cert.cer";
const CERT_P12_FILE: &str = "ringtap-ca-cert.p12";
const MITMPROXY_FILE: &str = "mitmproxy-ca.pem";

/// A key and a chain take a few kilobytes; whoever points us at a disk image gets a message, not a full memory.
const KEY_FILE_MAX: u64 = 1 << 20;

const DAY: i64 = 86_400;
const CA_BACKDATED: i64 = 2 * DAY;
const CA_VALID: i64 = 3_652 * DAY;

/// A clock before 2024 is one that was never set. A CA made by it would have expired when the clock is right.
const CLOCK_PLAUSIBLE_FROM: i64 = 1_704_067_200;

impl Authority {
    /// Opens the CA in `confdir`; makes one if there is none. Processes that start together get the same one.
    pub fn open_or_create(confdir: &Path, now_unix: f64) -> Result<(Self, Opened), CaError> {
        let unwritable = |source| CaError::Unwritable { path: confdir.into(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(confdir).map_err(unwritable)?;
        if let Some(found) = open(confdir, now_unix)? {
            return Ok(found);
        }
        if let Some(made) = create(confdir, now_unix)? {
            return Ok(made);
        }
        // Another process was faster: its CA is the one.
        let lost = || CaError::Unreadable {
            path: confdir.join(KEY_FILE),
            source: io::Error::other("it is there, yet cannot be opened (a link to nowhere?)"),
        };
        open(confdir, now_unix)?.ok_or_else(lost)
    }

    /// A new CA that lives in memory only.
    pub fn generate(now_unix: f64) -> Result<Self, CaError> {
        let new = NewCa::make(now_unix)?;
        Self::from_pem(new.pem().as_bytes(), Path::new("(CA in memory)"), now_unix)
    }

    /// The CA's certificate as PKCS#12 without a password.
    pub fn certificate_p12(&self) -> Result<Vec<u8>, CaError> {
        let mut store = KeyStore::new();
        let certificate = Certificate::from_der(self.certificate()).map_err(p12_failed)?;
        store.add_entry("ringtap", KeyStoreEntry::Certificate(certificate));
        p12(&store)
    }
}

fn open(confdir: &Path, now_unix: f64) -> Result<Option<(Authority, Opened)>, CaError> {
    for (name, origin) in [(KEY_FILE, Origin::Ringtap), (MITMPROXY_FILE, Origin::Mitmproxy)] {
        let file = confdir.join(name);
        let Some(text) = read_key_file(&file)? else { continue };
        let authority = Authority::from_pem(&text, &file, now_unix)?;
        let mut opened = Opened { origin, file, written: Vec::new(), unwritten: Vec::new() };
        // What lies beside a mitmproxy CA is mitmproxy's.
        if origin == Origin::Ringtap {
            write_public_files(confdir, &authority, &mut opened);
        }
        return Ok(Some((authority, opened)));
    }
    Ok(None)
}

/// `None` if another process made one in the meantime.
fn create(confdir: &Path, now_unix: f64) -> Result<Option<(Authority, Opened)>, CaError> {
    let new = NewCa::make(now_unix)?;
    let file = confdir.join(KEY_FILE);
    let authority = Authority::from_pem(new.pem().as_bytes(), &file, now_unix)?;
    if !publish_new(&file, new.pem().as_bytes())? {
        return Ok(None);
    }
    let mut opened =
        Opened { origin: Origin::Created, written: vec![file.clone()], file, unwritten: Vec::new() };
    let key_p12 = new.p12();
    opened.note(confdir, KEY_P12_FILE, 0o600, key_p12);
    write_public_files(confdir, &authority, &mut opened);
    Ok(Some((authority, opened)))
}

fn write_public_files(confdir: &Path, authority: &Authority, opened: &mut Opened) {
    let certificate_file = fs::read(confdir.join(CERT_FILE)).unwrap_or_default();
    let current =
        CertificateDer::from_pem_slice(&certificate_file).is_ok_and(|c| c == *authority.certificate());
    // One that differs was left by another CA, and then so were the others.
    let wanted = |name: &str| !current || !confdir.join(name).exists();
    // PKCS#12 first, the PEM file last: it is the one that says whether all are current.
    if wanted(CERT_P12_FILE) {
        opened.note(confdir, CERT_P12_FILE, 0o644, authority.certificate_p12());
    }
    for name in [CERT_CER_FILE, CERT_FILE] {
        if wanted(name) {
            opened.note(confdir, name, 0o644, Ok(authority.certificate_pem().into_bytes()));
        }
    }
}

impl Opened {
    /// Writes a file and notes how that went.
    fn note(&mut self, confdir: &Path, name: &str, mode: u32, bytes: Result<Vec<u8>, CaError>) {
        let path = confdir.join(name);
        match bytes.and_then(|bytes| replace(&path, mode, &bytes)) {
            Ok(()) => self.written.push(path),
            Err(error) => self.unwritten.push(error),
        }
    }
}

/// The contents of a key file that nobody else can open; `None` if there is no such file.
fn read_key_file(path: &Path) -> Result<Option<Vec<u8>>, CaError> {
    let unreadable = |source| CaError::Unreadable { path: path.into(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(unreadable)?,
    };
    // The open file is asked, not the path: it cannot be exchanged in between.
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.permissions().mode() & 0o7777;
    if !metadata.is_file() {
        return Err(unreadable(io::Error::other("it is not a regular file")));
    }
    if mode & 0o077 != 0 {
        return Err(CaError::OpenToOthers { path: path.into(), mode });
    }
    let mut bytes = Vec::new();
    file.take(KEY_FILE_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > KEY_FILE_MAX {
        return Err(unreadable(io::Error::other("it is too large for a key file")));
    }
    Ok(Some(bytes))
}

/// Puts a key file in place, whole or not at all; `false` if one is there already.
fn publish_new(path: &Path, bytes: &[u8]) -> Result<bool, CaError> {
    let unwritable = |source| CaError::Unwritable { path: path.into(), source };
    let temporary = Temporary::write(path, 0o600, bytes)?;
    // rename(2) would replace the file of a faster process; link(2) refuses.
    match fs::hard_link(&temporary.path, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        // File systems without hard links (FAT, some network and container mounts): a check, then a rename. Two that
        // start in the same instant may disagree there, until one of them is started again.
        Err(_) if path.exists() => return Ok(false),
        Err(_) => fs::rename(&temporary.path, path).map_err(unwritable)?,
    }
    sync_directory(path);
    Ok(true)
}

/// Puts a file in place of whatever was there.
fn replace(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), CaError> {
    let temporary = Temporary::write(path, mode, bytes)?;
    let unwritable = |source| CaError::Unwritable { path: path.into(), source };
    fs::rename(&temporary.path, path).map_err(unwritable)?;
    sync_directory(path);
    Ok(())
}

/// Makes a new name in a directory survive a power cut; a file system that cannot do that still has the file.
fn sync_directory(path: &Path) {
    if let Some(directory) = path.parent() {
        drop(File::open(directory).and_then(|directory| directory.sync_all()));
    }
}

/// A complete file under a name of its own, gone when dropped (unless renamed).
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn write(target: &Path, mode: u32, bytes: &[u8]) -> Result<Self, CaError> {
        let unwritable = |source| CaError::Unwritable { path: target.into(), source };
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let suffix: String = random::<8>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = target.with_file_name(format!(".{name}.{suffix}.tmp"));
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(unwritable)?;
        let temporary = Self { path };
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(unwritable)?;
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove, which is as good.
        drop(fs::remove_file(&self.path));
    }
}

/// A CA that nobody has yet.
struct NewCa {
    key: KeyPair,
    certificate: rcgen::Certificate,
}

impl NewCa {
    fn make(now_unix: f64) -> Result<Self, CaError> {
        let now = whole_seconds(now_unix);
        if now < CLOCK_PLAUSIBLE_FROM {
            return Err(CaError::ClockWrong { now });
        }
        let failed = |reason: String| CaError::Crypto { doing: "make a CA", reason };
        let mut params = CertificateParams::default();
        let name = common_name(&fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default());
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::OrganizationName, "ringtap");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let mut serial = random::<16>()?;
        // A leading 01 bit: positive, and always of the same length.
        serial[0] = serial[0] & 0x3f | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let time = |unix| ASN1Time::from_timestamp(unix).map_err(|error| failed(error.to_string()));
        params.not_before = time(now - CA_BACKDATED)?.to_datetime();
        params.not_after = time(now - CA_BACKDATED + CA_VALID)?.to_datetime();
        let key = KeyPair::generate().map_err(|error| failed(error.to_string()))?;
        let certificate = params.self_signed(&key).map_err(|error| failed(error.to_string()))?;
        Ok(Self { key, certificate })
    }

    fn pem(&self) -> String {
        pem("PRIVATE KEY", self.key.serialized_der()) + &pem("CERTIFICATE", self.certificate.der())
    }

    fn p12(&self) -> Result<Vec<u8>, CaError> {
        let certificate = Certificate::from_der(self.certificate.der()).map_err(p12_failed)?;
        let key = PrivateKey::from_der(self.key.serialized_der()).map_err(p12_failed)?;
        let mut store = KeyStore::new();
        let chain = PrivateKeyChain::new("ringtap", key, [certificate]);
        store.add_entry("ringtap", KeyStoreEntry::PrivateKeyChain(chain));
        p12(&store)
    }
}

/// The CA's common name: which machine's it is, in the 64 characters that X.520 allows.
fn common_name(hostname: &str) -> String {
    let kept = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let hostname: String = hostname.trim().chars().filter(kept).take(64 - "ringtap ".len()).collect();
    format!("ringtap {hostname}").trim_end().to_owned()
}

/// PKCS#12 in the old encryption: with an empty password no cipher protects anything, and this one is read by every
/// Windows, macOS, Android and Java, where the AES one is not.
fn p12(store: &KeyStore) -> Result<Vec<u8>, CaError> {
    store
        .writer("")
        .encryption_algorithm(EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc)
        .encryption_iterations(2_048)
        .mac_algorithm(MacAlgorithm::HmacSha1)
        .mac_iterations(2_048)
        .write()
        .map_err(p12_failed)
}

fn p12_failed(error: p12_keystore::error::Error) -> CaError {
    CaError::Crypto { doing: "write PKCS#12", reason: error.to_string() }
}

/// Random bytes of the cryptographic generator.
pub(super) fn random<const N: usize>() -> Result<[u8; N], CaError> {
    let mut bytes = [0; N];
    let failed = |_| CaError::Crypto { doing: "get random bytes", reason: "the generator failed".into() };
    rand::fill(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
