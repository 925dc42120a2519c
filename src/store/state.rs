//! A flow as one value, and back: what files hold, what is compared to see whether somebody changed it, and what it
//! is put back to.

use thiserror::Error;

use super::flowfile::{FlowReader, ReadError, meta_value, write_flow_ref};
use super::tnetstring as tnet;
use crate::flow::{DnsFlow, Flow, FlowMeta, FlowRef, HttpFlow, MetaValue, TcpFlow, UdpFlow};

/// A value that is no state of this flow.
#[derive(Debug, Error)]
pub enum StateError {
    /// It is no flow.
    #[error("no state of a flow: {0}")]
    Read(#[from] ReadError),
    /// It is a flow of another kind.
    #[error("the state is one of another kind of flow than {0}")]
    Kind(&'static str),
    /// The flow cannot be a value: its metadata are too deep, or too large.
    #[error("the flow cannot be written: {0}")]
    Write(String),
}

/// A flow that can be taken apart and put together again.
///
/// The value is the dict of a flow file, keys and types as there. Whether a flow is [live](FlowMeta::live) or killed
/// is no part of it.
pub trait State: Sized {
    /// The flow, whichever it is.
    fn as_flow(&self) -> FlowRef<'_>;
    /// What every flow has, to be changed.
    fn flow_meta_mut(&mut self) -> &mut FlowMeta;
    /// Takes the contents of a flow of the same kind; a flow of another kind changes nothing and gives `false`.
    fn take_contents(&mut self, flow: Flow) -> bool;

    /// Everything the flow holds, as one value.
    ///
    /// # Errors
    /// Its metadata are deeper or larger than can be read again.
    fn get_state(&self) -> Result<MetaValue, StateError> {
        let mut out = Vec::new();
        write_flow_ref(self.as_flow(), &mut out);
        let (node, _) = tnet::parse(&out).map_err(|error| StateError::Write(error.to_string()))?;
        meta_value::decode(&node).map_err(|at| StateError::Write(format!("byte {at}")))
    }

    /// Makes the flow what the value says.
    ///
    /// # Errors
    /// The value is no flow, or one of another kind; nothing is changed then.
    fn set_state(&mut self, state: &MetaValue) -> Result<(), StateError> {
        let mut out = Vec::new();
        meta_value::write(state, &mut out);
        let read = FlowReader::new(&out[..]).next();
        let mut flow = read.unwrap_or(Err(ReadError::NotAFlow { offset: 0 }))?;
        flow.meta_mut().live = self.as_flow().meta().live;
        let kind = self.as_flow().kind();
        if self.take_contents(flow) { Ok(()) } else { Err(StateError::Kind(kind)) }
    }

    /// Keeps the flow as it is now, to be put back to it. The first backup stays.
    ///
    /// # Errors
    /// As [`get_state`](Self::get_state).
    fn backup(&mut self) -> Result<(), StateError> {
        if self.as_flow().meta().backup.is_none() {
            let state = self.get_state()?;
            self.flow_meta_mut().backup = Some(Box::new(state));
        }
        Ok(())
    }

    /// Puts the flow back to its backup, which is gone then. Without a backup nothing happens.
    ///
    /// # Errors
    /// As [`set_state`](Self::set_state): a backup that came from a file may be anything.
    fn revert(&mut self) -> Result<(), StateError> {
        let Some(backup) = self.as_flow().meta().backup.clone() else { return Ok(()) };
        self.set_state(&backup)?;
        self.flow_meta_mut().backup = None;
        Ok(())
    }

    /// Somebody changed the flow since its backup.
    fn modified(&self) -> bool {
        let Some(backup) = &self.as_flow().meta().backup else { return false };
        !self.get_state().is_ok_and(|state| is_same_but_for_backups(&state, backup))
    }
}

fn is_same_but_for_backups(a: &MetaValue, b: &MetaValue) -> bool {
    let (MetaValue::Dict(a), MetaValue::Dict(b)) = (a, b) else { return false };
    let contents = |(key, _): &&(String, MetaValue)| key != "backup";
    a.iter().filter(contents).eq(b.iter().filter(contents))
}

macro_rules! state {
    ($kind:ty, $variant:ident) => {
        impl State for $kind {
            fn as_flow(&self) -> FlowRef<'_> {
                self.into()
            }

            fn flow_meta_mut(&mut self) -> &mut FlowMeta {
                &mut self.meta
            }

            fn take_contents(&mut self, flow: Flow) -> bool {
                let Flow::$variant(flow) = flow else { return false };
                *self = Self { killed: self.killed, ..*flow };
                true
            }
        }
    };
}

state!(HttpFlow, Http);
state!(TcpFlow, Tcp);
state!(UdpFlow, Udp);
state!(DnsFlow, Dns);

impl State for Flow {
    fn as_flow(&self) -> FlowRef<'_> {
        self.into()
    }

