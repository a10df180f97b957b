//! Checkpoints: written when they are due, begun at by those who come without a memory, never needed, never believed without the key.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use coffer_crypto::hash::hash;
use coffer_crypto::rng::SeededRng;
use coffer_crypto::{SigningKey, VaultKey};
use coffer_engine::{BackupOptions, EngineError, Log, Vault};
use coffer_format::id::hex;
use coffer_format::log::LogState;
use coffer_format::record::{Details, RecordKind, Role, RoleAction};
use coffer_keys::RootKey;
use coffer_pipeline::record::{BodySealer, seal_record};
use coffer_store::{MemoryStore, ObjectKey, ObjectStore};
use coffer_testkit::copy::{Objects, snapshot_of, store_from};
use coffer_testkit::{AlteredStore, CrashMoment, CrashingStore, RecordingStore};
use coffer_verify::Class;
use tempfile::TempDir;

use super::restore::by_hand::{commit_by_owner, signing_key};
use super::support::{
    Quiet, World, assert_clean, assert_restores, assert_same, backup_options, keyless, scratch, tree_of,
};

const SEED: u64 = 31;

/// A host without memory that has the key of the vault. Randomness does not repeat from one to the next.
fn host() -> World {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 40);
    World { rng: SeededRng::new(NEXT.fetch_add(1, Ordering::Relaxed)), ..World::new(SEED) }
}

/// A vault with as many records as make a checkpoint worth looking for, and its source.
struct Site {
    _place: TempDir,
    source: PathBuf,
    objects: Objects,
}

impl Site {
    /// `record_count` records, and no checkpoint.
    fn new(record_count: u64) -> Self {
        let place = scratch();
        let source = place.path().join("src");
        fs::create_dir(&source).unwrap();
        let (world, store) = (host(), MemoryStore::new());
        world.init(&store).unwrap();
        let mut vault = world.open(&store).unwrap();
        for number in 1..record_count {
            fs::write(source.join("file"), format!("state {number} {}", "x".repeat(200))).unwrap();
            let options = BackupOptions { checkpoint_interval: 0, ..backup_options(&source) };
            coffer_engine::backup(&mut vault, &options, &mut Quiet).unwrap();
        }
        drop(vault);
        Self { _place: place, source, objects: snapshot_of(&store) }
    }

    fn options(&self) -> BackupOptions {
        BackupOptions { checkpoint_interval: 20, ..backup_options(&self.source) }
    }

    /// The vault after one more backup, which found a checkpoint to be due.
    fn with_checkpoint(&self) -> MemoryStore {
        let store = store_from(self.objects.clone());
        host().backup_with(&store, &self.options()).unwrap();
        store
    }
}

/// The state by replay of the whole log.
fn replayed(store: &dyn ObjectStore) -> LogState {
    Log::read(&host().access(store), None).unwrap().state
}

fn same(vault: &Vault<'_>, state: &LogState) {
    assert_eq!(vault.state().encode(), state.encode());
    let ids: Vec<_> =
        vault.snapshots().into_iter().map(|(state, read)| (state.id, read.unwrap().id())).collect();
    let expected: Vec<_> = state.snapshots.iter().map(|snapshot| (snapshot.id, snapshot.id)).collect();
    assert_eq!(ids, expected);
}

#[test]
fn a_due_checkpoint_costs_three_objects_and_spares_the_log() {
    let site = Site::new(90);
    let store = RecordingStore::new(store_from(site.objects.clone()));
    host().backup_with(&store, &site.options()).unwrap();
    let recording = store.reset();
    assert_eq!(recording.written_under("log/"), ["log/000000000090", "log/000000000091"]);
    assert_eq!(recording.written_under("index/").len(), 1, "the backup itself found nothing new");
    assert_eq!(recording.written_under("packs/").len(), 1);
    assert_eq!(recording.written.len(), 4);

    // Not due again.
    host().backup_with(&store, &site.options()).unwrap();
    assert_eq!(store.reset().written_under("log/"), ["log/000000000092"]);

    let world = host();
    let vault = world.open(&store).unwrap();
    let fresh = store.reset();
    // Record 0 is read for its header only where that is lost; behind the checkpoint each record is read.
    assert!(fresh.read_count < 12, "{} reads for 93 records", fresh.read_count);
    assert_eq!(vault.snapshots().len(), 91);
    assert!(store.reset().read_count < 6, "the manifests come from the checkpoint, but for the last two");
    same(&vault, &replayed(&store));
    assert!(replayed(&store).last_checkpoint == Some(91));
    assert_clean(&host(), &store, "");
}

