//! Race: two to four writers, under every interleaving of those of their store calls that can matter.
//!
//! Each run is held against the sequential model: what was acknowledged stands in the log exactly once, at the number that was told,
//! and took effect; no record is void; the outcome is that of the operations one after the other, in the order of their records.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use coffer_crypto::rng::SeededRng;
use coffer_engine::{EngineError, Vault};
use coffer_format::id::{Head, SlotId};
use coffer_format::log::LogState;
use coffer_keys::KeyFile;
use coffer_store::{ListItem, MemoryStore, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError};
use coffer_testkit::copy::{Objects, snapshot_of, store_from};
use coffer_testkit::{ExploreLimits, Explored, Worker, explore, replay, worker};

use super::support::{Tree, World, assert_clean, assert_restores, noise, scratch, tree_of};

const SEED: u64 = 404;

/// What a worker reports: the head it was told, or why it was refused.
type Outcome = Result<Head, EngineError>;

/// One worker's way to the shared store. Calls that commute with all others are made at once, outside the schedule: reads of objects
/// that were there from the start (nobody deletes), and everything about key slots (a slot has a name of its own, and is asked for only
/// after a record names it, which is after it was stored). What is left is the log beyond the start, and listings.
#[derive(Debug)]
struct Essential {
    scheduled: Arc<dyn ObjectStore>,
    direct: Arc<MemoryStore>,
    settled: Arc<BTreeSet<String>>,
}

impl Essential {
    fn of(&self, key: &ObjectKey) -> &dyn ObjectStore {
        let commutes = self.settled.contains(key.as_str()) || key.as_str().starts_with("slots/");
        if commutes { &*self.direct } else { &*self.scheduled }
    }
}

impl ObjectStore for Essential {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        self.of(key).put_if_absent(key, body)
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.of(key).read(key, len_max, out)
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.of(key).read_range(key, offset, out)
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        self.of(key).stat(key)
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.scheduled.list(prefix, start_after, visit)
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        panic!("{key} is deleted, and here nothing is");
    }

    fn url(&self) -> String {
        self.direct.url()
    }
}

/// A vault with a snapshot and three key slots, at which writers race.
struct Arena {
    objects: Objects,
    settled: Arc<BTreeSet<String>>,
    /// The store of the run that is under way.
    current: Arc<Mutex<Arc<MemoryStore>>>,
    /// The slots of [`key`] 0, 1 and 2.
    slots: [SlotId; 3],
    source: PathBuf,
    tree: Tree,
    _place: tempfile::TempDir,
}

/// Key file number `number`.
fn key(number: u64) -> KeyFile {
    KeyFile::generate(&SeededRng::new(SEED + number)).unwrap()
}

/// A process of its own: the same in every run of its number, and no two the same.
fn process(number: u64) -> World {
    World { rng: SeededRng::new(9000 + number), key: key(0), ..World::new(SEED) }
}

impl Arena {
    fn new() -> Self {
        let place = scratch();
        let source = place.path().join("src");
        fs::create_dir(&source).unwrap();
        for file in 0..4_u64 {
            fs::write(source.join(format!("file-{file}")), noise(file, 900)).unwrap();
        }
        let (world, store) = (process(100), MemoryStore::new());
        world.init(&store).unwrap();
        let first = world.open(&store).unwrap().opened_by;
        let mut vault = world.open(&store).unwrap();
        let (second, _) = vault.add_slot(&key(1), "").unwrap();
        let (third, _) = vault.add_slot(&key(2), "").unwrap();
        world.backup(&store, &source).unwrap();
        let objects = snapshot_of(&store);
        let settled = Arc::new(objects.keys().cloned().collect());
        let current = Arc::new(Mutex::new(Arc::new(store)));
        let tree = tree_of(&source);
        Self { objects, settled, current, slots: [first, second, third], source, tree, _place: place }
    }

    /// Number of records at the start.
    fn start(&self) -> u64 {
        self.objects.keys().filter(|name| name.starts_with("log/")).count() as u64
    }

