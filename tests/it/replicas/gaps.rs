//! Gaps that a writer brings about in the log of the home, and what else it lays there: they hold up no replica.

use std::sync::Arc;

use coffer_crypto::rng::SeededRng;
use coffer_engine::{Ack, HealOutcome, Standing};
use coffer_format::id::hex;
use coffer_format::limits::RECORD_LEN_MAX;
use coffer_format::record::RecordKind;
use coffer_keys::WriterCredential;
use coffer_pipeline::record::seal_record;
use coffer_store::MemoryStore;

use super::stores::url;
use super::{Site, backup_alone};
use crate::support::{assert_restores, keyless, tree_of};
use crate::writers::grant;

/// Three stores with a backup, and a writer who is hostile.
fn site() -> (Site, WriterCredential) {
    let site = Site::new(3);
    site.write("a", 1);
    site.backup_without(&[], Ack::All);
    let replicas = site.open_all();
    let hostile = grant(&site.world, &replicas, "hostile", None);
    drop(replicas);
    assert!(site.replicate().is_complete());
    (site, hostile)
}

fn record(number: u64) -> String {
    format!("log/{number:012}")
}

fn next(site: &Site) -> u64 {
    site.world.open(&site.store(0)).unwrap().state().next
}

/// What proves, signed by an enrolled writer, that the log went on up to `number`.
fn proof(site: &Site, hostile: &WriterCredential, number: u64) -> Vec<u8> {
    let (signing, _) = hostile.keys();
    let store = site.store(0);
    let vault = site.world.open(&store).unwrap();
    let mut public = vault.state().next_public(RecordKind::Evidence, *signing.verifying_key().as_bytes());
    public.number = number;
    seal_record(public, None, &signing, &SeededRng::new(number)).unwrap()
}

/// Panics unless all stores hold the same log, and what was backed up last is restored from each alone.
#[track_caller]
fn assert_same(site: &Site, context: &str) {
    let log = |at: usize| -> Vec<(String, Vec<u8>)> {
        let names = site.stores[at].names().into_iter().filter(|name| name.starts_with("log/"));
        names.map(|name| (name.clone(), site.stores[at].raw(&name).unwrap())).collect()
    };
    for at in 0..site.stores.len() {
        assert!(log(at) == log(0), "{context}: store {at}");
        let world = site.world_without_memory();
        assert_restores(&world, &*site.stores[at], "latest", &tree_of(&site.source()), context);
    }
    let replicas = site.open_all();
    let (_, status) = replicas.status(&site.world.access(&replicas)).unwrap();
    for status in status {
        assert_eq!((status.behind_records, status.behind_objects), (Some(0), Some(0)), "{context}");
    }
}

#[test]
fn a_gap_that_a_writer_claims_holds_no_replica_up() {
    let (mut site, hostile) = site();
    let begin = next(&site);
    site.stores[0].insert_raw(record(begin + 40), proof(&site, &hostile, begin + 40));
    // The replicas are behind the gap, and the backup brings them over it.
    site.write("b", 2);
    let (report, receipt) = site.backup_without(&[], Ack::All);
    assert_eq!(report.head.number, begin + 41);
    assert!(receipt.is_acknowledged, "{receipt:?}");
    assert_eq!(receipt.holders.len(), 3);
    assert_same(&site, "a gap");
    // Where they are behind once more, so does replication, and an empty store is filled.
    site.write("c", 3);
    site.backup_without(&[1, 2], Ack::Primary);
    site.stores.push(Arc::new(MemoryStore::new()));
    let replicas = site.open_all();
    let copied = replicas.replicate(&site.world.access(&replicas), true).unwrap();
    assert!(copied.is_complete(), "{copied:?}");
    let behind = |store: usize| copied.copies.iter().find(|copy| copy.store == url(store)).unwrap();
    assert_eq!(behind(1).damaged_records, Vec::<u64>::new(), "it has the gap already");
    assert_eq!(behind(3).damaged_records, (begin..begin + 40).collect::<Vec<_>>());
    drop(replicas);
    assert_same(&site, "a gap, and a new store");
    // Each store tells of the damage until the writer is revoked, and then none does.
    assert!(site.stores.iter().all(|store| !keyless(&**store).is_intact()));
    let replicas = site.open_all();
    site.world.open(&replicas).unwrap().revoke_writer(&hex(&hostile.verifying_key()[..8])).unwrap();
    drop(replicas);
    site.stores.push(Arc::new(MemoryStore::new()));
    let replicas = site.open_all();
    let copied = replicas.replicate(&site.world.access(&replicas), true).unwrap();
    assert!(copied.is_complete(), "{copied:?}");
    assert!(copied.copies.iter().all(|copy| copy.damaged_records.is_empty()), "{copied:?}");
    drop(replicas);
    assert_same(&site, "revoked");
    for store in &site.stores {
        let report = keyless(&**store);
        assert!(report.is_intact(), "{:?}", report.findings);
    }
}

