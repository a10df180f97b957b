//! What is retried, how often, and how a lost reply is settled.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use coffer_store::{
    AskedWaits, ListItem, MemoryStore, ObjectKey, ObjectStore, PutOutcome, RequestFailure, RetryPolicy,
    RetryStore, StoreError,
};
use coffer_testkit::{AlteredStore, Fault, FaultKind, FaultMoment, FaultyStore, RecordingStore};

use FaultKind::{NoSpace, Unavailable};
use FaultMoment::{After, Before};

type Inner = RecordingStore<FaultyStore<MemoryStore>>;

/// A retrying store over one with faults, and the waits it took.
struct Setup {
    store: RetryStore<Inner>,
    waits: Arc<Mutex<Vec<Duration>>>,
}

impl Setup {
    fn new(attempts_max: u32, plan: impl Into<Vec<Fault>>) -> Self {
        let waits = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&waits);
        let policy = RetryPolicy {
            attempts_max,
            delay_first: Duration::from_millis(100),
            delay_max: Duration::from_millis(1000),
        };
        let inner = RecordingStore::new(FaultyStore::new(MemoryStore::new(), plan));
        let sleep = move |delay| noted.lock().expect("lock").push(delay);
        Self { store: RetryStore::with_sleeper(inner, policy, 7, sleep), waits }
    }

    fn memory(&self) -> &MemoryStore {
        self.store.inner().inner().inner()
    }

    fn wait_count(&self) -> usize {
        self.waits.lock().expect("lock").len()
    }
}

fn key() -> ObjectKey {
    ObjectKey::new("log/1").expect("valid key")
}

#[test]
fn every_operation_is_retried_and_gives_what_it_would_have_given() {
    for moment in [Before, After] {
        let retried = |failures| Setup::new(4, [Fault::times(0, failures, moment, Unavailable)]);

        let setup = retried(3);
        assert_eq!(setup.store.put_if_absent(&key(), b"one").expect("put"), PutOutcome::Created);
        assert_eq!(setup.memory().raw("log/1").as_deref(), Some(&b"one"[..]));
        assert_eq!(setup.wait_count(), 3);

        let setup = retried(2);
        setup.memory().insert_raw("log/1", *b"one");
        let mut out = b"before".to_vec();
        setup.store.read(&key(), 3, &mut out).expect("read");
        assert_eq!((out.as_slice(), setup.wait_count()), (&b"one"[..], 2));

        let setup = retried(2);
        setup.memory().insert_raw("log/1", *b"one");
        let mut out = [0; 2];
        setup.store.read_range(&key(), 1, &mut out).expect("range");
        assert_eq!((&out, setup.wait_count()), (b"ne", 2));

        let setup = retried(2);
        setup.memory().insert_raw("log/1", *b"one");
        assert_eq!(setup.store.stat(&key()).expect("stat").len, 3);
        assert_eq!(setup.wait_count(), 2);

        let setup = retried(2);
        setup.memory().insert_raw("log/1", *b"one");
        setup.store.delete(&key()).expect("delete");
        assert_eq!((setup.memory().names().len(), setup.wait_count()), (0, 2));
    }
}

#[test]
fn attempts_are_bounded() {
    for attempts_max in [0, 1, 2, 5] {
        let setup = Setup::new(attempts_max, [Fault::forever(0, Before, Unavailable)]);
        let error = setup.store.put_if_absent(&key(), b"one").expect_err("always fails");
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        let expected = attempts_max.max(1);
        assert_eq!(setup.store.inner().snapshot().call_count(), u64::from(expected));
        assert_eq!(setup.wait_count() as u64, u64::from(expected - 1));
    }
}

