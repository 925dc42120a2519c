//! A body on its way through: wire bytes pass untouched unless they have to be framed anew; their data is shown to a
//! tape, and goes through an addon's function if there is one.

use std::io;

use super::codec::{BodyFraming, BodyScanner, ScanStep, write_chunk, write_last_chunk};
use super::inbox::Inbox;
use super::lane::Lane;
use crate::buf::{Chunk, Chunks};
use crate::clock::Timers;
use crate::flow::Headers;
use crate::proto::http::plan::{Gathered, Stop};
use crate::proto::http::tape::BodyTape;
use crate::stream::Stream;

/// One body.
pub(super) struct Passage {
    scanner: BodyScanner,
    pub(super) tape: BodyTape,
    form: Form,
    /// The last chunk and the trailers wait for [`end`](Self::end), so that addons can change them.
    holds_end: bool,
    /// Wire bytes of a chunk's line, or of the end, that wait until it is known which of both they are.
    held: Vec<u8>,
    /// All has been sent.
    ended: bool,
    /// Bytes of data that have come.
    received: u64,
    size_limit: Option<u64>,
    lane: Option<Box<Lane>>,
}

/// How the data leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// In the very bytes it came in.
    AsCame,
    /// In chunks of ours.
    Chunks,
    /// With nothing around it: the receiver knows the length, or sees the end of the connection.
    Bare,
}

/// Why a body did not arrive whole.
#[derive(Debug)]
pub(super) enum Broken {
    /// The sender failed or ended too early.
    Sender(String),
    /// The sender sends no more, for so many seconds.
    Idle(u64),
    /// The sender ended without the goodbye of its TLS connection, as some do.
    NoGoodbye(String),
    /// The receiver failed.
    Receiver(String),
    /// The framing is wrong.
    Framing(String),
    /// An addon's function failed.
    Transform(String),
    /// It is larger than `body_size_limit`.
    TooLarge,
    /// Addons must see it and cannot: the whole reason.
    Refused(String),
}

impl Broken {
    /// What flows and logs say; `sender` and `receiver` name the sides.
    pub(super) fn reason(&self, sender: &str, receiver: &str) -> String {
        match self {
            Broken::Sender(reason) | Broken::NoGoodbye(reason) => format!("{sender}: {reason}"),
            Broken::Idle(seconds) => format!("{sender}: sends no more data for {seconds} s (tcp_timeout)"),
            Broken::Receiver(reason) => format!("{receiver}: {reason}"),
            Broken::Framing(reason) => format!("{sender} sent an invalid body: {reason}"),
            Broken::Transform(reason) => format!("an addon's stream transform failed: {reason}"),
            Broken::Refused(reason) => reason.clone(),
            Broken::TooLarge => format!("the {sender}'s body is larger than body_size_limit"),
        }
    }

    /// The status for a client whose request's body broke.
    pub(super) fn request_status(&self) -> u16 {
        match self {
            Broken::TooLarge | Broken::Refused(_) => 413,
            Broken::Idle(_) => 408,
            Broken::Transform(_) | Broken::Receiver(_) => 502,
            Broken::Sender(_) | Broken::NoGoodbye(_) | Broken::Framing(_) => 400,
        }
    }

    /// The status for a client who has seen nothing yet of the response whose body broke.
    pub(super) fn response_status(&self) -> u16 {
        if matches!(self, Broken::Idle(_)) { 504 } else { 502 }
    }
}

impl Passage {
    pub(super) fn new(framing: BodyFraming, tape: BodyTape, size_limit: Option<u64>) -> Self {
        Self {
            scanner: BodyScanner::new(framing),
            tape,
            form: Form::AsCame,
            holds_end: false,
            held: Vec::new(),
            ended: false,
            received: 0,
            size_limit,
            lane: None,
        }
    }

    /// Nothing, or nothing left.
    pub(super) fn nothing() -> Self {
        Self::new(BodyFraming::None, BodyTape::counting(), None)
    }

    /// Data leaves in this form.
    pub(super) fn leaving(mut self, form: Form) -> Self {
        self.reframe(form);
        self
    }

    /// Data goes through this function, and leaves in that form.
    pub(super) fn through(mut self, lane: Lane, form: Form) -> Self {
        self.lane = Some(Box::new(lane));
        self.leaving(form)
    }

