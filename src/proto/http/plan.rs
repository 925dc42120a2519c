//! The plan for a body: collected for whoever may change it, streamed past them, or streamed through a function.

use super::exchange::Exchange;
use super::tape::BodyTape;
use crate::flow::{BodyStream, BodyTransform, Headers, MetaValue};
use crate::hooks::Hook;
use crate::proto::budget::Charge;
use crate::proto::session::count;

/// What becomes of a body.
#[derive(Debug)]
pub enum Plan {
    /// All of it is gathered, then shown, then sent.
    Collect(Gathered),
    /// It passes as it comes.
    Stream,
    /// It passes piece by piece, each through a function of an addon.
    Through(BodyTransform),
    /// An addon must see it, and cannot: the reason, for the client.
    Refuse(String),
}

/// Where a message's end is, as far as plans go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// It has no body.
    Nothing,
    /// That many bytes.
    Known(u64),
    /// Nobody knows yet.
    Open,
}

/// A body while it is being collected, and what it may grow to.
#[derive(Debug)]
pub struct Gathered {
    /// So far.
    pub data: Vec<u8>,
    charge: Charge,
    stream_above: u64,
    collect_max: usize,
}

/// Why collecting stops before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is larger than `stream_large_bodies`.
    Large,
    /// It does not fit into `body_collect_max` or `collect_budget`.
    Overflow,
}

impl Gathered {
    /// Takes one more piece.
    ///
    /// # Errors
    /// The piece is taken, but no more may follow.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), Stop> {
        self.data.extend_from_slice(piece);
        if self.data.len() as u64 > self.stream_above {
            return Err(Stop::Large);
        }
        if self.data.len() > self.collect_max || !self.charge.grow(piece.len()) {
            return Err(Stop::Overflow);
        }
        Ok(())
    }

    /// The body, and what it holds of the budget while its flow is under way.
    pub fn into_parts(self) -> (Vec<u8>, Charge) {
        (self.data, self.charge)
    }
}

impl Exchange {
    /// What to do with the body of the request (at [`Hook::Request`]) or of the response ([`Hook::Response`]),
    /// now that addons have seen its head.
    pub fn plan(&mut self, hook: Hook, size: Size) -> Plan {
        let wanted = self.wants().contains(hook);
        let Some((headers, stream)) = self.message(hook) else { return Plan::Stream };
        match stream {
            BodyStream::Pass => return Plan::Stream,
            BodyStream::Through(_) if size == Size::Nothing => return Plan::Stream,
            BodyStream::Through(_) => {
                return match std::mem::replace(stream, BodyStream::Pass) {
                    BodyStream::Through(transform) => Plan::Through(transform),
                    BodyStream::Auto | BodyStream::Pass => Plan::Stream,
                };
            }
            BodyStream::Auto => {}
        }
        if !wanted || is_endless(headers, hook) {
            return Plan::Stream;
        }
        let config = &self.services().config;
        let known = if let Size::Known(length) = size { length } else { 0 };
        if config.stream_large_bodies.is_some_and(|large| known > large) {
            return Plan::Stream;
        }
        if known > config.body_collect_max as u64 {
            return match self.overflowed(hook) {
                Ok(()) => Plan::Stream,
                Err(reason) => Plan::Refuse(reason),
            };
        }
        Plan::Collect(Gathered {
            data: Vec::new(),
            charge: Charge::on(&self.services().collected_bodies),
            stream_above: config.stream_large_bodies.unwrap_or(u64::MAX),
            collect_max: config.body_collect_max,
        })
    }

