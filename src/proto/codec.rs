//! What every codec answers: a value and how many bytes it took, or "not yet".
//!
//! Codecs see bytes and nothing else: no socket, no clock, no task. Malformed input is the `Err` of the
//! `Result` around this type.

/// The outcome of parsing bytes that may not all have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<T> {
    /// Parsed.
    Done {
        /// What the bytes said.
        value: T,
        /// How many bytes of the input it took, from the start.
        consumed: usize,
    },
    /// The bytes are a good beginning; ask again with more of them.
    NeedMore,
}

impl<T> Parsed<T> {
    /// The same outcome with another value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Parsed<U> {
        match self {
            Parsed::Done { value, consumed } => Parsed::Done { value: change(value), consumed },
            Parsed::NeedMore => Parsed::NeedMore,
        }
    }
}
