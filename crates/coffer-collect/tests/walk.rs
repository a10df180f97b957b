//! What a walk yields, in which order, and what it does when it cannot go on.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use coffer_collect::{CollectError, EntryKind, EntryPath, Identity, Walk, WalkOptions};
use common::{is_root, path, paths, split, tree, unprivileged, walk};
use proptest::prelude::*;
use tempfile::tempdir;

fn check_paths(files: &[&str], sources: &[&str], expected: &[&str]) {
    let dir = tree(files);
    let (found, errors) = walk(sources, dir.path());
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(paths(&found), expected);
}

/// The path under which an absolute source is stored.
fn stored(path: &Path) -> String {
    path.canonicalize().unwrap().to_str().unwrap().trim_start_matches('/').to_owned()
}

#[test]
fn the_root_is_an_entry_only_as_a_source() {
    check_paths(&["a/b", "c"], &["."], &[".", "a", "a/b", "c"]);
    check_paths(&["a/b", "c"], &["a"], &["a", "a/b"]);
    check_paths(&["a/b", "c"], &["./a/./b"], &["a", "a/b"]);
}

#[test]
fn parents_are_entries_and_are_not_recursed() {
    check_paths(&["a/b/c/d", "a/x", "a/b/y"], &["a/b/c"], &["a", "a/b", "a/b/c", "a/b/c/d"]);
}

#[test]
fn order_is_by_component_not_by_byte() {
    check_paths(&["a/z", "a!", "a-b", "aa", "B"], &["."], &[".", "B", "a", "a/z", "a!", "a-b", "aa"]);
}

#[test]
fn overlapping_sources_are_walked_once() {
    let all = ["d", "d/e", "d/e/f", "d/g", "h"];
    check_paths(&["d/e/f", "d/g", "h", "i"], &["h", "d/e", "d", "d/e/f", "d", "h"], &all);
    check_paths(&["d/e/f"], &["d/e", "."], &[".", "d", "d/e", "d/e/f"]);
}

#[test]
fn absolute_sources_keep_their_whole_path() {
    let dir = tree(&["a/b", "c"]);
    let prefix = stored(dir.path());
    let absolute = dir.path().canonicalize().unwrap().join("a");
    let (found, errors) = walk(&[absolute.to_str().unwrap()], Path::new("/"));
    assert!(errors.is_empty(), "{errors:?}");
    let found = paths(&found);
    let depth = prefix.split('/').count();
    assert_eq!(found.len(), depth + 2);
    assert_eq!(found[..depth].last(), Some(&prefix));
    assert_eq!(found[depth..], [format!("{prefix}/a"), format!("{prefix}/a/b")]);
    // The same place given relative to the root of the file system is the same source.
    let relative = format!("{prefix}/a");
    let (again, _) = walk(&[absolute.to_str().unwrap(), &relative], Path::new("/"));
    assert_eq!(paths(&again), found);
}

#[test]
fn a_climbing_source_is_resolved_by_the_file_system() {
    let dir = tree(&["real/inner/x", "real/y", "y"]);
    symlink("real/inner", dir.path().join("link")).unwrap();
    let prefix = stored(dir.path());
    // `link/..` is `real`, not the directory that holds the link.
    let (found, errors) = walk(&["link/../y"], dir.path());
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(paths(&found).last(), Some(&format!("{prefix}/real/y")));
    let (found, _) = walk(&["../y"], &dir.path().join("real"));
    assert_eq!(paths(&found).last(), Some(&format!("{prefix}/y")));
    assert_eq!(found.last().unwrap().size(), 1);
}

#[test]
fn the_same_tree_through_both_forms_is_the_same() {
    let dir = tree(&["t/a/b", "t/a!", "t/c/d/e", "t/f"]);
    let prefix = stored(dir.path());
    let (relative, _) = walk(&["t"], dir.path());
    let (absolute, _) = walk(&[dir.path().join("t").to_str().unwrap()], dir.path());
    let below: Vec<_> =
        absolute.iter().filter(|f| f.path().starts_with(&path(format!("{prefix}/t")))).collect();
    assert_eq!(relative.len(), 8);
    assert_eq!(below.len(), relative.len());
    for (a, b) in relative.iter().zip(below) {
        assert_eq!(format!("{prefix}/{}", a.path()), b.path().to_string());
        assert_eq!(a.fingerprint(), b.fingerprint());
        assert_eq!(a.metadata().unwrap(), b.metadata().unwrap());
    }
}

