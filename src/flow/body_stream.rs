//! `message.stream`: what an addon wishes for one body, said in `requestheaders` or `responseheaders`.

use std::fmt;
use std::pin::Pin;

use bytes::Bytes;

/// How one body goes through.
#[derive(Debug, Default)]
pub enum BodyStream {
    /// As the options say: collected if somebody who may change it listens, streamed otherwise.
    #[default]
    Auto,
    /// Piece by piece as it comes; nobody sees it whole, and it is not kept.
    Pass,
    /// Piece by piece, each through a function.
    Through(BodyTransform),
}

impl BodyStream {
    /// Streams the body through `transform`. It is called with each piece as received (at most 64 KiB), and once
    /// with no bytes at the end, so that it can hand out what it kept; what it returns goes on in place of the
    /// piece. A message without a body does not come by. Where the length was declared it is replaced by chunked
    /// coding; an HTTP/1.0 client sees the end of the connection instead.
    pub fn through<P: Into<Pieces>>(mut transform: impl FnMut(&[u8]) -> P + Send + Sync + 'static) -> Self {
        Self::Through(BodyTransform(Box::new(move |piece| transform(piece).into())))
    }
}

impl Clone for BodyStream {
    /// A copy of a message is a record: the function stays with the original.
    fn clone(&self) -> Self {
        match self {
            BodyStream::Auto => BodyStream::Auto,
            BodyStream::Pass | BodyStream::Through(_) => BodyStream::Pass,
        }
    }
}

/// A function that a body streams through.
pub struct BodyTransform(Box<PieceByPiece>);

type PieceByPiece = dyn FnMut(&[u8]) -> Pieces + Send + Sync;

impl BodyTransform {
    /// What goes on in place of `piece`; no bytes: the body has ended.
    pub fn call(&mut self, piece: &[u8]) -> Pieces {
        (self.0)(piece)
    }
}

impl fmt::Debug for BodyTransform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyTransform")
    }
}

/// Pieces that will come, or why they will not.
pub type LaterPieces = Pin<Box<dyn Future<Output = Result<Vec<Bytes>, String>> + Send>>;

/// What a [`BodyTransform`] makes of a piece.
pub enum Pieces {
    /// These bytes, in order; nothing at all is fine.
    Now(Vec<Bytes>),
    /// Something that takes time: this body waits (no longer than `hook_timeout`), and nothing else.
    Later(LaterPieces),
    /// It cannot go on: the exchange fails with this reason.
    Failed(String),
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pieces::Now(pieces) => f.debug_tuple("Now").field(pieces).finish(),
            Pieces::Later(_) => f.write_str("Later"),
            Pieces::Failed(reason) => f.debug_tuple("Failed").field(reason).finish(),
        }
    }
}

impl From<Bytes> for Pieces {
    fn from(piece: Bytes) -> Self {
        Pieces::Now(vec![piece])
    }
}

impl From<Vec<u8>> for Pieces {
    fn from(piece: Vec<u8>) -> Self {
        Bytes::from(piece).into()
    }
}

impl From<Vec<Bytes>> for Pieces {
    fn from(pieces: Vec<Bytes>) -> Self {
        Pieces::Now(pieces)
    }
}

impl<P: Into<Pieces>> From<Result<P, String>> for Pieces {
    fn from(result: Result<P, String>) -> Self {
        match result {
            Ok(pieces) => pieces.into(),
            Err(reason) => Pieces::Failed(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transform_keeps_its_state_from_piece_to_piece() {
        let mut count = 0_usize;
        let stream = BodyStream::through(move |piece: &[u8]| {
            count += piece.len();
            if piece.is_empty() { format!("{count}").into_bytes() } else { Vec::new() }
        });
        let BodyStream::Through(mut transform) = stream else { panic!("a transform") };
        for piece in [&b"abc"[..], b"de"] {
            assert!(matches!(transform.call(piece), Pieces::Now(said) if said[0].is_empty()));
        }
        assert!(matches!(transform.call(b""), Pieces::Now(said) if said[0] == "5"));
    }

    #[test]
    fn a_copy_of_a_message_does_not_take_the_function_along() {
        let stream = BodyStream::through(|piece: &[u8]| piece.to_vec());
        assert!(matches!(stream.clone(), BodyStream::Pass));
    }

    #[test]
    fn a_failure_carries_its_reason() {
        let pieces = Pieces::from(Err::<Vec<u8>, _>("no more".to_owned()));
        assert!(matches!(pieces, Pieces::Failed(reason) if reason == "no more"));
    }
}
