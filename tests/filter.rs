//! Filters give mitmproxy's verdicts: `tests/data/filters/verdicts.json` holds what mitmproxy 12.2 answered for each
//! expression and each flow (`tests/oracle/filter_verdicts.py` asked it).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use ringtap::filter::{Argument, Case, Filter, OPERATORS};
use ringtap::flow::Flow;
use ringtap::store::FlowReader;
use serde_json::Value;

/// Where we answer otherwise, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    ("(~q)", "an operator without argument may be followed by ) & | at once"),
    ("~q|~s", "as above"),
    ("~q&~s", "as above"),
    ("~b \"(?=a)\"", "look-around takes more than linear time"),
    ("~b \"(?!zzz)\"", "as above"),
    ("~b \"(?<=s)e\"", "as above"),
    ("~b \"(s)\\\\1\"", "so do back-references"),
    ("~b \"a++\"", "possessive repetition steers backtracking, which there is none of"),
    ("~b \"(?>a)\"", "so do atomic groups"),
];

fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(path)
}

fn flows(name: &str) -> Vec<Flow> {
    let path = if name == "made" { "filters/made.mitm".to_owned() } else { format!("mitm/{name}.mitm") };
    let bytes = fs::read(data(&path)).expect("a file of flows");
    FlowReader::new(&bytes[..]).map(|flow| flow.expect("a flow")).collect()
}

#[test]
fn filters_give_mitmproxy_s_verdicts() {
    let text = fs::read_to_string(data("filters/verdicts.json")).expect("the verdicts");
    let verdicts: Value = serde_json::from_str(&text).expect("JSON");
    let mut files: BTreeMap<String, Vec<Flow>> = BTreeMap::new();
    let (mut asked, mut complaints) = (0, Vec::new());
    for entry in verdicts["verdicts"].as_array().expect("a list") {
        let expression = entry[0].as_str().expect("an expression");
        let differs = DIFFERENCES.iter().any(|(known, _)| *known == expression);
        let parsed = Filter::parse_with(expression, Case::Ignored);
        let Some(expected) = entry[1].as_object() else {
            match parsed {
                Ok(_) if !differs => complaints.push(format!("{expression:?}: mitmproxy refuses it")),
                Err(_) if differs => complaints.push(format!("{expression:?}: no difference any more")),
                _ => asked += 1,
            }
            continue;
        };
        let filter = match parsed {
            Ok(filter) => filter,
            Err(error) if !differs => {
                complaints.push(format!("{expression:?}: mitmproxy takes it; {error}"));
                continue;
            }
            Err(_) => {
                asked += 1;
                continue;
            }
        };
        for (name, bits) in expected {
            let flows = files.entry(name.clone()).or_insert_with(|| flows(name));
            let bits = bits.as_str().expect("verdicts");
            assert_eq!(flows.len(), bits.len(), "{name}: other flows than mitmproxy read");
            for (index, (flow, bit)) in flows.iter().zip(bits.chars()).enumerate() {
                asked += 1;
                if filter.matches(flow) != (bit == '1') {
                    complaints
                        .push(format!("{expression:?} on flow {index} of {name}: mitmproxy says {bit}"));
                }
            }
        }
    }
    assert!(complaints.is_empty(), "{} of {asked}:\n{}", complaints.len(), complaints.join("\n"));
    assert!(asked > 10_000, "only {asked} verdicts");
}

#[test]
fn every_operator_is_documented() {
    let page = fs::read_to_string(data("../../docs/filters.md")).expect("the page");
    for operator in OPERATORS {
        let argument = match operator.argument {
            Argument::None => "",
            Argument::Pattern => " PATTERN",
            Argument::Number => " NUMBER",
        };
        let row = format!("| `~{}{argument}` | {} |", operator.name, operator.help);
        assert!(page.contains(&row), "docs/filters.md has no row {row}");
    }
}

/// A directory of its own that is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringtap-filter-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn dump(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringtap"));
    command.arg("dump").args(args).stdin(Stdio::null()).output().expect("the program")
}

#[test]
fn dump_prints_and_copies_the_flows_that_match() {
    let folder = Folder::new("copy");
    let (from, to) = (data("filters/made.mitm"), folder.0.join("part"));
    let (from, to) = (from.to_str().expect("text"), to.to_str().expect("text"));
    let output = dump(&["-n", "-r", from, "-w", to, "~m", "POST", "&", "~c 404"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("POST https://api.example.test:8080/v1?a=b") && text.contains("404"), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
    let copied = fs::read(to).expect("the copy");
    let copied: Vec<_> = FlowReader::new(&copied[..]).map(|flow| flow.expect("a flow")).collect();
    assert_eq!(copied.len(), 1);
    // what is printed and what is copied are two options
    let output =
        dump(&["-n", "-r", from, "-w", to, "--set", "dumper_filter=~e", "--set", "save_stream_filter=~tcp"]);
    assert!(String::from_utf8(output.stdout).expect("text").contains("broken"));
    let copied = fs::read(to).expect("the copy");
    assert_eq!(FlowReader::new(&copied[..]).filter(|flow| matches!(flow, Ok(Flow::Tcp(_)))).count(), 2);
    assert_eq!(FlowReader::new(&copied[..]).count(), 2);
}

#[test]
fn dump_refuses_what_it_does_not_understand_with_the_place() {
    let output = dump(&["-n", "-r", "/dev/null", "~m GET | ~frobnicate"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).expect("text");
    let expected =
        "filter: ~frobnicate is no operator, column 10:\n    ~m GET | ~frobnicate\n             ^\n";
    assert_eq!(said.strip_prefix("ringtap: "), Some(expected));
}

#[test]
fn dump_never_writes_over_what_it_reads() {
    let folder = Folder::new("same");
    let path = folder.0.join("flows");
    fs::copy(data("filters/made.mitm"), &path).expect("a copy");
    let before = fs::read(&path).expect("flows");
    let path = path.to_str().expect("text");
    let output = dump(&["-n", "-r", path, "-w", path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).expect("text").contains("the same file"));
    assert_eq!(fs::read(path).expect("flows"), before);
}
