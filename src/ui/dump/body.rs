//! Bodies as lines: text where it is text, else a hex dump, never more than a bounded amount.

use super::style::{Colour, push_safe, safe};

/// Lines of a body at detail 3, mitmproxy's `content_view_lines_cutoff`.
pub const BODY_LINES_MAX: usize = 512;
/// Bytes of a body that are looked at, at detail 4.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// Bytes of a body that are looked at, at detail 3: a body may be a single line.
const SHORT_BYTES_MAX: usize = 64 << 10;
/// How much of a body tells whether it is text.
const SAMPLE_MAX: usize = 4 << 10;
const HEX_BYTES_PER_LINE: usize = 16;
const TAB_COLUMNS: usize = 8;
/// How much of a content coding's name is shown.
const CODING_CHARS_MAX: usize = 40;

/// A line, safe to print.
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    /// A hex dump's first column; empty in text.
    pub(super) offset: String,
    pub(super) text: String,
    pub(super) colour: Option<Colour>,
}

/// Hands the lines of a body that has this content coding to `print`, one at a time: a hex dump has many
/// times the size of the body. Says whether there is more than was shown.
pub(super) fn view(
    content: Option<&[u8]>,
    coding: Option<&str>,
    full: bool,
    mut print: impl FnMut(Line),
) -> bool {
    let mut note = |text| {
        print(Line { offset: String::new(), text, colour: None });
        false
    };
    let Some(content) = content else { return note("content missing".to_owned()) };
    if content.is_empty() {
        return false;
    }
    let coding = coding.map(str::trim).filter(|coding| !coding.is_empty());
    if let Some(coding) = coding.filter(|coding| !coding.eq_ignore_ascii_case("identity")) {
        let coding = safe(&coding.chars().take(CODING_CHARS_MAX).collect::<String>());
        return note(format!("({coding} body, {} bytes)", content.len()));
    }
    let (bytes_max, lines_max) =
        if full { (BODY_BYTES_MAX, usize::MAX) } else { (SHORT_BYTES_MAX, BODY_LINES_MAX) };
    let shown = &content[..content.len().min(bytes_max)];
    let cut = shown.len() < content.len();
    match text(shown, cut) {
        Some(text) => print_text(text, lines_max, print) || cut,
        None => print_hex(shown, lines_max, print) || cut,
    }
}

/// A number of bytes in at most five characters: `72b`, `4.0k`, `100m`.
pub(super) fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes}b");
    }
    let mut size = bytes as f64;
    for unit in ["k", "m", "g"] {
        size /= 1024.0;
        if size < 99.95 {
            return format!("{size:.1}{unit}");
        }
        if size < 1024.0 {
            return format!("{size:.0}{unit}");
        }
    }
    size /= 1024.0;
    if size < 99.95 { format!("{size:.1}t") } else { format!("{size:.0}t") }
}

/// The bytes as text, if they are UTF-8 and mostly printable. Of cut bytes the last character may be torn.
fn text(bytes: &[u8], cut: bool) -> Option<&str> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if cut && error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let (mut odd, mut all) = (0, 0);
    for char in text.chars().take(SAMPLE_MAX) {
        all += 1;
        odd += usize::from(char.is_control() && !matches!(char, '\n' | '\r' | '\t'));
    }
    (odd * 10 <= all).then_some(text)
}

fn print_text(text: &str, lines_max: usize, mut print: impl FnMut(Line)) -> bool {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let mut lines = text.split('\n');
    for line in lines.by_ref().take(lines_max) {
        let line = line.strip_suffix('\r').unwrap_or(line);
        print(Line { offset: String::new(), text: safe_line(line), colour: Some(Colour::Green) });
    }
    lines.next().is_some()
}

/// A line with its tabs as the spaces a terminal would show: the one control character that text needs.
fn safe_line(line: &str) -> String {
    let mut safe = String::with_capacity(line.len());
    let mut column = 0;
    for char in line.chars() {
        if char == '\t' {
            let spaces = TAB_COLUMNS - column % TAB_COLUMNS;
            safe.extend(std::iter::repeat_n(' ', spaces));
            column += spaces;
        } else {
            push_safe(char, &mut safe);
            column += 1;
        }
    }
    safe
}