#[test]
fn a_missing_source_is_reported_and_the_others_go_on() {
    let dir = tree(&["a", "d/e"]);
    let (found, errors) = walk(&["gone", "a", "d/no/where", "d/no/how", "../../nowhere/..", ""], dir.path());
    assert_eq!(paths(&found), ["a", "d"]);
    let mut missing: Vec<_> = errors
        .iter()
        .map(|error| match error {
            CollectError::Source { given, .. } => {
                assert_eq!(error.io_kind(), Some(std::io::ErrorKind::NotFound));
                given.to_str().unwrap()
            }
            other => panic!("{other}"),
        })
        .collect();
    missing.sort_unstable();
    assert_eq!(missing, ["", "../../nowhere/..", "d/no/how", "d/no/where", "gone"]);
}

#[test]
fn no_source_and_two_places_under_one_path_are_refused() {
    let dir = tree(&["tmp/x", "home/x"]);
    assert!(matches!(Walk::new(&[], dir.path()), Err(CollectError::NoSources)));
    let refused = |sources: [&str; 2]| {
        matches!(
            Walk::new(&sources.map(PathBuf::from), dir.path()),
            Err(CollectError::SourceConflict { path, .. }) if path.as_bytes() == b"tmp" || path.is_root()
        )
    };
    assert!(refused(["tmp/x", "/tmp"]));
    assert!(refused([".", "/tmp"]));
    assert!(refused([".", "/"]));
    assert!(!refused(["home", "/tmp"]));
}

#[test]
fn symlinks_are_entries_unless_spelled_out() {
    let dir = tree(&["real/x", "real/y"]);
    symlink("real", dir.path().join("link")).unwrap();
    symlink("/nowhere", dir.path().join("dangling")).unwrap();
    let kinds = |sources: &[&str]| {
        let (found, errors) = walk(sources, dir.path());
        assert!(errors.is_empty(), "{errors:?}");
        found.iter().map(|f| (f.path().to_string(), f.kind())).collect::<Vec<_>>()
    };
    let item = |path: &str, kind| (path.to_owned(), kind);
    let (file, directory, link) = (EntryKind::File, EntryKind::Directory, EntryKind::Symlink);
    assert_eq!(kinds(&["link"]), [item("link", link)]);
    assert_eq!(kinds(&["dangling"]), [item("dangling", link)]);
    assert_eq!(kinds(&["link/"]), [item("link", directory), item("link/x", file), item("link/y", file)]);
    assert_eq!(kinds(&["link/x"]), [item("link", directory), item("link/x", file)]);
    assert_eq!(
        kinds(&[".", "link/x"]).iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(),
        [".", "dangling", "link", "link/x", "link/y", "real", "real/x", "real/y"]
    );
}

#[test]
fn skipped_directories_are_neither_entered_nor_entries() {
    let dir = tree(&["a", "vault/packs/p", "z/vault/q"]);
    let stat = fs::metadata(dir.path().join("vault")).unwrap();
    let options =
        WalkOptions { skip: vec![Identity { dev: stat.dev(), ino: stat.ino() }], ..WalkOptions::default() };
    let mut walk =
        Walk::with_options(&[PathBuf::from("."), PathBuf::from("vault/packs")], dir.path(), options).unwrap();
    let (found, errors) = split(walk.by_ref());
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(paths(&found), [".", "a", "z", "z/vault", "z/vault/q"]);
    assert_eq!(walk.skipped(), [path("vault")]);
}

#[test]
fn a_caller_can_leave_out_a_subtree() {
    let dir = tree(&["a/b/c", "a/d", "e/f"]);
    let mut walk = Walk::new(&[PathBuf::from(".")], dir.path()).unwrap();
    let mut seen = Vec::new();
    while let Some(found) = walk.next() {
        let found = found.unwrap();
        if found.path().as_bytes() == b"a/b" || found.path().as_bytes() == b"e/f" {
            walk.skip_children();
        }
        seen.push(found.path().to_string());
    }
    assert_eq!(seen, [".", "a", "a/b", "a/d", "e", "e/f"]);
}

