//! What every [`ObjectStore`] promises.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Barrier;

use coffer_store::{ItemKind, ObjectKey, ObjectStore, PutOutcome, StoreError};

/// Threads that use a store at once.
const THREADS_COUNT: usize = 16;

/// Runs every check on a fresh store from `make`, which must be empty.
///
/// # Panics
/// When the store breaks a promise of the trait.
pub fn store_conformance<S: ObjectStore>(make: impl Fn() -> S) {
    let checks: [fn(&dyn ObjectStore); 13] = [
        starts_empty,
        put_creates_once,
        objects_of_every_length_come_back,
        read_reuses_its_buffer,
        read_keeps_to_its_limit,
        ranges_are_exact,
        stat_tells_the_length,
        list_shows_what_is_there,
        list_starts_and_stops_where_told,
        visitors_may_use_the_store,
        delete_removes,
        one_of_many_creates_wins,
        threads_do_not_disturb_each_other,
    ];
    for check in checks {
        check(&make());
    }
}

fn starts_empty(store: &dyn ObjectStore) {
    assert_eq!(listed(store, "", None), BTreeMap::new());
    assert!(!store.url().is_empty());
    let absent = key("packs/ab/absent");
    let mut out = b"before".to_vec();
    for error in [
        store.read(&absent, u64::MAX, &mut out).expect_err("read of an absent object"),
        store.read_range(&absent, 0, &mut [0; 1]).expect_err("range of an absent object"),
        store.read_range(&absent, 0, &mut []).expect_err("empty range of an absent object"),
        store.stat(&absent).expect_err("stat of an absent object"),
    ] {
        assert!(error.is_not_found(), "{error:?}");
        assert!(error.is_not_found() && !error.is_retryable());
        let message = error.to_string();
        assert!(message.contains(absent.as_str()) && message.contains(&store.url()), "{message}");
    }
    assert!(out.is_empty(), "a failed read left bytes");
}

fn put_creates_once(store: &dyn ObjectStore) {
    for (name, first) in [("vault", b"first".as_slice()), ("packs/ab/1", b"first"), ("empty", b"")] {
        let key = key(name);
        assert_eq!(store.put_if_absent(&key, first).expect(name), PutOutcome::Created, "{name}");
        for second in [b"second, longer".as_slice(), first, b""] {
            let outcome = store.put_if_absent(&key, second).expect(name);
            assert_eq!(outcome, PutOutcome::AlreadyExists, "{name}");
            assert_eq!(read(store, &key), first, "{name} was overwritten");
        }
    }
}

fn objects_of_every_length_come_back(store: &dyn ObjectStore) {
    for len in [0, 1, 31, 4095, 4096, 4097, 65_537, 5 << 20] {
        let key = key(&format!("packs/00/{len}"));
        let body = body(&key, len);
        assert_eq!(store.put_if_absent(&key, &body).expect("put"), PutOutcome::Created);
        assert!(read(store, &key) == body, "{len} bytes came back changed");
    }
    let longest = key(&format!("{}/{}", "a".repeat(255), "b".repeat(255)));
    assert_eq!(store.put_if_absent(&longest, b"long").expect("put"), PutOutcome::Created);
    assert_eq!(read(store, &longest), b"long");
}

fn read_reuses_its_buffer(store: &dyn ObjectStore) {
    put(store, "long", 1000);
    put(store, "short", 3);
    let mut out = b"before".to_vec();
    store.read(&key("long"), u64::MAX, &mut out).expect("read");
    assert_eq!(out, body(&key("long"), 1000));
    let place = out.as_ptr();
    store.read(&key("short"), u64::MAX, &mut out).expect("read");
    assert_eq!(out, body(&key("short"), 3));
    assert_eq!(out.as_ptr(), place, "the buffer was allocated anew");
}

fn read_keeps_to_its_limit(store: &dyn ObjectStore) {
    put(store, "object", 1 << 20);
    put(store, "empty", 0);
    let mut out = Vec::new();
    for limit in [0, 1, (1 << 20) - 1] {
        let error = store.read(&key("object"), limit, &mut out).expect_err("read beyond the limit");
        match error {
            StoreError::TooLong { len, len_max, .. } => assert_eq!((len, len_max), (1 << 20, limit)),
            other => panic!("{other:?} instead of TooLong"),
        }
        assert_eq!(out.capacity(), 0, "memory was taken for an object beyond the limit");
    }
    store.read(&key("object"), 1 << 20, &mut out).expect("read up to the limit");
    assert_eq!(out.len(), 1 << 20);
    store.read(&key("object"), 5, &mut out).expect_err("read beyond the limit");
    assert!(out.is_empty(), "a failed read left bytes");
    store.read(&key("empty"), 0, &mut out).expect("read of nothing");
}

