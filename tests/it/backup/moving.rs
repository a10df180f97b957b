//! Files that are written, replaced or cut while they are backed up.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use coffer_engine::{Access, BackupObserver, BackupOptions, BackupReport, Clock, EntryChange, Vault, backup};
use coffer_store::MemoryStore;

use super::{Site, entries, paths};
use crate::support::{
    FakeClock, Quiet, World, assert_clean, assert_restores, backup_options, noise, scratch, tree_of,
};

/// A clock that writes to a file whenever somebody looks at it, and leaves its size and its modification time as they are.
#[derive(Debug)]
struct Writes<'w> {
    clock: &'w FakeClock,
    file: PathBuf,
    count: AtomicU64,
}

impl Clock for Writes<'_> {
    fn now_ns(&self) -> i64 {
        self.clock.now_ns()
    }

    fn monotonic_ns(&self) -> u64 {
        let count = self.count.fetch_add(1, Ordering::SeqCst);
        let file = File::options().write(true).open(&self.file).unwrap();
        file.write_all_at(&count.to_le_bytes(), 0).unwrap();
        still(&file);
        self.clock.monotonic_ns()
    }
}

fn still(file: &File) {
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000)).unwrap();
}

#[test]
fn what_changed_while_it_was_read_is_read_the_next_time() {
    for (is_blind, has_cache) in [(true, false), (true, true), (false, true)] {
        let place = scratch();
        let source = place.path().join("src");
        fs::create_dir(&source).unwrap();
        let file = source.join("f");
        fs::write(&file, noise(1, 3 << 20)).unwrap();
        let world =
            if has_cache { World::with_cache(30, &place.path().join("cache")) } else { World::new(30) };
        let store = MemoryStore::new();
        world.init(&store).unwrap();
        let options =
            BackupOptions { ignore_inode: is_blind, ignore_ctime: is_blind, ..backup_options(&source) };
        let clock = Writes { clock: &world.clock, file: file.clone(), count: AtomicU64::new(0) };
        let access = Access { clock: &clock, ..world.access(&store) };
        let mut vault = Vault::open(access, &world.key, None).unwrap();
        let report = backup(&mut vault, &options, &mut Quiet).unwrap();
        assert_eq!((report.changed_count, report.error_count), (1, 0), "it was written to all the time");

        let report = world.backup_with(&store, &options).unwrap();
        let read_bytes = report.manifest.statistics.read_bytes;
        assert_eq!((read_bytes, report.changed_count), (3 << 20, 0), "{is_blind} {has_cache}");
        assert_restores(&world, &store, "latest", &tree_of(&source), "after it came to rest");
        let report = world.backup_with(&store, &options).unwrap();
        // Whoever remembers nothing, and does not let size and time decide, reads it every time.
        let expected = if is_blind || has_cache { 0 } else { 3 << 20 };
        assert_eq!(report.manifest.statistics.read_bytes, expected, "now it can be relied upon");
    }
}

/// Does something once, when an entry was taken.
struct When<'w> {
    path: &'static str,
    action: &'w dyn Fn(),
}

impl BackupObserver for When<'_> {
    fn entry(&mut self, path: &[u8], _size: u64, _: EntryChange) {
        if path == self.path.as_bytes() {
            (self.action)();
        }
    }

    fn error(&mut self, _path: &[u8], _message: &str) {}
}

/// A source with three files that are too long to be read ahead, and a vault.
fn three_files() -> Site {
    Site::new(&[("a", 0), ("f", 1), ("z", 2)], 20_000)
}

impl Site {
    /// Backs up; after the entry `src/a`, `action` is done with the source. With more than one worker the walk is at its end by then.
    fn backup_while(&self, worker_count: usize, action: impl Fn(&Path)) -> BackupReport {
        let source = self.source();
        let mut vault = self.world.open(&self.store).unwrap();
        let options = BackupOptions { worker_count, ..backup_options(&source) };
        // The directory has the same time before and after, as the walk finds it before.
        let rest = || still(&File::open(&source).unwrap());
        rest();
        let action = || {
            action(&source);
            rest();
        };
        backup(&mut vault, &options, &mut When { path: "src/a", action: &action }).unwrap()
    }

    fn restores(&self, context: &str) {
        assert_restores(&self.world, &self.store, "latest", &tree_of(&self.source()), context);
        assert_clean(&self.world, &self.store, context);
    }
}

/// As editors save: a new file is renamed over the old one.
fn save(path: &Path, seed: u64, len: usize) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, noise(seed, len)).unwrap();
    fs::set_permissions(&fresh, PermissionsExt::from_mode(0o640)).unwrap();
    fs::rename(fresh, path).unwrap();
}

