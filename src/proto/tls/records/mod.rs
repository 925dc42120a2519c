//! Our own record layer for TLS 1.3, once rustls has done the handshake (RFC 8446 §5).
//!
//! rustls copies every record it opens into memory of its own and keeps its connection's whole state. Here a
//! record is opened in the buffer it was received into and sealed straight into the block that is sent, and an
//! idle connection is two pairs of keys. rustls still derives the keys of KeyUpdate and keeps tickets. What
//! else it speaks (TLS 1.2) stays with it, as does everything when `tls_inplace_records` is off.

mod keys;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::rc::Rc;

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{AlertDescription, ExtractedSecrets, SupportedCipherSuite};

use self::keys::{ContentType, FRAGMENT_MAX, HEADER_LEN, Keys, Refused, UNEXPECTED_MESSAGE, record_len};
use crate::buf::{BLOCK_SIZE, BlockPool, Buffer, Chunk, Chunks};
use crate::stream::{Step, Transform, TransformError};

/// A handshake message after the handshake: tickets are far smaller.
const MESSAGE_MAX: usize = 64 * 1024;
/// KeyUpdates of the peer with no data between them.
const KEY_UPDATES_MAX: u32 = 32;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

const FATAL: u8 = 2;
const WARNING: u8 = 1;
const DECODE_ERROR: u8 = 50;
const ILLEGAL_PARAMETER: u8 = 47;
const INTERNAL_ERROR: u8 = 80;

/// The records of one connection.
pub(super) struct Records {
    read: Keys,
    write: Keys,
    rest: Rest,
    suite: SupportedCipherSuite,
    pool: Rc<BlockPool>,
    /// The incomplete record at the end of what has come.
    held: Option<Buffer>,
    /// The incomplete handshake message at the end of what was opened.
    message: Vec<u8>,
    key_updates: u32,
    /// The peer wants our keys changed before our next data (RFC 8446 §4.6.3).
    owes_key_update: bool,
    failed: bool,
    closed: bool,
}

/// What rustls keeps for us.
pub(super) enum Rest {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

/// Why a connection is given up.
enum Trouble {
    /// The peer broke the protocol, or we cannot go on.
    Refused(Refused),
    /// The peer gave up, with this alert.
    Alert(u8),
}

impl From<Refused> for Trouble {
    fn from(refused: Refused) -> Self {
        Trouble::Refused(refused)
    }
}

/// Where opened data lies in its buffer. One record is the usual case and costs no allocation.
#[derive(Default)]
struct Opened {
    first: Option<Range<usize>>,
    more: Vec<Range<usize>>,
}

impl Opened {
    fn push(&mut self, range: Range<usize>) {
        match self.first {
            None => self.first = Some(range),
            Some(_) => self.more.push(range),
        }
    }
}

impl Records {
    /// Takes over from rustls; `held` is what has come of the next record. `None`: not for this suite.
    pub(super) fn new(
        rest: Rest,
        secrets: ExtractedSecrets,
        held: Option<Buffer>,
        pool: Rc<BlockPool>,
    ) -> Option<Self> {
        let suite = match &rest {
            Rest::Client(connection) => connection.negotiated_cipher_suite(),
            Rest::Server(connection) => connection.negotiated_cipher_suite(),
        };
        Some(Self {
            read: Keys::new(secrets.rx, suite)?,
            write: Keys::new(secrets.tx, suite)?,
            rest,
            suite,
            pool,
            held,
            message: Vec::new(),
            key_updates: 0,
            owes_key_update: false,
            failed: false,
            closed: false,
        })
    }

    /// Opens every whole record of a buffer; keeps the piece behind them.
    fn open_all(&mut self, mut buffer: Buffer, step: &mut Step) -> Result<(), TransformError> {
        let mut opened = Opened::default();
        let mut at = 0;
        let result = loop {
            let len = match record_len(&buffer[at..]) {
                Ok(Some(len)) if buffer.len() >= at + len => len,
                Ok(_) => break Ok(()),
                Err(refused) => break Err(refused.into()),
            };
            let (content_type, length) = match self.read.open(&mut buffer[at..at + len]) {
                Ok(found) => found,
                Err(refused) => break Err(refused.into()),
            };
            let contents = at + HEADER_LEN..at + HEADER_LEN + length;
            at += len;
            if content_type == ContentType::Data && self.message.is_empty() {
                self.key_updates = 0;
                if length > 0 {
                    opened.push(contents);
                }
                continue;
            }
            if let Err(trouble) = self.control(content_type, &buffer[contents], step) {
                break Err(trouble);
            }
            if step.ended {
                at = buffer.len();
                break Ok(());
            }
        };
        if result.is_ok() && at < buffer.len() {
            // a piece alone in a buffer it fills well can stay where it is
            if opened.first.is_none() && (buffer.len() - at) * 4 >= buffer.len() + buffer.spare() {
                buffer.consume(at);
                self.held = Some(buffer);
                return Ok(());
            }
            self.held = Some(self.room_for(&buffer[at..], 0));
        }
        give_out(buffer, opened, step);
        result.map_err(|trouble| self.fail(trouble, step))
    }