#[test]
fn a_later_checkpoint_builds_on_the_one_before() {
    let site = Site::new(90);
    let store = site.with_checkpoint();
    for _ in 0..25 {
        host().backup_with(&store, &site.options()).unwrap();
    }
    let state = replayed(&store);
    assert!(state.last_checkpoint.is_some_and(|number| number > 91), "{:?}", state.last_checkpoint);
    same(&host().open(&store).unwrap(), &state);
    assert_clean(&host(), &store, "");
}

#[test]
fn whoever_cannot_use_a_checkpoint_replays() {
    let site = Site::new(90);
    let whole = snapshot_of(&site.with_checkpoint());
    let expected = replayed(&store_from(whole.clone()));
    let new = |prefix: &str| {
        let mut names =
            whole.keys().filter(|name| name.starts_with(prefix) && !site.objects.contains_key(*name));
        let name = names.next().unwrap().clone();
        assert!(names.next().is_none());
        name
    };
    for name in [new("packs/"), new("index/")] {
        // Lost, and damaged.
        let mut objects = whole.clone();
        objects.remove(&name);
        same(&host().open(&store_from(objects)).unwrap(), &expected);
        for position in [0, 40, 100, 1200, whole[&name].len() - 1] {
            let mut objects = whole.clone();
            let bytes = objects.get_mut(&name).unwrap();
            let position = position.min(bytes.len() - 1);
            bytes[position] ^= 1;
            same(&host().open(&store_from(objects)).unwrap(), &expected);
        }
    }
}

#[test]
fn a_lost_record_before_the_checkpoint_costs_nothing_but_is_reported() {
    let site = Site::new(90);
    let whole = site.with_checkpoint();
    let expected = replayed(&whole);
    let newest = tree_of(&site.source);
    for damage in [None, Some(vec![0; 700])] {
        let mut objects = snapshot_of(&whole);
        objects.remove("log/000000000089");
        objects.extend(damage.map(|bytes| ("log/000000000089".to_owned(), bytes)));
        let store = store_from(objects);
        let world = host();
        let vault = world.open(&store).unwrap();
        same(&vault, &expected);
        // Its own snapshot restores too, and whoever does so hears of the damage.
        let lost = vault.state().snapshots.iter().find(|snapshot| snapshot.number == 89).unwrap();
        assert!(vault.snapshot(lost).unwrap().is_degraded);
        let target = scratch();
        let report = world.restore(&store, &lost.id.to_string(), target.path()).unwrap();
        assert!(report.degraded && report.errors.is_empty());
        assert_same(&newest, &tree_of(&target.path().join("src")), "lost record");
        let classes: Vec<_> = keyless(&store).findings.iter().map(|finding| finding.class).collect();
        assert!(!classes.is_empty(), "verification replays from record 0");
        assert!(classes.iter().all(|class| matches!(class, Class::Corrupt | Class::Missing)));
        assert_eq!(replayed(&store).encode(), None, "whoever replays knows of it, and writes no checkpoint");
    }
}

/// Commits a checkpoint by hand, which the owner signs unless `signer` does.
fn commit_by_hand(store: &dyn ObjectStore, state_hash: [u8; 32], signer: Option<&SigningKey>) -> u64 {
    let world = host();
    let access = world.access(store);
    let vault = world.open(store).unwrap();
    let owner = vault.signing_key().unwrap();
    let domain = vault.domain_keys(&vault.owner_domain()).unwrap();
    let (sealing_key, epoch) = vault.sealing_key().unwrap();
    let sealer = BodySealer { sealing_key: &sealing_key, epoch, domain: &domain };
    let mut log = Log::read(&access, None).unwrap();
    let head = log.commit(&access, &mut |state| {
        let mut public =
            state.next_public(RecordKind::Checkpoint, *signer.unwrap_or(owner).verifying_key().as_bytes());
        public.details = Details::Checkpoint { number: state.next - 1, state_hash }.encode();
        Ok(seal_record(public, Some((&[0xa0], &sealer)), signer.unwrap_or(owner), &world.rng)?)
    });
    head.unwrap().number
}

#[test]
fn a_checkpoint_that_lies_is_reported_and_not_believed() {
    let site = Site::new(90);
    let store = store_from(site.objects.clone());
    let truth = hash(&replayed(&store).encode().unwrap());
    let number = commit_by_hand(&store, [7; 32], None);
    same(&host().open(&store).unwrap(), &replayed(&store));
    let report = keyless(&store);
    let found: Vec<_> =
        report.findings.iter().map(|finding| (finding.class, finding.object.clone())).collect();
    assert_eq!(found, [(Class::Corrupt, format!("log/{number:012}"))]);
    assert!(report.findings[0].what.contains("checkpoint"), "{:?}", report.findings);

    // One that says the truth and names nothing is no finding, and no help.
    let store = store_from(site.objects.clone());
    commit_by_hand(&store, truth, None);
    same(&host().open(&store).unwrap(), &replayed(&store));
    assert_eq!(keyless(&store).findings, []);
}

