//! What is left out is not in the snapshot, and is counted.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use coffer_collect::{Excludes, Marker, Patterns};
use coffer_engine::BackupOptions;
use coffer_store::MemoryStore;

use super::paths;
use crate::support::{World, assert_clean, backup_options, noise, scratch};

fn ignoring(lines: &[&[u8]]) -> Excludes {
    let mut patterns = Patterns::builder();
    lines.iter().for_each(|line| patterns.add(line, false).unwrap());
    Excludes { patterns: patterns.build().unwrap(), ..Excludes::default() }
}

#[test]
fn excluded_entries_are_not_in_the_snapshot() {
    let place = scratch();
    let source = place.path().join("src");
    for dir in ["build/deep", "cache", "docs"] {
        fs::create_dir_all(source.join(dir)).unwrap();
    }
    for (file, len) in
        [("build/deep/x", 10), ("cache/x", 10), ("docs/a.bak", 10), ("docs/big", 9000), ("docs/a", 10)]
    {
        fs::write(source.join(file), noise(1, len)).unwrap();
    }
    fs::write(source.join("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55").unwrap();
    fs::write(source.join(OsStr::from_bytes(b"docs/\xff.bak")), "x").unwrap();
    fs::write(source.join(OsStr::from_bytes(b"docs/\xff.keep")), "x").unwrap();
    let (world, store) = (World::new(1), MemoryStore::new());
    world.init(&store).unwrap();
    let excludes = Excludes {
        markers: vec![Marker::cache_directory()],
        larger_than: Some(5000),
        ..ignoring(&[b"build/", b"*.bak"])
    };
    let report = world.backup_with(&store, &BackupOptions { excludes, ..backup_options(&source) }).unwrap();
    assert_eq!((report.error_count, report.excluded_count), (0, 5));
    let expected =
        ["src", "src/cache", "src/cache/CACHEDIR.TAG", "src/docs", "src/docs/a", "src/docs/\\xff.keep"];
    assert_eq!(paths(&world, &store), expected);

    // What is excluded no longer is in the next snapshot, though the parent lacks it.
    let report = world.backup(&store, &source).unwrap();
    assert_eq!((report.excluded_count, report.manifest.statistics.file_count), (0, 8));
    assert_clean(&world, &store, "after excludes came and went");
}

#[test]
fn a_backup_of_nothing_is_refused() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    let (world, store) = (World::new(1), MemoryStore::new());
    world.init(&store).unwrap();
    let options = BackupOptions { excludes: ignoring(&[b"s*"]), ..backup_options(&source) };
    let error = world.backup_with(&store, &options).unwrap_err();
    assert!(error.to_string().contains("all of the sources are excluded"), "{error}");
    assert!(world.open(&store).unwrap().state().snapshots.is_empty());
}
