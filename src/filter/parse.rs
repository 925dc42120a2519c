//! From an expression to a tree. The grammar, as mitmproxy has it:
//!
//! ```text
//! expression = or+                 all must hold
//! or         = and ("|" and)*
//! and        = not ("&" not)*
//! not        = "!" not / atom
//! atom       = "~op" / "~op" argument / argument / "(" or ")"
//! argument   = word / quoted       or digits, for ~c
//! ```
//!
//! Where an operator's right side is missing the operator is tried as a word: `a &` looks for `a` and for `&`.

use regex::bytes::Regex;

use super::error::FilterError;
use super::pattern::{self, Flavour};
use super::{Case, EXPRESSION_MAX, NESTING_MAX};

/// What an operator wants behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// Nothing.
    None,
    /// A pattern.
    Pattern,
    /// A whole number.
    Number,
}

/// One operator of the language.
#[derive(Clone, Copy, Debug)]
pub struct Operator {
    /// Its name, behind the `~`.
    pub name: &'static str,
    /// What it wants.
    pub argument: Argument,
    /// What it matches.
    pub help: &'static str,
    make: Make,
}

#[derive(Clone, Copy, Debug)]
enum Make {
    Fact(Fact),
    Pattern(Place),
    Code,
}

/// What a flow is or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    All,
    Asset,
    Dns,
    Error,
    Http,
    Marked,
    Replay,
    ReplayRequest,
    ReplayResponse,
    NoResponse,
    Response,
    Tcp,
    Udp,
    WebSocket,
}

/// Where a pattern is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Alpn,
    Body,
    BodyRequest,
    BodyResponse,
    Comment,
    ContentType,
    ContentTypeRequest,
    ContentTypeResponse,
    Domain,
    Destination,
    Head,
    HeadRequest,
    HeadResponse,
    Ja3,
    Ja4,
    Marker,
    Meta,
    Method,
    Sni,
    Source,
    Url,
}

impl Place {
    fn flavour(self) -> Flavour {
        let bytes = Flavour { unicode: false, dot_all: false, multi_line: false };
        let text = Flavour { unicode: true, ..bytes };
        match self {
            Place::Body | Place::BodyRequest | Place::BodyResponse => Flavour { dot_all: true, ..bytes },
            Place::Head | Place::HeadRequest | Place::HeadResponse => Flavour { multi_line: true, ..bytes },
            Place::ContentType | Place::ContentTypeRequest | Place::ContentTypeResponse => bytes,
            Place::Method | Place::Alpn => bytes,
            Place::Meta | Place::Comment => Flavour { multi_line: true, ..text },
            Place::Domain | Place::Destination | Place::Source | Place::Url | Place::Marker => text,
            Place::Sni | Place::Ja3 | Place::Ja4 => text,
        }
    }
}

const fn fact(name: &'static str, fact: Fact, help: &'static str) -> Operator {
    Operator { name, argument: Argument::None, help, make: Make::Fact(fact) }
}

const fn rex(name: &'static str, place: Place, help: &'static str) -> Operator {
    Operator { name, argument: Argument::Pattern, help, make: Make::Pattern(place) }
}

/// Every operator.
#[rustfmt::skip]
pub const OPERATORS: &[Operator] = &[
    fact("a", Fact::Asset, "Response is an asset: CSS, JavaScript, image, font."),
    fact("all", Fact::All, "Every flow."),
    rex("alpn", Place::Alpn, "Application protocol agreed on with the client."),
    rex("b", Place::Body, "Body of request or response, decoded; any message; text of DNS messages."),
    rex("bq", Place::BodyRequest, "Body of the request; messages of the client."),
    rex("bs", Place::BodyResponse, "Body of the response; messages of the server."),
    Operator { name: "c", argument: Argument::Number, help: "Status code of the response.", make: Make::Code },
    rex("comment", Place::Comment, "Comment."),
    rex("d", Place::Domain, "Host of the request: the target, or the name in its Host field."),
    fact("dns", Fact::Dns, "DNS flows."),
    rex("dst", Place::Destination, "Server address, host:port."),
    fact("e", Fact::Error, "Flows with an error."),
    rex("h", Place::Head, "Header line, 'Name: value', of request or response."),
    rex("hq", Place::HeadRequest, "Header line of the request."),
    rex("hs", Place::HeadResponse, "Header line of the response."),
    fact("http", Fact::Http, "HTTP flows."),
    rex("ja3", Place::Ja3, "JA3 fingerprint of the client."),
    rex("ja4", Place::Ja4, "JA4 fingerprint of the client."),
    rex("m", Place::Method, "Method of the request."),
    fact("marked", Fact::Marked, "Marked flows."),
    rex("marker", Place::Marker, "Marker of a marked flow."),
    rex("meta", Place::Meta, "Line of the metadata, 'key: value'."),
    fact("q", Fact::NoResponse, "HTTP and DNS flows without a response."),
    fact("replay", Fact::Replay, "Replayed flows."),
    fact("replayq", Fact::ReplayRequest, "Flows whose request was replayed."),
    fact("replays", Fact::ReplayResponse, "Flows whose response was replayed."),
    fact("s", Fact::Response, "HTTP and DNS flows with a response."),
    rex("sni", Place::Sni, "Server name in the client's TLS handshake."),
    rex("src", Place::Source, "Client address, ip:port."),
    rex("t", Place::ContentType, "Content type of request or response."),
    fact("tcp", Fact::Tcp, "TCP flows."),
    rex("tq", Place::ContentTypeRequest, "Content type of the request."),
    rex("ts", Place::ContentTypeResponse, "Content type of the response."),
    rex("u", Place::Url, "URL; the name asked for in DNS flows."),
    fact("udp", Fact::Udp, "UDP flows."),
    fact("websocket", Fact::WebSocket, "WebSocket flows."),
];

