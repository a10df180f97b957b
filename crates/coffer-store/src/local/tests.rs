//! What only the inside of a local store can show: syncs that fail, and file systems that cannot rename.

use std::cell::Cell;
use std::ops::Range;

use super::*;

thread_local! {
    static SYNC_COUNT: Cell<u32> = const { Cell::new(0) };
    static FAILING: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// Counts the syncs of this thread, and fails those whose number is in the range set last.
fn counted_sync(file: &File) -> io::Result<()> {
    let number = SYNC_COUNT.replace(SYNC_COUNT.get() + 1);
    let (start, end) = FAILING.get();
    if (start..end).contains(&number) { Err(io::Error::other("the medium is gone")) } else { file.sync_all() }
}

fn fail_syncs(range: Range<u32>) {
    SYNC_COUNT.set(0);
    FAILING.set((range.start, range.end));
}

fn store() -> (tempfile::TempDir, LocalStore) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut store = LocalStore::open(dir.path()).expect("open");
    store.sync = counted_sync;
    fail_syncs(0..0);
    (dir, store)
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).expect("valid key")
}

#[test]
fn every_new_name_and_every_file_is_synced_once() {
    let (_dir, store) = store();
    store.put_if_absent(&key("packs/ab/1"), b"one").expect("put");
    // packs in the root, ab in packs, the file, its name in ab.
    assert_eq!(SYNC_COUNT.get(), 4);
    store.put_if_absent(&key("packs/ab/2"), b"two").expect("put");
    assert_eq!(SYNC_COUNT.get(), 6);
    store.put_if_absent(&key("packs/cd/3"), b"three").expect("put");
    assert_eq!(SYNC_COUNT.get(), 9);
}

#[test]
fn directories_found_there_are_synced_before_they_are_relied_on() {
    let (dir, store) = store();
    std::fs::create_dir_all(dir.path().join("packs/ab")).expect("make directories");
    store.put_if_absent(&key("packs/ab/1"), b"one").expect("put");
    assert_eq!(SYNC_COUNT.get(), 4);
}

#[test]
fn a_name_found_there_is_synced_before_it_is_reported() {
    let (_dir, store) = store();
    store.put_if_absent(&key("vault"), b"one").expect("put");
    let before = SYNC_COUNT.get();
    assert_eq!(store.put_if_absent(&key("vault"), b"two").expect("put"), PutOutcome::AlreadyExists);
    assert_eq!(SYNC_COUNT.get(), before + 1);
    fail_syncs(0..1);
    let error = store.put_if_absent(&key("vault"), b"two").expect_err("sync fails");
    assert!(matches!(error, StoreError::SyncFailed { .. }), "{error:?}");
}

#[test]
fn a_file_whose_sync_failed_is_thrown_away_and_not_synced_again() {
    let (_dir, store) = store();
    fail_syncs(0..1);
    let error = store.put_if_absent(&key("vault"), b"one").expect_err("sync fails");
    assert!(matches!(error, StoreError::SyncFailed { .. }), "{error:?}");
    assert!(!error.is_retryable());
    assert_eq!(SYNC_COUNT.get(), 1);
    assert!(store.stat(&key("vault")).expect_err("absent").is_not_found());
    assert_eq!(store.temp_files().expect("list"), []);
    // A new attempt writes a new file.
    assert_eq!(store.put_if_absent(&key("vault"), b"one").expect("put"), PutOutcome::Created);
}

#[test]
fn after_a_failed_sync_of_a_directory_nothing_is_created_any_more() {
    // The second sync is that of the name; for packs/ab/1 the first is that of a new directory.
    for (name, failing, is_there) in
        [("vault", 1..2, true), ("packs/ab/1", 0..1, false), ("packs/ab/1", 3..4, true)]
    {
        let (dir, store) = store();
        fail_syncs(failing);
        let error = store.put_if_absent(&key(name), b"one").expect_err("sync fails");
        assert!(matches!(error, StoreError::SyncFailed { .. }), "{error:?}");
        let sync_count = SYNC_COUNT.get();
        for name in [name, "other"] {
            let error = store.put_if_absent(&key(name), b"one").expect_err("sync was lost");
            assert!(matches!(error, StoreError::SyncFailed { .. }), "{error:?}");
        }
        assert_eq!(SYNC_COUNT.get(), sync_count);
        assert_eq!(store.stat(&key(name)).is_ok(), is_there, "{name}");
        assert_eq!(store.temp_files().expect("list"), []);
        // A store opened anew starts anew.
        let store = LocalStore::open(dir.path()).expect("open");
        store.put_if_absent(&key("other"), b"one").expect("put");
    }
}

