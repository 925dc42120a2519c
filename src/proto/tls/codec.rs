//! rustls driven over our buffers: records are opened where they were received and sealed into pooled blocks.
//!
//! The unbuffered interface holds no buffers of its own, so an idle connection costs its keys and no more.

use std::rc::Rc;

use rustls::CommonState;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedConnectionCommon,
    UnbufferedStatus,
};

use super::records::{Records, Rest};
use crate::buf::{BlockPool, Buffer, Chunks};
use crate::stream::{Step, Transform, TransformError};

/// Plaintext of one record (RFC 8446 §5.1).
const FRAGMENT_MAX: usize = 16 * 1024;
/// Header, content type and tag of a record: more than any suite needs.
const RECORD_OVERHEAD: usize = 64;
/// Incomplete handshake messages or records that are kept for more.
const HELD_MAX: usize = 64 * 1024 + 1024;

/// One TLS connection over somebody else's bytes.
pub struct TlsCodec {
    connection: Connection,
    pool: Rc<BlockPool>,
    /// The incomplete end of what has come.
    held: Option<Buffer>,
    established: bool,
    failed: bool,
}

enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

impl TlsCodec {
    /// We are the client.
    pub fn client(connection: UnbufferedClientConnection, pool: Rc<BlockPool>) -> Self {
        Self {
            connection: Connection::Client(connection),
            pool,
            held: None,
            established: false,
            failed: false,
        }
    }

    /// We are the server.
    pub fn server(connection: UnbufferedServerConnection, pool: Rc<BlockPool>) -> Self {
        Self {
            connection: Connection::Server(connection),
            pool,
            held: None,
            established: false,
            failed: false,
        }
    }

    /// The handshake is done.
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// What was negotiated.
    pub fn state(&self) -> &CommonState {
        match &self.connection {
            Connection::Client(connection) => connection,
            Connection::Server(connection) => connection,
        }
    }

    /// Begins the handshake: a client's hello.
    ///
    /// # Errors
    /// rustls refuses its own configuration.
    pub fn start(&mut self, step: &mut Step) -> Result<(), TransformError> {
        self.advance(&mut [], step).map(drop)
    }

    /// Feeds wire bytes; says how many were consumed.
    fn advance(&mut self, wire: &mut [u8], step: &mut Step) -> Result<usize, TransformError> {
        let mut drive = Drive { pool: &self.pool, wire_out: None, established: &mut self.established };
        let result = match &mut self.connection {
            Connection::Client(connection) => drive.run(connection, wire, step),
            Connection::Server(connection) => drive.run(connection, wire, step),
        };
        if let Some(out) = drive.wire_out.take() {
            step.wire.push(out.freeze());
        }
        result.map_err(|error| {
            self.failed = true;
            TransformError::invalid(error.to_string())
        })
    }

    /// What the stream is to wear from now on: our own record layer where it is wanted and the handshake's
    /// outcome allows it, else this.
    pub fn into_transform(self, in_place: bool) -> Box<dyn Transform> {
        // a whole record that rustls has opened but not given up may lie in what is held: then it must go on
        let held_is_fresh = self.held.as_deref().is_none_or(|held| !starts_with_record(held));
        let tls13 = self.state().protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
        if !in_place || !tls13 || !self.established || self.failed || !held_is_fresh {
            return Box::new(self);
        }
        let taken = match self.connection {
            Connection::Client(connection) => connection
                .dangerous_into_kernel_connection()
                .map(|(secrets, rest)| (secrets, Rest::Client(rest))),
            Connection::Server(connection) => connection
                .dangerous_into_kernel_connection()
                .map(|(secrets, rest)| (secrets, Rest::Server(rest))),
        };
        let records =
            taken.ok().and_then(|(secrets, rest)| Records::new(rest, secrets, self.held, self.pool));
        match records {
            Some(records) => Box::new(records),
            None => Box::new(Unusable),
        }
    }

    fn seal_piece(&mut self, plain: &[u8]) -> Result<Buffer, TransformError> {
        let mut block = self.pool.take_or_heap();
        let written = match &mut self.connection {
            Connection::Client(connection) => encrypt(connection, plain, &mut block),
            Connection::Server(connection) => encrypt(connection, plain, &mut block),
        }?;
        block.advance(written);
        Ok(block)
    }
}