    /// A worker with its own way to the store; what it does with the other one, `direct`, is outside the schedule.
    fn worker(
        &self,
        work: impl Fn(&MemoryStore, &dyn ObjectStore) -> Outcome + Send + Sync + 'static,
    ) -> Worker<Outcome> {
        let (current, settled) = (Arc::clone(&self.current), Arc::clone(&self.settled));
        worker(move |scheduled| {
            let direct = Arc::clone(&current.lock().unwrap_or_else(PoisonError::into_inner));
            let store = Essential { scheduled, direct: Arc::clone(&direct), settled: Arc::clone(&settled) };
            work(&direct, &store)
        })
    }

    /// A backup of the unchanged source.
    fn backup(&self, number: u64) -> Worker<Outcome> {
        let source = self.source.clone();
        self.worker(move |_, store| process(number).backup(store, &source).map(|report| report.head))
    }

    /// Opens the vault and changes it.
    fn change(
        &self,
        number: u64,
        opened_with: u64,
        change: impl Fn(&mut Vault<'_>) -> Outcome + Send + Sync + 'static,
    ) -> Worker<Outcome> {
        self.worker(move |_, store| {
            let world = process(number);
            let mut vault = Vault::open(world.access(store), &key(opened_with), None)?;
            change(&mut vault)
        })
    }

    /// As [`Self::change`], on a vault that was opened before anybody did anything.
    fn change_from_stale(
        &self,
        number: u64,
        change: impl Fn(&mut Vault<'_>) -> Outcome + Send + Sync + 'static,
    ) -> Worker<Outcome> {
        self.worker(move |direct, store| {
            let world = process(number);
            // No turn is given before every worker waits for one.
            let mut vault = world.open(direct)?;
            vault.access.store = store;
            change(&mut vault)
        })
    }

    /// Runs every interleaving. `check` is given the state of the log, read back, and what the workers were told.
    fn explore(
        &self,
        schedules_max: u64,
        workers: &[Worker<Outcome>],
        mut check: impl FnMut(&LogState, &[Outcome]),
    ) -> Explored {
        let limits = ExploreLimits { schedules_max, ..ExploreLimits::default() };
        explore(
            limits,
            || self.make_store(),
            workers,
            |store, outcomes, _| {
                check(&self.check(store, &outcomes), &outcomes);
            },
        )
    }

    fn make_store(&self) -> Arc<MemoryStore> {
        let store = Arc::new(store_from(self.objects.clone()));
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&store);
        store
    }

    /// Reads the log back and holds it against what the workers were told.
    fn check(&self, store: &MemoryStore, outcomes: &[Outcome]) -> LogState {
        let world = process(200);
        let opened = (0..3).find_map(|number| Vault::open(world.access(store), &key(number), None).ok());
        let log = opened.expect("some key opens the vault").log;
        assert_eq!(log.ineffective, [], "a record is void");
        assert!(log.state.damaged.is_empty());
        let told: Vec<Head> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok().copied()).collect();
        let numbers: BTreeSet<u64> = told.iter().map(|head| head.number).collect();
        let start = self.start();
        assert_eq!(numbers, (start..start + told.len() as u64).collect(), "told twice, or a gap");
        assert_eq!(log.state.next, start + told.len() as u64, "a record that nobody was told of");
        for head in told {
            let stored = store.raw(&format!("log/{:012}", head.number)).unwrap();
            assert_eq!(coffer_crypto::hash::hash(&stored), head.chain, "another record was told");
        }
        log.state
    }
}

/// All of them were acknowledged.
#[track_caller]
fn assert_all_told(outcomes: &[Outcome]) {
    for outcome in outcomes {
        assert!(outcome.is_ok(), "{outcome:?}");
    }
}

#[track_caller]
fn assert_slots(state: &LogState, expected: impl IntoIterator<Item = SlotId>) {
    assert_eq!(state.slots.iter().copied().collect::<BTreeSet<_>>(), expected.into_iter().collect());
}

#[track_caller]
fn assert_complete(explored: Explored, schedules_min: u64) {
    assert!(explored.is_complete, "{explored:?}");
    assert!(explored.schedules_count >= schedules_min, "{explored:?}");
}

