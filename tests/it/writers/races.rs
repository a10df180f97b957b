//! Writers beside each other, and beside an owner who prunes and sweeps.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use coffer_engine::{EngineError, Vault, backup};
use coffer_format::id::{Head, SnapshotId};
use coffer_format::object::{ObjectName, PACKS_PREFIX};
use coffer_format::record::{Details, OrphanName, RecordKind};
use coffer_store::{MemoryStore, ObjectStore};
use coffer_testkit::copy::{snapshot_of, store_from};
use coffer_testkit::{AlteredStore, ExploreLimits, explore, worker};

use super::{Heard, Host, backup_in, grant, grow, owned};
use crate::restore::by_hand::{EMPTY_BODY, commit, commit_by_owner, record};
use crate::support::{Quiet, World, assert_clean, assert_restores, noise, scratch, tree_of};

/// Does something to the store before the first record is created through it.
fn before_a_record<'a>(
    store: &'a MemoryStore,
    act: impl FnOnce(&MemoryStore) + Send + 'a,
) -> AlteredStore<'a, &'a MemoryStore> {
    let act = Mutex::new(Some(act));
    let altered = AlteredStore::new(store).on_put(move |store, key, body| {
        if key.as_str().starts_with("log/")
            && let Some(act) = act.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            act(store);
        }
        store.put_if_absent(key, body)
    });
    altered.on_delete(|_, key| panic!("{key} is deleted, and a writer deletes nothing"))
}

/// The owner removes every segment and names packs as orphans.
fn prune(owner: &World, store: &MemoryStore, orphans: Vec<OrphanName>) {
    let mut vault = owner.open(store).unwrap();
    let removed = vault.state().segments.keys().copied().collect();
    let base = vault.state().next - 1;
    let domain = vault.owner_domain();
    let bytes = record(
        &vault,
        vault.state(),
        RecordKind::Prune,
        vault.signing_key().unwrap(),
        Some((EMPTY_BODY, domain)),
        |public| {
            public.segments_removed = removed;
            public.details = Details::Prune { base, orphans }.encode();
        },
    );
    commit(&mut vault, &bytes);
}

/// The owner sweeps what no live segment needs, and deletes it.
fn sweep(owner: &World, store: &MemoryStore) {
    let mut vault = owner.open(store).unwrap();
    let segments = vault.state().removed.keys().copied().collect::<Vec<_>>();
    let packs = packs_in(store);
    let base = vault.state().next - 1;
    let details = Details::Sweep { base, segments: segments.clone(), packs: packs.clone() };
    let bytes =
        record(&vault, vault.state(), RecordKind::Sweep, vault.signing_key().unwrap(), None, |public| {
            public.details = details.encode();
        });
    commit(&mut vault, &bytes);
    segments.into_iter().for_each(|id| drop(store.remove_raw(&ObjectName::Segment(id).to_string())));
    packs.into_iter().for_each(|id| drop(store.remove_raw(&ObjectName::Pack(id).to_string())));
}

fn packs_in(store: &MemoryStore) -> Vec<coffer_format::id::PackId> {
    let names = store.names();
    let packs = names.iter().filter(|name| name.starts_with(PACKS_PREFIX));
    packs
        .map(|name| match ObjectName::parse(name) {
            Some(ObjectName::Pack(id)) => id,
            other => panic!("{name}: {other:?}"),
        })
        .collect()
}

fn forget_all(owner: &World, store: &MemoryStore) {
    let mut vault = owner.open(store).unwrap();
    let mut ids: Vec<SnapshotId> = vault.state().snapshots.iter().map(|snapshot| snapshot.id).collect();
    ids.sort_unstable();
    commit_by_owner(&mut vault, RecordKind::Forget, &Details::Snapshots { ids });
}

#[test]
fn a_prune_while_a_backup_runs_ends_it_unacknowledged() {
    let (owner, store) = owned(130);
    let host = Host::new(grant(&owner, &store, "web-1", None), 131);
    grow(&host.source());
    host.backup(&store).unwrap();
    for is_swept in [false, true] {
        fs::write(host.source().join("new"), noise(u64::from(is_swept), 3000)).unwrap();
        let before = before_a_record(&store, |store| {
            forget_all(&owner, store);
            prune(&owner, store, Vec::new());
            if is_swept {
                sweep(&owner, store);
            }
        });
        let refused = host.backup(&before).map(|_| ());
        assert!(
            matches!(&refused, Err(EngineError::CannotCommit { reason }) if reason.contains("prune")),
            "{refused:?}"
        );
        // The snapshot it remembers is forgotten, and its chunks are in no live segment: all is read and stored again.
        let (report, heard) = host.backup_with(&store, &host.options()).unwrap();
        assert_eq!(heard.reasons.len(), 1);
        assert!(report.manifest.statistics.new_bytes > 600_000);
        assert_restores(&owner, &store, "latest", &tree_of(&host.source()), "stored again");
        assert_clean(&owner, &store, "stored again");
    }
}

