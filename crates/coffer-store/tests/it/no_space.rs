//! A disk that is full. It takes a file system of its own, which only root may mount.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use coffer_store::{LocalStore, ObjectKey, ObjectStore, PutOutcome, RetryPolicy, RetryStore, StoreError};

/// A small file system in memory, unmounted in the end.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(path: &Path, options: &str) -> Option<Self> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path);
        let is_mounted = command.output().is_ok_and(|output| output.status.success());
        is_mounted.then(|| Self { path: path.to_owned() })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let is_unmounted =
            Command::new("umount").arg(&self.path).status().is_ok_and(|status| status.success());
        assert!(is_unmounted || std::thread::panicking(), "the disk of the test stays mounted");
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).expect("valid key")
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let Some(disk) = SmallDisk::mount(dir.path(), "size=256k,mode=700") else {
        println!("skipped: mounting a file system is not permitted here");
        return;
    };
    let store = LocalStore::create(disk.path.join("vault")).expect("create");
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
    // What fits goes on working, and so does what is there.
    assert_eq!(store.put_if_absent(&key("packs/ab/2"), &[2; 1000]).expect("put"), PutOutcome::Created);
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
    let Some(disk) = SmallDisk::mount(dir.path(), "size=1m,nr_inodes=5,mode=700") else {
        println!("skipped: mounting a file system is not permitted here");
        return;
    };
    let path = disk.path.join("vault");
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
    let Some(disk) = SmallDisk::mount(dir.path(), "size=1m,mode=700") else {
        println!("skipped: mounting a file system is not permitted here");
        return;
    };
    LocalStore::open(&disk.path).expect("open").put_if_absent(&key("log/1"), b"record").expect("put");
    let is_read_only = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&disk.path)
        .status()
        .is_ok_and(|status| status.success());
    assert!(is_read_only);
    let store = LocalStore::open(&disk.path).expect("open");
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
