//! Whole conversations in memory: the scripts that tests play, timed. The far ends and the comparing are in it as well,
//! so the figures are good for comparing with each other.

mod quick;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ringtap::testing::{Playbook, scripts};

type Write = fn() -> Playbook;

fn playbooks(c: &mut Criterion) {
    let mut group = c.benchmark_group("playbook");
    let all: [(&str, u64, Write); 4] = [
        ("100 plain exchanges of 1 KB", 100, || scripts::plain_exchanges(100)),
        ("a new TLS connection with one exchange", 1, || scripts::secure_exchanges(1)),
        ("100 exchanges of 1 KB inside TLS", 100, || scripts::secure_exchanges(100)),
        ("an upload of 16 chunks", 1, scripts::chunked_upload),
    ];
    for (name, exchanges, write) in all {
        group.throughput(Throughput::Elements(exchanges));
        group.bench_function(name, |b| {
            b.iter_batched(write, Playbook::play_untapped, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = quick::criterion(); targets = playbooks }
criterion_main!(benches);
