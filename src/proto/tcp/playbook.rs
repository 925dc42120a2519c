//! Dialogues of raw TCP.
