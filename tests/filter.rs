//! Filters give mitmproxy's verdicts: `tests/data/filters/verdicts.json` holds what mitmproxy 12.2 answered for each
//! expression and each flow (`tests/oracle/filter_verdicts.py` asked it).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use ringtap::filter::{Case, Filter};
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
