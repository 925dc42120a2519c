//! What is pure, and what is absent.

use super::house::{CLOCKS, Exception, LOCKS};
use super::source::{Source, line_of, paths_below, words};
use super::{about, none, reserved, sources, stale};

/// Sans-io by file name.
fn is_pure(path: &str) -> bool {
    let Some(below) = path.strip_prefix("src/proto/") else { return false };
    below.ends_with("codec.rs")
        || below.starts_with("http/") && below.contains("/codec/")
        || below.ends_with("client_hello.rs")
        || below.starts_with("tls/records/")
}

fn impure(source: &Source) -> Vec<String> {
    if !is_pure(&source.path) {
        return Vec::new();
    }
    // TLS is worn by a stream: its codec implements what streams wear, which is pure itself
    let worn = ["stream::Step", "stream::Transform", "stream::TransformError"];
    let worns = ["src/proto/tls/codec.rs", "src/proto/tls/records/mod.rs"];
    let worn = if worns.contains(&source.path.as_str()) { &worn[..] } else { &[] };
    let shipped = &source.shipped;
    let mut found = Vec::new();
    for (line, path) in paths_below(shipped, "crate") {
        let is_ok = ["buf", "coding", "flow", "proto::codec"].iter().any(|module| {
            path == *module || path.strip_prefix(module).is_some_and(|rest| rest.starts_with("::"))
        });
        if !is_ok && !worn.contains(&path.as_str()) {
            found.push((line, format!("crate::{path}")));
        }
    }
    for (at, word) in words(shipped) {
        if matches!(
            word,
            "async" | "await" | "Clock" | "Timers" | "Instant" | "SystemTime" | "Session" | "Services"
        ) {
            found.push((line_of(shipped, at), word.to_owned()));
        }
    }
    found
        .into_iter()
        .map(|(line, what)| {
            format!(
                "{}: `{what}` in a codec: it takes bytes and gives values; wait, ask and tell in layer.rs",
                source.at(line)
            )
        })
        .collect()
}

fn locks(source: &Source) -> Vec<String> {
    let is_lock = |word: &str, _: &str| matches!(word, "Mutex" | "RwLock" | "Condvar");
    reserved(
        source,
        is_lock,
        LOCKS,
        "a worker shares nothing: keep it on its core, send a message, or add a row with the reason to LOCKS in tests/tidy/house.rs",
    )
}

fn clocks(source: &Source) -> Vec<String> {
    let is_clock = |word: &str, rest: &str| {
        matches!(word, "Instant" | "SystemTime" | "Utc" | "Local") && rest.starts_with("::now")
    };
    reserved(source, is_clock, CLOCKS, "ask `clock::Clock`, so that a test can drive time")
}

#[test]
fn codecs_are_pure() {
    let sources = sources();
    assert!(sources.iter().filter(|source| is_pure(&source.path)).count() > 10);
    none(sources.iter().flat_map(impure));
}

#[test]
fn locks_are_few_and_named() {
    let sources = sources();
    none(sources.iter().flat_map(locks));
    let has_lock = |row: &Exception| {
        let source = sources.iter().find(|source| source.path == row.path);
        source
            .is_some_and(|source| words(&source.shipped).any(|(_, word)| matches!(word, "Mutex" | "RwLock")))
    };
    none(stale(LOCKS, "LOCKS", has_lock));
}

#[test]
fn time_is_told_by_the_clock() {
    none(sources().iter().flat_map(clocks));
}

#[test]
fn an_impure_codec_is_seen() {
    let codec = |text: &str| about(impure, "src/proto/dns/codec.rs", text).len();
    assert_eq!(codec("use crate::proto::codec::Parsed;\nuse crate::flow::Headers;"), 0);
    assert_eq!(codec("async fn f() { g().await }"), 2);
    assert_eq!(codec("use crate::stream::{Step, Stream};"), 2);
    assert_eq!(codec("use crate::hooks::Chain;"), 1);
    assert_eq!(codec("fn f(clock: &Clock) {}"), 1);
    assert_eq!(codec("use crate::proto::codecs::X;"), 1);
    let tls = |text: &str| about(impure, "src/proto/tls/codec.rs", text).len();
    assert_eq!(tls("use crate::stream::{Step, Transform};"), 0);
    assert_eq!(tls("use crate::stream::{Step, Stream};"), 1);
    assert_eq!(about(impure, "src/proto/http/h1/codec/head.rs", "async fn f() {}").len(), 1);
    assert_eq!(about(impure, "src/proto/tls/client_hello.rs", "use crate::connect::Connector;").len(), 1);
    assert_eq!(about(impure, "src/proto/tcp/layer.rs", "async fn f() {}").len(), 0);
}

#[test]
fn locks_and_clocks_are_seen() {
    assert_eq!(about(locks, "src/stream/a.rs", "use std::sync::{Arc, Mutex};").len(), 1);
    assert_eq!(about(locks, "src/stream/a.rs", "x: std::sync::RwLock<u8>").len(), 1);
    assert!(about(locks, "src/ca/cache.rs", "use std::sync::Mutex;").is_empty());
    assert_eq!(about(clocks, "src/proto/a.rs", "let t = std::time::Instant::now();").len(), 1);
    assert_eq!(about(clocks, "src/proto/a.rs", "let t = SystemTime::now();").len(), 1);
    assert!(about(clocks, "src/proto/a.rs", "let t = clock.now(); type T = Instant;").is_empty());
    assert_eq!(stale(LOCKS, "LOCKS", |_| false).len(), LOCKS.len());
}
