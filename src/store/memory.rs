//! Flows kept in memory for the faces: as many as a byte budget allows, the oldest going first.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::flow::Flow;

/// Default budget.
pub const BUDGET_BYTES: usize = 256 << 20;

/// What an index entry takes beside the flow, roughly: budgets must hold for millions of empty flows too.
const ENTRY_COST: usize = 192;

/// Numbers of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Flows held.
    pub held: usize,
    /// Bytes they take, roughly; never more than the budget.
    pub bytes: usize,
    /// Flows that were dropped to keep the budget, or not kept because they alone exceed it.
    pub evicted: u64,
}

/// Flows in memory, within a budget. Unmarked flows go before marked ones, older ones before newer ones.
#[derive(Debug)]
pub struct FlowStore {
    budget: usize,
    bytes: usize,
    evicted: u64,
    next_place: u64,
    flows: HashMap<Uuid, Held>,
    /// Every flow by age.
    by_age: BTreeMap<u64, Uuid>,
    /// The unmarked ones by age: the candidates for leaving, without a search.
    unmarked: BTreeMap<u64, Uuid>,
}

#[derive(Debug)]
struct Held {
    flow: Flow,
    place: u64,
    cost: usize,
}

impl Default for FlowStore {
    fn default() -> Self {
        Self::new(BUDGET_BYTES)
    }
}

impl FlowStore {
    /// An empty store that keeps at most that many bytes.
    pub fn new(budget: usize) -> Self {
        Self {
            budget,
            bytes: 0,
            evicted: 0,
            next_place: 0,
            flows: HashMap::new(),
            by_age: BTreeMap::new(),
            unmarked: BTreeMap::new(),
        }
    }

    /// Adds a flow, or replaces the one of the same id, which keeps its place. Says whether it is held now: a
    /// flow that alone exceeds the budget is not, and neither is what it would have replaced.
    pub fn insert(&mut self, flow: Flow) -> bool {
        let id = flow.meta().id;
        let cost = flow.cost() + ENTRY_COST;
        let place = match self.remove(&id) {
            Some((_, place)) => place,
            None => {
                self.next_place += 1;
                self.next_place
            }
        };
        if cost > self.budget {
            self.evicted += 1;
            return false;
        }
        self.bytes += cost;
        self.by_age.insert(place, id);
        if flow.meta().marked.is_empty() {
            self.unmarked.insert(place, id);
        }
        self.flows.insert(id, Held { flow, place, cost });
        self.keep_budget();
        self.flows.contains_key(&id)
    }

    /// The flow of that id.
    pub fn get(&self, id: &Uuid) -> Option<&Flow> {
        self.flows.get(id).map(|held| &held.flow)
    }

    /// At most `limit` flows, the newest first.
    pub fn newest(&self, limit: usize) -> impl Iterator<Item = &Flow> {
        self.by_age.values().rev().take(limit).filter_map(|id| self.get(id))
    }

    /// Drops the flow of that id and gives it back.
    pub fn take(&mut self, id: &Uuid) -> Option<Flow> {
        self.remove(id).map(|(flow, _)| flow)
    }

    /// Drops all flows. Not counted as evicted.
    pub fn clear(&mut self) {
        let (budget, evicted, next_place) = (self.budget, self.evicted, self.next_place);
        *self = Self { evicted, next_place, ..Self::new(budget) };
    }

    /// How much there is.
    pub fn counters(&self) -> Counters {
        Counters { held: self.flows.len(), bytes: self.bytes, evicted: self.evicted }
    }

    fn remove(&mut self, id: &Uuid) -> Option<(Flow, u64)> {
        let held = self.flows.remove(id)?;
        self.by_age.remove(&held.place);
        self.unmarked.remove(&held.place);
        self.bytes -= held.cost;
        Some((held.flow, held.place))
    }

