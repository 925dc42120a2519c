//! What other encoders made is decoded, what we encode comes back, and nothing grows past its limit.

use super::*;

const TEXT: &[u8] = b"ringtap ringtap ringtap: the same words, again and again and again.\n";
const CODINGS: [Coding; 5] = [Coding::Identity, Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

/// Made by zlib, the brotli tool and the zstd library: coding, and [`TEXT`] in it.
const FOREIGN: [(&str, &str); 8] = [
    (
        "gzip",
        "1f8b08000000000004ff2bcacc4b2f492c502842a5ad144a3252158a13735315caf38b528a751412d31333f31412f352d0597a5c00ac3b13f144000000",
    ),
    (
        "GZIP",
        "78012bcacc4b2f492c502842a5ad144a3252158a13735315caf38b528a751412d31333f31412f352d0597a5c006828183a",
    ),
    (
        "deflate",
        "78012bcacc4b2f492c502842a5ad144a3252158a13735315caf38b528a751412d31333f31412f352d0597a5c006828183a",
    ),
    ("deflate", "2bcacc4b2f492c502842a5ad144a3252158a13735315caf38b528a751412d31333f31412f352d0597a5c00"),
    (
        "br",
        "8b218072696e677461702072696e677461702072696e677461703a207468652073616d6520776f7264732c20616761696e20616e6420616761696e20616e6420616761696e2e0a03",
    ),
    (
        "zstd",
        "28b52ffd20447d0100540272696e67746170203a207468652073616d6520776f7264732c20616761696e20616e642e0a0200b720635d8903",
    ),
    (
        "Zstd",
        "28b52ffd24447d0100540272696e67746170203a207468652073616d6520776f7264732c20616761696e20616e642e0a0200b720635d8903cf88d8ad",
    ),
    // a skippable frame before the frame
    (
        "zstd",
        "502a4d180300000061626328b52ffd20447d0100540272696e67746170203a207468652073616d6520776f7264732c20616761696e20616e642e0a0200b720635d8903",
    ),
];

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(digit).collect()
}

fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    usize::try_from(*state >> 33).expect("31 bits")
}

/// Words with noise between: neither trivial to compress nor impossible.
fn sample(size: usize) -> Vec<u8> {
    let mut state = 7;
    let mut out = Vec::new();
    while out.len() < size {
        match random(&mut state) % 3 {
            0 => out.extend_from_slice(TEXT),
            1 => out.extend_from_slice(&random(&mut state).to_le_bytes()[..4]),
            _ => out.extend_from_slice(b"and again"),
        }
    }
    out.truncate(size);
    out
}

#[test]
fn what_other_encoders_made_is_decoded() {
    for (name, hex) in FOREIGN {
        let data = unhex(hex);
        let found = decode(&data, name, &Limits::default());
        assert_eq!(found.as_deref(), Ok(TEXT), "{name} {hex}");
    }
}

#[test]
fn what_we_encode_comes_back() {
    for size in [0, 1, 2, 100, 31_999, 32_768, 32_769, 300_000, 3_000_000] {
        let data = sample(size);
        for coding in CODINGS {
            let encoded = encode_one(&data, coding).expect("encoders take anything");
            let decoded = decode_one(&encoded, coding, &Limits::default());
            assert!(decoded.as_deref() == Ok(&data[..]), "{coding:?} {size}");
            if size > 10_000 && coding != Coding::Identity {
                assert!(encoded.len() < size * 3 / 4, "{coding:?} makes {size} into {}", encoded.len());
            }
        }
    }
}

#[test]
fn lists_are_applied_in_order_and_undone_from_the_end() {
    let data = sample(5_000);
    let both = encode(&data, "gzip, br").expect("known");
    let by_hand = encode_one(&encode_one(&data, Coding::Gzip).expect("gzip"), Coding::Brotli).expect("br");
    assert_eq!(*both, by_hand[..]);
    assert_eq!(decode(&both, " gzip ,identity, br,", &Limits::default()).as_deref(), Ok(&data[..]));
    assert_eq!(decode(&data, "br,br,br,br,br", &Limits::default()), Err(CodingError::TooMany));
    assert_eq!(
        decode(&data, "gzip, lz\u{1b}4", &Limits::default()),
        Err(CodingError::Unknown("lz\\u{1b}4".into()))
    );
}

#[test]
fn names_are_known_in_any_case() {
    for coding in CODINGS {
        assert_eq!(Coding::parse(&coding.as_str().to_uppercase()), Some(coding));
    }
    assert_eq!(Coding::parse("x-gzip"), Some(Coding::Gzip));
    assert_eq!(Coding::parse("none"), Some(Coding::Identity));
    assert_eq!(Coding::parse("compress"), None);
    assert_eq!(parse_list(""), Ok(Vec::new()));
}

#[test]
fn a_body_without_coding_is_not_copied() {
    assert!(matches!(decode(TEXT, "identity", &Limits::default()), Ok(Cow::Borrowed(_))));
    assert!(matches!(encode(TEXT, ""), Ok(Cow::Borrowed(_))));
}

