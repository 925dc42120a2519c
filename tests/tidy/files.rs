//! The state of a file.

use std::collections::BTreeSet;

use super::house::{DIALOGUES_OWED, LINES_MAX};
use super::source::{Source, line_of, words};
use super::{about, is_in, none, reserved, sources, stale, tracked};

/// Places of a text, where it is a word of its own.
fn whole_word(text: &str, word: &str) -> Vec<usize> {
    words(text).filter(|(_, found)| *found == word).map(|(at, _)| line_of(text, at)).collect()
}

/// What is meant to be temporary, and stays.
fn loose_ends(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for name in ["todo", "unimplemented", "dbg"] {
        for (at, word) in words(&source.code).filter(|(_, word)| *word == name) {
            if source.code[at + word.len()..].starts_with('!') {
                let line = line_of(&source.code, at);
                complaints.push(format!(
                    "{}: `{name}!`: finish it, or return an error that says so",
                    source.at(line)
                ));
            }
        }
    }
    // put together, so that this file does not complain about itself
    for mark in [["FIX", "ME"].concat(), "X".repeat(3), ["TO", "DO"].concat(), ["HA", "CK"].concat()] {
        for line in whole_word(&source.text, &mark) {
            complaints.push(format!(
                "{}: `{mark}`: mend it now, or say as a fact what is so and why",
                source.at(line)
            ));
        }
    }
    for (at, line) in source.code.lines().enumerate() {
        if line.contains("#[ignore]") {
            complaints.push(format!("{}: `#[ignore]`: say why, #[ignore = \"...\"]", source.at(at + 1)));
        }
        let attribute = line.trim_start().starts_with("#[") || line.trim_start().starts_with("#![");
        if attribute && (line.contains("[allow(") || line.contains(" allow(")) {
            complaints.push(format!(
                "{}: `allow`: use #[expect(.., reason = \"..\")], which ends by itself",
                source.at(at + 1)
            ));
        }
    }
    complaints
}

/// Printing is for those who face a person.
fn prints(source: &Source) -> Vec<String> {
    let faces = ["src/cli/", "src/ui/", "src/telemetry/"];
    let is_print = |word: &str, rest: &str| {
        matches!(word, "print" | "println" | "eprint" | "eprintln")
            && rest.starts_with('!')
            && !is_in(&source.path, &faces)
    };
    reserved(source, is_print, &[], "say it with tracing, or return it to the command that was asked")
}

fn shape(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    if !source.text.starts_with("//!") {
        complaints.push(format!("{}: begin with `//!` and say why this file exists", source.at(1)));
    }
    let lines = source.is_test.iter().filter(|is_test| !**is_test).count();
    if lines > LINES_MAX {
        complaints.push(format!(
            "{}: {lines} lines without tests, {LINES_MAX} are the most: split it by what a reader looks for",
            source.at(1)
        ));
    }
    let name = source.path.rsplit('/').find(|name| *name != "mod.rs").unwrap().trim_end_matches(".rs");
    if matches!(name, "util" | "utils" | "common" | "manager" | "helper" | "helpers" | "misc") {
        complaints.push(format!("{}: `{name}` says nothing: name it after what it is", source.at(1)));
    }
    complaints
}

/// Folders with a conversation, and the ones among them that lack a dialogue with a test in it.
fn without_dialogue(sources: &[Source]) -> (usize, BTreeSet<String>) {
    let folders: BTreeSet<&str> = sources
        .iter()
        .filter(|source| source.path.starts_with("src/proto/"))
        .filter_map(|source| source.path.strip_suffix("/layer.rs"))
        .collect();
    let has_dialogue = |folder: &str| {
        let (file, below) = (format!("{folder}/playbook.rs"), format!("{folder}/playbook/"));
        let of_it = |source: &&Source| source.path == file || source.path.starts_with(&below);
        sources.iter().filter(of_it).any(|source| source.code.contains("#[test]"))
    };
    let lacking = folders.iter().filter(|folder| !has_dialogue(folder)).map(|folder| (*folder).to_owned());
    (folders.len(), lacking.collect())
}

fn untested_addons(sources: &[Source]) -> Vec<String> {
    let addons = sources
        .iter()
        .filter(|source| source.path.starts_with("src/addons/") && !source.path.ends_with("/mod.rs"));
    let has_test = |addon: &Source| {
        let below = format!("{}/", addon.path.trim_end_matches(".rs"));
        let of_it = |source: &&Source| source.path == addon.path || source.path.starts_with(&below);
        sources.iter().filter(of_it).any(|source| source.code.contains("#[test]"))
    };
    addons
        .filter(|addon| !addon.is_test.iter().all(|is_test| *is_test) && !has_test(addon))
        .map(|addon| format!("{}: an addon without a test: show one flow before and after", addon.at(1)))
        .collect()
}