#[test]
fn a_prune_before_a_backup_that_was_opened_earlier_is_seen() {
    let (owner, store) = owned(132);
    let host = Host::new(grant(&owner, &store, "web-1", None), 133);
    grow(&host.source());
    host.backup(&store).unwrap();
    let mut vault = Vault::open_as_writer(host.world.access(&store), &host.credential, None).unwrap();
    forget_all(&owner, &store);
    prune(&owner, &store, Vec::new());
    sweep(&owner, &store);
    let refused = backup(&mut vault, &host.options(), &mut Quiet).map(|_| ());
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(owner.open(&store).unwrap().state().snapshots.iter().filter(|one| !one.forgotten).count(), 0);
}

#[test]
fn own_packs_taken_for_orphans_are_not_committed() {
    let (owner, store) = owned(134);
    let host = Host::new(grant(&owner, &store, "web-1", None), 135);
    grow(&host.source());
    let before = before_a_record(&store, |store| {
        let orphans = packs_in(store).into_iter().map(OrphanName::Pack).collect::<Vec<_>>();
        assert!(!orphans.is_empty());
        prune(&owner, store, orphans);
    });
    let refused = host.backup(&before).map(|_| ());
    assert!(matches!(refused, Err(EngineError::CannotCommit { .. })), "{refused:?}");
    host.backup(&store).unwrap();
    assert_restores(&owner, &store, "latest", &tree_of(&host.source()), "under new names");
    let report = crate::support::deep(&owner, &store);
    assert!(report.is_intact(), "{:?}", report.findings);
}

#[test]
fn every_interleaving_of_two_writers_is_as_one_after_the_other() {
    let (owner, store) = owned(136);
    let credentials = [grant(&owner, &store, "one", None), grant(&owner, &store, "two", None)];
    let objects = snapshot_of(&store);
    let place = Arc::new(scratch());
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), noise(1, 900)).unwrap();
    let workers: Vec<_> = (1..)
        .zip(credentials)
        .map(|(number, credential)| {
            let source = source.clone();
            worker(move |scheduled| {
                let world = World { rng: coffer_crypto::rng::SeededRng::new(number), ..World::new(number) };
                let options = crate::support::backup_options(&source);
                backup_in(&world, &credential, &*scheduled, &options).map(|(report, _)| report.head)
            })
        })
        .collect();
    let mut run_count = 0;
    let limits = ExploreLimits { schedules_max: 400, ..ExploreLimits::default() };
    let explored = explore(
        limits,
        || Arc::new(store_from(objects.clone())),
        &workers,
        |store: &Arc<MemoryStore>, outcomes: Vec<Result<Head, EngineError>>, _| {
            let mut numbers: Vec<_> = outcomes.iter().map(|head| head.as_ref().unwrap().number).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, [3, 4]);
            let vault = owner.open(&**store).unwrap();
            assert_eq!(vault.log.ineffective, []);
            assert_eq!(vault.state().snapshots.len(), 2);
            if run_count % 50 == 0 {
                for selector in ["latest", "latest~1"] {
                    assert_restores(&owner, &**store, selector, &tree_of(&source), selector);
                }
                assert_clean(&owner, &**store, "a race");
            }
            run_count += 1;
        },
    );
    assert!(explored.schedules_count >= 100, "{explored:?}");
}

#[test]
fn two_runs_of_one_writer_at_once_both_commit() {
    let (owner, store) = owned(138);
    let host = Host::new(grant(&owner, &store, "web-1", None), 139);
    grow(&host.source());
    host.backup(&store).unwrap();
    for round in 0..4 {
        fs::write(host.source().join("new"), noise(round, 2000)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut vault =
                        Vault::open_as_writer(host.world.access(&store), &host.credential, None).unwrap();
                    backup(&mut vault, &host.options(), &mut Heard::default()).unwrap();
                });
            }
        });
        for selector in ["latest", "latest~1"] {
            assert_restores(&owner, &store, selector, &tree_of(&host.source()), selector);
        }
    }
    assert_eq!(owner.open(&store).unwrap().state().snapshots.len(), 9);
    assert_eq!(host.state_files().len(), 1);
    let report = crate::support::deep(&owner, &store);
    assert!(report.is_clean(), "{:?}", report.findings);
}
