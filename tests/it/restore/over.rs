//! Restores over what is there: which entries are taken, which give way, and which go.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use coffer_collect::Patterns;
use coffer_engine::{Overwrite, RestoreAction, RestoreOptions};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::stored::Backup;
use crate::support::{Tree, assert_same, noise, restore_options, scratch, tree_of};

fn patterns(words: &[&str]) -> Patterns {
    let mut builder = Patterns::builder();
    words.iter().for_each(|word| builder.add(word.as_bytes(), false).unwrap());
    builder.build().unwrap()
}

fn including(words: &[&str]) -> RestoreOptions {
    RestoreOptions { include: patterns(words), ..restore_options() }
}

fn excluding(words: &[&str]) -> RestoreOptions {
    RestoreOptions { exclude: patterns(words), ..restore_options() }
}

fn deleting() -> RestoreOptions {
    RestoreOptions { delete: true, ..restore_options() }
}

fn set_mtime(path: &Path, seconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn standard() -> Backup {
    Backup::of(|src| {
        fs::create_dir_all(src.join("docs/deep")).unwrap();
        fs::create_dir_all(src.join("code")).unwrap();
        fs::write(src.join("docs/a.txt"), noise(1, 9_000)).unwrap();
        fs::write(src.join("docs/deep/b.txt"), noise(2, 700)).unwrap();
        fs::write(src.join("docs/deep/c.md"), "c").unwrap();
        fs::write(src.join("code/main.rs"), noise(3, 300)).unwrap();
        fs::hard_link(src.join("docs/a.txt"), src.join("zz-twin")).unwrap();
        symlink("docs/a.txt", src.join("link")).unwrap();
        fs::set_permissions(src.join("docs"), fs::Permissions::from_mode(0o750)).unwrap();
    })
}

#[track_caller]
fn assert_names(target: &Path, expected: &[&str]) {
    let tree = tree_of(&target.join("src"));
    let names: Vec<_> = tree.keys().map(|path| String::from_utf8(path.clone()).unwrap()).collect();
    assert_eq!(names, expected);
}

#[test]
fn patterns_choose_what_is_restored() {
    let backup = standard();
    let cases: [(RestoreOptions, &[&str]); 7] = [
        (including(&["*.txt"]), &["", "docs", "docs/a.txt", "docs/deep", "docs/deep/b.txt"]),
        (including(&["/src/docs/deep"]), &["", "docs", "docs/deep", "docs/deep/b.txt", "docs/deep/c.md"]),
        (including(&["deep", "!*.md"]), &["", "docs", "docs/deep", "docs/deep/b.txt"]),
        (including(&["main.rs"]), &["", "code", "code/main.rs"]),
        (
            excluding(&["*.txt", "zz-*"]),
            &["", "code", "code/main.rs", "docs", "docs/deep", "docs/deep/c.md", "link"],
        ),
        (excluding(&["docs/"]), &["", "code", "code/main.rs", "link", "zz-twin"]),
        (
            RestoreOptions { within: b"src/docs".to_vec(), ..including(&["c.md"]) },
            &["", "docs", "docs/deep", "docs/deep/c.md"],
        ),
    ];
    let whole = tree_of(&backup.source());
    for (options, expected) in cases {
        let target = scratch();
        let (report, _) = backup.watch(target.path(), &options);
        assert_eq!(report.warnings, Vec::<String>::new());
        assert_names(target.path(), expected);
        // With their own content and metadata, directories above what was chosen among them.
        let mut wanted: Tree = whole.clone();
        wanted.retain(|path, _| expected.iter().any(|kept| kept.as_bytes() == path));
        wanted.values_mut().for_each(|item| item.group = None);
        assert_same(&wanted, &tree_of(&target.path().join("src")), &format!("{expected:?}"));
    }
    let target = scratch();
    let (report, _) = backup.watch(target.path(), &including(&["nothing-like-it"]));
    assert!(report.warnings[0].contains("patterns leave nothing"), "{:?}", report.warnings);
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
}

#[test]
fn a_second_restore_finds_everything_in_place() {
    let backup = standard();
    let target = scratch();
    let (first, _) = backup.watch(target.path(), &restore_options());
    assert_eq!((first.created_count, first.entry_count), (10, 10));
    let inodes = |root: &Path| {
        ["docs/a.txt", "code/main.rs", "link"]
            .map(|name| fs::symlink_metadata(root.join("src").join(name)).unwrap().ino())
    };
    let before = inodes(target.path());
    for overwrite in [Overwrite::Always, Overwrite::IfChanged] {
        let (again, actions) =
            backup.watch(target.path(), &RestoreOptions { overwrite, ..restore_options() });
        assert_eq!(actions.of(RestoreAction::Unchanged).len(), 10, "{actions:?}");
        assert_eq!((again.fetched_bytes, again.written_bytes), (0, 0));
        assert_eq!((again.entry_count, again.file_count), (first.entry_count, first.file_count));
        assert_eq!(again.content_bytes, first.content_bytes);
        assert_eq!(inodes(target.path()), before, "nothing was made anew");
    }
    assert_same(&tree_of(&backup.source()), &tree_of(&target.path().join("src")), "still");
}

#[test]
fn the_policy_says_what_gives_way() {
    let backup = standard();
    let mtime = fs::metadata(backup.source().join("docs/a.txt")).unwrap().mtime();
    // Older content, newer content, and other content that looks the same from outside.
    let prepare = || {
        let target = scratch();
        backup.watch(target.path(), &restore_options());
        let at = |name: &str| target.path().join("src").join(name);
        fs::write(at("docs/deep/b.txt"), "older").unwrap();
        set_mtime(&at("docs/deep/b.txt"), mtime - 1_000);
        fs::write(at("docs/deep/c.md"), "newer").unwrap();
        set_mtime(&at("docs/deep/c.md"), mtime + 1_000);
        let size = fs::metadata(at("code/main.rs")).unwrap().len();
        let stat = fs::metadata(at("code/main.rs")).unwrap();
        fs::write(at("code/main.rs"), vec![b'x'; usize::try_from(size).unwrap()]).unwrap();
        let time = Timespec { tv_sec: stat.mtime(), tv_nsec: stat.mtime_nsec() };
        let times = Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(CWD, at("code/main.rs"), &times, AtFlags::empty()).unwrap();
        fs::remove_file(at("link")).unwrap();
        symlink("elsewhere", at("link")).unwrap();
        fs::remove_file(at("docs/a.txt")).unwrap();
        target
    };
    for (overwrite, replaced) in [
        (Overwrite::Always, &["b.txt", "c.md", "main.rs", "link"][..]),
        (Overwrite::IfChanged, &["b.txt", "c.md", "link"]),
        (Overwrite::IfNewer, &["b.txt"]),
        (Overwrite::Never, &[]),
    ] {
        let target = prepare();
        let (report, actions) =
            backup.watch(target.path(), &RestoreOptions { overwrite, ..restore_options() });
        let (expected, found) = (tree_of(&backup.source()), tree_of(&target.path().join("src")));
        for name in ["docs/deep/b.txt", "docs/deep/c.md", "code/main.rs", "link"] {
            let (expected, found) = (&expected[name.as_bytes()], &found[name.as_bytes()]);
            let wanted = replaced.iter().any(|replaced| name.ends_with(replaced));
            assert_eq!(expected.body == found.body, wanted, "{overwrite:?}: {name}");
        }
        // What was missing is there again under every policy.
        assert_eq!(expected[&b"docs/a.txt"[..]].body, found[&b"docs/a.txt"[..]].body);
        let skipped = actions.of(RestoreAction::Skip).len() as u64;
        assert_eq!(skipped, report.skipped_count);
        assert_eq!(skipped > 0, matches!(overwrite, Overwrite::IfNewer | Overwrite::Never));
    }
}

#[test]
fn a_link_is_never_made_to_a_file_that_was_left_alone_and_differs() {
    let backup = standard();
    let target = scratch();
    fs::create_dir_all(target.path().join("src/docs")).unwrap();
    fs::write(target.path().join("src/docs/a.txt"), "mine").unwrap();
    let options = RestoreOptions { overwrite: Overwrite::Never, ..restore_options() };
    let (_, actions) = backup.watch(target.path(), &options);
    assert_eq!(actions.of(RestoreAction::Skip), ["src/docs/a.txt"]);
    assert_eq!(fs::read(target.path().join("src/docs/a.txt")).unwrap(), b"mine");
    assert_eq!(fs::read(target.path().join("src/zz-twin")).unwrap(), noise(1, 9_000));
    // One that is as in the snapshot is linked to.
    let target = scratch();
    backup.watch(target.path(), &restore_options());
    fs::remove_file(target.path().join("src/zz-twin")).unwrap();
    let (_, actions) = backup.watch(target.path(), &options);
    assert_eq!(actions.of(RestoreAction::Create), ["src/zz-twin"]);
    assert_same(&tree_of(&backup.source()), &tree_of(&target.path().join("src")), "linked again");
}

/// Puts things into a restored target that the snapshot does not have.
fn litter(target: &Path) {
    let src = target.join("src");
    fs::create_dir_all(src.join("docs/old/older")).unwrap();
    fs::write(src.join("docs/old/older/x.txt"), "x").unwrap();
    fs::write(src.join("docs/old/keep.log"), "log").unwrap();
    fs::write(src.join("docs/deep/z.txt"), "z").unwrap();
    fs::write(src.join(".coffer-0123456789abcdef.tmp"), "left by a restore that was killed").unwrap();
    symlink("/", src.join("code/out")).unwrap();
    fs::write(target.join("beside"), "not of the source").unwrap();
}

const LITTER: [&str; 7] = [
    "src/.coffer-0123456789abcdef.tmp",
    "src/code/out",
    "src/docs/deep/z.txt",
    "src/docs/old",
    "src/docs/old/keep.log",
    "src/docs/old/older",
    "src/docs/old/older/x.txt",
];

#[test]
fn what_is_not_in_the_snapshot_goes_on_request() {
    let backup = standard();
    let (target, outside) = (scratch(), scratch());
    backup.watch(target.path(), &restore_options());
    litter(target.path());
    fs::write(outside.path().join("canary"), "canary").unwrap();
    symlink(outside.path(), target.path().join("src/docs/old/away")).unwrap();
    let before = tree_of(target.path());
    let dry = RestoreOptions { dry_run: true, ..deleting() };
    let (planned, plan) = backup.watch(target.path(), &dry);
    assert_same(&before, &tree_of(target.path()), "nothing is changed by a dry run");
    let mut litter = LITTER.to_vec();
    litter.push("src/docs/old/away");
    litter.sort_unstable();
    assert_eq!(plan.of(RestoreAction::Delete), litter);

    let (done, actions) = backup.watch(target.path(), &deleting());
    assert_eq!(actions, plan, "what was planned is what is done");
    assert_eq!((done.deleted_count, planned.deleted_count), (8, 8));
    assert_same(&tree_of(&backup.source()), &tree_of(&target.path().join("src")), "exactly the snapshot");
    assert_eq!(fs::read(outside.path().join("canary")).unwrap(), b"canary");
    // The snapshot holds what is in its source, and nothing of what is beside that.
    assert_eq!(fs::read(target.path().join("beside")).unwrap(), b"not of the source");
}

#[test]
fn only_what_the_patterns_choose_goes() {
    let backup = standard();
    let cases: [(RestoreOptions, &[&str]); 4] = [
        (
            RestoreOptions { delete: true, ..including(&["*.txt"]) },
            &["src/docs/deep/z.txt", "src/docs/old/older/x.txt"],
        ),
        // A directory stays with what stays in it.
        (
            RestoreOptions { delete: true, ..excluding(&["*.log", ".coffer-*"]) },
            &["src/code/out", "src/docs/deep/z.txt", "src/docs/old/older", "src/docs/old/older/x.txt"],
        ),
        (RestoreOptions { within: b"src/docs/deep".to_vec(), ..deleting() }, &["src/docs/deep/z.txt"]),
        (RestoreOptions { within: b"src/code/main.rs".to_vec(), ..deleting() }, &[]),
    ];
    for (options, expected) in cases {
        let target = scratch();
        backup.watch(target.path(), &restore_options());
        litter(target.path());
        let (_, plan) = backup.watch(target.path(), &RestoreOptions { dry_run: true, ..options.clone() });
        let (_, actions) = backup.watch(target.path(), &options);
        assert_eq!(actions.of(RestoreAction::Delete), expected);
        assert_eq!(plan, actions);
        for path in LITTER {
            let gone = fs::symlink_metadata(target.path().join(path)).is_err();
            assert_eq!(gone, expected.contains(&path), "{path}");
        }
    }
}

#[test]
fn a_full_directory_gives_way_to_a_file_on_request_alone() {
    let backup = standard();
    let target = scratch();
    fs::create_dir_all(target.path().join("src/docs/a.txt/full/of")).unwrap();
    fs::create_dir_all(target.path().join("src/link/too")).unwrap();
    let report = backup.restore_with(target.path(), &restore_options()).unwrap();
    let failed: Vec<_> = report.errors.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(failed, ["src/docs/a.txt", "src/link", "src/zz-twin"]);
    assert!(target.path().join("src/docs/a.txt/full/of").is_dir());
    let report = backup.restore_with(target.path(), &deleting()).unwrap();
    assert_eq!(report.errors, []);
    assert_same(&tree_of(&backup.source()), &tree_of(&target.path().join("src")), "in their place");
}

#[test]
fn nothing_goes_where_a_part_of_the_tree_was_lost() {
    let backup = Backup::of(|src| {
        for directory in 0..8 {
            fs::create_dir_all(src.join(format!("d{directory}"))).unwrap();
            for file in 0..60 {
                fs::write(src.join(format!("d{directory}/f{file:02}")), format!("{directory}-{file}"))
                    .unwrap();
            }
        }
    });
    let target = scratch();
    backup.watch(target.path(), &restore_options());
    for directory in 0..8 {
        fs::write(target.path().join(format!("src/d{directory}/surplus")), "").unwrap();
    }
    let before = tree_of(target.path());
    let mut lost = 0;
    for name in backup.store.names() {
        if !name.starts_with("packs/") {
            continue;
        }
        let bytes = backup.store.remove_raw(&name).unwrap();
        let report = backup.restore_with(target.path(), &deleting()).unwrap();
        backup.store.insert_raw(name, bytes);
        if report.errors.iter().any(|(path, _)| path.starts_with("entries") || path == "all entries") {
            lost += 1;
            assert_same(&before, &tree_of(target.path()), "whatever is lost may be what looks like surplus");
            assert_eq!(report.deleted_count, 0);
        }
    }
    assert!(lost > 0, "the tree was in one of the packs");
    let (report, _) = backup.watch(target.path(), &deleting());
    assert_eq!(report.deleted_count, 8);
}

#[test]
fn a_directory_that_is_to_be_kept_stays_with_what_is_in_it() {
    let backup = standard();
    let target = scratch();
    backup.watch(target.path(), &restore_options());
    let vault = target.path().join("src/docs/old/vault");
    fs::create_dir_all(vault.join("packs")).unwrap();
    fs::write(vault.join("packs/a"), "pack").unwrap();
    fs::write(target.path().join("src/docs/old/x"), "x").unwrap();
    let stat = fs::metadata(&vault).unwrap();
    let keep = vec![coffer_collect::Identity { dev: stat.dev(), ino: stat.ino() }];
    let (_, actions) = backup.watch(target.path(), &RestoreOptions { keep, ..deleting() });
    assert_eq!(actions.of(RestoreAction::Delete), ["src/docs/old/x"]);
    assert_eq!(fs::read(vault.join("packs/a")).unwrap(), b"pack");
}

#[test]
fn the_root_of_the_system_is_not_cleared() {
    let backup = standard();
    let link = scratch();
    symlink("/", link.path().join("root")).unwrap();
    for root in [Path::new("/"), Path::new("/usr/.."), &link.path().join("root")] {
        let dry = RestoreOptions { dry_run: true, ..deleting() };
        let error = backup.restore_with(root, &dry).unwrap_err();
        assert!(error.to_string().contains("needs patterns"), "{error}");
    }
}

#[test]
fn a_dry_run_makes_nothing_and_foretells_everything() {
    let backup = standard();
    let place = scratch();
    let target = place.path().join("not/there");
    let dry = RestoreOptions { dry_run: true, ..restore_options() };
    let (planned, plan) = backup.watch(&target, &dry);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    assert_eq!(plan.of(RestoreAction::Create).len(), 10);
    let (done, actions) = backup.watch(&target, &restore_options());
    assert_eq!(plan, actions);
    assert_eq!((planned.entry_count, planned.file_count), (done.entry_count, done.file_count));
    assert_eq!((planned.content_bytes, planned.written_bytes), (done.content_bytes, done.written_bytes));

    // Over a target in every state of disarray.
    let at = |name: &str| target.join("src").join(name);
    fs::write(at("docs/deep/c.md"), "changed").unwrap();
    fs::set_permissions(at("code/main.rs"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(at("zz-twin")).unwrap();
    fs::write(at("zz-twin"), "no link any more").unwrap();
    fs::remove_file(at("link")).unwrap();
    fs::create_dir(at("link")).unwrap();
    let mut bytes = fs::read(at("docs/a.txt")).unwrap();
    bytes[8_000] ^= 1;
    fs::write(at("docs/a.txt"), bytes).unwrap();
    let before = tree_of(&target);
    let (planned, plan) = backup.watch(&target, &dry);
    assert_same(&before, &tree_of(&target), "nothing is changed");
    let (done, actions) = backup.watch(&target, &restore_options());
    assert_eq!(plan, actions);
    assert_eq!(planned.written_bytes, done.written_bytes);
    assert_eq!(planned.reused_bytes, done.reused_bytes);
    assert_same(&tree_of(&backup.source()), &tree_of(&target.join("src")), "in order again");
}
