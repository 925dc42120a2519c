//! Colours, and text made harmless for a terminal.

/// A terminal's colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Blue = 34,
    Magenta = 35,
    BrightBlue = 94,
}

/// Puts colours around text, or leaves it alone. Text must be safe already.
#[derive(Clone, Copy)]
pub(super) struct Paint {
    pub(super) on: bool,
}

impl Paint {
    pub(super) fn plain(self, colour: Option<Colour>, text: &str) -> String {
        self.around(colour, "", text)
    }

    pub(super) fn bold(self, colour: Option<Colour>, text: &str) -> String {
        self.around(colour, "\x1b[1m", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.around(None, "\x1b[2m", text)
    }

    fn around(self, colour: Option<Colour>, weight: &str, text: &str) -> String {
        if !self.on || text.is_empty() || (colour.is_none() && weight.is_empty()) {
            return text.to_owned();
        }
        let colour = colour.map_or_else(String::new, |colour| format!("\x1b[{}m", colour as u8));
        format!("{colour}{weight}{text}\x1b[0m")
    }
}

/// Text with every character that could move a terminal's cursor, change its state or turn the order of what
/// is on the line written as an escape.
pub(super) fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    text.chars().for_each(|char| push_safe(char, &mut safe));
    safe
}

pub(super) fn push_safe(char: char, out: &mut String) {
    match char {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        // C0, DEL and C1.
        char if char.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(char))),
        // Line and paragraph separators; marks, embeddings and isolates that change the text's direction.
        '\u{2028}'
        | '\u{2029}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => {
            out.push_str(&char.escape_unicode().to_string());
        }
        char => out.push(char),
    }
}

/// Bytes as printable ASCII, everything else escaped as in a Python bytes literal.
pub(super) fn safe_bytes(bytes: &[u8]) -> String {
    let mut safe = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' => safe.push_str("\\\\"),
            b'\n' => safe.push_str("\\n"),
            b'\r' => safe.push_str("\\r"),
            b'\t' => safe.push_str("\\t"),
            b' '..=b'~' => safe.push(char::from(*byte)),
            byte => safe.push_str(&format!("\\x{byte:02x}")),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_character_is_left() {
        let every: String = (0..=0x2fff).filter_map(char::from_u32).collect();
        for text in [safe(&every), safe_bytes(every.as_bytes())] {
            assert!(!text.chars().any(char::is_control));
            assert!(!text.contains(['\u{2028}', '\u{202e}', '\u{2066}']));
        }
        assert_eq!(safe("ü\x1b[31m\r\n\u{9b}0m\x7f"), "ü\\x1b[31m\\r\\n\\x9b0m\\x7f");
        assert_eq!(safe_bytes(b"a\\b\xff\x00 '\"~"), "a\\\\b\\xff\\x00 '\"~");
    }

    #[test]
    fn colours_appear_only_when_wanted() {
        let (on, off) = (Paint { on: true }, Paint { on: false });
        assert_eq!(on.bold(Some(Colour::Green), "GET"), "\x1b[32m\x1b[1mGET\x1b[0m");
        assert_eq!(on.bold(None, "x"), "\x1b[1mx\x1b[0m");
        assert_eq!(on.plain(Some(Colour::BrightBlue), "x"), "\x1b[94mx\x1b[0m");
        assert_eq!(on.plain(None, "x"), "x");
        assert_eq!(on.bold(None, ""), "");
        assert_eq!(off.bold(Some(Colour::Red), "x"), "x");
    }
}
