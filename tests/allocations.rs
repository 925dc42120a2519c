//! What one more request on a kept connection costs in memory taken from the allocator: nothing of ours.
//!
//! A real engine on loopback, in this process, under an allocator that counts. The worker's thread is told by an addon
//! that is made on it; the test's own threads are set aside. `RINGTAP_ALLOCATIONS=show` prints where each one is made.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![expect(unsafe_code, reason = "an allocator that counts is an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread;
use std::time::Duration;

use ringtap::ca::{Authority, LEAF_CACHE_MAX, LeafCache, LeafIdentity};
use ringtap::config::{Config, Source, Typed};
use ringtap::hooks::{Addon, AddonFactory, Hooks};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// Requests before anything is counted: every reused buffer has its size by then.
const WARM_UP: u64 = 200;
/// Requests that are counted.
const COUNTED: u64 = 1000;
/// Allocations in all of the counted requests that are nobody's: a tick of the clock, a table that grows once.
const STRAY: u64 = COUNTED / 20;
/// Requests whose allocations are looked at one by one.
const TRACED: u64 = 10;

/// A flow keeps two heads (each a copy and its count of holders), their fields, a body, a host, and itself.
const PER_FLOW: f64 = 9.0;
/// The flows thread's, which writes it.
const PER_FLOW_WRITTEN: f64 = 0.0;

/// Whose thread this is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The engine's, but not a worker's: what records and shows flows.
    Engine,
    Worker,
    /// A client, an origin: not what is measured.
    Test,
}

