//! Documents keep up with the program: the list of options is written by the table of options, and what the README
//! tells people to type is understood.
//!
//! After a change of the table: `RINGTAP_BLESS=1 cargo test --test docs` writes `docs/options.md` anew.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use ringtap::config::{OPTIONS, OptionSpec, Shape, find};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap_or_default()
}

/// The page of options.
fn options_page(options: &[OptionSpec]) -> String {
    let mut page = "\
# Options

Each can be given as `--set NAME=VALUE`, as a line of the file named by `--config` (TOML), and, where the table shows
one, by a flag of its own. Flags and `--set` win over the file. Sizes are written `512`, `64k`, `3m`, `1g`. Names are
mitmproxy's where mitmproxy has the option.

`ringtap dump --options` prints the same list with the values in force.

| option | value | default | flag |
|---|---|---|---|
"
    .to_owned();
    for option in options {
        let _ = writeln!(
            page,
            "| [`{0}`](#{0}) | {1} | {2} | {3} |",
            option.name,
            shape(option.shape),
            default(option),
            flags(option)
        );
    }
    for option in options {
        let _ = write!(page, "\n### {}\n\n{}\n", option.name, option.help.replace('<', "&lt;"));
    }
    page
}

fn shape(shape: Shape) -> String {
    match shape {
        Shape::Bool => "`true` or `false`".to_owned(),
        Shape::Int(min, max) => format!("{min} to {max}"),
        Shape::Size => "size".to_owned(),
        Shape::OptSize => "size, or nothing".to_owned(),
        Shape::Str => "text".to_owned(),
        Shape::OptStr => "text, or nothing".to_owned(),
        Shape::Choice(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Shape::Seq { split: true } => "list, separated by commas".to_owned(),
        Shape::Seq { split: false } => "may be repeated".to_owned(),
    }
}

fn default(option: &OptionSpec) -> String {
    if option.default.is_empty() { "none".to_owned() } else { format!("`{}`", option.default) }
}

fn flags(option: &OptionSpec) -> String {
    match option.flag {
        // the one switch whose short form is the negative
        Some((long @ "server", _)) => format!("`--no-{long}`, `-n`"),
        Some((long, None)) if option.shape == Shape::Bool => format!("`--{long}`, `--no-{long}`"),
        Some((long, Some(short))) if option.shape == Shape::Bool => {
            format!("`--{long}`, `-{short}`, `--no-{long}`")
        }
        Some((long, Some(short))) => format!("`--{long}`, `-{short}`"),
        Some((long, None)) => format!("`--{long}`"),
        None => String::new(),
    }
}

/// What a document says to type: lines of its console blocks that call ringtap, without what the shell takes.
fn commands(document: &str) -> Vec<(usize, Vec<String>)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (index, line) in document.lines().enumerate() {
        let line = line.trim();
        if let Some(kind) = line.strip_prefix("```") {
            inside = kind == "console";
        }
        let typed = line.strip_prefix("# ").or_else(|| line.strip_prefix("$ ")).unwrap_or_default();
        if inside && typed.starts_with("ringtap ") {
            let ended = typed.split([';', '|', '#', '>']).next().unwrap();
            found.push((index + 1, ended.split_whitespace().map(str::to_owned).collect()));
        }
    }
    found
}

/// Options that a document sets by name.
fn options_named(document: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in document.lines().enumerate() {
        for rest in line.split("--set ").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if !name.is_empty() {
                found.push((index + 1, name));
            }
        }
    }
    found
}

#[test]
fn the_page_of_options_says_what_the_table_says() {
    let page = options_page(OPTIONS);
    if std::env::var_os("RINGTAP_BLESS").is_some() {
        std::fs::create_dir_all(file("docs")).unwrap();
        std::fs::write(file("docs/options.md"), &page).unwrap();
    }
    let written = read("docs/options.md");
    let differs = page.lines().zip(written.lines()).position(|(now, then)| now != then);
    assert!(
        page == written,
        "docs/options.md:{}: is not what the table of options says: write it anew with \
         'RINGTAP_BLESS=1 cargo test --test docs' and look at the difference",
        differs.map_or(1, |line| line + 1)
    );
}

#[test]
fn the_flags_of_the_page_exist() {
    let command = ringtap::cli::command();
    let dump = command.find_subcommand("dump").unwrap();
    let known: Vec<String> = dump
        .get_arguments()
        .flat_map(|arg| {
            [arg.get_long().map(|long| format!("--{long}")), arg.get_short().map(|c| format!("-{c}"))]
        })
        .flatten()
        .collect();
    for option in OPTIONS {
        for flag in flags(option).split('`').filter(|flag| flag.starts_with('-')) {
            assert!(known.iter().any(|known| known == flag), "{}: `dump` has no {flag}", option.name);
        }
    }
}

#[test]
fn the_readme_leads_to_the_page_of_options() {
    assert!(read("README.md").contains("](docs/options.md)"));
}

#[test]
fn what_the_readme_says_to_type_is_understood() {
    let readme = read("README.md");
    let commands = commands(&readme);
    assert!(commands.len() > 5, "only {commands:?}");
    for (line, words) in commands {
        if let Err(error) = ringtap::cli::command().try_get_matches_from(&words) {
            panic!("README.md:{line}: `{}` is not understood: {error}", words.join(" "));
        }
    }
}

#[test]
fn options_in_documents_exist() {
    for name in ["README.md", "CHANGELOG.md"] {
        for (line, option) in options_named(&read(name)) {
            assert!(find(&option).is_some(), "{name}:{line}: there is no option `{option}`");
        }
    }
}

#[test]
fn a_page_that_drifts_and_a_command_that_is_wrong_are_seen() {
    assert_ne!(options_page(OPTIONS), options_page(&OPTIONS[1..]));
    let document = "```console\n# ringtap dump --mode regular   # a comment\n$ ringtap dmup\n```\n# ringtap is no command\n";
    let found = commands(document);
    assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3]);
    let understood = |words: &[String]| ringtap::cli::command().try_get_matches_from(words).is_ok();
    assert!(understood(&found[0].1) && !understood(&found[1].1));
    assert_eq!(options_named("`--set confdir=DIR`, --set nonsense").len(), 2);
    assert!(find("nonsense").is_none());
}
