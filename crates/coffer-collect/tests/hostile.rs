//! A target that somebody else writes to as well: nothing outside of it is touched, and nothing is left behind.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use coffer_collect::{
    CollectError, DirectoryTarget, EntryKind, EntryPath, Lost, Metadata, SkipReason, SpecialOutcome,
    TargetOptions,
};
use common::{assert_no_temporaries, path, snapshot};
use tempfile::{TempDir, tempdir};

fn metadata(mode: u32) -> Metadata {
    Metadata { mode, mtime_ns: 1_000_000_007, ..Metadata::default() }
}

fn link_to(target: &str) -> Metadata {
    Metadata { link_target: Some(target.into()), ..metadata(0o777) }
}

fn target(root: &Path) -> DirectoryTarget {
    DirectoryTarget::open(root, TargetOptions::default()).unwrap()
}

/// A target directory, and beside it one that must stay as it is.
struct Stage {
    _dir: TempDir,
    root: std::path::PathBuf,
    outside: std::path::PathBuf,
    before: Vec<common::Item>,
}

impl Stage {
    fn new() -> Self {
        let dir = tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::create_dir_all(outside.join("d")).unwrap();
        fs::write(outside.join("f"), "keep").unwrap();
        fs::write(outside.join("d/f"), "keep").unwrap();
        let before = snapshot(&outside);
        Self { _dir: dir, root, outside, before }
    }

    fn check(&self) {
        assert_eq!(snapshot(&self.outside), self.before);
        assert_no_temporaries(&self.root);
    }
}

#[test]
fn a_planted_symlink_is_not_a_directory() {
    let stage = Stage::new();
    symlink(&stage.outside, stage.root.join("d")).unwrap();
    let mut target = target(&stage.root);
    let refused = |result: Result<(), CollectError>| {
        assert!(
            matches!(&result, Err(CollectError::NotADirectory { path }) if path.as_bytes() == b"d"),
            "{result:?}"
        );
    };
    refused(target.file(&path("d/f")).map(drop));
    refused(target.file(&path("d/d/f")).map(drop));
    refused(target.directory(&path("d/new"), &metadata(0o700)));
    refused(target.symlink(&path("d/s"), &link_to("x")).map(drop));
    refused(target.special(&path("d/p"), EntryKind::Fifo, &metadata(0o600)).map(drop));
    refused(target.hard_link(&path("stolen"), &path("d/f")));
    refused(target.hard_link(&path("d/h"), &path("x")));
    assert!(target.finish().is_empty());
    stage.check();
    assert!(!stage.root.join("stolen").exists());
}

#[test]
fn a_planted_symlink_gives_way_to_the_entry_of_its_name() {
    let stage = Stage::new();
    let names = ["dir", "file", "link", "fifo", "hard"];
    for name in names {
        symlink(stage.outside.join("f"), stage.root.join(name)).unwrap();
    }
    let mut target = target(&stage.root);
    target.directory(&path("dir"), &metadata(0o755)).unwrap();
    let writer = target.file(&path("file")).unwrap();
    writer.write_at(0, b"new").unwrap();
    writer.finish(&metadata(0o644)).unwrap();
    target.symlink(&path("link"), &link_to("elsewhere")).unwrap();
    target.special(&path("fifo"), EntryKind::Fifo, &metadata(0o600)).unwrap();
    target.hard_link(&path("hard"), &path("file")).unwrap();
    assert!(target.finish().is_empty());
    stage.check();
    let kind = |name: &str| fs::symlink_metadata(stage.root.join(name)).unwrap();
    assert!(kind("dir").is_dir() && kind("file").is_file() && kind("hard").is_file());
    assert_eq!(fs::read_link(stage.root.join("link")).unwrap(), Path::new("elsewhere"));
    assert_eq!(kind("file").ino(), kind("hard").ino());
    assert_eq!(fs::read(stage.root.join("file")).unwrap(), b"new");
}

#[test]
fn a_directory_swapped_for_a_symlink_is_not_followed() {
    let stage = Stage::new();
    let mut target = target(&stage.root);
    target.directory(&path("d"), &metadata(0o755)).unwrap();
    let writer = target.file(&path("d/early")).unwrap();
    fs::rename(stage.root.join("d"), stage.root.join("moved")).unwrap();
    symlink(&stage.outside, stage.root.join("d")).unwrap();
    // The directory that was made is still the one written to, wherever it is now.
    let late = target.file(&path("d/f")).unwrap();
    late.write_at(0, b"evil").unwrap();
    late.finish(&metadata(0o666)).unwrap();
    writer.finish(&metadata(0o666)).unwrap();
    target.directory(&path("d/sub"), &metadata(0o777)).unwrap();
    // Having left it, the target does not get back in.
    target.directory(&path("e"), &metadata(0o755)).unwrap();
    assert!(matches!(target.file(&path("d/f")), Err(CollectError::NotADirectory { .. })));
    let lost: Vec<_> = target.finish().into_iter().map(|w| (w.path.to_string(), w.lost)).collect();
    let expected = |path: &str| (path.to_owned(), Lost::DirectoryMetadata);
    assert_eq!(lost, [expected("d/sub"), expected("d")]);
    stage.check();
    assert_eq!(fs::read(stage.root.join("moved/f")).unwrap(), b"evil");
}

