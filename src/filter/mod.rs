//! The language of flow filters, mitmproxy's: `~m POST & ~u /login`, `!~s`, `"~bs secret"`.
//!
//! A [`Filter`] is compiled once and asked for every flow. Being asked allocates nothing, unless a body is
//! looked at that has to be decoded first.
//!
//! # The language
//!
//! [`OPERATORS`] lists every operator. A pattern without operator is one for the URL. `!` is not, `&` and, `|`
//! or, in this order of strength; `( )` group; terms side by side, outside parentheses, must all hold. A word ends
//! at blanks and at `( ) ~ ' "`; other patterns are quoted, `"…"` or `'…'`, with `\` before what would end them:
//! inside quotes a backslash of the pattern is written twice. `&` and `|` inside a word belong to it: `a|b` is one
//! pattern, `a | b` are two.
//!
//! # Patterns
//!
//! Patterns are searched for, in any case ([`Case`]), and are Python's as far as they can be matched in linear
//! time: look-around, back-references, conditionals, atomic groups and possessive repetition are refused, by name.
//! Patterns for bodies, headers, methods and content types work on bytes, the others on text.
//!
//! # Where this differs from mitmproxy
//!
//! - An operator without argument may be followed by `)`, `&` or `|` at once: `(~q)`, `~q|~s`. mitmproxy wants a
//!   blank there.
//! - `~sni`, `~alpn`, `~ja3` and `~ja4` are ours.
//! - Bodies in a list of codings (`gzip, br`) are decoded; bodies that decode to more than [`DECODED_MAX`], or are
//!   made to ([`RATIO_MAX`](crate::coding::RATIO_MAX)), are searched as they came.
//! - URLs with IPv6 addresses have brackets. HTTPS records of DNS are searched as hexadecimal digits, TXT records
//!   without their length bytes.

mod error;
mod eval;
mod parse;
mod pattern;
mod selector;
#[cfg(test)]
mod tests;
mod value;

pub use error::FilterError;
pub use parse::{Argument, OPERATORS, Operator};
pub use selector::{Place, Selector};

use crate::flow::FlowRef;
use parse::Node;

/// Bytes of an expression.
pub const EXPRESSION_MAX: usize = 64 << 10;
/// Parentheses and negations inside one another.
pub const NESTING_MAX: usize = 100;
/// Bytes one compiled pattern may take.
pub const PATTERN_SIZE_MAX: usize = 4 << 20;

/// Bytes a body may decode to before it is searched; one that is larger is searched as it came.
pub const DECODED_MAX: usize = 64 << 20;

/// Whether patterns care about case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Case {
    /// They do not, as long as they do not say otherwise (`(?-i)` does).
    #[default]
    Ignored,
    /// They do.
    Sensitive,
}

impl Case {
    /// As the environment says, with mitmproxy's variable: `MITMPROXY_CASE_SENSITIVE_FILTERS=1`.
    pub fn from_env() -> Self {
        match std::env::var_os("MITMPROXY_CASE_SENSITIVE_FILTERS") {
            Some(value) if value == "1" => Case::Sensitive,
            _ => Case::Ignored,
        }
    }
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Filter {
    expression: String,
    node: Node,
}

impl Filter {
    /// Compiles an expression; the environment says whether case matters.
    ///
    /// # Errors
    /// It cannot be understood, with the column; or it is longer, deeper or larger than the limits here.
    pub fn parse(expression: &str) -> Result<Self, FilterError> {
        Self::parse_with(expression, Case::from_env())
    }

    /// Compiles an expression.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_with(expression: &str, case: Case) -> Result<Self, FilterError> {
        let node = parse::expression(expression, case)?;
        Ok(Self { expression: expression.to_owned(), node })
    }

    /// The expression as it was written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Whether it holds for a flow.
    pub fn matches<'a>(&self, flow: impl Into<FlowRef<'a>>) -> bool {
        eval::holds(&self.node, flow.into())
    }

    /// Whether it looks at bodies or messages: it cannot be asked before they are there.
    pub fn looks_at_bodies(&self) -> bool {
        self.node.looks_at_bodies()
    }
}

impl std::str::FromStr for Filter {
    type Err = FilterError;

    fn from_str(expression: &str) -> Result<Self, FilterError> {
        Self::parse(expression)
    }
}
