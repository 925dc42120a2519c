//! The grammar, errors with their columns, and operators that mitmproxy does not have. That verdicts are
//! mitmproxy's is shown by `tests/filter.rs`.

use std::sync::Arc;

use uuid::Uuid;

use super::parse::Node;
use super::*;
use crate::flow::{Client, Flow, FlowMeta, Headers, HttpFlow, MetaValue, Request, Response, TcpFlow};

fn flow() -> HttpFlow {
    let client = Client {
        sni: Some("api.example.com".into()),
        alpn: Some(b"http/1.1".to_vec()),
        peername: "192.0.2.9:5000".parse().ok(),
        ..Client::default()
    };
    let mut meta = FlowMeta::new(Arc::new(client), Arc::default(), 0.0);
    meta.note("ja4", MetaValue::Text("t13d1516h2_8daaf6152771_b186095e22b6".into()));
    let headers = Headers::from_pairs([("Host", "api.example.com"), ("Cookie", "a=b")]);
    let request = Request::make("GET", "https://api.example.com/v1/a|b?q", b"", headers, 0.0).expect("a URL");
    let response = Response::make(
        200,
        b"{\"ok\": true}",
        Headers::from_pairs([("Content-Type", "application/json")]),
        0.0,
    );
    HttpFlow { meta, request, response: Some(response), websocket: None, killed: false }
}

/// The tree as text.
fn tree(expression: &str) -> String {
    fn show(node: &Node) -> String {
        let all = |nodes: &[Node]| nodes.iter().map(show).collect::<Vec<_>>().join(" ");
        match node {
            Node::Fact(fact) => format!("{fact:?}"),
            Node::Code(code) => format!("{code:?}"),
            Node::Pattern(place, regex) => format!("{place:?}:{regex}"),
            Node::Not(node) => format!("!({})", show(node)),
            Node::And(nodes) => format!("&({})", all(nodes)),
            Node::Or(nodes) => format!("|({})", all(nodes)),
        }
    }
    show(&Filter::parse_with(expression, Case::Ignored).unwrap_or_else(|error| panic!("{error}")).node)
}

#[test]
fn expressions_are_read_as_mitmproxy_reads_them() {
    let table = [
        ("~q | ~s", "|(NoResponse Response)"),
        ("~q |~s", "|(NoResponse Response)"),
        ("a b | c", "&(Url:a |(Url:b Url:c))"),
        ("~http | ~q & ~s", "|(Http &(NoResponse Response))"),
        ("!~q & ~s", "&(!(NoResponse) Response)"),
        ("! !~q", "!(!(NoResponse))"),
        ("!!~q", "!(!(NoResponse))"),
        ("a !b", "&(Url:a !(Url:b))"),
        ("foo&bar", "Url:foo\\&bar"),
        ("a|b", "Url:a|b"),
        ("a & b", "&(Url:a Url:b)"),
        ("a &", "&(Url:a Url:\\&)"),
        ("a & ", "&(Url:a Url:\\&)"),
        ("& a", "&(Url:\\& Url:a)"),
        ("a && b", "&(&(Url:a Url:\\&) Url:b)"),
        ("!", "Url:!"),
        ("(!)", "Url:!"),
        ("(a)(b)", "&(Url:a Url:b)"),
        ("a(b)", "&(Url:a Url:b)"),
        ("\"a\"\"b\"", "&(Url:a Url:b)"),
        ("\"a\"&\"b\"", "&(Url:a Url:b)"),
        ("'it\\'s'", "Url:it's"),
        ("\"a\\tb\\\\.\"", "Url:a\tb\\."),
        ("\"\"", "Url:"),
        ("~u \"\"", "Url:"),
        ("~c 2xx", "&(Some(200) Url:xx)"),
        ("~c 200~s", "&(Some(200) Response)"),
        ("~c 0200", "Some(200)"),
        ("~c 99999999", "None"),
        ("~m GET|POST", "Method:GET|POST"),
        ("~u\t\"a\"", "Url:a"),
        (" ( ( ~s ) | (a) ) ", "|(Response Url:a)"),
        ("foo~s", "&(Url:foo Response)"),
        ("~tcp", "Tcp"),
        ("~t cp", "ContentType:cp"),
        ("~b ü", "Body:(?:\\xc3\\xbc)"),
        // ours
        ("(~q)", "NoResponse"),
        ("~q|~s", "|(NoResponse Response)"),
        ("~q&~s", "&(NoResponse Response)"),
        ("~sni x ~alpn y ~ja3 z ~ja4 w", "&(Sni:x Alpn:y Ja3:z Ja4:w)"),
    ];
    for (expression, expected) in table {
        let expected = expected.replace("Some(200) Url:xx", "Some(2) Url:xx");
        assert_eq!(tree(expression), expected, "{expression}");
    }
}

