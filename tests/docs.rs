//! Documents keep up with the program: the lists of options and of metrics are written by their tables, and what the
//! README tells people to type is understood.
//!
//! After a change of a table: `RINGTAP_BLESS=1 cargo test --test docs` writes `docs/options.md` and `docs/metrics.md`
//! anew.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use ringtap::config::{OPTIONS, OptionSpec, Shape, find};
use ringtap::telemetry::metrics::{METRICS, Metric, find as find_metric};

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

/// The page of metrics.
fn metrics_page(metrics: &[Metric]) -> String {
    let mut page = "\
# Metrics

`--set metrics_addr=127.0.0.1:9464` serves them at `http://127.0.0.1:9464/metrics`, in Prometheus' text format (0.0.4).
They are off by default. There is no password: keep the address on loopback, or behind a firewall. Clients never reach
it through the proxy. `ringtap ctl workers` says the same in words.

```yaml
scrape_configs:
  - job_name: ringtap
    static_configs: [{targets: ['127.0.0.1:9464']}]
```

Numbers are counted on each worker and added up when they are asked for, never before. A metric with the label `shard`
is a worker's own: `shard=\"0\"` is worker 0 of `ringtap ctl workers`. No label holds a name, an address or a URL of a
client's or a server's, so their number does not grow with traffic. Series of requests and of handshakes that were done
appear when the first of their kind is counted; counters begin at 0 with the process
(`process_start_time_seconds`).

The kernel spreads connections over the workers by their addresses and ports, and a connection stays with its worker. A
few clients with one HTTP/2 connection each may therefore all be one worker's, while others have nothing to do:
`ringtap_shard_connections_imbalance` is then well above 1, and `ringtap_shard_busy_ratio` differs between workers. Many
connections even it out.

| metric | type | unit | labels |
|---|---|---|---|
"
    .to_owned();
    for metric in metrics {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let kind = metric.kind.as_str();
        let _ = writeln!(
            page,
            "| [`{0}`](#{0}) | {kind} | {1} | {2} |",
            metric.name,
            metric.unit,
            labels.join(", ")
        );
    }
    for metric in metrics {
        let _ = write!(page, "\n### {}\n\n{}\n", metric.name, metric.help);
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

/// Compares a page with what is written; blesses it if asked.
fn must_be_written(name: &str, page: &str, table: &str) {
    if std::env::var_os("RINGTAP_BLESS").is_some() {
        std::fs::create_dir_all(file("docs")).unwrap();
        std::fs::write(file(name), page).unwrap();
    }
    let written = read(name);
    let differs = page.lines().zip(written.lines()).position(|(now, then)| now != then);
    assert!(
        page == written,
        "{name}:{}: is not what the table of {table} says: write it anew with \
         'RINGTAP_BLESS=1 cargo test --test docs' and look at the difference",
        differs.map_or(1, |line| line + 1)
    );
}

#[test]
fn the_page_of_options_says_what_the_table_says() {
    must_be_written("docs/options.md", &options_page(OPTIONS), "options");
}

#[test]
fn the_page_of_metrics_says_what_the_table_says() {
    must_be_written("docs/metrics.md", &metrics_page(METRICS), "metrics");
}

#[test]
fn every_value_of_a_label_that_is_written_down_is_explained() {
    // labels whose values are ours to choose: the help names them all
    for failure in ringtap::connect::Failure::ALL {
        let metric = find_metric("ringtap_upstream_connect_errors_total").unwrap();
        assert!(metric.help.contains(&format!("'{}'", failure.as_str())), "{failure:?}");
    }
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
fn the_readme_leads_to_the_pages_of_options_and_metrics() {
    assert!(read("README.md").contains("](docs/options.md)"));
    assert!(read("README.md").contains("](docs/metrics.md)"));
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
    for name in ["README.md", "CHANGELOG.md", "docs/metrics.md"] {
        for (line, option) in options_named(&read(name)) {
            assert!(find(&option).is_some(), "{name}:{line}: there is no option `{option}`");
        }
    }
}

#[test]
fn a_page_that_drifts_and_a_command_that_is_wrong_are_seen() {
    assert_ne!(options_page(OPTIONS), options_page(&OPTIONS[1..]));
    assert_ne!(metrics_page(METRICS), metrics_page(&METRICS[1..]));
    let document = "```console\n# ringtap dump --mode regular   # a comment\n$ ringtap dmup\n```\n# ringtap is no command\n";
    let found = commands(document);
    assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3]);
    let understood = |words: &[String]| ringtap::cli::command().try_get_matches_from(words).is_ok();
    assert!(understood(&found[0].1) && !understood(&found[1].1));
    assert_eq!(options_named("`--set confdir=DIR`, --set nonsense").len(), 2);
    assert!(find("nonsense").is_none());
}
