//! Moving the home: handover, promotion with and without loss, two promotions, and what an old home has behind the fork.

use std::sync::Arc;

use coffer_engine::{
    Access, Ack, EngineError, PromoteOptions, Promotion, Refusal, Replicas, Standing, Vault,
};
use coffer_store::ObjectStore;

use super::stores::{NamedStore, Process, url};
use super::{SEED, Site, backup_to, options};
use crate::support::{World, assert_restores, keyless, tree_of};

/// Promotes the store at `at`, with those at `seen` in sight.
pub(super) fn promote(
    site: &Site,
    seen: &[usize],
    at: usize,
    accept_loss: bool,
    world: &World,
) -> Result<Promotion, EngineError> {
    let stores: Vec<_> = seen.iter().map(|at| site.store(*at)).collect();
    let replicas = Replicas::open(stores, options(Ack::Two)).unwrap();
    let place = seen.iter().position(|seen| *seen == at).unwrap();
    let target = replicas.store(place);
    let access = Access { cache: None, ..world.access(&target) };
    let mut vault = Vault::open(access, &world.key, None).unwrap();
    let options = PromoteOptions { accept_loss, reason: "test".to_owned(), head: None };
    replicas.promote(&mut vault, place, world.cache.as_ref(), &options)
}

fn refusal(replicas: &Replicas) -> Refusal {
    match replicas.check_writable().unwrap_err() {
        EngineError::Refused(refusal) => refusal,
        error => panic!("{error:?}"),
    }
}

#[test]
fn the_log_is_handed_over_and_back() {
    let site = Site::new(3);
    site.write("a", 1);
    site.backup_without(&[1], Ack::Two);
    let replicas = site.open_all();
    let mut vault = site.world.open(&replicas).unwrap();
    replicas.handover(&mut vault, 1).unwrap();
    // Nothing more goes through what was open.
    assert_eq!(refusal(&replicas), Refusal::Moved);
    drop(vault);
    drop(replicas);
    site.write("b", 2);
    let (_, receipt) = site.backup_without(&[], Ack::All);
    assert_eq!(receipt.holders[0], url(1));
    assert!(receipt.is_acknowledged);
    site.assert_equal(&[0, 1, 2], "handed over");
    // The old home alone takes nothing.
    let replicas = Replicas::open(vec![site.store(0)], options(Ack::Two)).unwrap();
    assert!(matches!(site.backup(&replicas), Err(EngineError::Refused(_))));
    let replicas = site.open_all();
    let mut vault = site.world.open(&replicas).unwrap();
    replicas.handover(&mut vault, 0).unwrap();
    drop(vault);
    drop(replicas);
    site.write("c", 3);
    let (_, receipt) = site.backup_without(&[], Ack::All);
    assert_eq!(receipt.holders[0], url(0));
    site.assert_equal(&[0, 1, 2], "handed back");
}

#[test]
fn a_handover_stops_at_every_write_and_is_finished() {
    let mut crash_count = 0;
    for stops_at in 0..12 {
        for has_effect in [false, true] {
            let context = format!("write {stops_at}, with effect: {has_effect}");
            let site = Site::new(2);
            site.write("a", 1);
            site.backup_without(&[], Ack::All);
            let process = Process::stopping(stops_at, has_effect);
            let store = |at: usize| -> Arc<dyn ObjectStore> {
                Arc::new(NamedStore::of_process(at, Arc::clone(&site.stores[at]), Arc::clone(&process)))
            };
            let replicas = Replicas::open(vec![store(0), store(1)], options(Ack::Two)).unwrap();
            let mut vault = site.world.open(&replicas).unwrap();
            let outcome = replicas.handover(&mut vault, 1);
            drop(vault);
            drop(replicas);
            crash_count += u64::from(process.is_stopped());
            assert!(outcome.is_ok() || process.is_stopped(), "{context}: {outcome:?}");
            site.stores.iter().for_each(|store| assert!(keyless(&**store).is_clean(), "{context}"));
            let replicas = site.open_all();
            let mut vault = site.world.open(&replicas).unwrap();
            match replicas.handover(&mut vault, 1) {
                Ok(_) => {}
                Err(EngineError::Invalid { .. }) => {}
                Err(error) => panic!("{context}: {error:?}"),
            }
            drop(vault);
            drop(replicas);
            let (_, receipt) = site.backup_without(&[], Ack::All);
            assert_eq!(receipt.holders[0], url(1), "{context}");
            site.assert_equal(&[0, 1], &context);
        }
    }
    assert!(crash_count >= 4, "{crash_count}");
}

