//! What is kept of a body that passes: its first bytes, up to a limit. Past it the body is missing from the
//! flow, and its length is noted instead.

use std::rc::Rc;

use bytes::Bytes;

use crate::proto::budget::{Budget, Charge};

/// Keeps a passing body.
#[derive(Debug, Default)]
pub struct BodyTape {
    kept: Option<(Vec<u8>, Charge)>,
    limit: usize,
    /// Bytes of body that have passed.
    pub passed: u64,
}

impl BodyTape {
    /// Keeps up to `limit` bytes, if the budget has them; otherwise the whole body is missing.
    pub fn keeping(limit: usize, budget: &Rc<Budget>) -> Self {
        Self { kept: Some((Vec::new(), Charge::on(budget))), limit, passed: 0 }
    }

    /// Keeps nothing.
    pub fn counting() -> Self {
        Self::default()
    }

    /// A piece of body has passed.
    pub fn pass(&mut self, bytes: &[u8]) {
        self.passed += bytes.len() as u64;
        let Some((kept, charge)) = &mut self.kept else { return };
        if kept.len() + bytes.len() > self.limit || !charge.grow(bytes.len()) {
            self.kept = None;
        } else {
            kept.extend_from_slice(bytes);
        }
    }

    /// The whole body, if it was kept, and its charge, which lasts as long as the flow is under way.
    pub fn take(&mut self) -> Option<(Bytes, Charge)> {
        self.kept.take().map(|(kept, charge)| (Bytes::from(kept), charge))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_within_the_limit_is_kept_whole_and_a_longer_one_not_at_all() {
        let budget = Budget::new(100);
        let mut tape = BodyTape::keeping(4, &budget);
        tape.pass(b"ab");
        tape.pass(b"cd");
        let (body, charge) = tape.take().expect("kept");
        assert_eq!((&body[..], budget.used()), (&b"abcd"[..], 4));
        drop(charge);
        let mut tape = BodyTape::keeping(3, &budget);
        tape.pass(b"ab");
        tape.pass(b"cd");
        assert_eq!(tape.passed, 4);
        assert!(tape.take().is_none());
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_body_is_not_kept_when_others_have_used_the_budget_up() {
        let budget = Budget::new(5);
        let mut one = BodyTape::keeping(10, &budget);
        one.pass(b"abc");
        let mut other = BodyTape::keeping(10, &budget);
        other.pass(b"abc");
        assert!(other.take().is_none());
        assert!(one.take().is_some());
    }
}
