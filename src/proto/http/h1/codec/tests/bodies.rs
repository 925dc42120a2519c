//! Where bodies end.

use super::*;
use crate::flow::Headers;
use ChunkError::*;

/// What became of a body.
#[derive(Debug, PartialEq)]
struct Read {
    data: Vec<u8>,
    consumed: usize,
    done: bool,
    trailers: Option<Headers>,
}

/// Scans `bytes` in pieces that end at `cuts`.
fn scan_cut(bytes: &[u8], cuts: impl Iterator<Item = usize>) -> Result<Read, ChunkError> {
    let (mut scanner, mut data, mut consumed, mut done) = (ChunkedScanner::new(), Vec::new(), 0, false);
    for end in cuts.chain(std::iter::once(bytes.len())) {
        let piece = &bytes[consumed..end];
        let mut before = 0;
        let step = scanner.scan(piece, &mut |range| {
            assert!(before <= range.start && range.start < range.end && range.end <= piece.len());
            before = range.end;
            data.extend_from_slice(&piece[range]);
        })?;
        consumed += step.consumed;
        done = step.done;
        assert_eq!(done, scanner.is_done());
        if done {
            break;
        }
        assert_eq!(consumed, end, "all is taken until the end has come");
    }
    Ok(Read { data, consumed, done, trailers: scanner.trailers() })
}

/// Scans a body every way it can come; the verdict is always the same.
fn scan(bytes: impl AsRef<[u8]>) -> Result<Read, ChunkError> {
    let bytes = bytes.as_ref();
    let whole = scan_cut(bytes, std::iter::empty());
    assert_eq!(scan_cut(bytes, 0..bytes.len()), whole, "byte by byte: {}", bytes.escape_ascii());
    for cut in 0..bytes.len() {
        assert_eq!(scan_cut(bytes, std::iter::once(cut)), whole, "cut at {cut}: {}", bytes.escape_ascii());
    }
    if !matches!(whole, Ok(Read { done: false, .. })) {
        let mut longer = bytes.to_vec();
        longer.extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(scan_cut(&longer, std::iter::empty()), whole, "with bytes behind");
    }
    whole
}

fn good(bytes: impl AsRef<[u8]>) -> Read {
    let read = scan(bytes.as_ref()).unwrap();
    assert!(read.done, "{}", bytes.as_ref().escape_ascii());
    assert_eq!(read.consumed, bytes.as_ref().len());
    read
}

#[test]
fn finds_the_data_between_the_chunk_lines() {
    assert_eq!(good("0\r\n\r\n").data, b"");
    assert_eq!(good("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n").data, b"hello world");
    assert_eq!(
        good("A\r\n0123456789\r\na\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n").data,
        b"0123456789\r\n\r\n\r\n\r\n\r\n"
    );
    assert_eq!(good("0000000000000002\r\nhi\r\n000\r\n\r\n").data, b"hi");
    assert_eq!(good("2;a=b;c=\"d;e\"\r\nhi\r\n0;x\r\n\r\n").data, b"hi");
    assert_eq!(good("2 \t ; a\r\nhi\r\n0  \r\n\r\n").data, b"hi");
    assert_eq!(
        scan("5\r\nhel").unwrap(),
        Read { data: b"hel".into(), consumed: 6, done: false, trailers: None }
    );
}

#[test]
fn refuses_chunk_sizes_that_parsers_read_differently() {
    for size in [
        "", "+5", "-5", " 5", "\t5", "g", "x5", "5x", "5 5", "5 x", "0x5", ";a", "\n5", "\0", "5.", "5,",
        "5\u{b}", "5_0",
    ] {
        let verdict = scan(format!("{size}\r\nhello\r\n0\r\n\r\n"));
        assert_eq!(verdict, Err(BadSize), "{size:?}");
    }
    assert_eq!(scan("00000000000000005\r\nhello\r\n"), Err(SizeTooLarge));
    assert_eq!(scan("10000000000000005\r\nhello\r\n"), Err(SizeTooLarge));
    assert!(!scan("ffffffffffffffff\r\nhello").unwrap().done);
}

#[test]
fn refuses_line_ends_that_are_not_crlf_in_chunks() {
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\rhello\r\n",
        "5\r\nhelloX\r\n",
        "5\r\nhello\r0\r\n",
        "5;a\nhello\r\n",
        "5;a\rb\r\nhello\r\n",
        "0\r\n\n",
        "0\r\n\rx",
        "0\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5 \nhello\r\n",
        "0\r\nA: b\n\r\n",
    ] {
        assert_eq!(scan(body), Err(MissingCrlf), "{body:?}");
    }
    assert_eq!(scan("5;a\0\r\nhello\r\n"), Err(BadExtension));
}

#[test]
fn extensions_have_a_limit() {
    let body = |len: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(len));
    assert_eq!(scan_cut(body(4095).as_bytes(), std::iter::empty()).unwrap().data, b"a");
    assert_eq!(scan_cut(body(4097).as_bytes(), std::iter::empty()), Err(ExtensionTooLong));
    let padded = format!("1{}\r\na\r\n0\r\n\r\n", " ".repeat(5000));
    assert_eq!(scan_cut(padded.as_bytes(), std::iter::empty()), Err(ExtensionTooLong));
}