    /// The end of a chunked body waits for [`end`](Self::end): trailers may be changed until then.
    pub(super) fn holding_end(mut self, holds: bool) -> Self {
        self.holds_end |= holds && matches!(self.scanner, BodyScanner::Chunked(_));
        self
    }

    fn reframe(&mut self, form: Form) {
        self.form = form;
        self.holds_end |= form == Form::Chunks;
    }

    /// The declared length already says that it is too large.
    pub(super) fn declared_too_large(framing: BodyFraming, size_limit: Option<u64>) -> bool {
        matches!((framing, size_limit), (BodyFraming::Length(length), Some(limit)) if length > limit)
    }

    /// All has come and gone.
    pub(super) fn is_done(&self) -> bool {
        self.is_through() && (self.ended || !self.holds_end)
    }

    /// All data has gone; the end may still be missing.
    pub(super) fn is_through(&self) -> bool {
        match &self.lane {
            Some(lane) => lane.is_flushed(),
            None => self.scanner.is_done(),
        }
    }

    /// Takes what belongs to the body out of the inbox, with `before` bytes ahead of it (its head, perhaps).
    /// What goes through a function is left for [`pass`](Self::pass).
    pub(super) fn step(&mut self, inbox: &mut Inbox, before: usize) -> Result<Chunk, Broken> {
        if self.lane.is_some() {
            return Ok(inbox.take(before));
        }
        let bytes = &inbox.peek()[before..];
        let (tape, form, received) = (&mut self.tape, self.form, &mut self.received);
        let mut framed = Vec::new();
        let step = self.scanner.scan(bytes, &mut |range| {
            *received += range.len() as u64;
            tape.pass(&bytes[range.clone()]);
            match form {
                Form::AsCame => {}
                Form::Chunks => write_chunk(&mut framed, &bytes[range]),
                Form::Bare => framed.extend_from_slice(&bytes[range]),
            }
        });
        let ScanStep { consumed, .. } = step.map_err(|e| Broken::Framing(e.to_string()))?;
        self.check_size()?;
        let taken = inbox.take(before + consumed);
        match self.form {
            Form::AsCame if self.holds_end => Ok(self.hold_back(taken, before)),
            Form::AsCame => Ok(taken),
            Form::Chunks | Form::Bare if before == 0 => Ok(framed.into()),
            Form::Chunks | Form::Bare => Ok([&taken[..before], &framed].concat().into()),
        }
    }

    /// Keeps back the bytes of a chunk's line: it may turn out to be the last one's.
    fn hold_back(&mut self, taken: Chunk, before: usize) -> Chunk {
        let in_line = match &self.scanner {
            BodyScanner::Chunked(chunked) => chunked.in_line(),
            _ => 0,
        };
        let new = taken.len() - before;
        if self.held.is_empty() && in_line == 0 {
            return taken;
        }
        if in_line >= new {
            // nothing but the line has come; it began before
            let old = self.held.len() + new - in_line;
            let out = [&taken[..before], &self.held[..old]].concat();
            self.held.drain(..old);
            self.held.extend_from_slice(&taken[before..]);
            return out.into();
        }
        let cut = taken.len() - in_line;
        let out = [&taken[..before], &self.held, &taken[before..cut]].concat();
        self.held.clear();
        self.held.extend_from_slice(&taken[cut..]);
        out.into()
    }

    fn check_size(&self) -> Result<(), Broken> {
        if self.size_limit.is_some_and(|limit| self.received > limit) {
            return Err(Broken::TooLarge);
        }
        Ok(())
    }

    /// Passes all data that is still missing. Dropping the future loses nothing: call again to go on.
    pub(super) async fn pass(
        &mut self,
        inbox: &mut Inbox,
        from: &Stream,
        to: &Stream,
        timers: &Timers,
        idle_ms: u64,
    ) -> Result<(), Broken> {
        if self.lane.is_some() {
            return Box::pin(self.pass_through(inbox, from, to, timers, idle_ms)).await;
        }
        while !self.is_through() {
            self.fetch(inbox, from, timers, idle_ms).await?;
            if inbox.peek().is_empty() {
                return Ok(());
            }
            let chunk = self.step(inbox, 0)?;
            write(to, chunk.into(), timers, idle_ms).await?;
        }
        Ok(())
    }

