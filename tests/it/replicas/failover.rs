//! Reading where one store has a damaged, missing or unreachable copy, and repairing it from another.

use std::sync::Arc;

use coffer_engine::{Ack, HealOutcome, Replicas};
use coffer_store::ObjectStore;

use super::stores::{NamedStore, url};
use super::{Site, impatient, options};
use crate::support::{assert_clean, assert_restores, keyless, tree_of};

fn damage(site: &Site, at: usize, prefix: &str) -> Vec<String> {
    let names = site.stores[at].names().into_iter().filter(|name| name.starts_with(prefix));
    let names: Vec<_> = names.collect();
    for name in &names {
        let mut bytes = site.stores[at].raw(name).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        site.stores[at].insert_raw(name.clone(), bytes);
    }
    assert!(!names.is_empty());
    names
}

fn site() -> Site {
    let site = Site::new(2);
    site.write("a", 1);
    site.backup_without(&[], Ack::All);
    site.write("b", 2);
    site.backup_without(&[], Ack::All);
    site
}

/// Restores from both, and says how often another store had to answer for the home.
#[track_caller]
fn restores(site: &Site, stores: Vec<Arc<dyn ObjectStore>>, context: &str) -> u64 {
    let replicas = Replicas::open(stores, options(Ack::Two)).unwrap();
    assert_restores(&site.world, &replicas, "latest", &tree_of(&site.source()), context);
    replicas.failed_over().iter().filter(|failed| failed.store == url(0)).map(|failed| failed.count).sum()
}

#[test]
fn what_one_store_lacks_or_has_damaged_is_read_from_the_other() {
    for prefix in ["packs/", "index/", "slots/", "log/000000000001", "vault"] {
        let site = site();
        damage(&site, 0, prefix);
        assert!(restores(&site, site.all(), &format!("{prefix} damaged")) > 0, "{prefix} damaged");
        for name in site.stores[0].names().into_iter().filter(|name| name.starts_with(prefix)) {
            site.stores[0].remove_raw(&name);
        }
        assert!(restores(&site, site.all(), &format!("{prefix} missing")) > 0, "{prefix} missing");
    }
    let site = site();
    assert_eq!(restores(&site, site.all(), "nothing is wrong"), 0);
}

#[test]
fn a_store_that_does_not_answer_is_done_without() {
    let site = site();
    restores(&site, site.without(&[0]), "the home is down");
    restores(&site, site.without(&[1]), "the replica is down");
    let hanging = Arc::new(NamedStore::new(0, Arc::clone(&site.stores[0])));
    let stores: Vec<Arc<dyn ObjectStore>> = vec![hanging.clone(), site.store(1)];
    let replicas = Replicas::open(stores, impatient(Ack::Two)).unwrap();
    let vault = site.world.open(&replicas).unwrap();
    hanging.hang();
    let snapshot = vault.select("latest").unwrap();
    assert_eq!(snapshot.manifest.statistics.file_count, 2);
    assert_eq!(replicas.failed_over()[0].store, url(0));
    hanging.go_on();
}

#[test]
fn each_store_is_healed_from_the_other() {
    for at in [0, 1] {
        for prefix in ["packs/", "index/", "slots/", "log/000000000001", "vault"] {
            let site = site();
            let context = format!("store {at}, {prefix}");
            let damaged = damage(&site, at, prefix);
            let replicas = site.open_all();
            let healed = replicas.heal(at, &damaged);
            assert!(
                healed.iter().all(|healed| healed.outcome == HealOutcome::Replaced),
                "{context}: {healed:?}"
            );
            site.assert_equal(&[0, 1], &context);
            damaged.iter().for_each(|name| drop(site.stores[at].remove_raw(name)));
            let healed = site.open_all().heal(at, &damaged);
            assert!(
                healed.iter().all(|healed| healed.outcome == HealOutcome::Restored),
                "{context}: {healed:?}"
            );
            site.assert_equal(&[0, 1], &context);
        }
    }
}

#[test]
fn what_cannot_be_healed_is_left_and_said() {
    let site = site();
    let damaged = damage(&site, 1, "packs/");
    let locked = Arc::new(NamedStore::new(1, Arc::clone(&site.stores[1])));
    locked.deny_deletion();
    let before = site.stores[1].raw(&damaged[0]);
    let replicas = Replicas::open(vec![site.store(0), locked], options(Ack::Two)).unwrap();
    let healed = replicas.heal(1, &damaged);
    assert!(healed.iter().all(|healed| matches!(healed.outcome, HealOutcome::Locked(_))), "{healed:?}");
    assert_eq!(site.stores[1].raw(&damaged[0]), before);
    // Both copies are damaged: neither is touched.
    damage(&site, 0, "packs/");
    let before = site.stores[0].raw(&damaged[0]);
    let healed = site.open_all().heal(0, &damaged);
    assert!(healed.iter().all(|healed| healed.outcome == HealOutcome::NoCopy), "{healed:?}");
    assert_eq!(site.stores[0].raw(&damaged[0]), before);
    assert!(!keyless(&*site.stores[0]).is_clean());
}

/// A home that lost its newest records, as after a rollback, takes no commit until it has them back.
#[test]
fn a_home_that_was_rolled_back_is_refused_and_healed() {
    let site = site();
    for name in ["log/000000000001", "log/000000000002"] {
        site.stores[0].remove_raw(name);
    }
    let replicas = site.open_all();
    let refused = replicas.check_writable().unwrap_err();
    assert!(format!("{refused:?}").contains("HomeBehind"), "{refused:?}");
    site.backup(&replicas).unwrap_err();
    let copied = replicas.heal_home(&site.world.access(&replicas)).unwrap().unwrap();
    assert_eq!(copied.record_count, 2);
    drop(replicas);
    site.assert_equal(&[0, 1], "healed");
    assert_clean(&site.world_without_memory(), &*site.stores[0], "healed");
    site.backup(&site.open_all()).unwrap();
}
