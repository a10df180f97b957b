//! What commands ask of a bucket, as the network sees it, and restores from a network that breaks off again and again.

use std::fs;
use std::time::Duration;

use coffer_crypto::rng::SeededRng;
use coffer_engine::Vault;
use coffer_store::{MemoryStore, ObjectStore};
use coffer_testkit::SlowStore;
use coffer_testkit::copy::snapshot_of;
use coffer_testkit::proxy::{NetworkFault, RequestKind};

use super::cloud::{Cloud, coffer, world};
use crate::rounds::logs::add_snapshots;
use crate::rounds::services::Service;
use crate::support::{World, assert_restores, backup_options, noise, scratch, tree_of};
use crate::writers::grant;

#[test]
fn an_unchanged_backup_makes_few_requests_however_many_files_there_are() {
    let cloud = Cloud::start();
    let proxy = cloud.proxy();
    let place = scratch();
    // 100,000 files.
    for directory in 0..1000 {
        let directory = place.path().join(format!("src/{directory}"));
        fs::create_dir_all(&directory).unwrap();
        for file in 0..100 {
            fs::write(directory.join(file.to_string()), format!("{}/{file}", directory.display())).unwrap();
        }
    }
    coffer(&cloud, &proxy, place.path(), "keys new-file key");
    // Files that were just written are read again.
    std::thread::sleep(Duration::from_millis(2500));
    coffer(&cloud, &proxy, place.path(), "init --single-slot");
    coffer(&cloud, &proxy, place.path(), "backup src");
    // What the first one wrote, the next one reads once; from then on it is known.
    coffer(&cloud, &proxy, place.path(), "backup src");
    proxy.set_fair();
    coffer(&cloud, &proxy, place.path(), "backup src");
    let made: Vec<_> =
        proxy.exchanges().into_iter().map(|made| (made.request.kind, made.request.path)).collect();
    let totals = proxy.totals();
    let count = |kind| totals.get(&kind).map_or(0, |total| total.request_count);
    assert!(count(RequestKind::List) <= 2, "{made:#?}");
    assert!(count(RequestKind::Get) + count(RequestKind::Head) <= 5, "{made:#?}");
    assert!((1..=3).contains(&count(RequestKind::Put)), "{made:#?}");
    let others =
        [RequestKind::Delete, RequestKind::BeginParts, RequestKind::ListVersions, RequestKind::Other];
    assert!(others.iter().all(|kind| count(*kind) == 0));
}

/// A store that cannot list from a name on is asked for that part of the log alone that matters. Whoever knows nothing yet reads as many records
/// at once as the client lets through, and the owner begins at a checkpoint.
#[test]
fn a_long_log_costs_few_requests_and_few_rounds() {
    let cloud = Cloud::start();
    let proxy = cloud.proxy();
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), noise(1, 900)).unwrap();
    let (owner, near) = (World::new(5), MemoryStore::new());
    owner.init(&near).unwrap();
    let writer = grant(&owner, &near, "writer", None);
    let service = Service::new(4);
    owner.open(&near).unwrap().add_slot(&service, "service").unwrap();
    add_snapshots(&owner, &near, &source, 1015, 64);
    let objects = snapshot_of(&near);
    assert!(objects.keys().filter(|name| name.starts_with("log/")).count() > 1010);
    cloud.fill("vault", &objects);
    let records = objects.keys().filter(|name| name.starts_with("log/")).count() as u64;
    let direct = cloud.store("vault");
    let in_flight = direct.parallelism_hint();
    let slow = SlowStore::new(direct, Duration::from_millis(300), in_flight);
    drop(owner.open(&slow).unwrap());
    let counts = slow.reset();
    assert!(counts.rounds <= 10, "{counts:?}");
    // Neither of them opens anything before the log was read, so that each record is asked for.
    let all = records.div_ceil(64) + 6;
    drop(Vault::open_as_writer(owner.access(&slow), &writer, None).unwrap());
    let counts = slow.reset();
    assert!(counts.rounds <= all && counts.gets >= records, "{counts:?}");
    drop(Vault::open(owner.access(&slow), &service, None).unwrap());
    let counts = slow.reset();
    assert!(counts.rounds <= all, "{counts:?}");

    let host = World { rng: SeededRng::new(1 << 42), ..World::with_cache(5, &place.path().join("cache")) };
    let store = cloud.store_behind(&proxy, "vault");
    for _ in 0..2 {
        host.backup(&store, &source).unwrap();
    }
    for _ in 0..2 {
        proxy.set_fair();
        host.backup(&store, &source).unwrap();
        let totals = proxy.totals();
        let count = |kind| totals.get(&kind).map_or(0, |total| total.request_count);
        assert!(count(RequestKind::List) <= 2, "{totals:?}");
        assert!(count(RequestKind::Get) + count(RequestKind::Head) <= 5, "{totals:?}");
        assert!((1..=3).contains(&count(RequestKind::Put)), "{totals:?}");
    }
}

/// Every third answer with data breaks off, in one way or another.
#[test]
fn a_restore_over_a_breaking_network_gives_the_same_bytes() {
    let cloud = Cloud::start();
    let proxy = cloud.proxy();
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    for file in 0..30_u64 {
        fs::write(source.join(file.to_string()), noise(file, 100_000)).unwrap();
    }
    fs::write(source.join("large"), noise(99, 12 << 20)).unwrap();
    let direct = cloud.store("vault");
    world().init(&direct).unwrap();
    let mut options = backup_options(&source);
    options.pack_len_target = 1 << 20;
    world().backup_with(&direct, &options).unwrap();
    let faults = [NetworkFault::ResetAnswer, NetworkFault::TruncateAnswer, NetworkFault::LoseReply];
    proxy.set_plan(move |request| {
        let turn = usize::try_from(request.index / 3).unwrap_or_default();
        let is_met = request.kind == RequestKind::Get && request.index % 3 == 1;
        is_met.then_some(faults[turn % faults.len()])
    });
    let store = cloud.store_behind(&proxy, "vault");
    assert_restores(&world(), &store as &dyn ObjectStore, "latest", &tree_of(&source), "a breaking network");
    assert!(proxy.fault_count() >= 5, "{} faults in {} requests", proxy.fault_count(), proxy.request_count());
}
