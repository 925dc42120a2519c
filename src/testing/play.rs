//! Plays a dialogue: polls the real session by hand, gives it what the script says, compares what comes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt::Write;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use uuid::Uuid;

use super::peers::End;
use super::playbook::{Extra, Peer, Playbook, Step, addr, shown};
use super::stage::{Act, Stage, StageOutbox};
use super::tls;
use crate::buf::BlockPool;
use crate::clock::{Clock, Timers};
use crate::config::{Config, Source, Typed};
use crate::connect::{Connector, Policy};
use crate::flow::{Client, Server};
use crate::hooks::{Addon, Chain, Hooks};
use crate::proto::tls::TlsContexts;
use crate::proto::{Counters, Drain, Services, Session};
use crate::stream::{Fault, Stream};

/// Blocks a session may hold at once.
const BLOCKS_MAX: usize = 64;
/// Polls without an end: something wakes itself for ever.
const POLLS_MAX: usize = 1_000_000;
/// When every limit of the defaults is over.
const LONG_MS: u64 = 4_000_000;

/// How a script is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    AsWritten,
    /// Both peers write single bytes.
    ByteByByte,
    /// A peer says at once what it can say without waiting.
    AtOnce,
    /// As written, with nobody who records flows.
    Untapped,
}

pub(super) fn every_way(book: &Playbook) {
    play(book, Manner::AsWritten);
    if !book.only_as_written {
        play(book, Manner::ByteByByte);
        play(book, Manner::AtOnce);
    }
    if has_no_witness(book) {
        play(book, Manner::Untapped);
    }
}

pub(super) fn untapped(book: &Playbook) {
    assert!(has_no_witness(book), "whoever asks for hooks or flows gets flows");
    play(book, Manner::Untapped);
}

fn wants(book: &Playbook) -> Hooks {
    book.wants.unwrap_or_else(|| {
        let named = book.steps.iter().filter_map(|step| match step {
            Step::Hook(hook) => Some(Hooks::of(&[*hook])),
            _ => None,
        });
        named.fold(Hooks::NONE, |all, one| all | one)
    })
}

fn has_no_witness(book: &Playbook) -> bool {
    book.extras.is_empty()
        && !book.steps.iter().any(|step| matches!(step, Step::Flow(_)))
        && wants(book) == Hooks::NONE
}

/// Moves what a peer says ahead of what it could wait for.
fn at_once(steps: &[Step]) -> Vec<Step> {
    let mut moved: Vec<Step> = Vec::with_capacity(steps.len());
    for step in steps {
        let Step::Sends(peer, bytes) = step else {
            moved.push(step.clone());
            continue;
        };
        let place = moved.iter().rposition(|before| !before.lets_pass(*peer)).map_or(0, |at| at + 1);
        match place.checked_sub(1).map(|at| &mut moved[at]) {
            Some(Step::Sends(same, said)) if same == peer => said.extend_from_slice(bytes),
            _ => moved.insert(place, step.clone()),
        }
    }
    moved
}

/// Remembers that somebody was woken.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Play<'a> {
    manner: Manner,
    loose: bool,
    /// What comes of a fault is not compared.
    faulty: bool,
    steps: &'a [Step],
    at: usize,
    stage: Rc<Stage>,
    services: Rc<Services>,
    task: Option<Pin<Box<dyn Future<Output = ()>>>>,
    woken: Arc<Woken>,
    /// The script's latest connection to a server.
    server: usize,
    polls: Cell<usize>,
}

