//! Python's patterns as the regex crate has them: what means something else there is written so that it means the
//! same, and what cannot be matched in linear time is refused.

use std::iter::Peekable;
use std::str::CharIndices;

use regex::bytes::{Regex, RegexBuilder};

use super::{Case, PATTERN_SIZE_MAX};

/// What a pattern works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flavour {
    /// Text; else bytes.
    pub(super) unicode: bool,
    /// `.` matches line ends.
    pub(super) dot_all: bool,
    /// `^` and `$` match at lines.
    pub(super) multi_line: bool,
}

/// What is wrong with a pattern, and at which of its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PatternError {
    pub(super) at: usize,
    pub(super) reason: String,
}

type Result<T> = std::result::Result<T, PatternError>;

/// Compiles a pattern.
pub(super) fn compile(pattern: &str, flavour: Flavour, case: Case) -> Result<Regex> {
    let translated = translate(pattern, flavour)?;
    RegexBuilder::new(&translated)
        .unicode(flavour.unicode)
        .dot_matches_new_line(flavour.dot_all)
        .multi_line(flavour.multi_line)
        .case_insensitive(case == Case::Ignored)
        .size_limit(PATTERN_SIZE_MAX)
        .dfa_size_limit(PATTERN_SIZE_MAX)
        .build()
        .map_err(|error| PatternError { at: 0, reason: said(&error) })
}

/// The crate's last line says what is wrong, the others show a pattern that is not the one that was written.
fn said(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "the pattern is too large".into(),
        _ => {
            let text = error.to_string();
            let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
            format!("this is no pattern: {}", last.strip_prefix("error: ").unwrap_or(last))
        }
    }
}

struct Translator<'a> {
    pattern: &'a str,
    rest: Peekable<CharIndices<'a>>,
    flavour: Flavour,
    out: String,
}

fn translate(pattern: &str, flavour: Flavour) -> Result<String> {
    let rest = pattern.char_indices().peekable();
    let mut translator = Translator { pattern, rest, flavour, out: String::with_capacity(pattern.len() + 8) };
    translator.run()?;
    Ok(translator.out)
}

fn refuse<T>(at: usize, reason: impl Into<String>) -> Result<T> {
    Err(PatternError { at, reason: reason.into() })
}

fn unsupported<T>(at: usize, what: &str) -> Result<T> {
    refuse(at, format!("{what} cannot be used here: patterns are matched in linear time"))
}

/// What the last item was, as far as repetition is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Item,
    Repeated,
    RepeatedLazily,
}

