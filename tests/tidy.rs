//! The house rules, kept by a test: who may import whom, where packages live, what is pure, what is absent.
//!
//! The tables are in `tidy/house.rs`. Each rule is a function from text to complaints, so that it can be shown to
//! complain: its own test feeds it an offence. A rule that stands in the way of something good is changed here, in the
//! open, with the reason beside it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "tidy/absence.rs"]
mod absence;
#[path = "tidy/eyes.rs"]
mod eyes;
#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/house.rs"]
mod house;
#[path = "tidy/outside.rs"]
mod outside;
#[path = "tidy/packages.rs"]
mod packages;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/stairs.rs"]
mod stairs;

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use house::Exception;
use source::{Source, line_of, words};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| source::all(root()));
    assert!(SOURCES.len() > 100, "only {} files found below src/", SOURCES.len());
    &SOURCES
}

/// Fails with all complaints at once.
#[track_caller]
fn none(complaints: impl IntoIterator<Item = String>) {
    let text = complaints.into_iter().fold(String::new(), |mut text, complaint| {
        let _ = writeln!(text, "  {complaint}");
        text
    });
    assert!(text.is_empty(), "\n{text}");
}

/// Complaints of a rule about one file.
fn about(rule: impl Fn(&Source) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
    rule(&Source::new(path, text))
}

/// Whether a file is one of the places; a place that ends in `/` is a folder.
fn is_in(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path == *place || place.ends_with('/') && path.starts_with(place))
}

/// Words that only some files may say.
fn reserved(
    source: &Source,
    is_reserved: impl Fn(&str, &str) -> bool,
    to: &[Exception],
    instead: &str,
) -> Vec<String> {
    if to.iter().any(|exception| exception.path == source.path) {
        return Vec::new();
    }
    let shipped = &source.shipped;
    words(shipped)
        .filter(|(at, word)| is_reserved(word, &shipped[at + word.len()..]))
        .map(|(at, word)| format!("{}: `{word}`: {instead}", source.at(line_of(shipped, at))))
        .collect()
}

/// Exceptions that nobody needs any more.
fn stale(exceptions: &[Exception], name: &str, needed: impl Fn(&Exception) -> bool) -> Vec<String> {
    let unused = exceptions.iter().filter(|exception| exception.why.len() < 20 || !needed(exception));
    unused
        .map(|row| {
            format!(
                "tests/tidy/house.rs: {name}: {} needs no exception, or has no reason: remove the row",
                row.path
            )
        })
        .collect()
}

/// What is under version control, as far as it is text.
fn tracked() -> Vec<(String, String)> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    let text = |name: &str| Some((name.to_owned(), std::fs::read_to_string(root().join(name)).ok()?));
    let files: Vec<_> = names.split('\0').filter(|name| !name.is_empty()).filter_map(text).collect();
    assert!(files.len() > 100, "git lists only {} files: this test needs the repository", files.len());
    files
}