fn play(book: &Playbook, manner: Manner) {
    let steps = if manner == Manner::AtOnce { at_once(&book.steps) } else { book.steps.clone() };
    let (near, far) = crate::stream::Pipe::pair();
    let dials: VecDeque<_> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Connects(_, dial) => Some(dial.clone()),
            _ => None,
        })
        .collect();
    let fault = |peer| match &book.fault {
        Some((at, fault)) if *at == peer => fault.clone(),
        _ => Fault::default(),
    };
    let stage = Stage::new(far, dials, fault(Peer::Server), manner != Manner::Untapped);
    let services = services(book, &stage);
    let session = session(book, near.with_fault(fault(Peer::Client)).into(), services.clone());
    let mut play = Play {
        manner,
        loose: book.loose,
        faulty: book.fault.is_some(),
        steps: &steps,
        at: 0,
        stage,
        services,
        task: Some(Box::pin(crate::proto::run(session))),
        woken: Arc::new(Woken(AtomicBool::new(true))),
        server: usize::MAX,
        polls: Cell::new(0),
    };
    play.settle();
    for (at, step) in steps.iter().enumerate() {
        play.at = at;
        play.step(step);
    }
    play.at = steps.len();
    if play.faulty {
        play.stage.forget();
    }
    play.expect_nothing_left();
    play.end();
}

fn services(book: &Playbook, stage: &Rc<Stage>) -> Rc<Services> {
    let mut typed = Typed::default();
    for option in &book.options {
        typed.set(option, Source::CommandLine).expect("an option");
    }
    let config = Arc::new(Config::of(&typed).expect("options fit"));
    let timers = Timers::new(Clock::test());
    let mut addons: Vec<Box<dyn Addon>> = vec![Box::new(stage.recorder(wants(book)))];
    for extra in &book.extras {
        addons.push(match extra {
            Extra::Addon(make) => make(),
            Extra::Holder(hooks) => Box::new(stage.holder(*hooks)),
        });
    }
    let dialed = stage.clone();
    Rc::new(Services {
        chain: Chain::new(addons, timers.clone(), config.timeouts.hook_ms),
        connector: Connector::test(Rc::new(move |to| dialed.dial(to)), book.names.clone()),
        policy: Policy::new(&config, Vec::new()),
        leaves: tls::ours().leaves.clone(),
        tls: TlsContexts::new(tls::setup(book.trusts_origin)),
        pool: BlockPool::new(BLOCKS_MAX, BLOCKS_MAX),
        outbox: Rc::new(StageOutbox(stage.clone())),
        kept_bodies: crate::proto::budget::Budget::new(1 << 30),
        collected_bodies: crate::proto::budget::Budget::new(config.collect_budget),
        draining: Drain::default(),
        counters: Counters::default(),
        config,
        timers,
    })
}

fn session(book: &Playbook, client_io: Stream, services: Rc<Services>) -> Session {
    let client = Client {
        id: Uuid::new_v4(),
        peername: Some(addr("192.0.2.7:50000")),
        sockname: Some(book.destination.original.unwrap_or(addr("192.0.2.1:8080"))),
        timestamp_start: services.now(),
        proxy_mode: "playbook".into(),
        ..Client::default()
    };
    let mut server =
        Server { id: Uuid::new_v4(), address: book.destination.address.clone(), ..Server::default() };
    if let Some(scheme) = book.reverse_scheme().filter(|scheme| scheme.is_tls()) {
        server.tls = true;
        server.sni = server.address.as_ref().map(|(host, _)| host.clone());
        if scheme.is_http() {
            server.alpn_offers = vec![b"http/1.1".to_vec()];
        }
    }
    Session::new(client, server, book.destination.way, client_io, services)
}

