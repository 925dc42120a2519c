//! Samples, each fed whole, byte by byte, at every split and with bytes behind it.

mod bodies;
mod heads;
mod mending;
mod writing;

use super::*;
use crate::proto::codec::Parsed;

/// A small generator of numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below.max(1)
    }

    /// Changes a few bytes: other values, gone, doubled, cut, or one of those that matter.
    fn mutate(&mut self, sample: &[u8]) -> Vec<u8> {
        let mut bytes = sample.to_vec();
        for _ in 0..=self.roll(4) {
            let at = self.roll(bytes.len());
            let special = b"\r\n\0 \t:;,0+-xX/\x7f\x80"[self.roll(16)];
            match self.roll(6) {
                _ if bytes.is_empty() => bytes.push(special),
                0 => bytes[at] = self.roll(256) as u8,
                1 => bytes[at] = special,
                2 => bytes.insert(at, special),
                3 => drop(bytes.remove(at)),
                4 => bytes.insert(at, bytes[at]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        bytes
    }
}

type Verdict<T> = Result<Parsed<T>, HeadError>;
/// Everything a head says, comparable.
type Facts = (String, usize);

fn request_step(
    head: &mut RequestHead,
    progress: &mut HeadProgress,
    bytes: &[u8],
    limits: &HeadLimits,
) -> Verdict<Facts> {
    Ok(match head.parse_into(bytes, progress, limits)? {
        Parsed::Done { consumed, .. } => Parsed::Done { value: (format!("{head:?}"), consumed), consumed },
        Parsed::NeedMore => Parsed::NeedMore,
    })
}

fn response_step(
    head: &mut ResponseHead,
    progress: &mut HeadProgress,
    bytes: &[u8],
    request: RequestFacts,
    limits: &HeadLimits,
) -> Verdict<Facts> {
    Ok(match head.parse_into(bytes, progress, request, limits)? {
        Parsed::Done { consumed, .. } => Parsed::Done { value: (format!("{head:?}"), consumed), consumed },
        Parsed::NeedMore => Parsed::NeedMore,
    })
}

/// Feeds growing prefixes that end at `cuts` and then all of it; the first verdict counts.
fn fed(
    bytes: &[u8],
    cuts: impl Iterator<Item = usize>,
    mut step: impl FnMut(&[u8]) -> Verdict<Facts>,
) -> Verdict<Facts> {
    for cut in cuts {
        match step(&bytes[..cut]) {
            Ok(Parsed::NeedMore) => {}
            verdict => return verdict,
        }
    }
    step(bytes)
}

/// The verdict on a request, the same however it comes.
fn request_with(bytes: &[u8], limits: &HeadLimits) -> Verdict<RequestHead> {
    let start = || {
        let (mut head, mut progress) = (RequestHead::default(), HeadProgress::default());
        move |bytes: &[u8]| request_step(&mut head, &mut progress, bytes, limits)
    };
    let whole = fed(bytes, std::iter::empty(), start());
    assert_eq!(
        fed(bytes, 0..bytes.len(), start()),
        whole,
        "byte by byte: {:?}",
        bytes.escape_ascii().to_string()
    );
    for cut in 0..bytes.len() {
        let split = fed(bytes, std::iter::once(cut), start());
        assert_eq!(split, whole, "cut at {cut}: {:?}", bytes.escape_ascii().to_string());
    }
    if !matches!(whole, Ok(Parsed::NeedMore)) {
        let mut longer = bytes.to_vec();
        longer.extend_from_slice(b"GET /next HTTP/1.1\r\n\r\n\n");
        assert_eq!(fed(&longer, std::iter::empty(), start()), whole, "with bytes behind");
    }
    parse_request_head(bytes, limits)
}

fn request(bytes: impl AsRef<[u8]>) -> Verdict<RequestHead> {
    request_with(bytes.as_ref(), &HeadLimits::default())
}

/// A request that must be fine.
fn good_request(bytes: impl AsRef<[u8]>) -> RequestHead {
    match request(bytes.as_ref()) {
        Ok(Parsed::Done { value, .. }) => value,
        other => panic!("{}: {other:?}", bytes.as_ref().escape_ascii()),
    }
}

/// A request that must be refused.
fn refused_request(bytes: impl AsRef<[u8]>) -> HeadReason {
    match request(bytes.as_ref()) {
        Err(HeadError { side: Side::Client, reason }) => reason,
        other => panic!("{}: {other:?}", bytes.as_ref().escape_ascii()),
    }
}

/// A request with these header lines that must be refused.
fn refused_lines(lines: &str) -> HeadReason {
    refused_request(format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n"))
}

/// The verdict on a response, the same however it comes.
fn response_to(bytes: &[u8], request: RequestFacts) -> Verdict<ResponseHead> {
    let limits = HeadLimits::default();
    let start = || {
        let (mut head, mut progress) = (ResponseHead::default(), HeadProgress::default());
        move |bytes: &[u8]| response_step(&mut head, &mut progress, bytes, request, &limits)
    };
    let whole = fed(bytes, std::iter::empty(), start());
    assert_eq!(
        fed(bytes, 0..bytes.len(), start()),
        whole,
        "byte by byte: {:?}",
        bytes.escape_ascii().to_string()
    );
    for cut in 0..bytes.len() {
        assert_eq!(fed(bytes, std::iter::once(cut), start()), whole, "cut at {cut}");
    }
    if !matches!(whole, Ok(Parsed::NeedMore)) {
        let mut longer = bytes.to_vec();
        longer.extend_from_slice(b"body\r\n\r\n\n");
        assert_eq!(fed(&longer, std::iter::empty(), start()), whole, "with bytes behind");
    }
    parse_response_head(bytes, request, &limits)
}

fn good_response(bytes: impl AsRef<[u8]>) -> ResponseHead {
    good_response_to(bytes, RequestFacts::default())
}

fn good_response_to(bytes: impl AsRef<[u8]>, request: RequestFacts) -> ResponseHead {
    match response_to(bytes.as_ref(), request) {
        Ok(Parsed::Done { value, .. }) => value,
        other => panic!("{}: {other:?}", bytes.as_ref().escape_ascii()),
    }
}

fn refused_response(bytes: impl AsRef<[u8]>) -> HeadReason {
    match response_to(bytes.as_ref(), RequestFacts::default()) {
        Err(error @ HeadError { side: Side::Server, reason }) => {
            assert_eq!(error.status(), 502);
            reason
        }
        other => panic!("{}: {other:?}", bytes.as_ref().escape_ascii()),
    }
}