#[test]
fn only_what_may_pass_is_retried() {
    for kind in FaultKind::ALL.into_iter().filter(|kind| *kind != Unavailable) {
        let setup = Setup::new(5, [Fault::forever(0, Before, kind)]);
        let errors = [
            setup.store.put_if_absent(&key(), b"one").expect_err("put"),
            setup.store.read(&key(), 3, &mut Vec::new()).expect_err("read"),
            setup.store.read_range(&key(), 0, &mut []).expect_err("range"),
            setup.store.stat(&key()).expect_err("stat"),
            setup.store.list("", None, &mut |_| ControlFlow::Continue(())).expect_err("list"),
            setup.store.delete(&key()).expect_err("delete"),
        ];
        for error in &errors {
            assert!(format!("{error:?}").starts_with(&format!("{kind:?}")), "{error:?}");
        }
        assert_eq!((setup.store.inner().snapshot().call_count(), setup.wait_count()), (6, 0));
    }
}

#[test]
fn an_error_that_may_pass_followed_by_one_that_does_not_gives_the_latter() {
    let setup = Setup::new(5, [Fault::once(0, Before, Unavailable), Fault::once(1, Before, NoSpace)]);
    let error = setup.store.put_if_absent(&key(), b"one").expect_err("no space");
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
    assert_eq!(setup.wait_count(), 1);
}

/// What a creation gives after its first reply was lost, with `there` already in the store.
#[track_caller]
fn check_settled(there: Option<&[u8]>, body: &[u8], expected: PutOutcome) {
    let setup = Setup::new(5, [Fault::once(0, After, Unavailable)]);
    if let Some(bytes) = there {
        setup.memory().insert_raw("log/1", bytes);
    }
    assert_eq!(setup.store.put_if_absent(&key(), body).expect("put"), expected);
    let recording = setup.store.inner().snapshot();
    assert_eq!((recording.put_count, recording.put_existing_count), (2, 1));
    assert_eq!(setup.memory().raw("log/1").as_deref(), Some(there.unwrap_or(body)));
}

#[test]
fn a_lost_reply_is_settled_by_the_bytes() {
    let long = vec![5; (2 << 20) + 17];
    let mut other = long.clone();
    *other.last_mut().expect("not empty") = 6;
    let mut longer = long.clone();
    longer.push(5);
    check_settled(None, b"mine", PutOutcome::Created);
    check_settled(None, b"", PutOutcome::Created);
    check_settled(None, &long, PutOutcome::Created);
    check_settled(Some(b"mine"), b"mine", PutOutcome::Created);
    check_settled(Some(b"them"), b"mine", PutOutcome::AlreadyExists);
    check_settled(Some(b""), b"mine", PutOutcome::AlreadyExists);
    check_settled(Some(&other), &long, PutOutcome::AlreadyExists);
    check_settled(Some(&longer), &long, PutOutcome::AlreadyExists);
    check_settled(Some(&long), &longer, PutOutcome::AlreadyExists);
}

#[test]
fn without_an_error_an_existing_object_is_not_read() {
    let setup = Setup::new(5, []);
    setup.memory().insert_raw("log/1", *b"mine");
    assert_eq!(setup.store.put_if_absent(&key(), b"mine").expect("put"), PutOutcome::AlreadyExists);
    assert_eq!(setup.store.inner().snapshot().call_count(), 1);
}

#[test]
fn settling_is_retried_too_and_never_says_not_found() {
    // Calls: put (lost), put, stat (fails), stat, range (fails), range.
    let plan = [
        Fault::once(0, After, Unavailable),
        Fault::once(2, Before, Unavailable),
        Fault::once(4, Before, Unavailable),
    ];
    let setup = Setup::new(2, plan);
    assert_eq!(setup.store.put_if_absent(&key(), b"mine").expect("put"), PutOutcome::Created);
    assert_eq!((setup.store.inner().snapshot().call_count(), setup.wait_count()), (6, 3));

    let plan = [Fault::once(0, After, Unavailable), Fault::once(2, Before, FaultKind::NotFound)];
    let error = Setup::new(2, plan).store.put_if_absent(&key(), b"mine").expect_err("it vanished");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
}

