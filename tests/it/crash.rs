//! Crash: the process stops at every write of the store, before and after its effect.
//!
//! Whatever was on its way, the vault opens, earlier snapshots are what they were, nothing but residue is left, and the next run
//! completes, from the same host and from one that remembers nothing, without storing again what a progress record has named.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use coffer_engine::{BackupOptions, EngineError, InitOptions, init};
use coffer_format::header::{ChunkerSpec, StoreMode};
use coffer_format::id::SnapshotId;
use coffer_keys::{KeyFile, RootKey};
use coffer_store::MemoryStore;
use coffer_testkit::copy::Objects;
use coffer_testkit::copy::{snapshot_of, store_from};
use coffer_testkit::{CrashMoment, CrashingStore, RecordingStore};
use tempfile::TempDir;

use super::support::{
    SMALL_CHUNKS, Tree, World, assert_clean, assert_restores, backup_options, clone_of, keyless,
    listed_chunks, noise, scratch, tree_of,
};

/// Each file of this length is a chunk, a frame and, with the options below, a pack of its own.
const CHUNK_LEN: u32 = 1 << 20;
const SEED: u64 = 77;

/// One second for each look at the clock, and a progress record after every fourth.
const STEP_NS: u64 = 1_000_000_000;

/// Whether progress records are committed on the way. What they name depends on how far the worker is; without them every run makes
/// the same writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Never,
    Often,
}

/// A host at work: a source, and what is remembered between runs.
struct Site {
    place: TempDir,
    source: PathBuf,
}

impl Site {
    fn new() -> Self {
        let place = scratch();
        let source = place.path().join("src");
        fs::create_dir(&source).unwrap();
        Self { place, source }
    }

    /// Writes a file of one chunk, which compresses well.
    fn put(&self, name: &str, seed: u64) {
        let bytes = noise(seed, 1024).repeat(CHUNK_LEN as usize / 1024);
        fs::write(self.source.join(name), bytes).unwrap();
    }

    fn options(&self, progress: Progress) -> BackupOptions {
        let mut options = backup_options(&self.source);
        options.pack_len_target = 1;
        options.progress_interval_ns = match progress {
            Progress::Never => u64::MAX,
            Progress::Often => 4 * STEP_NS,
        };
        options
    }

    fn cache(&self) -> PathBuf {
        self.place.path().join("cache")
    }
}

fn world(cache: Option<&Path>) -> World {
    let world = cache.map_or_else(|| World::new(SEED), |cache| World::with_cache(SEED, cache));
    world.clock.set_step(STEP_NS);
    // Randomness does not repeat from one process to the next.
    World { rng: coffer_crypto::rng::SeededRng::new(fresh_seed()), ..world }
}

fn fresh_seed() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1 << 32);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let Ok(children) = fs::read_dir(from) else { return };
    for child in children {
        let child = child.unwrap();
        let to = to.join(child.file_name());
        if child.file_type().unwrap().is_dir() {
            copy_dir(&child.path(), &to);
        } else {
            fs::copy(child.path(), to).unwrap();
        }
    }
}

/// What a vault held before the run that crashes.
struct Before {
    objects: Objects,
    snapshots: Vec<(SnapshotId, Tree)>,
}

/// What the crashes led to, over all of them.
#[derive(Default)]
struct Seen {
    crash_count: u64,
    /// After how many of them a progress record had named something.
    progress_count: u64,
    /// After how many of them the snapshot was there, though nobody was told.
    committed_count: u64,
}

/// Backs up `site` with a crash at every write in turn, and carries on from each.
fn check(site: &Site, before: &Before, progress: Progress) -> Seen {
    let mut seen = Seen::default();
    let now = tree_of(&site.source);
    for crash_at in 0.. {
        let mut crashed = false;
        for moment in CrashMoment::ALL {
            let context = format!("crash at write {crash_at}, {moment:?}");
            let cache = scratch();
            copy_dir(&site.cache(), cache.path());
            let store = CrashingStore::new(store_from(before.objects.clone()), crash_at, moment);
            let outcome = world(Some(cache.path())).backup_with(&store, &site.options(progress));
            assert_eq!(outcome.is_err(), store.is_crashed(), "{context}: {outcome:?}");
            if !store.is_crashed() {
                continue;
            }
            crashed = true;
            seen.crash_count += 1;
            check_after(site, before, &now, store.inner(), cache.path(), &mut seen, &context);
        }
        if !crashed {
            break;
        }
    }
    seen
}

