//! Stores over a slow line: they are waited for while anything moves, and not blamed for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coffer_engine::{Ack, FailedOver, ReplicaOptions, Replicas};
use coffer_store::{
    AskedWaits, CountingStore, ObjectKey, ObjectStore, RequestFailure, RetainingStore, RetryPolicy,
    RetryStore, StoreError, VersionRule, VersionedStore,
};
use coffer_testkit::AlteredStore;

use super::stores::{NamedStore, url};
use super::{Site, impatient};

/// Three times as long as is waited for, in steps that are far shorter.
const STEPS: u64 = 60;
const PAUSE: Duration = Duration::from_millis(50);

fn options() -> ReplicaOptions {
    let short = Duration::from_secs(1);
    ReplicaOptions { patience: short, read_patience: Some(short), ..impatient(Ack::Two) }
}

/// A site with a snapshot on two stores, and the stores.
fn site() -> (Site, [Arc<NamedStore>; 2]) {
    let site = Site::new(2);
    site.write("a", 1);
    site.backup_without(&[], Ack::All);
    let stores = [0, 1].map(|at| Arc::new(NamedStore::new(at, Arc::clone(&site.stores[at]))));
    (site, stores)
}

fn open(stores: &[Arc<NamedStore>; 2]) -> Replicas {
    Replicas::open(vec![stores[0].clone(), stores[1].clone()], options()).unwrap()
}

fn pack_of(site: &Site) -> ObjectKey {
    let names = site.stores[0].names();
    ObjectKey::new(names.into_iter().find(|name| name.starts_with("packs/")).unwrap()).unwrap()
}

#[test]
fn a_slow_replica_is_waited_for_while_bytes_move() {
    let (site, stores) = site();
    site.write("b", 2);
    let replicas = open(&stores);
    stores[1].crawl(STEPS, PAUSE);
    let (_, receipt) = site.backup(&replicas).unwrap();
    assert!(receipt.is_acknowledged, "{receipt:?}");
    assert_eq!((receipt.holders, receipt.lagging), (vec![url(0), url(1)], Vec::new()));
    assert_eq!(replicas.left_behind(), []);
    drop(replicas);
    site.assert_equal(&[0, 1], "a slow replica");
}

/// It says when it wants to be asked again: it does not hang until then, though nothing moves for three times as long as is waited for.
#[test]
fn a_replica_that_asks_for_time_is_waited_for() {
    let (site, stores) = site();
    site.write("b", 2);
    let is_asked = AtomicBool::new(false);
    let busy = AlteredStore::new(Arc::clone(&stores[1])).on_put(move |inner, key, body| {
        if is_asked.swap(true, Ordering::SeqCst) {
            return inner.put_if_absent(key, body);
        }
        let mut answer = RequestFailure::default();
        answer.retry_after = Some(Duration::from_secs(90));
        let (name, store) = (key.to_string(), inner.url());
        Err(StoreError::Unavailable { name, store, source: answer.into() })
    });
    // Ninety seconds go by in three.
    let sleep = |wait: Duration| std::thread::sleep(wait / 30);
    let retried = RetryStore::with_sleeper(CountingStore::new(busy), RetryPolicy::default(), 1, sleep);
    let versioned = VersionedStore::new(Arc::new(retried), VersionRule::NewestElseOldest);
    let replica = Arc::new(RetainingStore::new(versioned));
    let replicas = Replicas::open(vec![stores[0].clone(), replica.clone()], options()).unwrap();
    let (_, receipt) = site.backup(&replicas).unwrap();
    assert!(receipt.is_acknowledged, "{receipt:?}");
    assert_eq!((receipt.holders, receipt.lagging), (vec![url(0), url(1)], Vec::new()));
    assert_eq!(replicas.left_behind(), []);
    assert_eq!(replica.asked_waits(), AskedWaits { under_way_count: 0, ended_count: 1 });
    drop(replicas);
    site.assert_equal(&[0, 1], "a busy replica");
}

#[test]
fn a_slow_store_is_read_once_and_not_blamed() {
    let (site, stores) = site();
    let key = pack_of(&site);
    let replicas = open(&stores);
    let before = stores[1].read_count();
    stores[0].crawl(STEPS, PAUSE);
    let mut bytes = Vec::new();
    replicas.read(&key, 1 << 30, &mut bytes).unwrap();
    replicas.read_range(&key, 0, &mut [0; 100]).unwrap();
    assert_eq!(stores[1].read_count(), before, "the other store was asked as well");
    assert_eq!(replicas.failed_over(), []);
}

#[test]
fn only_what_is_missing_or_damaged_is_said_to_be() {
    let (site, stores) = site();
    let key = pack_of(&site);
    let mut bytes = Vec::new();
    let failed = |replicas: &Replicas| -> Vec<_> {
        let count = |failed: FailedOver| (failed.store, failed.count, failed.damaged_count);
        replicas.failed_over().into_iter().map(count).collect()
    };
    // It does not answer.
    let replicas = open(&stores);
    stores[0].hang();
    replicas.read(&key, 1 << 30, &mut bytes).unwrap();
    stores[0].go_on();
    assert_eq!(failed(&replicas), [(url(0), 1, 0)]);
    drop(replicas);
    // A replica that is behind lacks what it was not sent yet, which nobody has to repair.
    site.write("b", 2);
    site.backup_without(&[1], Ack::Primary);
    let new = site.stores[0].names().into_iter().filter(|name| name.starts_with("packs/"));
    let new: Vec<_> = new.filter(|name| site.stores[1].raw(name).is_none()).collect();
    let replicas = open(&stores);
    stores[0].hang();
    replicas.read(&key, 1 << 30, &mut bytes).unwrap();
    stores[0].go_on();
    // From now on the replica is asked first.
    replicas.read(&ObjectKey::new(new[0].as_str()).unwrap(), 1 << 30, &mut bytes).unwrap();
    assert_eq!(failed(&replicas), [(url(0), 1, 0)]);
    drop(replicas);
    // It lacks an object.
    site.stores[0].remove_raw(key.as_str());
    let replicas = open(&stores);
    replicas.read(&key, 1 << 30, &mut bytes).unwrap();
    assert_eq!(failed(&replicas), [(url(0), 1, 1)]);
}
