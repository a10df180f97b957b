//! A bucket that keeps no versions any more, although the vault's writers tell by them who was first.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use coffer_sandbox::ConditionMode;
use coffer_store::{
    Cause, MemoryStore, ObjectKey, ObjectStore, PutOutcome, S3Store, StoreError, VersionRule, VersionedStore,
};
use coffer_testkit::AlteredStore;

use super::desk::{BUCKET, Desk};
use crate::support::{World, noise, scratch};

/// A bucket that ignores the condition of a create, and keeps versions until it is told otherwise.
fn desk() -> Desk {
    let desk = Desk::new(|bucket| bucket.versioning = true);
    desk.sandbox.switch(|switches| switches.condition_mode = ConditionMode::Ignored).unwrap();
    desk
}

fn set_versions(desk: &Desk, status: &str) {
    let body = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
    let kind = [("content-type", "application/xml")];
    desk.raw("PUT", &format!("/{BUCKET}?versioning"), &kind, body.as_bytes());
}

/// What two writers put under one free name would be the last one's, and each would read back its own.
#[test]
fn a_record_is_not_acknowledged_once_versions_are_suspended() {
    let desk = desk();
    desk.run("init --single-slot").expect(0).says("the oldest version of a name counts");
    desk.run("backup src").expect(0);
    let count = || desk.names("log/").len();
    let before = count();
    set_versions(&desk, "Suspended");
    for round in 1..=2 {
        let refused =
            desk.run("policy set --lock none").expect(1).says("keeps no versions of objects any more");
        refused.says("turn it on again").says("nothing was acknowledged");
        // It was written, and only the next one on top of it would show whether it stays.
        assert_eq!(count(), before + round);
    }
    desk.run("backup src --force").expect(1).says("turn it on again");
    desk.assert_restores("", "suspended");
    set_versions(&desk, "Enabled");
    desk.run("policy set --lock none").expect(0);
    desk.run("backup src --force").expect(0);
    desk.assert_restores("--no-cache", "enabled");
    desk.run("verify --deep").expect(0);
}

/// As after a reply that was lost: the same bytes are created once more.
#[test]
fn what_was_written_without_versions_counts_as_created_once_a_version_is_above_it() {
    let desk = desk();
    let open = || VersionedStore::new(desk.bucket(), VersionRule::Oldest);
    let name = ObjectKey::new("log/000000000007").unwrap();
    let put = |store: &VersionedStore<S3Store>, body: &[u8]| store.put_if_absent(&name, body);
    let is_off = |put| matches!(put, Err(StoreError::VersionsOff { .. }));
    set_versions(&desk, "Suspended");
    let store = open();
    assert!(is_off(put(&store, b"ours")));
    for store in [&store, &open()] {
        assert!(is_off(put(store, b"ours")), "the next one who finds the name free replaces it");
        assert_eq!(put(store, b"theirs").unwrap(), PutOutcome::AlreadyExists);
    }
    set_versions(&desk, "Enabled");
    assert_eq!(put(&store, b"theirs").unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(desk.versions_of(&name).len(), 1, "nothing is written over it");
    assert_eq!(put(&open(), b"ours").unwrap(), PutOutcome::Created);
    assert_eq!(desk.versions_of(&name).len(), 2);
    assert_eq!(put(&store, b"ours").unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(desk.versions_of(&name).len(), 2);
    let mut bytes = Vec::new();
    store.read(&name, 9, &mut bytes).unwrap();
    assert_eq!(bytes, b"ours");
}

/// What a store takes and complains of can be read back, and need not stay.
#[test]
fn what_can_be_read_back_is_only_acknowledged_where_the_outcome_was_unknown() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), noise(1, 900)).unwrap();
    let cause = || "a fault was planned here".into();
    type Fault = fn(String, String, Cause) -> StoreError;
    let faults: [(bool, Fault); 8] = [
        (true, |name, store, source| StoreError::Unavailable { name, store, source }),
        (true, |name, store, source| StoreError::Io { name, store, source }),
        (false, |name, store, source| StoreError::SyncFailed { name, store, source }),
        (false, |name, store, source| StoreError::Denied { name, store, source }),
        (false, |name, store, source| StoreError::Rejected { name, store, source }),
        (false, |name, store, source| StoreError::LockRefused { name, store, source }),
        (false, |name, store, _| StoreError::VersionsOff { name, store }),
        (false, |_, store, _| StoreError::Unsupported { store, what: "it" }),
    ];
    for (is_unknown, fault) in faults {
        let (world, store) = (World::new(7), MemoryStore::new());
        world.init(&store).unwrap();
        let put_count = AtomicUsize::new(0);
        let altered = AlteredStore::new(&store).on_put(|store, key, body| {
            let outcome = store.put_if_absent(key, body);
            if key.as_str().starts_with("log/") && put_count.fetch_add(1, Ordering::SeqCst) == 0 {
                return Err(fault(key.to_string(), store.url(), cause()));
            }
            outcome
        });
        let told = world.backup(&altered, &source);
        let error = fault(String::new(), String::new(), cause());
        assert_eq!(told.is_ok(), is_unknown, "{error}: {told:?}");
        assert_eq!(put_count.load(Ordering::SeqCst), if is_unknown { 2 } else { 1 }, "{error}");
    }
}
