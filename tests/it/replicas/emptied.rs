//! A home that lost everything: it is called so, and filled again or replaced; and what is remembered of stores that are not reached.

use std::sync::Arc;

use coffer_engine::{Access, Ack, EngineError, Promotion, Refusal, Replicas};
use coffer_format::store::{FIRST_STORE, encode_store};
use coffer_store::MemoryStore;

use super::homes::promote;
use super::stores::url;
use super::{Site, options};
use crate::support::{World, assert_clean, clone_of};

/// A site of two stores of which the home is empty.
fn emptied() -> Site {
    let mut site = Site::new(2);
    site.write("a", 1);
    site.backup_without(&[], Ack::All);
    site.stores[0] = Arc::new(MemoryStore::new());
    site
}

fn refusal(replicas: &Replicas) -> Option<Refusal> {
    match replicas.check_writable() {
        Ok(()) => None,
        Err(EngineError::Refused(refusal)) => Some(refusal),
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn an_emptied_home_is_no_unfinished_handover_and_is_filled_again() {
    let site = emptied();
    let replicas = site.open_all();
    let empty = Some(Refusal::HomeEmpty { store: url(0) });
    assert_eq!(refusal(&replicas), empty);
    assert!(matches!(site.backup(&replicas), Err(EngineError::Refused(_))));
    let mut vault = site.world.open(&replicas).unwrap();
    for at in [0, 1] {
        let refused = replicas.handover(&mut vault, at);
        assert!(matches!(refused, Err(EngineError::Refused(_))), "{at}: {refused:?}");
    }
    drop(vault);
    // Not unasked, and not by who cannot tell that it was the home.
    let access = site.world.access(&replicas);
    assert!(!replicas.replicate(&access, false).unwrap().is_complete());
    let stranger = World::new(super::SEED);
    let left_out = replicas.replicate(&stranger.access(&replicas), true).unwrap().left_out;
    assert!(left_out[0].1.contains("may be the home"), "{left_out:?}");
    assert_eq!(site.stores[0].names(), Vec::<String>::new());
    assert_eq!(refusal(&site.open_all()), empty);
    // It stays what it was.
    let copied = replicas.replicate(&access, true).unwrap();
    assert!(copied.is_complete(), "{copied:?}");
    assert_eq!(site.stores[0].raw("store").unwrap(), encode_store(&FIRST_STORE));
    drop(replicas);
    assert_eq!(refusal(&site.open_all()), None);
    site.write("b", 2);
    let (_, receipt) = site.backup_without(&[], Ack::All);
    assert_eq!((receipt.is_acknowledged, receipt.holders), (true, vec![url(0), url(1)]));
    site.assert_equal(&[0, 1], "filled again");
}

#[test]
fn a_replica_takes_the_place_of_an_emptied_home() {
    let site = emptied();
    let done = promote(&site, &[0, 1], 1, false, &site.world).unwrap();
    assert!(matches!(done, Promotion::Done { term: 1, .. }), "{done:?}");
    let replicas = site.open_all();
    assert_eq!(refusal(&replicas), None);
    assert!(replicas.replicate(&site.world.access(&replicas), true).unwrap().is_complete());
    assert!(site.stores[0].raw("store").is_some(), "it is a replica now");
    drop(replicas);
    let (_, receipt) = site.backup_without(&[], Ack::All);
    assert_eq!((receipt.is_acknowledged, receipt.holders), (true, vec![url(1), url(0)]));
    site.assert_equal(&[0, 1], "promoted");
}

/// An empty disk beside a replica may be any: with the home away it does not become one of the same id.
#[test]
fn an_empty_store_is_not_taken_for_a_home_that_is_away() {
    let mut site = Site::new(2);
    site.write("a", 1);
    site.backup_without(&[], Ack::All);
    site.stores.push(Arc::new(MemoryStore::new()));
    let away = Replicas::open(site.without(&[0]), options(Ack::Two)).unwrap();
    assert!(matches!(refusal(&away), Some(Refusal::HomeUnreachable { .. })));
    drop(away);
    let unnamed = Replicas::open(vec![site.store(1), site.store(2)], options(Ack::Two)).unwrap();
    let copied = unnamed.replicate(&site.world.access(&unnamed), true).unwrap();
    assert!(copied.copies.is_empty() && copied.left_out.len() == 1, "{copied:?}");
    assert_eq!(site.stores[2].names(), Vec::<String>::new());
}

/// A store that was rolled back to before it became the home lacks records, and is given them back.
#[test]
fn a_home_that_was_rolled_back_beyond_its_handover_is_healed() {
    let mut site = Site::new(2);
    site.write("a", 1);
    site.backup_without(&[], Ack::All);
    let old = clone_of(&*site.stores[1]);
    let replicas = site.open_all();
    let mut vault = site.world.open(&replicas).unwrap();
    replicas.handover(&mut vault, 1).unwrap();
    drop(vault);
    drop(replicas);
    site.write("b", 2);
    site.backup_without(&[], Ack::All);
    site.stores[1] = Arc::new(old);
    let replicas = site.open_all();
    match refusal(&replicas) {
        Some(Refusal::HomeBehind { home, home_next: 2, next: 4, .. }) => assert_eq!(home, url(1)),
        other => panic!("{other:?}"),
    }
    replicas.heal_home(&site.world.access(&replicas)).unwrap().unwrap();
    drop(replicas);
    assert_eq!(refusal(&site.open_all()), None);
    assert_clean(&site.world_without_memory(), &*site.stores[1], "healed");
    let (_, receipt) = site.backup_without(&[], Ack::All);
    assert_eq!(receipt.holders, [url(1), url(0)]);
}

#[test]
fn what_was_seen_of_a_store_is_remembered() {
    let site = Site::new(2);
    site.write("a", 1);
    site.backup_without(&[], Ack::All);
    let seen_of = |down: &[usize]| {
        let replicas = Replicas::open(site.without(down), options(Ack::Two)).unwrap();
        let (log, status) = replicas.status(&site.world.access(&replicas)).unwrap();
        status.into_iter().map(|status| (log.state.next, status.last_seen)).collect::<Vec<_>>()
    };
    let now_s = 4_000_000_000;
    let (next, seen) = seen_of(&[1]).pop().unwrap();
    let seen = seen.unwrap();
    assert_eq!((seen.time_s, seen.next, seen.behind_objects, seen.is_home), (now_s, next, Some(0), false));
    // It falls behind, and what was seen stays what it was.
    site.world.clock.advance(60_000_000_000);
    site.write("b", 2);
    site.backup_without(&[1], Ack::Two);
    let (next, seen) = seen_of(&[1]).pop().unwrap();
    let seen = seen.unwrap();
    assert_eq!((seen.time_s, seen.next, next), (now_s, next - 1, 3));
    // With the store in sight it is looked at anew: record and objects that it lacks.
    assert!(seen_of(&[]).iter().all(|(_, seen)| seen.is_none()));
    let seen = seen_of(&[1]).pop().unwrap().1.unwrap();
    assert_eq!((seen.time_s, seen.next), (now_s + 60, next - 1));
    assert!(seen.behind_objects > Some(0), "{seen:?}");
    // The home as well; and nothing without a memory.
    assert!(site.replicate().is_complete());
    let seen = seen_of(&[0]).remove(0).1.unwrap();
    assert!(seen.is_home, "{seen:?}");
    let replicas = Replicas::open(site.without(&[1]), options(Ack::Two)).unwrap();
    let access = Access { cache: None, ..site.world.access(&replicas) };
    assert_eq!(replicas.status(&access).unwrap().1[1].last_seen, None);
}