fn ranges_are_exact(store: &dyn ObjectStore) {
    const LEN: usize = 10_000;
    put(store, "object", LEN);
    put(store, "empty", 0);
    let body = body(&key("object"), LEN);
    for (start, end) in [(0, 0), (0, 1), (0, LEN), (1, LEN), (4000, 6000), (LEN - 1, LEN), (LEN, LEN)] {
        let mut out = vec![0xA5; end - start];
        store.read_range(&key("object"), start as u64, &mut out).expect("range");
        assert!(out == body[start..end], "bytes {start}..{end} differ");
    }
    store.read_range(&key("empty"), 0, &mut []).expect("range of nothing");

    let past_end: [(&str, u64, usize); 7] = [
        ("object", 0, LEN + 1),
        ("object", LEN as u64, 1),
        ("object", LEN as u64 + 1, 0),
        ("object", u64::MAX, 0),
        ("object", u64::MAX, 2),
        ("empty", 0, 1),
        ("empty", 1, 0),
    ];
    for (name, at, len) in past_end {
        match store.read_range(&key(name), at, &mut vec![0; len]).expect_err("range past the end") {
            StoreError::Truncated { offset, range_len, actual_len, .. } => {
                let expected_len = if name == "empty" { 0 } else { LEN as u64 };
                assert_eq!((offset, range_len, actual_len), (at, len as u64, expected_len));
            }
            other => panic!("{other:?} instead of Truncated for {len} bytes at {at} of {name}"),
        }
    }
}

fn stat_tells_the_length(store: &dyn ObjectStore) {
    for len in [0, 1, 100_000] {
        let name = format!("slots/{len}");
        put(store, &name, len);
        assert_eq!(store.stat(&key(&name)).expect("stat").len, len as u64);
    }
}

/// Names, sorted, with some that are close to each other.
const NAMES: [&str; 9] = [
    "index/00",
    "log/00000000",
    "log/00000001",
    "log/00000010",
    "log.old/1",
    "packs/ab/1",
    "packs/ab/2",
    "packs/abc/1",
    "vault",
];

fn list_shows_what_is_there(store: &dyn ObjectStore) {
    for (len, name) in NAMES.iter().enumerate() {
        put(store, name, len);
    }
    for prefix in [
        "",
        "l",
        "log",
        "log/",
        "log.",
        "log/0000000",
        "log/00000001",
        "packs/",
        "packs/ab",
        "packs/ab/",
        "packs/ab/1",
        "v",
        "vault",
        "vault/",
        "x",
        "/",
        ".",
        "..",
        "../",
        "log/../",
        "tmp/",
        "probe",
        "packs//",
        "LOG",
    ] {
        check_list(store, prefix, None);
    }
}