thread_local! {
    static WHOSE: Cell<Whose> = const { Cell::new(Whose::Engine) };
    /// Inside the counting itself.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

static WORKER: AtomicU64 = AtomicU64::new(0);
static ENGINE: AtomicU64 = AtomicU64::new(0);
static TRACING: AtomicBool = AtomicBool::new(false);
static TRACES: Mutex<Vec<(usize, Backtrace)>> = Mutex::new(Vec::new());

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

impl Counting {
    fn note(size: usize) {
        // a thread that ends has no locals left: nobody counts it
        let Ok(whose) = WHOSE.try_with(Cell::get) else { return };
        match whose {
            Whose::Test => return,
            Whose::Engine => ENGINE.fetch_add(1, Ordering::Relaxed),
            Whose::Worker => WORKER.fetch_add(1, Ordering::Relaxed),
        };
        if whose == Whose::Worker && TRACING.load(Ordering::Relaxed) && !BUSY.replace(true) {
            let trace = Backtrace::force_capture();
            if let Ok(mut traces) = TRACES.lock() {
                traces.push((size, trace));
            }
            BUSY.set(false);
        }
    }
}

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::note(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::note(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Wants nothing: it only says which thread is a worker's.
struct Mark;

impl Addon for Mark {
    fn wants(&self) -> Hooks {
        Hooks::NONE
    }
}

/// What some requests cost.
struct Cost {
    /// Per request, on the worker.
    worker: f64,
    /// Per request, on the engine's other threads.
    engine: f64,
    worker_total: u64,
    /// Where, for a person.
    sites: String,
}

/// The one at a time who counts.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    WHOSE.set(Whose::Test);
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn by_test<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn(move || {
        WHOSE.set(Whose::Test);
        run()
    })
}

fn certificates() -> &'static LeafCache {
    static CERTIFICATES: OnceLock<LeafCache> = OnceLock::new();
    CERTIFICATES.get_or_init(|| {
        let now = ringtap::clock::Clock::real().unix();
        let authority = Arc::new(Authority::generate(now).unwrap());
        LeafCache::new(authority, LEAF_CACHE_MAX).unwrap()
    })
}

trait Talk: Read + Write + Send {}
impl<T: Read + Write + Send> Talk for T {}

/// Answers every request on every connection with that response.
fn origin(tls: bool, response: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let config = tls.then(|| {
        let now = ringtap::clock::Clock::real().unix();
        let leaf = certificates().leaf(&LeafIdentity::from_names(Some("localhost"), None), now).unwrap();
        let resolver = SingleCertAndKey::from(leaf.certified_key.clone());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Arc::new(builder.unwrap().with_no_client_auth().with_cert_resolver(Arc::new(resolver)))
    });
    by_test(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            client.set_nodelay(true).unwrap();
            let response = response.clone();
            let config = config.clone();
            by_test(move || {
                let mut talk: Box<dyn Talk> = match config {
                    Some(config) => {
                        Box::new(StreamOwned::new(ServerConnection::new(config).unwrap(), client))
                    }
                    None => Box::new(client),
                };
                let mut request = vec![0; 64 * 1024];
                let mut held = 0;
                while let Ok(n @ 1..) = talk.read(&mut request[held..]) {
                    held += n;
                    if request[..held].ends_with(b"\r\n\r\n") {
                        held = 0;
                        talk.write_all(&response).unwrap();
                    }
                }
            });
        }
    });
    addr
}

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringtap-allocations-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An engine with one worker that runs until this process ends; where it listens.
fn engine(scratch: &Scratch, options: &[String]) -> SocketAddr {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let confdir = &scratch.0;
    let mut typed = Typed::default();
    let fixed = [
        "listen_host=127.0.0.1".to_owned(),
        format!("listen_port={port}"),
        format!("confdir={}", confdir.display()),
        "control_socket=".to_owned(),
        "workers=1".to_owned(),
        "ssl_insecure=true".to_owned(),
        "keep_host_header=true".to_owned(),
        "flow_store_max=0".to_owned(),
    ];
    for option in fixed.iter().chain(options) {
        typed.set(option, Source::CommandLine).unwrap();
    }
    let config = Config::of(&typed).unwrap();
    let mark: AddonFactory = Box::new(|_| {
        WHOSE.set(Whose::Worker);
        Box::new(Mark)
    });
    // not by_test: its threads are what is counted
    thread::spawn(move || ringtap::engine::run(config, vec![mark], None).unwrap());
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    for _ in 0..600 {
        if TcpStream::connect(addr).is_ok() {
            return addr;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("the engine does not listen");
}

fn connect(addr: SocketAddr, tls: bool) -> Box<dyn Talk> {
    let tcp = TcpStream::connect(addr).unwrap();
    tcp.set_nodelay(true).unwrap();
    if !tls {
        return Box::new(tcp);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.unwrap().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.dangerous().set_certificate_verifier(Arc::new(Anyone));
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    Box::new(StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), tcp))
}

/// Whoever answers on loopback is who was asked.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A browser's request.
const REQUEST: &str = "GET /static/app/main.js?v=20240611 HTTP/1.1\r\nHost: localhost\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0\r\nAccept: */*\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\r\n";

fn response() -> Vec<u8> {
    let mut response =
        b"HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/javascript\r\nContent-Length: 1024\r\n\r\n"
            .to_vec();
    response.resize(response.len() + 1024, b'x');
    response
}

/// Requests one after another on one connection, counted once they have become routine.
fn cost_of_keep_alive(addr: SocketAddr, tls: bool) -> Cost {
    by_test(move || {
        let expected = response();
        let mut talk = connect(addr, tls);
        let mut got = vec![0; expected.len()];
        let mut exchanges = |count: u64| {
            for _ in 0..count {
                talk.write_all(REQUEST.as_bytes()).unwrap();
                talk.read_exact(&mut got).unwrap();
                assert_eq!(got, expected);
            }
        };
        exchanges(WARM_UP);
        let before = (WORKER.load(Ordering::Relaxed), ENGINE.load(Ordering::Relaxed));
        exchanges(COUNTED);
        let worker_total = WORKER.load(Ordering::Relaxed) - before.0;
        let engine_total = ENGINE.load(Ordering::Relaxed) - before.1;
        TRACING.store(true, Ordering::Relaxed);
        exchanges(TRACED);
        TRACING.store(false, Ordering::Relaxed);
        let traces = std::mem::take(&mut *TRACES.lock().unwrap());
        let sites = sorted(&traces);
        if std::env::var_os("RINGTAP_ALLOCATIONS").is_some() {
            println!(
                "{worker_total} by the worker, {engine_total} by others, in {COUNTED} requests\n{sites}"
            );
        }
        Cost {
            worker: worker_total as f64 / COUNTED as f64,
            engine: engine_total as f64 / COUNTED as f64,
            worker_total,
            sites,
        }
    })
    .join()
    .unwrap()
}

/// Which code asked for memory, a line each.
fn sorted(traces: &[(usize, Backtrace)]) -> String {
    let mut by_site: BTreeMap<String, u64> = BTreeMap::new();
    for (size, trace) in traces {
        let text = trace.to_string();
        let frames: Vec<&str> =
            text.lines().filter_map(|line| line.trim().split_once(": ").map(|(_, name)| name)).collect();
        let of = |name: &str, package: &str| {
            name.trim_start_matches('<').split(" as ").next().is_some_and(|name| name.starts_with(package))
        };
        let place: Vec<&str> = frames
            .iter()
            .filter(|name| of(name, "ringtap::") || of(name, "rustls::") || of(name, "tokio"))
            .take(4)
            .copied()
            .collect();
        *by_site.entry(format!("{size} bytes: {}", place.join(" <- "))).or_default() += 1;
    }
    by_site.iter().map(|(site, count)| format!("{count:>5} of {TRACED}  {site}\n")).collect()
}

#[test]
fn a_plain_request_on_a_kept_connection_allocates_nothing() {
    let _alone = alone();
    let origin = origin(false, response());
    let scratch = Scratch::new("plain");
    let addr = engine(&scratch, &[format!("mode=reverse:http://{origin}")]);
    let cost = cost_of_keep_alive(addr, false);
    assert!(cost.worker_total <= STRAY, "{} allocations per request:\n{}", cost.worker, cost.sites);
}

#[test]
fn a_request_inside_tls_allocates_nothing_either() {
    let _alone = alone();
    let origin = origin(true, response());
    let scratch = Scratch::new("tls");
    let addr = engine(&scratch, &[format!("mode=reverse:https://{origin}")]);
    let cost = cost_of_keep_alive(addr, true);
    assert!(cost.worker_total <= STRAY, "{} allocations per request:\n{}", cost.worker, cost.sites);
}

#[test]
fn a_recorded_request_allocates_what_its_flow_keeps() {
    let _alone = alone();
    let origin = origin(false, response());
    let scratch = Scratch::new("recorded");
    let file = scratch.0.join("flows.mitm");
    let options = [format!("mode=reverse:http://{origin}"), format!("save_stream_file={}", file.display())];
    let addr = engine(&scratch, &options);
    let cost = cost_of_keep_alive(addr, false);
    assert!(cost.worker < PER_FLOW + 1.0, "{} allocations per flow:\n{}", cost.worker, cost.sites);
    assert!(cost.engine < PER_FLOW_WRITTEN + 1.0, "{} allocations per flow beside the worker", cost.engine);
}
