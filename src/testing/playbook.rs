//! The dialogue: who says what, in which order, and which hooks run between.
//!
//! A playbook is written from top to bottom as the conversation goes and played by the real conversation code.
//! Each is played several times: as written (outputs must come exactly where the script has them), with one byte
//! per write of both peers, and with what a peer says ahead of its turn merged into one write. One that needs no
//! hooks is played once more with nobody listening or recording.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::tls::{ClientHandshake, ServerHandshake};
use crate::config::ReverseScheme;
use crate::flow::{Flow, HttpFlow, TcpFlow};
use crate::hooks::{Addon, Hook, Hooks, Subject};
use crate::proto::Way;
use crate::stream::Fault;

/// One end of the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Client,
    /// The one connected to last.
    Server,
}

/// What a connection attempt comes to.
#[derive(Clone, Debug)]
pub(super) enum Dial {
    Connected,
    Secure(ServerHandshake),
    Failed(io::ErrorKind),
    /// Nobody answers.
    Hangs,
}

pub(super) type Edit = Arc<dyn Fn(Subject<'_>) + Send + Sync>;

#[derive(Clone)]
pub(super) enum Step {
    Sends(Peer, Vec<u8>),
    Gets(Peer, Vec<u8>),
    GetsPage(u16, String),
    Closes(Peer),
    /// Without TLS's goodbye.
    Cuts(Peer),
    Resets(Peer),
    SeesEnd(Peer),
    SeesCut(Peer),
    SeesReset(Peer),
    Connects(SocketAddr, Dial),
    Hook(Hook),
    AnswerHold(Option<Edit>),
    Passes(u64),
    Flow(Rc<dyn Fn(&Flow)>),
    NoFlow,
    Whatever,
    /// Clients are asked to come back on a new connection.
    Leaves,
    Drains,
    Killed,
    StartsTls(ClientHandshake),
    TlsIs(Peer, Rc<dyn Fn(&rustls::Connection)>),
    TlsFails(Peer, String),
}

impl Step {
    pub(super) fn is_input(&self) -> bool {
        !matches!(
            self,
            Self::Gets(..)
                | Self::GetsPage(..)
                | Self::SeesEnd(_)
                | Self::SeesCut(_)
                | Self::SeesReset(_)
                | Self::Connects(..)
                | Self::Hook(_)
                | Self::Flow(_)
                | Self::NoFlow
                | Self::Whatever
                | Self::TlsIs(..)
                | Self::TlsFails(..)
        )
    }

    /// Whether what this peer says next may be said before this step.
    pub(super) fn lets_pass(&self, peer: Peer) -> bool {
        let for_all = matches!(self, Self::Gets(Peer::Client, _) | Self::Hook(_));
        let for_client = matches!(self, Self::Gets(Peer::Server, _) | Self::Connects(_, Dial::Connected));
        for_all || peer == Peer::Client && for_client
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = |peer: &Peer| if *peer == Peer::Client { "client" } else { "server" };
        match self {
            Self::Sends(peer, bytes) => write!(f, "{} sends {}", side(peer), shown(bytes)),
            Self::Gets(peer, bytes) => write!(f, "{} gets {}", side(peer), shown(bytes)),
            Self::GetsPage(status, part) => write!(f, "client gets a page: {status}, '{part}'"),
            Self::Closes(peer) => write!(f, "{} closes", side(peer)),
            Self::Cuts(peer) => write!(f, "{} closes without goodbye", side(peer)),
            Self::Resets(peer) => write!(f, "{} resets", side(peer)),
            Self::SeesEnd(peer) => write!(f, "{} sees the end", side(peer)),
            Self::SeesCut(peer) => write!(f, "{} sees a cut", side(peer)),
            Self::SeesReset(peer) => write!(f, "{} sees a reset", side(peer)),
            Self::Connects(addr, dial) => write!(f, "connects to {addr}: {dial:?}"),
            Self::Hook(hook) => write!(f, "hook {}", hook.name()),
            Self::AnswerHold(_) => f.write_str("hold is answered"),
            Self::Passes(ms) => write!(f, "{ms} ms pass"),
            Self::Flow(_) => f.write_str("flow is delivered"),
            Self::NoFlow => f.write_str("no flow is delivered"),
            Self::Whatever => f.write_str("whatever comes"),
            Self::Leaves => f.write_str("clients are asked to come back"),
            Self::Drains => f.write_str("draining starts"),
            Self::Killed => f.write_str("session is killed"),
            Self::StartsTls(_) => f.write_str("client starts TLS"),
            Self::TlsIs(peer, _) => write!(f, "{}'s TLS is as it should be", side(peer)),
            Self::TlsFails(peer, part) => write!(f, "{}'s TLS fails: '{part}'", side(peer)),
        }
    }
}

/// Bytes as a person reads them, long ones shortened.
pub(super) fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 300;
    let text = bytes[..bytes.len().min(SHOWN)].escape_ascii();
    match bytes.len() {
        0..=SHOWN => format!("\"{text}\""),
        len => format!("\"{text}\"... ({len} bytes)"),
    }
}

