//! What is particular to a directory: leftovers of crashes, planted files, access rights.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use coffer_store::{
    ItemKind, ListItem, LocalStore, Location, ObjectKey, ObjectStore, PutOutcome, StoreError,
};
use tempfile::TempDir;

fn store() -> (TempDir, LocalStore) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = LocalStore::create(dir.path().join("vault")).expect("create");
    (dir, store)
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).expect("valid key")
}

fn list(store: &LocalStore, prefix: &str) -> BTreeMap<String, (u64, ItemKind)> {
    let mut items = BTreeMap::new();
    let visit = &mut |item: ListItem| {
        items.insert(item.name, (item.len, item.kind));
        ControlFlow::Continue(())
    };
    store.list(prefix, None, visit).expect("list");
    items
}

/// Every call that needs `name` to be an object refuses it with words that hold `expected`.
#[track_caller]
fn check_refused(store: &LocalStore, name: &str, expected: &str) {
    let mut out = b"before".to_vec();
    let errors = [
        store.read(&key(name), u64::MAX, &mut out).expect_err("read"),
        store.read_range(&key(name), 0, &mut [0; 1]).expect_err("range"),
        store.stat(&key(name)).expect_err("stat"),
        store.put_if_absent(&key(name), b"mine").expect_err("put"),
        store.delete(&key(name)).expect_err("delete"),
    ];
    for error in errors {
        assert!(matches!(error, StoreError::NotAnObject { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
    assert!(out.is_empty());
    assert_eq!(store.temp_files().expect("list"), []);
}

#[test]
fn create_makes_parents_and_open_makes_nothing() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("a/b/vault");
    let error = LocalStore::open(&path).expect_err("nothing there");
    assert!(error.is_not_found(), "{error:?}");
    assert!(error.to_string().starts_with("the store directory is not found in file://"), "{error}");
    assert!(!dir.path().join("a").exists());

    let store = LocalStore::create(&path).expect("create");
    store.put_if_absent(&key("vault"), b"v").expect("put");
    for store in [LocalStore::create(&path).expect("create again"), LocalStore::open(&path).expect("open")] {
        assert_eq!(store.stat(&key("vault")).expect("stat").len, 1);
    }
    assert_eq!(Location::parse(store.url()).expect("own URL"), Location::Local(path));

    let file = dir.path().join("file");
    fs::write(&file, "").expect("write");
    for result in [LocalStore::open(&file), LocalStore::create(&file), LocalStore::open(file.join("below"))] {
        let error = result.expect_err("a file is no directory");
        assert!(matches!(error, StoreError::NotAnObject { .. }), "{error:?}");
    }
    LocalStore::create(file.join("below")).expect_err("a file holds no directory");
}

#[test]
fn reading_writes_nothing() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = LocalStore::open(dir.path()).expect("open");
    store.stat(&key("packs/ab/1")).expect_err("absent");
    store.delete(&key("packs/ab/1")).expect("delete");
    assert_eq!(store.temp_files().expect("list"), []);
    assert_eq!(store.remove_stale_temps().expect("remove"), []);
    assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 0);
}

#[test]
fn objects_lie_under_their_names_and_belong_to_the_owner() {
    let (dir, store) = store();
    store.put_if_absent(&key("packs/ab/1"), b"one").expect("put");
    let root = dir.path().join("vault");
    assert_eq!(fs::read(root.join("packs/ab/1")).expect("read"), b"one");
    let mode = |path: &str| fs::metadata(root.join(path)).expect("stat").permissions().mode() & 0o777;
    assert_eq!([mode(""), mode("packs"), mode("packs/ab"), mode("tmp")], [0o700; 4]);
    assert_eq!(mode("packs/ab/1"), 0o400);
}

#[test]
fn access_rights_follow_those_of_the_root() {
    let dir = tempfile::tempdir().expect("temporary directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("set mode");
    LocalStore::open(dir.path()).expect("open").put_if_absent(&key("packs/1"), b"one").expect("put");
    let mode = |path: &str| fs::metadata(dir.path().join(path)).expect("stat").permissions().mode() & 0o777;
    // The process's umask takes rights away from both alike.
    assert_eq!(mode("packs/1"), mode("packs") & 0o444);
    assert_eq!(mode("packs") & !0o755, 0);
}

#[test]
fn leftovers_of_a_crash_are_no_objects_and_can_be_removed() {
    let (dir, store) = store();
    store.put_if_absent(&key("vault"), b"v").expect("put");
    let temp = dir.path().join("vault/tmp");
    fs::write(temp.join("0123"), "half an obj").expect("write");
    fs::write(temp.join("4567"), "").expect("write");
    fs::create_dir(temp.join("directory")).expect("make directory");
    symlink("/etc/passwd", temp.join("link")).expect("link");

    assert_eq!(list(&store, "").into_keys().collect::<Vec<_>>(), ["vault"]);
    assert_eq!(list(&store, "tmp/"), BTreeMap::new());
    let found = store.temp_files().expect("list");
    let facts: Vec<_> = found.iter().map(|temp| (temp.name.as_str(), temp.len, temp.is_in_use)).collect();
    assert_eq!(facts, [("0123", 11, false), ("4567", 0, false)]);

    // Someone holds one of them open for writing, and locked, as a store does.
    let held = fs::File::open(temp.join("4567")).expect("open");
    held.lock().expect("lock");
    let removed: Vec<_> =
        store.remove_stale_temps().expect("remove").into_iter().map(|temp| temp.name).collect();
    assert_eq!(removed, ["0123"]);
    drop(held);
    let removed: Vec<_> =
        store.remove_stale_temps().expect("remove").into_iter().map(|temp| temp.name).collect();
    assert_eq!(removed, ["4567"]);
    assert!(temp.join("directory").is_dir() && temp.join("link").is_symlink());
    assert_eq!(store.put_if_absent(&key("next"), b"n").expect("put"), PutOutcome::Created);
}

#[test]
fn planted_links_are_never_followed() {
    let (dir, store) = store();
    let root = dir.path().join("vault");
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).expect("make directory");
    fs::write(outside.join("secret"), "secret").expect("write");
    store.put_if_absent(&key("packs/ab/1"), b"one").expect("put");
    symlink(outside.join("secret"), root.join("log")).expect("link");
    symlink(&outside, root.join("packs/cd")).expect("link");
    symlink("1", root.join("packs/ab/2")).expect("link");
    symlink("nowhere", root.join("slots")).expect("link");

    check_refused(&store, "log", "log in file:");
    check_refused(&store, "log", "a symbolic link");
    check_refused(&store, "packs/cd/secret", "packs/cd in file:");
    check_refused(&store, "packs/cd/secret", "a symbolic link");
    check_refused(&store, "packs/ab/2", "a symbolic link");
    check_refused(&store, "slots", "a symbolic link");
    check_refused(&store, "slots/1", "a symbolic link");

    let foreign = (0, ItemKind::Foreign);
    let expected = [
        ("log", foreign),
        ("packs/ab/1", (3, ItemKind::Object)),
        ("packs/ab/2", foreign),
        ("packs/cd", foreign),
        ("slots", foreign),
    ];
    assert_eq!(list(&store, ""), expected.map(|(name, item)| (name.to_owned(), item)).into());
    assert_eq!(list(&store, "packs/cd/"), BTreeMap::new());
    assert_eq!(fs::read_dir(&outside).expect("read").count(), 1);
    assert_eq!(fs::read(outside.join("secret")).expect("read"), b"secret");
    assert!(!root.join("nowhere").exists());
}

#[test]
fn a_linked_place_for_unfinished_writes_is_refused() {
    let (dir, store) = store();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).expect("make directory");
    symlink(&outside, dir.path().join("vault/tmp")).expect("link");
    let error = store.put_if_absent(&key("vault"), b"v").expect_err("put");
    assert!(matches!(error, StoreError::NotAnObject { .. }), "{error:?}");
    store.temp_files().expect_err("a link is no directory");
    store.remove_stale_temps().expect_err("a link is no directory");
    assert_eq!(fs::read_dir(&outside).expect("read").count(), 0);
    assert_eq!(list(&store, "").into_keys().collect::<Vec<_>>(), ["tmp"]);
}