/// A compiled expression, or a part of one.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Fact(Fact),
    /// `None`: a number that is no status code.
    Code(Option<u16>),
    Pattern(Place, Regex),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
}

impl Node {
    pub(super) fn looks_at_bodies(&self) -> bool {
        match self {
            Node::Pattern(place, _) => {
                matches!(place, Place::Body | Place::BodyRequest | Place::BodyResponse)
            }
            Node::Fact(_) | Node::Code(_) => false,
            Node::Not(node) => node.looks_at_bodies(),
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().any(Node::looks_at_bodies),
        }
    }
}

/// Compiles an expression.
pub(super) fn expression(text: &str, case: Case) -> Result<Node, FilterError> {
    if text.len() > EXPRESSION_MAX {
        return Err(FilterError::new("", 0, format!("the filter is longer than {EXPRESSION_MAX} bytes")));
    }
    let mut parser = Parser { text, at: 0, depth: 0, case };
    let mut terms = Vec::new();
    loop {
        parser.blanks();
        if parser.at == text.len() && !terms.is_empty() {
            return Ok(one_or(terms, Node::And));
        }
        match parser.or() {
            Ok(node) => terms.push(node),
            Err(stop) => return Err(FilterError::new(text, stop.at, stop.reason)),
        }
    }
}

fn one_or(mut nodes: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(node) if nodes.is_empty() => node,
        last => {
            nodes.extend(last);
            many(nodes)
        }
    }
}

/// Why parsing stopped.
struct Stop {
    at: usize,
    reason: String,
    /// Nothing else is tried: the grammar was followed, but its meaning is wrong.
    fatal: bool,
}

type Parsed<T> = Result<T, Stop>;

fn stop<T>(at: usize, reason: impl Into<String>) -> Parsed<T> {
    Err(Stop { at, reason: reason.into(), fatal: false })
}

fn fatal<T>(at: usize, reason: impl Into<String>) -> Parsed<T> {
    Err(Stop { at, reason: reason.into(), fatal: true })
}

