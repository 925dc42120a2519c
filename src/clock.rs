//! Time, so that a test can drive it: [`Clock`] tells it, [`Timers`] wait for it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use slab::Slab;

/// Tells the time: the machine's, or a test's.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Real { start: Instant },
    Test { ms: Arc<AtomicU64> },
}

impl Clock {
    /// The machine's clock.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    pub fn real() -> Self {
        Self(Source::Real { start: Instant::now() })
    }

    /// A clock that stands still until it is [advanced](Self::advance).
    pub fn test() -> Self {
        Self(Source::Test { ms: Arc::default() })
    }

    /// Milliseconds since some fixed moment; never goes back.
    #[expect(clippy::cast_possible_truncation, reason = "2^64 ms are 584 million years")]
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Source::Real { start } => start.elapsed().as_millis() as u64,
            Source::Test { ms } => ms.load(Ordering::Relaxed),
        }
    }

    /// Microseconds since the same moment as [`now_ms`](Self::now_ms).
    #[expect(clippy::cast_possible_truncation, reason = "2^64 µs are 584 thousand years")]
    pub fn now_us(&self) -> u64 {
        match &self.0 {
            Source::Real { start } => start.elapsed().as_micros() as u64,
            Source::Test { ms } => ms.load(Ordering::Relaxed) * 1000,
        }
    }

    /// Unix seconds.
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    pub fn unix(&self) -> f64 {
        match &self.0 {
            Source::Real { .. } => {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
            }
            Source::Test { .. } => 1_767_225_600.0 + self.now_ms() as f64 / 1000.0,
        }
    }

    /// Moves a test's clock on.
    pub fn advance(&self, by_ms: u64) {
        if let Source::Test { ms } = &self.0 {
            ms.fetch_add(by_ms, Ordering::Relaxed);
        }
    }
}

/// Time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// A worker's waits for a moment. Coarse: a wait ends at the first [`expire`](Self::expire) after it is due,
/// which a worker calls every [`TICK_MS`]. Starting and dropping a wait costs a slab entry, no system call.
#[derive(Debug)]
pub struct Timers {
    clock: Clock,
    waits: RefCell<Slab<Wait>>,
    /// No wait is due before this moment.
    earliest: Cell<u64>,
    /// Whoever sleeps until `earliest`, to be told of an earlier one.
    sleeper: RefCell<Option<Waker>>,
}

#[derive(Debug)]
struct Wait {
    due: u64,
    waker: Waker,
}

/// How often a worker looks for waits that are over, in milliseconds.
pub const TICK_MS: u64 = 50;

impl Timers {
    /// Timers on that clock.
    pub fn new(clock: Clock) -> Rc<Self> {
        Rc::new(Self {
            clock,
            waits: RefCell::default(),
            earliest: Cell::new(u64::MAX),
            sleeper: RefCell::default(),
        })
    }

    /// The clock behind the timers.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Ends after that many milliseconds.
    pub async fn sleep(&self, ms: u64) {
        let mut sleep = Sleep { timers: self, due: self.clock.now_ms() + ms, key: None };
        poll_fn(|cx| sleep.poll(cx)).await;
    }

    /// The future's result, or [`Elapsed`] after that many milliseconds. The future is dropped with the call.
    pub async fn timeout<F: Future>(&self, ms: u64, future: F) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut sleep = Sleep { timers: self, due: 0, key: None };
        poll_fn(|cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            // the clock is asked only where there is a wait at all
            if sleep.due == 0 {
                sleep.due = self.clock.now_ms() + ms;
            }
            sleep.poll(cx).map(|()| Err(Elapsed))
        })
        .await
    }

    /// Wakes every wait that is due.
    pub fn expire(&self) {
        let now = self.clock.now_ms();
        if now < self.earliest.get() {
            return;
        }
        let mut earliest = u64::MAX;
        for (_, wait) in self.waits.borrow().iter() {
            if wait.due <= now {
                wait.waker.wake_by_ref();
            } else {
                earliest = earliest.min(wait.due);
            }
        }
        self.earliest.set(earliest);
    }

    /// When the next wait may be over, in the clock's milliseconds.
    pub fn next_due(&self) -> Option<u64> {
        Some(self.earliest.get()).filter(|due| *due != u64::MAX)
    }

    /// Ready as soon as a wait is due before `target_ms`: with the moment it is due.
    pub fn poll_earlier_than(&self, target_ms: u64, cx: &mut Context<'_>) -> Poll<u64> {
        if self.earliest.get() < target_ms {
            return Poll::Ready(self.earliest.get());
        }
        *self.sleeper.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    fn due_at(&self, due: u64) {
        if due < self.earliest.get() {
            self.earliest.set(due);
            if let Some(waker) = self.sleeper.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

struct Sleep<'a> {
    timers: &'a Timers,
    due: u64,
    key: Option<usize>,
}

impl Sleep<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timers = self.timers;
        match self.key {
            // a wait ends only with a tick, so the clock need not be asked at other wakes
            Some(key) => {
                if timers.clock.now_ms() >= self.due {
                    return Poll::Ready(());
                }
                let mut waits = timers.waits.borrow_mut();
                if !waits[key].waker.will_wake(cx.waker()) {
                    waits[key].waker = cx.waker().clone();
                }
            }
            None => {
                let wait = Wait { due: self.due, waker: cx.waker().clone() };
                self.key = Some(timers.waits.borrow_mut().insert(wait));
                timers.due_at(self.due);
            }
        }
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.timers.waits.borrow_mut().remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    #[test]
    fn a_wait_ends_when_the_clock_passes_it_and_not_before() {
        let timers = Timers::new(Clock::test());
        let mut sleep = pin!(timers.sleep(100));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        timers.clock().advance(99);
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        assert_eq!(timers.next_due(), Some(100));
        timers.clock().advance(1);
        timers.expire();
        assert!(sleep.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn a_timeout_gives_the_result_if_that_comes_first_and_leaves_no_wait_behind() {
        let timers = Timers::new(Clock::test());
        let mut cx = Context::from_waker(Waker::noop());
        let done = pin!(timers.timeout(5, async { 7 })).poll(&mut cx);
        assert_eq!(done, Poll::Ready(Ok(7)));
        let mut never = Box::pin(timers.timeout(5, std::future::pending::<()>()));
        assert!(never.as_mut().poll(&mut cx).is_pending());
        timers.clock().advance(6);
        assert_eq!(never.as_mut().poll(&mut cx), Poll::Ready(Err(Elapsed)));
        drop(never);
        assert!(timers.waits.borrow().is_empty());
    }
}