#[test]
fn two_unchanged_backups() {
    let arena = Arena::new();
    let mut run_count = 0;
    let explored = arena.explore(u64::MAX, &[arena.backup(1), arena.backup(2)], |state, outcomes| {
        assert_all_told(outcomes);
        let ids: BTreeSet<_> = state.snapshots.iter().map(|snapshot| snapshot.id.0).collect();
        let told = outcomes.iter().map(|outcome| outcome.as_ref().unwrap().chain);
        assert_eq!(state.snapshots.len(), 3);
        assert!(told.into_iter().all(|chain| ids.contains(&chain)));
        // Whatever the order, both say the same: looked at now and then.
        if run_count % 16 == 0 {
            check_snapshots(&arena.current, &arena.tree);
        }
        run_count += 1;
    });
    assert_complete(explored, 70);
}

/// Every snapshot restores to the source, and the vault is clean.
fn check_snapshots(current: &Mutex<Arc<MemoryStore>>, tree: &Tree) {
    let store = Arc::clone(&current.lock().unwrap_or_else(PoisonError::into_inner));
    let world = process(300);
    assert_clean(&world, &store, "after a race");
    for selector in ["latest", "latest~1", "latest~2"] {
        assert_restores(&world, &store, selector, tree, "after a race");
    }
}

#[test]
fn a_backup_and_a_new_key_slot() {
    let arena = Arena::new();
    let adds = arena.change(2, 1, |vault| vault.add_slot(&key(10), "").map(|(_, head)| head));
    let explored = arena.explore(u64::MAX, &[arena.backup(1), adds], |state, outcomes| {
        assert_all_told(outcomes);
        assert_eq!(state.snapshots.len(), 2);
        assert_eq!(state.slots.len(), 4);
        assert!(arena.slots.iter().all(|slot| state.slots.contains(slot)));
    });
    assert_complete(explored, 70);
}

#[test]
fn a_backup_while_its_own_key_slot_is_revoked() {
    let arena = Arena::new();
    let [own, second, third] = arena.slots;
    let revokes = arena.change(2, 1, move |vault| vault.revoke_slot(own));
    let explored = arena.explore(u64::MAX, &[arena.backup(1), revokes], |state, outcomes| {
        assert!(outcomes[1].is_ok(), "{outcomes:?}");
        assert_slots(state, [second, third]);
        match &outcomes[0] {
            // Opened before, or in between: the key was the vault's, and still is.
            Ok(_) => assert_eq!(state.snapshots.len(), 2),
            Err(EngineError::Key(_)) => assert_eq!(state.snapshots.len(), 1),
            Err(error) => panic!("{error}"),
        }
    });
    assert_complete(explored, 40);
}