/// Looks at what a crash has left, and carries on from it.
fn check_after(
    site: &Site,
    before: &Before,
    now: &Tree,
    left: &MemoryStore,
    cache: &Path,
    seen: &mut Seen,
    context: &str,
) {
    let report = keyless(left);
    assert!(report.is_clean(), "{context}: {:?}", report.findings);
    assert_clean(&world(None), left, context);
    let committed = report.counts.snapshots - before.snapshots.len() as u64;
    assert!(committed <= 1, "{context}");
    seen.committed_count += committed;
    for (snapshot, expected) in &before.snapshots {
        assert_restores(&world(None), left, &snapshot.to_string(), expected, context);
    }
    let named = listed_chunks(&world(None), left);
    let earlier = listed_chunks(&world(None), &store_from(before.objects.clone()));
    seen.progress_count += u64::from(named.len() > earlier.len() && committed == 0);
    let residue: BTreeSet<String> = report.residue.into_iter().map(|residue| residue.name).collect();
    let known: BTreeSet<String> = left.names().into_iter().collect();

    for cache in [Some(cache), None] {
        let context =
            format!("{context}, then from {}", if cache.is_some() { "the host" } else { "another" });
        let store = RecordingStore::new(clone_of(left));
        let report = world(cache).backup_with(&store, &site.options(Progress::Often)).unwrap();
        assert_eq!(report.errors, [], "{context}");
        assert_restores(&world(None), &store, &report.snapshot.to_string(), now, &context);
        assert_restores(&world(None), &store, "latest", now, &context);
        for (snapshot, expected) in &before.snapshots {
            assert_restores(&world(None), &store, &snapshot.to_string(), expected, &context);
        }
        assert_clean(&world(None), &store, &context);

        // Chunks in two live segments would have been found here: what was named is not stored again.
        let listed = listed_chunks(&world(None), &store);
        let new_bytes: u64 = listed
            .iter()
            .filter(|(prefix, _)| !named.contains_key(*prefix))
            .map(|(_, chunk)| u64::from(chunk.len))
            .sum();
        assert_eq!(report.manifest.statistics.new_bytes, new_bytes, "{context}");
        // Nothing is relied upon that no record names: the residue of the crash stays residue.
        let after = keyless(&store);
        let still: BTreeSet<String> = after.residue.into_iter().map(|residue| residue.name).collect();
        assert_eq!(still, residue, "{context}");
        let written = store.snapshot().written;
        assert!(written.iter().all(|name| !known.contains(name)), "{context}");
        if committed == 1 {
            assert_eq!(written.len(), 1, "{context}: all was there, but for the record of this run");
        }
    }
}

#[test]
fn a_first_backup_stops_at_every_write() {
    let site = Site::new();
    for file in 0..6 {
        site.put(&format!("large-{file}"), file);
        fs::write(site.source.join(format!("small-{file}")), noise(100 + file, 3000)).unwrap();
    }
    // What was named meanwhile is met again.
    site.put("the-first-again", 0);
    let store = MemoryStore::new();
    let host = World::with_cache(SEED, &site.cache());
    host.init_with(&store, ChunkerSpec::Fixed { len: CHUNK_LEN }).unwrap();
    let before = Before { objects: snapshot_of(&store), snapshots: Vec::new() };
    // Six packs of large chunks, one of small ones, one of metadata, a segment, a record: each before and after.
    let seen = check(&site, &before, Progress::Never);
    assert_eq!((seen.crash_count, seen.progress_count, seen.committed_count), (2 * 10, 0, 1));
    let seen = check(&site, &before, Progress::Often);
    assert!(seen.crash_count > 2 * 10, "{} crashes", seen.crash_count);
    assert!(seen.progress_count >= 4, "after {} of them something was named", seen.progress_count);
}

