//! What happened on a core, counted where it happens: plain cells, added up by whoever asks.

use std::cell::Cell;

use crate::connect::{Failure, Refusal};
use crate::flow::{Side, TlsVersion};

/// Adds one.
pub fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// A name and a value of a metric's series.
pub type Label = (&'static str, &'static str);

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident $(=> $family:literal [$($label:ident = $value:literal),*])?,)+) => {
        /// What happened on this core, counted from its start.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Cell<u64>,)+
            /// HTTP requests that are over.
            pub answered: Answered,
            /// Handshakes, done and failed.
            pub handshakes: Handshakes,
            /// Connections to servers that failed.
            pub connect_failures: ConnectFailures,
            /// HTTP exchanges and raw conversations under way.
            pub under_way: UnderWay,
            /// How long requests took, from head to end.
            pub request_time: Histogram,
            /// How long it took to connect to servers, names and all.
            pub connect_time: Histogram,
            /// How long handshakes with clients took.
            pub client_handshake_time: Histogram,
            /// How long handshakes with servers took.
            pub server_handshake_time: Histogram,
        }

        impl Counters {
            /// The plain ones' names and values.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)+]
            }

            fn each_plain(&self, say: &mut dyn FnMut(&'static str, &[Label], u64)) {
                $($(say($family, &[$((stringify!($label), $value)),*], self.$name.get());)?)+
            }
        }
    };
}

counters! {
    /// Connections taken.
    connections,
    /// Connections closed at once because too many were open.
    connections_refused => "ringtap_connections_refused_total" [reason = "limit"],
    /// Clients that may not use an explicit mode.
    clients_refused => "ringtap_connections_refused_total" [reason = "client"],
    /// Direct hits on a transparent listener.
    direct_refused => "ringtap_connections_refused_total" [reason = "not_redirected"],
    /// Connections that came back to us.
    loops_refused => "ringtap_loop_refused_total" [],
    /// Destinations that may not be reached.
    destinations_refused => "ringtap_destinations_refused_total" [],
    /// Connections that could not be accepted for want of descriptors.
    accept_no_descriptors => "ringtap_accept_errors_total" [reason = "descriptors"],
    /// Connections that could not be accepted, for other reasons.
    accept_errors => "ringtap_accept_errors_total" [reason = "other"],
    /// HTTP requests.
    requests,
    /// Of those, the ones that were answered whole: by a server, an addon, or a tunnel.
    responses,
    /// Of those, the ones that were not: the flow has an error.
    request_errors,
    /// Bodies that addons wanted and did not see: too long to be collected.
    bodies_not_collected,
    /// Handshakes done with clients.
    tls_client_established,
    /// Handshakes with clients that failed.
    tls_client_failed,
    /// Of the handshakes done with clients, resumed ones.
    tls_client_resumed,
    /// Handshakes done with servers.
    tls_server_established,
    /// Handshakes with servers that failed.
    tls_server_failed,
    /// Of the handshakes done with servers, resumed ones.
    tls_server_resumed,
    /// TLS connections that were intercepted.
    tls_bumped => "ringtap_decisions_total" [action = "bump"],
    /// TLS connections that were relayed untouched.
    tls_spliced => "ringtap_decisions_total" [action = "splice"],
    /// Connections to servers.
    server_connections => "ringtap_upstream_connections_total" [],
    /// Connections to servers that failed.
    server_connect_errors,
    /// Conversations that were relayed as raw TCP.
    tcp_conversations => "ringtap_tcp_conversations_total" [],
}