#[test]
fn a_full_disk_found_by_a_sync_is_no_space() {
    let (_dir, store) = store();
    let error = store.sync_error("vault", Errno::NOSPC.into());
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
}

#[test]
fn publishing_by_link_does_not_replace_and_knows_its_own_file() {
    let (dir, store) = store();
    let root = store.make_dir(None).expect("root");
    let mut temp = Temp::create(&store, "vault").expect("temporary file");
    temp.file.write_all(b"one").expect("write");
    assert_eq!(temp.publish_by_link(&root, "vault"), Ok(true));
    // The same request again, as after a lost reply.
    assert_eq!(temp.publish_by_link(&root, "vault"), Ok(true));
    drop(temp);
    assert_eq!(store.temp_files().expect("list"), []);

    let mut temp = Temp::create(&store, "vault").expect("temporary file");
    temp.file.write_all(b"two").expect("write");
    assert_eq!(temp.publish_by_link(&root, "vault"), Ok(false));
    assert_eq!(temp.publish(&root, "vault"), Ok(false));
    drop(temp);
    assert_eq!(std::fs::read(dir.path().join("vault")).expect("read"), b"one");
    assert_eq!(store.temp_files().expect("list"), []);
}

#[test]
fn a_file_being_written_is_in_use_until_its_writer_is_gone() {
    let (_dir, store) = store();
    let temp = Temp::create(&store, "vault").expect("temporary file");
    let found = store.temp_files().expect("list");
    assert!(matches!(&found[..], [TempFile { len: 0, is_in_use: true, .. }]), "{found:?}");
    assert_eq!(store.remove_stale_temps().expect("remove"), []);
    assert_eq!(store.temp_files().expect("list").len(), 1);
    drop(temp);
    assert_eq!(store.temp_files().expect("list"), []);
}

#[test]
fn a_write_whose_temporary_file_vanished_can_be_retried() {
    let (dir, store) = store();
    let root = store.make_dir(None).expect("root");
    let mut temp = Temp::create(&store, "vault").expect("temporary file");
    std::fs::remove_dir_all(dir.path().join("tmp")).expect("remove tmp");
    let errno = temp.publish(&root, "vault").expect_err("nothing to publish");
    assert!(store.write_error("vault", errno).is_retryable());
    drop(temp);
    assert_eq!(store.put_if_absent(&key("vault"), b"one").expect("put"), PutOutcome::Created);
}

#[test]
fn a_file_that_is_not_as_long_as_it_was_is_refused() {
    let (_dir, store) = store();
    store.put_if_absent(&key("vault"), &[7; 100]).expect("put");
    let read = |expected_len| {
        let (file, len) = store.open_object(&key("vault")).expect("open");
        assert_eq!(len, 100);
        store.read_whole(&key("vault"), file, expected_len, &mut Vec::new())
    };
    read(100).expect("unchanged");
    for (expected, actual) in [(0, 1), (99, 100), (101, 100), (u64::MAX, 100)] {
        match read(expected).expect_err("changed") {
            StoreError::LengthChanged { expected_len, actual_len, .. } => {
                assert_eq!((expected_len, actual_len), (expected, actual));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_memory_of_durable_directories_is_bounded() {
    let (_dir, store) = store();
    for number in 0..=DURABLE_DIRS_COUNT_MAX {
        store.remember_durable_dir(&number.to_string());
    }
    assert_eq!(store.durable_dirs.lock().expect("lock").len(), 1);
}
