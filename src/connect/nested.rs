//! Circles through another proxy on this machine: each round is one more connection from a local client to the
//! same local server. They are counted, so that a circle ends before it has used up every connection there is.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

type Key = (IpAddr, SocketAddr);

/// Open connections between local clients and local servers.
#[derive(Default)]
pub(super) struct Nested {
    counts: Mutex<HashMap<Key, usize>>,
    /// The most for one client and server; 0: no limit is set yet.
    max: AtomicUsize,
}

impl Nested {
    pub(super) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// One more, as long as the mark lives.
    ///
    /// # Errors
    /// How many there are already, if that is the most.
    pub(super) fn enter(self: &Arc<Self>, client: IpAddr, server: SocketAddr) -> Result<NestedMark, usize> {
        let key = (client, server);
        let max = self.max.load(Ordering::Relaxed);
        if let Ok(mut counts) = self.counts.lock() {
            let count = counts.entry(key).or_default();
            if max > 0 && *count >= max {
                return Err(*count);
            }
            *count += 1;
        }
        Ok(NestedMark { nested: self.clone(), key })
    }
}

/// A counted connection.
pub(super) struct NestedMark {
    nested: Arc<Nested>,
    key: Key,
}

impl Drop for NestedMark {
    fn drop(&mut self) {
        if let Ok(mut counts) = self.nested.counts.lock()
            && let Some(count) = counts.get_mut(&self.key)
        {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_ends_at_the_limit_and_others_are_not_concerned() {
        let nested = Arc::<Nested>::default();
        nested.set_max(2);
        let client = IpAddr::from([127, 0, 0, 1]);
        let (one, other) = (SocketAddr::new(client, 80), SocketAddr::new(client, 81));
        let marks = [nested.enter(client, one), nested.enter(client, one)];
        assert!(marks.iter().all(Result::is_ok));
        assert_eq!(nested.enter(client, one).err(), Some(2));
        assert!(nested.enter(client, other).is_ok());
        drop(marks);
        assert!(nested.enter(client, one).is_ok());
        assert!(nested.counts.lock().expect("no panic before").is_empty());
    }
}
