//! What is kept of a body that passes: its first bytes, up to a limit. Past it the body is missing from the
//! flow, and its length is noted instead.

use bytes::Bytes;

/// Keeps a passing body.
#[derive(Debug, Default)]
pub struct BodyTape {
    kept: Option<Vec<u8>>,
    limit: usize,
    /// Bytes of body that have passed.
    pub passed: u64,
}

impl BodyTape {
    /// Keeps up to `limit` bytes; more make the whole body missing.
    pub fn keeping(limit: usize) -> Self {
        Self { kept: Some(Vec::new()), limit, passed: 0 }
    }

    /// Keeps nothing.
    pub fn counting() -> Self {
        Self::default()
    }

    /// A piece of body has passed.
    pub fn pass(&mut self, bytes: &[u8]) {
        self.passed += bytes.len() as u64;
        let Some(kept) = &mut self.kept else { return };
        if kept.len() + bytes.len() > self.limit {
            self.kept = None;
        } else {
            kept.extend_from_slice(bytes);
        }
    }

    /// The whole body, if it was kept.
    pub fn take(&mut self) -> Option<Bytes> {
        self.kept.take().map(Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_within_the_limit_is_kept_whole_and_a_longer_one_not_at_all() {
        let mut tape = BodyTape::keeping(4);
        tape.pass(b"ab");
        tape.pass(b"cd");
        assert_eq!(tape.take().as_deref(), Some(&b"abcd"[..]));
        let mut tape = BodyTape::keeping(3);
        tape.pass(b"ab");
        tape.pass(b"cd");
        assert_eq!(tape.passed, 4);
        assert_eq!(tape.take(), None);
    }
}
