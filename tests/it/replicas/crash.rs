//! The process stops at every write to any of three stores, in a backup and in a replication.

use std::sync::Arc;

use coffer_engine::{Ack, Replicas};
use coffer_store::{MemoryStore, ObjectStore};

use super::stores::{NamedStore, Process, position};
use super::{SEED, Site, backup_to, options};
use crate::support::{World, clone_of, keyless, scratch};

fn stores_of(process: &Arc<Process>, stores: &[Arc<MemoryStore>]) -> Vec<Arc<dyn ObjectStore>> {
    let store = |(at, store): (usize, &Arc<MemoryStore>)| -> Arc<dyn ObjectStore> {
        Arc::new(NamedStore::of_process(at, Arc::clone(store), Arc::clone(process)))
    };
    stores.iter().enumerate().map(store).collect()
}

fn copies(site: &Site) -> Vec<Arc<MemoryStore>> {
    site.stores.iter().map(|store| Arc::new(clone_of(&**store))).collect()
}

fn holds(store: &MemoryStore, snapshot: &str) -> bool {
    World::new(SEED).restore(store, snapshot, scratch().path()).is_ok_and(|report| report.errors.is_empty())
}

#[test]
fn a_backup_to_three_stores_stops_at_every_write() {
    let site = Site::new(3);
    site.write("a", 1);
    let (first, _) = site.backup_without(&[], Ack::All);
    site.write("b", 2);
    let mut crash_count = 0;
    for stops_at in 0.. {
        let mut any = false;
        for has_effect in [false, true] {
            let context = format!("write {stops_at}, with effect: {has_effect}");
            let stores = copies(&site);
            let process = Process::stopping(stops_at, has_effect);
            let replicas = Replicas::open(stores_of(&process, &stores), options(Ack::Two)).unwrap();
            let outcome = backup_to(&fresh(stops_at), &replicas, &site.source());
            drop(replicas);
            any |= process.is_stopped();
            if let Ok((report, receipt)) = &outcome {
                // Whoever is named holds it; and the level was reached or is said not to be.
                for holder in &receipt.holders {
                    let store = &stores[position(holder)];
                    assert!(holds(store, &report.snapshot.to_string()), "{context}: {holder}");
                }
                assert_eq!(receipt.is_acknowledged, receipt.holders.len() >= 2, "{context}");
            }
            crash_count += u64::from(process.is_stopped());
            for (at, store) in stores.iter().enumerate() {
                let report = keyless(&**store);
                assert!(report.is_clean(), "{context}: store {at}: {:?}", report.findings);
                assert!(holds(store, &first.snapshot.to_string()), "{context}: store {at}");
            }
            // The next run goes on, and all are the same in the end.
            let calm = Arc::new(Process::default());
            let replicas = Replicas::open(stores_of(&calm, &stores), options(Ack::All)).unwrap();
            let (report, receipt) = backup_to(&fresh(stops_at + 500), &replicas, &site.source()).unwrap();
            assert!(receipt.is_acknowledged, "{context}: {receipt:?}");
            for (at, store) in stores.iter().enumerate() {
                assert!(holds(store, &report.snapshot.to_string()), "{context}: store {at}");
                assert!(keyless(&**store).is_clean(), "{context}: store {at}");
            }
        }
        if !any {
            break;
        }
    }
    // At least packs, segment and record on each of three stores, before and after.
    assert!(crash_count >= 2 * 9, "{crash_count}");
}

/// The site's key, with randomness that does not repeat.
fn fresh(seed: u64) -> World {
    World { rng: coffer_crypto::rng::SeededRng::new(seed + 1_000_000), ..World::new(SEED) }
}

#[test]
fn a_replication_stops_at_every_write() {
    let site = Site::new(2);
    for seed in 0..3 {
        site.write(&format!("file-{seed}"), seed);
        site.backup_without(&[1], Ack::Primary);
    }
    let mut crash_count = 0;
    for stops_at in 0.. {
        let mut any = false;
        for has_effect in [false, true] {
            let context = format!("write {stops_at}, with effect: {has_effect}");
            let stores = copies(&site);
            let process = Process::stopping(stops_at, has_effect);
            let replicas = Replicas::open(stores_of(&process, &stores), options(Ack::Two)).unwrap();
            let world = fresh(stops_at);
            let report = replicas.replicate(&world.access(&replicas), false).unwrap();
            drop(replicas);
            assert_eq!(report.is_complete(), !process.is_stopped(), "{context}");
            any |= process.is_stopped();
            crash_count += u64::from(process.is_stopped());
            assert!(keyless(&*stores[1]).is_clean(), "{context}: {:?}", keyless(&*stores[1]).findings);
            let there = stores[1].names();

            let calm = Arc::new(Process::default());
            let replicas = Replicas::open(stores_of(&calm, &stores), options(Ack::Two)).unwrap();
            let report = replicas.replicate(&world.access(&replicas), false).unwrap();
            assert!(report.is_complete(), "{context}: {report:?}");
            let missing =
                site.stores[0].names().into_iter().filter(|name| !there.contains(name)).count() as u64;
            let copied = &report.copies[0];
            assert_eq!(
                copied.record_count + copied.object_count,
                missing,
                "{context}: nothing is copied twice"
            );
            assert!(keyless(&*stores[1]).is_clean(), "{context}");
            let head = |store: &MemoryStore| keyless(store).head;
            assert_eq!(head(&stores[1]), head(&stores[0]), "{context}");
        }
        if !any {
            break;
        }
    }
    assert!(crash_count >= 2 * 9, "{crash_count}");
}
