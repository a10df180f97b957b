//! Faults: calls of the store fail, one, several or all from some point on, before or after their effect, for every reason there is.
//!
//! Nothing panics or hangs. What was acknowledged is there; what was there before stays; and when the store is well again, so is the
//! vault.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use coffer_crypto::rng::SeededRng;
use coffer_engine::{BackupOptions, EngineError};
use coffer_store::{MemoryStore, ObjectStore};
use coffer_testkit::copy::{Objects, snapshot_of, store_from};
use coffer_testkit::{Fault, FaultKind, FaultMoment, FaultyStore};
use coffer_verify::{Options, Silent, verify};
use tempfile::TempDir;

use super::support::{
    Tree, World, assert_clean, assert_no_false_file, assert_restores, assert_same, backup_options, keyless,
    noise, scratch, tree_of,
};

mod interrupt;
mod retry;
mod vanish;

const SEED: u64 = 31;
const MOMENTS: [FaultMoment; 2] = [FaultMoment::Before, FaultMoment::After];

/// A vault with one snapshot, and a source that has changed since.
struct Site {
    _place: TempDir,
    source: PathBuf,
    cache: PathBuf,
    /// The vault after init.
    empty: Objects,
    /// The vault with the snapshot.
    objects: Objects,
    /// What the snapshot holds.
    old: Tree,
    /// What the source holds.
    new: Tree,
}

impl Site {
    fn new() -> Self {
        let place = scratch();
        let source = place.path().join("src");
        fs::create_dir_all(source.join("dir")).unwrap();
        for file in 0..8_u64 {
            let len = usize::try_from(file * 700).unwrap();
            fs::write(source.join("dir").join(format!("file-{file}")), noise(file, len)).unwrap();
        }
        fs::hard_link(source.join("dir").join("file-3"), source.join("linked")).unwrap();
        let store = MemoryStore::new();
        let host = world();
        host.init(&store).unwrap();
        let empty = snapshot_of(&store);
        let old = tree_of(&source);
        host.backup_with(&store, &options(&source)).unwrap();
        let objects = snapshot_of(&store);
        fs::write(source.join("dir").join("file-5"), noise(50, 4000)).unwrap();
        fs::write(source.join("new"), noise(51, 9000)).unwrap();
        let new = tree_of(&source);
        let cache = place.path().join("cache");
        Self { _place: place, source, cache, empty, objects, old, new }
    }
}

/// A host without a memory. Every second look at the clock brings a progress record, if there is something to name.
fn world() -> World {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1 << 40);
    let world = World { rng: SeededRng::new(NEXT.fetch_add(1, Ordering::Relaxed)), ..World::new(SEED) };
    world.clock.set_step(1_000_000_000);
    world
}

fn options(source: &std::path::Path) -> BackupOptions {
    let mut options = backup_options(source);
    options.pack_len_target = 1;
    options.progress_interval_ns = 2_000_000_000;
    options
}

/// Ways in which calls from `call` on can fail: each kind, once, in turns before and after the effect; and some for longer. `turn`
/// decides who begins, so that two sweeps over the same calls have between them every kind at every call at both moments.
fn faults(call: u64, turn: u64) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, kind) in (call + turn..).zip(FaultKind::ALL) {
        let (moment, other) =
            if number % 2 == 0 { (MOMENTS[0], MOMENTS[1]) } else { (MOMENTS[1], MOMENTS[0]) };
        faults.push(Fault::once(call, moment, kind));
        match number % 6 {
            0 => faults.push(Fault::times(call, 10, moment, kind)),
            1 => faults.push(Fault::forever(call, moment, kind)),
            2 => faults.push(Fault::times(call, 10, other, kind)),
            3 => faults.push(Fault::forever(call, other, kind)),
            _ => {}
        }
    }
    faults
}

const BOTH: [u64; 2] = [0, 1];

/// How long one case may take before it counts as hanging.
const HANG: Duration = Duration::from_secs(60);