#[test]
fn what_is_no_file_is_no_object() {
    let (dir, store) = store();
    let root = dir.path().join("vault");
    fs::create_dir_all(root.join("packs/ab/1")).expect("make directory");
    fs::write(root.join("slots"), "").expect("write");
    let made = std::process::Command::new("mkfifo").arg(root.join("log")).status().expect("mkfifo runs");
    assert!(made.success());
    let _listener = std::os::unix::net::UnixListener::bind(root.join("index")).expect("socket");

    check_refused(&store, "packs/ab/1", "a directory");
    check_refused(&store, "packs", "a directory");
    check_refused(&store, "slots/1", "a file in the place of a directory");
    // Opening this one for reading would wait for a writer.
    check_refused(&store, "log", "a special file");
    check_refused(&store, "index", "a special file");
    let expected = [
        ("index", (0, ItemKind::Foreign)),
        ("log", (0, ItemKind::Foreign)),
        ("slots", (0, ItemKind::Object)),
    ];
    assert_eq!(list(&store, ""), expected.map(|(name, item)| (name.to_owned(), item)).into());
}

#[test]
fn foreign_names_are_listed_and_foreign_directories_not_entered() {
    let (dir, store) = store();
    let root = dir.path().join("vault");
    store.put_if_absent(&key("log/1"), b"one").expect("put");
    fs::write(root.join("log/Notes.txt"), "notes").expect("write");
    fs::write(root.join(".hidden"), "").expect("write");
    fs::create_dir_all(root.join("lost+found/deep")).expect("make directory");
    fs::write(root.join("lost+found/deep/file"), "").expect("write");
    fs::write(root.join(Path::new(std::ffi::OsStr::from_bytes(b"log/\xff"))), "12").expect("write");
    let expected = [
        (".hidden", (0, ItemKind::Object)),
        ("log/1", (3, ItemKind::Object)),
        ("log/Notes.txt", (5, ItemKind::Foreign)),
        ("log/\u{fffd}", (2, ItemKind::Foreign)),
        ("lost+found/", (0, ItemKind::Foreign)),
    ];
    assert_eq!(list(&store, ""), expected.map(|(name, item)| (name.to_owned(), item)).into());
    assert_eq!(list(&store, "lost").into_keys().collect::<Vec<_>>(), ["lost+found/"]);
    assert_eq!(list(&store, "log/N").into_keys().collect::<Vec<_>>(), ["log/Notes.txt"]);
}

