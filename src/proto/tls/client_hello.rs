//! The first message of a TLS client, read before anyone answers it (RFC 8446 §4.1.2).
