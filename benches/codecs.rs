//! What it costs to read heads, bodies, hellos and flow files, and to write flows.

mod quick;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringtap::flow::Flow;
use ringtap::proto::http::h1::codec::{
    ChunkedScanner, HeadLimits, HeadProgress, RequestFacts, RequestHead, ResponseHead,
};
use ringtap::proto::tls::client_hello;
use ringtap::store::{FlowReader, write_flow};
use ringtap::testing::scripts::{BROWSER_REQUEST, response_head};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

fn heads(c: &mut Criterion) {
    let mut group = c.benchmark_group("head");
    let limits = HeadLimits::default();
    let request = BROWSER_REQUEST.as_bytes();
    group.throughput(Throughput::Bytes(request.len() as u64));
    group.bench_function("request", |b| {
        let mut head = RequestHead::default();
        b.iter(|| head.parse_into(black_box(request), &mut HeadProgress::default(), &limits).is_ok());
    });
    group.bench_function("request, httparse alone", |b| {
        b.iter(|| {
            let mut fields = [httparse::EMPTY_HEADER; 64];
            httparse::Request::new(&mut fields).parse(black_box(request)).is_ok()
        });
    });
    let response = response_head(1024);
    group.throughput(Throughput::Bytes(response.len() as u64));
    group.bench_function("response", |b| {
        let mut head = ResponseHead::default();
        let (facts, response) = (RequestFacts::default(), response.as_bytes());
        b.iter(|| head.parse_into(black_box(response), &mut HeadProgress::default(), facts, &limits).is_ok());
    });
    group.finish();
}

fn chunked(c: &mut Criterion) {
    let mut body = Vec::new();
    for _ in 0..16 {
        body.extend_from_slice(b"400\r\n");
        body.resize(body.len() + 1024, b'x');
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let mut group = c.benchmark_group("body");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("16 chunks of 1 KB", |b| {
        b.iter(|| {
            let mut passed = 0;
            let step = ChunkedScanner::default().scan(black_box(&body), &mut |range| passed += range.len());
            assert!(step.is_ok_and(|step| step.done) && passed == 16 * 1024);
        });
    });
    group.finish();
}

fn hello(c: &mut Criterion) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("versions fit").with_root_certificates(RootCertStore::empty());
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = rustls::pki_types::ServerName::try_from("www.example.com").expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut wire = Vec::new();
    client.write_tls(&mut wire).expect("a vector takes all");
    let mut group = c.benchmark_group("hello");
    group.throughput(Throughput::Bytes(wire.len() as u64));
    group.bench_function("ClientHello", |b| {
        b.iter(|| client_hello::HelloReader::default().read(black_box(&wire)).is_ok());
    });
    group.finish();
}

/// Flows as they were recorded from a browser's traffic.
fn flow_files(c: &mut Criterion) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/mitm/p02-https-http1-connect.mitm");
    let file = std::fs::read(path).expect("recorded flows");
    let flows: Vec<Flow> = FlowReader::new(&file[..]).collect::<Result<_, _>>().expect("whole flows");
    let mut group = c.benchmark_group("flow file");
    group.throughput(Throughput::Elements(flows.len() as u64));
    group.bench_function("write a flow", |b| {
        b.iter_batched_ref(
            || Vec::with_capacity(2 * file.len()),
            |out| flows.iter().for_each(|flow| write_flow(black_box(flow), out)),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("read a flow", |b| b.iter(|| FlowReader::new(black_box(&file[..])).count()));
    group.finish();
}

criterion_group! { name = benches; config = quick::criterion(); targets = heads, chunked, hello, flow_files }
criterion_main!(benches);