#[test]
fn a_walk_is_as_deep_as_a_key_can_be() {
    let (dir, store) = store();
    let deepest = format!("{}z", "a/".repeat(255));
    store.put_if_absent(&key(&deepest), b"deep").expect("put");
    let too_deep = dir.path().join("vault").join("b/".repeat(300));
    fs::create_dir_all(&too_deep).expect("make directories");
    fs::write(too_deep.join("file"), "").expect("write");
    let items = list(&store, "");
    assert_eq!(items.get(&deepest), Some(&(4, ItemKind::Object)));
    let foreign: Vec<_> = items.iter().filter(|(_, (_, kind))| *kind == ItemKind::Foreign).collect();
    assert_eq!(foreign.len(), 1);
    assert_eq!(*foreign[0].0, "b/".repeat(256));
}

#[test]
fn directories_that_vanish_are_made_again() {
    let (dir, store) = store();
    store.put_if_absent(&key("packs/ab/1"), b"one").expect("put");
    fs::remove_dir_all(dir.path().join("vault/packs")).expect("remove");
    fs::remove_dir_all(dir.path().join("vault/tmp")).expect("remove");
    assert!(store.stat(&key("packs/ab/1")).expect_err("removed").is_not_found());
    assert_eq!(store.put_if_absent(&key("packs/ab/1"), b"anew").expect("put"), PutOutcome::Created);
    let mut out = Vec::new();
    store.read(&key("packs/ab/1"), 100, &mut out).expect("read");
    assert_eq!(out, b"anew");
}

#[test]
fn a_root_that_vanished_is_told_and_not_taken_for_an_absent_object() {
    let (dir, store) = store();
    fs::remove_dir_all(dir.path().join("vault")).expect("remove");
    for name in ["vault", "packs/ab/1"] {
        let error = store.put_if_absent(&key(name), b"v").expect_err("nowhere to put it");
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(store.stat(&key(name)).expect_err("nothing there").is_not_found());
    }
    assert!(!dir.path().join("vault").exists());
}

#[test]
fn two_stores_on_one_directory_agree_on_the_winner() {
    let (dir, first) = store();
    let second = LocalStore::open(dir.path().join("vault")).expect("open");
    for round in 0..100 {
        let key = key(&format!("log/{round}"));
        let create = |store: &LocalStore, body: &'static [u8]| store.put_if_absent(&key, body).expect("put");
        let outcomes = std::thread::scope(|scope| {
            let other = scope.spawn(|| create(&second, b"second"));
            [create(&first, b"first"), other.join().expect("no panic")]
        });
        let mut out = Vec::new();
        first.read(&key, 100, &mut out).expect("read");
        match outcomes {
            [PutOutcome::Created, PutOutcome::AlreadyExists] => assert_eq!(out, b"first"),
            [PutOutcome::AlreadyExists, PutOutcome::Created] => assert_eq!(out, b"second"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(first.temp_files().expect("list"), []);
}

#[test]
fn a_listing_survives_deletions_beside_it() {
    let (_dir, store) = store();
    for number in 0..200 {
        store.put_if_absent(&key(&format!("packs/{:02}/{number}", number % 10)), b"p").expect("put");
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in (0..200).filter(|number| number % 2 == 0) {
                store.delete(&key(&format!("packs/{:02}/{number}", number % 10))).expect("delete");
            }
        });
        for _ in 0..20 {
            let items = list(&store, "packs/");
            let is_listed = |number: &i32| items.contains_key(&format!("packs/{:02}/{number}", number % 10));
            assert!((0..200).filter(|number| number % 2 == 1).all(|number| is_listed(&number)));
        }
    });
    assert_eq!(list(&store, "packs/").len(), 100);
}