fn print_hex(bytes: &[u8], lines_max: usize, mut print: impl FnMut(Line)) -> bool {
    for (index, bytes) in bytes.chunks(HEX_BYTES_PER_LINE).take(lines_max).enumerate() {
        let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let ascii = |byte: &u8| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' };
        let ascii: String = bytes.iter().map(ascii).collect();
        print(Line {
            offset: format!("{:010x} ", index * HEX_BYTES_PER_LINE),
            text: format!("{:<47}   {ascii}", hex.join(" ")),
            colour: Some(Colour::Green),
        });
    }
    bytes.len().div_ceil(HEX_BYTES_PER_LINE) > lines_max
}

#[cfg(test)]
mod tests {
    use super::*;

    struct View {
        lines: Vec<Line>,
        cut: bool,
    }

    fn view(content: Option<&[u8]>, coding: Option<&str>, full: bool) -> View {
        let mut lines = Vec::new();
        let cut = super::view(content, coding, full, |line| lines.push(line));
        View { lines, cut }
    }

    fn texts(content: &[u8]) -> Vec<String> {
        view(Some(content), None, false).lines.into_iter().map(|line| line.offset + &line.text).collect()
    }

    #[test]
    fn text_is_shown_as_lines() {
        assert_eq!(texts(b"one\r\ntwo\n\nfour\n"), ["one", "two", "", "four"]);
        assert_eq!(texts("ü\ta\rb\x07 and some more".as_bytes()), ["ü       a\\rb\\x07 and some more"]);
        assert_eq!(texts(b""), [""; 0]);
    }

    #[test]
    fn other_bytes_are_shown_as_hex() {
        let expected = [
            "0000000000 00 ff 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e   ..ABCDEFGHIJKLMN",
            "0000000010 1b                                                .",
        ];
        assert_eq!(texts(b"\x00\xffABCDEFGHIJKLMN\x1b"), expected);
        assert!(texts(b"\x01\x02valid but odd")[0].starts_with("0000000000 01 02 76"));
    }

    #[test]
    fn encoded_and_missing_bodies_are_named() {
        let line = |content, coding| view(content, Some(coding), true).lines[0].text.clone();
        assert_eq!(line(Some(&b"\x1f\x8b"[..]), "gzip"), "(gzip body, 2 bytes)");
        assert_eq!(line(Some(b"text"), " Identity"), "text");
        assert_eq!(line(Some(b"text"), ""), "text");
        assert_eq!(line(Some(b"x"), "\x1b[2J"), "(\\x1b[2J body, 1 bytes)");
        assert_eq!(line(None, "gzip"), "content missing");
        assert!(line(Some(b"x"), &"a".repeat(1 << 20)).len() < 100);
    }

    #[test]
    fn long_bodies_are_cut() {
        let lines = "a\n".repeat(BODY_LINES_MAX);
        assert!(!view(Some(lines.as_bytes()), None, false).cut);
        let lines = lines + "a";
        let short = view(Some(lines.as_bytes()), None, false);
        assert_eq!((short.lines.len(), short.cut), (BODY_LINES_MAX, true));
        let full = view(Some(lines.as_bytes()), None, true);
        assert_eq!((full.lines.len(), full.cut), (BODY_LINES_MAX + 1, false));
        let one_line = "ü".repeat(SHORT_BYTES_MAX);
        let cut = view(Some(&one_line.as_bytes()[1..]), None, false);
        assert!(cut.cut && cut.lines.len() == BODY_LINES_MAX, "not text: it begins inside a character");
        let cut = view(Some(format!("a{one_line}").as_bytes()), None, false);
        assert!(cut.cut && cut.lines.len() == 1, "text: it only ends inside one");
        let huge = vec![0; BODY_BYTES_MAX + 1];
        assert!(view(Some(&huge), None, true).cut);
    }

    #[test]
    fn sizes_take_five_characters() {
        let table = [
            (0, "0b"),
            (1023, "1023b"),
            (1024, "1.0k"),
            (1255, "1.2k"),
            (102_348, "99.9k"),
            (102_400, "100k"),
            (1 << 20, "1.0m"),
            (3 << 30, "3.0g"),
            (5 << 40, "5.0t"),
            (1 << 50, "1024t"),
        ];
        for (bytes, text) in table {
            assert_eq!(size(bytes), text);
        }
    }
}
