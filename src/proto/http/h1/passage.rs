//! A body on its way through: wire bytes pass untouched, their data is shown to a tape.

use std::io;

use super::codec::{BodyFraming, BodyScanner, write_chunk, write_last_chunk};
use super::inbox::Inbox;
use crate::buf::{Chunk, Chunks};
use crate::clock::Timers;
use crate::flow::Headers;
use crate::proto::http::tape::BodyTape;
use crate::stream::Stream;

/// One body.
pub(super) struct Passage {
    scanner: BodyScanner,
    pub(super) tape: BodyTape,
    /// Data leaves in chunks of ours: what was collected before had to be re-framed.
    recode: bool,
    size_limit: Option<u64>,
}

/// Why a body did not arrive whole.
#[derive(Debug)]
pub(super) enum Broken {
    /// The sender failed or ended too early.
    Sender(String),
    /// The sender ended without the goodbye of its TLS connection, as some do.
    NoGoodbye(String),
    /// The receiver failed.
    Receiver(String),
    /// The framing is wrong.
    Framing(String),
    /// It is larger than `body_size_limit`.
    TooLarge,
}

impl Broken {
    /// What flows and logs say; `sender` and `receiver` name the sides.
    pub(super) fn reason(&self, sender: &str, receiver: &str) -> String {
        match self {
            Broken::Sender(reason) | Broken::NoGoodbye(reason) => format!("{sender}: {reason}"),
            Broken::Receiver(reason) => format!("{receiver}: {reason}"),
            Broken::Framing(reason) => format!("{sender} sent an invalid body: {reason}"),
            Broken::TooLarge => format!("the {sender}'s body is larger than body_size_limit"),
        }
    }
}

impl Passage {
    pub(super) fn new(framing: BodyFraming, tape: BodyTape, size_limit: Option<u64>) -> Self {
        Self { scanner: BodyScanner::new(framing), tape, recode: false, size_limit }
    }

    /// The declared length already says that it is too large.
    pub(super) fn declared_too_large(framing: BodyFraming, size_limit: Option<u64>) -> bool {
        matches!((framing, size_limit), (BodyFraming::Length(length), Some(limit)) if length > limit)
    }

    pub(super) fn is_done(&self) -> bool {
        self.scanner.is_done()
    }

    /// Takes what belongs to the body out of the inbox, with `before` bytes ahead of it (its head, perhaps).
    pub(super) fn step(&mut self, inbox: &mut Inbox, before: usize) -> Result<Chunk, Broken> {
        let bytes = &inbox.peek()[before..];
        let (tape, recode) = (&mut self.tape, self.recode);
        let mut recoded = Vec::new();
        let step = self.scanner.scan(bytes, &mut |range| {
            tape.pass(&bytes[range.clone()]);
            if recode {
                write_chunk(&mut recoded, &bytes[range]);
            }
        });
        let step = step.map_err(|e| Broken::Framing(e.to_string()))?;
        if self.size_limit.is_some_and(|limit| self.tape.passed > limit) {
            return Err(Broken::TooLarge);
        }
        let taken = inbox.take(before + step.consumed);
        if !recode {
            return Ok(taken);
        }
        if step.done {
            let trailers = self.trailers();
            write_last_chunk(&mut recoded, trailers.as_ref()).map_err(|e| Broken::Framing(e.to_string()))?;
        }
        Ok(recoded.into())
    }

    /// Passes all that is still missing. Dropping the future loses nothing: call again to go on.
    pub(super) async fn pass(
        &mut self,
        inbox: &mut Inbox,
        from: &Stream,
        to: &Stream,
        timers: &Timers,
        idle_ms: u64,
    ) -> Result<(), Broken> {
        while !self.is_done() {
            self.fetch(inbox, from, timers, idle_ms).await?;
            if inbox.peek().is_empty() {
                return Ok(());
            }
            let chunk = self.step(inbox, 0)?;
            let written = timers.timeout(idle_ms, to.write(Chunks::from(chunk))).await;
            written.map_err(|_| Broken::Receiver("takes no data".into()))?.map_err(receiver)?;
        }
        Ok(())
    }

    /// Makes sure that there is something in the inbox; leaves it empty at a proper end.
    async fn fetch(
        &self,
        inbox: &mut Inbox,
        from: &Stream,
        timers: &Timers,
        idle_ms: u64,
    ) -> Result<(), Broken> {
        let more = timers.timeout(idle_ms, inbox.more(from)).await;
        more.map_err(|_| Broken::Sender("sends no more data".into()))?.map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => Broken::NoGoodbye(said(&e)),
            _ => Broken::Sender(said(&e)),
        })?;
        if inbox.peek().is_empty() {
            self.scanner.at_eof().map_err(|e| Broken::Sender(e.to_string()))?;
        }
        Ok(())
    }

    /// Collects the body's data up to a limit. Whether it is whole: a longer one goes on as a stream.
    pub(super) async fn collect(
        &mut self,
        inbox: &mut Inbox,
        from: &Stream,
        limit: usize,
        timers: &Timers,
        idle_ms: u64,
    ) -> Result<(Vec<u8>, bool), Broken> {
        let mut data = Vec::new();
        while !self.is_done() {
            self.fetch(inbox, from, timers, idle_ms).await?;
            if inbox.peek().is_empty() {
                return Ok((data, true));
            }
            let bytes = inbox.peek();
            let step = self.scanner.scan(bytes, &mut |range| data.extend_from_slice(&bytes[range]));
            let step = step.map_err(|e| Broken::Framing(e.to_string()))?;
            inbox.take(step.consumed);
            self.tape.passed = data.len() as u64;
            if self.size_limit.is_some_and(|limit| data.len() as u64 > limit) {
                return Err(Broken::TooLarge);
            }
            if data.len() > limit && !self.is_done() {
                self.recode = matches!(self.scanner, BodyScanner::Chunked(_));
                return Ok((data, false));
            }
        }
        Ok((data, true))
    }

    /// Trailers, once the body is done.
    pub(super) fn trailers(&self) -> Option<Headers> {
        match &self.scanner {
            BodyScanner::Chunked(chunked) => chunked.trailers(),
            _ => None,
        }
    }
}

pub(super) fn receiver(error: io::Error) -> Broken {
    Broken::Receiver(said(&error))
}

/// An I/O error in words that do not depend on the platform's numbers.
pub(super) fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "connection reset".into(),
        io::ErrorKind::BrokenPipe => "connection closed".into(),
        _ => error.to_string(),
    }
}