#[test]
fn an_unreadable_directory_is_an_entry_and_an_error() {
    let dir = tempdir().unwrap();
    unprivileged(dir.path(), || {
        let at = |name: &str| dir.path().join(name);
        for name in ["a", "closed/in", "pass/open", "z"] {
            fs::create_dir_all(at(name)).unwrap();
        }
        fs::set_permissions(at("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(at("pass"), fs::Permissions::from_mode(0o100)).unwrap();
        let (found, errors) = walk(&["."], dir.path());
        assert_eq!(paths(&found), [".", "a", "closed", "pass", "z"]);
        let denied: Vec<_> = errors
            .iter()
            .map(|error| match error {
                CollectError::Io { path, .. }
                    if error.io_kind() == Some(std::io::ErrorKind::PermissionDenied) =>
                {
                    path.to_string()
                }
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(denied, ["closed", "pass"]);
        assert_eq!(found[2].metadata().unwrap().mode, 0);
        // What one may pass through but not list is fine above a source.
        let (found, errors) = walk(&["pass/open"], dir.path());
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(paths(&found), ["pass", "pass/open"]);
        assert_eq!(found[0].metadata().unwrap().mode, 0o100);
        fs::set_permissions(at("closed"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(at("pass"), fs::Permissions::from_mode(0o700)).unwrap();
    });
}

#[test]
fn a_file_that_changes_is_told_from_one_that_does_not() {
    let dir = tree(&["still", "grows", "replaced", "removed", "fifo"]);
    let at = |name: &str| dir.path().join(name);
    let (found, _) = walk(&["."], dir.path());
    let by_name = |name: &str| found.iter().find(|f| f.path().as_bytes() == name.as_bytes()).unwrap();

    let mut still = by_name("still").open().unwrap();
    let mut content = String::new();
    still.read_to_string(&mut content).unwrap();
    assert_eq!(by_name("still").restat(&still).unwrap(), *by_name("still").fingerprint());

    let grows = by_name("grows").open().unwrap();
    fs::OpenOptions::new().append(true).open(at("grows")).unwrap().write_all(b"more").unwrap();
    let now = by_name("grows").restat(&grows).unwrap();
    assert_ne!(now, *by_name("grows").fingerprint());
    assert_eq!((now.size, by_name("grows").size()), (5, 1));

    fs::write(at("other"), "y").unwrap();
    fs::rename(at("other"), at("replaced")).unwrap();
    assert!(matches!(by_name("replaced").open(), Err(CollectError::Changed { .. })));
    content.clear();
    let again = by_name("replaced").find_again().unwrap();
    again.open().unwrap().read_to_string(&mut content).unwrap();
    assert_eq!((again.path(), content.as_str()), (by_name("replaced").path(), "y"));
    assert_ne!(again.identity(), by_name("replaced").identity());

    fs::remove_file(at("removed")).unwrap();
    assert!(matches!(by_name("removed").open(), Err(CollectError::Vanished { .. })));
    assert!(matches!(by_name("removed").find_again(), Err(CollectError::Vanished { .. })));

    fs::remove_file(at("fifo")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(matches!(by_name("fifo").open(), Err(CollectError::Changed { .. })), "and it must not wait");
    fs::remove_file(at("fifo")).unwrap();
    symlink("still", at("fifo")).unwrap();
    assert!(matches!(by_name("fifo").open(), Err(CollectError::Changed { .. })));
    assert!(matches!(by_name("fifo").find_again(), Err(CollectError::Changed { .. })));
    assert!(matches!(by_name("").open(), Err(CollectError::Unfit { .. })));
    assert!(matches!(by_name("").find_again(), Err(CollectError::Unfit { .. })));
}

#[test]
fn reading_leaves_the_access_time_alone() {
    let dir = tree(&["a"]);
    let file = dir.path().join("a");
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1000);
    let times = fs::FileTimes::new().set_accessed(old);
    fs::File::options().write(true).open(&file).unwrap().set_times(times).unwrap();
    let (found, _) = walk(&["a"], dir.path());
    let mut content = Vec::new();
    found[0].open().unwrap().read_to_end(&mut content).unwrap();
    assert_eq!((content.as_slice(), fs::metadata(&file).unwrap().atime()), (&b"x"[..], 1000));
}

#[test]
fn vanishing_entries_do_not_end_the_walk() {
    let dir = tree(&["a", "b/c", "d/e", "f"]);
    let mut walk = Walk::new(&[PathBuf::from(".")], dir.path()).unwrap();
    let first = [walk.next().unwrap().unwrap(), walk.next().unwrap().unwrap()];
    assert_eq!(first[1].path().to_string(), "a");
    fs::remove_dir_all(dir.path().join("b")).unwrap();
    fs::remove_dir_all(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d"), "now a file").unwrap();
    let (found, errors) = split(walk);
    assert_eq!(paths(&found), ["d", "f"]);
    assert_eq!(found[0].kind(), EntryKind::File);
    assert!(
        matches!(&errors[..], [CollectError::Vanished { path }] if path.as_bytes() == b"b"),
        "{errors:?}"
    );
}

#[test]
fn a_tree_deeper_than_the_open_directories_is_walked_whole() {
    const DEPTH: usize = 400;
    let dir = tempdir().unwrap();
    let open = |at: &std::os::fd::OwnedFd, name: &str| {
        rustix::fs::openat(at, name, rustix::fs::OFlags::DIRECTORY, 0.into()).unwrap()
    };
    let mut at = rustix::fs::open(dir.path(), rustix::fs::OFlags::DIRECTORY, 0.into()).unwrap();
    for _ in 0..DEPTH {
        rustix::fs::mkdirat(&at, "middle", 0o700.into()).unwrap();
        rustix::fs::mkdirat(&at, "zlast", 0o700.into()).unwrap();
        at = open(&at, "middle");
    }
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    let (mut entries, mut open_count_max, mut previous) = (0, 0, None::<EntryPath>);
    for found in Walk::new(&[PathBuf::from(".")], dir.path()).unwrap() {
        let found = found.unwrap();
        assert!(previous.as_ref() < Some(found.path()));
        previous = Some(found.path().clone());
        entries += 1;
        if entries % 50 == 0 {
            open_count_max = open_count_max.max(fs::read_dir("/proc/self/fd").unwrap().count());
        }
    }
    assert_eq!(entries, 1 + 2 * DEPTH);
    // Tests of this binary run beside this one, so there is some slack.
    assert!(open_count_max < before + 200, "{before} before, {open_count_max} at most");
}

#[test]
fn a_directory_moved_away_meanwhile_does_not_lead_elsewhere() {
    const DEPTH: usize = 100;
    let dir = tempdir().unwrap();
    let levels = |count| vec!["m"; count].join("/");
    fs::create_dir_all(dir.path().join(levels(DEPTH))).unwrap();
    for level in 1..DEPTH {
        fs::write(dir.path().join(levels(level)).join("z"), "").unwrap();
    }
    fs::create_dir(dir.path().join("other")).unwrap();
    fs::write(dir.path().join("other/z"), "must not be taken for m/m/z").unwrap();
    let mut walk = Walk::new(&[PathBuf::from(".")], dir.path()).unwrap();
    let reached = walk.by_ref().map(Result::unwrap).find(|found| found.path().components().count() == DEPTH);
    assert!(reached.is_some());
    // Above the directories that are open, so that the way back leads through `..`.
    fs::rename(dir.path().join("m/m/m"), dir.path().join("other/m")).unwrap();
    let (found, errors) = split(walk);
    let changed: Vec<_> = errors
        .iter()
        .map(|error| match error {
            CollectError::Changed { path } => path.to_string(),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(changed, ["m/m", "m"]);
    let found = paths(&found);
    assert!(found.contains(&format!("{}/z", levels(3))) && !found.contains(&"m/m/z".to_owned()), "{found:?}");
    assert_eq!(found.last().map(String::as_str), Some("other/z"));
}

#[test]
fn metadata_says_who_owns_a_file() {
    if !is_root() {
        println!("not tested: owner names, which need a file of root");
        return;
    }
    let dir = tree(&["a"]);
    let (found, _) = walk(&["a"], dir.path());
    let metadata = found[0].metadata().unwrap();
    assert_eq!((metadata.uid, metadata.gid), (0, 0));
    assert_eq!(metadata.user.as_deref(), Some(&b"root"[..]));
    assert_eq!(metadata.group.as_deref(), Some(&b"root"[..]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_sources_come_sorted_once_and_complete(
        files in prop::collection::btree_set("[ab!](/[ab!.x]{1,2}){0,3}", 1..12),
        picks in prop::collection::vec((any::<prop::sample::Index>(), 0usize..4), 1..5),
    ) {
        let dir = tempdir().unwrap();
        let mut made = BTreeSet::new();
        for file in &files {
            let file_path = dir.path().join(file);
            // Names such as `.` and files where a directory is needed are passed over.
            if EntryPath::new(file.as_bytes()).is_ok()
                && fs::create_dir_all(file_path.parent().unwrap()).is_ok()
                && (file_path.is_dir() || fs::write(&file_path, "x").is_ok())
            {
                made.insert(file.clone());
            }
        }
        prop_assume!(!made.is_empty());
        let made: Vec<String> = made.into_iter().collect();
        let sources: Vec<String> = picks
            .iter()
            .map(|(pick, depth)| made[pick.index(made.len())].split('/').take(depth + 1).collect::<Vec<_>>().join("/"))
            .collect();
        let (found, errors) = walk(&sources.iter().map(String::as_str).collect::<Vec<_>>(), dir.path());
        prop_assert!(errors.is_empty(), "{errors:?}");
        let got: Vec<EntryPath> = found.iter().map(|f| f.path().clone()).collect();

        let mut expected = BTreeSet::new();
        for source in sources.iter().map(path) {
            let inside = made.iter().map(path).filter(|file| file.starts_with(&source));
            for mut entry in inside.chain([source.clone()]) {
                while !entry.is_root() {
                    let parent = entry.parent().unwrap();
                    expected.insert(entry);
                    entry = parent;
                }
            }
        }
        prop_assert!(got.is_sorted());
        prop_assert_eq!(got, expected.into_iter().collect::<Vec<_>>());
    }
}
