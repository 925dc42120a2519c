//! The client's end: curl as the foreign oracle, and sockets and rustls for what curl would never do.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use x509_parser::extensions::GeneralName;

use super::process::{Output, Process};
use super::{Lab, Place, text};

/// Whose certificates a client believes.
#[derive(Clone, Copy)]
pub(crate) enum Trust {
    Ringtap,
    Origin,
    Both,
}

pub(crate) struct Client<'lab> {
    lab: &'lab Lab,
    trust: Trust,
    within: Duration,
}

/// What curl got.
#[derive(Debug)]
pub(crate) struct Reply {
    /// curl's exit code: 0, or why there is no reply.
    pub(crate) exit: i32,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// Every head of the exchange as received: of CONNECT, of interim responses, and the last.
    pub(crate) heads: String,
    pub(crate) body: Vec<u8>,
    /// The server's own certificate, where there was TLS and curl believed it.
    pub(crate) certificate: Option<Certificate>,
    /// curl's error message.
    pub(crate) error: String,
}

#[derive(Debug)]
pub(crate) struct Certificate {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) names: Vec<String>,
    pub(crate) days: i64,
}

impl<'lab> Client<'lab> {
    pub(crate) fn new(lab: &'lab Lab, trust: Trust) -> Client<'lab> {
        Client { lab, trust, within: Duration::from_secs(20) }
    }

    pub(crate) fn trusting(mut self, trust: Trust) -> Client<'lab> {
        self.trust = trust;
        self
    }

    /// How long curl may take for an exchange.
    pub(crate) fn within(mut self, limit: Duration) -> Client<'lab> {
        self.within = limit;
        self
    }

    /// Runs curl with these arguments and tells what it got.
    pub(crate) fn curl<const N: usize>(&self, args: [&str; N]) -> Reply {
        let (body, heads) = (self.lab.fresh_path("body"), self.lab.fresh_path("heads"));
        let mut argv = self.argv();
        argv.extend([
            "-o".into(),
            text(&body),
            "-D".into(),
            text(&heads),
            "-w".into(),
            "%{http_code}\n%{certs}".into(),
        ]);
        argv.extend(args.map(str::to_owned));
        let output = self.lab.run(Place::Client, &argv, self.within + Duration::from_secs(10));
        let reply = Reply::read(&output, &body, &heads);
        let _ = fs::remove_file(body);
        reply
    }

    /// Starts curl with our hands on its standard input and output.
    pub(crate) fn curl_piped(&self, args: &[&str]) -> Process {
        let mut argv = self.argv();
        argv.extend(args.iter().map(|arg| (*arg).to_owned()));
        let line = argv.join(" ");
        Process::start_piped(self.lab.command(Place::Client, &argv), self.lab.fresh_path("curl"), &line)
    }

    fn argv(&self) -> Vec<String> {
        let seconds = self.within.as_secs_f64().to_string();
        let mut argv = ["curl", "-q", "-sS", "--max-time", &seconds, "--cacert"].map(str::to_owned).to_vec();
        argv.push(text(&self.roots()));
        argv
    }

    fn roots(&self) -> PathBuf {
        let origin = self.lab.files().origin_ca();
        let ringtap = self.lab.ringtap_ca();
        match self.trust {
            Trust::Ringtap => ringtap,
            Trust::Origin => origin,
            Trust::Both => {
                let both = [origin, ringtap].map(|path| fs::read(path).unwrap_or_default()).concat();
                let path = self.lab.dir().join("both.pem");
                fs::write(&path, both).expect("write both roots");
                path
            }
        }
    }
}

impl Reply {
    fn read(output: &Output, body: &Path, heads: &Path) -> Reply {
        let heads = String::from_utf8_lossy(&fs::read(heads).unwrap_or_default()).into_owned();
        let (status, certificates) = output.stdout.split_once('\n').unwrap_or(("0", ""));
        // curl writes trailers there too, as a block without a status line
        let last =
            heads.split("\r\n\r\n").filter(|block| block.starts_with("HTTP/")).last().unwrap_or_default();
        let fields = last.lines().skip(1).filter_map(|line| line.split_once(':'));
        Reply {
            exit: output.code(),
            status: status.parse().unwrap_or(0),
            headers: fields.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect(),
            body: fs::read(body).unwrap_or_default(),
            certificate: Certificate::first_of(certificates),
            error: output.stderr.trim().to_owned(),
            heads,
        }
    }

    /// The first value of a header; its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    /// The reply, if it is a success with this status.
    #[track_caller]
    pub(crate) fn expect_status(self, status: u16) -> Reply {
        assert_eq!((self.exit, self.status), (0, status), "{}\n{}\n{}", self.error, self.heads, self.text());
        self
    }

    #[track_caller]
    pub(crate) fn issuer(&self) -> &str {
        let certificate = self.certificate.as_ref();
        &certificate.unwrap_or_else(|| panic!("no certificate: exit {} {}", self.exit, self.error)).issuer
    }
}

impl Certificate {
    fn first_of(pem: &str) -> Option<Certificate> {
        let start = pem.find("-----BEGIN CERTIFICATE-----")?;
        let der = CertificateDer::from_pem_slice(&pem.as_bytes()[start..]).expect("a certificate in PEM");
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).expect("a certificate in DER");
        let names = parsed.subject_alternative_name().expect("at most one list of names");
        let names = names.map(|list| list.value.general_names.iter().map(name_text).collect());
        Some(Certificate {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            names: names.unwrap_or_default(),
            days: (parsed.validity().not_after.timestamp() - parsed.validity().not_before.timestamp())
                / 86_400,
        })
    }
}

fn name_text(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::IPAddress(bytes) => match <[u8; 16]>::try_from(*bytes) {
            Ok(bytes) => format!("IP:{}", std::net::Ipv6Addr::from(bytes)),
            Err(_) => format!("IP:{}", bytes.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")),
        },
        other => format!("{other:?}"),
    }
}

/// The issuer of the certificates that the lab's origins have themselves.
pub(crate) const ORIGIN_ISSUER: &str = "Lab origin CA";

/// A plain socket; to be called inside a namespace. Reads and writes fail after `patience`.
pub(crate) fn connect(host: &str, port: u16, patience: Duration) -> io::Result<TcpStream> {
    let address = SocketAddr::new(host.parse().map_err(io::Error::other)?, port);
    let socket = TcpStream::connect_timeout(&address, patience)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    Ok(socket)
}

/// Closes with RST, as a machine that was switched off and on again would.
pub(crate) fn reset(socket: TcpStream) {
    let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
    drop(socket);
}

/// rustls that believes the authority in a PEM file, and speaks HTTP/1.1.
pub(crate) fn tls_config(ca: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).expect("read the authority") {
        roots.add(certificate.expect("a certificate in PEM")).expect("an authority rustls accepts");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.expect("the provider's TLS versions");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// TLS over a socket, handshake done.
pub(crate) fn tls(
    config: &Arc<ClientConfig>,
    name: &str,
    socket: TcpStream,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        match stream.conn.complete_io(&mut stream.sock) {
            // a machine that is frozen and thawed interrupts whoever waits with a limit
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => drop(done?),
        }
    }
    Ok(stream)
}
