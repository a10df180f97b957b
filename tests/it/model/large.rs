//! Trees with several levels of nodes, and files whose chunk lists have several levels.

use std::fs;
use std::path::Path;

use coffer_engine::{BackupOptions, list};
use coffer_format::header::ChunkerSpec;
use coffer_format::tree::Content;
use coffer_store::MemoryStore;

use super::super::support::{
    SMALL_CHUNKS, World, assert_clean, assert_restores, backup_options, clone_of, noise, scratch, tree_of,
};

const DIR_COUNT: usize = 50;
const FILE_COUNT: usize = 100;

fn grow(source: &Path) {
    for dir in 0..DIR_COUNT {
        let dir = source.join(format!("directory-{dir:03}"));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..FILE_COUNT {
            fs::write(
                dir.join(format!("file-{file:04}")),
                format!("{}/{file}", dir.file_name().unwrap().display()),
            )
            .unwrap();
        }
    }
}

#[test]
fn a_change_in_a_high_tree_costs_its_height() {
    let place = scratch();
    let source = place.path().join("src");
    grow(&source);
    // Where nodes end depends on the key: not with every seed are there two levels above so many leaves.
    let (host, stranger) = (World::with_cache(5, &place.path().join("cache")), World::new(5));
    let store = MemoryStore::new();
    host.init(&store).unwrap();
    let first = host.backup(&store, &source).unwrap().manifest;
    let entry_count = (1 + DIR_COUNT + DIR_COUNT * FILE_COUNT) as u64;
    assert_eq!(first.statistics.entry_count, entry_count);
    assert!(first.root.height >= 2, "the height is {}", first.root.height);

    // Content: one new chunk. Metadata: one leaf, and one node for each level above.
    let levels = u64::from(first.root.height) + 1;
    let mut root = first.root;
    let by_size_and_time =
        BackupOptions { ignore_inode: true, ignore_ctime: true, ..backup_options(&source) };
    let runs = [(&host, backup_options(&source)), (&stranger, by_size_and_time.clone())];
    for (round, (world, options)) in runs.into_iter().enumerate() {
        let again = world.backup_with(&store, &options).unwrap().manifest;
        assert_eq!(again.root, root);
        assert_eq!(again.statistics.unchanged_count, entry_count);
        assert_eq!(again.statistics.new_chunk_count, 0);
        assert_eq!(again.statistics.stored_bytes, 0);
        assert_eq!(again.statistics.read_bytes, 0);

        let changed = source.join("directory-025").join("file-0050");
        fs::write(&changed, noise(round as u64, 200 + round)).unwrap();
        let report = world.backup_with(&store, &options).unwrap().manifest;
        assert_eq!(report.statistics.new_chunk_count, 1 + levels);
        assert_eq!(report.statistics.unchanged_count, entry_count - 1);
        assert_eq!(report.statistics.read_bytes, 200 + round as u64);
        root = report.root;
    }

    // The host remembers stat fields of another snapshot than the newest, which the stranger made: it reads every file, and finds that
    // nothing else has changed. A new file changes its directory's entry too; either may begin another leaf.
    fs::write(source.join("directory-010").join("file-0050x"), noise(9, 200)).unwrap();
    let report = host.backup(&store, &source).unwrap().manifest;
    assert!(report.statistics.new_chunk_count <= 1 + 3 * levels, "{:?}", report.statistics);
    assert_eq!(report.statistics.unchanged_count, entry_count - 1);

    // A directory that is renamed keeps its content: no data chunk is new, and few leaves are.
    fs::rename(source.join("directory-030"), source.join("directory-030-renamed")).unwrap();
    let report = host.backup(&store, &source).unwrap().manifest;
    assert!(report.statistics.new_chunk_count <= 8 + 3 * levels, "{:?}", report.statistics);

    // Among many that go away are some that ended a leaf: their neighbours come into the next one. What the parent's leaves give is what
    // a tree made anew gives.
    for dir in 0..DIR_COUNT {
        for file in (dir % 10..FILE_COUNT).step_by(10) {
            drop(fs::remove_file(source.join(format!("directory-{dir:03}")).join(format!("file-{file:04}"))));
        }
    }
    let copy = clone_of(&store);
    let anew = BackupOptions { force: true, ..backup_options(&source) };
    let anew = stranger.backup_with(&copy, &anew).unwrap().manifest.root;
    let report = stranger.backup_with(&clone_of(&store), &by_size_and_time).unwrap().manifest;
    assert_eq!(report.root, anew, "by the parent's entries");
    let report = host.backup(&store, &source).unwrap().manifest;
    assert_eq!(report.root, anew, "by stat fields");

    assert_clean(&host, &store, "a high tree");
    assert_restores(&host, &store, "latest", &tree_of(&source), "a high tree");
}

