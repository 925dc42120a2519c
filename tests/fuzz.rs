//! Bytes from a hostile network: what each parser must never do, whatever it is fed.
//!
//! The targets are plain functions of bytes. Here they get every file of `tests/fuzz/corpus/`, and then changed
//! copies of them: the same ones in every run, `RINGTAP_FUZZ_ROUNDS` of them for each target (default 40,000).
//! What a target panics on is printed, and becomes a file of the corpus.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ringtap::flow::Headers;
use ringtap::proto::codec::Parsed;
use ringtap::proto::http::h1::codec::{
    BodyFraming, ChunkedScanner, HeadError, HeadLimits, HeadProgress, RequestFacts, RequestHead,
    ResponseHead, Side, head_end, mend_head, parse_request_head, parse_response_head, request_framing,
    response_framing, write_chunk, write_last_chunk, write_request_head, write_response_head,
};

#[test]
fn request_heads() {
    fuzz("request_head", request_head);
}

#[test]
fn response_heads() {
    fuzz("response_head", response_head);
}

#[test]
fn chunked_bodies() {
    fuzz("chunked", chunked);
}

/// A request's head: one verdict however it comes; what is accepted has one meaning, also when it is written again;
/// what is mended is accepted.
fn request_head(bytes: &[u8]) {
    let limits = HeadLimits::default();
    let whole = parse_request_head(bytes, &limits);
    let piecewise = in_pieces(bytes, RequestHead::default(), |head, bytes, progress| {
        head.parse_into(bytes, progress, &limits)
    });
    assert_eq!(verdict(&whole), piecewise, "the verdict depends on how the bytes come");
    if let Ok(Parsed::Done { value: head, consumed }) = &whole {
        let wire = bytes::Bytes::copy_from_slice(&bytes[..*consumed]);
        let headers = head.headers(&wire);
        plain_lines(&wire[head.start as usize..], headers.len());
        one_framing(head.framing, &headers);
        assert_eq!(request_framing(head.version, head.connect, &headers).ok(), Some(head.framing));
        let mut again = Vec::new();
        let (method, target) = (head.method.of(&wire), head.target.of(&wire));
        write_request_head(&mut again, method, target, head.version, &headers)
            .expect("what was read can be written");
        let Ok(Parsed::Done { value, consumed }) = parse_request_head(&again, &limits) else {
            panic!("what was written cannot be read: {}", again.escape_ascii())
        };
        assert_eq!(consumed, again.len());
        assert_eq!(
            (value.framing, value.keep_alive, value.upgrade),
            (head.framing, head.keep_alive, head.upgrade)
        );
        assert_eq!(value.headers(&again.clone().into()), headers);
    }
    mended(
        Side::Client,
        bytes,
        |mended| matches!(parse_request_head(mended, &limits), Ok(Parsed::Done { consumed, .. }) if consumed == mended.len()),
    );
}

/// A response's head, as [`request_head`].
fn response_head(bytes: &[u8]) {
    let (limits, facts) = (HeadLimits::default(), RequestFacts::default());
    let whole = parse_response_head(bytes, facts, &limits);
    let piecewise = in_pieces(bytes, ResponseHead::default(), |head, bytes, progress| {
        head.parse_into(bytes, progress, facts, &limits)
    });
    assert_eq!(verdict(&whole), piecewise, "the verdict depends on how the bytes come");
    if let Ok(Parsed::Done { value: head, consumed }) = &whole {
        let wire = bytes::Bytes::copy_from_slice(&bytes[..*consumed]);
        let headers = head.headers(&wire);
        plain_lines(&wire, headers.len());
        one_framing(head.framing, &headers);
        assert_eq!(response_framing(head.version, head.status, facts, &headers).ok(), Some(head.framing));
        let mut again = Vec::new();
        let reason = head.reason.of(&wire);
        write_response_head(&mut again, head.version, head.status, reason, &headers)
            .expect("what was read can be written");
        let Ok(Parsed::Done { value, .. }) = parse_response_head(&again, facts, &limits) else {
            panic!("what was written cannot be read: {}", again.escape_ascii())
        };
        assert_eq!((value.framing, value.keep_alive), (head.framing, head.keep_alive));
    }
    mended(
        Side::Server,
        bytes,
        |mended| matches!(parse_response_head(mended, facts, &limits), Ok(Parsed::Done { consumed, .. }) if consumed == mended.len()),
    );
}

/// A chunked body: one verdict however it comes, and the same data when it is framed anew.
fn chunked(bytes: &[u8]) {
    let whole = scan(bytes, usize::MAX);
    for piece in [1, 3] {
        assert_eq!(scan(bytes, piece), whole, "the verdict depends on how the bytes come");
    }
    let Some((data, consumed, Some(trailers))) = whole else { return };
    assert!(consumed <= bytes.len() && data.len() < consumed);
    let mut again = Vec::new();
    write_chunk(&mut again, &data);
    write_last_chunk(&mut again, (!trailers.is_empty()).then_some(&trailers))
        .expect("what was read can be written");
    assert_eq!(scan(&again, usize::MAX), Some((data, again.len(), Some(trailers))));
}