impl Play<'_> {
    /// Lets the session and the peers go on until none of them has anything to do.
    fn settle(&mut self) {
        let most = if self.manner == Manner::ByteByByte { 1 } else { usize::MAX };
        loop {
            self.run();
            self.stage.drain();
            let sent = self.stage.send_pieces(most);
            if !sent && !self.woken.0.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// Polls the session only when it was woken: a lost wake-up shows as a wait without end.
    fn run(&mut self) {
        let waker = Waker::from(self.woken.clone());
        let mut cx = Context::from_waker(&waker);
        while self.woken.0.swap(false, Ordering::Relaxed) {
            let Some(task) = &mut self.task else { return };
            self.polls.set(self.polls.get() + 1);
            assert!(self.polls.get() < POLLS_MAX, "the session wakes itself for ever\n{}", self.dialogue());
            if task.as_mut().poll(&mut cx).is_ready() {
                self.task = None;
            }
            self.stage.drain();
        }
    }

    fn step(&mut self, step: &Step) {
        if self.faulty && self.is_moot(step) {
            return;
        }
        if step.is_input() && self.is_strict() {
            self.expect_nothing_left();
        }
        match step {
            Step::Sends(peer, bytes) => self.with(*peer, |end| end.send(bytes)),
            Step::Closes(peer) => self.with(*peer, |end| end.close(true)),
            Step::Cuts(peer) => self.with(*peer, |end| end.close(false)),
            Step::Resets(peer) => self.with(*peer, super::peers::FarEnd::reset),
            Step::StartsTls(handshake) => self.with(Peer::Client, |end| end.start_tls(handshake.begin())),
            Step::Leaves => self.services.draining.announce(),
            Step::Drains => self.services.draining.start(),
            Step::Killed => self.task = None,
            Step::AnswerHold(edit) => {
                let Some(answer) = self.stage.holds.borrow_mut().pop_front() else {
                    self.mismatch("nothing is held")
                };
                match edit.clone() {
                    Some(edit) => answer.apply(move |subject| edit(subject)),
                    None => answer.go_on(),
                }
            }
            Step::Passes(ms) => self.pass(*ms),
            _ => return self.compare(step),
        }
        self.settle();
    }

    /// Where something goes wrong, what peers see is not compared; and a server nobody connected to says nothing.
    fn is_moot(&mut self, step: &Step) -> bool {
        let servers = self.stage.servers.borrow().len();
        self.server = servers.wrapping_sub(1);
        match step {
            Step::Sends(peer, _) | Step::Closes(peer) | Step::Cuts(peer) | Step::Resets(peer) => {
                *peer == Peer::Server && servers == 0
            }
            Step::Passes(_) | Step::StartsTls(_) | Step::Leaves | Step::Drains | Step::Killed => false,
            _ => true,
        }
    }

    fn with<R>(&self, peer: Peer, run: impl FnOnce(&mut super::peers::FarEnd) -> R) -> R {
        match self.stage.with(peer, self.server, run) {
            Some(result) => result,
            None => self.mismatch("no server was connected to"),
        }
    }

    fn pass(&mut self, ms: u64) {
        let (timers, clock) = (self.services.timers.clone(), self.services.clock().clone());
        let target = clock.now_ms() + ms;
        while clock.now_ms() < target {
            let next = timers.next_due().unwrap_or(target).clamp(clock.now_ms() + 1, target);
            clock.advance(next - clock.now_ms());
            timers.expire();
            self.settle();
        }
    }

    fn compare(&mut self, step: &Step) {
        match step {
            Step::Gets(peer, bytes) => self.compare_bytes(*peer, bytes),
            Step::GetsPage(status, part) => {
                let got = self.with(Peer::Client, |end| end.unread());
                let text = String::from_utf8_lossy(&got).into_owned();
                if !text.starts_with(&format!("HTTP/1.1 {status} ")) || !text.contains(part.as_str()) {
                    self.mismatch("that is not the page the client got");
                }
                self.with(Peer::Client, |end| end.account(got.len()));
            }
            Step::SeesEnd(peer) => self.compare_end(*peer, End::Closed),
            Step::SeesCut(peer) => self.compare_end(*peer, End::Cut),
            Step::SeesReset(peer) => self.compare_end(*peer, End::Reset),
            Step::Hook(hook) => self.compare_act(&Act::Hook(*hook)),
            Step::Connects(to, dial) => {
                self.compare_act(&Act::Connects(*to));
                if matches!(dial, super::playbook::Dial::Connected | super::playbook::Dial::Secure(_)) {
                    self.server = self.server.wrapping_add(1);
                }
            }
            Step::Flow(check) => {
                let Some(flow) = self.stage.flows.borrow_mut().pop_front() else {
                    self.mismatch("no flow was delivered")
                };
                check(&flow);
            }
            Step::NoFlow => {
                if !self.stage.flows.borrow().is_empty() {
                    self.mismatch("a flow was delivered");
                }
            }
            Step::Whatever => self.stage.forget(),
            Step::TlsIs(peer, check) => self.with(*peer, |end| check(end.tls().expect("an end with TLS"))),
            Step::TlsFails(peer, part) => {
                let error = self.with(*peer, |end| end.tls_error.clone());
                if !error.as_ref().is_some_and(|error| error.contains(part.as_str())) {
                    self.mismatch(&format!("that end's TLS error is {error:?}"));
                }
            }
            _ => unreachable!("inputs are not compared"),
        }
    }

    fn compare_bytes(&self, peer: Peer, expected: &[u8]) {
        let got = self.with(peer, |end| end.unread());
        if !got.starts_with(expected) {
            let same = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
            self.mismatch(&format!("it got other bytes, from byte {same} on"));
        }
        let last = self.with(peer, |end| end.account(expected.len()));
        if self.is_strict()
            && let Some((number, act)) = self.stage.acts.borrow().front()
            && *number < last
        {
            self.mismatch(&format!("{act:?} came before these bytes"));
        }
    }

    fn compare_end(&self, peer: Peer, expected: End) {
        let (end, unread) = self.with(peer, |far| (far.end, far.unread()));
        if end != Some(expected) || !unread.is_empty() {
            self.mismatch(&format!("it saw {end:?}"));
        }
    }

    fn compare_act(&self, expected: &Act) {
        let front = self.stage.acts.borrow().front().cloned();
        let Some((number, act)) = front else { self.mismatch("it did not happen") };
        if act != *expected {
            self.mismatch(&format!("{act:?} happened instead"));
        }
        if self.is_strict() && self.stage.unread_since().is_some_and(|since| since <= number) {
            self.mismatch("bytes were sent before it");
        }
        self.stage.acts.borrow_mut().pop_front();
    }

    fn is_strict(&self) -> bool {
        !self.loose && !self.faulty && matches!(self.manner, Manner::AsWritten | Manner::Untapped)
    }

    fn expect_nothing_left(&self) {
        if self.stage.unread_since().is_some() || !self.stage.acts.borrow().is_empty() {
            self.mismatch("more happened than the script tells by now");
        }
    }

    /// Everybody leaves: the session must end by itself and hold nothing.
    fn end(mut self) {
        self.stage.client.borrow_mut().vanish();
        self.stage.servers.borrow_mut().iter_mut().for_each(super::peers::FarEnd::vanish);
        self.settle();
        self.pass(LONG_MS);
        assert!(self.task.is_none(), "the session does not end when all have left\n{}", self.dialogue());
        self.stage.check_flows();
        let Play { stage, services, .. } = self;
        drop(stage);
        assert_eq!(services.pool.in_use(), 0, "buffers are held after the session");
    }

    fn mismatch(&self, reason: &str) -> ! {
        panic!("{reason}\n{}", self.dialogue());
    }

    /// The script up to here, and what happened besides.
    fn dialogue(&self) -> String {
        let mut text = format!("played {:?}:\n", self.manner);
        for (index, step) in self.steps.iter().enumerate() {
            let mark = match index {
                _ if index < self.at => "  ",
                _ if index == self.at => "=>",
                _ => " ?",
            };
            let _ = writeln!(text, "{mark} {step}");
        }
        text.push_str("what happened and is not accounted for:\n");
        for (_, act) in self.stage.acts.borrow().iter() {
            let _ = writeln!(text, "   {act:?}");
        }
        let client = self.stage.client.borrow();
        let _ = writeln!(text, "   client got {}, end {:?}", shown(&client.unread()), client.end);
        for (number, server) in self.stage.servers.borrow().iter().enumerate() {
            let (got, end) = (shown(&server.unread()), server.end);
            let _ = writeln!(text, "   server {number} got {got}, end {end:?}, {:?}", server.tls_error);
        }
        if let Some(error) = &client.tls_error {
            let _ = writeln!(text, "   client's TLS: {error}");
        }
        for flow in self.stage.flows.borrow().iter() {
            let _ = writeln!(text, "   flow with error {:?}", flow.meta().error);
        }
        let state = if self.task.is_some() { "goes on" } else { "is over" };
        let _ = writeln!(text, "   the session {state}");
        text
    }
}
