//! Where decoded bytes go: a vector that never grows past what the limits allow.

use super::{CodingError, Limits};

/// Bytes a decoder is offered at least, as long as the limit is that far away.
const STEP: usize = 32 << 10;

pub(super) struct Sink {
    coding: &'static str,
    out: Vec<u8>,
    /// Bytes of `out` that are output; the rest is room.
    len: usize,
    /// Bytes allowed.
    max: usize,
    limits: Limits,
}

impl Sink {
    pub(super) fn new(coding: &'static str, input: usize, limits: &Limits) -> Self {
        let by_ratio = input.saturating_mul(limits.ratio_max).max(limits.ratio_free);
        Self { coding, out: Vec::new(), len: 0, max: limits.output_max.min(by_ratio), limits: *limits }
    }

    /// Forgets what was decoded.
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Room to decode into, never empty: the byte past the limit is there to notice that it is wanted.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.len == self.out.len() {
            let wanted = (self.len + STEP).max(self.len * 2).min(self.max.saturating_add(1));
            self.out.reserve_exact(wanted.saturating_sub(self.len));
            self.out.resize(wanted.max(self.len + 1), 0);
        }
        &mut self.out[self.len..]
    }

    /// Takes `count` bytes of the room as output.
    pub(super) fn took(&mut self, count: usize) -> Result<(), CodingError> {
        self.len += count;
        if self.len <= self.max {
            return Ok(());
        }
        Err(if self.max == self.limits.output_max {
            CodingError::TooLarge { coding: self.coding, max: self.max }
        } else {
            CodingError::Bomb { coding: self.coding, max: self.max, ratio: self.limits.ratio_max }
        })
    }

    pub(super) fn extend(&mut self, mut data: &[u8]) -> Result<(), CodingError> {
        while !data.is_empty() {
            let room = self.room();
            let count = room.len().min(data.len());
            room[..count].copy_from_slice(&data[..count]);
            data = &data[count..];
            self.took(count)?;
        }
        Ok(())
    }

    /// The output so far.
    pub(super) fn written(&self) -> &[u8] {
        &self.out[..self.len]
    }

    /// Output so far, in bytes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn done(mut self) -> Vec<u8> {
        self.out.truncate(self.len);
        self.out
    }

    pub(super) fn damaged(&self, reason: impl ToString) -> CodingError {
        CodingError::Damaged { coding: self.coding, reason: reason.to_string() }
    }
}