/// Backs up one file, changes a byte in its middle and takes it away again; its chunk list has `level` levels above the chunks.
#[track_caller]
fn check_list(chunker: ChunkerSpec, len: usize, level: u8) {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    let file = source.join("file");
    let (world, store) = (World::new(4), MemoryStore::new());
    world.init_with(&store, chunker).unwrap();
    let mut bytes = noise(5, len);
    fs::write(&file, &bytes).unwrap();
    let first = world.backup(&store, &source).unwrap().manifest;
    let mut actual = None;
    {
        let vault = world.open(&store).unwrap();
        let snapshot = vault.select("latest").unwrap();
        list(&vault, &snapshot, b"src/file", &mut |entry| {
            let entry = entry.expect("nothing is damaged");
            if let Content::List { level, rows } = entry.content {
                actual = Some((level, rows.len()));
            }
            Ok(())
        })
        .unwrap();
    }
    assert_eq!(actual.map(|(level, _)| level), Some(level), "{chunker:?}, {len} bytes: {actual:?}");
    let before = tree_of(&source);
    assert_restores(&world, &store, "latest", &before, "a long file");

    bytes[len / 2] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let second = world.backup(&store, &source).unwrap().manifest;
    // Some chunks around the byte, the lists on the way to them, and one leaf.
    let new_chunk_count = second.statistics.new_chunk_count;
    assert!(new_chunk_count <= 6 + 3 * u64::from(level), "{new_chunk_count} new chunks");
    assert!(second.statistics.new_bytes < first.statistics.new_bytes / 2);
    assert_clean(&world, &store, "a long file");
    assert_restores(&world, &store, "latest", &tree_of(&source), "a long file, changed");
    assert_restores(&world, &store, "latest~1", &before, "a long file, before the change");
}

#[test]
fn lists_of_chunks_grow_upwards() {
    let fixed = ChunkerSpec::Fixed { len: 64 };
    check_list(fixed, 64 * 64, 0);
    check_list(fixed, 64 * 64 + 1, 1);
    check_list(SMALL_CHUNKS, 200_000, 1);
    // More than 64 lists of some 1024 chunks each.
    check_list(ChunkerSpec::Pcc { min: 64, bits: 6, max: 320 }, 14 << 20, 2);
}

/// Small files are gathered in a frame; a chunk of the greatest length fills one of its own.
#[test]
fn the_longest_chunk_fits_a_frame_after_small_files() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    for file in 0..19 {
        fs::write(source.join(format!("a-{file:02}")), vec![file; 100_000]).unwrap();
    }
    fs::write(source.join("b"), vec![7; 16 << 20]).unwrap();
    fs::write(source.join("c"), vec![8; 300]).unwrap();
    let (world, store) = (World::new(6), MemoryStore::new());
    world.init_with(&store, ChunkerSpec::Fixed { len: 16 << 20 }).unwrap();
    world.backup(&store, &source).unwrap();
    assert_clean(&world, &store, "the longest chunk");
    assert_restores(&world, &store, "latest", &tree_of(&source), "the longest chunk");
}