/// A writer's record may be the newest of the home, and what another one commits come into the gap before it.
#[test]
fn a_record_that_comes_late_into_a_gap_is_copied_with_its_objects() {
    let (site, hostile) = site();
    let begin = next(&site);
    // Another client has a record in hand and does not know of the gap.
    let elsewhere = Arc::new(MemoryStore::new());
    for name in site.stores[0].names() {
        elsewhere.insert_raw(name.clone(), site.stores[0].raw(&name).unwrap());
    }
    site.write("b", 2);
    let other = site.world_without_memory();
    let head = backup_alone(&other, &elsewhere, &site.source());
    assert_eq!(head.number, begin);
    for gap_len in [1, 5] {
        let proof = proof(&site, &hostile, begin + gap_len);
        site.stores[0].insert_raw(record(begin + gap_len), proof);
        assert!(site.replicate().is_complete());
        assert!(site.stores[1].raw(&record(begin)).is_none());
    }
    for name in elsewhere.names() {
        if site.stores[0].raw(&name).is_none() {
            site.stores[0].insert_raw(name.clone(), elsewhere.raw(&name).unwrap());
        }
    }
    // A backup is not said to be on a store that lacks what it builds on.
    let replicas = site.open_all();
    let (_, status) = replicas.status(&site.world.access(&replicas)).unwrap();
    assert_eq!(status[1].standing, Standing::InLine { next: begin });
    assert!(status[1].behind_objects.unwrap() >= 2, "{status:?}");
    drop(replicas);
    let (_, receipt) = site.backup_without(&[], Ack::All);
    assert!(receipt.is_acknowledged, "{receipt:?}");
    assert_same(&site, "a late record");
}

/// What is too long for a record is void, but a part of the log.
#[test]
fn an_object_that_is_too_long_for_a_record_is_copied() {
    let (site, _) = site();
    let begin = next(&site);
    let junk = vec![7; usize::try_from(RECORD_LEN_MAX).unwrap() + 1000];
    site.stores[0].insert_raw(record(begin), junk);
    site.write("b", 2);
    let (report, receipt) = site.backup_without(&[], Ack::All);
    assert_eq!(report.head.number, begin + 1);
    assert!(receipt.is_acknowledged, "{receipt:?}");
    assert_same(&site, "a long object");
    assert!(keyless(&*site.stores[2]).is_intact());
}

/// A home that lost the very record with which a replica ends is not taken for one that went another way.
#[test]
fn a_record_that_the_home_lost_is_healed_from_the_replica_that_ends_with_it() {
    let (site, _) = site();
    let begin = next(&site);
    site.write("b", 2);
    site.backup_without(&[2], Ack::Two);
    site.write("c", 3);
    site.backup_without(&[1, 2], Ack::Primary);
    let lost = site.stores[0].raw(&record(begin)).unwrap();
    site.stores[0].remove_raw(&record(begin)).unwrap();
    let replicas = site.open_all();
    assert!(replicas.apart().is_empty(), "{:?}", replicas.apart());
    let healed = replicas.heal(0, &[record(begin)]);
    assert_eq!(healed[0].outcome, HealOutcome::Restored, "{healed:?}");
    drop(replicas);
    assert_eq!(site.stores[0].raw(&record(begin)).unwrap(), lost);
    assert!(site.replicate().is_complete());
    site.assert_equal(&[0, 1, 2], "healed");
}