#[test]
fn a_checkpoint_that_leaves_a_signer_out_hides_it_from_no_rotation() {
    let site = Site::new(40);
    let (store, thief) = (store_from(site.objects.clone()), host());
    let key = *signing_key(7).verifying_key().as_bytes();
    // Whoever has the vault key enrols a key of their own, and makes the next checkpoint from a state without it.
    let mut vault = thief.open(&store).unwrap();
    let action = RoleAction::Enrol { key, role: Role::Maintainer, domains: Vec::new() };
    commit_by_owner(&mut vault, RecordKind::Role, &Details::Role(action));
    vault.log.state.signers.remove(&key);
    coffer_engine::backup(&mut vault, &site.options(), &mut Quiet).unwrap();
    drop(vault);

    let owner = host();
    let mut vault = owner.open(&store).unwrap();
    assert!(!vault.state().signers.contains_key(&key), "what was opened begins at the checkpoint");
    let roots: [&dyn RootKey; 1] = [&owner.key];
    let mut plan = vault.plan_rotation(&roots).unwrap();
    let found: Vec<_> = plan.signers.iter().map(|signer| (signer.key, signer.is_ordinary())).collect();
    assert_eq!(found, [(key, false)]);
    for signer in std::mem::take(&mut plan.signers) {
        vault.revoke_signer(&signer).unwrap();
    }
    vault.rotate(&roots, &plan, false, "").unwrap();
    assert!(replayed(&store).signers[&key].revoked);
}

#[test]
fn a_rotation_is_refused_when_somebody_was_enrolled_meanwhile() {
    let (world, store) = (host(), MemoryStore::new());
    world.init(&store).unwrap();
    let mut vault = world.open(&store).unwrap();
    let roots: [&dyn RootKey; 1] = [&world.key];
    let plan = vault.plan_rotation(&roots).unwrap();
    let key = *signing_key(7).verifying_key().as_bytes();
    let action = RoleAction::Enrol { key, role: Role::Maintainer, domains: Vec::new() };
    let thief = host();
    commit_by_owner(&mut thief.open(&store).unwrap(), RecordKind::Role, &Details::Role(action));
    let refused = vault.rotate(&roots, &plan, false, "").unwrap_err();
    assert!(refused.to_string().contains("enrolled or revoked meanwhile"), "{refused}");
    assert_eq!(replayed(&store).epoch(), 0);
}

#[test]
fn a_stranger_writes_no_checkpoint() {
    let site = Site::new(90);
    let store = store_from(site.objects.clone());
    let world = host();
    let stranger = VaultKey::generate(&world.rng).unwrap().signing();
    let access = world.access(&store);
    let mut log = Log::read(&access, None).unwrap();
    let outcome = log.commit(&access, &mut |state| {
        let mut public = state.next_public(RecordKind::Checkpoint, *stranger.verifying_key().as_bytes());
        public.details = Details::Checkpoint { number: state.next - 1, state_hash: [1; 32] }.encode();
        Ok(seal_record(public, None, &stranger, &world.rng)?)
    });
    assert!(matches!(outcome, Err(EngineError::CannotCommit { .. })), "{outcome:?}");
}

#[test]
fn a_crash_at_any_write_of_a_checkpoint_costs_nothing() {
    let site = Site::new(90);
    let newest = tree_of(&site.source);
    let mut crash_count = 0;
    for crash_at in 0.. {
        let mut crashed = false;
        for moment in CrashMoment::ALL {
            let store = CrashingStore::new(store_from(site.objects.clone()), crash_at, moment);
            let outcome = host().backup_with(&store, &site.options());
            if !store.is_crashed() {
                continue;
            }
            crashed = true;
            crash_count += 1;
            // Behind the record of the snapshot, a checkpoint that fails is a warning.
            let context = format!("crash at write {crash_at}, {moment:?}");
            if let Ok(report) = &outcome {
                assert!(report.warnings.iter().any(|warning| warning.contains("checkpoint")), "{context}");
            }
            let left = store.inner();
            let acknowledged = outcome.map(|report| report.snapshot);
            let state = replayed(left);
            if let Ok(id) = acknowledged {
                assert!(state.snapshot(&id).is_some(), "{context}");
            }
            same(&host().open(left).unwrap(), &state);
            let next = host();
            next.backup_with(left, &site.options()).unwrap();
            assert!(replayed(left).last_checkpoint.is_some(), "{context}: the next backup adds it");
            assert_restores(&next, left, "latest", &newest, &context);
            assert_clean(&next, left, &context);
        }
        if !crashed {
            break;
        }
    }
    // The record of the snapshot, then pack, segment and record of the checkpoint, each at every moment.
    assert_eq!(crash_count, 4 * CrashMoment::ALL.len());
}

