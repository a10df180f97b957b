//! A system with few threads, and limits.

#![allow(clippy::unwrap_used, reason = "tests fail where they stand")]

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use coffer_crypto::rng::OsRng;
use coffer_format::header::{ChunkerSpec, StoreMode};
use coffer_keys::{KeyFile, RootKey};
use coffer_store::MemoryStore;

use super::*;
use crate::access::Access;
use crate::{BackupObserver, BackupOptions, Clock, EntryChange, InitOptions, backup, init};

struct Still;

impl Clock for Still {
    fn now_ns(&self) -> i64 {
        4_000_000_000_000_000_000
    }

    fn monotonic_ns(&self) -> u64 {
        0
    }
}

struct Quiet;

impl BackupObserver for Quiet {
    fn entry(&mut self, _: &[u8], _: u64, _: EntryChange) {}
    fn error(&mut self, _: &[u8], _: &str) {}
}

impl RestoreObserver for Quiet {
    fn entry(&mut self, _: &[u8], _: u64) {}
}

#[test]
fn without_a_thread_a_restore_says_so_and_with_one_it_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    for number in 0..20_u8 {
        fs::write(source.join(number.to_string()), vec![number; 1000]).unwrap();
    }
    let (store, interrupt) = (MemoryStore::new(), AtomicBool::new(false));
    let key = KeyFile::generate(&OsRng).unwrap();
    let access = || Access { store: &store, clock: &Still, rng: &OsRng, cache: None, interrupt: &interrupt };
    let chunker = ChunkerSpec::Fixed { len: 1 << 20 };
    let options = InitOptions { chunker, store_mode: StoreMode::ConditionalCreate };
    init(&access(), &[(&key as &dyn RootKey, String::new())], &options).unwrap();
    let mut vault = Vault::open(access(), &key, None).unwrap();
    let sources = vec![PathBuf::from("src")];
    let options = BackupOptions::new(sources, place.path().to_path_buf(), "host".to_owned());
    backup(&mut vault, &options, &mut Quiet).unwrap();

    let snapshot = vault.select("latest").unwrap();
    let options = RestoreOptions { worker_count: 8, ..RestoreOptions::default() };
    let restore_to = |name: &str, thread_count| {
        threads::tests::leave(thread_count);
        let restored = restore(&vault, &snapshot, &place.path().join(name), &options, &mut Quiet);
        threads::tests::leave(usize::MAX);
        restored
    };
    let error = restore_to("none", 0).unwrap_err();
    assert!(matches!(error, EngineError::NoThread { .. }), "{error}");
    for thread_count in [1, 3] {
        let name = format!("with-{thread_count}");
        assert_eq!(restore_to(&name, thread_count).unwrap().file_count, 20);
        for number in 0..20_u8 {
            let restored = fs::read(place.path().join(&name).join("src").join(number.to_string()));
            assert_eq!(restored.unwrap(), vec![number; 1000]);
        }
    }
}

#[test]
fn pieces_of_a_job_are_bounded_by_open_files_and_by_memory() {
    assert_eq!(piece_count_max(0, 14), 16);
    assert_eq!(piece_count_max(1024, 14), 54);
    assert_eq!(piece_count_max(1 << 20, 14), 2048);
    assert_eq!(piece_count_max(usize::MAX, 1), 2048);
}