pub(super) type MakeAddon = Rc<dyn Fn() -> Box<dyn Addon>>;

/// What a playbook's chain holds besides the recorder.
#[derive(Clone)]
pub(super) enum Extra {
    Addon(MakeAddon),
    Holder(Hooks),
}

/// Where the session is said to be going.
#[derive(Clone)]
pub(super) struct Destination {
    pub(super) way: Way,
    pub(super) address: Option<(String, u16)>,
    pub(super) original: Option<SocketAddr>,
}

/// A dialogue.
#[must_use = "a playbook is to be played"]
pub struct Playbook {
    pub(super) destination: Destination,
    pub(super) options: Vec<String>,
    pub(super) names: Vec<(String, SocketAddr)>,
    pub(super) extras: Vec<Extra>,
    pub(super) wants: Option<Hooks>,
    pub(super) steps: Vec<Step>,
    pub(super) trusts_origin: bool,
    pub(super) only_as_written: bool,
    pub(super) loose: bool,
    /// What goes wrong on our end of a peer's connection.
    pub(super) fault: Option<(Peer, Fault)>,
    played: bool,
}

impl Playbook {
    fn new(way: Way, address: Option<(String, u16)>, original: Option<SocketAddr>) -> Self {
        let names = [
            ("example.com", "93.184.216.34:80"),
            ("example.com", "93.184.216.34:443"),
            ("example.com", "93.184.216.34:8080"),
            ("other.test", "203.0.113.5:80"),
            ("other.test", "203.0.113.5:443"),
        ];
        Self {
            destination: Destination { way, address, original },
            options: Vec::new(),
            names: names.map(|(name, at)| (name.to_owned(), addr(at))).to_vec(),
            extras: Vec::new(),
            wants: None,
            steps: Vec::new(),
            trusts_origin: false,
            only_as_written: false,
            loose: false,
            fault: None,
            played: false,
        }
    }

    /// A redirected client on its way to that address.
    pub fn transparent(to: &str) -> Self {
        let to = addr(to);
        Self::new(Way::Transparent, Some((to.ip().to_string(), to.port())), Some(to))
    }

    /// A client that was told to use a proxy.
    pub fn regular() -> Self {
        Self::new(Way::Proxy, None, None)
    }

