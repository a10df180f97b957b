//! Restore and verification from far away.

use std::fs;
use std::time::Duration;

use coffer_engine::{BackupOptions, RestoreOptions, restore};
use coffer_store::MemoryStore;
use coffer_testkit::SlowStore;
use coffer_verify::{Options, Silent, verify};

use super::super::support::{
    Quiet, World, assert_restores, assert_same, backup_options, clone_of, noise, restore_options, scratch,
    tree_of,
};
use super::{IN_FLIGHT, MIB_CHUNKS, far, grow, grow_large, tell};

#[test]
fn frames_are_fetched_side_by_side() {
    let place = scratch();
    let source = place.path().join("src");
    grow_large(&source);
    let (world, store) = (World::new(30), far(MemoryStore::new(), 200));
    world.init_with(store.inner(), MIB_CHUNKS).unwrap();
    let options = BackupOptions { pack_len_target: 1 << 20, ..backup_options(&source) };
    world.backup_with(store.inner(), &options).unwrap();
    let expected = tree_of(&source);
    assert_restores(&world, &store, "latest", &expected, "from far away");
    let counts = store.reset();
    tell("restore of 32 MiB", &counts);
    assert!(counts.in_flight_max >= 8 && counts.rounds <= 20, "{counts:?}");
}

#[test]
fn a_tree_is_read_ahead() {
    let place = scratch();
    let source = place.path().join("src");
    grow(&source, 6000);
    let (world, store) = (World::new(31), far(MemoryStore::new(), 150));
    world.init(store.inner()).unwrap();
    world.backup(store.inner(), &source).unwrap();
    let vault = world.open(&store).unwrap();
    let snapshot = vault.select("latest").unwrap();
    store.reset();
    let mut seen = 0;
    coffer_engine::list(&vault, &snapshot, b"", &mut |entry| {
        entry.unwrap();
        seen += 1;
        Ok(())
    })
    .unwrap();
    assert!(seen > 6000);
    let counts = store.reset();
    tell("listing of 6000 files", &counts);
    assert!(counts.rounds <= 6, "{counts:?}");
}

#[test]
fn packs_are_verified_side_by_side() {
    let place = scratch();
    let source = place.path().join("src");
    grow_large(&source);
    let (world, store) = (World::new(32), far(MemoryStore::new(), 150));
    world.init_with(store.inner(), MIB_CHUNKS).unwrap();
    let options = BackupOptions { pack_len_target: 1 << 20, ..backup_options(&source) };
    world.backup_with(store.inner(), &options).unwrap();
    let report = verify(&store, &Options::default(), &Silent).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let counts = store.reset();
    tell("verification of 32 MiB in packs of 1 MiB", &counts);
    assert!(counts.in_flight_max >= 16 && counts.rounds <= 24, "{counts:?}");
}

#[test]
fn directories_of_packs_are_read_side_by_side() {
    let place = scratch();
    let source = place.path().join("src");
    grow_large(&source);
    let (world, store) = (World::new(33), far(MemoryStore::new(), 200));
    world.init_with(store.inner(), MIB_CHUNKS).unwrap();
    let options = BackupOptions { pack_len_target: 1 << 20, ..backup_options(&source) };
    world.backup_with(store.inner(), &options).unwrap();
    // Without an index segment, only they say where chunks are.
    for name in store.inner().names().iter().filter(|name| name.starts_with("index/")) {
        store.inner().remove_raw(name).unwrap();
    }
    let pack_count = store.inner().names().iter().filter(|name| name.starts_with("packs/")).count();
    assert!(pack_count > 32);
    let target = scratch();
    let report = world.restore(&store, "latest", target.path()).unwrap();
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    assert_same(&tree_of(&source), &tree_of(&target.path().join("src")), "without an index");
    let counts = store.reset();
    tell("restore of 32 MiB by the directories of packs", &counts);
    // Each pack's head comes before its footer, and that before its directory; some packs have to wait for one of the same first byte.
    assert!(counts.rounds <= 28, "{counts:?}");
}

#[test]
fn a_frame_of_many_files_is_fetched_once() {
    const FILE_COUNT: u64 = 3000;
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir_all(&source).unwrap();
    for number in 0..FILE_COUNT {
        fs::write(source.join(format!("file-{number:05}")), noise(number, 300)).unwrap();
    }
    let (world, near) = (World::new(34), MemoryStore::new());
    world.init_with(&near, MIB_CHUNKS).unwrap();
    world.backup(&near, &source).unwrap();
    let expected = tree_of(&source);
    for (worker_count, in_flight) in [(1, 1), (3, 1), (1, IN_FLIGHT), (3, IN_FLIGHT)] {
        let store = SlowStore::new(clone_of(&near), Duration::ZERO, in_flight);
        let vault = world.open(&store).unwrap();
        let snapshot = vault.select("latest").unwrap();
        // So few open files that a job has sixteen of these.
        let options = RestoreOptions { worker_count, open_file_count_max: 64, ..restore_options() };
        let target = scratch();
        let report = restore(&vault, &snapshot, target.path(), &options, &mut Quiet).unwrap();
        assert_eq!((report.file_count, report.errors.len()), (FILE_COUNT, 0));
        assert_same(&expected, &tree_of(&target.path().join("src")), "all files");
        // What is near, each worker reads for itself.
        let fetch_count_max = if in_flight == 1 { worker_count as u64 } else { 1 };
        assert!(report.fetched_bytes <= fetch_count_max << 20, "{} bytes", report.fetched_bytes);
    }
}
