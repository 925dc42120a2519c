//! Reading flows from a stream, one at a time.

use std::io::{self, BufRead, BufReader, Read};

use thiserror::Error;

use super::fields::FieldError;
use super::migrate::{self, FormatVersion, Refused};
use super::{VERSION, decode};
use crate::flow::Flow;
use crate::store::tnetstring::{self as tnet, LengthPrefix, Problem};

/// The largest flow that is read, unless the reader is told otherwise.
pub const FLOW_SIZE_MAX: u64 = 1 << 30;

/// Memory that is kept from one flow to the next; what a larger flow took is given back after it.
const BUFFER_KEPT_MAX: usize = 1 << 20;

/// Why a flow could not be read. Every offset counts from the beginning of the file.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("byte {offset}: {source}")]
    Io {
        /// Where reading stopped.
        offset: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The file ends inside a flow, as after a crash of the writer.
    #[error("the file ends at byte {offset}, inside the flow that begins at byte {flow_at}")]
    Truncated {
        /// The end of the file.
        offset: u64,
        /// Where the last, incomplete flow begins.
        flow_at: u64,
    },
    /// The bytes are not those of a flow file.
    #[error("the file is damaged at byte {offset}: {problem}")]
    Damaged {
        /// Where.
        offset: u64,
        /// What is wrong there.
        problem: Problem,
    },
    /// An item that is not a dict.
    #[error("the item at byte {offset} is not a flow")]
    NotAFlow {
        /// Where the item begins.
        offset: u64,
    },
    /// The file is a HAR file (JSON).
    #[error("this is a HAR file, not a flow file")]
    Har,
    /// A flow is larger than the reader allows.
    #[error("the flow at byte {offset} has {size} bytes, more than flow_size_max ({flow_size_max})")]
    TooLarge {
        /// Where the flow begins.
        offset: u64,
        /// Its size.
        size: u64,
        /// What is allowed.
        flow_size_max: u64,
    },
    /// The flow's format is older than what is read.
    #[error("the flow at byte {offset} has format version {version}; versions 19 to {VERSION} are read")]
    TooOld {
        /// Where the flow begins.
        offset: u64,
        /// Its format.
        version: FormatVersion,
    },
    /// The flow's format is newer than what is read.
    #[error(
        "the flow at byte {offset} has format version {version}, newer than {VERSION}: please update ringtap"
    )]
    TooNew {
        /// Where the flow begins.
        offset: u64,
        /// Its format.
        version: FormatVersion,
    },
    /// A field is missing or not what it should be.
    #[error("byte {offset}: {field} should be {expected}")]
    Field {
        /// Where.
        offset: u64,
        /// Which field, with what holds it.
        field: String,
        /// What should be there.
        expected: &'static str,
    },
}

impl ReadError {
    /// Where in the file.
    pub fn offset(&self) -> u64 {
        match self {
            ReadError::Har => 0,
            ReadError::Io { offset, .. }
            | ReadError::Truncated { offset, .. }
            | ReadError::Damaged { offset, .. }
            | ReadError::NotAFlow { offset }
            | ReadError::TooLarge { offset, .. }
            | ReadError::TooOld { offset, .. }
            | ReadError::TooNew { offset, .. }
            | ReadError::Field { offset, .. } => *offset,
        }
    }
}

/// Gives the flows of a file in turn. Memory: one flow, whatever the file's size.
///
/// Where the end of a flow is unknown nothing more can be read: after such an error the iterator ends. A flow
/// that is damaged inside or not understood is one error; the flows after it are still given to whoever asks.
pub struct FlowReader<R: Read> {
    source: BufReader<R>,
    offset: u64,
    flow_size_max: u64,
    payload: Vec<u8>,
    ended: bool,
}

impl<R: Read> FlowReader<R> {
    /// A reader at the beginning of a file.
    pub fn new(source: R) -> Self {
        Self::with_flow_size_max(source, FLOW_SIZE_MAX)
    }