    /// A buffer with these bytes and room for `more`: of its own size while that is small, so that a peer who
    /// sends little holds little.
    fn room_for(&self, bytes: &[u8], more: usize) -> Buffer {
        let total = bytes.len() + more;
        let mut buffer = match total * 4 >= BLOCK_SIZE {
            true => self.pool.take_or_heap(),
            false => Buffer::heap(total.max(2 * bytes.len()).max(HEADER_LEN)),
        };
        buffer.push(bytes);
        buffer
    }

    /// Moves bytes of `wire` to the piece held before them, until it is a whole record. Whether it is.
    fn complete(&self, held: &mut Buffer, wire: &mut Buffer) -> Result<bool, Refused> {
        loop {
            let whole = record_len(held)?;
            let missing = whole.unwrap_or(HEADER_LEN) - held.len();
            if missing == 0 && whole.is_some() {
                return Ok(true);
            }
            let n = missing.min(wire.len());
            if n == 0 {
                return Ok(false);
            }
            if held.spare() < n {
                *held = self.room_for(held, n);
            }
            held.push(&wire[..n]);
            wire.consume(n);
        }
    }

    /// A record that is no data.
    fn control(
        &mut self,
        content_type: ContentType,
        contents: &[u8],
        step: &mut Step,
    ) -> Result<(), Trouble> {
        match content_type {
            ContentType::Alert => alert(contents, step),
            ContentType::Handshake => Ok(self.handshake(contents)?),
            ContentType::Data => {
                let reason = "data inside a TLS handshake message";
                Err(Refused { alert: UNEXPECTED_MESSAGE, reason }.into())
            }
        }
    }

    fn handshake(&mut self, contents: &[u8]) -> Result<(), Refused> {
        if contents.is_empty() {
            return Err(Refused { alert: UNEXPECTED_MESSAGE, reason: "an empty TLS handshake record" });
        }
        self.message.extend_from_slice(contents);
        let message = std::mem::take(&mut self.message);
        let mut rest = &message[..];
        while let [kind, a, b, c, after @ ..] = rest {
            let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if len > MESSAGE_MAX {
                return Err(Refused { alert: DECODE_ERROR, reason: "a TLS message that is too long" });
            }
            if after.len() < len {
                break;
            }
            let (payload, behind) = after.split_at(len);
            self.message_came(*kind, payload, behind.is_empty())?;
            rest = behind;
        }
        if !rest.is_empty() {
            self.message.extend_from_slice(rest);
        }
        Ok(())
    }

    fn message_came(&mut self, kind: u8, payload: &[u8], ends_record: bool) -> Result<(), Refused> {
        match (kind, &mut self.rest) {
            (NEW_SESSION_TICKET, Rest::Client(connection)) => connection
                .handle_new_session_ticket(payload)
                .map_err(|_| Refused { alert: DECODE_ERROR, reason: "an invalid TLS session ticket" }),
            (KEY_UPDATE, _) => {
                // RFC 8446 §5.1: a message that changes keys ends its record
                if !ends_record {
                    let reason = "a TLS KeyUpdate that does not end its record";
                    return Err(Refused { alert: UNEXPECTED_MESSAGE, reason });
                }
                match payload {
                    [0] => {}
                    [1] => self.owes_key_update = true,
                    [_] => {
                        return Err(Refused { alert: ILLEGAL_PARAMETER, reason: "an invalid TLS KeyUpdate" });
                    }
                    _ => return Err(Refused { alert: DECODE_ERROR, reason: "an invalid TLS KeyUpdate" }),
                }
                self.key_updates += 1;
                if self.key_updates > KEY_UPDATES_MAX {
                    let reason = "too many TLS KeyUpdates without data";
                    return Err(Refused { alert: UNEXPECTED_MESSAGE, reason });
                }
                self.change_read_keys()
            }
            _ => Err(Refused {
                alert: UNEXPECTED_MESSAGE,
                reason: "a TLS handshake message that has no place here",
            }),
        }
    }

    fn change_read_keys(&mut self) -> Result<(), Refused> {
        let secrets = match &mut self.rest {
            Rest::Client(connection) => connection.update_rx_secret(),
            Rest::Server(connection) => connection.update_rx_secret(),
        };
        self.read = secrets.ok().and_then(|secrets| Keys::new(secrets, self.suite)).ok_or(NO_KEYS)?;
        Ok(())
    }

    /// Tells the peer that our keys change, and changes them.
    fn change_write_keys(&mut self, step: &mut Step) -> Result<(), Refused> {
        self.seal_piece(ContentType::Handshake, &[KEY_UPDATE, 0, 0, 1, 0], step)?;
        let secrets = match &mut self.rest {
            Rest::Client(connection) => connection.update_tx_secret(),
            Rest::Server(connection) => connection.update_tx_secret(),
        };
        self.write = secrets.ok().and_then(|secrets| Keys::new(secrets, self.suite)).ok_or(NO_KEYS)?;
        self.owes_key_update = false;
        Ok(())
    }

