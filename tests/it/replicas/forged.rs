//! Records that somebody signed who is not enrolled, and objects that a store which is not reached may have: neither decides
//! anything.

use std::sync::Arc;
use std::time::Duration;

use coffer_crypto::rng::SeededRng;
use coffer_crypto::{Secret, SigningKey};
use coffer_engine::{Ack, HealOutcome, Replicas, Standing};
use coffer_format::record::RecordKind;
use coffer_pipeline::record::seal_record;
use coffer_store::ObjectStore;
use coffer_testkit::SlowStore;

use super::stores::{NamedStore, url};
use super::{Site, assert_held, options};
use crate::support::{assert_restores, keyless, tree_of};

/// A record that would come at `number`, by a key that nobody enrolled; it says that the home is another store, in a later term.
fn forged(site: &Site, number: u64, home: [u8; 16]) -> Vec<u8> {
    let rng = SeededRng::new(number + 4242);
    let stranger = SigningKey::from_seed(&Secret::new([42; 32]));
    let store = site.store(0);
    let vault = site.world.open(&store).unwrap();
    let mut public = vault.state().next_public(RecordKind::Evidence, *stranger.verifying_key().as_bytes());
    public.number = number;
    public.term = 9;
    public.home = home;
    seal_record(public, None, &stranger, &rng).unwrap()
}

fn record(number: u64) -> String {
    format!("log/{number:012}")
}

/// The id of the store at a position.
fn id_of(site: &Site, at: usize) -> [u8; 16] {
    let bytes = site.stores[at].raw("store").unwrap();
    coffer_format::store::decode_store(&bytes).unwrap()
}

fn site() -> Site {
    let site = Site::new(3);
    site.write("a", 1);
    site.backup_without(&[], Ack::All);
    site
}

#[test]
fn a_forged_record_behind_the_end_of_a_replica_holds_nobody_up() {
    let site = site();
    let next = keyless(&*site.stores[0]).head.unwrap().number + 1;
    for home in [id_of(&site, 1), [7; 16]] {
        site.stores[1].insert_raw(record(next), forged(&site, next, home));
        let replicas = site.open_all();
        replicas.check_writable().unwrap();
        assert_eq!(replicas.apart(), [(url(1), Standing::Fenced { fork: next, next: next + 1 })]);
        drop(replicas);
    }
    site.write("b", 2);
    let (report, receipt) = site.backup_without(&[], Ack::Two);
    assert!(receipt.is_acknowledged, "{receipt:?}");
    assert_eq!(receipt.holders, [url(0), url(2)]);
    assert_held(&site, &report, &receipt, "one holds a forged record");
    // It goes when the store is brought back.
    let replicas = site.open_all();
    let mut vault = site.world.open(&replicas).unwrap();
    let reconciled = replicas.reconcile(&mut vault, true).unwrap();
    assert_eq!(reconciled.rejoined[0].error, None, "{reconciled:?}");
    drop(vault);
    drop(replicas);
    site.assert_equal(&[0, 1, 2], "brought back");
}

/// Whoever may write to all stores, and is not enrolled, moves no home and stops no backup.
#[test]
fn a_forged_record_on_all_stores_moves_no_home() {
    for home in [1, 2] {
        let site = site();
        let next = keyless(&*site.stores[0]).head.unwrap().number + 1;
        let bytes = forged(&site, next, id_of(&site, home));
        site.stores.iter().for_each(|store| store.insert_raw(record(next), bytes.clone()));
        site.write("b", 2);
        let (report, receipt) = site.backup_without(&[], Ack::All);
        assert!(receipt.is_acknowledged, "{receipt:?}");
        assert_eq!(receipt.holders[0], url(0), "the home is where it was");
        assert_eq!(report.head.number, next + 1);
        for store in &site.stores {
            let found = keyless(&**store);
            assert!(found.is_intact(), "{:?}", found.findings);
        }
        drop(report);
    }
}