    /// A reader that refuses larger flows.
    pub fn with_flow_size_max(source: R, flow_size_max: u64) -> Self {
        Self { source: BufReader::new(source), offset: 0, flow_size_max, payload: Vec::new(), ended: false }
    }

    /// How much of the file has been read: the end of the last flow, or where an error was met.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn flow(&mut self) -> Result<Option<Flow>, ReadError> {
        let flow_at = self.offset;
        // Set back when a whole item is in memory: until then an error leaves the next flow's place unknown.
        self.ended = true;
        let Some(length) = self.length(flow_at)? else { return Ok(None) };
        if length > self.flow_size_max {
            let (size, flow_size_max) = (length, self.flow_size_max);
            return Err(ReadError::TooLarge { offset: flow_at, size, flow_size_max });
        }
        let payload_at = self.offset;
        self.read_payload(length, flow_at)?;
        match self.payload.pop() {
            Some(b'}') => {}
            Some(b',' | b';' | b'#' | b'^' | b'!' | b'~' | b']') => {
                return Err(ReadError::NotAFlow { offset: flow_at });
            }
            other => {
                let problem = Problem::UnknownType(other.unwrap_or_default());
                return Err(ReadError::Damaged { offset: payload_at + length, problem });
            }
        }
        self.ended = false;
        let mut dict = tnet::parse_dict_payload(&self.payload).map_err(|error| ReadError::Damaged {
            offset: payload_at + error.at as u64,
            problem: error.problem,
        })?;
        migrate::migrate(&mut dict).map_err(|refused| match refused {
            Refused::NoVersion => ReadError::NotAFlow { offset: flow_at },
            Refused::TooOld(version) => ReadError::TooOld { offset: flow_at, version },
            Refused::TooNew(version) => ReadError::TooNew { offset: flow_at, version },
        })?;
        let flow = decode::flow(&dict).map_err(|FieldError { at, field, expected }| ReadError::Field {
            offset: payload_at + at as u64,
            field,
            expected,
        })?;
        Ok(Some(flow))
    }

    /// The length of the next item; `None` at the end of the file.
    fn length(&mut self, flow_at: u64) -> Result<Option<u64>, ReadError> {
        let mut prefix = LengthPrefix::default();
        loop {
            let Some(byte) = self.byte()? else {
                if self.offset == flow_at {
                    return Ok(None);
                }
                return Err(ReadError::Truncated { offset: self.offset, flow_at });
            };
            // Fiddler puts a byte order mark before its HAR files.
            if self.offset == 0 && matches!(byte, b'{' | 0xef) {
                return Err(ReadError::Har);
            }
            let length =
                prefix.push(byte).map_err(|problem| ReadError::Damaged { offset: self.offset, problem })?;
            self.offset += 1;
            if length.is_some() {
                return Ok(length);
            }
        }
    }

    fn byte(&mut self) -> Result<Option<u8>, ReadError> {
        loop {
            match self.source.fill_buf() {
                Ok(bytes) => {
                    let byte = bytes.first().copied();
                    self.source.consume(usize::from(byte.is_some()));
                    return Ok(byte);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ReadError::Io { offset: self.offset, source }),
            }
        }
    }

    /// Reads the payload and the type byte. Memory grows with what arrives, not with what a length promises.
    fn read_payload(&mut self, length: u64, flow_at: u64) -> Result<(), ReadError> {
        self.payload.clear();
        self.payload.shrink_to(BUFFER_KEPT_MAX);
        let result = (&mut self.source).take(length + 1).read_to_end(&mut self.payload);
        let got = self.payload.len() as u64;
        self.offset += got;
        result.map_err(|source| ReadError::Io { offset: self.offset, source })?;
        if got <= length {
            return Err(ReadError::Truncated { offset: self.offset, flow_at });
        }
        Ok(())
    }
}

impl<R: Read> Iterator for FlowReader<R> {
    type Item = Result<Flow, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        self.flow().transpose()
    }
}
