//! Mint a leaf that looks like the server's.
