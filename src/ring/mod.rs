//! The cellar: each worker's kernel interface. The only home of `tokio_uring`, `io_uring` and `unsafe`.
//!
//! A worker runs a `tokio_uring` runtime for tasks and timers and, beside its ring, a second ring of our own
//! ([`Ring`]) for sockets: multishot accept and receive into ring-mapped buffers, one send in flight per
//! socket, everything queued in one scheduler pass submitted by one system call.

pub mod cpu;
pub mod handover;
pub mod ifaces;
pub mod probe;
pub mod process;
pub mod runtime;
pub mod sockopt;

#[cfg(test)]
mod faults;
mod listener;
mod pipes;
mod provided;
mod tcp;
mod uring;

pub use listener::TcpListener;
pub use tcp::{ConnectOptions, TcpStream};
pub use uring::{Facts, Ring, RingOptions, Traffic};

/// Starts a task on this worker.
pub fn spawn<F: Future<Output = ()> + 'static>(task: F) {
    drop(tokio_uring::spawn(task));
}
