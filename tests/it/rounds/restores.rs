//! Restore and verification from far away.

use coffer_engine::BackupOptions;
use coffer_store::MemoryStore;
use coffer_verify::{Options, Silent, verify};

use super::super::support::{World, assert_restores, backup_options, scratch, tree_of};
use super::{MIB_CHUNKS, far, grow, grow_large, tell};

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
