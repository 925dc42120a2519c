//! What addons and people do with a flow as a whole: pause, resume, kill, copy.

use thiserror::Error;

use super::{
    DnsFlow, DnsMessage, Error, Flow, FlowMeta, HttpFlow, KILLED_MESSAGE, Request, TcpFlow, UdpFlow,
};

/// Any flow, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum FlowRef<'a> {
    /// One HTTP exchange.
    Http(&'a HttpFlow),
    /// One raw TCP conversation.
    Tcp(&'a TcpFlow),
    /// One UDP conversation.
    Udp(&'a UdpFlow),
    /// One DNS exchange.
    Dns(&'a DnsFlow),
}

impl<'a> From<&'a Flow> for FlowRef<'a> {
    fn from(flow: &'a Flow) -> Self {
        match flow {
            Flow::Http(flow) => FlowRef::Http(flow),
            Flow::Tcp(flow) => FlowRef::Tcp(flow),
            Flow::Udp(flow) => FlowRef::Udp(flow),
            Flow::Dns(flow) => FlowRef::Dns(flow),
        }
    }
}

macro_rules! from {
    ($kind:ty, $variant:ident) => {
        impl<'a> From<&'a $kind> for FlowRef<'a> {
            fn from(flow: &'a $kind) -> Self {
                FlowRef::$variant(flow)
            }
        }
    };
}

from!(HttpFlow, Http);
from!(TcpFlow, Tcp);
from!(UdpFlow, Udp);
from!(DnsFlow, Dns);

impl<'a> FlowRef<'a> {
    /// What every flow has.
    pub fn meta(self) -> &'a FlowMeta {
        match self {
            FlowRef::Http(flow) => &flow.meta,
            FlowRef::Tcp(flow) => &flow.meta,
            FlowRef::Udp(flow) => &flow.meta,
            FlowRef::Dns(flow) => &flow.meta,
        }
    }

    /// The flow's own start, Unix seconds: of its request, or of its client's connection.
    pub fn timestamp_start(self) -> f64 {
        match self {
            FlowRef::Http(flow) => flow.request.timestamp_start,
            FlowRef::Dns(flow) => flow.request.timestamp.unwrap_or(flow.meta.timestamp_created),
            FlowRef::Tcp(_) | FlowRef::Udp(_) => self.meta().client_conn.timestamp_start,
        }
    }

    /// `http`, `tcp`, `udp` or `dns`.
    pub fn kind(self) -> &'static str {
        match self {
            FlowRef::Http(_) => "http",
            FlowRef::Tcp(_) => "tcp",
            FlowRef::Udp(_) => "udp",
            FlowRef::Dns(_) => "dns",
        }
    }
}

/// The flow is over, or was killed before.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the flow cannot be killed: it is over")]
pub struct NotKillable;

impl FlowMeta {
    /// Pauses the flow: it waits after the present hook until it is resumed or killed.
    pub fn intercept(&mut self) {
        self.intercepted = true;
    }

    /// Lets a paused flow go on.
    pub fn resume(&mut self) {
        self.intercepted = false;
    }

    /// The flow is under way and was not killed.
    pub fn killable(&self) -> bool {
        self.live && self.error.as_ref().is_none_or(|error| error.msg != KILLED_MESSAGE)
    }

    fn kill(&mut self, now: f64) -> Result<(), NotKillable> {
        if !self.killable() {
            return Err(NotKillable);
        }
        self.error = Some(Error { msg: KILLED_MESSAGE.into(), timestamp: now });
        self.intercepted = false;
        Ok(())
    }

    /// The same, as a flow of its own: another id, and over.
    fn copy(&self) -> Self {
        Self { id: uuid::Uuid::new_v4(), live: false, ..self.clone() }
    }
}

macro_rules! control {
    ($kind:ty) => {
        impl $kind {
            /// Ends the flow: nothing more of it reaches anybody. `now` is in Unix seconds.
            ///
            /// # Errors
            /// It is over, or was killed before.
            pub fn kill(&mut self, now: f64) -> Result<(), NotKillable> {
                self.meta.kill(now)?;
                self.killed = true;
                Ok(())
            }

            /// A copy with an id of its own that belongs to no connection under way.
            pub fn copy(&self) -> Self {
                Self { meta: self.meta.copy(), killed: false, ..self.clone() }
            }
        }
    };
}

control!(HttpFlow);
control!(TcpFlow);
control!(UdpFlow);
control!(DnsFlow);

impl HttpFlow {
    /// A flow without a response yet.
    pub fn new(meta: FlowMeta, request: Request) -> Self {
        Self { meta, request, response: None, websocket: None, killed: false }
    }
}

impl TcpFlow {
    /// A flow without messages yet.
    pub fn new(meta: FlowMeta) -> Self {
        Self { meta, messages: Vec::new(), killed: false }
    }
}

impl UdpFlow {
    /// A flow without messages yet.
    pub fn new(meta: FlowMeta) -> Self {
        Self { meta, messages: Vec::new(), killed: false }
    }
}

impl DnsFlow {
    /// A flow without a response yet.
    pub fn new(meta: FlowMeta, request: DnsMessage) -> Self {
        Self { meta, request, response: None, killed: false }
    }
}

impl Flow {
    /// Ends the flow: nothing more of it reaches anybody. `now` is in Unix seconds.
    ///
    /// # Errors
    /// It is over, or was killed before.
    pub fn kill(&mut self, now: f64) -> Result<(), NotKillable> {
        match self {
            Flow::Http(flow) => flow.kill(now),
            Flow::Tcp(flow) => flow.kill(now),
            Flow::Udp(flow) => flow.kill(now),
            Flow::Dns(flow) => flow.kill(now),
        }
    }

    /// A copy with an id of its own that belongs to no connection under way.
    pub fn copy(&self) -> Self {
        match self {
            Flow::Http(flow) => Flow::Http(Box::new(flow.copy())),
            Flow::Tcp(flow) => Flow::Tcp(Box::new(flow.copy())),
            Flow::Udp(flow) => Flow::Udp(Box::new(flow.copy())),
            Flow::Dns(flow) => Flow::Dns(Box::new(flow.copy())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn flow() -> TcpFlow {
        TcpFlow::new(FlowMeta::new(Arc::default(), Arc::default(), 1.0))
    }

    #[test]
    fn a_flow_is_killed_once_and_only_while_it_lives() {
        let mut flow = flow();
        flow.meta.intercept();
        assert!(flow.meta.intercepted && flow.meta.killable());
        assert_eq!(flow.kill(7.0), Ok(()));
        assert!(flow.killed && !flow.meta.intercepted && !flow.meta.killable());
        assert_eq!(flow.meta.error, Some(Error { msg: KILLED_MESSAGE.into(), timestamp: 7.0 }));
        assert_eq!(flow.kill(8.0), Err(NotKillable));
        let mut over = self::flow();
        over.meta.live = false;
        assert_eq!(Flow::Tcp(Box::new(over)).kill(8.0), Err(NotKillable));
    }

    #[test]
    fn a_copy_is_a_flow_of_its_own() {
        let mut flow = flow();
        flow.meta.marked = ":default:".into();
        flow.killed = true;
        let copy = flow.copy();
        assert_ne!(copy.meta.id, flow.meta.id);
        assert!(!copy.meta.live && !copy.killed);
        assert_eq!(copy.meta.marked, ":default:");
        let copy = Flow::Tcp(Box::new(flow)).copy();
        assert_eq!((FlowRef::from(&copy).kind(), FlowRef::from(&copy).timestamp_start()), ("tcp", 0.0));
    }
}
