//! What is stored once, and what is stored again because the vault does not have it any more.

use std::fs;

use coffer_engine::BackupOptions;
use coffer_store::MemoryStore;

use crate::support::{World, assert_clean, assert_restores, backup_options, noise, scratch, tree_of};

/// Progress records list packs that a forced backup has stored itself: these are there.
#[test]
fn a_forced_backup_stores_nothing_twice_behind_its_progress_records() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    for name in ["a", "b", "c"] {
        fs::write(source.join(name), noise(1, 9 << 20)).unwrap();
    }
    let options = BackupOptions { force: true, ..backup_options(&source) };
    let [without, with] = [0, 1_000_000_000_000].map(|step_ns| {
        let (world, store) = (World::new(32), MemoryStore::new());
        world.init(&store).unwrap();
        world.clock.set_step(step_ns);
        let report = world.backup_with(&store, &options).unwrap();
        assert_eq!(report.progress_count > 0, step_ns > 0);
        assert_clean(&world, &store, "after progress records");
        (report.manifest.statistics.new_chunk_count, report.manifest.statistics.new_bytes)
    });
    assert_eq!(with, without);
}

/// A chunk that cannot be looked up ends an attempt; what was gathered before it is kept, and nothing beside.
#[test]
fn what_was_stored_before_an_index_segment_turned_out_damaged_is_kept() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    // Long enough not to stand in their entries, short enough to be read straight into a frame.
    for number in 0..1000 {
        fs::write(source.join(format!("{number:04}")), noise(number, 200)).unwrap();
    }
    let (world, store) = (World::new(33), MemoryStore::new());
    world.init(&store).unwrap();
    world.backup(&store, &source).unwrap();
    let segment = store.names().into_iter().find(|name| name.starts_with("index/")).unwrap();
    // In the last page of the chunk table: only those chunks cannot be looked up whose ids are high.
    let mut bytes = store.raw(&segment).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    store.insert_raw(&segment, bytes);

    for number in 0..1000 {
        fs::write(source.join(format!("{number:04}")), noise(5000 + number, 200)).unwrap();
    }
    let records = |store: &MemoryStore| store.names().iter().filter(|name| name.starts_with("log/")).count();
    let before = records(&store);
    let options = BackupOptions { force: true, ..backup_options(&source) };
    let report = world.backup_with(&store, &options).unwrap();
    assert_eq!(report.error_count, 0);
    assert_eq!(records(&store), before + 2, "a progress record for the first attempt, and the snapshot");
    assert!(report.manifest.statistics.new_chunk_count < 1001, "some were stored by the first attempt");
    assert_restores(&world, &store, "latest", &tree_of(&source), "with a damaged segment");
}
