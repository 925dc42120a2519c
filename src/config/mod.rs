//! What the operator may say. Two stages: [`Typed`] is what was written, checked one by one against the
//! [option table](OPTIONS); [`Config`] is what is meant, checked as a whole.

mod cidr;
mod meaning;
mod mode;
mod options;
mod typed;
mod units;

pub use cidr::Cidr;
pub use meaning::{Config, LogLevel, Splice, Strategy, Timeouts, Workers};
pub use mode::{ModeSpec, ReverseScheme, Target};
pub use options::{OPTIONS, OptionSpec, Shape, find, hint_for_unknown};
pub use typed::{Source, Typed};
pub use units::{format_size, parse_size};

use thiserror::Error;

/// What is wrong with what was written. One line that names the option.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ConfigError {
    /// No such option.
    #[error("unknown option '{name}'{hint}")]
    Unknown {
        /// As written.
        name: String,
        /// ` (did you mean …?)`, or nothing.
        hint: String,
    },
    /// The value does not fit.
    #[error("option '{name}': {reason} (got '{value}'); {help}")]
    Value {
        /// The option.
        name: &'static str,
        /// As written.
        value: String,
        /// Why not.
        reason: String,
        /// The option's own help.
        help: &'static str,
    },
    /// A mode that cannot be understood.
    #[error("option 'mode': {reason} (got '{spec}')")]
    Mode {
        /// As written.
        spec: String,
        /// Why not.
        reason: String,
    },
    /// Two things that exclude each other, or a thing that cannot be had.
    #[error("{0}")]
    Conflict(String),
    /// The configuration file cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// Which file.
        path: String,
        /// Why not, with the line where there is one.
        reason: String,
    },
}
