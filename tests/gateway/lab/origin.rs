//! The origins: nginx for what is usual, `origin.py` for what is odd, and the files and keys they serve.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};

use super::process::Process;
use super::{Lab, Place, must, text};

/// Sockets that listen when every origin is up: nginx 2 ports, `origin.py` 4 servers, each in two families.
pub(crate) const LISTENERS: usize = 12;

/// Keys and files of all labs of a run, made once and kept under `target/tmp`.
pub(crate) struct Files {
    dir: PathBuf,
    sums: Vec<(String, String)>,
}

impl Files {
    pub(crate) fn ready() -> &'static Files {
        static FILES: OnceLock<Files> = OnceLock::new();
        FILES.get_or_init(|| {
            let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("gateway-files-1");
            if !dir.join("sums").exists() {
                let draft = dir.with_extension(std::process::id().to_string());
                fs::create_dir_all(draft.join("www")).expect("make the directory of test files");
                make_keys(&draft);
                fs::write(draft.join("sums"), make_files(&draft.join("www"))).expect("write the sums");
                // another run may have been faster: its files are as good as ours
                if fs::rename(&draft, &dir).is_err() {
                    let _ = fs::remove_dir_all(&draft);
                }
            }
            let sums = fs::read_to_string(dir.join("sums")).expect("read the sums");
            let sums = sums.lines().filter_map(|line| line.split_once(' '));
            Files { sums: sums.map(|(name, sum)| (name.to_owned(), sum.to_owned())).collect(), dir }
        })
    }

    /// The SHA-256 of a file, in hexadecimal.
    pub(crate) fn sum(&self, name: &str) -> &str {
        let found = self.sums.iter().find(|(file, _)| file == name);
        &found.unwrap_or_else(|| panic!("the origin has no file {name}")).1
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join("www").join(name)
    }

    /// The certificate of the authority that signed the origins.
    pub(crate) fn origin_ca(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }
}

impl Lab {
    pub(crate) fn start_nginx(&self) {
        let conf = self.dir().join("nginx.conf");
        fs::write(&conf, self.nginx_conf()).expect("write nginx.conf");
        let errors = text(&self.dir().join("nginx.err"));
        let argv = ["nginx", "-p", &text(self.dir()), "-e", &errors, "-c", &text(&conf)];
        let nginx = self.spawn(Place::Origin, &argv);
        *self.nginx.lock().unwrap_or_else(PoisonError::into_inner) = Some(nginx);
    }