#[test]
fn every_operator_can_be_written() {
    for operator in OPERATORS {
        let expression = match operator.argument {
            Argument::None => format!("~{}", operator.name),
            Argument::Pattern => format!("~{} x", operator.name),
            Argument::Number => format!("~{} 1", operator.name),
        };
        let filter = Filter::parse(&expression).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(filter.looks_at_bodies(), operator.name.starts_with('b'), "{expression}");
        assert!(operator.help.ends_with('.'));
    }
    assert!(OPERATORS.is_sorted_by_key(|operator| operator.name));
}

#[test]
fn errors_point_at_the_column() {
    let table = [
        ("", 1, "empty"),
        ("  ", 3, "empty"),
        ("~foo", 1, "~foo is no operator"),
        ("a | ~foo", 5, "~foo is no operator"),
        ("~", 1, "~ is no operator"),
        ("~u", 3, "~u needs a pattern"),
        ("~u ~q", 4, "~u needs a pattern"),
        ("~u (foo)", 4, "quotes"),
        ("~u\"foo\"", 3, "blank"),
        ("~s~s", 3, "blank"),
        ("~c", 3, "number"),
        ("~c -1", 4, "number"),
        ("(", 2, "missing"),
        ("()", 2, ") without"),
        ("(~q ~s)", 5, ") is missing"),
        ("~c 200)", 7, ") without"),
        ("ü \"open", 3, "not closed"),
        ("\"a\nb\"", 3, "line end"),
        ("~b 'a(?=b)'", 6, "look-around"),
        ("~b \"\\\"(?<!b)\"", 7, "look-around"),
        ("~u ü\\1", 5, "back-reference"),
        ("~h [a", 4, "[ is not closed"),
    ];
    for (expression, column, reason) in table {
        let error = Filter::parse(expression).expect_err(expression);
        assert!(error.reason().contains(reason), "{expression}: {error}");
        assert_eq!(error.column(), column, "{expression}: {error}");
    }
}

#[test]
fn an_error_is_shown_with_a_caret_below_the_place() {
    let error = Filter::parse("~m GET & ~foo\t").expect_err("unknown").to_string();
    assert_eq!(error, "~foo is no operator, column 10:\n    ~m GET & ~foo\u{fffd}\n             ^");
    let long = format!("{} ~foo", "a ".repeat(1000));
    let error = Filter::parse(&long).expect_err("unknown").to_string();
    assert!(error.lines().all(|line| line.chars().count() < 130), "{error}");
}

#[test]
fn length_and_depth_are_limited() {
    let deep = |depth| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Filter::parse(&deep(NESTING_MAX)).is_ok());
    assert!(Filter::parse(&deep(NESTING_MAX + 1)).is_err_and(|e| e.reason().contains("levels")));
    assert!(Filter::parse(&format!("{}a", "!".repeat(100_000).get(..60_000).unwrap_or_default())).is_err());
    assert!(Filter::parse(&"a".repeat(EXPRESSION_MAX + 1)).is_err_and(|e| e.reason().contains("longer")));
}

