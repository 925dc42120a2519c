//! A worker's runtime: `tokio_uring` for tasks and timers, our ring driven beside it.
//!
//! The ring's completions raise an eventfd that the runtime watches (the ring's own descriptor never becomes
//! readable with `DEFER_TASKRUN`). One driver task submits and reaps once per scheduler pass: tasks that its
//! completions woke run, queue new operations, and then it is its turn again.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::task::Poll;

use tokio::io::unix::AsyncFd;

use super::uring::{Ring, RingOptions};

/// Runs a worker's main task on this thread until it ends.
///
/// # Errors
/// Why the ring or the runtime could not be set up.
pub fn run<F, T>(options: RingOptions, main: impl FnOnce(Ring) -> F) -> io::Result<T>
where
    F: Future<Output = T>,
{
    tokio_uring::builder().entries(64).start(async move {
        let ring = Ring::new(options)?;
        #[expect(unsafe_code, reason = "the runtime wants a promise about the descriptor")]
        // SAFETY: the `AsyncFd` owns the eventfd, which stays open and the same file until it is dropped.
        let events = unsafe { AsyncFd::register(ring.register_eventfd()?) }?;
        let driver = tokio_uring::spawn(drive(ring.clone(), events));
        let value = main(ring.clone()).await;
        settle(&ring).await;
        driver.abort();
        Ok(value)
    })
}

/// How busy a worker's thread is, for other threads to read. The kernel keeps the account: a worker that sleeps in its
/// ring is not busy, and the data path need not look at a clock.
#[derive(Clone, Copy, Debug)]
pub struct Busy(nix::libc::pid_t);

impl Busy {
    /// Of the worker on this thread.
    pub fn here() -> Self {
        Self(nix::unistd::gettid().as_raw())
    }

    /// Processor time that the thread has used; zero once it is gone.
    pub fn total(self) -> std::time::Duration {
        let account = std::fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.0));
        let spent = account.ok().and_then(|text| text.split(' ').next()?.parse().ok());
        std::time::Duration::from_nanos(spent.unwrap_or(0))
    }
}

async fn drive(ring: Ring, events: AsyncFd<OwnedFd>) {
    loop {
        poll_fn(|cx| {
            if ring.poll_queued(cx).is_ready() {
                return Poll::Ready(());
            }
            // Edge-triggered: each write to the eventfd is a new edge, so its counter is never read.
            match events.poll_read_ready(cx) {
                Poll::Ready(Ok(mut ready)) => {
                    ready.clear_ready();
                    Poll::Ready(())
                }
                Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
            }
        })
        .await;
        if let Err(e) = stay(&ring).await {
            // Nothing on this core will ever move again: ending lets the rules bypass us and systemd start anew.
            tracing::error!("a worker's ring failed: {e}");
            // the log is written by another thread
            std::thread::sleep(std::time::Duration::from_millis(200));
            std::process::exit(1);
        }
    }
}

/// Turns the ring as long as there is something to do. With traffic, the thread sleeps in the ring itself: going
/// through the runtime costs an eventfd and an epoll round for each wake-up.
async fn stay(ring: &Ring) -> io::Result<()> {
    let mut busy_turns = 0;
    ring.raise_events(false);
    let mut reaped = ring.turn()?;
    loop {
        busy_turns += u32::from(reaped > 0);
        if ring.take_woken() {
            // who was woken may wake others
            for _ in 0..PASSES {
                pass().await;
                if ring.has_queued() {
                    break;
                }
            }
        }
        if busy_turns >= BUSY_FROM {
            reaped = ring.linger()?;
            if reaped > 0 || ring.has_queued() {
                continue;
            }
        } else if ring.has_queued() {
            reaped = ring.turn()?;
            continue;
        }
        // only a turn that would have been followed by a signal may be followed by waiting for one
        ring.raise_events(true);
        reaped = ring.turn()?;
        if reaped == 0 && !ring.has_queued() {
            return Ok(());
        }
        ring.raise_events(false);
    }
}

/// Turns with completions from which more are likely to follow at once.
const BUSY_FROM: u32 = 8;
/// Passes for tasks that wake each other before the thread may sleep in the ring.
const PASSES: u32 = 3;

/// Lets every task that is ready run once.
async fn pass() {
    let mut passed = false;
    poll_fn(|cx| {
        if passed {
            return Poll::Ready(());
        }
        passed = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits, within limits, for the operations of dropped sockets to come home.
async fn settle(ring: &Ring) {
    for _ in 0..SETTLE_PASSES_MAX {
        if ring.ops_in_flight() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

const SETTLE_PASSES_MAX: u32 = 200;
