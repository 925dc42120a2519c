//! Stairs go down only.

use super::house::{FLOORS, Floor};
use super::source::{Source, paths_below, words};
use super::{about, none, root, sources};

/// The top-level module a file belongs to; `None`: the door and the map.
fn module_of(path: &str) -> Option<&str> {
    let below = path.strip_prefix("src/")?;
    match below.split_once('/') {
        Some((module, _)) => Some(module),
        None => below.strip_suffix(".rs").filter(|name| !matches!(*name, "lib" | "main")),
    }
}

fn imports(floors: &[Floor], source: &Source) -> Vec<String> {
    let Some(module) = module_of(&source.path) else { return Vec::new() };
    let Some(floor) = floors.iter().find(|floor| floor.module == module) else {
        return vec![format!(
            "{}: module `{module}` has no floor: give it a row in tests/tidy/house.rs",
            source.path
        )];
    };
    let shipped = &source.shipped;
    let mut complaints = Vec::new();
    for (line, path) in paths_below(shipped, "crate") {
        let (target, _) = path.split_once("::").unwrap_or((&path, ""));
        if target != module && !floor.may.contains(&target) {
            complaints.push(format!(
                "{}: `{module}` must not know `crate::{path}`: hand it in from above, or move what both need below \
                 (its row in tests/tidy/house.rs allows {:?})",
                source.at(line),
                floor.may
            ));
        }
    }
    complaints
}

/// `super::` must not climb out of the top-level module, where the table cannot see it.
fn climbs(source: &Source) -> Vec<String> {
    if module_of(&source.path).is_none() {
        return Vec::new();
    }
    let folders = source.path.matches('/').count();
    let depth = if source.path.ends_with("/mod.rs") { folders - 1 } else { folders };
    let shipped = &source.shipped;
    paths_below(shipped, "super")
        .into_iter()
        .filter(|(_, path)| 1 + path.split("::").take_while(|part| *part == "super").count() >= depth)
        .map(|(line, path)| format!("{}: `super::{path}` leaves the module: say `crate::`", source.at(line)))
        .collect()
}

#[test]
fn stairs_go_down_only() {
    none(sources().iter().flat_map(|source| imports(FLOORS, source)));
}

#[test]
fn a_modules_neighbours_are_named_from_the_crate() {
    none(sources().iter().flat_map(climbs));
}

#[test]
fn floors_lie_in_order_and_the_map_shows_every_module() {
    let mut below: Vec<&str> = Vec::new();
    for floor in FLOORS {
        for target in floor.may {
            assert!(
                below.contains(target),
                "row `{}` names `{target}`, which is not a row above it",
                floor.module
            );
        }
        below.push(floor.module);
    }
    let map = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let declared = map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    none(declared.filter(|module| !map.contains(&format!("[`{module}`]"))).map(|module| {
        format!("src/lib.rs: the map does not mention [`{module}`]: say on which floor it lies")
    }));
}

/// `file.rs::name` in the map, where rustdoc cannot look: what is private.
fn lost_places(map: &str, sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (index, line) in map.lines().enumerate() {
        for place in line.split('`').filter(|quoted| quoted.contains(".rs::")) {
            let (file, name) = place.split_once("::").unwrap();
            let path = format!("src/{file}");
            let declares = |source: &Source| {
                let all: Vec<&str> = words(&source.shipped).map(|(_, word)| word).collect();
                all.windows(2)
                    .any(|pair| pair[1] == name && matches!(pair[0], "fn" | "struct" | "enum" | "trait"))
            };
            if !sources.iter().any(|source| source.path == path && declares(source)) {
                complaints.push(format!(
                    "src/lib.rs:{}: there is no `{place}` any more: walk the walk again",
                    index + 1
                ));
            }
        }
    }
    complaints
}

#[test]
fn the_map_leads_to_what_exists() {
    let map = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    assert!(map.matches(".rs::").count() > 5);
    none(lost_places(&map, sources()));
}

#[test]
fn a_lost_place_is_seen() {
    let sources = [Source::new("src/mode/mod.rs", "pub fn enter() {}\nstruct Gate;")];
    assert!(lost_places("//! `mode/mod.rs::enter` and `mode/mod.rs::Gate`", &sources).is_empty());
    assert_eq!(lost_places("//! `mode/mod.rs::leave`\n//! `mode/gate.rs::enter`", &sources).len(), 2);
}

#[test]
fn a_step_upwards_is_seen() {
    let floors = &[Floor { module: "buf", may: &[] }, Floor { module: "ring", may: &["buf"] }];
    let about = |path: &str, text: &str| about(|source| imports(floors, source), path, text);
    assert!(about("src/ring/tcp.rs", "use crate::buf::Chunk;\nuse crate::ring::Ring;").is_empty());
    let complaints = about("src/ring/tcp.rs", "use std::io;\nuse crate::engine::run;");
    assert_eq!(complaints.len(), 1);
    assert!(complaints[0].starts_with("src/ring/tcp.rs:2: `ring` must not know `crate::engine::run`"));
    assert_eq!(about("src/ring/mod.rs", "use crate::{buf::{Chunk, Pool}, proto::{self, tls}};").len(), 2);
    assert_eq!(about("src/buf.rs", "fn f() { crate::ring::spawn(async {}) }").len(), 1);
    assert_eq!(about("src/buf.rs", "use crate::*;").len(), 1);
    assert_eq!(about("src/attic.rs", "")[0].matches("has no floor").count(), 1);
    assert!(about("src/buf.rs", "// crate::ring\nconst X: &str = \"crate::ring\";").is_empty());
    assert!(about("src/buf.rs", "#[cfg(test)]\nmod tests { use crate::ring::Ring; }").is_empty());
    assert_eq!(about("src/buf.rs", "#[cfg(not(test))]\nmod real { use crate::ring::Ring; }").len(), 1);
}

#[test]
fn a_climb_is_seen() {
    assert_eq!(about(climbs, "src/ui/mod.rs", "use super::engine;").len(), 1);
    assert_eq!(about(climbs, "src/ui/dump/mod.rs", "use super::super::engine;").len(), 1);
    assert!(about(climbs, "src/ui/dump/dns.rs", "use super::style;\nuse super::super::tui;").is_empty());
    assert_eq!(about(climbs, "src/clock.rs", "fn f() { super::ring::now() }").len(), 1);
}
