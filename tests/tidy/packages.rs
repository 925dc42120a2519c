//! One package, one place.

use super::house::{PACKAGES, Package};
use super::source::{Source, line_of, paths_below, words};
use super::{about, is_in, none, root, sources};

/// Lines that name a package: a path, a macro's path, or an import as a whole.
fn uses(code: &str, package: &str) -> Vec<usize> {
    let name = package.replace('-', "_");
    let mut lines: Vec<usize> = paths_below(code, &name).into_iter().map(|(line, _)| line).collect();
    for (at, word) in words(code) {
        let imported = code[..at].trim_end().ends_with("use") && !code[at + word.len()..].starts_with("::");
        if word == name && imported {
            lines.push(line_of(code, at));
        }
    }
    lines
}

fn misplaced(packages: &[Package], source: &Source) -> Vec<String> {
    let shipped = &source.shipped;
    let elsewhere = packages.iter().filter(|package| !is_in(&source.path, package.places));
    elsewhere
        .flat_map(|package| uses(shipped, package.name).into_iter().map(move |line| (line, package)))
        .map(|(line, package)| {
            format!(
                "{}: {} lives in {}: call what is there, or add to it what is missing",
                source.at(line),
                package.name,
                package.places.join(", ")
            )
        })
        .collect()
}

fn unsafe_outside_the_ring(source: &Source) -> Vec<String> {
    if source.path.starts_with("src/ring/") {
        return Vec::new();
    }
    words(&source.code)
        .filter(|(_, word)| matches!(*word, "unsafe" | "unsafe_code"))
        .map(|(at, _)| {
            let line = line_of(&source.code, at);
            format!(
                "{}: unsafe lives in src/ring/: find a safe way, or put it there behind a safe one",
                source.at(line)
            )
        })
        .collect()
}

/// A dependency's line in Cargo.toml.
struct Dependency<'a> {
    line: usize,
    name: &'a str,
    reason: &'a str,
    is_for_tests: bool,
}

fn dependencies(manifest: &str) -> Vec<Dependency<'_>> {
    let mut section = "";
    let mut found = Vec::new();
    for (index, line) in manifest.lines().enumerate() {
        if let Some(name) = line.trim().strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if section.ends_with("dependencies")
            && let Some((name, value)) = line.split_once('=')
        {
            let reason = value.rsplit_once('#').map_or("", |(_, reason)| reason.trim());
            let is_for_tests = section != "dependencies";
            found.push(Dependency { line: index + 1, name: name.trim(), reason, is_for_tests });
        }
    }
    found
}

fn manifest_complaints(manifest: &str, packages: &[Package], used: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut complaints = Vec::new();
    let dependencies = dependencies(manifest);
    for dependency in &dependencies {
        let (line, name) = (dependency.line, dependency.name);
        if dependency.reason.len() < 8 {
            complaints.push(format!("Cargo.toml:{line}: say behind a # what {name} is for, and where"));
        }
        if dependency.is_for_tests {
            continue;
        }
        match packages.iter().filter(|package| package.name == name).count() {
            0 => complaints.push(format!(
                "Cargo.toml:{line}: {name} has no place: give it a row in tests/tidy/house.rs"
            )),
            1 if !used(name) => complaints.push(format!(
                "Cargo.toml:{line}: nothing in src/ needs {name}: remove it, or make it a dev-dependency"
            )),
            1 => {}
            _ => complaints.push(format!("tests/tidy/house.rs: {name} has several rows: make them one")),
        }
    }
    let known = |name: &str| dependencies.iter().any(|dependency| dependency.name == name);
    complaints.extend(packages.iter().filter(|package| !known(package.name)).map(|package| {
        format!("tests/tidy/house.rs: {} is no dependency any more: remove its row", package.name)
    }));
    complaints
}

#[test]
fn packages_stay_in_their_places() {
    none(sources().iter().flat_map(|source| misplaced(PACKAGES, source)));
}

#[test]
fn places_are_not_wider_than_needed() {
    let sources = sources();
    let needed = |package: &Package, place: &str| {
        sources
            .iter()
            .any(|source| is_in(&source.path, &[place]) && !uses(&source.shipped, package.name).is_empty())
    };
    let places =
        PACKAGES.iter().flat_map(|package| package.places.iter().map(move |place| (package, *place)));
    none(places.filter(|(package, place)| !needed(package, place)).map(|(package, place)| {
        format!("tests/tidy/house.rs: {} is not used in {place} any more: take the place away", package.name)
    }));
}

#[test]
fn unsafe_stays_in_the_ring() {
    none(sources().iter().flat_map(unsafe_outside_the_ring));
}

#[test]
fn every_dependency_has_a_reason_a_place_and_a_user() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let shipped: Vec<String> = sources().iter().map(|source| source.shipped.clone()).collect();
    let used = |name: &str| shipped.iter().any(|code| !uses(code, name).is_empty());
    assert!(dependencies(&manifest).len() >= PACKAGES.len());
    none(manifest_complaints(&manifest, PACKAGES, &used));
}

#[test]
fn a_package_out_of_place_is_seen() {
    let packages =
        &[Package { name: "tokio-uring", places: &["src/ring/"] }, Package { name: "nix", places: &[] }];
    let about = |path: &str, text: &str| about(|source| misplaced(packages, source), path, text);
    assert!(about("src/ring/a.rs", "use tokio_uring::spawn;").is_empty());
    assert_eq!(
        about("src/proto/a.rs", "fn f() {\n    drop(tokio_uring::spawn(t));\n}")[0].find(":2: "),
        Some(14)
    );
    assert_eq!(about("src/proto/a.rs", "use ::nix::libc;").len(), 1);
    assert_eq!(about("src/proto/a.rs", "use nix as system;").len(), 1);
    assert_eq!(about("src/proto/a.rs", "nix::ioctl_read!(f, 1, 2, u8);").len(), 1);
    assert!(about("src/proto/a.rs", "use std::os::unix::fs; use crate::nix::x; self.nix.get();").is_empty());
    assert_eq!(super_unsafe("src/buf/a.rs"), 1);
    assert_eq!(super_unsafe("src/ring/a.rs"), 0);
}

fn super_unsafe(path: &str) -> usize {
    about(unsafe_outside_the_ring, path, "fn f() { unsafe { g() } } // unsafe").len()
}

#[test]
fn a_dependency_without_reason_place_or_user_is_seen() {
    let packages =
        &[Package { name: "bytes", places: &["src/"] }, Package { name: "gone", places: &["src/"] }];
    let manifest =
        "[package]\nname = \"x\"\n[dependencies]\nbytes = \"1\"\nnew = \"2\" # what it is good for\n";
    let complaints = manifest_complaints(manifest, packages, &|_| false);
    assert_eq!(complaints.len(), 4, "{complaints:?}");
    assert!(
        complaints[0].contains(":4: say behind a #") && complaints[1].contains("nothing in src/ needs bytes")
    );
    assert!(complaints[2].contains("new has no place") && complaints[3].contains("gone is no dependency"));
}