    fn flow_meta_mut(&mut self) -> &mut FlowMeta {
        self.meta_mut()
    }

    fn take_contents(&mut self, flow: Flow) -> bool {
        match self {
            Flow::Http(held) => held.take_contents(flow),
            Flow::Tcp(held) => held.take_contents(flow),
            Flow::Udp(held) => held.take_contents(flow),
            Flow::Dns(held) => held.take_contents(flow),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::flow::{DnsMessage, Headers, Message, Request, Response};

    fn http() -> HttpFlow {
        let meta = FlowMeta::new(Arc::default(), Arc::default(), 1.0);
        let request = Request::make("GET", "http://a.test/", b"", Headers::default(), 1.0).expect("a URL");
        let mut flow = HttpFlow::new(meta, request);
        flow.response = Some(Response::make(200, b"old", Headers::default(), 2.0));
        flow.meta.note("key", MetaValue::List(vec![MetaValue::Int(1), MetaValue::Bytes(vec![0])]));
        flow
    }

    fn every_kind() -> Vec<Flow> {
        let meta = || FlowMeta::new(Arc::default(), Arc::default(), 1.0);
        vec![
            Flow::Http(Box::new(http())),
            Flow::Tcp(Box::new(TcpFlow::new(meta()))),
            Flow::Udp(Box::new(UdpFlow::new(meta()))),
            Flow::Dns(Box::new(DnsFlow::new(meta(), DnsMessage::default()))),
        ]
    }

    #[test]
    fn every_flow_comes_back_from_its_state() {
        for mut flow in every_kind() {
            let state = flow.get_state().expect("a state");
            flow.meta_mut().comment = "changed".into();
            flow.set_state(&state).expect("its own state");
            assert_eq!(flow.get_state().expect("a state"), state);
            assert_eq!(flow.meta().comment, "");
            assert!(flow.meta().live, "being live is no state");
        }
    }

    #[test]
    fn a_flow_can_be_changed_and_put_back() {
        let mut flow = http();
        assert!(!flow.modified());
        flow.revert().expect("nothing to do");
        flow.backup().expect("a state");
        assert!(!flow.modified());
        flow.response.as_mut().expect("there").set_content(Some(b"new"));
        assert!(flow.modified());
        flow.backup().expect("the first one stays");
        flow.revert().expect("its own state");
        assert_eq!(flow.response.as_ref().and_then(|r| r.content.as_deref()), Some(&b"old"[..]));
        assert!(flow.meta.backup.is_none() && !flow.modified());
    }

    #[test]
    fn what_is_no_state_changes_nothing() {
        let mut flow = http();
        let before = flow.get_state().expect("a state");
        let others = every_kind();
        for state in
            [&MetaValue::Null, &MetaValue::Dict(Vec::new()), &others[1].get_state().expect("a state")]
        {
            assert!(flow.set_state(state).is_err());
        }
        assert_eq!(flow.get_state().expect("a state"), before);
        flow.meta.backup = Some(Box::new(MetaValue::Int(1)));
        assert!(flow.revert().is_err() && flow.modified());
    }
}
