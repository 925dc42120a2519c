//! Real namespaces, real nftables, the real binary, foreign clients: each module is one story.
//!
//! Run all: `cargo build --release && sudo -E cargo test --test gateway -- --test-threads=4`;
//! one: `... cargo test --test gateway raw_tcp`. `RINGTAP_BIN` names another binary;
//! `RINGTAP_LAB_KEEP=1` keeps a lab's directory with its logs.

mod lab;

mod broken_peers;
mod bulk;
mod certificate;
mod clients;
mod crash;
mod crowds;
mod errors;
mod limits;
mod load;
mod metrics;
mod moved;
mod raw_tcp;
mod recording;
mod refusals;
mod regular;
mod reverse;
mod right_bytes;
mod same_port;
mod second_parser;
mod shutdown;
mod soak;
mod stalled_readers;
mod start_failures;
mod streaming;
mod the_lab_itself;
mod unasked;
mod upgrade;
