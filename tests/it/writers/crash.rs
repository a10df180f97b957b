//! A writer's backup stops at every write of the store. Nothing that was acknowledged is lost, and the next run carries on, with what the
//! machine remembers and without.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use coffer_crypto::rng::SeededRng;
use coffer_store::MemoryStore;
use coffer_testkit::copy::{snapshot_of, store_from};
use coffer_testkit::{CrashMoment, CrashingStore, RecordingStore};

use super::{Host, backup_in, fresh_seed, grant, grow, owned};
use crate::support::{
    Tree, World, assert_clean, assert_restores, clone_of, keyless, noise, scratch, tree_of,
};

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for child in fs::read_dir(from).into_iter().flatten() {
        let child = child.unwrap();
        let to = to.join(child.file_name());
        if child.file_type().unwrap().is_dir() {
            copy_dir(&child.path(), &to)
        } else {
            fs::copy(child.path(), to).map(drop).unwrap()
        }
    }
}

fn process(cache: &Path) -> World {
    let world = World { rng: SeededRng::new(fresh_seed()), ..World::with_cache(1, cache) };
    world.clock.set_step(1_000_000_000);
    world
}

/// A crash at every write of a backup of `host`, before and after its effect. Returns how many there were, and after how many of them the
/// snapshot was there.
fn check(
    owner: &World,
    host: &Host,
    store: &MemoryStore,
    earlier: Option<&Tree>,
    is_progressing: bool,
) -> (u64, u64) {
    let (before, now) = (snapshot_of(store), tree_of(&host.source()));
    let mut options = host.options();
    options.pack_len_target = 1;
    options.progress_interval_ns = if is_progressing { 4_000_000_000 } else { u64::MAX };
    let (mut crash_count, mut committed_count) = (0, 0);
    for crash_at in 0.. {
        let mut has_crashed = false;
        for moment in CrashMoment::ALL {
            let context = format!("crash at write {crash_at}, {moment:?}");
            let cache = scratch();
            copy_dir(&host.cache(), cache.path());
            let crashing = CrashingStore::new(store_from(before.clone()), crash_at, moment);
            let outcome = backup_in(&process(cache.path()), &host.credential, &crashing, &options);
            assert_eq!(outcome.is_err(), crashing.is_crashed(), "{context}");
            if !crashing.is_crashed() {
                continue;
            }
            (has_crashed, crash_count) = (true, crash_count + 1);
            let left = crashing.inner();
            let report = keyless(left);
            assert!(report.is_clean(), "{context}: {:?}", report.findings);
            assert_clean(owner, left, &context);
            let committed = report.counts.snapshots - u64::from(earlier.is_some());
            committed_count += committed;
            if let Some(earlier) = earlier {
                assert_restores(owner, left, &format!("latest~{committed}"), earlier, &context);
            }
            let residue: BTreeSet<_> = report.residue.into_iter().map(|residue| residue.name).collect();
            let empty = scratch();
            for cache in [cache.path(), empty.path()] {
                let recording = RecordingStore::new(clone_of(left));
                let (report, _) = backup_in(&process(cache), &host.credential, &recording, &options).unwrap();
                assert_eq!(report.errors, [], "{context}");
                assert_restores(owner, &recording, "latest", &now, &context);
                assert_clean(owner, &recording, &context);
                let still: BTreeSet<_> =
                    keyless(&recording).residue.into_iter().map(|residue| residue.name).collect();
                assert_eq!(still, residue, "{context}: nothing is relied upon that no record names");
                if committed == 1 {
                    assert_eq!(recording.snapshot().written.len(), 1, "{context}: all was there");
                }
            }
        }
        if !has_crashed {
            return (crash_count, committed_count);
        }
    }
    unreachable!("a backup ends")
}

#[test]
fn a_first_backup_stops_at_every_write() {
    let (owner, store) = owned(110);
    let host = Host::new(grant(&owner, &store, "web-1", None), 111);
    for file in 0..4 {
        fs::write(host.source().join(format!("file-{file}")), noise(file, 1500)).unwrap();
    }
    let (crashes, committed) = check(&owner, &host, &store, None, false);
    // Packs of data and of metadata, a segment, a record: before and after.
    assert!(crashes >= 2 * 4, "{crashes}");
    assert_eq!(committed, 1);
}

#[test]
fn a_later_backup_stops_at_every_write() {
    let (owner, store) = owned(112);
    let host = Host::new(grant(&owner, &store, "web-1", None), 113);
    grow(&host.source());
    host.backup(&store).unwrap();
    let earlier = tree_of(&host.source());
    fs::write(host.source().join("b/deep/file-0005"), noise(500, 900)).unwrap();
    fs::write(host.source().join("b/deep/file-0002"), b"tiny").unwrap();
    fs::remove_dir_all(host.source().join("a")).unwrap();
    let (crashes, committed) = check(&owner, &host, &store, Some(&earlier), false);
    assert!(crashes >= 2 * 3, "{crashes}");
    assert_eq!(committed, 1);
    let (crashes, _) = check(&owner, &host, &store, Some(&earlier), true);
    assert!(crashes >= 2 * 3, "{crashes}");
}