/// Runs `sweep` in a thread of its own and panics when it stops telling which case it is at.
fn watched(sweep: impl FnOnce(&Sender<String>) + Send + 'static) {
    let (beat, beats) = channel();
    let thread = std::thread::spawn(move || sweep(&beat));
    let mut last = "the beginning".to_owned();
    loop {
        match beats.recv_timeout(HANG) {
            Ok(case) => last = case,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("it hangs at {last}"),
        }
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `operation` on stores that begin with `objects`, under every fault at every call it makes; `check` looks at the store, well
/// again, and at what came out. Returns how many calls a run without faults makes.
fn sweep<T>(
    beat: &Sender<String>,
    name: &str,
    turns: &[u64],
    objects: &Objects,
    mut operation: impl FnMut(&dyn ObjectStore) -> T,
    mut check: impl FnMut(&MemoryStore, T, Option<&Fault>, &str),
) -> u64 {
    let healthy = FaultyStore::new(store_from(objects.clone()), []);
    let outcome = operation(&healthy);
    check(healthy.inner(), outcome, None, name);
    let call_count = healthy.call_count();
    assert!(call_count > 0);
    let (mut failed_count, mut case_count) = (0, 0);
    for call in 0..call_count {
        for fault in turns.iter().flat_map(|turn| faults(call, *turn)) {
            let context = format!("{name}, {fault:?}");
            beat.send(context.clone()).unwrap();
            let store = FaultyStore::new(store_from(objects.clone()), [fault]);
            let outcome = operation(&store);
            case_count += 1;
            failed_count += u64::from(store.failed_count() > 0);
            check(store.inner(), outcome, Some(&fault), &context);
        }
    }
    // Workers finish in their own time: now and then a run makes fewer calls.
    assert!(failed_count * 10 >= case_count * 9, "{name}: {failed_count} of {case_count} met the fault");
    call_count
}

/// The vault holds `old` if there was a snapshot, verifies but for residue, and takes a backup of the source.
#[track_caller]
fn check_well(store: &MemoryStore, site: &Site, has_snapshot: bool, context: &str) {
    let report = keyless(store);
    assert!(report.is_clean(), "{context}: {:?}", report.findings);
    if has_snapshot {
        let vault = world();
        let snapshot = vault.open(store).unwrap().state().snapshots[0].id;
        assert_restores(&vault, store, &snapshot.to_string(), &site.old, context);
    }
    let report = world().backup_with(store, &options(&site.source)).unwrap();
    assert_eq!(report.errors, [], "{context}");
    assert_restores(&world(), store, "latest", &site.new, context);
    assert_clean(&world(), store, context);
}

fn check_backup(name: &'static str, turn: u64, has_snapshot: bool, host: fn(&Site) -> World) {
    watched(move |beat| {
        let site = Site::new();
        let objects = if has_snapshot { &site.objects } else { &site.empty };
        let before = store_from(objects.clone());
        let count = |store: &MemoryStore| world().open(store).unwrap().state().snapshots.len();
        let count_before = count(&before);
        let run = |store: &dyn ObjectStore| {
            drop(fs::remove_dir_all(&site.cache));
            if has_snapshot {
                // So that a host with a memory has one of the vault as it is.
                host(&site).open(&before).unwrap();
            }
            host(&site).backup_with(store, &options(&site.source))
        };
        sweep(beat, name, &[turn], objects, run, |store, outcome, fault, context| {
            match outcome {
                Ok(report) => {
                    assert_eq!(report.errors, [], "{context}");
                    let id = report.snapshot.to_string();
                    assert_restores(&world(), store, &id, &site.new, context);
                    assert_eq!(count(store), count_before + 1, "{context}");
                }
                Err(error) => {
                    assert!(fault.is_some(), "{context}: {error}");
                    // It may have been committed after all, with nobody told.
                    assert!(count(store) - count_before <= 1, "{context}");
                }
            }
            check_well(store, &site, has_snapshot, context);
        });
    });
}

#[test]
fn a_first_backup_meets_every_fault() {
    check_backup("first backup", 0, false, |_| world());
}

#[test]
fn an_incremental_backup_meets_every_fault() {
    check_backup("incremental backup", 0, true, |_| world());
}

#[test]
fn a_backup_of_a_host_with_a_memory_meets_every_fault() {
    let host = |site: &Site| World { cache: Some(coffer_engine::Cache::new(&site.cache)), ..world() };
    check_backup("backup with a memory", 1, true, host);
}

#[test]
fn an_init_meets_every_fault() {
    watched(|beat| {
        let site = Site::new();
        let run = |store: &dyn ObjectStore| world().init(store);
        sweep(beat, "init", &BOTH, &Objects::new(), run, |store, outcome, fault, context| {
            let is_whole = world().open(store).is_ok();
            match &outcome {
                Ok(_) => assert!(is_whole, "{context}: acknowledged and not there"),
                Err(error) => assert!(fault.is_some(), "{context}: {error}"),
            }
            match world().init(store) {
                Ok(_) => assert!(!is_whole, "{context}"),
                Err(EngineError::VaultExists { .. }) => assert!(is_whole, "{context}"),
                Err(error) => panic!("{context}: {error}"),
            }
            let report = keyless(store);
            assert!(report.is_intact(), "{context}: {:?}", report.findings);
            world().backup_with(store, &options(&site.source)).unwrap();
            assert_restores(&world(), store, "latest", &site.new, context);
        });
    });
}

/// A vault whose header is lost can still be read by the copy in record 0. An init that is not told so must not put another one there.
#[test]
fn an_init_never_covers_a_vault_without_its_header() {
    watched(|beat| {
        let mut objects = Site::new().objects;
        objects.remove("vault").unwrap();
        let run = |store: &dyn ObjectStore| world().init(store);
        sweep(beat, "init over a vault", &BOTH, &objects, run, |store, outcome, fault, context| {
            assert!(outcome.is_err(), "{context}");
            // Of a store that denies what it holds nothing can be learned.
            if fault.is_none_or(|fault| fault.kind != FaultKind::NotFound) {
                assert!(snapshot_of(store) == objects, "{context}: {:?}", store.names());
            }
        });
    });
}

#[test]
fn opening_a_vault_meets_every_fault() {
    watched(|beat| {
        let site = Site::new();
        let head = world().open(&store_from(site.objects.clone())).unwrap().log.head();
        let run = |store: &dyn ObjectStore| world().open(store).map(|vault| vault.log.head());
        let calls = sweep(beat, "open", &BOTH, &site.objects, run, |store, outcome, fault, context| {
            assert_eq!(snapshot_of(store), site.objects, "{context}: opening writes nothing");
            match (outcome, fault.map(|fault| fault.kind)) {
                // A store that hides a record, and what it lists, shows an older log. Without a memory nobody can tell.
                (Ok(_), Some(FaultKind::NotFound)) => {}
                (Ok(opened), _) => assert_eq!(opened, head, "{context}"),
                (Err(error), fault) => assert!(fault.is_some(), "{context}: {error}"),
            }
        });
        assert!(calls < 20, "{calls} calls");
    });
}

/// A host that has seen the head is never shown an older log.
#[test]
fn a_host_with_a_memory_never_opens_an_older_log() {
    watched(|beat| {
        let site = Site::new();
        let healthy = store_from(site.objects.clone());
        let host = World { cache: Some(coffer_engine::Cache::new(&site.cache)), ..world() };
        let head = host.open(&healthy).unwrap().log.head();
        let run = |store: &dyn ObjectStore| host.open(store).map(|vault| vault.log.head());
        sweep(beat, "open with a memory", &BOTH, &site.objects, run, |_, outcome, _, context| {
            assert!(outcome.is_err() || outcome.unwrap() == head, "{context}");
        });
    });
}

#[test]
fn a_restore_meets_every_fault() {
    watched(|beat| {
        let site = Site::new();
        let target = scratch();
        let mut number = 0;
        let run = |store: &dyn ObjectStore| {
            number += 1;
            let place = target.path().join(number.to_string());
            (world().restore(store, "latest", &place), place)
        };
        sweep(beat, "restore", &BOTH, &site.objects, run, |store, (outcome, place), fault, context| {
            assert_eq!(snapshot_of(store), site.objects, "{context}: restoring writes nothing");
            let source = place.join("src");
            match outcome {
                Ok(report) if report.errors.is_empty() => {
                    assert_eq!(report.warnings, Vec::<String>::new(), "{context}");
                    assert_same(&site.old, &tree_of(&source), context);
                }
                outcome => {
                    assert!(fault.is_some(), "{context}: {outcome:?}");
                    // A file that stands there is right.
                    if source.exists() {
                        assert_no_false_file(&site.old, &tree_of(&source), context);
                    }
                }
            }
            if place.exists() {
                fs::remove_dir_all(place).unwrap();
            }
        });
    });
}

#[test]
fn a_keyless_verification_meets_every_fault() {
    watched(|beat| {
        let site = Site::new();
        let run = |store: &dyn ObjectStore| verify(store, &Options::default(), &Silent);
        sweep(beat, "verify", &BOTH, &site.objects, run, |_, outcome, fault, context| {
            match (outcome, fault) {
                (Ok(report), None) => assert!(report.is_clean(), "{context}: {:?}", report.findings),
                (Ok(report), Some(Fault { call_count: None, .. })) => {
                    assert!(
                        !report.is_clean(),
                        "{context}: the last calls all failed, and nothing is wrong?"
                    );
                }
                (Ok(_), Some(_)) => {}
                (Err(error), fault) => assert!(fault.is_some(), "{context}: {error}"),
            }
        });
    });
}
