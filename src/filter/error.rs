//! What is wrong with an expression, and where.

use std::fmt;

/// Characters of the expression that are shown before and after the place.
const CONTEXT: usize = 60;

/// An expression that cannot be understood. Shown with the expression and a caret below the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    expression: String,
    /// In bytes.
    at: usize,
    reason: String,
}

impl FilterError {
    pub(super) fn new(expression: &str, at: usize, reason: impl Into<String>) -> Self {
        let mut at = at.min(expression.len());
        while !expression.is_char_boundary(at) {
            at -= 1;
        }
        Self { expression: expression.to_owned(), at, reason: reason.into() }
    }

    /// The column, counted in characters from 1.
    pub fn column(&self) -> usize {
        self.expression[..self.at].chars().count() + 1
    }

    /// What is wrong, without the place.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// One column wide, whatever it is.
fn shown(c: char) -> char {
    if c.is_control() { '\u{fffd}' } else { c }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = self.column() - 1;
        let start = column.saturating_sub(CONTEXT);
        let part: String = self.expression.chars().skip(start).take(2 * CONTEXT).map(shown).collect();
        writeln!(f, "{}, column {}:", self.reason, column + 1)?;
        writeln!(f, "    {part}")?;
        write!(f, "    {:>1$}", '^', column - start + 1)
    }
}

impl std::error::Error for FilterError {}