/// Lets somebody else commit the first time an index segment is stored, or every time.
fn overtaken<'a>(
    store: &'a MemoryStore,
    other: &'a BackupOptions,
    always: bool,
) -> AlteredStore<'a, &'a MemoryStore> {
    let armed = AtomicBool::new(true);
    AlteredStore::new(store).on_put(move |store, key, bytes| {
        let outcome = store.put_if_absent(key, bytes);
        if key.as_str().starts_with("index/") && (armed.swap(false, Ordering::SeqCst) || always) {
            host().backup_with(*store, other).map(drop).unwrap();
        }
        outcome
    })
}

#[test]
fn others_may_commit_while_a_checkpoint_is_made() {
    let site = Site::new(90);
    for always in [false, true] {
        let options = BackupOptions { checkpoint_interval: 0, ..backup_options(&site.source) };
        let left = store_from(site.objects.clone());
        let store = overtaken(&left, &options, always);
        let report = host().backup_with(&store, &site.options()).unwrap();
        assert_eq!(report.warnings, [] as [String; 0]);
        let state = replayed(&store);
        // It is made again for the state that came of it; who is overtaken every time leaves it to the next.
        assert_eq!(state.last_checkpoint, (!always).then_some(92));
        same(&host().open(&store).unwrap(), &state);
        assert_clean(&host(), &left, "");
    }
}

#[test]
fn an_oversize_object_under_a_remembered_number_locks_nobody_out() {
    let site = Site::new(40);
    let store = store_from(site.objects.clone());
    let cache = scratch();
    // Junk takes the next number; whoever opens the vault remembers it as the head.
    let number = replayed(&store).next;
    store.insert_raw(format!("log/{number:012}"), vec![1; (8 << 20) + 5]);
    let remembering = || World { rng: host().rng, ..World::with_cache(SEED, cache.path()) };
    remembering().open(&store).unwrap();
    // A stranger goes on and adds a checkpoint.
    host().backup_with(&store, &site.options()).unwrap();
    assert!(replayed(&store).last_checkpoint.is_some());
    same(&remembering().open(&store).unwrap(), &replayed(&store));
}

/// Slots of these keys, which were revoked; objects of the store for good.
fn revoked_slots(world: &World, store: &dyn ObjectStore, roots: impl Iterator<Item = Box<dyn RootKey>>) {
    let mut vault = world.open(store).unwrap();
    for root in roots {
        let (id, _) = vault.add_slot(root.as_ref(), "old").unwrap();
        vault.revoke_slot(id).unwrap();
    }
}

#[test]
fn slots_that_were_revoked_do_not_keep_a_newcomer_from_beginning_at_a_checkpoint() {
    let site = Site::new(90);
    let store = store_from(site.objects.clone());
    let key_files = (0..20).map(|seed| -> Box<dyn RootKey> {
        Box::new(coffer_keys::KeyFile::generate(&SeededRng::new(1000 + seed)).unwrap())
    });
    revoked_slots(&host(), &store, key_files);
    host().backup_with(&store, &site.options()).unwrap();
    let (world, store) = (host(), RecordingStore::new(store));
    let vault = world.open(&store).unwrap();
    let read_count = store.reset().read_count;
    assert!(read_count < 21 + 12, "{read_count} reads: 21 slots, and not the {} records", vault.state().next);
    assert!(vault.state().next > 130);
    same(&vault, &replayed(&store));
}

#[test]
fn of_more_slots_than_records_none_is_read() {
    let site = Site::new(90);
    let whole = site.with_checkpoint();
    let (world, last) = (host(), replayed(&whole).next - 1);
    let slot = snapshot_of(&whole).into_iter().find(|(name, _)| name.starts_with("slots/")).unwrap().1;
    for number in 0..last {
        let name = format!("slots/{}", hex(&hash(&number.to_be_bytes())));
        whole.put_if_absent(&ObjectKey::new(&name).unwrap(), &slot).unwrap();
    }
    let store = RecordingStore::new(whole);
    let vault = world.open(&store).unwrap();
    let read_count = store.reset().read_count;
    assert!((last..last + 20).contains(&read_count), "{read_count} reads: {last} records, and one slot");
    same(&vault, &replayed(&store));
}
