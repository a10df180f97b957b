//! A store that has lost its object `vault`, which says how writers share it: they share it as the header says that is elsewhere.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use coffer_engine::{Ack, InitOptions, Replicas, init};
use coffer_format::header::{Header, StoreMode};
use coffer_format::id::SnapshotId;
use coffer_format::limits::HEADER_LEN_MAX;
use coffer_format::object::LOG_PREFIX;
use coffer_keys::RootKey;
use coffer_store::{ObjectKey, ObjectStore, VersionRule, VersionedStore};
use coffer_testkit::AlteredStore;

use super::cloud::{Cloud, world};
use crate::replicas::{backup_to, options};
use crate::support::{SMALL_CHUNKS, noise, scratch};

fn header() -> ObjectKey {
    ObjectKey::new("vault").unwrap()
}

/// A client of a bucket that goes by the header there.
fn by_header(cloud: &Cloud, prefix: &str) -> Arc<dyn ObjectStore> {
    let decide = |bytes: &[u8]| match Header::decode(bytes).ok()?.store_mode {
        StoreMode::OldestVersion => Some(VersionRule::Oldest),
        StoreMode::SingleWriter => Some(VersionRule::OneWriter),
        StoreMode::ConditionalCreate => Some(VersionRule::NewestElseOldest),
    };
    let object = (header(), HEADER_LEN_MAX);
    let store = VersionedStore::by_object(cloud.store(prefix), object, VersionRule::NewestElseOldest, decide);
    Arc::new(store.reading_first(LOG_PREFIX))
}

fn replicas(stores: Vec<Arc<dyn ObjectStore>>) -> Replicas {
    Replicas::open(stores, options(Ack::All)).unwrap()
}

fn back_up(stores: Vec<Arc<dyn ObjectStore>>, source: &Path) -> SnapshotId {
    let (report, receipt) = backup_to(&world(), &replicas(stores), source).unwrap();
    assert!(receipt.is_acknowledged, "{receipt:?}");
    report.snapshot
}

/// Removes the object for good.
fn lose_header(cloud: &Cloud, prefix: &str) {
    let store = cloud.store(prefix);
    let bucket = store.cloud().unwrap();
    let mut versions = Vec::new();
    bucket
        .versions("vault", &mut |version| {
            versions.push(version.version_id);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(versions.len(), 1);
    versions.iter().for_each(|version| bucket.delete_version(&header(), version).unwrap());
}

fn check(prefixes: &'static [&'static str]) {
    let cloud = Arc::new(Cloud::start_of_versions());
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), noise(1, 3000)).unwrap();
    let all = |cloud: &Cloud| prefixes.iter().map(|prefix| by_header(cloud, prefix)).collect::<Vec<_>>();

    let oldest = |prefix: &&str| -> Arc<dyn ObjectStore> {
        Arc::new(VersionedStore::new(cloud.store(prefix), VersionRule::Oldest))
    };
    let new = replicas(prefixes.iter().map(oldest).collect());
    let world = world();
    new.name_stores(&world.rng).unwrap();
    let options = InitOptions { chunker: SMALL_CHUNKS, store_mode: StoreMode::OldestVersion };
    let root: &dyn RootKey = &world.key;
    init(&world.access(&new), &[(root, String::new())], &options).unwrap();
    drop(new);
    let first = back_up(all(&cloud), &source);
    lose_header(&cloud, prefixes[0]);

    // Another client commits between the look of the late one at the log and its write.
    let (raced, faster) = (AtomicBool::new(false), Arc::new(Mutex::new(None)));
    let (clouds, told, files) = (Arc::clone(&cloud), Arc::clone(&faster), source.clone());
    let home = AlteredStore::new(by_header(&cloud, prefixes[0])).on_put(move |store, key, body| {
        if key.as_str().starts_with(LOG_PREFIX) && !raced.swap(true, Ordering::SeqCst) {
            let stores = prefixes.iter().map(|prefix| by_header(&clouds, prefix)).collect();
            *told.lock().unwrap() = Some(back_up(stores, &files));
        }
        store.put_if_absent(key, body)
    });
    let mut stores: Vec<Arc<dyn ObjectStore>> = vec![Arc::new(home)];
    stores.extend(all(&cloud).into_iter().skip(1));
    // With several stores the replica got the other one's record meanwhile: then the late one is refused before it writes.
    let late = backup_to(&world, &replicas(stores), &source);
    let faster = faster.lock().unwrap().take().expect("it was faster");
    let mut acknowledged = vec![first, faster];
    acknowledged.extend(late.ok().map(|(report, _)| report.snapshot));

    let fresh = oldest(&prefixes[0]);
    let vault = world.open(&fresh).unwrap();
    let there: Vec<_> = vault.state().snapshots.iter().map(|snapshot| snapshot.id).collect();
    assert_eq!(there, acknowledged, "what was acknowledged is there");
    drop(vault);
    let again = back_up(all(&cloud), &source);
    let vault = world.open(&fresh).unwrap();
    assert_eq!(vault.state().snapshots.last().map(|snapshot| snapshot.id), Some(again));
}

#[test]
fn a_home_without_its_header_is_written_as_the_header_of_its_replica_says() {
    check(&["home", "replica"]);
}

#[test]
fn a_store_without_its_header_is_written_as_the_copy_in_the_log_says() {
    check(&["alone"]);
}