#[test]
fn trailers_come_after_the_last_chunk() {
    let read = good("1\r\na\r\n0\r\nExpires: 0\r\nX-Sum:  abc \r\nX-Sum: d\r\n\r\n");
    let expected = Headers::from_pairs([("Expires", "0"), ("X-Sum", "abc"), ("X-Sum", "d")]);
    assert_eq!((read.data, read.trailers), (b"a".to_vec(), Some(expected)));
    assert_eq!(good("0\r\n\r\n").trailers, None);
}

#[test]
fn refuses_trailers_that_frame_or_cannot_be_read() {
    for name in ["Content-Length", "transfer-encoding", "HOST"] {
        assert_eq!(scan(format!("0\r\n{name}: 1\r\n\r\n")), Err(FramingTrailer), "{name}");
    }
    assert_eq!(scan("0\r\n A: b\r\n\r\n"), Err(BadTrailer(HeadReason::SpaceBeforeFirstField)));
    assert_eq!(scan("0\r\nA: b\r\n c\r\n\r\n"), Err(BadTrailer(HeadReason::ObsFold)));
    assert_eq!(scan("0\r\nA : b\r\n\r\n"), Err(BadTrailer(HeadReason::SpaceBeforeColon)));
    assert_eq!(scan("0\r\nA\r\n\r\n"), Err(BadTrailer(HeadReason::BadFieldName)));
    assert_eq!(scan("0\r\nA: \0\r\n\r\n"), Err(BadTrailer(HeadReason::Nul)));
    let many = |count| format!("0\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert_eq!(good(many(64)).trailers.unwrap().len(), 64);
    assert_eq!(scan(many(65)), Err(TrailersTooLarge));
    let large = format!("0\r\nA: {}\r\n\r\n", "x".repeat(17_000));
    assert_eq!(scan_cut(large.as_bytes(), std::iter::empty()), Err(TrailersTooLarge));
}

#[test]
fn what_is_written_in_chunks_is_read_back() {
    let mut wire = Vec::new();
    write_chunk(&mut wire, b"hello");
    write_chunk(&mut wire, b"");
    write_chunk(&mut wire, &[b'x'; 300]);
    let trailers = Headers::from_pairs([("A", "b")]);
    write_last_chunk(&mut wire, Some(&trailers)).unwrap();
    assert!(wire.starts_with(b"5\r\nhello\r\n12c\r\nxxx"));
    let read = good(&wire);
    assert_eq!((read.data.len(), read.trailers), (305, Some(trailers)));
    let mut wire = Vec::new();
    write_last_chunk(&mut wire, None).unwrap();
    assert_eq!(wire, b"0\r\n\r\n");
    let split = Headers::from_pairs([("A", "b\r\nC: d")]);
    assert_eq!(write_last_chunk(&mut wire, Some(&split)), Err(WriteError::FieldValue));
    assert_eq!(wire, b"0\r\n\r\n");
}

#[test]
fn chunk_sizes_are_written_as_plain_hexadecimal() {
    for size in [1, 9, 10, 15, 16, 17, 255, 256, 4096, 65_535, 1 << 20, usize::MAX] {
        let mut line = Vec::new();
        write_chunk_size(&mut line, size);
        assert_eq!(String::from_utf8(line).unwrap(), format!("{size:x}\r\n"));
    }
}

#[test]
fn a_body_ends_as_its_framing_says() {
    let table = [
        (BodyFraming::None, 0, true, true),
        (BodyFraming::Length(0), 0, true, true),
        (BodyFraming::Length(3), 3, true, true),
        (BodyFraming::Length(12), 12, true, true),
        (BodyFraming::Length(20), 15, false, false),
        (BodyFraming::Length(u64::MAX), 15, false, false),
        (BodyFraming::UntilClose, 15, false, true),
    ];
    let bytes = b"5\r\nhello\r\n0\r\n\r\n";
    for (framing, expected, done, may_end) in table {
        for cut in 0..=bytes.len() {
            let (mut scanner, mut seen) = (BodyScanner::new(framing), 0);
            let first = scanner.scan(&bytes[..cut], &mut |range| seen += range.len()).unwrap();
            let second = scanner.scan(&bytes[first.consumed..], &mut |range| seen += range.len()).unwrap();
            assert_eq!((seen, first.consumed + second.consumed, second.done), (expected, expected, done));
            assert_eq!((scanner.at_eof().is_ok(), scanner.is_done()), (may_end, done), "{framing:?}");
        }
    }
    for cut in 0..=bytes.len() {
        let (mut scanner, mut seen) = (BodyScanner::new(BodyFraming::Chunked), 0);
        scanner.scan(&bytes[..cut], &mut |range| seen += range.len()).unwrap();
        assert_eq!(scanner.at_eof(), if cut == bytes.len() { Ok(()) } else { Err(Truncated) });
        assert!(scanner.scan(&bytes[cut..], &mut |range| seen += range.len()).unwrap().done);
        assert_eq!(seen, 5);
    }
}

#[test]
fn random_changes_to_a_chunked_body_never_panic_and_do_not_depend_on_the_split() {
    let sample = b"5;ext=\"1\"\r\nhello\r\n00b\r\n world again\r\n0\r\nA: b\r\nX-Long: 0123456789\r\n\r\n";
    let mut dice = Dice(0x1234_5678_9abc_def1);
    for _ in 0..100_000 {
        let bytes = dice.mutate(sample);
        let whole = scan_cut(&bytes, std::iter::empty());
        let cut = dice.roll(bytes.len());
        assert_eq!(scan_cut(&bytes, std::iter::once(cut)), whole, "cut at {cut}: {}", bytes.escape_ascii());
    }
}