    /// Before data: the peer may wait for other keys, or ours have served long enough.
    fn renew_keys_if_due(&mut self, step: &mut Step) -> Result<(), Refused> {
        // one record short of the limit: the KeyUpdate itself still needs the old key
        if self.owes_key_update || self.write.is_nearly_worn() {
            self.change_write_keys(step)?;
        }
        Ok(())
    }

    fn seal_piece(
        &mut self,
        content_type: ContentType,
        plain: &[u8],
        step: &mut Step,
    ) -> Result<(), Refused> {
        let mut block = self.pool.take_or_heap();
        let written = self.write.seal(content_type, plain, block.spare_mut())?;
        block.advance(written);
        step.wire.push(block.freeze());
        Ok(())
    }

    fn seal_data(&mut self, plain: Chunks, step: &mut Step) -> Result<(), Refused> {
        // small neighbours share a record: a head and its body cost one
        let mut pieces = plain.into_iter().peekable();
        while let Some(first) = pieces.next() {
            self.renew_keys_if_due(step)?;
            let joins = pieces.peek().is_some_and(|next| first.len() + next.len() <= FRAGMENT_MAX);
            if !joins {
                self.seal_chunk(&first, step)?;
                continue;
            }
            let mut block = self.pool.take_or_heap();
            let mut len = HEADER_LEN;
            let mut put = |chunk: &Chunk, len: &mut usize| {
                block.spare_mut()[*len..*len + chunk.len()].copy_from_slice(chunk);
                *len += chunk.len();
            };
            put(&first, &mut len);
            while let Some(next) = pieces.next_if(|next| len - HEADER_LEN + next.len() <= FRAGMENT_MAX) {
                put(&next, &mut len);
            }
            let written = self.write.seal_in_place(ContentType::Data, len - HEADER_LEN, block.spare_mut())?;
            block.advance(written);
            step.wire.push(block.freeze());
        }
        Ok(())
    }

    fn seal_chunk(&mut self, chunk: &Chunk, step: &mut Step) -> Result<(), Refused> {
        for piece in chunk.chunks(FRAGMENT_MAX) {
            self.renew_keys_if_due(step)?;
            self.seal_piece(ContentType::Data, piece, step)?;
        }
        Ok(())
    }

    /// Gives up, and tells the peer why.
    fn fail(&mut self, trouble: impl Into<Trouble>, step: &mut Step) -> TransformError {
        self.failed = true;
        self.held = None;
        let was_closed = std::mem::replace(&mut self.closed, true);
        match trouble.into() {
            Trouble::Refused(refused) => {
                if !was_closed {
                    let _ = self.seal_piece(ContentType::Alert, &[FATAL, refused.alert], step);
                }
                TransformError::invalid(refused.reason)
            }
            Trouble::Alert(description) => {
                let said = rustls::Error::AlertReceived(AlertDescription::from(description));
                TransformError::invalid(said.to_string())
            }
        }
    }
}

const NO_KEYS: Refused = Refused { alert: INTERNAL_ERROR, reason: "TLS keys cannot be changed" };

/// Hands the reader what was opened, where it lies.
fn give_out(buffer: Buffer, opened: Opened, step: &mut Step) {
    let Some(first) = opened.first else { return };
    // slices are counted from the filled part, which is where the ranges were found
    let chunk = buffer.freeze();
    for range in std::iter::once(first).chain(opened.more) {
        step.plain.push(chunk.slice(range));
    }
}

/// RFC 8446 §6.
fn alert(contents: &[u8], step: &mut Step) -> Result<(), Trouble> {
    const CLOSE_NOTIFY: u8 = 0;
    const USER_CANCELED: u8 = 90;
    match contents {
        [_, CLOSE_NOTIFY] => step.ended = true,
        [_, USER_CANCELED] => {}
        [_, description] => return Err(Trouble::Alert(*description)),
        _ => return Err(Refused { alert: DECODE_ERROR, reason: "an invalid TLS alert" }.into()),
    }
    Ok(())
}

impl Transform for Records {
    fn open(&mut self, mut wire: Buffer, step: &mut Step) -> Result<(), TransformError> {
        if self.failed {
            return Err(TransformError::invalid("the connection has failed before"));
        }
        if let Some(mut held) = self.held.take() {
            match self.complete(&mut held, &mut wire) {
                Ok(true) => self.open_all(held, step)?,
                Ok(false) => {
                    self.held = Some(held);
                    return Ok(());
                }
                Err(refused) => return Err(self.fail(refused, step)),
            }
        }
        if step.ended || wire.is_empty() {
            return Ok(());
        }
        self.open_all(wire, step)
    }

    fn seal(&mut self, plain: Chunks, step: &mut Step) -> Result<(), TransformError> {
        if self.failed || self.closed {
            return Err(TransformError::invalid("the TLS connection takes no more data"));
        }
        self.seal_data(plain, step).map_err(|refused| self.fail(refused, step))
    }

    fn close(&mut self, step: &mut Step) {
        if !self.failed && !self.closed {
            self.closed = true;
            let _ = self.seal_piece(ContentType::Alert, &[WARNING, 0], step);
        }
    }
}