#[test]
fn no_loose_ends() {
    none(sources().iter().flat_map(loose_ends));
    none(
        tracked()
            .iter()
            .filter(|(path, _)| path.ends_with(".rs") && path.starts_with("tests/"))
            .flat_map(|(path, text)| loose_ends(&Source::new(path, text))),
    );
}

#[test]
fn only_faces_print() {
    none(sources().iter().flat_map(prints));
}

#[test]
fn files_say_why_they_exist_and_can_be_read_in_one_sitting() {
    none(sources().iter().flat_map(shape));
}

#[test]
fn conversations_have_dialogues() {
    let (folders, lacking) = without_dialogue(sources());
    assert!(folders >= 3);
    let is_owed = |folder: &str| DIALOGUES_OWED.iter().any(|row| row.path == folder);
    none(lacking.iter().filter(|folder| !is_owed(folder)).map(|folder| {
        format!(
            "{folder}/layer.rs: no dialogue: write {folder}/playbook.rs, with what both sides say in order"
        )
    }));
    none(stale(DIALOGUES_OWED, "DIALOGUES_OWED", |row| lacking.contains(row.path)));
}

#[test]
fn addons_have_tests() {
    none(untested_addons(sources()));
}

#[test]
fn loose_ends_are_seen() {
    let loose = |text: &str| about(loose_ends, "src/buf/a.rs", text).len();
    assert_eq!(loose("fn f() { todo!() }"), 1);
    assert_eq!(loose("fn f() { unimplemented!(\"later\") }\nfn g() { dbg!(1); }"), 2);
    assert_eq!(loose(&format!("// {}: later\n// {} here", ["FIX", "ME"].concat(), "X".repeat(3))), 2);
    assert_eq!(loose("// a scratch file is called ringtap.XXXXXX"), 0);
    assert_eq!(loose("#[test]\n#[ignore]\nfn f() {}"), 1);
    assert_eq!(loose("#[test]\n#[ignore = \"needs a printer\"]\nfn f() {}"), 0);
    assert_eq!(loose("#[allow(dead_code)]\nfn f() {}"), 1);
    assert_eq!(loose("#[cfg_attr(x, allow(dead_code))]\nfn f() {}"), 1);
    assert_eq!(loose("fn f() { allow(\"#[allow(\"); }"), 0);
}

#[test]
fn prints_are_seen() {
    assert_eq!(about(prints, "src/proto/a.rs", "fn f() { eprintln!(\"here\"); print!(\"\") }").len(), 2);
    assert!(about(prints, "src/cli/a.rs", "fn f() { println!(\"here\"); }").is_empty());
    assert!(about(prints, "src/proto/a.rs", "#[cfg(test)]\nfn f() { println!(\"here\"); }").is_empty());
}

#[test]
fn bad_shapes_are_seen() {
    assert_eq!(about(shape, "src/buf/a.rs", "use std::io;\n").len(), 1);
    assert_eq!(about(shape, "src/buf/utils.rs", "//! Things.\n").len(), 1);
    assert_eq!(about(shape, "src/buf/helpers/mod.rs", "//! Things.\n").len(), 1);
    let long = format!("//! Long.\n{}", "fn f() {}\n".repeat(LINES_MAX));
    assert_eq!(about(shape, "src/buf/a.rs", &long).len(), 1);
    let tested =
        format!("//! Long tests.\n#[cfg(test)]\nmod tests {{\n{}}}\n", "fn f() {}\n".repeat(LINES_MAX));
    assert!(about(shape, "src/buf/a.rs", &tested).is_empty());
}

#[test]
fn a_lacking_dialogue_and_an_untested_addon_are_seen() {
    let mut sources =
        vec![Source::new("src/proto/dns/layer.rs", ""), Source::new("src/addons/block.rs", "fn f() {}")];
    assert_eq!(without_dialogue(&sources).1.len(), 1);
    assert_eq!(untested_addons(&sources).len(), 1);
    sources.push(Source::new("src/proto/dns/playbook.rs", "//! Dialogues of DNS."));
    assert_eq!(without_dialogue(&sources).1.len(), 1, "an empty one does not count");
    sources.push(Source::new("src/proto/dns/playbook/tcp.rs", "#[test]\nfn f() {}"));
    sources.push(Source::new("src/addons/block/tests.rs", "#[test]\nfn f() {}"));
    assert_eq!(without_dialogue(&sources).1.len(), 0);
    assert_eq!(untested_addons(&sources).iter().filter(|said| said.contains("block.rs")).count(), 0);
}
