//! The conformance suite over every store and wrapper, and what is particular to memory.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coffer_store::{ItemKind, LocalStore, MemoryStore, ObjectKey, ObjectStore, RetryPolicy, RetryStore};
use coffer_testkit::conformance::store_conformance;
use coffer_testkit::copy::{Objects, snapshot_of, snapshot_of_dir, store_from, write_dir};
use coffer_testkit::{CrashMoment, CrashingStore, FaultyStore, RecordingStore};

/// Makes local stores in fresh directories below one that is removed in the end.
fn in_directories<S: ObjectStore>(wrap: impl Fn(LocalStore) -> S) {
    let parent = tempfile::tempdir().expect("temporary directory");
    let number = AtomicU64::new(0);
    let make = || {
        let path = parent.path().join(number.fetch_add(1, Ordering::Relaxed).to_string());
        wrap(LocalStore::create(path).expect("create"))
    };
    store_conformance(make);
}

#[test]
fn memory_conforms() {
    store_conformance(MemoryStore::new);
}

#[test]
fn local_conforms() {
    in_directories(|store| store);
}

#[test]
fn retry_over_memory_conforms() {
    store_conformance(|| RetryStore::new(MemoryStore::new(), RetryPolicy::default(), 1));
}

#[test]
fn retry_over_local_conforms() {
    in_directories(|store| RetryStore::new(store, RetryPolicy::default(), 1));
}

#[test]
fn references_and_boxes_conform() {
    store_conformance(|| Arc::new(MemoryStore::new()));
    store_conformance(|| Box::new(MemoryStore::new()) as Box<dyn ObjectStore>);
    store_conformance(|| -> &'static MemoryStore { Box::leak(Box::new(MemoryStore::new())) });
}

#[test]
fn test_wrappers_that_do_nothing_conform() {
    store_conformance(|| RecordingStore::new(MemoryStore::new()));
    store_conformance(|| FaultyStore::new(MemoryStore::new(), []));
    store_conformance(|| CrashingStore::new(MemoryStore::new(), u64::MAX, CrashMoment::Before));
}

#[test]
fn raw_objects_of_a_memory_store() {
    let store = MemoryStore::new();
    let key = ObjectKey::new("log/1").expect("key");
    store.put_if_absent(&key, b"one").expect("put");
    store.insert_raw("log/1", *b"changed");
    store.insert_raw("log/UPPER", *b"foreign");
    assert_eq!(store.raw("log/1").as_deref(), Some(&b"changed"[..]));
    assert_eq!(store.names(), ["log/1", "log/UPPER"]);
    let mut kinds = Vec::new();
    let visit = &mut |item: coffer_store::ListItem| {
        kinds.push((item.name, item.kind));
        ControlFlow::Continue(())
    };
    store.list("log/", None, visit).expect("list");
    assert_eq!(kinds, [("log/1".to_owned(), ItemKind::Object), ("log/UPPER".to_owned(), ItemKind::Foreign)]);
    assert_eq!(store.remove_raw("log/1").as_deref(), Some(&b"changed"[..]));
    assert_eq!(store.remove_raw("log/1"), None);
    assert!(store.stat(&key).expect_err("removed").is_not_found());
    assert!(!format!("{store:?}").contains("foreign"), "bytes show in debug output");
}

#[test]
fn a_store_can_be_copied_to_a_directory_and_back() {
    let objects: Objects = [("vault", b"v".as_slice()), ("packs/ab/1", b""), ("log/1", b"record")]
        .into_iter()
        .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
        .collect();
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::write(dir.path().join("old"), "content").expect("write");
    assert_eq!(snapshot_of(&store_from(objects.clone())), objects);
    write_dir(&objects, dir.path());
    assert_eq!(snapshot_of_dir(dir.path()), objects);
}
