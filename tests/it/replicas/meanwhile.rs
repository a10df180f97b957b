//! Others commit while the stores are looked at, each of which is read in its own time: what one showed later than another one was read
//! is no reason to refuse anything.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use coffer_crypto::rng::SeededRng;
use coffer_engine::{Ack, EngineError, Promotion, Refusal, Replicas};
use coffer_keys::RootKey;
use coffer_store::{ListItem, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError};

use super::homes::promote;
use super::stores::url;
use super::{SEED, Site, backup_to, options};
use crate::support::{World, keyless};

type Act = Box<dyn FnOnce() + Send>;

/// What happens after the log of one store was read to its end, and before that of another one is.
struct Between {
    is_read: Mutex<bool>,
    changed: Condvar,
    act: Mutex<Option<Act>>,
}

impl fmt::Debug for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Between").finish_non_exhaustive()
    }
}

impl Between {
    fn new(act: impl FnOnce() + Send + 'static) -> Arc<Self> {
        let act: Act = Box::new(act);
        Arc::new(Self { is_read: Mutex::new(false), changed: Condvar::new(), act: Mutex::new(Some(act)) })
    }

    fn end_reading(&self) {
        *self.is_read.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn happen(&self) {
        drop(self.changed.wait_while(self.is_read.lock().unwrap(), |is_read| !*is_read).unwrap());
        let act = self.act.lock().unwrap().take();
        act.expect("it happens once")();
    }

    fn has_happened(&self) -> bool {
        self.act.lock().unwrap().is_none()
    }
}

/// A store whose log is replayed before that happens, or after it.
#[derive(Debug)]
struct Timed {
    inner: Arc<dyn ObjectStore>,
    is_first: bool,
    between: Arc<Between>,
    list_count: AtomicU64,
}

impl Timed {
    fn new(inner: Arc<dyn ObjectStore>, is_first: bool, between: &Arc<Between>) -> Arc<Self> {
        Arc::new(Self { inner, is_first, between: Arc::clone(between), list_count: AtomicU64::new(0) })
    }
}

impl ObjectStore for Timed {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        self.inner.put_if_absent(key, body)
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let read = self.inner.read(key, len_max, out);
        // The first listing is for the newest record, the second one for the replay, which ends with a record that is absent.
        let is_end = key.as_str().starts_with("log/") && self.list_count.load(Ordering::SeqCst) >= 2;
        if self.is_first && is_end && matches!(read, Err(StoreError::NotFound { .. })) {
            self.between.end_reading();
        }
        read
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.inner.read_range(key, offset, out)
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        self.inner.stat(key)
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if self.list_count.fetch_add(1, Ordering::SeqCst) == 1 && !self.is_first {
            self.between.happen();
        }
        self.inner.list(prefix, start_after, visit)
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.inner.delete(key)
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

/// A vault whose newest records another key signed than its header names, so that only the replay tells what they are worth.
fn rotated(count: usize) -> Arc<Site> {
    let site = Site::new(count);
    site.write("a", 1);
    let replicas = site.open_all();
    let mut vault = site.world.open(&replicas).unwrap();
    let roots: [&dyn RootKey; 1] = [&site.world.key];
    let plan = vault.plan_rotation(&roots).unwrap();
    vault.rotate(&roots, &plan, true, "a drill").unwrap();
    drop(vault);
    drop(replicas);
    let (_, receipt) = site.backup_without(&[], Ack::All);
    assert!(receipt.is_acknowledged, "{receipt:?}");
    Arc::new(site)
}

fn other_host(seed: u64) -> World {
    World { rng: SeededRng::new(seed), ..World::new(SEED) }
}

/// Another host backs up to these stores.
fn back_up(site: &Site, stores: &[usize]) {
    let stores = stores.iter().map(|at| site.store(*at)).collect();
    let replicas = Replicas::open(stores, options(Ack::All)).unwrap();
    let (_, receipt) = backup_to(&other_host(71), &replicas, &site.source()).unwrap();
    assert!(receipt.is_acknowledged, "{receipt:?}");
}

/// Another host hands the log over to the store at `at`.
fn hand_over(site: &Site, at: usize) {
    let replicas = site.open_all();
    let host = other_host(72);
    let mut vault = host.open(&replicas).unwrap();
    replicas.handover(&mut vault, at).unwrap();
}

/// Opens two stores, between whose replays something happens, and backs up to them: `first` is read before it.
#[track_caller]
fn check(
    site: &Arc<Site>,
    first: usize,
    later: usize,
    home: usize,
    act: impl FnOnce(&Site) + Send + 'static,
) {
    let acting = Arc::clone(site);
    let between = Between::new(move || act(&acting));
    let mut stores: Vec<Arc<dyn ObjectStore>> =
        vec![Timed::new(site.store(first), true, &between), Timed::new(site.store(later), false, &between)];
    if first > later {
        stores.reverse();
    }
    let replicas = Replicas::open(stores, options(Ack::Two)).unwrap();
    assert!(between.has_happened());
    replicas.check_writable().unwrap();
    assert_eq!(replicas.apart(), []);
    let (_, receipt) = backup_to(&other_host(73), &replicas, &site.source()).unwrap();
    assert!(receipt.is_acknowledged, "{receipt:?}");
    assert_eq!(receipt.holders[0], url(home));
    drop(replicas);
    site.assert_equal(&[first, later], "after it");
}

#[test]
fn a_home_that_grew_was_not_rolled_back() {
    check(&rotated(2), 0, 1, 0, |site| back_up(site, &[0, 1]));
    // Several records, and a replica that was read before them.
    check(&rotated(2), 0, 1, 0, |site| (0..3).for_each(|_| back_up(site, &[0, 1])));
    check(&rotated(2), 1, 0, 0, |site| back_up(site, &[0, 1]));
}

#[test]
fn a_store_that_became_the_home_was_not_rolled_back() {
    check(&rotated(3), 1, 2, 1, |site| {
        let done = promote(site, &[1, 2], 1, true, &other_host(74)).unwrap();
        assert!(matches!(done, Promotion::Done { term: 1, .. }), "{done:?}");
        back_up(site, &[1, 2]);
    });
}

#[test]
fn stores_between_which_the_log_was_handed_over_are_not_apart() {
    for (first, later) in [(0, 1), (1, 0)] {
        check(&rotated(2), first, later, 1, |site| hand_over(site, 1));
        check(&rotated(2), first, later, 1, |site| {
            hand_over(site, 1);
            back_up(site, &[0, 1]);
        });
        check(&rotated(2), first, later, 0, |site| {
            hand_over(site, 1);
            hand_over(site, 0);
        });
    }
}

/// What is not there when it is asked for again was lost.
#[test]
fn a_home_that_lost_a_record_is_refused_as_ever() {
    let site = rotated(2);
    let last = keyless(&*site.stores[0]).head.unwrap().number;
    site.stores[0].remove_raw(&format!("log/{last:012}"));
    let refused = site.open_all().check_writable().unwrap_err();
    let EngineError::Refused(Refusal::HomeBehind { home, home_next, next, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((home, home_next, next), (url(0), last, last + 1));
}
