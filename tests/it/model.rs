//! Model: random trees and edits of them, with a backup after each round, against plain copies of what the file system held.
//!
//! Every snapshot restores to exactly its copy, the vault is clean after every step, and the tree is the same whether the backup
//! knew the parent's stat fields, only the parent's entries, or nothing.

use std::fs;

use coffer_crypto::rng::SeededRng;
use coffer_format::header::ChunkerSpec;
use coffer_store::MemoryStore;
use proptest::prelude::*;

use super::support::{
    Body, SMALL_CHUNKS, World, assert_clean, assert_restores, backup_options, clone_of, listed_chunks,
    scratch, tree_of,
};

mod edits;
mod large;

use edits::{Disk, Edit, edit, growth};

/// What differs between runs besides the edits.
#[derive(Debug, Clone)]
struct Shape {
    seed: u64,
    chunker: ChunkerSpec,
    pack_len_target: u64,
    worker_count: usize,
    cached: bool,
    /// Whether progress records are committed on the way.
    progress: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let chunkers = prop_oneof![
        3 => Just(SMALL_CHUNKS),
        1 => Just(ChunkerSpec::Fixed { len: 512 }),
        1 => Just(ChunkerSpec::Pcc { min: 64, bits: 6, max: 1024 }),
    ];
    let packs = prop_oneof![Just(1_u64), Just(65_536), Just(200_000), Just(32 << 20)];
    let workers = prop_oneof![Just(1_usize), Just(3)];
    (0..1000_u64, chunkers, packs, workers, any::<bool>(), any::<bool>()).prop_map(
        |(seed, chunker, pack_len_target, worker_count, cached, progress)| Shape {
            seed,
            chunker,
            pack_len_target,
            worker_count,
            cached,
            progress,
        },
    )
}

fn rounds() -> impl Strategy<Value = Vec<Vec<Edit>>> {
    let first = prop::collection::vec(growth(), 8..24);
    let later = prop::collection::vec(prop::collection::vec(edit(), 0..8), 1..5);
    (first, later).prop_map(|(first, later)| std::iter::once(first).chain(later).collect())
}

fn check(shape: &Shape, rounds: &[Vec<Edit>]) {
    let place = scratch();
    let mut disk = Disk::new(place.path().join("src"));
    let cache = place.path().join("cache");
    let host = if shape.cached { World::with_cache(shape.seed, &cache) } else { World::new(shape.seed) };
    let store = MemoryStore::new();
    host.init_with(&store, shape.chunker).unwrap();
    let mut options = backup_options(disk.root());
    if shape.progress {
        host.clock.set_step(options.progress_interval_ns / 2);
    }
    options.pack_len_target = shape.pack_len_target;
    options.worker_count = shape.worker_count;

    let mut snapshots = Vec::new();
    for (number, round) in rounds.iter().enumerate() {
        let context = format!("after round {number}");
        disk.apply_all(round);
        let expected = tree_of(disk.root());
        let before = clone_of(&store);

        let report = host.backup_with(&store, &options).unwrap();
        assert_eq!(report.errors, [], "{context}");
        assert_eq!(report.changed_count, 0, "{context}: nothing changes meanwhile");
        let statistics = &report.manifest.statistics;
        let files = expected.values().filter(|item| matches!(item.body, Body::File(_))).count();
        assert_eq!(statistics.entry_count, expected.len() as u64, "{context}");
        assert_eq!(statistics.file_count, files as u64, "{context}");

        for force in [false, true] {
            let copy = clone_of(&before);
            let stranger = World { rng: SeededRng::new(!shape.seed), ..World::new(shape.seed) };
            let options = coffer_engine::BackupOptions { force, ..options.clone() };
            let other = stranger.backup_with(&copy, &options).unwrap();
            assert_eq!(other.manifest.root, report.manifest.root, "{context}: force is {force}");
            listed_chunks(&stranger, &copy);
        }

        listed_chunks(&host, &store);
        assert_clean(&host, &store, &context);
        assert_restores(&host, &store, "latest", &expected, &context);
        snapshots.push((report.snapshot, expected));
    }
    for (number, (snapshot, expected)) in snapshots.iter().enumerate() {
        let context = format!("the snapshot of round {number}, in the end");
        assert_restores(&host, &store, &snapshot.to_string(), expected, &context);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_snapshot_restores_to_what_was_there(shape in shape(), rounds in rounds()) {
        check(&shape, &rounds);
    }
}

/// The walk's order and the tree's order are those of components, which plain bytes of paths do not follow.
#[test]
fn names_around_the_slash_keep_their_order() {
    let place = scratch();
    let source = place.path().join("src");
    for dir in ["a", "a!", "a-b", "a0", "a\u{1}"] {
        fs::create_dir_all(source.join(dir).join("x")).unwrap();
        fs::write(source.join(dir).join("x").join("f"), dir).unwrap();
    }
    let (world, store) = (World::new(1), MemoryStore::new());
    world.init(&store).unwrap();
    for round in 0..3 {
        fs::write(source.join("a-b").join("new"), [round]).unwrap();
        let expected = tree_of(&source);
        let report = world.backup(&store, &source).unwrap();
        assert_eq!(report.errors, []);
        assert_clean(&world, &store, "in order");
        assert_restores(&world, &store, "latest", &expected, "in order");
    }
}