#[test]
fn a_replica_that_lacks_nothing_is_promoted() {
    let site = Site::new(2);
    site.write("a", 1);
    site.backup_without(&[], Ack::All);
    assert!(matches!(promote(&site, &[0, 1], 1, false, &site.world), Err(EngineError::HomeAnswers { .. })));
    let done = promote(&site, &[1], 1, false, &site.world).unwrap();
    assert!(matches!(done, Promotion::Done { term: 1, .. }), "{done:?}");
    // The old home took nothing meanwhile: it is a replica now.
    site.write("b", 2);
    let (_, receipt) = site.backup_without(&[], Ack::All);
    assert!(receipt.is_acknowledged, "{receipt:?}");
    assert_eq!(receipt.holders, [url(1), url(0)]);
    site.assert_equal(&[0, 1], "promoted");
}

#[test]
fn loss_is_listed_and_accepted_and_reconciled() {
    let site = Site::new(2);
    site.write("a", 1);
    let (first, _) = site.backup_without(&[], Ack::All);
    site.write("b", 2);
    let (lost, receipt) = site.backup_without(&[1], Ack::Two);
    assert!(!receipt.is_acknowledged);
    let lost_tree = tree_of(&site.source());
    // This machine remembers what the replica lacks; another one cannot tell.
    match promote(&site, &[1], 1, false, &site.world).unwrap() {
        Promotion::WouldLose(loss) => {
            assert_eq!(loss.snapshots.iter().map(|lost| lost.id).collect::<Vec<_>>(), [lost.snapshot]);
            assert_eq!(loss.heads, [lost.head]);
        }
        done => panic!("{done:?}"),
    }
    match promote(&site, &[1], 1, false, &World::new(SEED)).unwrap() {
        Promotion::WouldLose(loss) => assert!(loss.is_unknown),
        done => panic!("{done:?}"),
    }
    assert!(matches!(promote(&site, &[1], 1, true, &site.world).unwrap(), Promotion::Done { .. }));
    std::fs::remove_file(site.source().join("b")).unwrap();
    site.write("c", 3);
    let (new, _) = site.backup_without(&[0], Ack::Primary);
    let new_tree = tree_of(&site.source());

    // Somebody who reaches the old home alone goes on there; whoever reaches both does not.
    site.write("d", 4);
    let stale = World::new(SEED);
    let alone = Replicas::open(vec![site.store(0)], options(Ack::Primary)).unwrap();
    let (late, _) =
        backup_to(&World { rng: coffer_crypto::rng::SeededRng::new(1), ..stale }, &alone, &site.source())
            .unwrap();
    let late_tree = tree_of(&site.source());
    drop(alone);
    let replicas = site.open_all();
    assert_eq!(replicas.apart(), [(url(0), Standing::Fenced { fork: 2, next: 4 })]);
    let mut vault = site.world.open(&replicas).unwrap();
    assert_eq!(vault.state().term, 1);
    let report = replicas.reconcile(&mut vault, true).unwrap();
    assert_eq!(report.snapshots, [lost.snapshot, late.snapshot]);
    assert_eq!((report.void_count, report.refused.len()), (0, 0), "{report:?}");
    assert_eq!(report.rejoined[0].error, None, "{report:?}");
    assert_eq!((report.rejoined[0].removed_count, report.rejoined[0].is_fenced), (2, false));
    // That the old home alone had what it committed is no fault of the new one.
    assert_eq!(replicas.failed_over(), []);
    drop(vault);
    drop(replicas);
    site.assert_equal(&[0, 1], "reconciled");
    let replicas = site.open_all();
    for (snapshot, tree) in
        [(lost.snapshot, &lost_tree), (late.snapshot, &late_tree), (new.snapshot, &new_tree)]
    {
        assert_restores(&site.world, &replicas, &snapshot.to_string(), tree, "reconciled");
        assert_restores(
            &site.world_without_memory(),
            &*site.stores[0],
            &snapshot.to_string(),
            tree,
            "the old home alone",
        );
    }
    site.world.open(&replicas).unwrap().select(&first.snapshot.to_string()).unwrap();
    let mut vault = site.world.open(&replicas).unwrap();
    assert!(replicas.reconcile(&mut vault, false).unwrap().fenced.is_empty(), "nothing is taken over twice");
}