    fn keep_budget(&mut self) {
        while self.bytes > self.budget {
            let oldest = self.unmarked.first_key_value().or_else(|| self.by_age.first_key_value());
            let Some(id) = oldest.map(|(_, id)| *id) else { return };
            self.remove(&id);
            self.evicted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::flow::{FlowMeta, TcpFlow, TcpMessage};

    fn flow(number: u128, size: usize, marked: bool) -> Flow {
        let mut meta = FlowMeta::new(Arc::default(), Arc::default(), 0.0);
        meta.id = Uuid::from_u128(number);
        if marked {
            meta.marked = ":default:".into();
        }
        let content = Bytes::from(vec![0; size]);
        let messages = vec![TcpMessage { from_client: true, content, timestamp: 0.0 }];
        Flow::Tcp(Box::new(TcpFlow { meta, messages, killed: false }))
    }

    fn ids(store: &FlowStore, limit: usize) -> Vec<u128> {
        store.newest(limit).map(|flow| flow.meta().id.as_u128()).collect()
    }

    /// A store with room for that many flows of 10,000 bytes.
    fn store(flows: usize) -> FlowStore {
        FlowStore::new(flows * (flow(0, 10_000, true).cost() + ENTRY_COST))
    }

    #[test]
    fn the_oldest_unmarked_flow_goes_first() {
        let mut store = store(3);
        for (number, marked) in [(1, true), (2, false), (3, false), (4, false)] {
            assert!(store.insert(flow(number, 10_000, marked)));
        }
        assert_eq!(ids(&store, 10), [4, 3, 1]);
        assert_eq!(ids(&store, 2), [4, 3]);
        assert_eq!((store.counters().held, store.counters().evicted), (3, 1));
        assert!(store.get(&Uuid::from_u128(2)).is_none());
    }

    #[test]
    fn marked_flows_go_when_nothing_else_is_left() {
        let mut store = store(2);
        for number in 1..=4 {
            store.insert(flow(number, 10_000, true));
        }
        assert_eq!(ids(&store, 10), [4, 3]);
        // All others are marked: the new one is the oldest unmarked.
        assert!(!store.insert(flow(5, 10_000, false)));
        assert_eq!(ids(&store, 10), [4, 3]);
    }

    #[test]
    fn a_flow_of_the_same_id_takes_the_place_of_the_old_one() {
        let mut store = store(3);
        (1..=3).for_each(|number| assert!(store.insert(flow(number, 10_000, false))));
        assert!(store.insert(flow(1, 5_000, true)));
        assert_eq!(ids(&store, 10), [3, 2, 1]);
        store.insert(flow(4, 15_000, false));
        assert_eq!(ids(&store, 10), [4, 3, 1], "the mark counts from now on");
        assert_eq!(
            store.counters().bytes,
            store.newest(9).map(|flow| flow.cost() + ENTRY_COST).sum::<usize>()
        );
    }

    #[test]
    fn a_flow_over_the_budget_is_not_kept_and_drives_out_nothing() {
        let mut store = store(2);
        store.insert(flow(1, 10_000, false));
        store.insert(flow(2, 10_000, false));
        assert!(!store.insert(flow(3, 50_000, true)));
        assert_eq!(ids(&store, 10), [2, 1]);
        assert!(!store.insert(flow(1, 50_000, true)), "grown too large");
        assert_eq!(ids(&store, 10), [2]);
        assert_eq!(store.counters().evicted, 2);
    }

    #[test]
    fn whatever_comes_the_budget_holds() {
        let mut store = store(20);
        let mut state = 1u64;
        for _ in 0..5_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let random = (state >> 33) as usize;
            match random % 7 {
                0 => drop(store.take(&Uuid::from_u128((random % 300) as u128))),
                _ => {
                    store.insert(flow((random % 300) as u128, random % 30_000, random.is_multiple_of(5)));
                }
            }
            let counters = store.counters();
            assert!(counters.bytes <= store.budget);
            assert_eq!(counters.held, ids(&store, usize::MAX).len());
            assert_eq!(
                store.unmarked.len(),
                store.newest(999).filter(|f| f.meta().marked.is_empty()).count()
            );
        }
        store.clear();
        assert_eq!((store.counters().held, store.counters().bytes), (0, 0));
        assert!(store.counters().evicted > 0);
    }
}