    async fn pass_through(
        &mut self,
        inbox: &mut Inbox,
        from: &Stream,
        to: &Stream,
        timers: &Timers,
        idle_ms: u64,
    ) -> Result<(), Broken> {
        loop {
            let Some(lane) = &mut self.lane else { return Ok(()) };
            if let Some(pieces) = lane.next(timers).await.map_err(Broken::Transform)? {
                let mut out = Chunks::default();
                for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
                    self.tape.pass(&piece);
                    if self.form == Form::Chunks {
                        let mut framed = Vec::with_capacity(piece.len() + 20);
                        write_chunk(&mut framed, &piece);
                        out.push(framed.into());
                    } else {
                        out.push(piece.into());
                    }
                }
                write(to, out, timers, idle_ms).await?;
                continue;
            }
            if lane.is_flushed() {
                return Ok(());
            }
            if self.scanner.is_done() {
                lane.finish();
                continue;
            }
            self.fetch(inbox, from, timers, idle_ms).await?;
            let Some(lane) = &mut self.lane else { return Ok(()) };
            if inbox.peek().is_empty() {
                lane.finish();
                continue;
            }
            let (bytes, received) = (inbox.peek(), &mut self.received);
            let step = self.scanner.scan(bytes, &mut |range| {
                *received += range.len() as u64;
                lane.put(&bytes[range]);
            });
            let step = step.map_err(|e| Broken::Framing(e.to_string()))?;
            inbox.take(step.consumed);
            self.check_size()?;
        }
    }

    /// Sends the end of a body that waited for it, with these trailers.
    pub(super) async fn end(
        &mut self,
        trailers: Option<&Headers>,
        to: &Stream,
        timers: &Timers,
        idle_ms: u64,
    ) -> Result<(), Broken> {
        if self.ended || !self.holds_end || !self.is_through() {
            return Ok(());
        }
        self.ended = true;
        let mut last = std::mem::take(&mut self.held);
        if last.is_empty() || self.trailers().as_ref() != trailers {
            last.clear();
            write_last_chunk(&mut last, trailers).map_err(|e| Broken::Framing(e.to_string()))?;
        }
        write(to, last.into(), timers, idle_ms).await
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
        more.map_err(|_| Broken::Idle(idle_ms / 1000))?.map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => Broken::NoGoodbye(said(&e)),
            _ => Broken::Sender(said(&e)),
        })?;
        if inbox.peek().is_empty() {
            self.scanner.at_eof().map_err(|e| Broken::Sender(e.to_string()))?;
        }
        Ok(())
    }

    /// Collects the body's data. One that grows too large stops; the rest goes on as a stream.
    pub(super) async fn collect(
        &mut self,
        inbox: &mut Inbox,
        from: &Stream,
        body: &mut Gathered,
        timers: &Timers,
        idle_ms: u64,
    ) -> Result<Option<Stop>, Broken> {
        while !self.scanner.is_done() {
            self.fetch(inbox, from, timers, idle_ms).await?;
            if inbox.peek().is_empty() {
                return Ok(None);
            }
            let (bytes, mut taken) = (inbox.peek(), Ok(()));
            let step = self.scanner.scan(bytes, &mut |range| {
                let piece = body.take(&bytes[range]);
                taken = taken.and(piece);
            });
            let step = step.map_err(|e| Broken::Framing(e.to_string()))?;
            inbox.take(step.consumed);
            self.received = body.data.len() as u64;
            self.check_size()?;
            if let Err(stop) = taken
                && !(self.scanner.is_done() && stop == Stop::Large)
            {
                return Ok(Some(stop));
            }
        }
        Ok(None)
    }

    /// What was collected goes out ahead of the rest, which streams.
    pub(super) fn go_on_after(&mut self, data: &[u8], mut tape: BodyTape, out: &mut Vec<u8>, form: Form) {
        tape.pass(data);
        self.tape = tape;
        self.reframe(form);
        match form {
            Form::Chunks => write_chunk(out, data),
            Form::AsCame | Form::Bare => out.extend_from_slice(data),
        }
    }

    /// Trailers, once the body is done.
    pub(super) fn trailers(&self) -> Option<Headers> {
        match &self.scanner {
            BodyScanner::Chunked(chunked) => chunked.trailers(),
            _ => None,
        }
    }
}

async fn write(to: &Stream, chunks: Chunks, timers: &Timers, idle_ms: u64) -> Result<(), Broken> {
    if chunks.is_empty() {
        return Ok(());
    }
    let written = timers.timeout(idle_ms, to.write(chunks)).await;
    written.map_err(|_| Broken::Receiver("takes no data".into()))?.map_err(receiver)
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
