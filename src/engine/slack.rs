//! When memory is worth giving back: the allocator keeps what closed sessions leave behind for the next ones, which is
//! right from one moment to the next, and wrong when a storm is over.

/// Open sessions below which it is not worth the while: each has some 20 KB.
const SESSIONS_MIN: usize = 32;

/// Looks after which memory is given back once more: what closed sessions held goes bit by bit.
const ONCE_MORE: u32 = 12;

/// Watches how many sessions are open.
#[derive(Debug, Default)]
pub(super) struct Slack {
    /// The most since memory was given back.
    most: usize,
    /// Looks since then.
    looks: Option<u32>,
}

/// What is to be done about memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relief {
    Nothing,
    /// Workers are to free what they keep for more sessions.
    Shed,
    /// What is free goes back to the system.
    GiveBack,
}

impl Slack {
    /// Looks, with so many sessions open. Workers are told first; memory goes back when they have heard.
    pub(super) fn look(&mut self, open: usize) -> Relief {
        if self.is_worth_it(open) {
            self.looks = Some(0);
            return Relief::Shed;
        }
        let Some(looks) = &mut self.looks else { return Relief::Nothing };
        *looks += 1;
        match *looks {
            1 => Relief::GiveBack,
            ONCE_MORE => {
                self.looks = None;
                Relief::GiveBack
            }
            _ => Relief::Nothing,
        }
    }

    /// So many are open now. Whether memory is to be given back: when half of them have gone, so that a busy gateway
    /// never does and a storm that ebbs away does a few times.
    fn is_worth_it(&mut self, open: usize) -> bool {
        self.most = self.most.max(open);
        if self.most < SESSIONS_MIN || open > self.most / 2 {
            return false;
        }
        self.most = open;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given_back(open: &[usize]) -> Vec<usize> {
        let mut slack = Slack::default();
        open.iter().copied().filter(|open| slack.is_worth_it(*open)).collect()
    }

    #[test]
    fn memory_is_given_back_each_time_half_of_the_sessions_have_gone() {
        assert_eq!(given_back(&[0, 5000, 4000, 2500, 2400, 1000, 0, 0]), [2500, 1000, 0]);
    }

    #[test]
    fn workers_are_told_first_and_what_comes_late_is_given_back_too() {
        let mut slack = Slack::default();
        let mut reliefs: Vec<Relief> = [1000, 0].iter().map(|open| slack.look(*open)).collect();
        reliefs.extend((0..2 * ONCE_MORE).map(|_| slack.look(0)));
        let at = |wanted| reliefs.iter().enumerate().filter(move |(_, r)| **r == wanted).map(|(at, _)| at);
        assert_eq!(at(Relief::Shed).collect::<Vec<_>>(), [1]);
        assert_eq!(at(Relief::GiveBack).collect::<Vec<_>>(), [2, 1 + ONCE_MORE as usize]);
    }

    #[test]
    fn a_steady_load_and_a_handful_of_sessions_keep_theirs() {
        assert!(given_back(&[5000, 3000, 5000, 2600, 5000]).is_empty());
        assert!(given_back(&[0, 31, 0, 20, 0]).is_empty());
    }
}
