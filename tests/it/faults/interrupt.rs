//! The user stops a backup: what was read so far is stored and named, and the next run goes on from there.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use coffer_engine::{BackupObserver, EngineError, EntryChange, backup};
use coffer_format::header::ChunkerSpec;
use coffer_store::MemoryStore;
use coffer_testkit::RecordingStore;

use super::super::support::{
    World, assert_clean, assert_restores, backup_options, listed_chunks, noise, scratch, tree_of,
};

/// Longer than what is inline, shorter than a chunk.
const FILE_LEN: usize = 700;
const FILE_COUNT: usize = 12;

/// Sets the flag at the `at`-th entry, counted from 1.
struct Stops<'a> {
    flag: &'a AtomicBool,
    at: usize,
    entry_count: usize,
    /// Bytes of files it has heard of.
    heard_bytes: u64,
}

impl BackupObserver for Stops<'_> {
    fn entry(&mut self, _path: &[u8], size: u64, _: EntryChange) {
        self.entry_count += 1;
        self.heard_bytes += size;
        if self.entry_count == self.at {
            self.flag.store(true, Ordering::SeqCst);
        }
    }

    fn error(&mut self, path: &[u8], message: &str) {
        panic!("{path:?}: {message}");
    }
}

#[test]
fn an_interrupted_backup_is_continued() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    for file in 0..FILE_COUNT as u64 {
        fs::write(source.join(format!("file-{file:02}")), noise(file, FILE_LEN)).unwrap();
    }
    let expected = tree_of(&source);
    let entry_count = FILE_COUNT + 1;
    for worker_count in [1, 3] {
        for at in 1..=entry_count {
            let context = format!("{worker_count} workers, stopped at entry {at}");
            let (host, store) = (World::new(5), RecordingStore::new(MemoryStore::new()));
            host.init_with(&store, ChunkerSpec::Fixed { len: 1024 }).unwrap();
            let mut options = backup_options(&source);
            options.worker_count = worker_count;
            let mut observer = Stops { flag: &host.interrupt, at, entry_count: 0, heard_bytes: 0 };
            let outcome = {
                let mut vault = host.open(&store).unwrap();
                backup(&mut vault, &options, &mut observer)
            };
            host.interrupt.store(false, Ordering::SeqCst);
            let named = listed_chunks(&host, &store);
            let named_bytes: u64 = named.values().map(|chunk| u64::from(chunk.len)).sum();
            let heard_bytes = observer.heard_bytes;
            if at == entry_count {
                // Nothing was left to stop.
                assert_eq!(outcome.unwrap().manifest.statistics.entry_count, entry_count as u64);
            } else {
                assert!(matches!(outcome, Err(EngineError::Interrupted)), "{context}: {outcome:?}");
                assert_eq!(observer.entry_count, at, "{context}: it goes on");
                assert_eq!(heard_bytes, (at as u64 - 1) * FILE_LEN as u64);
                // And leaves of the tree that had ended by then.
                assert!(
                    named_bytes >= heard_bytes,
                    "{context}: {named_bytes} of {heard_bytes} read are named"
                );
                assert!(
                    named_bytes < heard_bytes + 2000,
                    "{context}: {named_bytes} of {heard_bytes} read are named"
                );
                let state = host.open(&store).unwrap().log.state;
                assert_eq!(state.snapshots, [], "{context}");
                assert_eq!(state.next, 1 + u64::from(at > 1), "{context}: one progress record");
                assert_clean(&host, &store, &context);
            }
            store.reset();

            let another = World { rng: coffer_crypto::rng::SeededRng::new(99), ..World::new(5) };
            let report = another.backup_with(&store, &options).unwrap();
            let listed = listed_chunks(&another, &store);
            let new_bytes: u64 = listed.values().map(|chunk| u64::from(chunk.len)).sum::<u64>() - named_bytes;
            assert_eq!(report.manifest.statistics.new_bytes, new_bytes, "{context}: nothing is stored twice");
            assert_restores(&another, &store, "latest", &expected, &context);
            assert_clean(&another, &store, &context);
        }
    }
}

#[test]
fn a_flag_that_is_up_stops_everything_at_once() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), noise(1, FILE_LEN)).unwrap();
    let (host, store) = (World::new(5), RecordingStore::new(MemoryStore::new()));
    host.init(&store).unwrap();
    host.backup(&store, &source).unwrap();
    store.reset();
    host.interrupt.store(true, Ordering::SeqCst);
    assert!(matches!(host.backup(&store, &source), Err(EngineError::Interrupted)));
    let target = scratch();
    assert!(matches!(host.restore(&store, "latest", target.path()), Err(EngineError::Interrupted)));
    assert_eq!(store.reset().put_count, 0, "there is nothing to name");
    assert!(!target.path().join("src").join("file").exists());
}
