//! What a walk leaves out, and what it does not.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use coffer_collect::{Excludes, Marker, Patterns, Walk, WalkOptions};
use common::{name, paths, split, tree};
use tempfile::tempdir;

fn ignoring(lines: &[&str]) -> Excludes {
    let mut patterns = Patterns::builder();
    for line in lines {
        patterns.add(line.as_bytes(), false).unwrap();
    }
    Excludes { patterns: patterns.build().unwrap(), ..Excludes::default() }
}

/// Paths found, and how much was left out.
fn walk(sources: &[&str], cwd: &Path, excludes: Excludes) -> (Vec<String>, u64) {
    let sources: Vec<PathBuf> = sources.iter().map(PathBuf::from).collect();
    let options = WalkOptions { excludes, ..WalkOptions::default() };
    let mut walk = Walk::with_options(&sources, cwd, options).unwrap();
    let (found, errors) = split(walk.by_ref());
    assert!(errors.is_empty(), "{errors:?}");
    (paths(&found), walk.excluded_count())
}

#[track_caller]
fn check(dir: &Path, sources: &[&str], lines: &[&str], expected: &[&str], count: u64) {
    assert_eq!(
        walk(sources, dir, ignoring(lines)),
        (expected.iter().map(|path| (*path).to_owned()).collect(), count)
    );
}

#[test]
fn patterns_leave_out_entries_and_what_is_below_them() {
    let dir = tree(&["s/.hidden", "s/a.o", "s/b/c.o", "s/b/d", "s/target/x/y", "s/e/target"]);
    let dir = dir.path();
    check(
        dir,
        &["s"],
        &[],
        &[
            "s",
            "s/.hidden",
            "s/a.o",
            "s/b",
            "s/b/c.o",
            "s/b/d",
            "s/e",
            "s/e/target",
            "s/target",
            "s/target/x",
            "s/target/x/y",
        ],
        0,
    );
    check(dir, &["s"], &["*.o", "target/"], &["s", "s/.hidden", "s/b", "s/b/d", "s/e", "s/e/target"], 3);
    check(dir, &["s"], &["/s/b", "/b", "target", ".*"], &["s", "s/a.o", "s/e"], 4);
    check(dir, &["s/b"], &["*", "!d"], &["s"], 1);
    check(dir, &["s/b"], &["*.o"], &["s", "s/b", "s/b/d"], 1);
}

#[test]
fn a_directory_that_is_left_out_is_not_entered() {
    let dir = tree(&["s/closed/x", "s/y"]);
    let closed = dir.path().join("s/closed");
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).unwrap();
    common::unprivileged(dir.path(), || {
        // Entering it would be an error.
        check(dir.path(), &["s"], &["closed"], &["s", "s/y"], 1);
    });
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn what_leads_to_a_source_is_passed() {
    let dir = tree(&["out/keep/a", "out/keep/b.o", "out/c", "d"]);
    let dir = dir.path();
    // The directories above a source are not asked; the source itself is.
    check(dir, &["out/keep"], &["out"], &["out", "out/keep", "out/keep/a", "out/keep/b.o"], 0);
    check(dir, &["out/keep"], &["keep"], &["out"], 1);
    check(dir, &[".", "out/keep"], &["out", "*.o"], &[".", "d", "out", "out/keep", "out/keep/a"], 2);
    check(dir, &["d", "out/c"], &["d", "c"], &["out"], 2);
}

#[test]
fn names_that_are_not_utf8_are_neither_lost_nor_mistaken() {
    let dir = tempdir().unwrap();
    for bytes in [&b"caf\xe9"[..], b"caf\xe8", "caf\u{fffd}".as_bytes(), b"\xff.o", b"\xff.p"] {
        fs::write(dir.path().join(name(bytes)), "x").unwrap();
    }
    fs::create_dir(dir.path().join(name(b"d\xfe"))).unwrap();
    fs::write(dir.path().join(name(b"d\xfe/inside")), "x").unwrap();
    let all = [".", "caf\\xe8", "caf\\xe9", "caf\u{fffd}", "d\\xfe", "d\\xfe/inside", "\\xff.o", "\\xff.p"];
    check(dir.path(), &["."], &["nothing"], &all, 0);
    check(dir.path(), &["."], &["caf\u{fffd}", "*.o", "d?"], &[".", "caf\\xe8", "caf\\xe9", "\\xff.p"], 3);
    check(
        dir.path(),
        &["."],
        &["caf?"],
        &[".", "caf\u{fffd}", "d\\xfe", "d\\xfe/inside", "\\xff.o", "\\xff.p"],
        2,
    );
}