#[test]
fn an_incremental_backup_stops_at_every_write() {
    let site = Site::new();
    for file in 0..5 {
        site.put(&format!("large-{file}"), file);
        fs::write(site.source.join(format!("small-{file}")), noise(100 + file, 3000)).unwrap();
    }
    let store = MemoryStore::new();
    let host = world(Some(&site.cache()));
    host.init_with(&store, ChunkerSpec::Fixed { len: CHUNK_LEN }).unwrap();
    let mut snapshots = Vec::new();
    let expected = tree_of(&site.source);
    snapshots.push((host.backup_with(&store, &site.options(Progress::Often)).unwrap().snapshot, expected));
    fs::remove_file(site.source.join("small-4")).unwrap();
    let expected = tree_of(&site.source);
    snapshots.push((host.backup_with(&store, &site.options(Progress::Often)).unwrap().snapshot, expected));

    site.put("large-1", 51);
    site.put("large-3", 53);
    site.put("new-0", 60);
    site.put("new-1", 61);
    site.put("new-1-again", 61);
    site.put("old-0-again", 0);
    fs::rename(site.source.join("large-4"), site.source.join("moved")).unwrap();
    fs::write(site.source.join("small-2"), noise(200, 3000)).unwrap();
    let before = Before { objects: snapshot_of(&store), snapshots };
    // Four packs of large chunks (one file has moved), one of a small chunk, one of metadata, a segment, a record.
    let seen = check(&site, &before, Progress::Never);
    assert_eq!((seen.crash_count, seen.progress_count, seen.committed_count), (2 * 8, 0, 1));
    let seen = check(&site, &before, Progress::Often);
    assert!(seen.crash_count > 2 * 8, "{} crashes", seen.crash_count);
    assert!(seen.progress_count >= 2, "after {} of them something was named", seen.progress_count);
}

const INIT_OPTIONS: InitOptions =
    InitOptions { chunker: SMALL_CHUNKS, store_mode: StoreMode::ConditionalCreate };

/// A crash in init leaves nothing or an unfinished vault, which the same key completes and another key leaves alone.
#[test]
fn an_init_stops_at_every_write() {
    let second = KeyFile::generate(&world(None).rng).unwrap();
    let other = KeyFile::generate(&world(None).rng).unwrap();
    let mut crash_count = 0;
    for crash_at in 0..10 {
        for moment in CrashMoment::ALL {
            let context = format!("crash at write {crash_at}, {moment:?}");
            let store = CrashingStore::new(MemoryStore::new(), crash_at, moment);
            let host = world(None);
            let roots: [(&dyn RootKey, String); 2] =
                [(&host.key, "first".to_owned()), (&second, "second".to_owned())];
            let outcome = init(&host.access(&store), &roots, &INIT_OPTIONS);
            assert_eq!(outcome.is_err(), store.is_crashed(), "{context}");
            if !store.is_crashed() {
                continue;
            }
            crash_count += 1;
            let left = store.inner();
            let has_header = left.raw("vault").is_some();
            let is_whole = left.raw("log/000000000000").is_some();

            let foreign: [(&dyn RootKey, String); 1] = [(&other, String::new())];
            let names = left.names();
            if has_header {
                let outcome = init(&host.access(left), &foreign, &INIT_OPTIONS);
                assert!(
                    match outcome {
                        Err(EngineError::Unfinished { .. }) => !is_whole,
                        Err(EngineError::VaultExists { .. }) => is_whole,
                        _ => false,
                    },
                    "{context}"
                );
                assert_eq!(left.names(), names, "{context}: another key changes nothing");
            }
            if !is_whole {
                let outcome = world(None).open(left).unwrap_err();
                assert!(
                    match outcome {
                        EngineError::Unfinished { .. } => has_header,
                        EngineError::NoVault { .. } => !has_header,
                        _ => false,
                    },
                    "{context}: {outcome:?}"
                );
            }

            let outcome = init(&world(None).access(left), &roots, &INIT_OPTIONS);
            if is_whole {
                assert!(matches!(outcome, Err(EngineError::VaultExists { .. })), "{context}: {outcome:?}");
            } else {
                let created = outcome.unwrap();
                assert_eq!(created.resumed, has_header, "{context}");
                assert_eq!(created.slots.len(), 2, "{context}: no slot twice");
            }
            check_usable(&world(None), left, &context);
            let vault = coffer_engine::Vault::open(host.access(left), &second, None).map(|vault| vault.id());
            vault.unwrap();
            // Slots of a vault that never came to be mean nothing; they are said to be there, and harm nothing.
            let report = keyless(left);
            assert!(report.is_intact(), "{context}: {:?}", report.findings);
            assert!(report.findings.iter().all(|finding| finding.object.starts_with("slots/")), "{context}");
            let nothing_was_left = has_header || names.iter().all(|name| name == "store");
            assert_eq!(report.is_clean(), nothing_was_left, "{context}: {:?}", report.findings);
        }
    }
    assert_eq!(crash_count, 2 * 5, "id, two slots, header, record");
}

