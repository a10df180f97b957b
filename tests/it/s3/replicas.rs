//! Faults at every request of a vault in two buckets: what a receipt names is there, on each store that it names, for a client without
//! a memory; what was acknowledged before is on both still.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use coffer_engine::{Ack, Replicas};
use coffer_store::ObjectStore;
use coffer_testkit::copy::{Objects, snapshot_of};
use coffer_testkit::proxy::Proxy;
use tempfile::TempDir;

use super::cloud::{Cloud, world};
use super::faults::{Case, MISHAPS, MISHAPS_AT_ONE, sweep};
use crate::replicas::{backup_to, options};
use crate::support::{Tree, assert_restores, keyless, noise, scratch, tree_of};

type Stores = Vec<Arc<dyn ObjectStore>>;

/// A source, and a vault in two buckets as it is before each case.
struct Site {
    _place: TempDir,
    source: PathBuf,
    objects: Vec<Objects>,
    /// A snapshot that is on both.
    acknowledged: String,
    /// What it holds.
    old: Tree,
    /// What the source holds.
    new: Tree,
}

impl Site {
    /// A vault with a snapshot on both stores; with `is_behind`, two more of which the second store knows nothing.
    fn new(clouds: &[Cloud], is_behind: bool) -> Self {
        let place = scratch();
        let source = place.path().join("src");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("small"), noise(1, 3000)).unwrap();
        let replicas = Replicas::open(fresh(clouds, "site"), options(Ack::All)).unwrap();
        let world = world();
        replicas.name_stores(&world.rng).unwrap();
        world.init(&replicas).unwrap();
        drop(replicas);
        let replicas = Replicas::open(fresh(clouds, "site"), options(Ack::All)).unwrap();
        let (report, receipt) = backup_to(&world, &replicas, &source).unwrap();
        assert!(receipt.is_acknowledged);
        drop(replicas);
        let old = tree_of(&source);
        for round in 0..2 {
            if is_behind {
                fs::write(source.join("small"), noise(10 + round, 3000)).unwrap();
                world.backup(&clouds[0].store("site"), &source).unwrap();
            }
        }
        if !is_behind {
            fs::write(source.join("large"), noise(2, 20_000)).unwrap();
        }
        let new = tree_of(&source);
        let objects = clouds.iter().map(|cloud| snapshot_of(&cloud.store("site"))).collect();
        Self { _place: place, source, objects, acknowledged: report.snapshot.to_string(), old, new }
    }

    fn fill(&self, clouds: &[Cloud], prefix: &str) {
        clouds.iter().zip(&self.objects).for_each(|(cloud, objects)| cloud.fill(prefix, objects));
    }

    /// Whatever happened, each store alone is a vault with what was acknowledged before.
    fn assert_kept(&self, stores: &[Arc<dyn ObjectStore>], context: &str) {
        for (at, store) in stores.iter().enumerate() {
            let report = keyless(&**store);
            assert!(report.is_clean(), "{context}: store {at}: {:?}", report.findings);
            assert_restores(&world(), &**store, &self.acknowledged, &self.old, context);
        }
    }
}

/// New clients that go straight to the buckets.
fn fresh(clouds: &[Cloud], prefix: &str) -> Stores {
    clouds.iter().map(|cloud| -> Arc<dyn ObjectStore> { Arc::new(cloud.store(prefix)) }).collect()
}

/// Clients behind the proxies.
fn behind(clouds: &[Cloud], proxies: &[Proxy], case: Option<&Case>, prefix: &str) -> Stores {
    let pairs = clouds.iter().zip(proxies);
    pairs
        .map(|(cloud, proxy)| -> Arc<dyn ObjectStore> { Arc::new(Case::client(case, cloud, proxy, prefix)) })
        .collect()
}

#[test]
fn a_backup_to_two_buckets_meets_faults_at_every_request() {
    let clouds = [Cloud::start(), Cloud::start()];
    let site = Site::new(&clouds, false);
    sweep(&clouds, (&MISHAPS, MISHAPS_AT_ONE), "two", |proxies, prefix, case, context| {
        site.fill(&clouds, prefix);
        let stores = behind(&clouds, proxies, case, prefix);
        let urls: Vec<_> = stores.iter().map(|store| store.url()).collect();
        // Of two stores both levels ask for both.
        let ack = if case.is_some_and(|case| case.at == 0) { Ack::Two } else { Ack::All };
        let outcome = Replicas::open(stores, options(ack))
            .and_then(|replicas| backup_to(&world(), &replicas, &site.source));
        // From here on nothing goes wrong, and nobody has a memory of the vault.
        let fresh = fresh(&clouds, prefix);
        site.assert_kept(&fresh, context);
        let mut is_acknowledged = false;
        if let Ok((report, receipt)) = &outcome {
            assert_eq!(report.errors, [], "{context}");
            is_acknowledged = receipt.is_acknowledged;
            assert_eq!(is_acknowledged, receipt.holders.len() == 2, "{context}");
            assert_eq!(receipt.holders.len() + receipt.lagging.len(), 2, "{context}");
            for holder in &receipt.holders {
                let at = urls.iter().position(|url| url == holder).unwrap();
                let id = report.snapshot.to_string();
                assert_restores(&world(), &*fresh[at], &id, &site.new, context);
            }
        }
        let replicas = Replicas::open(fresh.clone(), options(Ack::All)).unwrap();
        let (report, receipt) = backup_to(&world(), &replicas, &site.source).unwrap();
        assert!(receipt.is_acknowledged, "{context}: {receipt:?}");
        drop(replicas);
        for store in fresh {
            assert_restores(&world(), &*store, &report.snapshot.to_string(), &site.new, context);
            assert!(keyless(&*store).is_clean(), "{context}");
        }
        is_acknowledged
    });
}

#[test]
fn a_replication_meets_faults_at_every_request() {
    let clouds = [Cloud::start(), Cloud::start()];
    let site = Site::new(&clouds, true);
    sweep(&clouds, (&MISHAPS, MISHAPS_AT_ONE), "replicate", |proxies, prefix, case, context| {
        site.fill(&clouds, prefix);
        let world_of_case = world();
        let outcome = Replicas::open(behind(&clouds, proxies, case, prefix), options(Ack::Two))
            .and_then(|replicas| replicas.replicate(&world_of_case.access(&replicas), false));
        let stores = fresh(&clouds, prefix);
        site.assert_kept(&stores, context);
        let is_complete = outcome.is_ok_and(|report| report.is_complete());
        if is_complete {
            assert_restores(&world(), &*stores[1], "latest", &site.new, context);
        }
        // The next one brings what is left to bring.
        let replicas = Replicas::open(stores.clone(), options(Ack::Two)).unwrap();
        let report = replicas.replicate(&world_of_case.access(&replicas), false).unwrap();
        assert!(report.is_complete(), "{context}: {report:?}");
        drop(replicas);
        assert_eq!(keyless(&*stores[0]).head, keyless(&*stores[1]).head, "{context}");
        assert_restores(&world(), &*stores[1], "latest", &site.new, context);
        is_complete
    });
}