/// What a snapshot lost that is taken over is named, and the snapshots behind it get all that is left of it.
#[test]
fn a_pack_that_is_lost_keeps_nothing_else_from_being_taken_over() {
    let site = Site::new(2);
    site.write("a", 1);
    site.backup_without(&[], Ack::All);
    let packs = |site: &Site, at: usize| -> std::collections::BTreeSet<String> {
        site.stores[at].names().into_iter().filter(|name| name.starts_with("packs/")).collect()
    };
    let before = packs(&site, 0);
    site.write("b", 2);
    site.write("c", 3);
    let (one, _) = site.backup_without(&[1], Ack::Primary);
    let of_one: Vec<_> = packs(&site, 0).difference(&before).cloned().collect();
    assert!(of_one.len() > 1, "{of_one:?}");
    site.write("d", 4);
    let (two, _) = site.backup_without(&[1], Ack::Primary);
    promote(&site, &[1], 1, true, &site.world).unwrap();
    // The largest holds data, and the trees are in another one.
    let lost = of_one.iter().max_by_key(|name| site.stores[0].raw(name).unwrap().len()).unwrap();
    site.stores[0].remove_raw(lost).unwrap();

    let replicas = site.open_all();
    let mut vault = site.world.open(&replicas).unwrap();
    let report = replicas.reconcile(&mut vault, false).unwrap();
    assert_eq!(report.snapshots, [one.snapshot, two.snapshot]);
    assert_eq!((report.refused, report.lost.into_iter().collect::<Vec<_>>()), (vec![], vec![lost.clone()]));
    drop(vault);
    drop(replicas);
    // The new home says by itself what is lost, and has everything else.
    let named: Vec<_> =
        keyless(&*site.stores[1]).findings.into_iter().map(|finding| finding.object).collect();
    assert_eq!(named, std::slice::from_ref(lost));
    for of_one in of_one.iter().filter(|name| *name != lost) {
        assert!(site.stores[1].raw(of_one).is_some(), "{of_one}");
    }
}

#[test]
fn two_promotions_are_detected_and_one_is_chosen() {
    let site = Site::new(3);
    site.write("a", 1);
    site.backup_without(&[], Ack::All);
    promote(&site, &[1], 1, true, &World::new(SEED)).unwrap();
    let other = World { rng: coffer_crypto::rng::SeededRng::new(2), ..World::new(SEED) };
    promote(&site, &[2], 2, true, &other).unwrap();
    site.write("b", 2);
    let apart = Replicas::open(vec![site.store(1), site.store(2)], options(Ack::Two)).unwrap();
    assert!(matches!(refusal(&apart), Refusal::PromotedApart { term: 1, .. }));
    let world = World { rng: coffer_crypto::rng::SeededRng::new(3), ..World::new(SEED) };
    assert!(backup_to(&world, &apart, &site.source()).is_err());
    assert!(matches!(apart.replicate(&world.access(&apart), false), Err(EngineError::Refused(_))));
    drop(apart);
    // Each alone has taken something.
    let alone = Replicas::open(vec![site.store(2)], options(Ack::Primary)).unwrap();
    let (kept, _) = backup_to(&world, &alone, &site.source()).unwrap();
    let tree = tree_of(&site.source());
    drop(alone);
    let lost = promote(&site, &[1, 2], 1, false, &world).unwrap();
    assert!(matches!(lost, Promotion::WouldLose(_)), "{lost:?}");
    let done = promote(&site, &[1, 2], 1, true, &world).unwrap();
    assert!(matches!(done, Promotion::Done { term: 2, .. }), "{done:?}");
    let replicas = Replicas::open(vec![site.store(1), site.store(2)], options(Ack::Two)).unwrap();
    replicas.check_writable().unwrap();
    let mut vault = world.open(&replicas).unwrap();
    let report = replicas.reconcile(&mut vault, true).unwrap();
    assert_eq!(report.snapshots, [kept.snapshot]);
    drop(vault);
    drop(replicas);
    let replicas = Replicas::open(vec![site.store(1), site.store(2)], options(Ack::Two)).unwrap();
    assert_restores(&world, &replicas, &kept.snapshot.to_string(), &tree, "taken over");
    site.assert_equal(&[1, 2], "one line again");
}