/// A backup and its restore work.
fn check_usable(world: &World, store: &MemoryStore, context: &str) {
    let site = Site::new();
    fs::write(site.source.join("file"), noise(9, 5000)).unwrap();
    world.backup(store, &site.source).unwrap();
    assert_restores(world, store, "latest", &tree_of(&site.source), context);
}

/// What is done to the key slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Add,
    Replace,
    Revoke,
}

#[test]
fn a_change_of_key_slots_stops_at_every_write() {
    let second = KeyFile::generate(&world(None).rng).unwrap();
    let third = KeyFile::generate(&world(None).rng).unwrap();
    for change in [Change::Add, Change::Replace, Change::Revoke] {
        let mut crash_count = 0;
        for crash_at in 0..4 {
            for moment in CrashMoment::ALL {
                let context = format!("{change:?}, crash at write {crash_at}, {moment:?}");
                let host = world(None);
                let base = MemoryStore::new();
                host.init(&base).unwrap();
                let (old, _) = host.open(&base).unwrap().add_slot(&second, "second").unwrap();
                let apply = |store: &dyn coffer_store::ObjectStore| {
                    let mut vault = host.open(store).unwrap();
                    match change {
                        Change::Add => vault.add_slot(&third, "third").map(drop),
                        Change::Replace => vault.replace_slot(old, &third, "third").map(drop),
                        Change::Revoke => vault.revoke_slot(old).map(drop),
                    }
                };
                let store = CrashingStore::new(base, crash_at, moment);
                let outcome = apply(&store);
                assert_eq!(outcome.is_err(), store.is_crashed(), "{context}: {outcome:?}");
                if !store.is_crashed() {
                    continue;
                }
                crash_count += 1;
                let left = store.inner();
                let opens = |key: &KeyFile| coffer_engine::Vault::open(host.access(left), key, None).is_ok();
                let is_done = host.open(left).unwrap().state().next == 3;
                // All of the change, or nothing.
                let is_last = crash_at == if change == Change::Revoke { 0 } else { 1 };
                assert_eq!(is_done, is_last && moment == CrashMoment::After, "{context}");
                assert_eq!(opens(&second), change == Change::Add || !is_done, "{context}");
                assert_eq!(opens(&third), change != Change::Revoke && is_done, "{context}");
                let report = keyless(left);
                assert!(report.is_clean(), "{context}: {:?}", report.findings);
                check_usable(&host, left, &context);
                // It can be asked for again: done already, or done now.
                let again = apply(left);
                match again {
                    Ok(()) => assert!(!is_done || change == Change::Add, "{context}"),
                    Err(EngineError::Invalid { .. }) => assert!(is_done, "{context}"),
                    Err(error) => panic!("{context}: {error}"),
                }
                assert_eq!(opens(&third), change != Change::Revoke, "{context}");
                check_usable(&host, left, &context);
            }
        }
        assert_eq!(crash_count, if change == Change::Revoke { 2 } else { 4 });
    }
}