/// A pattern as written and where each of its bytes stands in the expression.
struct Written {
    pattern: String,
    places: Vec<usize>,
    end: usize,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    case: Case,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\n', '\t', '\r']).len();
    }

    /// Past that mark, if it is the next thing.
    fn mark(&mut self, mark: char) -> bool {
        self.blanks();
        let found = self.rest().starts_with(mark);
        self.at += if found { mark.len_utf8() } else { 0 };
        found
    }

    fn or(&mut self) -> Parsed<Node> {
        self.chain('|', Self::and, Node::Or)
    }

    fn and(&mut self) -> Parsed<Node> {
        self.chain('&', Self::not, Node::And)
    }

    fn chain(
        &mut self,
        mark: char,
        part: fn(&mut Self) -> Parsed<Node>,
        many: fn(Vec<Node>) -> Node,
    ) -> Parsed<Node> {
        let mut nodes = vec![part(self)?];
        loop {
            let before = self.at;
            if !self.mark(mark) {
                self.at = before;
                break;
            }
            match part(self) {
                Ok(node) => nodes.push(node),
                Err(stop) if stop.fatal => return Err(stop),
                Err(_) => {
                    self.at = before;
                    break;
                }
            }
        }
        Ok(one_or(nodes, many))
    }

    fn deeper<T>(&mut self, at: usize, inside: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == NESTING_MAX {
            return fatal(at, format!("more than {NESTING_MAX} levels"));
        }
        self.depth += 1;
        let result = inside(self);
        self.depth -= 1;
        result
    }

    fn not(&mut self) -> Parsed<Node> {
        self.blanks();
        let before = self.at;
        if !self.mark('!') {
            return self.atom();
        }
        match self.deeper(before, Self::not) {
            Ok(node) => Ok(Node::Not(Box::new(node))),
            Err(stop) if stop.fatal => Err(stop),
            Err(_) => {
                self.at = before;
                self.atom()
            }
        }
    }

    fn atom(&mut self) -> Parsed<Node> {
        self.blanks();
        let at = self.at;
        match self.rest().chars().next() {
            None if at == 0 || self.text.trim().is_empty() => stop(at, "the filter is empty"),
            None => stop(at, "something is missing here"),
            Some('~') => self.operator(),
            Some('(') => {
                self.at += 1;
                let node = self.deeper(at, Self::or)?;
                if self.mark(')') { Ok(node) } else { fatal(self.at, "a ) is missing here") }
            }
            Some(')') => stop(at, "a ) without its ("),
            Some(_) => {
                let written = self.argument(at, "a pattern")?;
                self.pattern(Place::Url, written)
            }
        }
    }

    fn operator(&mut self) -> Parsed<Node> {
        let at = self.at;
        let rest = &self.rest()[1..];
        let name = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len())];
        let next = rest[name.len()..].chars().next();
        let Some(operator) = OPERATORS.iter().find(|operator| operator.name == name) else {
            return fatal(at, format!("~{name} is no operator"));
        };
        let ends = match (next, operator.argument) {
            (None, _) => true,
            (Some(')' | '&' | '|'), Argument::None) => true,
            (Some(c), _) => !c.is_ascii_graphic(),
        };
        let end = at + 1 + name.len();
        if !ends {
            return fatal(end, format!("a blank is missing behind ~{name}"));
        }
        self.at = end;
        match operator.make {
            Make::Fact(fact) => Ok(Node::Fact(fact)),
            Make::Pattern(place) => {
                self.blanks();
                let written = self.argument(at, &format!("~{name}"))?;
                self.pattern(place, written)
            }
            Make::Code => {
                self.blanks();
                let rest = self.rest();
                let digits = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
                if digits.is_empty() {
                    return fatal(self.at, format!("~{name} needs a number"));
                }
                let code = digits.parse().ok();
                self.at += digits.len();
                Ok(Node::Code(code))
            }
        }
    }

    /// A word or something in quotes. `whose` is what lacks it.
    fn argument(&mut self, start: usize, whose: &str) -> Parsed<Written> {
        let at = self.at;
        match self.rest().chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote),
            Some(c) if !"()~".contains(c) => {
                let rest = self.rest();
                let ends = |c: char| "()~'\" \n\t\r".contains(c);
                let word = rest[..rest.find(ends).unwrap_or(rest.len())].to_owned();
                let end = at + word.len();
                self.at = end;
                Ok(Written { places: (at..end).collect(), pattern: word, end })
            }
            Some(c) => fatal(at, format!("{whose} needs a pattern; put one with {c} into quotes")),
            None => fatal(start.max(at), format!("{whose} needs a pattern")),
        }
    }

    fn quoted(&mut self, quote: char) -> Parsed<Written> {
        let start = self.at;
        let mut written = Written { pattern: String::new(), places: Vec::new(), end: 0 };
        let mut chars = self.text[start + 1..].char_indices();
        while let Some((offset, c)) = chars.next() {
            let at = start + 1 + offset;
            let c = match c {
                c if c == quote => {
                    self.at = at + 1;
                    written.end = self.at;
                    return Ok(written);
                }
                '\n' | '\r' => return fatal(at, "a line end in quotes: write \\n"),
                '\\' => match chars.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, 't')) => '\t',
                    Some((_, 'r')) => '\r',
                    Some((_, 'f')) => '\u{c}',
                    Some((_, c)) => c,
                    None => break,
                },
                c => c,
            };
            written.pattern.push(c);
            written.places.extend(std::iter::repeat_n(at, c.len_utf8()));
        }
        fatal(start, format!("the {quote} is not closed"))
    }

    fn pattern(&mut self, place: Place, written: Written) -> Parsed<Node> {
        match pattern::compile(&written.pattern, place.flavour(), self.case) {
            Ok(regex) => Ok(Node::Pattern(place, regex)),
            Err(error) => {
                let at = written.places.get(error.at).copied().unwrap_or(written.end);
                fatal(at, error.reason)
            }
        }
    }
}
