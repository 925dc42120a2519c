//! The eyes of all this.

use super::source::{Source, paths_below};
use super::sources;

#[test]
fn comments_and_quotes_are_not_code() {
    let text = "let a = \"crate::x // \\\" \"; // crate::y\nlet b = r#\"crate::\"z\"#; /* a /* b */ c */ let c: &'a u8 = '\\'';\nlet d = '\"'; e";
    let source = Source::new("src/a.rs", text);
    assert!(!source.code.contains("crate") && source.comments.contains("crate::y"));
    assert!(source.code.contains("let c: &'a u8 =") && source.code.trim_end().ends_with('e'));
    assert_eq!(source.code.lines().count(), 3);
}

#[test]
fn paths_are_found_however_they_are_written() {
    let found = |code: &str| paths_below(code, "crate").into_iter().map(|(_, path)| path).collect::<Vec<_>>();
    assert_eq!(found("use crate::{a, b::{self, c as d}, e::*};"), ["a", "b::self", "b::c", "e"]);
    assert_eq!(found("use crate::\n    a::B;"), ["a::B"]);
    assert_eq!(found("pub(crate) fn f() -> crate::a::B<crate::c::D> {}"), ["a::B", "c::D"]);
    assert_eq!(found("let x = crate::a::f::<u8>();"), ["a::f"]);
}

#[test]
fn tests_are_told_from_what_is_shipped() {
    let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n#[cfg(any(test, feature = \"testing\"))]\nfn c() {\n}\nfn d() {}\n#[cfg(test)]\nmod playbook;\nfn e() {}\n";
    let source = Source::new("src/a.rs", text);
    let kept: Vec<_> = source.shipped.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    assert_eq!(kept, ["fn a() {}", "fn d() {}", "fn e() {}"]);
    let play = sources().iter().find(|source| source.path == "src/proto/tcp/playbook.rs").unwrap();
    assert!(play.is_test.iter().all(|is_test| *is_test), "a test module's file is a test");
}