#[test]
fn a_directory_swapped_for_another_does_not_get_its_metadata() {
    let stage = Stage::new();
    let mut target = target(&stage.root);
    target.directory(&path("d"), &metadata(0o777)).unwrap();
    target.directory(&path("e"), &metadata(0o755)).unwrap();
    fs::rename(stage.root.join("d"), stage.root.join("moved")).unwrap();
    fs::create_dir(stage.root.join("d")).unwrap();
    fs::set_permissions(stage.root.join("d"), fs::Permissions::from_mode(0o750)).unwrap();
    let warnings = target.finish();
    assert!(
        matches!(&warnings[..], [w] if w.lost == Lost::DirectoryMetadata && w.path == path("d")),
        "{warnings:?}"
    );
    assert_eq!(fs::metadata(stage.root.join("d")).unwrap().mode() & 0o7777, 0o750);
    stage.check();
}

#[test]
fn a_deep_directory_moved_out_is_not_followed_back() {
    const DEPTH: usize = 100;
    let stage = Stage::new();
    let levels = |count| vec!["m"; count].join("/");
    let mut target = target(&stage.root);
    for level in 1..=DEPTH {
        target.directory(&path(levels(level)), &metadata(0o755)).unwrap();
    }
    // Above the directories that are open, so that the way back leads through `..`.
    let elsewhere = stage.root.with_file_name("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::rename(stage.root.join("m/m/m"), elsewhere.join("m")).unwrap();
    target.file(&path("m/m/z")).unwrap().finish(&metadata(0o644)).unwrap();
    let lost = target.finish();
    assert!(!elsewhere.join("z").exists() && stage.root.join("m/m/z").is_file());
    assert_eq!(lost.len(), DEPTH - 2);
    assert!(lost.iter().all(|warning| warning.lost == Lost::DirectoryMetadata));
    stage.check();
}

#[test]
fn a_name_planted_in_a_fresh_directory_is_replaced_not_written_through() {
    let stage = Stage::new();
    let mut target = target(&stage.root);
    target.directory(&path("d"), &metadata(0o755)).unwrap();
    symlink(stage.outside.join("f"), stage.root.join("d/file")).unwrap();
    symlink(stage.outside.join("made by following"), stage.root.join("d/file 2")).unwrap();
    fs::hard_link(stage.outside.join("d/f"), stage.root.join("d/file 3")).unwrap();
    for name in ["d/file", "d/file 2", "d/file 3"] {
        let writer = target.file(&path(name)).unwrap();
        writer.write_at(0, b"new").unwrap();
        writer.finish(&metadata(0o604)).unwrap();
        let stat = fs::symlink_metadata(stage.root.join(name)).unwrap();
        assert!(stat.is_file() && stat.mode() & 0o7777 == 0o604 && stat.len() == 3);
    }
    assert!(target.finish().is_empty());
    stage.check();
}

#[test]
fn a_path_out_of_the_target_cannot_be_said() {
    for bytes in ["..", "../outside/f", "d/../../outside", "/etc/passwd", "a/./b"] {
        assert!(matches!(EntryPath::new(bytes), Err(CollectError::InvalidPath { .. })), "{bytes}");
        assert!(EntryPath::root().join(bytes.as_bytes()).is_err(), "{bytes}");
    }
}

#[test]
fn unfinished_files_leave_nothing() {
    let stage = Stage::new();
    fs::write(stage.root.join("there before"), "old").unwrap();
    let mut target = target(&stage.root);
    target.directory(&path("fresh"), &metadata(0o755)).unwrap();
    for name in ["there before", "new", "fresh/f"] {
        let writer = target.file(&path(name)).unwrap();
        writer.write_at(0, b"partial").unwrap();
        drop(writer);
    }
    assert!(target.finish().is_empty());
    assert_eq!(fs::read(stage.root.join("there before")).unwrap(), b"old");
    let paths: Vec<_> = snapshot(&stage.root).iter().map(|item| item.path.to_string()).collect();
    assert_eq!(paths, [".", "fresh", "there before"]);
    stage.check();
}

#[test]
fn a_file_is_not_seen_before_it_is_finished_where_others_were() {
    let stage = Stage::new();
    fs::write(stage.root.join("f"), "old").unwrap();
    let mut target = target(&stage.root);
    let writer = target.file(&path("f")).unwrap();
    writer.write_at(0, b"new").unwrap();
    assert_eq!(fs::read(stage.root.join("f")).unwrap(), b"old");
    let temporaries: Vec<_> = fs::read_dir(&stage.root)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_str().unwrap().starts_with(".coffer-"))
        .collect();
    assert_eq!(temporaries.len(), 1);
    assert_eq!(temporaries[0].metadata().unwrap().mode() & 0o077, 0);
    writer.finish(&metadata(0o644)).unwrap();
    assert_eq!(fs::read(stage.root.join("f")).unwrap(), b"new");
    stage.check();
}

