//! How long is measured: all benchmarks together take less than two minutes.

use std::time::Duration;

use criterion::Criterion;

/// Half a second of warming up and one of measuring for each.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
        .without_plots()
}
