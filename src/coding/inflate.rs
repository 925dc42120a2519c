//! gzip (RFC 1952) and deflate (RFC 1950, RFC 1951).

use std::io::Write;

use flate2::write::{GzEncoder, ZlibEncoder};
use flate2::{Compression, Crc, Decompress, FlushDecompress, Status};

use super::CodingError;
use super::sink::Sink;

const MAGIC: [u8; 2] = [0x1f, 0x8b];
const METHOD_DEFLATE: u8 = 8;
const HEADER_SIZE: usize = 10;
const TRAILER_SIZE: usize = 8;

const FLAG_CRC: u8 = 1 << 1;
const FLAG_EXTRA: u8 = 1 << 2;
const FLAG_NAME: u8 = 1 << 3;
const FLAG_COMMENT: u8 = 1 << 4;

/// Whether a deflate stream came to its end, and how much input it took.
struct Inflated {
    consumed: usize,
    ended: bool,
}

/// Members one after another. What follows the last one and is none is passed over, as zlib's users do.
pub(super) fn gzip(data: &[u8], sink: &mut Sink) -> Result<(), CodingError> {
    if !data.starts_with(&MAGIC) {
        // named gzip, but zlib data: servers do that
        inflate(data, true, sink)?;
        return Ok(());
    }
    let mut rest = data;
    while rest.starts_with(&MAGIC) {
        let Some(size) = header_size(rest, sink)? else { return Ok(()) };
        let body = &rest[size..];
        let start = sink.len();
        let inflated = inflate(body, false, sink)?;
        let Some(trailer) = body[inflated.consumed..].first_chunk::<TRAILER_SIZE>() else { return Ok(()) };
        if !inflated.ended {
            return Ok(());
        }
        let mut crc = Crc::new();
        crc.update(&sink.written()[start..]);
        let [a, b, c, d, e, f, g, h] = *trailer;
        if crc.sum() != u32::from_le_bytes([a, b, c, d]) || crc.amount() != u32::from_le_bytes([e, f, g, h]) {
            return Err(sink.damaged("wrong checksum"));
        }
        rest = &body[inflated.consumed + TRAILER_SIZE..];
    }
    Ok(())
}

/// Bytes of a member's header; none if the data end in it.
fn header_size(data: &[u8], sink: &Sink) -> Result<Option<usize>, CodingError> {
    let Some(header) = data.first_chunk::<HEADER_SIZE>() else { return Ok(None) };
    let (method, flags) = (header[2], header[3]);
    if method != METHOD_DEFLATE || flags & 0xe0 != 0 {
        return Err(sink.damaged("unknown method or flags"));
    }
    let mut at = HEADER_SIZE;
    if flags & FLAG_EXTRA != 0 {
        let Some(length) = data.get(at..at + 2) else { return Ok(None) };
        at += 2 + usize::from(u16::from_le_bytes([length[0], length[1]]));
    }
    for flag in [FLAG_NAME, FLAG_COMMENT] {
        if flags & flag != 0 {
            let end = data.get(at..).and_then(|text| text.iter().position(|byte| *byte == 0));
            let Some(end) = end else { return Ok(None) };
            at += end + 1;
        }
    }
    if flags & FLAG_CRC != 0 {
        at += 2;
    }
    Ok((at <= data.len()).then_some(at))
}

/// zlib data, or without zlib's frame, which must then be whole.
pub(super) fn deflate(data: &[u8], sink: &mut Sink) -> Result<(), CodingError> {
    match inflate(data, true, sink) {
        Ok(Inflated { ended: true, .. }) => return Ok(()),
        Err(error @ (CodingError::TooLarge { .. } | CodingError::Bomb { .. })) => return Err(error),
        Ok(_) | Err(_) => sink.clear(),
    }
    match inflate(data, false, sink)?.ended {
        true => Ok(()),
        false => Err(sink.damaged("neither zlib nor raw deflate data, or cut off")),
    }
}

fn inflate(data: &[u8], zlib: bool, sink: &mut Sink) -> Result<Inflated, CodingError> {
    let mut state = Decompress::new(zlib);
    let mut consumed = 0;
    loop {
        let (read, written) = (state.total_in(), state.total_out());
        let step = state.decompress(&data[consumed..], sink.room(), FlushDecompress::None);
        let status = step.map_err(|error| sink.damaged(error))?;
        let (read, written) = (state.total_in() - read, state.total_out() - written);
        consumed += usize::try_from(read).unwrap_or_default();
        sink.took(usize::try_from(written).unwrap_or_default())?;
        if status == Status::StreamEnd {
            return Ok(Inflated { consumed, ended: true });
        }
        if read == 0 && written == 0 {
            return Ok(Inflated { consumed, ended: false });
        }
    }
}

pub(super) fn encode_gzip(data: &[u8]) -> Result<Vec<u8>, CodingError> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).and_then(|()| encoder.finish()).map_err(|error| unwritten("gzip", &error))
}

pub(super) fn encode_deflate(data: &[u8]) -> Result<Vec<u8>, CodingError> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).and_then(|()| encoder.finish()).map_err(|error| unwritten("deflate", &error))
}

pub(super) fn unwritten(coding: &'static str, error: &std::io::Error) -> CodingError {
    CodingError::Damaged { coding, reason: error.to_string() }
}