    /// Kills nginx as a crash would; `start_nginx` brings it back.
    pub(crate) fn kill_nginx(&self) {
        self.nginx.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Lines of nginx' access log: the requests that reached it and were logged.
    pub(crate) fn requests_nginx_saw(&self) -> usize {
        fs::read_to_string(self.dir().join("access.log")).unwrap_or_default().lines().count()
    }

    pub(crate) fn spawn_odd(&self) -> Process {
        let script = text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway/origin.py"));
        let key = |name: &str| text(&self.files().dir.join(name));
        let mut argv = vec!["python3".to_owned(), script];
        argv.extend(["--cert".into(), key("odd.crt"), "--key".into(), key("odd.key")]);
        for (kind, number, port) in
            [("http", 11, 80), ("https", 11, 443), ("banner", 12, 80), ("echo", 13, 80)]
        {
            argv.push(format!("--{kind}"));
            argv.push(format!("10.78.2.{number}:{port}"));
            argv.push(format!("[fd00:78:2::{number}]:{port}"));
        }
        self.spawn(Place::Origin, &argv)
    }

    fn nginx_conf(&self) -> String {
        let dir = self.dir().display();
        let keys = self.files().dir.display();
        let listen = "listen 10.78.2.2:80; listen [fd00:78:2::2]:80; \
                      listen 10.78.2.2:443 ssl http2; listen [fd00:78:2::2]:443 ssl http2;"
            .replace(":80;", ":80 BACKLOG;")
            .replace("http2;", "http2 BACKLOG;");
        let first = listen.replace("BACKLOG", "default_server backlog=4096");
        let second = listen.replace(" BACKLOG", "");
        format!(
            "user root; daemon off; master_process off; worker_processes 1; pid {dir}/nginx.pid;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; multi_accept on; }}
http {{
  access_log {dir}/access.log combined; error_log {dir}/nginx.err warn;
  client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
  uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
  sendfile on; tcp_nodelay on; keepalive_timeout 60; keepalive_requests 1000000; etag off;
  default_type application/octet-stream; root {keys}/www; server_tokens off;
  server {{ {first} server_name example.test www.example.test;
    ssl_certificate {keys}/example.crt; ssl_certificate_key {keys}/example.key;
    location /lab/ {{ alias {dir}/www/; }} }}
  server {{ {second} server_name *.wild.test;
    ssl_certificate {keys}/wild.crt; ssl_certificate_key {keys}/wild.key; }}
}}
"
        )
    }
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let mut sum = Sum::new();
    sum.add(bytes);
    sum.hex()
}

pub(crate) struct Sum(Context);

impl Sum {
    pub(crate) fn new() -> Sum {
        Sum(Context::new(&SHA256))
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn hex(self) -> String {
        self.0.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn make_keys(dir: &Path) {
    let file = |name: &str| text(&dir.join(name));
    let curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let new_key = |name: &str| {
        let path = file(&format!("{name}.key"));
        must(&[&["openssl", "genpkey"][..], &curve, &["-out", &path]].concat());
        path
    };
    let ca_key = new_key("ca");
    must(&[
        "openssl",
        "req",
        "-x509",
        "-new",
        "-key",
        &ca_key,
        "-days",
        "3650",
        "-out",
        &file("ca.crt"),
        "-subj",
        "/O=Lab/CN=Lab origin CA",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    ]);
    for (name, common_name, names) in [
        ("example", "example.test", "DNS:example.test,DNS:www.example.test,IP:10.78.2.2,IP:fd00:78:2::2"),
        ("wild", "*.wild.test", "DNS:*.wild.test"),
        ("odd", "odd.test", "DNS:odd.test,IP:10.78.2.11,IP:fd00:78:2::11"),
    ] {
        let key = new_key(name);
        let (request, extensions) = (file("request"), file("extensions"));
        must(&[
            "openssl",
            "req",
            "-new",
            "-key",
            &key,
            "-subj",
            &format!("/O=Lab/CN={common_name}"),
            "-out",
            &request,
        ]);
        let lines =
            format!("subjectAltName={names}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n");
        fs::write(&extensions, lines).expect("write certificate extensions");
        must(&[
            "openssl",
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &file("ca.crt"),
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-days",
            "3650",
            "-extfile",
            &extensions,
            "-out",
            &file(&format!("{name}.crt")),
        ]);
    }
}

/// Files with contents that betray a lost, doubled or moved block; 1 GB is sparse, with a mark in every MB.
fn make_files(dir: &Path) -> String {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut sums = String::new();
    for (name, size) in [("0", 0), ("1k", 1 << 10), ("100k", 100 << 10), ("10m", 10 << 20)] {
        let bytes = noise.bytes(size);
        fs::write(dir.join(name), &bytes).expect("write a test file");
        sums.push_str(&format!("{name} {}\n", sha256(&bytes)));
    }
    let mut file = File::create(dir.join("1g")).expect("make the big test file");
    let mut sum = Sum::new();
    for megabyte in 0..1024_u64 {
        let mut block = noise.bytes(4096);
        file.seek(SeekFrom::Start(megabyte << 20)).expect("seek in the big test file");
        file.write_all(&block).expect("write the big test file");
        block.resize(1 << 20, 0);
        sum.add(&block);
    }
    file.set_len(1 << 30).expect("stretch the big test file");
    sums.push_str(&format!("1g {}\n", sum.hex()));
    sums
}

/// xorshift: the same bytes in every run.
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.extend_from_slice(&self.0.to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}