    /// A reverse proxy for `scheme://host:port`.
    pub fn reverse(to: &str) -> Self {
        let spec = crate::config::ModeSpec::parse(&format!("reverse:{to}")).expect("a reverse spec");
        match spec.target {
            crate::config::Target::Reverse { scheme, host, port } => {
                Self::new(Way::Reverse(scheme), Some((host, port)), None)
            }
            other => unreachable!("{other:?} is no reverse target"),
        }
    }

    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.push(format!("{name}={value}"));
        self
    }

    /// An addon, made anew for each play; it comes behind the recorder and those added before.
    pub fn addon<A: Addon + 'static>(mut self, make: impl Fn() -> A + 'static) -> Self {
        self.extras.push(Extra::Addon(Rc::new(move || Box::new(make()))));
        self
    }

    /// An addon that changes what that hook is about.
    pub fn edits(self, hook: Hook, edit: impl Fn(Subject<'_>) + 'static) -> Self {
        let edit = Rc::new(edit);
        self.addon(move || {
            let edit = edit.clone();
            super::Listener::new(Hooks::of(&[hook]), move |_, subject| {
                edit(subject);
                crate::hooks::Flowed::Continue
            })
        })
    }

    /// An addon that changes HTTP flows at that hook.
    pub fn edits_http(self, hook: Hook, edit: impl Fn(&mut HttpFlow) + 'static) -> Self {
        self.edits(hook, move |subject| match subject {
            Subject::Http(flow) => edit(flow),
            other => panic!("not about HTTP: {other:?}"),
        })
    }

    /// An addon that changes TCP flows at that hook.
    pub fn edits_tcp(self, hook: Hook, edit: impl Fn(&mut TcpFlow) + 'static) -> Self {
        self.edits(hook, move |subject| match subject {
            Subject::Tcp(flow) => edit(flow),
            other => panic!("not about TCP: {other:?}"),
        })
    }

    /// An addon that holds whatever comes by one of these hooks, until [`answer_hold`](Self::answer_hold).
    pub fn holds(mut self, hooks: &[Hook]) -> Self {
        self.extras.push(Extra::Holder(Hooks::of(hooks)));
        self
    }

    /// The hooks that are recorded; otherwise those that the script names.
    pub fn wants(mut self, hooks: Hooks) -> Self {
        self.wants = Some(hooks);
        self
    }

    /// Servers' certificates of the test's origin CA are believed.
    pub fn trusting_origin(mut self) -> Self {
        self.trusts_origin = true;
        self
    }

    /// What happens depends on the chunks: played once.
    pub fn only_as_written(mut self) -> Self {
        self.only_as_written = true;
        self
    }

    /// Something goes wrong on our end of that peer's connection. The script then says only what peers send: what comes
    /// of it is not compared, but must hold of every session: it ends, each flow ends once, no buffer stays out.
    pub fn with_fault(mut self, peer: Peer, fault: Fault) -> Self {
        self.fault = Some((peer, fault));
        self
    }

    /// Outputs may come before the script asks for them.
    /// Outputs may come before the script asks for them.
    pub fn loosely(mut self) -> Self {
        self.loose = true;
        self
    }

    /// What has come by now does not matter.
    pub fn whatever_came(self) -> Self {
        self.step(Step::Whatever)
    }

    fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub fn client_sends(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Sends(Peer::Client, bytes.as_ref().to_vec()))
    }

    pub fn client_gets(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Gets(Peer::Client, bytes.as_ref().to_vec()))
    }

    /// One of our own pages, and a part of what it says.
    pub fn client_gets_page(self, status: u16, part: &str) -> Self {
        self.step(Step::GetsPage(status, part.to_owned()))
    }

    pub fn server_sends(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Sends(Peer::Server, bytes.as_ref().to_vec()))
    }

    pub fn server_gets(self, bytes: impl AsRef<[u8]>) -> Self {
        self.step(Step::Gets(Peer::Server, bytes.as_ref().to_vec()))
    }

    /// The client ends its direction.
    pub fn client_closes(self) -> Self {
        self.step(Step::Closes(Peer::Client))
    }

    /// The client ends its direction without TLS's goodbye.
    pub fn client_cuts(self) -> Self {
        self.step(Step::Cuts(Peer::Client))
    }

    /// The server ends its direction without TLS's goodbye.
    pub fn server_cuts(self) -> Self {
        self.step(Step::Cuts(Peer::Server))
    }

    pub fn client_resets(self) -> Self {
        self.step(Step::Resets(Peer::Client))
    }

    /// The server ends its direction.
    pub fn server_closes(self) -> Self {
        self.step(Step::Closes(Peer::Server))
    }

    pub fn server_resets(self) -> Self {
        self.step(Step::Resets(Peer::Server))
    }

    pub fn client_sees_end(self) -> Self {
        self.step(Step::SeesEnd(Peer::Client))
    }

    pub fn server_sees_end(self) -> Self {
        self.step(Step::SeesEnd(Peer::Server))
    }

    /// An end without TLS's goodbye.
    pub fn client_sees_cut(self) -> Self {
        self.step(Step::SeesCut(Peer::Client))
    }

    /// An end without TLS's goodbye.
    pub fn server_sees_cut(self) -> Self {
        self.step(Step::SeesCut(Peer::Server))
    }

    pub fn server_sees_reset(self) -> Self {
        self.step(Step::SeesReset(Peer::Server))
    }

    pub fn client_sees_reset(self) -> Self {
        self.step(Step::SeesReset(Peer::Client))
    }

    pub fn connects(self, to: &str) -> Self {
        self.step(Step::Connects(addr(to), Dial::Connected))
    }

    /// The server there speaks TLS.
    pub fn connects_tls(self, to: &str, handshake: ServerHandshake) -> Self {
        self.step(Step::Connects(addr(to), Dial::Secure(handshake)))
    }

    pub fn connect_fails(self, to: &str, kind: io::ErrorKind) -> Self {
        self.step(Step::Connects(addr(to), Dial::Failed(kind)))
    }

    pub fn connect_hangs(self, to: &str) -> Self {
        self.step(Step::Connects(addr(to), Dial::Hangs))
    }

    pub fn hook(self, hook: Hook) -> Self {
        self.step(Step::Hook(hook))
    }

    pub fn answer_hold(self, edit: impl Fn(Subject<'_>) + Send + Sync + 'static) -> Self {
        self.step(Step::AnswerHold(Some(Arc::new(edit))))
    }

    /// The hold is answered with no change.
    pub fn hold_goes_on(self) -> Self {
        self.step(Step::AnswerHold(None))
    }

    pub fn passes(self, ms: u64) -> Self {
        self.step(Step::Passes(ms))
    }

    pub fn flow(self, check: impl Fn(&Flow) + 'static) -> Self {
        self.step(Step::Flow(Rc::new(check)))
    }

    pub fn http_flow(self, check: impl Fn(&HttpFlow) + 'static) -> Self {
        self.flow(move |flow| match flow {
            Flow::Http(flow) => check(flow),
            other => panic!("no HTTP flow: {other:?}"),
        })
    }

    pub fn tcp_flow(self, check: impl Fn(&TcpFlow) + 'static) -> Self {
        self.flow(move |flow| match flow {
            Flow::Tcp(flow) => check(flow),
            other => panic!("no TCP flow: {other:?}"),
        })
    }

    pub fn no_flow(self) -> Self {
        self.step(Step::NoFlow)
    }

    /// From here on clients are asked to come back on a new connection.
    pub fn leaving_is_announced(self) -> Self {
        self.step(Step::Leaves)
    }

    pub fn draining_starts(self) -> Self {
        self.step(Step::Drains)
    }

    /// The session is dropped where it stands, as a person may ask for.
    pub fn session_is_killed(self) -> Self {
        self.step(Step::Killed)
    }

    /// From here on the client speaks inside TLS.
    pub fn client_starts_tls(self, handshake: ClientHandshake) -> Self {
        self.step(Step::StartsTls(handshake))
    }

    pub fn client_tls(self, check: impl Fn(&rustls::Connection) + 'static) -> Self {
        self.step(Step::TlsIs(Peer::Client, Rc::new(check)))
    }

    pub fn server_tls(self, check: impl Fn(&rustls::Connection) + 'static) -> Self {
        self.step(Step::TlsIs(Peer::Server, Rc::new(check)))
    }

    pub fn client_tls_fails(self, part: &str) -> Self {
        self.step(Step::TlsFails(Peer::Client, part.to_owned()))
    }

    pub fn server_tls_fails(self, part: &str) -> Self {
        self.step(Step::TlsFails(Peer::Server, part.to_owned()))
    }

    /// Plays it, in every way it can be played.
    pub fn play(mut self) {
        self.played = true;
        super::play::every_way(&self);
    }

    /// Plays it once, as it is written, with nobody who records flows: what a benchmark times.
    pub fn play_untapped(mut self) {
        self.played = true;
        super::play::untapped(&self);
    }

    /// Whether the way in already says that the server is reached over TLS.
    pub(super) fn reverse_scheme(&self) -> Option<ReverseScheme> {
        match self.destination.way {
            Way::Reverse(scheme) => Some(scheme),
            _ => None,
        }
    }
}

impl Drop for Playbook {
    fn drop(&mut self) {
        assert!(self.played || std::thread::panicking(), "a playbook was written and not played");
    }
}

pub(super) fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address with a port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "not played")]
    fn a_playbook_that_is_not_played_says_so() {
        drop(Playbook::regular().client_sends("GET / HTTP/1.1\r\n\r\n"));
    }

    #[test]
    #[should_panic(expected = "=> client gets \"HTTP/1.1 418")]
    fn a_mismatch_shows_the_step_that_failed() {
        Playbook::regular()
            .client_sends("GET / HTTP/1.1\r\n\r\n")
            .client_gets("HTTP/1.1 418 Teapot\r\n\r\n")
            .play();
    }

    #[test]
    #[should_panic(expected = "more happened")]
    fn what_the_script_does_not_tell_is_a_mismatch() {
        Playbook::regular().client_sends("GET / HTTP/1.1\r\n\r\n").play();
    }
}