impl Counters {
    /// Says every series: the metric, its labels, and the value.
    pub fn each(&self, say: &mut dyn FnMut(&'static str, &[Label], u64)) {
        self.each_plain(say);
        self.answered.each(say);
        self.handshakes.each(say);
        for (failure, counter) in Failure::ALL.iter().zip(&self.connect_failures.0) {
            say("ringtap_upstream_connect_errors_total", &[("reason", failure.as_str())], counter.get());
        }
        for (kind, counter) in [("http", &self.under_way.http), ("tcp", &self.under_way.tcp)] {
            say("ringtap_flows_under_way", &[("type", kind)], counter.get());
        }
    }

    /// Every histogram: the metric, its labels, and the values.
    pub fn histograms(&self) -> [(&'static str, &'static [Label], &Histogram); 4] {
        [
            ("ringtap_request_duration_seconds", &[], &self.request_time),
            ("ringtap_upstream_connect_seconds", &[], &self.connect_time),
            ("ringtap_tls_handshake_seconds", &[("side", "client")], &self.client_handshake_time),
            ("ringtap_tls_handshake_seconds", &[("side", "server")], &self.server_handshake_time),
        ]
    }

    /// A connection to a server failed.
    pub fn connect_failed(&self, failure: Failure) {
        count(&self.connect_failures.0[failure as usize]);
    }

    /// A client, or where it wanted to go, was refused.
    pub fn refused(&self, refusal: &Refusal) {
        count(match refusal {
            Refusal::Loop(_) | Refusal::Reentry(_) | Refusal::Nested { .. } => &self.loops_refused,
            Refusal::Own(_) | Refusal::Destination { .. } => &self.destinations_refused,
            Refusal::Client(_) | Refusal::GlobalClient(_) | Refusal::PrivateClient(_) => {
                &self.clients_refused
            }
        });
    }
}

/// Failed connections to servers, by [`Failure`].
#[derive(Debug, Default)]
pub struct ConnectFailures([Cell<u64>; Failure::ALL.len()]);

/// What is under way now.
#[derive(Debug, Default)]
pub struct UnderWay {
    /// HTTP exchanges.
    pub http: Cell<u64>,
    /// Raw conversations.
    pub tcp: Cell<u64>,
}

/// HTTP's versions on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpProto {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

const PROTOS: [&str; 2] = ["http/1", "http/2"];
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "other"];
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// A method as metrics know it: one of RFC 9110 §9 and RFC 5789, or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MethodLabel(u8);

impl MethodLabel {
    /// Of a request's method.
    pub fn of(method: &[u8]) -> Self {
        let found = METHODS[..METHODS.len() - 1].iter().position(|name| name.as_bytes() == method);
        Self(u8::try_from(found.unwrap_or(METHODS.len() - 1)).unwrap_or_default())
    }
}

/// HTTP requests that are over, by what became of them.
#[derive(Debug)]
pub struct Answered([Cell<u64>; PROTOS.len() * METHODS.len() * CLASSES.len()]);

impl Default for Answered {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Cell::new(0)))
    }
}

impl Answered {
    /// A request is over; `status` is what the client was answered, 0 if nothing.
    pub fn count(&self, proto: HttpProto, method: MethodLabel, status: u16) {
        let class = usize::from(status / 100);
        let class = if class < CLASSES.len() { class } else { 0 };
        count(&self.0[(proto as usize * METHODS.len() + usize::from(method.0)) * CLASSES.len() + class]);
    }

    /// How many were answered with nothing, 1xx, 2xx and so on.
    pub fn by_class(&self) -> [u64; CLASSES.len()] {
        let of_class = |class: usize| self.0.iter().skip(class).step_by(CLASSES.len());
        std::array::from_fn(|class| of_class(class).map(Cell::get).sum())
    }