#[test]
fn a_directory_with_entries_does_not_give_way() {
    let stage = Stage::new();
    for name in ["full/x", "empty"] {
        fs::create_dir_all(stage.root.join(name)).unwrap();
    }
    let mut target = target(&stage.root);
    let in_the_way = |result: Result<(), CollectError>| {
        assert!(
            matches!(&result, Err(CollectError::DirectoryInTheWay { path }) if path.as_bytes() == b"full"),
            "{result:?}"
        );
    };
    in_the_way(target.file(&path("full")).unwrap().finish(&metadata(0o600)).map(drop));
    in_the_way(target.symlink(&path("full"), &link_to("x")).map(drop));
    in_the_way(target.special(&path("full"), EntryKind::Fifo, &metadata(0o600)).map(drop));
    fs::write(stage.root.join("first"), "").unwrap();
    in_the_way(target.hard_link(&path("full"), &path("first")));
    target.file(&path("empty")).unwrap().finish(&metadata(0o600)).unwrap();
    assert!(stage.root.join("empty").is_file() && stage.root.join("full/x").is_dir());
    assert!(target.finish().is_empty());
    stage.check();
}

#[test]
fn links_over_themselves_leave_no_temporary() {
    let stage = Stage::new();
    fs::write(stage.root.join("a"), "x").unwrap();
    fs::hard_link(stage.root.join("a"), stage.root.join("b")).unwrap();
    let mut target = target(&stage.root);
    target.hard_link(&path("b"), &path("a")).unwrap();
    target.hard_link(&path("a"), &path("a")).unwrap();
    assert!(target.hard_link(&path("c"), &path("missing")).is_err());
    assert!(target.finish().is_empty());
    assert_eq!(fs::metadata(stage.root.join("a")).unwrap().nlink(), 2);
    stage.check();
}

#[test]
fn what_is_not_asked_for_or_does_not_fit_is_not_made() {
    let stage = Stage::new();
    let mut target = target(&stage.root);
    let device = Metadata { device: Some((1, 3)), ..metadata(0o666) };
    for kind in [EntryKind::CharDevice, EntryKind::BlockDevice] {
        assert!(matches!(
            target.special(&path("null"), kind, &device),
            Ok(SpecialOutcome::Skipped(SkipReason::DevicesNotAsked))
        ));
        assert!(matches!(
            target.special(&path("null"), kind, &metadata(0o666)),
            Err(CollectError::Unfit { .. })
        ));
    }
    for kind in [EntryKind::File, EntryKind::Directory, EntryKind::Symlink] {
        assert!(matches!(target.special(&path("x"), kind, &metadata(0)), Err(CollectError::Unfit { .. })));
    }
    assert!(matches!(target.symlink(&path("s"), &metadata(0o777)), Err(CollectError::Unfit { .. })));
    assert!(matches!(target.file(&EntryPath::root()), Err(CollectError::Unfit { .. })));
    assert!(matches!(target.symlink(&EntryPath::root(), &link_to("x")), Err(CollectError::Unfit { .. })));
    assert!(matches!(target.hard_link(&path("h"), &EntryPath::root()), Err(CollectError::Unfit { .. })));
    assert!(target.finish().is_empty());
    assert_eq!(snapshot(&stage.root).len(), 1);
    stage.check();
}

#[test]
fn a_target_that_cannot_be_opened_names_it() {
    let stage = Stage::new();
    let over_file = stage.outside.join("f");
    for bad in [over_file.clone(), over_file.join("below")] {
        match DirectoryTarget::open(&bad, TargetOptions::default()) {
            Err(CollectError::Target { path, .. }) => assert_eq!(path, bad),
            other => panic!("{other:?}"),
        }
    }
    stage.check();
}
