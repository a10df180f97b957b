//! Faults at every request of a vault whose bucket ignores the condition of a create and keeps versions, so that the oldest version of
//! a name counts: a write that is made twice, or whose reply is lost, makes no second record and loses none.

use std::fs;

use coffer_engine::{EngineError, InitOptions, init};
use coffer_format::header::StoreMode;
use coffer_keys::RootKey;
use coffer_store::{ObjectStore, RetryStore, S3Store, VersionRule, VersionedStore};

use super::cloud::{Cloud, world};
use super::faults::{Case, MISHAPS, MISHAPS_AT_ONE, sweep};
use crate::support::{SMALL_CHUNKS, World, assert_clean, assert_restores, keyless, noise, scratch, tree_of};

fn by_oldest(store: RetryStore<S3Store>) -> VersionedStore<RetryStore<S3Store>> {
    VersionedStore::new(store, VersionRule::Oldest)
}

fn make(world: &World, store: &dyn ObjectStore) -> Result<(), EngineError> {
    let options = InitOptions { chunker: SMALL_CHUNKS, store_mode: StoreMode::OldestVersion };
    let root: &dyn RootKey = &world.key;
    init(&world.access(store), &[(root, String::new())], &options).map(|_| ())
}

#[test]
fn a_backup_where_the_oldest_version_counts_meets_faults_at_every_request() {
    let clouds = [Cloud::start_of_versions()];
    let cloud = &clouds[0];
    let place = scratch();
    let directory = |parent: &str| {
        let source = place.path().join(parent).join("src");
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("small"), noise(1, 3000)).unwrap();
        source
    };
    let (first, source) = (directory("first"), directory("second"));
    fs::write(source.join("large"), noise(2, 20_000)).unwrap();
    let (old, new) = (tree_of(&first), tree_of(&source));
    sweep(&clouds, (&MISHAPS, MISHAPS_AT_ONE), "oldest", |proxies, prefix, case, context| {
        let calm = by_oldest(cloud.store(prefix));
        make(&world(), &calm).unwrap();
        let acknowledged = world().backup(&calm, &first).unwrap();

        let faulty = by_oldest(Case::client(case, cloud, &proxies[0], prefix));
        let outcome = world().backup(&faulty, &source);
        // From here on nothing goes wrong, and nobody has a memory of the vault.
        let fresh = by_oldest(cloud.store(prefix));
        let report = keyless(&fresh);
        assert!(report.is_clean(), "{context}: {:?}", report.findings);
        assert_restores(&world(), &fresh, &acknowledged.snapshot.to_string(), &old, context);
        let count = world().open(&fresh).unwrap().state().snapshots.len();
        let is_done = outcome.is_ok();
        match outcome {
            Ok(report) => {
                assert_eq!((report.errors.len(), count), (0, 2), "{context}");
                assert_restores(&world(), &fresh, &report.snapshot.to_string(), &new, context);
            }
            // It may have been committed after all, with nobody told.
            Err(_) => assert!(count <= 2, "{context}: {count}"),
        }
        // Whoever comes next commits behind what is there, once.
        world().backup(&by_oldest(cloud.store(prefix)), &source).unwrap();
        let fresh = by_oldest(cloud.store(prefix));
        assert_eq!(world().open(&fresh).unwrap().state().snapshots.len(), count + 1, "{context}");
        assert_restores(&world(), &fresh, "latest", &new, context);
        assert_clean(&world(), &fresh, context);
        is_done
    });
}
