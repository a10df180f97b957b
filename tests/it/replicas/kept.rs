//! What a machine keeps of a log that is far away, once another store was promoted.

use std::sync::Arc;
use std::time::Duration;

use coffer_crypto::rng::SeededRng;
use coffer_engine::{Ack, EngineError, Log, Promotion, Replicas, Vault};
use coffer_store::ObjectStore;
use coffer_testkit::SlowStore;

use super::homes::promote;
use super::stores::NamedStore;
use super::{SEED, Site, backup_to, options};
use crate::support::World;

/// The store at a position, far away.
fn far(site: &Site, at: usize) -> Arc<SlowStore<NamedStore>> {
    let named = NamedStore::new(at, Arc::clone(&site.stores[at]));
    Arc::new(SlowStore::new(named, Duration::ZERO, 16))
}

/// Backs up a change to one store alone.
fn back_up(site: &Site, world: &World, store: Arc<dyn ObjectStore>, seed: u64) {
    site.write("changing", seed);
    let alone = Replicas::open(vec![store], options(Ack::Primary)).unwrap();
    backup_to(world, &alone, &site.source()).unwrap();
}

#[test]
fn a_state_that_was_kept_is_dropped_once_another_store_is_promoted() {
    // How many records the promoted store lacks, how many snapshots follow there, and whether the state that is kept is older than the head.
    let cases = [(1, 1, false), (1, 6, false), (4, 1, false), (4, 6, false), (4, 1, true), (4, 6, true)];
    for (number, (lost_count, new_count, is_older)) in cases.into_iter().enumerate() {
        let context = format!("{lost_count} lost, {new_count} new, older: {is_older}");
        let site = Site::new(2);
        site.write("a", 1);
        site.backup_without(&[], Ack::All);
        let vault_id = site.world.open(&site.store(0)).unwrap().id();
        let cache = site.dir.path().join("far");
        let path = cache.join("vaults").join(vault_id.to_string()).join("state");
        let seed = 1 << 20 | number as u64;
        let host = World { rng: SeededRng::new(seed), ..World::with_cache(SEED, &cache) };
        let mut first_state = None;
        for lost in 0..lost_count {
            back_up(&site, &host, far(&site, 0), 100 + lost);
            first_state.get_or_insert_with(|| std::fs::read(&path).unwrap());
        }
        if is_older {
            std::fs::write(&path, first_state.unwrap()).unwrap();
        }

        let other = World { rng: SeededRng::new(seed << 1), ..World::new(SEED) };
        let done = promote(&site, &[1], 1, true, &other).unwrap();
        assert!(matches!(done, Promotion::Done { term: 1, .. }), "{context}: {done:?}");
        for new in 0..new_count {
            back_up(&site, &other, site.store(1), 200 + new);
        }
        let expected = Log::read(&other.access(&site.store(1)), None).unwrap().state;
        assert_eq!((expected.next, expected.term), (3 + new_count, 1), "{context}");

        // The log is read from its beginning, and kept anew.
        let store = far(&site, 1);
        let open = |store: &SlowStore<NamedStore>| -> Result<_, EngineError> {
            let vault = Vault::open(host.access(store), &host.key, Some(vault_id))?;
            Ok((vault.state().encode(), vault.log.memory_warning.clone()))
        };
        let (state, warning) = open(&store).unwrap();
        assert_eq!(state, expected.encode(), "{context}");
        assert!(warning.is_some_and(|warning| warning.contains("promoted")), "{context}");
        store.reset();
        assert_eq!(open(&store).unwrap(), (expected.encode(), None), "{context}");
        assert!(store.reset().gets <= 4, "{context}");
        back_up(&site, &host, store, 300);

        // Whoever saw the new term does not go back to the old home.
        assert!(matches!(open(&far(&site, 0)), Err(EngineError::Rollback { .. })), "{context}");
    }
}
