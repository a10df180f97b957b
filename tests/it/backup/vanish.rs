//! Directories and files that go away while they are walked.

use std::fs;
use std::path::{Path, PathBuf};

use coffer_engine::{BackupObserver, BackupReport, EntryChange, backup};
use coffer_store::MemoryStore;

use super::paths;
use crate::support::{World, assert_clean, backup_options, noise, scratch};

/// Does something once, when an entry was taken.
struct When<'w> {
    path: &'static str,
    action: Box<dyn FnMut() + 'w>,
}

impl BackupObserver for When<'_> {
    fn entry(&mut self, path: &[u8], _size: u64, _: EntryChange) {
        if path == self.path.as_bytes() {
            (self.action)();
        }
    }

    fn error(&mut self, _path: &[u8], _message: &str) {}
}

fn grow(source: &Path) {
    for dir in ["a/x", "b/y/z", "c"] {
        fs::create_dir_all(source.join(dir)).unwrap();
    }
    for file in ["a/f", "a/x/f", "b/f", "b/y/f", "b/y/z/f", "c/f", "z"] {
        fs::write(source.join(file), noise(1, 700)).unwrap();
    }
}

fn run(when: &'static str, action: impl Fn(&Path)) -> (BackupReport, Vec<String>) {
    let place = scratch();
    let source: PathBuf = place.path().join("src");
    grow(&source);
    let (world, store) = (World::new(14), MemoryStore::new());
    world.init(&store).unwrap();
    let mut vault = world.open(&store).unwrap();
    let mut watch = When { path: when, action: Box::new(|| action(&source)) };
    let report = backup(&mut vault, &backup_options(&source), &mut watch).unwrap();
    drop(watch);
    assert_clean(&world, &store, when);
    (report, paths(&world, &store))
}

fn named(report: &BackupReport) -> Vec<String> {
    report.errors.iter().map(|(path, _)| String::from_utf8(path.clone()).unwrap()).collect()
}

#[test]
fn a_directory_that_vanishes_before_it_is_listed_is_an_error_of_its_own() {
    // It was taken, and is entered next.
    let (report, paths) = run("src/b", |source| fs::remove_dir_all(source.join("b")).unwrap());
    assert_eq!(named(&report), ["src/b"]);
    assert!(paths.contains(&"src/b".to_owned()) && !paths.contains(&"src/b/f".to_owned()));
    assert!(
        paths.contains(&"src/c/f".to_owned()) && paths.contains(&"src/z".to_owned()),
        "the rest is there"
    );
}

#[test]
fn what_vanishes_after_its_directory_was_listed_is_named_each() {
    let (report, paths) = run("src/b/f", |source| fs::remove_dir_all(source.join("b")).unwrap());
    assert_eq!(named(&report), ["src/b/y"]);
    assert!(paths.contains(&"src/b/f".to_owned()) && paths.contains(&"src/c/f".to_owned()));
    let (report, paths) = run("src/a", |source| {
        fs::remove_dir_all(source.join("b")).unwrap();
        fs::remove_file(source.join("z")).unwrap();
    });
    assert_eq!(named(&report), ["src/b", "src/z"]);
    assert!(paths.contains(&"src/c/f".to_owned()));
}

#[test]
fn a_directory_that_becomes_something_else_is_taken_as_that_or_named() {
    let (report, paths) = run("src/a", |source| {
        fs::remove_dir_all(source.join("b")).unwrap();
        fs::write(source.join("b"), "a file now").unwrap();
    });
    assert_eq!(named(&report), Vec::<String>::new());
    assert!(paths.contains(&"src/b".to_owned()) && !paths.contains(&"src/b/f".to_owned()));
}

#[test]
fn a_source_that_vanishes_whole_is_named_with_what_is_lost() {
    let (report, paths) = run("src", |source| fs::remove_dir_all(source).unwrap());
    assert_eq!((report.error_count, paths.as_slice()), (1, &["src".to_owned()][..]));
}