#[test]
fn output_stops_at_the_limit_and_not_a_byte_before() {
    let data = sample(200_000);
    for coding in CODINGS {
        let encoded = encode_one(&data, coding).expect("encoders take anything");
        let limits = |output_max| Limits { output_max, ..Limits::default() };
        assert!(decode_one(&encoded, coding, &limits(200_000)).is_ok(), "{coding:?}");
        let error = decode_one(&encoded, coding, &limits(199_999)).expect_err("one byte too much");
        assert_eq!(error, CodingError::TooLarge { coding: coding.as_str(), max: 199_999 });
    }
}

#[test]
fn a_bomb_is_stopped_where_its_ratio_says() {
    let zeros = vec![0; 40 << 20];
    let limits = Limits { ratio_max: 100, ratio_free: 1 << 20, ..Limits::default() };
    for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd] {
        let bomb = encode_one(&zeros, coding).expect("encoders take anything");
        assert!(bomb.len() * limits.ratio_max < zeros.len(), "{coding:?}: {}", bomb.len());
        let error = decode_one(&bomb, coding, &limits).expect_err("a bomb");
        let max = limits.ratio_free.max(bomb.len() * limits.ratio_max);
        assert_eq!(error, CodingError::Bomb { coding: coding.as_str(), max, ratio: limits.ratio_max });
        let lenient = Limits { ratio_max: usize::MAX, ..Limits::default() };
        assert_eq!(decode_one(&bomb, coding, &lenient).map(|out| out.len()), Ok(zeros.len()));
    }
}

#[test]
fn the_output_buffer_never_grows_past_the_limit() {
    let zeros = vec![0; 8 << 20];
    let limits = Limits { output_max: 5_000_000, ..Limits::default() };
    let mut sink = Sink::new("gzip", 100_000_000, &limits);
    assert!(sink.extend(&zeros).is_err());
    assert!(sink.done().capacity() <= 5_000_001);
}

#[test]
fn a_cut_gzip_or_zstd_body_gives_what_had_arrived_and_the_others_an_error() {
    let data = sample(400_000);
    for coding in CODINGS {
        let encoded = encode_one(&data, coding).expect("encoders take anything");
        for cut in [1, encoded.len() / 3, encoded.len() / 2, encoded.len() - 1] {
            let found = decode_one(&encoded[..cut], coding, &Limits::default());
            match coding {
                Coding::Deflate | Coding::Brotli => assert!(found.is_err(), "{coding:?} {cut}"),
                _ => {
                    let found = found.expect("what had arrived");
                    assert!(data.starts_with(&found), "{coding:?} {cut}");
                    assert!(cut < 1000 || found.len() > cut / 2, "{coding:?} {cut}: {}", found.len());
                }
            }
        }
    }
}

#[test]
fn members_and_frames_follow_one_another() {
    for (coding, name) in [(Coding::Gzip, "gzip"), (Coding::Zstd, "zstd")] {
        let mut twice = encode_one(b"one ", coding).expect("encodes");
        twice.extend(encode_one(b"two", coding).expect("encodes"));
        assert_eq!(decode(&twice, name, &Limits::default()).as_deref(), Ok(&b"one two"[..]));
    }
    let mut padded = encode_one(TEXT, Coding::Gzip).expect("encodes");
    padded.extend_from_slice(b"\0\0\0");
    assert_eq!(decode_one(&padded, Coding::Gzip, &Limits::default()).as_deref(), Ok(TEXT));
}

#[test]
fn checksums_are_compared() {
    for coding in [Coding::Gzip, Coding::Deflate] {
        let mut encoded = encode_one(TEXT, coding).expect("encodes");
        let at = encoded.len() - if coding == Coding::Gzip { 8 } else { 1 };
        encoded[at] ^= 1;
        let found = decode_one(&encoded, coding, &Limits::default());
        assert!(matches!(found, Err(CodingError::Damaged { .. })), "{coding:?}");
    }
    let mut zstd = unhex(FOREIGN[6].1);
    *zstd.last_mut().expect("bytes") ^= 1;
    assert!(decode_one(&zstd, Coding::Zstd, &Limits::default()).is_err());
}

#[test]
fn large_windows_are_refused() {
    // a frame header with a window of 1 GB, and an empty last block
    let zstd = unhex("28b52ffd00a0010000");
    assert!(matches!(decode_one(&zstd, Coding::Zstd, &Limits::default()), Err(CodingError::Damaged { .. })));
}

#[test]
fn damaged_data_neither_panic_nor_grow() {
    let data = sample(6_000);
    let mut state = 11;
    let limits = Limits { output_max: 100_000, ..Limits::default() };
    for coding in CODINGS {
        let encoded = encode_one(&data, coding).expect("encoders take anything");
        let mut seeds = vec![encoded];
        seeds.extend(FOREIGN.iter().map(|(_, hex)| unhex(hex)));
        for round in 0..1_500 {
            let mut bytes = seeds[round % seeds.len()].clone();
            for _ in 0..=random(&mut state) % 4 {
                let at = random(&mut state) % bytes.len();
                match random(&mut state) % 4 {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes.insert(at, random(&mut state).to_le_bytes()[0]),
                    _ => bytes[at] = random(&mut state).to_le_bytes()[0],
                }
            }
            if let Ok(out) = decode_one(&bytes, coding, &limits) {
                assert!(out.len() <= 100_000);
            }
        }
    }
}
