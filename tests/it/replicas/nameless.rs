//! Stores that lost the object with their id, or have something else in its place: none of them is taken for the home.

use coffer_crypto::rng::SeededRng;
use coffer_engine::{Ack, EngineError, PromoteOptions, Promotion, Refusal, Replicas};

use super::stores::url;
use super::{Site, options};
use crate::support::{World, assert_restores, tree_of};

const LOSSES: [Option<&[u8]>; 3] = [None, Some(b"xxxx"), Some(&[7; 100])];

fn site() -> Site {
    let site = Site::new(2);
    site.write("a", 1);
    site.backup_without(&[], Ack::All);
    site
}

fn lose(site: &Site, at: usize, left: Option<&[u8]>) {
    site.stores[at].remove_raw("store").unwrap();
    if let Some(left) = left {
        site.stores[at].insert_raw("store", left);
    }
}

fn refusal(replicas: &Replicas) -> Option<Refusal> {
    match replicas.check_writable() {
        Ok(()) => None,
        Err(EngineError::Refused(refusal)) => Some(refusal),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_replica_that_lost_its_id_is_no_home() {
    for left in LOSSES {
        let context = format!("{left:?}");
        let site = site();
        lose(&site, 1, left);
        // The home is away: what is left is read, and not committed to; neither alone.
        let replicas = Replicas::open(site.without(&[0]), options(Ack::Primary)).unwrap();
        assert_eq!(refusal(&replicas), Some(Refusal::HomeUnknown { store: url(1) }), "{context}");
        assert_restores(&site.world, &replicas, "latest", &tree_of(&site.source()), &context);
        drop(replicas);
        let alone = Replicas::open(vec![site.store(1)], options(Ack::Two)).unwrap();
        let vault = site.world_without_memory();
        let vault = vault.open(&alone).unwrap();
        assert!(alone.check_home(vault.state()).is_err(), "{context}");
        drop(vault);
        drop(alone);
        // With the home everything goes on, and the next backup or replication gives it an id.
        site.write("b", 2);
        let (_, receipt) = site.backup_without(&[], Ack::All);
        assert!(receipt.is_acknowledged, "{context}: {receipt:?}");
        assert!(site.replicate().is_complete(), "{context}");
        site.assert_equal(&[0, 1], &context);
        let replicas = Replicas::open(site.without(&[0]), options(Ack::Primary)).unwrap();
        assert!(matches!(refusal(&replicas), Some(Refusal::HomeUnreachable { .. })), "{context}");
    }
}

#[test]
fn a_machine_that_remembers_the_home_gives_it_its_id_again() {
    for left in LOSSES {
        let context = format!("{left:?}");
        let site = site();
        let id = site.stores[0].raw("store").unwrap();
        site.replicate();
        lose(&site, 0, left);
        let replicas = site.open_all();
        assert_eq!(refusal(&replicas), Some(Refusal::HomeUnknown { store: url(0) }), "{context}");
        replicas.replicate(&site.world.access(&replicas), false).unwrap();
        drop(replicas);
        assert_eq!(site.stores[0].raw("store").unwrap(), id, "{context}");
        site.write("b", 2);
        let (_, receipt) = site.backup_without(&[], Ack::All);
        assert!(receipt.is_acknowledged, "{context}: {receipt:?}");
        site.assert_equal(&[0, 1], &context);
    }
}

#[test]
fn a_home_whose_id_nobody_remembers_is_promoted() {
    let site = site();
    lose(&site, 0, None);
    let world = World { rng: SeededRng::new(77), ..site.world_without_memory() };
    let replicas = site.open_all();
    replicas.replicate(&world.access(&replicas), false).unwrap();
    assert!(site.stores[0].raw("store").is_none(), "nobody knows that it is the home");
    let store = site.store(0);
    let mut vault = world.open(&store).unwrap();
    let promote =
        PromoteOptions { reason: "lost its id".to_owned(), accept_loss: true, ..PromoteOptions::default() };
    let done = replicas.promote(&mut vault, 0, None, &promote).unwrap();
    assert!(matches!(done, Promotion::Done { term: 1, .. }), "{done:?}");
    drop((vault, replicas));
    let replicas = site.open_all();
    assert_eq!(refusal(&replicas), None);
    assert_eq!(replicas.apart(), [], "nobody left the line");
    drop(replicas);
    site.write("b", 2);
    let replicas = site.open_all();
    let (_, receipt) = super::backup_to(&world, &replicas, &site.source()).unwrap();
    assert!(receipt.is_acknowledged, "{receipt:?}");
    assert_eq!(receipt.holders, [url(0), url(1)]);
    drop(replicas);
    site.assert_equal(&[0, 1], "promoted");
}
