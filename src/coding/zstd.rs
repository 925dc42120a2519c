//! zstd (RFC 8878).

use std::error::Error;
use std::io::{self, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::sink::Sink;
use super::{CodingError, WINDOW_MAX};

/// Bytes decoded before they are taken out.
const STEP: usize = 64 << 10;

/// Frames one after another.
pub(super) fn decode(data: &[u8], sink: &mut Sink) -> Result<(), CodingError> {
    let mut rest = data;
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(WINDOW_MAX);
    while !rest.is_empty() {
        match decoder.init(&mut rest) {
            Ok(()) => {}
            Err(error) => match skippable(&error) {
                Some(length) => {
                    rest = rest.get(length..).unwrap_or_default();
                    continue;
                }
                None if is_cut_off(&error) => return Ok(()),
                None => return Err(sink.damaged(error)),
            },
        }
        loop {
            let step = decoder.decode_blocks(&mut rest, BlockDecodingStrategy::UptoBytes(STEP));
            take(&mut decoder, sink)?;
            match step {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) if is_cut_off(&error) => return drain(&mut decoder, sink),
                Err(error) => return Err(sink.damaged(error)),
            }
        }
        let (said, found) = (decoder.get_checksum_from_data(), decoder.get_calculated_checksum());
        if said.is_some() && said != found {
            return Err(sink.damaged("wrong checksum"));
        }
    }
    Ok(())
}

/// Takes what the decoder no longer needs.
fn take(decoder: &mut FrameDecoder, sink: &mut Sink) -> Result<(), CodingError> {
    while decoder.can_collect() > 0 {
        match decoder.read(sink.room()) {
            Ok(0) => return Ok(()),
            Ok(count) => sink.took(count)?,
            Err(error) => return Err(sink.damaged(error)),
        }
    }
    Ok(())
}

/// Takes the window too, of a frame whose end is missing: the decoder hands it out behind a last block only, so
/// it is given an empty one (RFC 8878 §3.1.1.2), with room for a checksum.
fn drain(decoder: &mut FrameDecoder, sink: &mut Sink) -> Result<(), CodingError> {
    const LAST_BLOCK: [u8; 7] = [1, 0, 0, 0, 0, 0, 0];
    match decoder.decode_blocks(&LAST_BLOCK[..], BlockDecodingStrategy::All) {
        Ok(_) => take(decoder, sink),
        Err(error) => Err(sink.damaged(error)),
    }
}

/// Bytes of a skippable frame (RFC 8878 §3.1.2) that follow its header.
fn skippable(error: &FrameDecoderError) -> Option<usize> {
    match error {
        FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. }) => {
            usize::try_from(*length).ok()
        }
        _ => None,
    }
}

/// The data ended too early, somewhere.
fn is_cut_off(error: &FrameDecoderError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::UnexpectedEof) {
            return true;
        }
        cause = error.source();
    }
    false
}

pub(super) fn encode(data: &[u8]) -> Vec<u8> {
    compress_to_vec(data, CompressionLevel::Fastest)
}
