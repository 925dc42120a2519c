//! When memory is worth giving back: the allocator keeps what closed sessions leave behind for the next ones, which is
//! right from one moment to the next, and wrong when a storm is over.

/// Open sessions below which it is not worth the while: each has some 20 KB.
const SESSIONS_MIN: usize = 32;

/// Watches how many sessions are open.
#[derive(Debug, Default)]
pub(super) struct Slack {
    /// The most since memory was given back.
    most: usize,
}

impl Slack {
    /// So many are open now. Whether memory is to be given back: when half of them have gone, so that a busy gateway
    /// never does and a storm that ebbs away does a few times.
    pub(super) fn is_worth_it(&mut self, open: usize) -> bool {
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
    fn a_steady_load_and_a_handful_of_sessions_keep_theirs() {
        assert!(given_back(&[5000, 3000, 5000, 2600, 5000]).is_empty());
        assert!(given_back(&[0, 31, 0, 20, 0]).is_empty());
    }
}