#[test]
fn a_listing_is_repeated_and_shows_each_name_once() {
    let check = |moment| {
        let setup = Setup::new(5, [Fault::once(0, moment, Unavailable)]);
        for name in ["a", "b", "c"] {
            setup.memory().insert_raw(name, "");
        }
        let mut names = Vec::new();
        let visit = &mut |item: ListItem| {
            names.push(item.name);
            ControlFlow::Continue(())
        };
        setup.store.list("", None, visit).expect("list");
        assert_eq!(names, ["a", "b", "c"], "names were shown twice or not at all");
        assert_eq!(setup.store.inner().snapshot().list_count, 2);
    };
    check(Before);
    check(After);
}

#[test]
fn waits_grow_are_jittered_and_bounded() {
    let waits_of = |seed| {
        let waits = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&waits);
        let inner = FaultyStore::new(MemoryStore::new(), [Fault::forever(0, Before, Unavailable)]);
        let policy = RetryPolicy {
            attempts_max: 70,
            delay_first: Duration::from_millis(100),
            delay_max: Duration::from_millis(1000),
        };
        let store = RetryStore::with_sleeper(inner, policy, seed, move |delay| {
            noted.lock().expect("lock").push(delay)
        });
        store.stat(&key()).expect_err("always fails");
        let waits = waits.lock().expect("lock");
        waits.clone()
    };
    let waits = waits_of(7);
    assert_eq!(waits.len(), 69);
    for (number, wait) in waits.iter().enumerate() {
        let full = Duration::from_millis([100, 200, 400, 800].get(number).copied().unwrap_or(1000));
        assert!(*wait >= full / 2 && *wait <= full, "wait {number} is {wait:?} of {full:?}");
    }
    // Over the sixty-five waits of equal range, the random part covers it.
    let (least, most) = (waits[4..].iter().min().expect("waits"), waits[4..].iter().max().expect("waits"));
    assert!(*least < Duration::from_millis(600) && *most > Duration::from_millis(900), "{least:?} {most:?}");
    assert_eq!(waits, waits_of(7));
    assert_ne!(waits, waits_of(8));
}

/// That it waits because the store asked for it is told as long as it does, and that it did afterwards.
#[test]
fn a_wait_that_the_store_asked_for_is_told() {
    let waits_of = |asked: Option<Duration>| {
        let answers = Mutex::new(0..2);
        let busy = AlteredStore::new(MemoryStore::new()).on_put(move |inner, key, body| {
            if answers.lock().expect("lock").next().is_none() {
                return inner.put_if_absent(key, body);
            }
            let mut answer = RequestFailure::default();
            answer.retry_after = asked;
            let (name, store) = (key.to_string(), inner.url());
            Err(StoreError::Unavailable { name, store, source: answer.into() })
        });
        let (told, heard) = (Arc::new(Mutex::new(Vec::new())), Arc::new(OnceLock::new()));
        let (telling, store) = (Arc::clone(&told), Arc::clone(&heard));
        let sleep = move |_: Duration| {
            let store: &Arc<RetryStore<AlteredStore<'static, MemoryStore>>> = store.get().expect("a store");
            telling.lock().expect("lock").push(store.asked_waits());
        };
        let retried = Arc::new(RetryStore::with_sleeper(busy, RetryPolicy::default(), 7, sleep));
        heard.set(Arc::clone(&retried)).expect("set once");
        retried.put_if_absent(&key(), b"one").expect("put");
        let mut told = told.lock().expect("lock").clone();
        told.push(retried.asked_waits());
        told.into_iter()
            .map(|AskedWaits { under_way_count, ended_count }| (under_way_count, ended_count))
            .collect()
    };
    let asked: Vec<_> = waits_of(Some(Duration::from_secs(90)));
    assert_eq!(asked, [(1, 0), (1, 1), (0, 2)]);
    // It waits of its own accord.
    assert_eq!(waits_of(None), [(0, 0), (0, 0), (0, 0)]);
}