    fn each(&self, say: &mut dyn FnMut(&'static str, &[Label], u64)) {
        for (index, counter) in self.0.iter().enumerate().filter(|(_, counter)| counter.get() > 0) {
            let (rest, class) = (index / CLASSES.len(), index % CLASSES.len());
            let labels = [
                ("proto", PROTOS[rest / METHODS.len()]),
                ("method", METHODS[rest % METHODS.len()]),
                ("code_class", CLASSES[class]),
            ];
            say("ringtap_http_requests_total", &labels, counter.get());
        }
    }
}

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// The side that checks does not trust the certificate: the client ours, or we the server's.
    Untrusted,
    /// The peer gave up with an alert.
    Alert,
    /// The peer closed the connection, or it broke.
    Closed,
    /// It did not end in time.
    Timeout,
    /// No version, suite or application protocol in common.
    Incompatible,
    /// What the peer sent is no proper TLS.
    Malformed,
    /// A fault of ours.
    Internal,
}

const SIDES: [&str; 2] = ["client", "server"];
const RESULTS: [&str; 2] = ["full", "resumed"];
const VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];
const ALPNS: [&str; 4] = ["none", "http/1.1", "h2", "other"];
const FAILURES: [&str; 7] =
    ["untrusted", "alert", "closed", "timeout", "incompatible", "malformed", "internal"];

/// TLS handshakes, done and failed.
#[derive(Debug)]
pub struct Handshakes {
    done: [Cell<u64>; SIDES.len() * RESULTS.len() * VERSIONS.len() * ALPNS.len()],
    failed: [Cell<u64>; SIDES.len() * FAILURES.len()],
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { done: std::array::from_fn(|_| Cell::new(0)), failed: std::array::from_fn(|_| Cell::new(0)) }
    }
}

impl Handshakes {
    /// One is done, with the peer on that side.
    pub fn done(&self, side: Side, resumed: bool, version: Option<TlsVersion>, alpn: &[u8]) {
        let alpn = match alpn {
            b"" => 0,
            b"http/1.1" => 1,
            b"h2" => 2,
            _ => 3,
        };
        let version = usize::from(version != Some(TlsVersion::Tls12));
        let kind = at(side) * RESULTS.len() + usize::from(resumed);
        count(&self.done[(kind * VERSIONS.len() + version) * ALPNS.len() + alpn]);
    }

    /// One failed.
    pub fn failed(&self, side: Side, why: HandshakeFailure) {
        count(&self.failed[at(side) * FAILURES.len() + why as usize]);
    }

    fn each(&self, say: &mut dyn FnMut(&'static str, &[Label], u64)) {
        for (index, counter) in self.done.iter().enumerate().filter(|(_, counter)| counter.get() > 0) {
            let (rest, alpn) = (index / ALPNS.len(), index % ALPNS.len());
            let (kind, version) = (rest / VERSIONS.len(), rest % VERSIONS.len());
            let labels = [
                ("side", SIDES[kind / RESULTS.len()]),
                ("result", RESULTS[kind % RESULTS.len()]),
                ("reason", ""),
                ("version", VERSIONS[version]),
                ("alpn", ALPNS[alpn]),
            ];
            say(HANDSHAKES, &labels, counter.get());
        }
        for (index, counter) in self.failed.iter().enumerate() {
            let labels = [
                ("side", SIDES[index / FAILURES.len()]),
                ("result", "failed"),
                ("reason", FAILURES[index % FAILURES.len()]),
                ("version", ""),
                ("alpn", ""),
            ];
            say(HANDSHAKES, &labels, counter.get());
        }
    }
}

const HANDSHAKES: &str = "ringtap_tls_handshakes_total";

fn at(side: Side) -> usize {
    match side {
        Side::Client => 0,
        Side::Server => 1,
    }
}

/// Upper bounds of a histogram's buckets, in seconds; the last one has none.
pub const BOUNDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Cell<u64>; BOUNDS.len() + 1],
    sum_us: Cell<u64>,
}

impl Histogram {
    /// It took so many microseconds.
    pub fn record_us(&self, took_us: u64) {
        let seconds = took_us as f64 / 1e6;
        count(&self.buckets[BOUNDS.partition_point(|bound| *bound < seconds)]);
        self.sum_us.set(self.sum_us.get().saturating_add(took_us));
    }

