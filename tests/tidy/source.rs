//! Source text as the rules look at it: code without comments and strings, comments without code, and which lines
//! are tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One file, taken apart. Every view has the file's line breaks, so that a line number means the same in all.
pub(crate) struct Source {
    /// From the project's directory, with `/`.
    pub(crate) path: String,
    /// As written.
    pub(crate) text: String,
    /// Comments and what is inside quotes replaced by spaces.
    pub(crate) code: String,
    /// All but comments replaced by spaces.
    pub(crate) comments: String,
    /// For each line: it belongs to a test.
    pub(crate) is_test: Vec<bool>,
    /// The code with tests blanked out.
    pub(crate) shipped: String,
}

impl Source {
    /// Takes a file apart; by itself it does not know whether it is a test as a whole.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, comments) = split(text);
        let mut is_test = vec![false; text.lines().count()];
        for (start, end, _) in test_items(&code) {
            let (first, last) = (line_of(&code, start), line_of(&code, end));
            is_test[first - 1..last].fill(true);
        }
        let (path, text) = (path.to_owned(), text.to_owned());
        let mut source = Self { path, text, code, comments, is_test, shipped: String::new() };
        source.blank_tests();
        source
    }

    fn blank_tests(&mut self) {
        let lines = self.code.lines().zip(&self.is_test);
        let kept = lines.map(|(line, is_test)| if *is_test { "" } else { line });
        self.shipped = kept.fold(String::new(), |all, line| all + line + "\n");
    }

    /// `path:line`.
    pub(crate) fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path)
    }
}

/// Every Rust file of `src/`, with the files of test modules marked as tests.
pub(crate) fn all(root: &Path) -> Vec<Source> {
    let mut paths = Vec::new();
    walk(&root.join("src"), &mut paths);
    let mut sources = BTreeMap::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        sources.insert(name.clone(), Source::new(&name, &text));
    }
    mark_test_files(&mut sources);
    sources.into_values().collect()
}

/// `#[cfg(test)] mod name;` makes the module's file, and all in its folder, a test.
fn mark_test_files(sources: &mut BTreeMap<String, Source>) {
    let mut roots = Vec::new();
    for source in sources.values() {
        let folder = module_folder(&source.path);
        for (_, _, module) in test_items(&source.code) {
            let Some(module) = module else { continue };
            roots.push((format!("{folder}/{module}.rs"), format!("{folder}/{module}/")));
        }
    }
    for source in sources.values_mut() {
        if roots.iter().any(|(file, folder)| source.path == *file || source.path.starts_with(folder)) {
            source.is_test.fill(true);
            source.blank_tests();
        }
    }
}

/// Where the modules declared in a file lie.
fn module_folder(path: &str) -> String {
    let (folder, file) = path.rsplit_once('/').unwrap();
    match file {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        _ => path.strip_suffix(".rs").unwrap().to_owned(),
    }
}

fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

/// The items under `#[cfg(test)]` (or a `cfg` that names `test` and does not negate it): where each starts and ends,
/// and its name if it is a module in a file of its own.
fn test_items(code: &str) -> Vec<(usize, usize, Option<String>)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(").map(|at| at + from) {
        let close = matching(code, at + 1, '[', ']');
        let condition = &code[at..close];
        from = close;
        if words(condition).any(|(_, word)| word == "test")
            && !words(condition).any(|(_, word)| word == "not")
        {
            let end = item_end(code, close);
            let item = code[close..end].trim();
            let module =
                item.strip_suffix(';').and_then(|item| item.split_once("mod ")).map(|(_, name)| name);
            found.push((at, end, module.map(|name| name.trim().to_owned())));
            from = end;
        }
    }
    found
}

/// Behind the item that starts here: its closing brace, or its semicolon.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[from..].char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return matching(code, from + at, '{', '}'),
            ';' if depth == 0 => return from + at + 1,
            // a variant or a field, the last one
            '}' if depth == 0 => return from + at,
            _ => {}
        }
    }
    code.len()
}

/// Behind the bracket that closes the one at `from`.
fn matching(code: &str, from: usize, open: char, close: char) -> usize {
    let mut depth = 0;
    for (at, c) in code[from..].char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
            if depth == 0 {
                return from + at + 1;
            }
        }
    }
    code.len()
}