impl Transform for TlsCodec {
    fn open(&mut self, mut wire: Buffer, step: &mut Step) -> Result<(), TransformError> {
        if self.failed {
            return Err(TransformError::invalid("the connection has failed before"));
        }
        if let Some(held) = self.held.take() {
            wire = joined(held, &wire, &self.pool)?;
        }
        let consumed = self.advance(&mut wire, step)?;
        wire.consume(consumed);
        if wire.is_empty() || step.ended {
            return Ok(());
        }
        if wire.len() > HELD_MAX {
            self.failed = true;
            return Err(TransformError::invalid("a TLS message that is too long"));
        }
        // A piece of a record must not keep a big buffer from the next reader.
        self.held = Some(match wire.len() * 4 < wire.len() + wire.spare() {
            true => Buffer::copied(&wire),
            false => wire,
        });
        Ok(())
    }

    fn seal(&mut self, plain: Chunks, step: &mut Step) -> Result<(), TransformError> {
        let mut gathered = Gather::default();
        for chunk in plain {
            // small neighbours share a record: a head and its body cost one
            if gathered.add(&chunk) {
                continue;
            }
            if !gathered.is_empty() {
                step.wire.push(self.seal_piece(&gathered.take())?.freeze());
                if gathered.add(&chunk) {
                    continue;
                }
            }
            for piece in chunk.chunks(FRAGMENT_MAX) {
                step.wire.push(self.seal_piece(piece)?.freeze());
            }
        }
        if !gathered.is_empty() {
            step.wire.push(self.seal_piece(&gathered.take())?.freeze());
        }
        Ok(())
    }

    fn close(&mut self, step: &mut Step) {
        if self.failed || !self.established {
            return;
        }
        let mut block = self.pool.take_or_heap();
        let written = match &mut self.connection {
            Connection::Client(connection) => goodbye(connection, &mut block),
            Connection::Server(connection) => goodbye(connection, &mut block),
        };
        block.advance(written);
        step.wire.push(block.freeze());
    }
}

/// Whether the first record is all there.
fn starts_with_record(bytes: &[u8]) -> bool {
    match bytes {
        [_, _, _, high, low, rest @ ..] => rest.len() >= usize::from(u16::from_be_bytes([*high, *low])),
        _ => false,
    }
}

/// A connection whose keys could not be had: rustls has given it up.
struct Unusable;

impl Unusable {
    fn error() -> TransformError {
        TransformError::invalid("the TLS connection's keys could not be taken over")
    }
}

impl Transform for Unusable {
    fn open(&mut self, _: Buffer, _: &mut Step) -> Result<(), TransformError> {
        Err(Self::error())
    }

    fn seal(&mut self, _: Chunks, _: &mut Step) -> Result<(), TransformError> {
        Err(Self::error())
    }

    fn close(&mut self, _: &mut Step) {}
}

/// Chunks on their way into one record. One chunk alone is not copied.
#[derive(Default)]
struct Gather {
    first: Option<crate::buf::Chunk>,
    joined: Vec<u8>,
}

impl Gather {
    fn is_empty(&self) -> bool {
        self.first.is_none() && self.joined.is_empty()
    }

    /// Takes the chunk if the record has room for it.
    fn add(&mut self, chunk: &crate::buf::Chunk) -> bool {
        let held = self.first.as_ref().map_or(self.joined.len(), |first| first.len());
        if held + chunk.len() > FRAGMENT_MAX {
            return false;
        }
        if self.is_empty() {
            self.first = Some(chunk.clone());
            return true;
        }
        if let Some(first) = self.first.take() {
            self.joined.extend_from_slice(&first);
        }
        self.joined.extend_from_slice(chunk);
        true
    }

    fn take(&mut self) -> crate::buf::Chunk {
        match self.first.take() {
            Some(first) => first,
            None => std::mem::take(&mut self.joined).into(),
        }
    }
}

fn joined(mut held: Buffer, more: &[u8], pool: &BlockPool) -> Result<Buffer, TransformError> {
    if held.spare() >= more.len() {
        held.push(more);
        return Ok(held);
    }
    let total = held.len() + more.len();
    let mut wider = match pool.take() {
        Some(block) if block.spare() >= total => block,
        _ => Buffer::heap(total),
    };
    wider.push(&held);
    wider.push(more);
    Ok(wider)
}

/// One round with rustls.
struct Drive<'a> {
    pool: &'a BlockPool,
    wire_out: Option<Buffer>,
    established: &'a mut bool,
}