    /// For each bucket, how many lie at or below its bound (the last: all), and the sum in seconds.
    pub fn cumulated(&self) -> ([u64; BOUNDS.len() + 1], f64) {
        let mut so_far = 0;
        let counts = self.buckets.each_ref().map(|bucket| {
            so_far += bucket.get();
            so_far
        });
        (counts, self.sum_us.get() as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(counters: &Counters, wanted: &str) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        counters.each(&mut |family, labels, value| {
            if family == wanted && value > 0 {
                let labels: Vec<_> = labels.iter().filter(|label| !label.1.is_empty()).collect();
                let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                found.push((labels.join(" "), value));
            }
        });
        found
    }

    #[test]
    fn requests_are_counted_by_protocol_method_and_class() {
        let counters = Counters::default();
        for (method, status) in
            [(&b"GET"[..], 200), (b"GET", 204), (b"PATCH", 404), (b"BREW", 418), (b"get", 999)]
        {
            counters.answered.count(HttpProto::Http1, MethodLabel::of(method), status);
        }
        counters.answered.count(HttpProto::Http2, MethodLabel::of(b"CONNECT"), 0);
        let expected = [
            ("proto=http/1 method=GET code_class=2xx", 2),
            ("proto=http/1 method=PATCH code_class=4xx", 1),
            ("proto=http/1 method=other code_class=none", 1),
            ("proto=http/1 method=other code_class=4xx", 1),
            ("proto=http/2 method=CONNECT code_class=none", 1),
        ];
        let expected: Vec<_> = expected.map(|(labels, value)| (labels.to_owned(), value)).into();
        assert_eq!(said(&counters, "ringtap_http_requests_total"), expected);
        assert_eq!(counters.answered.by_class(), [2, 0, 2, 0, 2, 0]);
    }

    #[test]
    fn handshakes_are_counted_by_side_result_and_reason() {
        let counters = Counters::default();
        counters.handshakes.done(Side::Client, false, Some(TlsVersion::Tls13), b"http/1.1");
        counters.handshakes.done(Side::Server, true, Some(TlsVersion::Tls12), b"");
        counters.handshakes.done(Side::Server, true, Some(TlsVersion::Tls13), b"imap");
        counters.handshakes.failed(Side::Client, HandshakeFailure::Untrusted);
        counters.handshakes.failed(Side::Server, HandshakeFailure::Internal);
        let expected = [
            "side=client result=full version=TLSv1.3 alpn=http/1.1",
            "side=server result=resumed version=TLSv1.2 alpn=none",
            "side=server result=resumed version=TLSv1.3 alpn=other",
            "side=client result=failed reason=untrusted",
            "side=server result=failed reason=internal",
        ];
        assert_eq!(said(&counters, HANDSHAKES), expected.map(|labels| (labels.to_owned(), 1)));
    }

    #[test]
    fn failed_connections_are_counted_by_reason() {
        let counters = Counters::default();
        for (index, failure) in Failure::ALL.iter().enumerate() {
            assert_eq!(*failure as usize, index, "the table of kinds is in their order");
            counters.connect_failed(*failure);
        }
        let found = said(&counters, "ringtap_upstream_connect_errors_total");
        assert_eq!(found.len(), Failure::ALL.len());
        assert!(found.iter().all(|(_, value)| *value == 1), "{found:?}");
    }

    #[test]
    fn a_histogram_counts_what_lies_at_or_below_each_bound() {
        let histogram = Histogram::default();
        for took_us in [0, 1_000, 1_001, 10_000_000, 10_000_001] {
            histogram.record_us(took_us);
        }
        let (counts, sum) = histogram.cumulated();
        assert_eq!((counts[0], counts[1], counts[BOUNDS.len() - 1], counts[BOUNDS.len()]), (2, 3, 4, 5));
        assert!((sum - 20.002_002).abs() < 1e-9, "{sum}");
        assert!(BOUNDS.is_sorted());
    }
}
