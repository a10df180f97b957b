//! Stores of one address at two services: what is remembered of one is kept under its place, and not taken for the other.

use std::sync::Arc;

use coffer_engine::{Ack, PromoteOptions, Promotion, Replicas, UnreachableStore, Vault};
use coffer_store::{MemoryStore, ObjectStore};

use super::stores::{NamedStore, url};
use super::{SEED, Site, backup_to, options};
use crate::support::World;

/// The places of the stores 0 and 1 at one service.
const HERE: [&str; 2] = ["memory:0 at one", "memory:1 at one"];

/// The stores of a site, at one service.
fn here(site: &Site) -> Vec<Arc<dyn ObjectStore>> {
    let store = |at: usize| -> Arc<dyn ObjectStore> {
        NamedStore::placed(at, Arc::clone(&site.stores[at]), HERE[at])
    };
    vec![store(0), store(1)]
}

/// A host that remembers nothing yet.
fn host(site: &Site) -> World {
    let rng = coffer_crypto::rng::SeededRng::new(81);
    World { rng, ..World::with_cache(SEED, &site.dir.path().join("another-cache")) }
}

/// A site with a backup, and the host that made it.
fn site() -> (Site, World) {
    let site = Site::new(2);
    let host = host(&site);
    site.write("a", 1);
    let replicas = Replicas::open(here(&site), options(Ack::All)).unwrap();
    let (_, receipt) = backup_to(&host, &replicas, &site.source()).unwrap();
    assert!(receipt.is_acknowledged, "{receipt:?}");
    drop(replicas);
    (site, host)
}

/// Panics unless vaults are remembered at these places and at no others of these stores.
#[track_caller]
fn assert_remembered(host: &World, places: &[&str]) {
    let cache = host.cache.as_ref().unwrap();
    for place in [url(0), url(1), HERE[0].to_owned(), HERE[1].to_owned()] {
        let is_known = cache.remembered(&place).unwrap().is_some();
        assert_eq!(is_known, places.contains(&place.as_str()), "{place}");
    }
}

#[test]
fn vaults_are_remembered_by_the_places_of_their_stores() {
    let (site, host) = site();
    assert_remembered(&host, &HERE);
    // Also where a store is promoted.
    let host = World { cache: Some(coffer_engine::Cache::new(site.dir.path().join("third"))), ..host };
    let replicas = Replicas::open(vec![here(&site).remove(1)], options(Ack::Primary)).unwrap();
    let target = replicas.store(0);
    let mut vault = Vault::open(host.access(&target), &host.key, None).unwrap();
    let accept = PromoteOptions { accept_loss: true, ..PromoteOptions::default() };
    std::fs::remove_dir_all(site.dir.path().join("third/locations")).unwrap();
    let done = replicas.promote(&mut vault, 0, host.cache.as_ref(), &accept).unwrap();
    assert!(matches!(done, Promotion::Done { .. }), "{done:?}");
    assert_remembered(&host, &HERE[1..]);
}

/// A header that reads as that of a vault which is not there: the copy in the log is tried, as nothing is known of this place.
#[test]
fn what_is_known_of_an_address_is_not_known_of_another_place() {
    let dir = crate::support::scratch();
    let host = World::with_cache(SEED, &dir.path().join("cache"));
    host.init(&NamedStore::new(0, Arc::new(MemoryStore::new()))).unwrap();
    assert!(host.cache.as_ref().unwrap().remembered(&url(0)).unwrap().is_some());
    let init = |seed| {
        let (store, rng) = (Arc::new(MemoryStore::new()), coffer_crypto::rng::SeededRng::new(seed));
        let vault = World { rng, ..World::new(SEED) }.init(&*store).unwrap();
        (store, vault)
    };
    let ((there, vault), (other, _)) = (init(82), init(83));
    there.remove_raw("vault");
    there.insert_raw("vault", other.raw("vault").unwrap());
    let store = NamedStore::placed(0, there, "memory:0 at two");
    assert_eq!(host.open(&store).unwrap().id(), vault);
}

/// An empty store of the home's address at another service is not the home.
#[test]
fn an_empty_store_of_the_same_address_is_not_filled_as_the_home() {
    let (site, host) = site();
    let empty = Arc::new(MemoryStore::new());
    let stores: Vec<Arc<dyn ObjectStore>> =
        vec![NamedStore::placed(0, Arc::clone(&empty), "memory:0 at two"), here(&site).remove(1)];
    let replicas = Replicas::open(stores, options(Ack::Two)).unwrap();
    let report = replicas.replicate(&host.access(&replicas), true).unwrap();
    assert!(report.copies.is_empty() && report.left_out[0].0 == url(0), "{report:?}");
    assert_eq!(empty.names(), Vec::<String>::new());
    drop(replicas);
    // At its own place it is.
    let stores: Vec<Arc<dyn ObjectStore>> =
        vec![NamedStore::placed(0, Arc::clone(&empty), HERE[0]), here(&site).remove(1)];
    let replicas = Replicas::open(stores, options(Ack::Two)).unwrap();
    let report = replicas.replicate(&host.access(&replicas), true).unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(empty.raw("store"), site.stores[0].raw("store"));
}

/// A store that cannot be opened does not tell its place: what was seen at its address is shown, if that was one store.
#[test]
fn what_was_seen_of_a_store_that_cannot_be_opened_is_shown() {
    let (site, host) = site();
    let away: Arc<dyn ObjectStore> = Arc::new(UnreachableStore::new(url(1), "no route".to_owned()));
    let seen = || {
        let stores = vec![here(&site).remove(0), Arc::clone(&away)];
        let replicas = Replicas::open(stores, options(Ack::Two)).unwrap();
        let (_, status) = replicas.status(&host.access(&replicas)).unwrap();
        status[1].last_seen.as_ref().map(|seen| seen.next)
    };
    assert_eq!(seen(), Some(2));
    // Another one of that address.
    let other = NamedStore::placed(1, Arc::clone(&site.stores[1]), "memory:1 at two");
    let stores: Vec<Arc<dyn ObjectStore>> = vec![here(&site).remove(0), other];
    let replicas = Replicas::open(stores, options(Ack::Two)).unwrap();
    replicas.status(&host.access(&replicas)).unwrap();
    drop(replicas);
    assert_eq!(seen(), None);
}