impl Translator<'_> {
    fn run(&mut self) -> Result<()> {
        let mut last = Last::Item;
        while let Some((at, c)) = self.rest.next() {
            let counted = if c == '{' { self.counted() } else { None };
            last = match c {
                '*' | '+' | '?' => self.repeat(at, c, last)?,
                '{' if let Some(counted) = counted => {
                    if last != Last::Item {
                        return refuse(at, "a repetition is repeated");
                    }
                    self.out.push_str(&counted);
                    Last::Repeated
                }
                _ => {
                    self.item(at, c)?;
                    Last::Item
                }
            };
        }
        Ok(())
    }

    fn repeat(&mut self, at: usize, c: char, last: Last) -> Result<Last> {
        match (last, c) {
            (Last::Item, _) => {
                self.out.push(c);
                Ok(Last::Repeated)
            }
            (Last::Repeated, '?') => {
                self.out.push(c);
                Ok(Last::RepeatedLazily)
            }
            (Last::Repeated, '+') => unsupported(at, "possessive repetition"),
            _ => refuse(at, "a repetition is repeated"),
        }
    }

    fn item(&mut self, at: usize, c: char) -> Result<()> {
        match c {
            '\\' => self.escape(at, false)?,
            '[' => self.class(at)?,
            '(' => self.group(at)?,
            // Python's end is also before a last line end
            '$' if !self.flavour.multi_line && !self.has_multi_line_flag() => {
                self.out.push_str("(?:\\n?\\z)");
            }
            '{' | '}' | ']' => self.literal(c),
            '^' | '$' | '.' | '|' | ')' => self.out.push(c),
            _ => self.literal(c),
        }
        Ok(())
    }

    fn has_multi_line_flag(&self) -> bool {
        let flags = |part: &str| part.chars().take_while(char::is_ascii_alphabetic).any(|flag| flag == 'm');
        self.pattern.split("(?").skip(1).any(flags)
    }

    fn literal(&mut self, c: char) {
        if c.is_ascii() || self.flavour.unicode {
            self.out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
            return;
        }
        self.out.push_str("(?:");
        self.bytes(c);
        self.out.push(')');
    }

    fn bytes(&mut self, c: char) {
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            self.out.push_str(&format!("\\x{byte:02x}"));
        }
    }

    /// The rest of `{2}`, `{2,}`, `{,3}` or `{2,3}`; none if the brace means itself.
    fn counted(&mut self) -> Option<String> {
        let start = self.rest.peek()?.0;
        let end = start + self.pattern[start..].find('}')?;
        let inside = &self.pattern[start..end];
        let (min, max) = inside.split_once(',').map_or((inside, None), |(min, max)| (min, Some(max)));
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if inside.is_empty() || !is_number(min) || !max.is_none_or(is_number) {
            return None;
        }
        while self.rest.next_if(|(at, _)| *at <= end).is_some() {}
        let min = if min.is_empty() { "0" } else { min };
        Some(max.map_or_else(|| format!("{{{min}}}"), |max| format!("{{{min},{max}}}")))
    }

    /// What follows a backslash.
    fn escape(&mut self, at: usize, in_class: bool) -> Result<()> {
        let Some((_, c)) = self.rest.next() else { return refuse(at, "the pattern ends in a backslash") };
        match c {
            'd' | 'D' | 'w' | 'W' | 's' | 'S' | 'a' | 'f' | 'n' | 'r' | 't' | 'v' => {
                self.out.push('\\');
                self.out.push(c);
            }
            'b' if in_class => self.out.push_str("\\x08"),
            'A' | 'b' | 'B' if !in_class => {
                self.out.push('\\');
                self.out.push(c);
            }
            'Z' if !in_class => self.out.push_str("\\z"),
            'x' => self.code(at, 2)?,
            'u' if self.flavour.unicode => self.code(at, 4)?,
            'U' if self.flavour.unicode => self.code(at, 8)?,
            digit @ '0'..='9' => return self.number(at, digit, in_class),
            c if c.is_ascii_alphabetic() => return refuse(at, format!("\\{c} is unknown")),
            c if in_class => self.in_class(c),
            c => self.literal(c),
        }
        Ok(())
    }

    /// A character by its code, in that many digits.
    fn code(&mut self, at: usize, digits: usize) -> Result<()> {
        let mut code = String::new();
        while code.len() < digits {
            match self.rest.next_if(|(_, c)| c.is_ascii_hexdigit()) {
                Some((_, digit)) => code.push(digit),
                None => return refuse(at, format!("{digits} hexadecimal digits are needed")),
            }
        }
        match digits {
            2 => self.out.push_str(&format!("\\x{code}")),
            _ => match u32::from_str_radix(&code, 16).ok().and_then(char::from_u32) {
                Some(c) => self.literal(c),
                None => return refuse(at, "there is no such character"),
            },
        }
        Ok(())
    }

    /// `\0`, `\012`, `\141`: a character by its octal code. Anything else is a back-reference.
    fn number(&mut self, at: usize, first: char, in_class: bool) -> Result<()> {
        let digits = &self.pattern[at + 1..];
        let octal = digits.bytes().take(3).take_while(|digit| (b'0'..=b'7').contains(digit)).count();
        let code = u8::from_str_radix(&digits[..octal], 8);
        match code {
            Ok(code) if first == '0' || octal == 3 || in_class => {
                for _ in 1..octal {
                    self.rest.next();
                }
                self.out.push_str(&format!("\\x{code:02x}"));
                Ok(())
            }
            _ => unsupported(at, "a back-reference"),
        }
    }

    /// A character that stands for itself in a class.
    fn in_class(&mut self, c: char) {
        match c {
            c if c.is_ascii_punctuation() => {
                self.out.push('\\');
                self.out.push(c);
            }
            c if c.is_ascii() || self.flavour.unicode => self.out.push(c),
            c => self.bytes(c),
        }
    }

    fn class(&mut self, at: usize) -> Result<()> {
        self.out.push('[');
        if self.rest.next_if(|(_, c)| *c == '^').is_some() {
            self.out.push('^');
        }
        if self.rest.next_if(|(_, c)| *c == ']').is_some() {
            self.out.push_str("\\]");
        }
        while let Some((place, c)) = self.rest.next() {
            match c {
                ']' => {
                    self.out.push(']');
                    return Ok(());
                }
                '\\' => self.escape(place, true)?,
                // a range, unless it stands at the edge
                '-' => {
                    let is_edge = self.out.ends_with('[') || self.out.ends_with("[^");
                    let is_range = !is_edge && self.rest.peek().is_some_and(|(_, next)| *next != ']');
                    self.out.push_str(if is_range && !self.out.ends_with('-') { "-" } else { "\\-" });
                }
                c => self.in_class(c),
            }
        }
        refuse(at, "[ is not closed")
    }

    fn group(&mut self, at: usize) -> Result<()> {
        let rest = &self.pattern[at + 1..];
        let Some(kind) = rest.strip_prefix('?') else {
            self.out.push('(');
            return Ok(());
        };
        if ["=", "!", "<=", "<!"].iter().any(|mark| kind.starts_with(mark)) {
            return unsupported(at, "look-around");
        }
        if kind.starts_with("P=") {
            return unsupported(at, "a back-reference");
        }
        if kind.starts_with('(') {
            return unsupported(at, "a conditional");
        }
        if kind.starts_with('>') {
            return unsupported(at, "an atomic group");
        }
        if kind.starts_with('#') {
            let Some(end) = rest.find(')') else { return refuse(at, "( is not closed") };
            while self.rest.next_if(|(place, _)| *place <= at + 1 + end).is_some() {}
            return Ok(());
        }
        self.out.push('(');
        let is_flag = |c: &char| c.is_ascii_alphabetic() || *c == '-';
        let flags: String = kind.chars().take_while(is_flag).collect();
        if !matches!(kind.as_bytes().get(flags.len()), Some(b')' | b':')) || flags.is_empty() {
            return Ok(());
        }
        self.flags(at, &flags)
    }

    /// `(?i)` or `(?i:`: flags that say what is so anyway are dropped.
    fn flags(&mut self, at: usize, flags: &str) -> Result<()> {
        if let Some(unknown) = flags.chars().find(|flag| !"aiLmsux-".contains(*flag)) {
            return refuse(at, format!("the flag {unknown} is unknown"));
        }
        for _ in 0..=flags.len() {
            self.rest.next();
        }
        let kept: String = flags.chars().filter(|flag| "imsx-".contains(*flag)).collect();
        let kept = kept.strip_suffix('-').unwrap_or(&kept);
        self.out.push('?');
        self.out.push_str(kept);
        if kept.is_empty() && self.rest.next_if(|(_, c)| *c == ')').is_some() {
            // nothing is left of it: a group of nothing
            self.out.push_str(":)");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: Flavour = Flavour { unicode: false, dot_all: false, multi_line: false };
    const TEXT: Flavour = Flavour { unicode: true, ..BYTES };

    fn finds(pattern: &str, flavour: Flavour, text: &[u8]) -> bool {
        compile(pattern, flavour, Case::Ignored).expect(pattern).is_match(text)
    }

    #[test]
    fn python_s_patterns_mean_the_same_here() {
        let table: [(&str, &str, bool); 44] = [
            ("a.c", "xABCx", true),
            ("a.c", "a\nc", false),
            ("{\"k\"", "{\"k\"", true),
            ("a{2}", "aa", true),
            ("a{2}$", "a{2}", false),
            ("a{,2}b", "b", true),
            ("^a{2,}$", "aaa", true),
            ("^a{x}$", "a{x}", true),
            ("a{", "a{", true),
            ("x]}", "x]}", true),
            ("end$", "end", true),
            ("end$", "end\n", true),
            ("end$", "end\n\n", false),
            ("end\\Z", "end\n", false),
            ("(?m)end$", "end\nmore", true),
            ("^more", "end\nmore", false),
            ("[[]", "[", true),
            ("[a&&b]", "&", true),
            ("[+--]", ",", true),
            ("[-a]", "-", true),
            ("[a-]", "-", true),
            ("[]]", "]", true),
            ("[^]]", "]", false),
            ("[^-a]", "-", false),
            ("[a-c]+$", "abc", true),
            ("[a-c]", "-", false),
            ("[\\w.-]+$", "a.b-c", true),
            ("[\\b]", "\u{8}", true),
            ("[~]", "~", true),
            ("\\<a\\>", "<a>", true),
            ("\\/\\_\\-", "/_-", true),
            ("\\0\\012\\141", "\0\na", true),
            ("\\x41", "a", true),
            ("a(?#note)b", "ab", true),
            ("(?i:A)b", "aB", true),
            ("(?u)a", "a", true),
            ("(?s)a.b", "a\nb", true),
            ("(?-i)A", "a", false),
            ("(?P<n>a)+", "aa", true),
            ("a??b", "b", true),
            ("", "", true),
            ("a|", "zzz", true),
            ("\\d+\\s\\D\\W", "12 x-", true),
            ("\\bword\\b", "a word.", true),
        ];
        for (pattern, text, expected) in table {
            for flavour in [BYTES, TEXT] {
                assert_eq!(finds(pattern, flavour, text.as_bytes()), expected, "{pattern} in {text:?}");
            }
        }
    }

    #[test]
    fn characters_and_bytes_are_told_apart() {
        assert!(finds("ü", TEXT, "Ü".as_bytes()), "text ignores case everywhere");
        assert!(!finds("ü", BYTES, "Ü".as_bytes()) && finds("ü", BYTES, "ü".as_bytes()));
        assert!(finds("^.$", TEXT, "ü".as_bytes()) && !finds("^.$", BYTES, "ü".as_bytes()));
        assert!(finds("\\xff", BYTES, b"\xff"));
        assert!(finds("[ü]", BYTES, "ü".as_bytes()) && finds("[ü]", TEXT, "ü".as_bytes()));
        assert!(finds("\\u00fc\\U0001f600", TEXT, "ü😀".as_bytes()));
        assert!(compile("\\u00fc", BYTES, Case::Ignored).is_err(), "bytes have no such characters");
        assert!(!finds("\\w", BYTES, "ü".as_bytes()) && finds("\\w", TEXT, "ü".as_bytes()));
    }

    #[test]
    fn what_takes_more_than_linear_time_is_refused_by_name() {
        let table = [
            ("a(?=b)", 1, "look-around"),
            ("(?!b)", 0, "look-around"),
            ("x(?<=b)", 1, "look-around"),
            ("(?<!b)", 0, "look-around"),
            ("(a)\\1", 3, "back-reference"),
            ("(?P<n>a)(?P=n)", 8, "back-reference"),
            ("(a)(?(1)b|c)", 3, "conditional"),
            ("(?>a)", 0, "atomic"),
            ("a++", 2, "possessive"),
            ("a{2}+", 4, "possessive"),
            ("a**", 2, "repeated"),
            ("a+?+", 3, "repeated"),
            ("\\y", 0, "\\y is unknown"),
            ("a\\", 1, "backslash"),
            ("[a", 0, "not closed"),
            ("\\x4", 0, "2 hexadecimal digits"),
            ("(?q)a", 0, "flag q"),
            ("(", 0, "no pattern: unclosed group"),
            ("*", 0, "no pattern"),
            ("[z-a]", 0, "no pattern"),
            ("(a{1000}){1000}", 0, "too large"),
        ];
        for (pattern, at, reason) in table {
            let error = compile(pattern, BYTES, Case::Ignored).expect_err(pattern);
            assert!(error.reason.contains(reason), "{pattern}: {}", error.reason);
            assert_eq!(error.at, at, "{pattern}");
        }
    }

    #[test]
    fn any_pattern_compiles_or_is_refused() {
        let alphabet: Vec<char> = "ab\\()[]{}?*+|^$.-,1&~<>P=!:imsxüZ0 #".chars().collect();
        let mut state = 5u64;
        for round in 0..6_000 {
            let mut pattern = String::new();
            for _ in 0..1 + round % 12 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                pattern.push(alphabet[(state >> 33) as usize % alphabet.len()]);
            }
            let _ = (compile(&pattern, BYTES, Case::Ignored), compile(&pattern, TEXT, Case::Sensitive));
        }
    }
}
