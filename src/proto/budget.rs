//! What recorders may keep of flows under way: each flow has its own limit, and all of a worker's together have
//! this one, so that many slow conversations do not add up to more memory than there is.

use std::cell::Cell;
use std::rc::Rc;

/// Bytes that the flows under way of one worker may keep.
#[derive(Debug)]
pub struct Budget {
    used: Cell<usize>,
    max: usize,
}

impl Budget {
    /// Nothing is used yet.
    pub fn new(max: usize) -> Rc<Self> {
        Rc::new(Self { used: Cell::new(0), max })
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.get()
    }
}

/// A part of a budget. Dropping it gives it back.
#[derive(Debug)]
pub struct Charge {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Charge {
    /// Nothing of the budget yet.
    pub fn on(budget: &Rc<Budget>) -> Self {
        Self { budget: budget.clone(), bytes: 0 }
    }

    /// Takes more of the budget, if it is there.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let used = self.budget.used.get() + bytes;
        if used > self.budget.max {
            return false;
        }
        self.budget.used.set(used);
        self.bytes += bytes;
        true
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.set(self.budget.used.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_charged_is_given_back() {
        let budget = Budget::new(10);
        let mut one = Charge::on(&budget);
        assert!(one.grow(6));
        let mut other = Charge::on(&budget);
        assert!(!other.grow(5) && other.grow(4));
        assert_eq!(budget.used(), 10);
        drop(one);
        assert_eq!(budget.used(), 4);
    }
}
