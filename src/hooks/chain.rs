//! Addons in order, and the bit set of what they want.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::addon::{self, Addon, HookCx, Subject};
use super::{Flowed, Hook, Hooks};
use crate::clock::{Clock, Timers};

/// Which worker an addon instance belongs to, from 0.
pub type WorkerId = usize;

/// Makes a worker's instance of an addon.
pub type AddonFactory = Box<dyn Fn(WorkerId) -> Box<dyn Addon> + Send + Sync>;

/// A worker's addons, in the order in which they are called.
pub struct Chain {
    slots: Vec<Slot>,
    wants: Cell<Hooks>,
    timers: Rc<Timers>,
    clock: Rc<Clock>,
    hold_timeout_ms: u64,
}

struct Slot {
    addon: RefCell<Box<dyn Addon>>,
    wants: Cell<Hooks>,
    /// Moments that it was told it would miss.
    missed: Cell<Hooks>,
}

impl Chain {
    /// A chain of these addons. A hold that is not answered within `hold_timeout_ms` goes on unchanged.
    pub fn new(addons: Vec<Box<dyn Addon>>, timers: Rc<Timers>, hold_timeout_ms: u64) -> Self {
        let slot = |addon: Box<dyn Addon>| Slot {
            wants: Cell::new(addon.wants()),
            addon: RefCell::new(addon),
            missed: Cell::default(),
        };
        let slots: Vec<Slot> = addons.into_iter().map(slot).collect();
        let clock = Rc::new(timers.clock().clone());
        let chain = Self { slots, wants: Cell::default(), timers, clock, hold_timeout_ms };
        chain.ask_again();
        chain
    }

    /// Asks every addon anew what it wants: after options changed.
    pub fn ask_again(&self) {
        let mut all = Hooks::NONE;
        for slot in &self.slots {
            slot.wants.set(slot.addon.borrow().wants());
            all |= slot.wants.get();
        }
        self.wants.set(all);
    }

    /// The hooks that somebody wants.
    pub fn wants(&self) -> Hooks {
        self.wants.get()
    }

    /// The addons that want the hook and were not named here before: each is to be warned about once.
    pub fn not_warned(&self, hook: Hook) -> Vec<&'static str> {
        let hooks = Hooks::of(&[hook]);
        let mut names = Vec::new();
        for slot in self.slots.iter().filter(|slot| slot.wants.get().contains(hook)) {
            if !slot.missed.get().contains(hook) {
                slot.missed.set(slot.missed.get() | hooks);
                names.push(slot.addon.borrow().name());
            }
        }
        names
    }

    /// Calls every addon that wants the hook, one after another, waiting where one holds.
    pub async fn run(&self, hook: Hook, mut subject: Subject<'_>) {
        if !self.wants.get().contains(hook) {
            return;
        }
        for slot in self.slots.iter().filter(|slot| slot.wants.get().contains(hook)) {
            let mut cx = HookCx::new(hook, self.clock.clone());
            let flowed = addon::call(&mut **slot.addon.borrow_mut(), subject.reborrow(), &mut cx);
            let Flowed::Hold(ticket) = flowed else { continue };
            match self.timers.timeout(self.hold_timeout_ms, ticket.answered()).await {
                Ok(Some(edit)) => edit(subject.reborrow()),
                Ok(None) => {}
                Err(_) => tracing::warn!(hook = hook.name(), "an addon held a flow for too long: going on"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::super::hold;
    use super::*;
    use crate::flow::Client;

    struct Named(&'static str);
    impl Addon for Named {
        fn wants(&self) -> Hooks {
            Hooks::of(&[Hook::ClientConnected])
        }
        fn client_connected(&mut self, client: &mut Client, _: &mut HookCx) -> Flowed {
            client.proxy_mode.push_str(self.0);
            Flowed::Continue
        }
    }

    struct Holder(Rc<RefCell<Option<super::super::Answer>>>);
    impl Addon for Holder {
        fn wants(&self) -> Hooks {
            Hooks::of(&[Hook::ClientConnected])
        }
        fn client_connected(&mut self, _: &mut Client, _: &mut HookCx) -> Flowed {
            let (answer, ticket) = hold();
            *self.0.borrow_mut() = Some(answer);
            Flowed::Hold(ticket)
        }
    }

    fn chain_with_holder() -> (Chain, Rc<RefCell<Option<super::super::Answer>>>) {
        let answer = Rc::new(RefCell::new(None));
        let addons: Vec<Box<dyn Addon>> =
            vec![Box::new(Named("a")), Box::new(Holder(answer.clone())), Box::new(Named("c"))];
        (Chain::new(addons, Timers::new(Clock::test()), 1000), answer)
    }

    #[test]
    fn what_follows_a_hold_sees_its_changes() {
        let (chain, answer) = chain_with_holder();
        let mut client = Client::default();
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut run = pin!(chain.run(Hook::ClientConnected, Subject::Client(&mut client)));
            assert!(run.as_mut().poll(&mut cx).is_pending());
            answer.take().expect("held").apply(|subject| {
                if let Subject::Client(client) = subject {
                    client.proxy_mode.push('b');
                }
            });
            assert!(run.as_mut().poll(&mut cx).is_ready());
        }
        assert_eq!(client.proxy_mode, "abc");
    }

    #[test]
    fn a_hold_ends_when_its_answer_is_dropped_or_its_time_is_over() {
        let (chain, answer) = chain_with_holder();
        let mut cx = Context::from_waker(Waker::noop());
        for by_time in [false, true] {
            let mut client = Client::default();
            {
                let mut run = pin!(chain.run(Hook::ClientConnected, Subject::Client(&mut client)));
                assert!(run.as_mut().poll(&mut cx).is_pending());
                if by_time {
                    chain.clock.advance(1001);
                } else {
                    answer.take().expect("held").go_on();
                }
                assert!(run.as_mut().poll(&mut cx).is_ready());
            }
            assert_eq!(client.proxy_mode, "ac");
        }
    }

    #[test]
    fn an_addon_is_named_once_for_what_it_misses() {
        let addons: Vec<Box<dyn Addon>> = vec![Box::new(Named("a")), Box::new(Named("b"))];
        let chain = Chain::new(addons, Timers::new(Clock::test()), 1000);
        assert_eq!(chain.not_warned(Hook::Request), [""; 0]);
        assert_eq!(chain.not_warned(Hook::ClientConnected), ["Named", "Named"]);
        assert_eq!(chain.not_warned(Hook::ClientConnected), [""; 0]);
    }

    #[test]
    fn nobody_is_called_for_what_nobody_wants() {
        let (chain, _) = chain_with_holder();
        let mut client = Client::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut run = pin!(chain.run(Hook::ClientDisconnected, Subject::Client(&mut client)));
        assert!(run.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn every_hook_has_a_place_in_the_set_and_a_name_of_its_own() {
        let mut names: Vec<_> = Hook::ALL.iter().map(|hook| hook.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Hook::ALL.len());
        assert!(Hook::ALL.len() <= 64);
    }
}
