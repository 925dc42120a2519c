//! What leaves the house.

use super::source::{Source, line_of};
use super::{none, tracked};

/// Directories of one machine.
fn machine_paths(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for folder in ["work", "root"].map(|name| format!("/{name}/")) {
        for (at, _) in text.match_indices(&folder) {
            let before = text[..at].chars().next_back();
            if before.is_none_or(|c| !(c.is_alphanumeric() || "/._-~}])*".contains(c))) {
                complaints.push(format!("{path}:{}: `{folder}` is a place on one machine: name it from the project, or from $HOME", line_of(text, at)));
            }
        }
    }
    complaints
}

/// Where packages come from: from the one public place, for everybody.
fn private_registries(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut complain = |line: usize, what: &str| {
        complaints.push(format!("{path}:{}: {what}: packages come from crates.io for everybody; put a mirror into your own ~/.cargo", line + 1));
    };
    if path.starts_with(".cargo/") || path.contains("/.cargo/") {
        complain(0, "a cargo configuration");
    }
    for (index, line) in text.lines().enumerate() {
        let source = line.strip_prefix("source = ");
        if path.ends_with("Cargo.lock") {
            if source
                .is_some_and(|source| source != "\"registry+https://github.com/rust-lang/crates.io-index\"")
            {
                complain(index, "a source of its own");
            }
            continue;
        }
        for host in line.split("://").skip(1).filter_map(|rest| rest.split(['/', '"', ' ', ')']).next()) {
            if ["registry", "artifactory", "mirror", "nexus", "index.crates"]
                .iter()
                .any(|word| host.contains(word))
            {
                complain(index, host);
            }
        }
    }
    complaints
}

/// `#` and a number: a text that can only be read beside somebody's tracker.
fn tracker_numbers(path: &str, text: &str) -> Vec<String> {
    let prose = match path.rsplit_once('.') {
        Some((_, "md")) => text.to_owned(),
        Some((_, "rs")) => Source::new(path, text).comments,
        _ => return Vec::new(),
    };
    let mut complaints = Vec::new();
    for (at, _) in prose.match_indices('#') {
        let before = prose[..at].chars().next_back();
        let digits = prose[at + 1..].chars().take_while(char::is_ascii_digit).count();
        let behind = prose[at + 1 + digits..].chars().next();
        let is_alone = before.is_none_or(|c| c.is_whitespace() || c == '(' || c == ',');
        if is_alone && digits > 0 && behind.is_none_or(|c| !c.is_alphanumeric() && c != '-') {
            complaints
                .push(format!("{path}:{}: a tracker's number: say what is so, and why", line_of(&prose, at)));
        }
    }
    complaints
}

#[test]
fn tracked_files_name_no_machine() {
    let this = ["tests/tidy/outside.rs"];
    none(
        tracked()
            .iter()
            .filter(|(path, _)| !this.contains(&path.as_str()))
            .flat_map(|(path, text)| machine_paths(path, text)),
    );
}

#[test]
fn packages_come_from_the_public_place() {
    let this = ["tests/tidy/outside.rs"];
    none(
        tracked()
            .iter()
            .filter(|(path, _)| !this.contains(&path.as_str()))
            .flat_map(|(path, text)| private_registries(path, text)),
    );
}

#[test]
fn texts_can_be_read_without_a_tracker() {
    none(tracked().iter().flat_map(|(path, text)| tracker_numbers(path, text)));
}

#[test]
fn what_must_not_leave_the_house_is_seen() {
    // put together here, so that this file names none itself
    let [root, work] = ["root", "work"].map(|name| format!("/{name}/"));
    assert_eq!(machine_paths("a.md", &format!("see {root}x and \"{work}y\"")).len(), 2);
    assert!(machine_paths("a.md", &format!("network{work}x, $HOME{root}y, /rooted/")).is_empty());
    let lock = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\nsource = \"registry+https://packages.example/index\"\n";
    assert_eq!(private_registries("Cargo.lock", lock).len(), 1);
    assert_eq!(private_registries("a.toml", "url = \"https://mirror.example/crates\"").len(), 1);
    assert_eq!(private_registries(".cargo/config.toml", "").len(), 1);
    assert!(private_registries("a.md", "https://github.com/rust-lang/crates.io-index").is_empty());
    assert_eq!(tracker_numbers("a.md", "as in #12, or (#7)").len(), 2);
    assert_eq!(tracker_numbers("a.rs", "let x = 1; // see #12\nlet y = \"#12\";").len(), 1);
    assert!(tracker_numbers("a.md", "PKCS#12, # 1 heading, [x](#1-walk), #1a2b3c").is_empty());
}