#[test]
fn two_revocations_of_one_slot() {
    let arena = Arena::new();
    let [first, second, third] = arena.slots;
    let revokes = |number| arena.change(number, 0, move |vault| vault.revoke_slot(third));
    let explored = arena.explore(u64::MAX, &[revokes(1), revokes(2)], |state, outcomes| {
        assert_slots(state, [first, second]);
        let refused = outcomes.iter().filter(|outcome| matches!(outcome, Err(EngineError::Invalid { .. })));
        assert_eq!(refused.count(), 1, "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    });
    assert_complete(explored, 40);
}

#[test]
fn two_revocations_of_two_slots() {
    let arena = Arena::new();
    let [first, second, third] = arena.slots;
    let one = arena.change(1, 0, move |vault| vault.revoke_slot(second));
    let other = arena.change(2, 0, move |vault| vault.revoke_slot(third));
    let explored = arena.explore(u64::MAX, &[one, other], |state, outcomes| {
        assert_all_told(outcomes);
        assert_slots(state, [first]);
    });
    assert_complete(explored, 70);
}

/// Each revokes the other's slot, and these are the last two: one of them must lose, or nobody could open the vault.
#[test]
fn the_last_two_slots_revoke_each_other() {
    let arena = Arena::new();
    let [first, second, third] = arena.slots;
    let arena = {
        let store = store_from(arena.objects.clone());
        process(101).open(&store).unwrap().revoke_slot(third).unwrap();
        let objects = snapshot_of(&store);
        Arena { settled: Arc::new(objects.keys().cloned().collect()), objects, ..arena }
    };
    let one = arena.change(1, 0, move |vault| vault.revoke_slot(second));
    let other = arena.change(2, 1, move |vault| vault.revoke_slot(first));
    let explored = arena.explore(u64::MAX, &[one, other], |state, outcomes| match outcomes {
        [Ok(_), Err(error)] => {
            assert_slots(state, [first]);
            assert_refused(error);
        }
        [Err(error), Ok(_)] => {
            assert_slots(state, [second]);
            assert_refused(error);
        }
        _ => panic!("{outcomes:?}"),
    });
    assert_complete(explored, 40);
}

/// It was the last slot, or the key did not open the vault any more.
#[track_caller]
fn assert_refused(error: &EngineError) {
    assert!(matches!(error, EngineError::Invalid { .. } | EngineError::Key(_)), "{error:?}");
}

#[test]
fn two_changes_from_a_stale_state() {
    let arena = Arena::new();
    let one = arena.change_from_stale(1, |vault| vault.add_slot(&key(10), "").map(|(_, head)| head));
    let [_, second, third] = arena.slots;
    let other = arena.change_from_stale(2, move |vault| vault.revoke_slot(second));
    let explored = arena.explore(u64::MAX, &[one, other], |state, outcomes| {
        assert_all_told(outcomes);
        assert_eq!(state.slots.len(), 3);
        assert!(state.slots.contains(&third) && !state.slots.contains(&second));
    });
    assert_complete(explored, 6);
}

/// Four writers have too many interleavings to run them all. Each makes two calls at least (what lies beyond, take the number); all
/// orders of these eight are run, and then whoever has lost goes on in turn. The writers are alike, so it is enough that they come in
/// for the first time in the order of their numbers.
#[test]
fn four_changes_from_a_stale_state() {
    const CALLS: usize = 2;
    let arena = Arena::new();
    let adds = |number| {
        arena.change_from_stale(number, move |vault| {
            vault.add_slot(&key(9 + number), "").map(|(_, head)| head)
        })
    };
    let workers = [adds(1), adds(2), adds(3), adds(4)];
    let mut schedules = vec![Vec::new()];
    for _ in 0..workers.len() * CALLS {
        schedules = schedules.iter().flat_map(|schedule| extended(schedule, workers.len(), CALLS)).collect();
    }
    assert_eq!(schedules.len(), 2520 / 24);
    for schedule in schedules {
        let check = |store: &Arc<MemoryStore>, outcomes: Vec<Outcome>, _: &[usize]| {
            let state = arena.check(store, &outcomes);
            assert_all_told(&outcomes);
            assert_eq!(state.slots.len(), 7);
        };
        replay(ExploreLimits::default(), || arena.make_store(), &workers, &schedule, check);
    }
}

/// The schedules that are one turn longer, with at most `calls` turns for each of the workers, who come in for the first time in order.
fn extended(schedule: &[usize], worker_count: usize, calls: usize) -> Vec<Vec<usize>> {
    let turns = |worker: usize| schedule.iter().filter(|turn| **turn == worker).count();
    let may_go = |worker: &usize| turns(*worker) < calls && (*worker == 0 || turns(*worker - 1) > 0);
    (0..worker_count).filter(may_go).map(|worker| [schedule, &[worker]].concat()).collect()
}

/// One process commits twice while another commits once.
#[test]
fn two_changes_in_a_row_against_one() {
    let arena = Arena::new();
    let [_, second, third] = arena.slots;
    let first_heads = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&first_heads);
    let twice = arena.change_from_stale(1, move |vault| {
        let before = vault.revoke_slot(second)?;
        let after = vault.revoke_slot(third)?;
        assert!(after.number > before.number);
        heads.lock().unwrap_or_else(PoisonError::into_inner).push(before);
        Ok(after)
    });
    let once = arena.backup(2);
    let explored = explore(
        ExploreLimits::default(),
        || arena.make_store(),
        &[twice, once],
        |store, outcomes, _| {
            assert_all_told(&outcomes);
            let world = process(200);
            let vault = world.open(&**store).unwrap();
            assert_eq!(vault.log.ineffective, []);
            assert_eq!(vault.state().next, arena.start() + 3);
            assert_slots(vault.state(), [arena.slots[0]]);
            assert_eq!(vault.state().snapshots.len(), 2);
            let before = first_heads.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap();
            let numbers: BTreeSet<_> = outcomes
                .iter()
                .map(|outcome| outcome.as_ref().unwrap().number)
                .chain([before.number])
                .collect();
            assert_eq!(numbers.len(), 3);
        },
    );
    assert_complete(explored, 40);
}
