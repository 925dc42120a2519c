//! br (RFC 7932).

use brotli::enc::BrotliEncoderParams;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, HeapAlloc, HuffmanCode};

use super::CodingError;
use super::inflate::unwritten;
use super::sink::Sink;

/// Encoder's quality of 0 to 11: the fastest that finds repetitions.
const QUALITY: i32 = 1;

/// Large windows, an extension that no browser takes, are refused: they allow a gigabyte of history.
pub(super) fn decode(data: &[u8], sink: &mut Sink) -> Result<(), CodingError> {
    let mut state = BrotliState::new_strict(
        HeapAlloc::<u8>::new(0),
        HeapAlloc::<u32>::new(0),
        HeapAlloc::<HuffmanCode>::new(HuffmanCode::default()),
    );
    let (mut left, mut at, mut total) = (data.len(), 0, 0);
    loop {
        let room = sink.room();
        let (mut space, mut written) = (room.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut at,
            data,
            &mut space,
            &mut written,
            room,
            &mut total,
            &mut state,
        );
        sink.took(written)?;
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess if left == 0 => return Ok(()),
            BrotliResult::ResultSuccess => return Err(sink.damaged("something follows the end")),
            BrotliResult::NeedsMoreInput => return Err(sink.damaged("cut off")),
            BrotliResult::ResultFailure => return Err(sink.damaged("invalid stream")),
        }
    }
}

pub(super) fn encode(data: &[u8]) -> Result<Vec<u8>, CodingError> {
    let params = BrotliEncoderParams { quality: QUALITY, size_hint: data.len(), ..Default::default() };
    let mut out = Vec::new();
    brotli::BrotliCompress(&mut &data[..], &mut out, &params).map_err(|error| unwritten("br", &error))?;
    Ok(out)
}
