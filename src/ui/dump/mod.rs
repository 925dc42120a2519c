//! Flows as text, in mitmdump`s manner.
