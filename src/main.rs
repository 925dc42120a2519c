//! The door: the command line, the exit code.
//!
//! The allocator is the system's. Beside mimalloc 3 (one worker, glibc 2.36, resident memory; the last column is
//! mimalloc without transparent huge pages):
//!
//! | | glibc | mimalloc | |
//! |---|---|---|---|
//! | just started | 9 MB | 22 MB | 10 MB |
//! | 32 connections with requests of 1 KB in TLS | 12 MB | 23 MB | 13 MB |
//! | 4 downloads of 10 MB in TLS, again and again | 15 MB | 45 MB | 20 MB |
//! | 50 downloads of 100 MB in TLS, at most | 32-46 MB | 65-81 MB | 60-63 MB |
//! | an idle TLS connection, both sides | 29 KB | 33 KB | 30 KB |
//! | 10 s after 2,000 plain connections have gone | 12 MB | 32 MB | |
//!
//! glibc keeps what is free until it is told otherwise: the engine tells it when sessions have gone. Processor time per
//! request of 1 KB in TLS, per recorded request, per new connection and per megabyte, in turns on a busy machine, differed
//! less than from round to round (10 %), now in favour of the one, now of the other. A request on a kept connection
//! allocates next to nothing, and what libraries in C allocate went to glibc in either case.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringtap::cli::main()
}