/// The line, from 1, of a place in the text.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Identifiers and where they are.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + code[from..].find(is_word)?;
        let length = code[start..].find(|c| !is_word(c)).unwrap_or(code.len() - start);
        from = start + length;
        Some((start, &code[start..start + length]))
    })
}

/// Every path that begins with the word, groups in braces expanded: `crate::{a, b::{c, d}}` gives `a`, `b::c`, `b::d`.
/// With the line it is on.
pub(crate) fn paths_below(code: &str, first: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, word) in words(code) {
        let before = code[..at].trim_end();
        let is_first = match before.strip_suffix("::") {
            // `::name::` is a path's beginning as well
            Some(rest) => !rest.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '>'),
            None => !before.ends_with('.'),
        };
        if word == first && is_first {
            expand(code, at + word.len(), "", &mut found);
        }
    }
    found
}

/// Reads on behind a path's segment; gives where the path ends.
fn expand(code: &str, at: usize, so_far: &str, out: &mut Vec<(usize, String)>) -> usize {
    let rest = &code[at..];
    let Some(behind) = rest.trim_start().strip_prefix("::") else {
        if !so_far.is_empty() {
            out.push((line_of(code, at), so_far.to_owned()));
        }
        return at;
    };
    let start = at + (rest.len() - behind.len()) + (behind.len() - behind.trim_start().len());
    let join = |name: &str| if so_far.is_empty() { name.to_owned() } else { format!("{so_far}::{name}") };
    if let Some(inside) = code[start..].strip_prefix('{') {
        let end = matching(code, start, '{', '}');
        let mut next = code.len() - inside.len();
        while let Some((word_at, word)) = words(&code[next..end]).next() {
            next = expand(code, next + word_at + word.len(), &join(word), out);
            // behind `as name`
            next += code[next..end].find(',').unwrap_or(end - next);
        }
        return end;
    }
    match words(&code[start..]).next() {
        Some((0, word)) => expand(code, start + word.len(), &join(word), out),
        // `crate::*`, or a type's arguments `::<`
        _ => {
            out.push((line_of(code, at), if so_far.is_empty() { "*".to_owned() } else { so_far.to_owned() }));
            start
        }
    }
}

/// Code without comments and strings, and comments alone.
fn split(text: &str) -> (String, String) {
    let (mut code, mut comments) = (String::with_capacity(text.len()), String::with_capacity(text.len()));
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (length, kind) = piece(rest, code.chars().next_back());
        for c in rest[..length].chars() {
            let blank = if c == '\n' { '\n' } else { ' ' };
            code.push(if kind == Kind::Code { c } else { blank });
            comments.push(if kind == Kind::Comment { c } else { blank });
        }
        debug_assert!(length >= c.len_utf8());
        rest = &rest[length..];
    }
    (code, comments)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Code,
    Comment,
    Quoted,
}

/// How long the next piece is, and what it is.
fn piece(rest: &str, before: Option<char>) -> (usize, Kind) {
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), Kind::Comment);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), Kind::Comment);
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_word && let Some(length) = raw_string(rest) {
        return (length, Kind::Quoted);
    }
    if rest.starts_with('"') {
        return (quoted(rest, '"'), Kind::Quoted);
    }
    if let Some(inside) = rest.strip_prefix('\'') {
        let mut chars = inside.chars();
        let (first, second) = (chars.next(), chars.next());
        // otherwise it is a lifetime
        if first == Some('\\') || second == Some('\'') {
            return (quoted(rest, '\''), Kind::Quoted);
        }
    }
    (rest.chars().next().map_or(0, char::len_utf8), Kind::Code)
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

fn raw_string(rest: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        rest.strip_prefix(prefix).is_some_and(|rest| rest.trim_start_matches('#').starts_with('"'))
    })?;
    let body = &rest[prefix.len()..];
    let hashes = body.len() - body.trim_start_matches('#').len();
    let close = format!("\"{}", "#".repeat(hashes));
    let start = prefix.len() + hashes + 1;
    Some(rest[start..].find(&close).map_or(rest.len(), |at| start + at + close.len()))
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    rest.len()
}
