//! A disk that is full. It takes a file system of its own, which only root may mount.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use coffer_store::{LocalStore, ObjectKey, ObjectStore, PutOutcome, RetryPolicy, RetryStore, StoreError};
use coffer_testkit::Mounted;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).expect("valid key")
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let Some(disk) = Mounted::tmpfs(dir.path(), "size=256k,mode=700") else { return };
    let store = LocalStore::create(disk.path().join("vault")).expect("create");
    store.put_if_absent(&key("packs/ab/1"), &[1; 1000]).expect("put");
    for _ in 0..3 {
        let error = store.put_if_absent(&key("packs/ab/2"), &[2; 1 << 20]).expect_err("no space");
        assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
        assert!(!error.is_retryable());
        assert_eq!(store.temp_files().expect("list"), []);
    }
    assert!(store.stat(&key("packs/ab/2")).expect_err("absent").is_not_found());
    let mut names = Vec::new();
    let visit = &mut |item: coffer_store::ListItem| {
        names.push(item.name);
        ControlFlow::Continue(())
    };
    store.list("", None, visit).expect("list");
    assert_eq!(names, ["packs/ab/1"]);
    // What fits goes on working, and so does what is there. A child that another test is starting may have the file of the last attempt open
    // for a moment, and its room is taken that long.
    let begun = Instant::now();
    let outcome = loop {
        match store.put_if_absent(&key("packs/ab/2"), &[2; 1000]) {
            Err(StoreError::NoSpace { .. }) if begun.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            outcome => break outcome,
        }
    };
    assert_eq!(outcome.expect("put"), PutOutcome::Created);
    let mut out = Vec::new();
    store.read(&key("packs/ab/1"), 1000, &mut out).expect("read");
    assert_eq!(out, [1; 1000]);
    drop(store);
    drop(disk);
}

#[test]
fn a_disk_without_room_for_names_is_full_too() {
    let dir = tempfile::tempdir().expect("temporary directory");
    // Root of the disk, vault, tmp, one object, and one to spare.
    let Some(disk) = Mounted::tmpfs(dir.path(), "size=1m,nr_inodes=5,mode=700") else { return };
    let path = disk.path().join("vault");
    let store = RetryStore::new(LocalStore::create(path).expect("create"), RetryPolicy::default(), 1);
    let error = (0..10).find_map(|number| store.put_if_absent(&key(&number.to_string()), b"").err());
    let error = error.expect("ten objects do not fit");
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    let error = store.put_if_absent(&key("packs/1"), b"").expect_err("no room for a directory");
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    drop(store);
    drop(disk);
}

#[test]
fn a_disk_that_is_read_only_can_be_read_and_denies_writing() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let Some(disk) = Mounted::tmpfs(dir.path(), "size=1m,mode=700") else { return };
    LocalStore::open(disk.path()).expect("open").put_if_absent(&key("log/1"), b"record").expect("put");
    disk.remount("ro");
    let store = LocalStore::open(disk.path()).expect("open");
    let mut out = Vec::new();
    store.read(&key("log/1"), 100, &mut out).expect("read");
    assert_eq!(out, b"record");
    for error in [
        store.put_if_absent(&key("log/2"), b"").expect_err("put"),
        store.put_if_absent(&key("slots/2"), b"").expect_err("put"),
        store.delete(&key("log/1")).expect_err("delete"),
    ] {
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    }
    assert_eq!(store.put_if_absent(&key("log/1"), b"").expect("put"), PutOutcome::AlreadyExists);
    drop(store);
    drop(disk);
}
