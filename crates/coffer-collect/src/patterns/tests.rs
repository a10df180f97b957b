use super::*;

fn set(lines: &[&str]) -> Patterns {
    let mut builder = Patterns::builder();
    for line in lines {
        builder.add(line.as_bytes(), false).unwrap();
    }
    builder.build().unwrap()
}

#[track_caller]
fn check(lines: &[&str], cases: &[(&[u8], bool, Verdict)]) {
    let set = set(lines);
    for (path, is_dir, expected) in cases {
        assert_eq!(set.matches(path, *is_dir), *expected, "{lines:?} and {}", escape(path));
    }
}

use Verdict::{Ignore, None as Nothing, Whitelist};

#[test]
fn a_name_matches_anywhere_and_a_path_from_the_root() {
    check(
        &["*.o"],
        &[
            (b"a.o", false, Ignore),
            (b"x/y/a.o", false, Ignore),
            (b"a.oo", false, Nothing),
            (b".o", false, Ignore),
        ],
    );
    check(&["/top"], &[(b"top", false, Ignore), (b"x/top", false, Nothing), (b"", true, Nothing)]);
    check(
        &["home/me"],
        &[(b"home/me", true, Ignore), (b"x/home/me", true, Nothing), (b"home/me/a", false, Nothing)],
    );
    check(&["/home/me/.cache"], &[(b"home/me/.cache", true, Ignore)]);
    check(&["**/node_modules"], &[(b"node_modules", true, Ignore), (b"a/b/node_modules", true, Ignore)]);
    check(&["a/**/z"], &[(b"a/z", false, Ignore), (b"a/b/c/z", false, Ignore), (b"b/a/z", false, Nothing)]);
    check(&["a/**"], &[(b"a", true, Nothing), (b"a/b", false, Ignore)]);
}

#[test]
fn a_slash_at_the_end_means_directories() {
    check(&["build/"], &[(b"build", true, Ignore), (b"x/build", true, Ignore), (b"build", false, Nothing)]);
}

#[test]
fn the_last_match_counts() {
    check(&["*.log", "!keep.log"], &[(b"a.log", false, Ignore), (b"x/keep.log", false, Whitelist)]);
    check(&["!keep.log", "*.log"], &[(b"keep.log", false, Ignore)]);
}

#[test]
fn what_looks_special_can_be_meant() {
    check(&["#x", "\\!y"], &[(b"#x", false, Ignore), (b"!y", false, Ignore), (b"y", false, Nothing)]);
    check(&["a\\*"], &[(b"a*", false, Ignore), (b"ab", false, Nothing)]);
    check(&["[ab]?"], &[(b"ax", false, Ignore), (b"cx", false, Nothing)]);
}

#[test]
fn bytes_that_are_not_utf8_are_matched_as_bytes() {
    check(
        &["caf?", "*.bak"],
        &[
            (b"caf\xe9", false, Ignore),
            (b"d/caf\xff", true, Ignore),
            (b"caf\xe9s", false, Nothing),
            (b"\xff\xfe.bak", false, Ignore),
            (b"\xff\xfe.ba\xeb", false, Nothing),
        ],
    );
    // U+FFFD in a pattern is the character, not whatever could not be decoded.
    check(&["caf\u{fffd}"], &[(b"caf\xe9", false, Nothing), ("caf\u{fffd}".as_bytes(), false, Ignore)]);
}

#[test]
fn case_is_a_matter_of_each_pattern() {
    let mut builder = Patterns::builder();
    builder.add(b"*.JPG", true).unwrap();
    builder.add(b"Thumbs", false).unwrap();
    let set = builder.build().unwrap();
    assert_eq!(set.matches(b"x/a.jpg", false), Ignore);
    assert_eq!(set.matches(b"x/a.Jpg", false), Ignore);
    assert_eq!(set.matches(b"thumbs", false), Nothing);
}

#[test]
fn directories_above_count_where_they_are_asked_for() {
    let set = set(&["build", "!build/keep", "docs", "!docs/draft"]);
    assert_eq!(set.matches_from_top(b"build/keep", false), Ignore);
    assert_eq!(set.matches_from_top(b"x/y", false), Nothing);
    assert_eq!(set.matches_nearest(b"docs/a/b", false), Ignore);
    assert_eq!(set.matches_nearest(b"docs/draft/b", false), Whitelist);
    assert_eq!(set.matches_nearest(b"other/b", false), Nothing);
}

#[test]
fn a_bad_pattern_is_named() {
    let bad: [&[u8]; 8] = [b"", b"  ", b"!", b"/", b"a[", b"a/../b", b"./a", b"caf\xe9"];
    for pattern in bad {
        let error = Patterns::builder().add(pattern, false).unwrap_err();
        assert!(error.to_string().contains(&escape(pattern)), "{error}");
        assert!(matches!(error, CollectError::Pattern { .. }), "{error:?}");
    }
}

#[test]
fn a_file_has_comments_and_empty_lines() {
    let mut builder = Patterns::builder();
    builder.add_lines(b"\xef\xbb\xbf# one\r\n\r\n*.o\r\n  \n\\#x\n!a.o", false).unwrap();
    let set = builder.build().unwrap();
    assert_eq!((set.matches(b"b.o", false), set.matches(b"a.o", false)), (Ignore, Whitelist));
    assert_eq!((set.matches(b"#x", false), set.matches(b"# one", false)), (Ignore, Nothing));
    assert!(Patterns::builder().add_lines(b"ok\nb[\n", false).is_err());
    assert!(Patterns::builder().build().unwrap().is_empty() && Patterns::default().is_empty());
}

#[test]
fn braces_stand_for_themselves() {
    let one = |pattern: &[u8]| {
        let mut builder = Patterns::builder();
        builder.add(pattern, false).unwrap();
        builder.build().unwrap()
    };
    for (pattern, hit, miss) in [
        (&b"{A1}"[..], &b"{A1}"[..], &b"A1"[..]),
        (b"{a,b}", b"{a,b}", b"a"),
        (b"{a", b"{a", b"a"),
        (b"x/{*}.rs", b"x/{abc}.rs", b"x/abc.rs"),
        (b"\\{a}", b"{a}", b"a"),
        (b"[{}]", b"{", b"a"),
    ] {
        assert_eq!(one(pattern).matches(hit, false), Verdict::Ignore, "{pattern:?}");
        assert_eq!(one(pattern).matches(miss, false), Verdict::None, "{pattern:?}");
    }
}
