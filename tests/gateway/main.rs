//! Real namespaces, real nftables, the real binary, foreign clients: each module is one story.
//!
//! Run all: `cargo build --release && sudo -E cargo test --test gateway -- --test-threads=4`;
//! one: `... cargo test --test gateway raw_tcp`. `RINGTAP_BIN` names another binary;
//! `RINGTAP_LAB_KEEP=1` keeps a lab's logs.

mod lab;
mod the_lab_itself;