impl Drive<'_> {
    fn run<D>(
        &mut self,
        connection: &mut UnbufferedConnectionCommon<D>,
        wire: &mut [u8],
        step: &mut Step,
    ) -> Result<usize, rustls::Error>
    where
        UnbufferedConnectionCommon<D>: Process<D>,
    {
        let mut consumed = 0;
        loop {
            let UnbufferedStatus { mut discard, state, .. } = connection.process(&mut wire[consumed..]);
            let again = match state {
                Err(error) => {
                    consumed += discard;
                    self.drain_alert(connection, &mut wire[consumed..], &error);
                    if let Some(alert) = self.wire_out.take() {
                        step.wire.push(alert.freeze());
                    }
                    return Err(error);
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        keep_plain(record.payload, step, self.pool);
                    }
                    true
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    self.encode(&mut |out| data.encode(out));
                    true
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    true
                }
                Ok(ConnectionState::WriteTraffic(_)) => {
                    *self.established = true;
                    false
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    step.ended = true;
                    false
                }
                Ok(_) => false,
            };
            consumed += discard;
            if !again {
                return Ok(consumed);
            }
        }
    }

    /// After an error rustls hands out its alert at the next call. For records it could not even frame it has
    /// none: the peer still learns that we gave up (RFC 8446 §6.2).
    fn drain_alert<D>(
        &mut self,
        connection: &mut UnbufferedConnectionCommon<D>,
        rest: &mut [u8],
        error: &rustls::Error,
    ) where
        UnbufferedConnectionCommon<D>: Process<D>,
    {
        let before = self.wire_out.as_ref().map_or(0, |out| out.len());
        for _ in 0..4 {
            match connection.process(rest).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => self.encode(&mut |out| data.encode(out)),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                _ => break,
            }
        }
        let encoded = self.wire_out.as_ref().map_or(0, |out| out.len()) > before;
        if !encoded && !*self.established && matches!(error, rustls::Error::InvalidMessage(_)) {
            const FATAL_DECODE_ERROR: [u8; 7] = [ALERT, 3, 3, 0, 2, 2, 50];
            self.out().push(&FATAL_DECODE_ERROR);
        }
    }

    fn out(&mut self) -> &mut Buffer {
        self.wire_out.get_or_insert_with(|| self.pool.take_or_heap())
    }

    fn encode(&mut self, encode: &mut dyn FnMut(&mut [u8]) -> Result<usize, EncodeError>) {
        let out = self.out();
        match encode(out.spare_mut()) {
            Ok(written) => out.advance(written),
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                // a long certificate chain: everything so far moves to a bigger buffer
                let mut wider = Buffer::heap(out.len() + required_size);
                wider.push(out);
                if let Ok(written) = encode(wider.spare_mut()) {
                    wider.advance(written);
                }
                self.wire_out = Some(wider);
            }
            Err(EncodeError::AlreadyEncoded) => {}
        }
    }
}

/// Content type of an alert record (RFC 8446 §5.1).
const ALERT: u8 = 21;

/// Opened bytes leave rustls' buffer.
fn keep_plain(payload: &[u8], step: &mut Step, pool: &BlockPool) {
    let mut rest = payload;
    while !rest.is_empty() {
        let mut block = pool.take_or_heap();
        let n = block.push(rest);
        rest = &rest[n..];
        step.plain.push(block.freeze());
    }
}

fn encrypt<D>(
    connection: &mut UnbufferedConnectionCommon<D>,
    plain: &[u8],
    block: &mut Buffer,
) -> Result<usize, TransformError>
where
    UnbufferedConnectionCommon<D>: Process<D>,
{
    let failed = |e: EncryptError| TransformError::invalid(e.to_string());
    match connection.process(&mut []).state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => match traffic.encrypt(plain, block.spare_mut()) {
            Ok(written) => Ok(written),
            Err(EncryptError::InsufficientSize(size)) => {
                *block = Buffer::heap(size.required_size + RECORD_OVERHEAD);
                traffic.encrypt(plain, block.spare_mut()).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        },
        Ok(_) => Err(TransformError::invalid("the TLS connection takes no data now")),
        Err(error) => Err(TransformError::invalid(error.to_string())),
    }
}

fn goodbye<D>(connection: &mut UnbufferedConnectionCommon<D>, block: &mut Buffer) -> usize
where
    UnbufferedConnectionCommon<D>: Process<D>,
{
    match connection.process(&mut []).state {
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            traffic.queue_close_notify(block.spare_mut()).unwrap_or_default()
        }
        _ => 0,
    }
}

/// `process_tls_records` of either side, for code that serves both.
trait Process<D> {
    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, D>;
}

impl Process<rustls::client::ClientConnectionData>
    for UnbufferedConnectionCommon<rustls::client::ClientConnectionData>
{
    fn process<'c, 'i>(
        &'c mut self,
        wire: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, rustls::client::ClientConnectionData> {
        self.process_tls_records(wire)
    }
}

impl Process<rustls::server::ServerConnectionData>
    for UnbufferedConnectionCommon<rustls::server::ServerConnectionData>
{
    fn process<'c, 'i>(
        &'c mut self,
        wire: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, rustls::server::ServerConnectionData> {
        self.process_tls_records(wire)
    }
}
