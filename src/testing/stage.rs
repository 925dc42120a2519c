//! What surrounds a session while it is played: the far ends, the recorder, and what happened so far.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use uuid::Uuid;

use super::Listener;
use super::peers::FarEnd;
use super::playbook::{Dial, Peer, addr};
use crate::flow::Flow;
use crate::hooks::{Answer, Flowed, Hook, Hooks, Subject, hold};
use crate::proto::Outbox;
use crate::stream::{Fault, Pipe, Stream};

/// More than any script tells of.
const ACTS_MAX: usize = 10_000;

/// Something the session did besides sending bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    Hook(Hook),
    Connects(SocketAddr),
}

/// All that a session meets, and all that is known about it.
pub(super) struct Stage {
    pub(super) client: RefCell<FarEnd>,
    pub(super) servers: RefCell<Vec<FarEnd>>,
    /// Connection attempts to come, and what they come to.
    dials: RefCell<VecDeque<Dial>>,
    pub(super) acts: RefCell<VecDeque<(usize, Act)>>,
    acts_done: Cell<usize>,
    pub(super) holds: RefCell<VecDeque<Answer>>,
    pub(super) flows: RefCell<VecDeque<Flow>>,
    /// On our end of connections to servers.
    server_fault: Fault,
    outbox_wanted: bool,
    delivered: RefCell<HashSet<Uuid>>,
    begun: RefCell<HashSet<Uuid>>,
    ends: RefCell<HashMap<Uuid, Vec<Hook>>>,
}

impl Stage {
    pub(super) fn new(
        client: Pipe,
        dials: VecDeque<Dial>,
        server_fault: Fault,
        outbox_wanted: bool,
    ) -> Rc<Self> {
        Rc::new(Self {
            client: RefCell::new(FarEnd::new(client, None)),
            servers: RefCell::default(),
            dials: RefCell::new(dials),
            acts: RefCell::default(),
            acts_done: Cell::new(0),
            holds: RefCell::default(),
            flows: RefCell::default(),
            server_fault,
            outbox_wanted,
            delivered: RefCell::default(),
            begun: RefCell::default(),
            ends: RefCell::default(),
        })
    }

    /// Takes what has reached the far ends.
    pub(super) fn drain(&self) {
        let acts = self.acts_done.get();
        self.client.borrow_mut().drain(acts);
        self.servers.borrow_mut().iter_mut().for_each(|server| server.drain(acts));
    }

    fn act(&self, act: Act) {
        // what was sent before comes before
        self.drain();
        let number = self.acts_done.get();
        assert!(number < ACTS_MAX, "the session goes round in a circle: {act:?}");
        self.acts_done.set(number + 1);
        self.acts.borrow_mut().push_back((number, act));
    }

    /// Writes the next piece of every peer; whether there was one.
    pub(super) fn send_pieces(&self, most: usize) -> bool {
        let mut sent = self.client.borrow_mut().send_piece(most);
        for server in self.servers.borrow_mut().iter_mut() {
            sent |= server.send_piece(most);
        }
        sent
    }

    /// A peer's end; the server is the one of the script's latest connection.
    pub(super) fn with<R>(&self, peer: Peer, server: usize, run: impl FnOnce(&mut FarEnd) -> R) -> Option<R> {
        match peer {
            Peer::Client => Some(run(&mut self.client.borrow_mut())),
            Peer::Server => self.servers.borrow_mut().get_mut(server).map(run),
        }
    }

    /// The earliest moment of bytes that are not accounted for.
    pub(super) fn unread_since(&self) -> Option<usize> {
        let servers = self.servers.borrow();
        let ends = servers.iter().filter_map(FarEnd::unread_since);
        ends.chain(self.client.borrow().unread_since()).min()
    }

    pub(super) fn dial(&self, to: SocketAddr) -> io::Result<Stream> {
        self.act(Act::Connects(to));
        let tls = match self.dials.borrow_mut().pop_front() {
            Some(Dial::Connected) => None,
            Some(Dial::Secure(handshake)) => Some(handshake.begin()),
            Some(Dial::Failed(kind)) => return Err(kind.into()),
            Some(Dial::Hangs) => return Err(io::ErrorKind::WouldBlock.into()),
            None => return Err(io::Error::other("the script has no connection here")),
        };
        let (near, far) = Pipe::pair();
        let mut servers = self.servers.borrow_mut();
        servers.push(FarEnd::new(far, tls));
        let near = near.with_local_addr(addr(&format!("192.0.2.1:{}", 40000 + servers.len())));
        Ok(near.with_fault(self.server_fault.clone()).into())
    }

    /// Records hooks, and keeps account of flows that begin and end.
    pub(super) fn recorder(self: &Rc<Self>, wants: Hooks) -> Listener {
        let stage = self.clone();
        Listener::new(wants, move |hook, subject| {
            stage.account_for(hook, &subject);
            stage.act(Act::Hook(hook));
            Flowed::Continue
        })
    }

    fn account_for(&self, hook: Hook, subject: &Subject<'_>) {
        let id = match subject {
            Subject::Http(flow) => flow.meta.id,
            Subject::Tcp(flow) => flow.meta.id,
            _ => return,
        };
        match hook {
            Hook::Requestheaders | Hook::TcpStart => {
                assert!(self.begun.borrow_mut().insert(id), "{} ran twice for one flow", hook.name());
            }
            Hook::Response | Hook::Error | Hook::TcpEnd | Hook::TcpError => {
                let mut ends = self.ends.borrow_mut();
                let ends = ends.entry(id).or_default();
                ends.push(hook);
                assert!(ends.len() == 1, "a flow ended more than once: {ends:?}");
            }
            _ => {}
        }
    }

    /// Holds whatever comes by.
    pub(super) fn holder(self: &Rc<Self>, wants: Hooks) -> Listener {
        let stage = self.clone();
        Listener::new(wants, move |_, _| {
            let (answer, ticket) = hold();
            stage.holds.borrow_mut().push_back(answer);
            Flowed::Hold(ticket)
        })
    }

    /// Drops what is not accounted for.
    pub(super) fn forget(&self) {
        self.acts.borrow_mut().clear();
        self.client.borrow_mut().account(usize::MAX);
        for server in self.servers.borrow_mut().iter_mut() {
            server.account(usize::MAX);
        }
    }

    /// Every flow that began must have been delivered once the session is over.
    pub(super) fn check_flows(&self) {
        if !self.outbox_wanted {
            return;
        }
        for id in self.begun.borrow().iter() {
            assert!(self.delivered.borrow().contains(id), "a flow began and was never delivered");
        }
    }
}

/// Where the session's flows go.
pub(super) struct StageOutbox(pub(super) Rc<Stage>);

impl Outbox for StageOutbox {
    fn wanted(&self) -> bool {
        self.0.outbox_wanted
    }

    fn deliver(&self, flow: Flow) {
        let meta = flow.meta();
        assert!(self.0.outbox_wanted || meta.error.is_some() || !meta.live, "a finished flow is not live");
        assert!(!meta.live, "a delivered flow is not live");
        assert!(self.0.delivered.borrow_mut().insert(meta.id), "a flow was delivered twice");
        if let Flow::Http(http) = &flow
            && http.meta.error.is_none()
        {
            let response = http.response.as_ref().expect("a flow without error has a response");
            assert!(response.timestamp_end.is_some(), "a flow without error has a whole response");
        }
        self.0.flows.borrow_mut().push_back(flow);
    }
}
