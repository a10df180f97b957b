//! Backups of what has not changed, and of what is new.

use std::fs;
use std::time::Duration;

use coffer_engine::BackupOptions;
use coffer_store::MemoryStore;
use coffer_testkit::{Fault, FaultKind, FaultMoment, FaultyStore, SlowStore};

use super::super::support::{World, assert_restores, backup_options, noise, scratch, tree_of};
use super::{IN_FLIGHT, MIB_CHUNKS, far, grow, grow_large, tell};

#[test]
fn an_unchanged_backup_costs_few_requests_whatever_the_number_of_files() {
    for (round, count) in [200, 2000, 8000].into_iter().enumerate() {
        let place = scratch();
        let source = place.path().join("src");
        grow(&source, count);
        let host = World::with_cache(10 + round as u64, &place.path().join("cache"));
        let store = far(MemoryStore::new(), 100);
        host.init(&store).unwrap();
        host.backup(&store, &source).unwrap();
        store.reset();
        host.backup(&store, &source).unwrap();
        tell(&format!("{count} files unchanged, nothing of the tree kept"), &store.reset());
        for _ in 0..2 {
            let report = host.backup(&store, &source).unwrap();
            assert_eq!(report.manifest.statistics.read_bytes, 0);
            let counts = store.reset();
            tell(&format!("{count} files unchanged, all kept"), &counts);
            assert!(counts.lists <= 2 && counts.gets <= 5 && counts.puts <= 3, "{counts:?}");
            assert_eq!((counts.stats, counts.puts), (0, 1), "{counts:?}");
            assert!(counts.rounds <= 6, "{counts:?}");
        }
        assert_restores(&host, &store, "latest", &tree_of(&source), "after all");
    }
}

#[test]
fn what_is_kept_may_go_at_any_time() {
    let place = scratch();
    let source = place.path().join("src");
    grow(&source, 300);
    let cache = place.path().join("cache");
    let host = World::with_cache(20, &cache);
    let store = far(MemoryStore::new(), 0);
    let vault_id = host.init(&store).unwrap();
    for round in 0..6_u64 {
        fs::write(source.join("changes"), noise(1000 + round, 900)).unwrap();
        host.backup(&store, &source).unwrap();
        let objects = cache.join("vaults").join(vault_id.to_string()).join("objects");
        if round % 2 == 0 {
            // All of it, or every other file garbled.
            drop(fs::remove_dir_all(&objects));
            continue;
        }
        for shelf in fs::read_dir(&objects).unwrap() {
            for file in fs::read_dir(shelf.unwrap().path()).unwrap().step_by(2) {
                fs::write(file.unwrap().path(), b"garbled").unwrap();
            }
        }
    }
    let report = host.backup(&store, &source).unwrap();
    assert_eq!(report.manifest.statistics.read_bytes, 0);
    assert_restores(&host, &store, "latest", &tree_of(&source), "with a memory that lies");
}

#[test]
fn many_index_segments_are_opened_side_by_side() {
    let place = scratch();
    let source = place.path().join("src");
    grow(&source, 40);
    let (world, store) = (World::new(21), far(MemoryStore::new(), 100));
    world.init(store.inner()).unwrap();
    for round in 0..60_u64 {
        fs::write(source.join("changes"), noise(2000 + round, 900)).unwrap();
        world.backup(store.inner(), &source).unwrap();
    }
    let target = scratch();
    world.restore(&store, "latest", target.path()).unwrap();
    let counts = store.reset();
    tell("restore by a stranger from 60 index segments", &counts);
    assert_eq!(counts.stats, 0);
    assert!(counts.rounds <= 24, "{counts:?}");
}

#[test]
fn packs_are_stored_side_by_side() {
    let place = scratch();
    let source = place.path().join("src");
    grow_large(&source);
    let (world, store) = (World::new(22), far(MemoryStore::new(), 500));
    world.init_with(store.inner(), MIB_CHUNKS).unwrap();
    let options = BackupOptions { pack_len_target: 1 << 20, worker_count: 2, ..backup_options(&source) };
    world.backup_with(&store, &options).unwrap();
    let counts = store.reset();
    tell("backup of 32 MiB in packs of 1 MiB", &counts);
    assert!(counts.puts >= 34 && counts.in_flight_max >= 6, "{counts:?}");
    // Whatever was under way, segment and record came after all packs.
    assert_restores(&world, store.inner(), "latest", &tree_of(&source), "all of it");
}

#[test]
fn many_workers_share_few_packs() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir_all(&source).unwrap();
    for file in 0..12_u64 {
        fs::write(source.join(format!("file-{file:02}")), noise(file, 1 << 20)).unwrap();
    }
    // There is memory for two packs of that length, so workers wait for each other.
    let options = BackupOptions { pack_len_target: 64 << 20, worker_count: 8, ..backup_options(&source) };
    let expected = tree_of(&source);
    for in_flight in [1, IN_FLIGHT] {
        let (world, store) = (World::new(23), FaultyStore::new(MemoryStore::new(), []));
        let store = SlowStore::new(store, Duration::from_millis(2), in_flight);
        world.init_with(&store, MIB_CHUNKS).unwrap();
        // None of them waits for ever when the store fails, as it is opened or as it gets its packs.
        let mut first_call = 0;
        loop {
            store.inner().set_plan([Fault::forever(first_call, FaultMoment::Before, FaultKind::NoSpace)]);
            if world.backup_with(&store, &options).is_ok() {
                break;
            }
            first_call += 1;
        }
        assert!(first_call > 4, "{first_call} calls");
        store.inner().set_plan([]);
        assert_restores(&world, &store, "latest", &expected, "what many workers stored");
    }
}