/// A record that was replaced by one that is whole in itself is read from the other store, and healed from there.
#[test]
fn a_record_that_was_replaced_by_a_forged_one_is_read_elsewhere_and_healed() {
    for number in [1, 2] {
        let site = Site::new(2);
        site.write("a", 1);
        site.backup_without(&[], Ack::All);
        site.write("b", 2);
        site.backup_without(&[], Ack::All);
        let context = format!("record {number}");
        let good = site.stores[0].raw(&record(number)).unwrap();
        let bad = forged(&site, number, [0; 16]);
        site.stores[0].remove_raw(&record(number));
        site.stores[0].insert_raw(record(number), bad);
        if number == 1 {
            let replicas = site.open_all();
            let vault = site.world_without_memory();
            let vault = vault.open(&replicas).unwrap();
            assert_eq!(vault.state().snapshots.len(), 2, "{context}");
            assert!(replicas.failed_over().iter().any(|failed| failed.store == url(0)), "{context}");
            drop(vault);
            assert_restores(&site.world, &replicas, "latest", &tree_of(&site.source()), &context);
            let healed = replicas.heal(0, &[record(number)]);
            assert_eq!(healed[0].outcome, HealOutcome::Replaced, "{context}");
            assert_eq!(site.stores[0].raw(&record(number)).unwrap(), good, "{context}");
            drop(replicas);
            site.assert_equal(&[0, 1], &context);
        } else {
            // The newest: the home says nothing that counts there, and the replica is not healed by it.
            let replicas = site.open_all();
            let healed = replicas.heal(1, &[record(number)]);
            assert!(!healed[0].outcome.is_whole(), "{context}: {healed:?}");
            assert_eq!(site.stores[1].raw(&record(number)).unwrap(), good, "{context}");
        }
    }
}

fn damage(site: &Site, at: usize) -> Vec<String> {
    let packs: Vec<_> =
        site.stores[at].names().into_iter().filter(|name| name.starts_with("packs/")).collect();
    for name in &packs {
        let mut bytes = site.stores[at].raw(name).unwrap();
        bytes[100] ^= 1;
        site.stores[at].insert_raw(name.clone(), bytes);
    }
    packs
}

/// One store has the object damaged and the one that has it whole is not there: it is not lost.
#[test]
fn what_may_be_in_a_store_that_is_not_reached_is_not_lost() {
    let site = Site::new(3);
    site.write("a", 1);
    site.backup_without(&[1], Ack::Two);
    site.write("b", 2);
    site.backup_without(&[1], Ack::Two);
    let packs = damage(&site, 0);
    let before = keyless(&*site.stores[1]).head;
    let replicas = Replicas::open(site.without(&[2]), options(Ack::Two)).unwrap();
    let report = replicas.replicate(&site.world.access(&replicas), false).unwrap();
    drop(replicas);
    assert!(!report.is_complete());
    let copy = &report.copies[0];
    assert_eq!(copy.lost, Vec::<String>::new(), "{copy:?}");
    assert!(copy.not_looked_at.iter().any(|what| what.contains(&packs[0])), "{copy:?}");
    assert!(copy.error.as_ref().is_some_and(|error| error.contains("memory:2")), "{copy:?}");
    assert_eq!(keyless(&*site.stores[1]).head, before, "the log goes no further than what is there");
    assert!(keyless(&*site.stores[1]).is_clean());
    // It answers again.
    let report = site.replicate();
    assert!(report.is_complete(), "{report:?}");
    site.assert_equal(&[1, 2], "caught up");
    // What no store has whole is lost, and said to be.
    let site = Site::new(2);
    site.write("a", 1);
    site.backup_without(&[1], Ack::Primary);
    damage(&site, 0);
    let report = site.replicate();
    let copy = &report.copies[0];
    assert!(!copy.lost.is_empty() && copy.not_looked_at.is_empty() && copy.error.is_none(), "{copy:?}");
}

/// Where another store is not reached, that an object is not healed does not mean that nobody has it.
#[test]
fn nothing_is_said_to_be_nowhere_while_a_store_is_not_reached() {
    let site = site();
    let packs = damage(&site, 0);
    damage(&site, 1);
    let replicas = Replicas::open(site.without(&[2]), options(Ack::Two)).unwrap();
    let healed = replicas.heal(0, &packs);
    assert!(
        healed
            .iter()
            .all(|healed| matches!(&healed.outcome, HealOutcome::Failed(why) if why.contains("memory:2"))),
        "{healed:?}"
    );
    let healed = site.open_all().heal(0, &packs);
    assert!(healed.iter().all(|healed| healed.outcome == HealOutcome::Replaced), "{healed:?}");
}

/// Records are read side by side, and created one after the other.
#[test]
fn a_replication_reads_records_ahead() {
    const COUNT: u64 = 60;
    let site = Site::new(2);
    for _ in 0..COUNT {
        site.backup_without(&[1], Ack::Primary);
    }
    let far = Arc::new(SlowStore::new(
        NamedStore::new(0, Arc::clone(&site.stores[0])),
        Duration::from_millis(20),
        16,
    ));
    let stores: Vec<Arc<dyn ObjectStore>> = vec![far.clone(), site.store(1)];
    let replicas = Replicas::open(stores, options(Ack::Two)).unwrap();
    far.reset();
    let report = replicas.replicate(&site.world.access(&replicas), false).unwrap();
    assert!(report.is_complete(), "{report:?}");
    let counts = far.reset();
    assert!(counts.rounds < COUNT, "{counts:?}");
    drop(replicas);
    site.assert_equal(&[0, 1], "copied");
}
