//! What can be wrong with a CA, as data; each message is one line, names the file and says what mends it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::der::Civil;

/// Why a CA could not be opened, made or used. The operator's to mend, unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The file or directory is there but cannot be read.
    #[error("{}: cannot be read: {source}; let the user who runs ringtap own it", Shown(path))]
    Unreadable {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file or directory cannot be made.
    #[error("{}: cannot be written: {source}; make it writable or choose another confdir", Shown(path))]
    Unwritable {
        /// What was to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The private key can be had by other users.
    #[error(
        "{}: other users may open this private key (mode {mode:04o}); run `chmod 600 {}`",
        Shown(path),
        Quoted(path)
    )]
    OpenToOthers {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is no PEM file, or a section of it is damaged.
    #[error("{}: is damaged: {reason}; restore it from a backup", Shown(path))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No private key in the file.
    #[error("{}: has no private key; append the PEM private key of the CA to it", Shown(path))]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// No certificate in the file.
    #[error("{}: has no certificate; append the PEM certificate of the CA to it", Shown(path))]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The private key needs a passphrase.
    #[error(
        "{}: the private key is encrypted; decrypt it with `openssl pkey` and put the result in its place",
        Shown(path)
    )]
    EncryptedKey {
        /// The file.
        path: PathBuf,
    },
    /// The private key is of a kind we cannot sign with.
    #[error(
        "{}: cannot sign with this private key: {reason}; use RSA (2048 bits or more), ECDSA (P-256, P-384, P-521) or Ed25519",
        Shown(path)
    )]
    UnusableKey {
        /// The file.
        path: PathBuf,
        /// What the cryptographic library said.
        reason: String,
    },
    /// The private key belongs to none of the certificates.
    #[error(
        "{}: the private key belongs to none of the certificates in it; put the matching pair into it",
        Shown(path)
    )]
    KeyMismatch {
        /// The file.
        path: PathBuf,
    },
    /// Clients would not accept leaves under this certificate.
    #[error(
        "{}: is not the certificate of a CA: {reason}; put a CA certificate and its key into it",
        Shown(path)
    )]
    NotACa {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: &'static str,
    },
    /// The CA's certificate has run out.
    #[error(
        "{}: the CA certificate expired on {}; move the CA files away to have a new CA made",
        Shown(path),
        Civil::from_unix(*not_after)
    )]
    Expired {
        /// The file.
        path: PathBuf,
        /// Last second of its validity, in unix seconds.
        not_after: i64,
    },
    /// The system's clock cannot be right, and a CA made now would be of no use later.
    #[error("no CA was made: the system clock says {}; set the clock first", Civil::from_unix(*now))]
    ClockWrong {
        /// What the clock says, in unix seconds.
        now: i64,
    },
    /// An identity without any name: no client would accept the leaf. A mistake of the caller.
    #[error("a leaf needs at least one valid name; give the server's address when there is no SNI")]
    NoName,
    /// The cryptographic library refused. Ours.
    #[error("cannot {doing}: {reason}")]
    Crypto {
        /// What was being done.
        doing: &'static str,
        /// What the library said.
        reason: String,
    },
}

/// A path on one line, whatever is in it.
struct Shown<'a>(&'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string_lossy();
        if text.chars().any(char::is_control) { write!(f, "{text:?}") } else { f.write_str(&text) }
    }
}

/// A path as a POSIX shell wants it, so that the command in a message can be pasted.
struct Quoted<'a>(&'a Path);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,".contains(c);
        if text.chars().any(char::is_control) {
            write!(f, "{text:?}")
        } else if text.chars().all(plain) {
            f.write_str(&text)
        } else {
            write!(f, "'{}'", text.replace('\'', r"'\''"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_messages_can_be_pasted() {
        for (path, command) in [
            ("/etc/ringtap/ringtap-ca.pem", "`chmod 600 /etc/ringtap/ringtap-ca.pem`"),
            ("/home/a b/ca.pem", "`chmod 600 '/home/a b/ca.pem'`"),
            ("/it's/ca.pem", r"`chmod 600 '/it'\''s/ca.pem'`"),
        ] {
            let message = CaError::OpenToOthers { path: path.into(), mode: 0o644 }.to_string();
            assert!(message.ends_with(command), "{message}");
            assert!(message.contains("(mode 0644)"), "{message}");
        }
    }

    #[test]
    fn a_path_with_a_line_feed_stays_on_one_line() {
        let message = CaError::NoKey { path: "/a\nb".into() }.to_string();
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}