#[test]
fn files_larger_than_the_limit_are_left_out() {
    let dir = tree(&["small", "d/small"]);
    fs::write(dir.path().join("exact"), [0; 100]).unwrap();
    fs::write(dir.path().join("over"), [0; 101]).unwrap();
    fs::File::create(dir.path().join("sparse")).unwrap().set_len(1 << 30).unwrap();
    let excludes = Excludes { larger_than: Some(100), ..Excludes::default() };
    let (found, count) = walk(&["."], dir.path(), excludes);
    assert_eq!(
        (found.as_slice(), count),
        (&[".", "d", "d/small", "exact", "small"].map(str::to_owned)[..], 2)
    );
}

const SIGNATURE: &str = "Signature: 8a477f597d28d172789f06886806bc55";

#[test]
fn cache_directories_keep_their_tag_and_nothing_else() {
    let dir = tree(&["a/CACHEDIR.TAG", "a/x", "b/d/e", "b/x", "c/x", "top"]);
    fs::write(dir.path().join("b/CACHEDIR.TAG"), format!("{SIGNATURE}\n# made by hand\n")).unwrap();
    fs::create_dir(dir.path().join("c/CACHEDIR.TAG")).unwrap();
    let caches = || Excludes { markers: vec![Marker::cache_directory()], ..Excludes::default() };
    let (found, count) = walk(&["."], dir.path(), caches());
    // The tag in a lacks the signature, and that in c is no file.
    let expected =
        [".", "a", "a/CACHEDIR.TAG", "a/x", "b", "b/CACHEDIR.TAG", "c", "c/CACHEDIR.TAG", "c/x", "top"];
    assert_eq!((found, count), (expected.map(str::to_owned).to_vec(), 1));
    let (found, _) = walk(&["b"], dir.path(), caches());
    assert_eq!(found, ["b", "b/CACHEDIR.TAG"], "a source is asked too");
    let (found, _) = walk(&[".", "b/d"], dir.path(), caches());
    assert!(found.contains(&"b/d/e".to_owned()) && !found.contains(&"b/x".to_owned()), "{found:?}");
}

#[test]
fn markers_may_have_a_header() {
    let dir = tree(&["a/.skip", "a/x", "b/.skip", "b/x", "c/.skip", "c/x"]);
    fs::write(dir.path().join("a/.skip"), "yes, skip").unwrap();
    fs::write(dir.path().join("b/.skip"), "ye").unwrap();
    let markers = |header: &[u8]| Excludes {
        markers: vec![Marker::new(b".skip", header).unwrap()],
        ..Excludes::default()
    };
    let (found, count) = walk(&["."], dir.path(), markers(b"yes"));
    assert_eq!((found.len(), count), (9, 1));
    assert!(!found.contains(&"a/x".to_owned()));
    let (found, count) = walk(&["."], dir.path(), markers(b""));
    assert_eq!((found.len(), count), (7, 3));
    for bad in [&b""[..], b"a/b", b".."] {
        Marker::new(bad, b"").unwrap_err();
    }
}

/// `/dev` and `/dev/shm` are two file systems nearly everywhere.
#[test]
fn one_file_system_leaves_others_empty() {
    let device = |path: &str| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    if device("/dev/shm").is_none() || device("/dev/shm") == device("/dev") {
        common::pass_over("/dev/shm is no file system of its own");
        return;
    }
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    let file = place.path().join("file");
    fs::write(&file, "x").unwrap();
    let path = |path: &Path| path.to_str().unwrap().trim_start_matches('/').to_owned();
    let excludes = |one_file_system| Excludes { one_file_system, ..Excludes::default() };
    let found = |sources: &[&str], excludes| {
        let sources: Vec<PathBuf> = sources.iter().map(PathBuf::from).collect();
        let options = WalkOptions { excludes, ..WalkOptions::default() };
        // Other processes make and remove what they like there.
        paths(&split(Walk::with_options(&sources, Path::new("/"), options).unwrap()).0)
    };
    let place = path(place.path());
    let file = path(&file);
    assert!(found(&["/dev"], excludes(false)).contains(&file));
    let one = found(&["/dev"], excludes(true));
    assert!(one.contains(&"dev/shm".to_owned()) && !one.contains(&place) && !one.contains(&file));
    // Each source is on a file system of its own.
    let given = found(&["/dev", &format!("/{place}")], excludes(true));
    assert!(given.contains(&file) && given.contains(&"dev/null".to_owned()));
}
