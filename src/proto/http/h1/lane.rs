//! A body's way through an addon's function: pieces in, pieces out, in order, and an end.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::clock::Timers;
use crate::flow::{BodyTransform, LaterPieces, Pieces};

/// Bytes of one piece, at most.
const PIECE_MAX: usize = 64 * 1024;

/// The function, and what waits for it. What came in one read waits here, and nothing else is read meanwhile.
pub(super) struct Lane {
    transform: BodyTransform,
    waiting: VecDeque<Bytes>,
    /// The function takes its time. Kept here, so that a body whose passing is interrupted loses nothing.
    running: Option<LaterPieces>,
    state: State,
    wait_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// All pieces are here; the function has not been told.
    Ending,
    /// It has been told.
    Told,
}

impl Lane {
    /// A lane whose function may take `wait_ms` for a piece.
    pub(super) fn new(transform: BodyTransform, wait_ms: u64) -> Self {
        Self { transform, waiting: VecDeque::new(), running: None, state: State::Open, wait_ms }
    }

    /// A stretch of data has come.
    pub(super) fn put(&mut self, data: &[u8]) {
        self.waiting.extend(data.chunks(PIECE_MAX).map(Bytes::copy_from_slice));
    }

    /// No more will come.
    pub(super) fn finish(&mut self) {
        if self.state == State::Open {
            self.state = State::Ending;
        }
    }

    /// The function has given all it had.
    pub(super) fn is_flushed(&self) -> bool {
        self.state == State::Told && self.running.is_none()
    }

    /// What comes of the next piece; `None`: there is none.
    ///
    /// # Errors
    /// The function's own reason, or that it took too long.
    pub(super) async fn next(&mut self, timers: &Timers) -> Result<Option<Vec<Bytes>>, String> {
        if self.running.is_none() {
            let pieces = match (self.waiting.pop_front(), self.state) {
                (Some(piece), _) => self.transform.call(&piece),
                (None, State::Ending) => {
                    self.state = State::Told;
                    self.transform.call(&[])
                }
                (None, State::Open | State::Told) => return Ok(None),
            };
            match pieces {
                Pieces::Now(pieces) => return Ok(Some(pieces)),
                Pieces::Failed(reason) => return Err(reason),
                Pieces::Later(later) => self.running = Some(later),
            }
        }
        let Some(later) = &mut self.running else { return Ok(None) };
        let came = timers.timeout(self.wait_ms, later).await;
        self.running = None;
        match came {
            Ok(pieces) => pieces.map(Some),
            Err(_) => Err(format!("it took longer than {} s (hook_timeout)", self.wait_ms / 1000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::clock::Clock;
    use crate::flow::BodyStream;

    fn lane(stream: BodyStream) -> Lane {
        let BodyStream::Through(transform) = stream else { panic!("a transform") };
        Lane::new(transform, 1000)
    }

    fn next(lane: &mut Lane, timers: &Timers) -> Poll<Result<Option<Vec<Bytes>>, String>> {
        pin!(lane.next(timers)).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn pieces_are_no_longer_than_they_may_be_and_the_end_is_told_once() {
        let timers = Timers::new(Clock::test());
        let mut lane = lane(BodyStream::through(|piece: &[u8]| piece.len().to_string().into_bytes()));
        lane.put(&vec![b'x'; PIECE_MAX + 5]);
        lane.finish();
        let mut said = Vec::new();
        while let Poll::Ready(Ok(Some(pieces))) = next(&mut lane, &timers) {
            said.extend(pieces);
        }
        assert_eq!(said, ["65536", "5", "0"]);
        assert!(lane.is_flushed());
    }

    #[test]
    fn a_function_that_takes_its_time_is_waited_for_and_not_for_ever() {
        let timers = Timers::new(Clock::test());
        let mut lane = lane(BodyStream::through(|_: &[u8]| Pieces::Later(Box::pin(std::future::pending()))));
        lane.put(b"x");
        {
            let mut waiting = pin!(lane.next(&timers));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
            timers.clock().advance(1001);
            let said = waiting.as_mut().poll(&mut cx);
            assert!(matches!(said, Poll::Ready(Err(reason)) if reason.contains("hook_timeout")));
        }
        assert!(!lane.is_flushed());
    }
}