#[test]
fn any_text_is_an_expression_or_an_error() {
    let alphabet: Vec<char> = "~qsubc 2()!&|'\"\\.*+[]^$ü\nx".chars().collect();
    let mut state = 9u64;
    let flow = flow();
    for round in 0..20_000 {
        let mut text = String::new();
        for _ in 0..1 + round % 14 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            text.push(alphabet[(state >> 33) as usize % alphabet.len()]);
        }
        match Filter::parse_with(&text, Case::Ignored) {
            Ok(filter) => drop(filter.matches(&flow)),
            Err(error) => {
                assert!(error.column() <= text.chars().count() + 1 && !error.to_string().is_empty());
            }
        }
    }
}

#[test]
fn connections_facts_can_be_asked_for() {
    let table = [
        ("~sni ^api\\.", true),
        ("~sni www", false),
        ("~alpn http/1", true),
        ("~alpn h2", false),
        ("~ja4 ^t13d", true),
        ("~ja3 .", false),
    ];
    for (expression, expected) in table {
        assert_eq!(Filter::parse(expression).map(|f| f.matches(&flow())), Ok(expected), "{expression}");
    }
    let meta = FlowMeta::new(Arc::default(), Arc::default(), 0.0);
    let tcp = Flow::Tcp(Box::new(TcpFlow { meta, messages: Vec::new(), killed: false }));
    assert_eq!(Filter::parse("~sni . | ~alpn . | ~src . | ~dst .").map(|f| f.matches(&tcp)), Ok(false));
}

#[test]
fn a_body_made_to_fill_memory_is_searched_as_it_came() {
    let mut flow = flow();
    let zeros = vec![b'0'; DECODED_MAX + 1];
    let bomb = crate::coding::encode_one(&zeros, crate::coding::Coding::Brotli).expect("encodes");
    let headers = Headers::from_pairs([("Content-Encoding", "br")]);
    let mut response = Response::make(200, b"", headers, 0.0);
    response.content = Some(bomb.into());
    flow.response = Some(response);
    assert_eq!(Filter::parse("~bs 0000000000").map(|f| f.matches(&flow)), Ok(false));
    let small = crate::coding::encode_one(&zeros[..1000], crate::coding::Coding::Brotli).expect("encodes");
    flow.response.as_mut().expect("there").content = Some(small.into());
    assert_eq!(Filter::parse("~bs 0000000000").map(|f| f.matches(&flow)), Ok(true));
}

#[test]
fn case_matters_only_when_asked() {
    let matches = |expression, case| Filter::parse_with(expression, case).map(|f| f.matches(&flow()));
    assert_eq!(matches("~m get", Case::Ignored), Ok(true));
    assert_eq!(matches("~m get", Case::Sensitive), Ok(false));
    assert!(matches("~m (?i:get)", Case::Sensitive).is_err(), "parentheses want quotes");
    assert_eq!(matches("~m \"(?i:get)\"", Case::Sensitive), Ok(true));
}

#[test]
fn selectors_pick_flows() {
    let mut flow = flow();
    let shown = Place { focused: false, shown: true };
    let picks = |text: &str, flow: &HttpFlow| Selector::parse(text).map(|s| s.picks(flow, shown));
    for (text, expected) in [
        ("@all", true),
        ("@focus", false),
        ("@shown", true),
        ("@hidden", false),
        ("@marked", false),
        ("@unmarked", true),
        ("~c 200", true),
        ("~c 404", false),
    ] {
        assert_eq!(picks(text, &flow), Ok(expected), "{text}");
    }
    flow.meta.marked = ":default:".into();
    assert_eq!(picks("@marked", &flow), Ok(true));
    let ids = format!("@{},{}", Uuid::nil(), flow.meta.id);
    assert_eq!(picks(&ids, &flow), Ok(true));
    assert!(picks("@nonsense", &flow).is_err_and(|error| error.reason().contains("@marked")));
}