#[test]
fn a_file_that_is_replaced_after_the_walk_is_taken_as_it_is_now() {
    let site = three_files();
    // First without a parent, then with one that has the file.
    for (seed, len) in [(10, 30_000), (11, 20_000), (12, 5000)] {
        let report = site.backup_while(2, |source| save(&source.join("f"), seed, len));
        assert_eq!((report.errors, report.changed_count), (vec![], 0));
        site.restores("replaced by a file");
    }
    // It was not there when the walk came by: it is read the next time, and from then on remembered.
    assert_eq!(site.backup_while(2, |_| ()).manifest.statistics.read_bytes, 5000);
    assert_eq!(site.backup_while(2, |_| ()).manifest.statistics.read_bytes, 0);
    fs::write(site.source().join("f"), noise(13, 6000)).unwrap();
    let report = site.backup_while(2, |source| save(&source.join("f"), 14, 0));
    assert_eq!((report.errors, report.changed_count), (vec![], 0));
    site.restores("replaced by an empty file");
}

#[test]
fn names_of_one_file_that_are_replaced_are_files_of_their_own() {
    let site = three_files();
    fs::hard_link(site.source().join("f"), site.source().join("g")).unwrap();
    fs::hard_link(site.source().join("f"), site.source().join("h")).unwrap();
    // The first name of the three: the second carries the content then.
    let report = site.backup_while(2, |source| save(&source.join("f"), 20, 5000));
    assert_eq!(report.errors, vec![]);
    let links: Vec<_> = entries(&site.world, &site.store).into_iter().map(|entry| entry.hard_link).collect();
    assert_eq!(links, [None, None, None, None, Some(b"src/g".to_vec()), None]);
    site.restores("the first of three names");
    // What takes its place is itself one of two names.
    let report = site.backup_while(2, |source| {
        fs::hard_link(source.join("z"), source.join("y")).unwrap();
        fs::rename(source.join("y"), source.join("f")).unwrap();
    });
    assert_eq!(report.errors, vec![]);
    assert_eq!(site.backup_while(2, |_| ()).error_count, 0);
    site.restores("another name of a file");
}

#[test]
fn what_is_no_file_any_more_is_an_error_of_its_own() {
    let site = three_files();
    let fifo = |path: &Path| {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
    };
    let link = |path: &Path| symlink("a", path).unwrap();
    let dir = |path: &Path| fs::create_dir(path).unwrap();
    for replace in [&fifo as &dyn Fn(&Path), &link, &dir] {
        let file = site.source().join("f");
        let report = site.backup_while(2, |source| {
            fs::remove_file(source.join("f")).unwrap();
            replace(&source.join("f"));
        });
        assert_eq!(report.error_count, 1);
        assert!(report.errors[0].0 == b"src/f" && report.errors[0].1.contains("replaced meanwhile"));
        assert_eq!(paths(&site.world, &site.store), ["src", "src/a", "src/z"]);
        if file.is_dir() {
            fs::remove_dir(&file).unwrap()
        } else {
            fs::remove_file(&file).unwrap()
        }
        fs::write(&file, noise(1, 20_000)).unwrap();
    }
    let report = site.backup_while(2, |source| fs::remove_file(source.join("f")).unwrap());
    assert!(report.errors[0].1.contains("removed meanwhile"), "{:?}", report.errors);
}

/// The number of an inode is given to another file soon after the first is gone: the number alone makes no link.
#[test]
fn a_name_with_another_state_of_an_inode_is_no_link_to_an_earlier_one() {
    let site = three_files();
    let names = ["a", "f", "g"].map(|name| site.source().join(name));
    names[1..].iter().for_each(|name| {
        fs::remove_file(name).unwrap_or_default();
        fs::hard_link(&names[0], name).unwrap();
    });
    let report = site.backup_while(1, |source| {
        let file = File::options().write(true).open(source.join("f")).unwrap();
        file.write_all_at(&noise(40, 20_000), 0).unwrap();
        still(&file);
    });
    assert_eq!(report.error_count, 0);
    let links: Vec<_> = entries(&site.world, &site.store).into_iter().map(|entry| entry.hard_link).collect();
    assert_eq!(links, [None, None, None, Some(b"src/f".to_vec()), None]);
    let target = scratch();
    site.world.restore(&site.store, "latest", target.path()).unwrap();
    assert!(fs::read(target.path().join("src/a")).unwrap() == noise(0, 20_000));
    assert!(fs::read(target.path().join("src/f")).unwrap() == noise(40, 20_000));
    // At rest, all are one file again.
    site.backup_while(1, |_| ());
    let links = entries(&site.world, &site.store).into_iter().filter(|entry| entry.hard_link.is_some());
    assert_eq!(links.count(), 2);
    site.restores("links at rest");
}