/// Data, bytes used, and trailers if the end has come; nothing if it is refused.
fn scan(bytes: &[u8], piece: usize) -> Option<(Vec<u8>, usize, Option<Headers>)> {
    let (mut scanner, mut data, mut at) = (ChunkedScanner::new(), Vec::new(), 0);
    while at < bytes.len() && !scanner.is_done() {
        let part = &bytes[at..bytes.len().min(at.saturating_add(piece))];
        let step = scanner.scan(part, &mut |range| data.extend_from_slice(&part[range])).ok()?;
        at += step.consumed;
        assert!(scanner.in_line() <= at, "a line is no longer than what came");
        assert!(step.done || step.consumed == part.len(), "all is taken until the end has come");
    }
    Some((data, at, scanner.is_done().then(|| scanner.trailers().unwrap_or_default())))
}

fn in_pieces<H>(
    bytes: &[u8],
    mut head: H,
    mut parse: impl FnMut(&mut H, &[u8], &mut HeadProgress) -> Result<Parsed<()>, HeadError>,
) -> Result<Option<usize>, HeadError> {
    let mut progress = HeadProgress::default();
    for end in 1..=bytes.len() {
        match parse(&mut head, &bytes[..end], &mut progress)? {
            Parsed::Done { consumed, .. } => return Ok(Some(consumed)),
            Parsed::NeedMore => {}
        }
    }
    Ok(None)
}

fn verdict<H>(parsed: &Result<Parsed<H>, HeadError>) -> Result<Option<usize>, HeadError> {
    match parsed {
        Ok(Parsed::Done { consumed, .. }) => Ok(Some(*consumed)),
        Ok(Parsed::NeedMore) => Ok(None),
        Err(error) => Err(*error),
    }
}

/// An accepted head is lines that end in CRLF, as many as it has fields, and the first and the last.
fn plain_lines(head: &[u8], fields: usize) {
    let text = head.strip_suffix(b"\r\n\r\n").expect("the empty line");
    let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
    assert_eq!(lines.len(), fields + 1, "a line for each field");
    for (index, line) in lines.iter().enumerate() {
        let line = if index + 1 < lines.len() { line.strip_suffix(b"\r").expect("CRLF") } else { line };
        assert!(!line.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)), "{}", line.escape_ascii());
        assert!(index == 0 || line.contains(&b':') && !line[0].is_ascii_whitespace());
    }
}

/// What frames a body is said once, and nothing else is said.
fn one_framing(framing: BodyFraming, headers: &Headers) {
    let (lengths, codings) =
        (headers.all("content-length").count(), headers.all("transfer-encoding").count());
    match framing {
        BodyFraming::Length(length) => {
            assert_eq!((lengths, codings), (1, 0));
            assert_eq!(headers.get("content-length"), Some(length.to_string()));
        }
        BodyFraming::Chunked => {
            assert_eq!((lengths, codings), (0, 1));
            assert!(
                headers.get("transfer-encoding").is_some_and(|said| said.eq_ignore_ascii_case("chunked"))
            );
        }
        BodyFraming::None | BodyFraming::UntilClose => assert!(lengths + codings <= 1),
    }
}

/// A head that is mended is whole, and mending it once more changes nothing. Whether it is accepted is the strict
/// parser's to say; if it is, it says nothing in two ways (which `request_head` and `response_head` have checked).
fn mended(side: Side, bytes: &[u8], accepted: impl Fn(&[u8]) -> bool) {
    let Some(end) = head_end(bytes, 0) else { return };
    let Some(once) = mend_head(side, &bytes[..end]) else { return };
    assert_eq!(head_end(&once, 0), Some(once.len()), "{}", once.escape_ascii());
    if accepted(&once) {
        let twice = mend_head(side, &once);
        assert_eq!(twice.as_deref(), Some(&once[..]), "{}", once.escape_ascii());
    }
}

fn fuzz(kind: &str, target: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(kind);
    let mut files: Vec<_> =
        fs::read_dir(&dir).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().map(|path| fs::read(path).expect("a sample")).collect();
    assert!(corpus.len() >= 10, "the corpus of {kind} is missing");
    for sample in &corpus {
        feed(kind, target, sample);
    }
    let rounds =
        std::env::var("RINGTAP_FUZZ_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40_000);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..rounds {
        let mut bytes = corpus[round % corpus.len()].clone();
        for _ in 0..=dice.roll(5) {
            dice.change(&mut bytes, &corpus);
        }
        feed(kind, target, &bytes);
    }
}

fn feed(kind: &str, target: fn(&[u8]), bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        eprintln!("the target {kind} fails for \"{}\"", bytes.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below.max(1)
    }

    /// One change: a byte, a run of bytes, or a piece of another sample.
    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.roll(bytes.len() + 1);
        let special = b"\r\n\0 \t:;,0+-xX/\x0b\x80"[self.roll(16)];
        match self.roll(8) {
            0 if at < bytes.len() => bytes[at] = self.roll(256) as u8,
            1 if at < bytes.len() => bytes[at] = special,
            2 => bytes.insert(at, special),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 => {
                let end = (at + self.roll(20)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let other = &corpus[self.roll(corpus.len())];
                let start = self.roll(other.len());
                let end = (start + self.roll(40)).min(other.len());
                bytes.splice(at..at, other[start..end].iter().copied());
            }
            6 => {
                let end = (at + self.roll(12)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
}