fn list_starts_and_stops_where_told(store: &dyn ObjectStore) {
    for (len, name) in NAMES.iter().enumerate() {
        put(store, name, len);
    }
    for prefix in ["", "log", "log/", "packs/ab", "packs/ab/"] {
        for after in NAMES.iter().copied().chain([
            "",
            "a",
            "log",
            "log/",
            "log/0000001",
            "packs/ab/",
            "packs/abb",
            "z",
        ]) {
            check_list(store, prefix, Some(after));
        }
    }
    for visits_max in 1..=NAMES.len() {
        let mut visit_count = 0;
        let visit = &mut |_| {
            visit_count += 1;
            if visit_count == visits_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        store.list("", None, visit).expect("list");
        assert_eq!(visit_count, visits_max, "the listing did not stop when told");
    }
}

#[track_caller]
fn check_list(store: &dyn ObjectStore, prefix: &str, start_after: Option<&str>) {
    let expected: BTreeMap<String, u64> = NAMES
        .iter()
        .zip(0..)
        .filter(|(name, _)| name.starts_with(prefix) && start_after.is_none_or(|after| **name > after))
        .map(|(name, len)| ((*name).to_owned(), len))
        .collect();
    assert_eq!(listed(store, prefix, start_after), expected, "prefix {prefix:?} after {start_after:?}");
}

fn visitors_may_use_the_store(store: &dyn ObjectStore) {
    for name in NAMES {
        put(store, name, 10);
    }
    let visit = &mut |item: coffer_store::ListItem| {
        let key = key(&item.name);
        assert_eq!(read(store, &key), body(&key, 10));
        store.delete(&key).expect("delete");
        ControlFlow::Continue(())
    };
    store.list("log/", None, visit).expect("list");
    assert_eq!(listed(store, "log/", None), BTreeMap::new());
}

fn delete_removes(store: &dyn ObjectStore) {
    let object = key("packs/ab/1");
    store.delete(&object).expect("delete of what never was, nor its directory");
    put(store, "packs/ab/1", 10);
    put(store, "packs/ab/2", 10);
    store.delete(&key("packs/ab/3")).expect("delete of what never was");
    store.delete(&object).expect("delete");
    assert!(store.stat(&object).expect_err("deleted").is_not_found());
    assert_eq!(listed(store, "", None).into_keys().collect::<Vec<_>>(), ["packs/ab/2"]);
    store.delete(&object).expect("delete again");
    assert_eq!(store.put_if_absent(&object, b"anew").expect("put"), PutOutcome::Created);
    assert_eq!(read(store, &object), b"anew");
}

fn one_of_many_creates_wins(store: &dyn ObjectStore) {
    for round in 0..10 {
        // Alone in its directory, so that the threads race for that too.
        let key = key(&format!("race/{round}/log"));
        let barrier = Barrier::new(THREADS_COUNT);
        let create = |thread: usize| {
            let body = vec![u8::try_from(thread).expect("few threads"); 3000 + thread];
            barrier.wait();
            let outcome = store.put_if_absent(&key, &body).expect("put");
            // Whoever won, the object is there and whole once this call has returned.
            let found = read(store, &key);
            assert!(
                !found.is_empty() && found.len() == 3000 + usize::from(found[0]),
                "a part of an object shows"
            );
            (outcome == PutOutcome::Created).then_some(body)
        };
        let won: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let create = &create;
            let threads: Vec<_> =
                (0..THREADS_COUNT).map(|thread| scope.spawn(move || create(thread))).collect();
            threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(won.len(), 1, "{} creates won in round {round}", won.len());
        assert!(read(store, &key) == won[0], "the object does not hold the winner's bytes");
    }
}

fn threads_do_not_disturb_each_other(store: &dyn ObjectStore) {
    let work = |thread: usize| {
        for number in 0..8 {
            let name = format!("packs/{:02x}/{thread}-{number}", number % 3);
            put(store, &name, 100 * thread + number);
            assert_eq!(read(store, &key(&name)), body(&key(&name), 100 * thread + number));
            if number % 2 == 0 {
                store.delete(&key(&name)).expect("delete");
            }
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS_COUNT {
            scope.spawn(move || work(thread));
        }
    });
    assert_eq!(listed(store, "packs/", None).len(), THREADS_COUNT * 4);
}

#[track_caller]
fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).expect("valid key")
}

/// Bytes that differ between keys and between positions.
fn body(key: &ObjectKey, len: usize) -> Vec<u8> {
    let mut state =
        key.as_str().bytes().fold(1u32, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into()));
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[track_caller]
fn put(store: &dyn ObjectStore, name: &str, len: usize) {
    let key = key(name);
    assert_eq!(store.put_if_absent(&key, &body(&key, len)).expect("put"), PutOutcome::Created, "{name}");
}

#[track_caller]
fn read(store: &dyn ObjectStore, key: &ObjectKey) -> Vec<u8> {
    let mut out = Vec::new();
    store.read(key, u64::MAX, &mut out).expect("read");
    out
}

/// Names and lengths of what a listing shows; each must be an object and be shown once.
#[track_caller]
fn listed(store: &dyn ObjectStore, prefix: &str, start_after: Option<&str>) -> BTreeMap<String, u64> {
    let mut items = BTreeMap::new();
    store
        .list(prefix, start_after, &mut |item| {
            assert_eq!(item.kind, ItemKind::Object, "{}", item.name);
            assert_eq!(items.insert(item.name, item.len), None, "a name was shown twice");
            ControlFlow::Continue(())
        })
        .expect("list");
    items
}
