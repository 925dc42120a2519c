//! Bytes from a client inside TLS to a server inside TLS: opened, passed on, sealed.

mod quick;

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringtap::buf::{BlockPool, Buffer, Chunks};
use ringtap::ca::{Authority, LEAF_CACHE_MAX, LeafCache, LeafIdentity};
use ringtap::proto::tls::TlsCodec;
use ringtap::stream::{Pipe, Step, Stream, Transform};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

const BLOCKS_MAX: usize = 64;

fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("everything is in memory"),
    }
}

/// Two ends that have shaken hands.
struct Pair {
    client: TlsCodec,
    server: TlsCodec,
}

impl Pair {
    fn new(pool: &Rc<BlockPool>) -> Self {
        let now = ringtap::clock::Clock::real().unix();
        let authority = Arc::new(Authority::generate(now).expect("a CA"));
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).expect("a root");
        let leaves = LeafCache::new(authority, LEAF_CACHE_MAX).expect("a leaf key");
        let leaf = leaves.leaf(&LeafIdentity::from_names(Some("example.com"), None), now).expect("a leaf");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().expect("versions fit");
        let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        let name = ServerName::try_from("example.com").expect("a name");
        let client = UnbufferedClientConnection::new(config, name).expect("a client");
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().expect("versions fit");
        let resolver = Arc::new(SingleCertAndKey::from(leaf.certified_key.clone()));
        let config = Arc::new(builder.with_no_client_auth().with_cert_resolver(resolver));
        let server = UnbufferedServerConnection::new(config).expect("a server");
        let mut pair = Self {
            client: TlsCodec::client(client, pool.clone()),
            server: TlsCodec::server(server, pool.clone()),
        };
        let mut step = Step::default();
        pair.client.start(&mut step).expect("a hello");
        let mut to_server = true;
        while !step.wire.is_empty() {
            let wire: Vec<u8> = step.wire.iter().flat_map(|chunk| chunk.iter().copied()).collect();
            step = Step::default();
            let to = if to_server { &mut pair.server } else { &mut pair.client };
            to.open(Buffer::copied(&wire), &mut step).expect("a handshake");
            to_server = !to_server;
        }
        assert!(pair.client.is_established() && pair.server.is_established());
        pair
    }
}

/// A client, us in the middle, and a server.
struct Middle {
    far_client: TlsCodec,
    client_wire: Pipe,
    client_io: Stream,
    server_io: Stream,
    server_wire: Pipe,
}

impl Middle {
    fn new() -> Self {
        let pool = BlockPool::new(BLOCKS_MAX, BLOCKS_MAX);
        let (with_client, with_server) = (Pair::new(&pool), Pair::new(&pool));
        let (near_client, client_wire) = Pipe::pair();
        let (near_server, server_wire) = Pipe::pair();
        Self {
            far_client: with_client.client,
            client_wire,
            client_io: Stream::from(near_client).wrap(Box::new(with_client.server), Step::default()),
            server_io: Stream::from(near_server).wrap(Box::new(with_server.client), Step::default()),
            server_wire,
        }
    }

    /// The client sends, and the server's bytes of the time before are taken away.
    fn prepare(&mut self, plain: &[u8]) {
        let mut cx = Context::from_waker(Waker::noop());
        while self.server_wire.poll_read(&mut cx).is_ready() {}
        let mut step = Step::default();
        self.far_client.seal(Chunks::from(plain.to_vec()), &mut step).expect("a record");
        self.client_wire.queue(step.wire).expect("somebody reads");
    }

    fn relay(&self, length: usize) {
        let mut passed = 0;
        while passed < length {
            let chunk = now_or_never(self.client_io.read()).expect("a record");
            passed += chunk.len();
            now_or_never(self.server_io.write(chunk)).expect("a server that takes all");
        }
    }
}

fn relay(c: &mut Criterion) {
    let mut group = c.benchmark_group("relay inside TLS");
    for (name, length) in [("1 KB", 1024), ("16 KB", 16 * 1024)] {
        let plain = vec![b'x'; length];
        let middle = std::cell::RefCell::new(Middle::new());
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(name, |b| {
            b.iter_batched(
                || middle.borrow_mut().prepare(&plain),
                |()| middle.borrow().relay(length),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = quick::criterion(); targets = relay }
criterion_main!(benches);