    /// A body that addons want cannot be collected: it passes them by, which is said, counted and noted.
    ///
    /// # Errors
    /// `collect_overflow=refuse`: the reason, for the client.
    pub fn overflowed(&mut self, hook: Hook) -> Result<(), String> {
        let side = side_of(hook);
        let services = self.services().clone();
        if services.config.collect_overflow_refuse {
            return Err(format!(
                "the {side}'s body does not fit into body_collect_max or collect_budget, and collect_overflow=refuse"
            ));
        }
        count(&services.counters.bodies_not_collected);
        for addon in services.chain.not_warned(hook) {
            tracing::warn!(
                addon,
                "a {side}'s body does not fit into body_collect_max or collect_budget: it is streamed, and the addon does not see it (said once)"
            );
        }
        if let Some(flow) = self.flow() {
            let mut sides = match flow.meta.noted("streamed") {
                Some(MetaValue::List(sides)) => sides.clone(),
                _ => Vec::new(),
            };
            sides.push(MetaValue::Text(side.to_owned()));
            flow.meta.note("streamed", MetaValue::List(sides));
        }
        Ok(())
    }

    /// A tape for a body that is streamed.
    pub fn tape(&mut self, hook: Hook, size: Size) -> BodyTape {
        let Some((_, stream)) = self.message(hook) else { return BodyTape::counting() };
        let asked_for = !matches!(stream, BodyStream::Auto) && size != Size::Nothing;
        let services = self.services();
        let config = &services.config;
        if config.store_streamed_bodies {
            return BodyTape::keeping(usize::MAX, &services.kept_bodies);
        }
        if asked_for {
            return BodyTape::counting();
        }
        let large = config.stream_large_bodies.and_then(|size| usize::try_from(size).ok());
        BodyTape::keeping(config.flow_body_max.min(large.unwrap_or(usize::MAX)), &services.kept_bodies)
    }

    fn message(&mut self, hook: Hook) -> Option<(&Headers, &mut BodyStream)> {
        let flow = self.flow()?;
        match hook {
            Hook::Request => Some((&flow.request.headers, &mut flow.request.stream)),
            _ => flow.response.as_mut().map(|response| (&response.headers, &mut response.stream)),
        }
    }
}

fn side_of(hook: Hook) -> &'static str {
    if hook == Hook::Request { "request" } else { "response" }
}

/// Bodies that are conversations: their pieces are waited for one by one.
fn is_endless(headers: &Headers, hook: Hook) -> bool {
    let Some(value) = headers.first("content-type") else { return false };
    let starts = |with: &[u8]| value.get(..with.len()).is_some_and(|got| got.eq_ignore_ascii_case(with));
    starts(b"application/grpc") || hook == Hook::Response && starts(b"text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::budget::Budget;

    fn gathered(stream_above: u64, collect_max: usize, budget: usize) -> Gathered {
        Gathered { data: Vec::new(), charge: Charge::on(&Budget::new(budget)), stream_above, collect_max }
    }

    #[test]
    fn collecting_stops_at_each_of_its_limits() {
        assert_eq!(gathered(3, 10, 10).take(b"abcd"), Err(Stop::Large));
        assert_eq!(gathered(10, 3, 10).take(b"abcd"), Err(Stop::Overflow));
        assert_eq!(gathered(10, 10, 3).take(b"abcd"), Err(Stop::Overflow));
        assert_eq!(gathered(4, 4, 4).take(b"abcd"), Ok(()));
    }

    #[test]
    fn what_was_taken_before_the_stop_is_not_lost() {
        let mut body = gathered(u64::MAX, 3, 10);
        assert_eq!(body.take(b"ab"), Ok(()));
        assert_eq!(body.take(b"cd"), Err(Stop::Overflow));
        assert_eq!(body.into_parts().0, b"abcd");
    }

    #[test]
    fn event_streams_and_grpc_are_conversations() {
        for (value, hook, endless) in [
            ("text/event-stream", Hook::Response, true),
            ("Text/Event-Stream; charset=utf-8", Hook::Response, true),
            ("text/event-stream", Hook::Request, false),
            ("application/grpc+proto", Hook::Request, true),
            ("application/grpc-web", Hook::Response, true),
            ("application/json", Hook::Response, false),
            ("text", Hook::Response, false),
        ] {
            let headers = Headers::from_pairs([("Content-Type", value)]);
            assert_eq!(is_endless(&headers, hook), endless, "{value}");
        }
    }
}
