//! Dialogues of HTTP/1.
