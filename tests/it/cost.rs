//! Cost: how many calls of the store, and how many bytes, the common operations make. A change here is a change users pay for.

use std::fs;
use std::path::Path;

use coffer_engine::{BackupOptions, InitOptions, RestoreOptions, init, restore};
use coffer_format::header::{ChunkerSpec, StoreMode};
use coffer_keys::{KeyFile, RootKey};
use coffer_store::MemoryStore;
use coffer_testkit::{Recording, RecordingStore};

use super::support::{
    Quiet, SMALL_CHUNKS, World, assert_restores, backup_options, noise, restore_options, scratch, tree_of,
};

type Store = RecordingStore<MemoryStore>;

/// Some directories with files of all sizes.
fn grow(source: &Path) {
    for dir in 0..6_u64 {
        let place = source.join(format!("dir-{dir}"));
        fs::create_dir_all(&place).unwrap();
        for file in 0..40_u64 {
            let len = usize::try_from((file * file * 7) % 9000).unwrap();
            fs::write(place.join(format!("file-{file}")), noise(dir * 100 + file, len)).unwrap();
        }
    }
}

/// Options of a host that remembers, or of one that lets size and time decide.
fn options_of(source: &Path, is_blind: bool) -> BackupOptions {
    BackupOptions { ignore_inode: is_blind, ignore_ctime: is_blind, ..backup_options(source) }
}

/// Which kinds of objects were created.
fn written(recording: &Recording) -> [usize; 3] {
    ["packs/", "index/", "log/"].map(|prefix| recording.written_under(prefix).len())
}

#[track_caller]
fn check_only(recording: &Recording, packs: usize, segments: usize, records: usize) {
    assert_eq!(written(recording), [packs, segments, records], "{:?}", recording.written);
    assert_eq!(recording.written.len(), packs + segments + records, "nothing else is created");
    assert_eq!(recording.put_count, recording.written.len() as u64, "nothing is tried in vain");
    assert_eq!(recording.delete_count, 0);
}

#[test]
fn init_costs_four_objects() {
    let (world, store) = (World::new(1), Store::new(MemoryStore::new()));
    world.init(&store).unwrap();
    let recording = store.reset();
    assert_eq!(recording.written.len(), 4, "{:?}", recording.written);
    assert_eq!(recording.put_count, 4);
    assert_eq!(recording.written[0], "store");
    assert!(recording.written[1].starts_with("slots/"));
    assert_eq!(recording.written[2..], ["vault", "log/000000000000"]);
    assert_eq!(recording.stat_count, 2, "is there a header, is there a record");
    assert_eq!((recording.read_count, recording.read_range_count), (0, 0));
    assert_eq!((recording.list_count, recording.delete_count), (3, 0), "is anything left of a lost vault");

    // Each further slot is one object more.
    let (world, store) = (World::new(1), Store::new(MemoryStore::new()));
    let other = KeyFile::generate(&world.rng).unwrap();
    let roots: [(&dyn RootKey, String); 2] = [(&world.key, String::new()), (&other, String::new())];
    let options = InitOptions { chunker: SMALL_CHUNKS, store_mode: StoreMode::ConditionalCreate };
    init(&world.access(&store), &roots, &options).unwrap();
    assert_eq!(store.reset().put_count, 5);

    // On a vault it writes nothing.
    world.init(&store).unwrap_err();
    let recording = store.reset();
    assert_eq!((recording.put_count, recording.delete_count), (0, 0));
}

#[test]
fn an_unchanged_backup_costs_one_record() {
    let place = scratch();
    let source = place.path().join("src");
    grow(&source);
    let (host, stranger) = (World::with_cache(2, &place.path().join("cache")), World::new(2));
    let store = Store::new(MemoryStore::new());
    host.init(&store).unwrap();
    host.backup(&store, &source).unwrap();
    let all = store.reset().written_bytes;

    // A stranger who lets size and time decide reads nothing either.
    for (number, world, is_blind) in [(2, &host, false), (3, &stranger, true)] {
        let report = world.backup_with(&store, &options_of(&source, is_blind)).unwrap();
        assert_eq!(report.head.number, number);
        assert_eq!(report.manifest.statistics.read_bytes, 0, "no file is read");
        let recording = store.reset();
        check_only(&recording, 0, 0, 1);
        assert_eq!(recording.written, [format!("log/{number:012}")]);
        assert!(recording.written_bytes < 4096, "{} bytes", recording.written_bytes);
        assert_eq!(
            recording.list_count, 2,
            "what lies beyond the head: when the log is read, and before the commit"
        );
        // Header, slot, each record, the parent's once more for its manifest, and the number that is not there yet, at the end of
        // the log.
        assert_eq!(recording.read_count, 4 + number, "of {number} records");
        // The beginning of the index segment, twice (what is new is looked up apart from what is read); the pages of the chunk table it
        // needs; of the pack its head, and frames with metadata. How many pages is up to the ids.
        assert!(recording.read_range_count <= 14, "{} ranges", recording.read_range_count);
        assert_eq!(recording.stat_count, 0, "the log says how long the index segment is");
        assert!(recording.read_bytes < all / 4, "{} of {all} bytes", recording.read_bytes);
    }
}

#[test]
fn a_changed_small_file_costs_a_pack_a_segment_and_a_record() {
    let place = scratch();
    let source = place.path().join("src");
    grow(&source);
    let (host, stranger) = (World::with_cache(3, &place.path().join("cache")), World::new(3));
    let store = Store::new(MemoryStore::new());
    host.init(&store).unwrap();
    host.backup(&store, &source).unwrap();
    store.reset();

    for (round, (world, is_blind)) in [(&host, false), (&stranger, true)].into_iter().enumerate() {
        fs::write(source.join("dir-3").join("file-7"), noise(1000, 300 + round)).unwrap();
        let report = world.backup_with(&store, &options_of(&source, is_blind)).unwrap();
        let recording = store.reset();
        check_only(&recording, 1, 1, 1);
        // The order is the promise: nothing is named before it is there.
        let kinds: Vec<_> = recording.written.iter().map(|name| name.split('/').next().unwrap()).collect();
        assert_eq!(kinds, ["packs", "index", "log"]);
        assert_eq!(report.manifest.statistics.read_bytes, 300 + round as u64, "one file is read");
        assert!(recording.written_bytes < 80_000, "a padded pack and little more");
        assert!(recording.call_count() <= 44, "{recording:?}");
    }
}

#[test]
fn a_changed_inline_file_costs_no_more() {
    let place = scratch();
    let source = place.path().join("src");
    grow(&source);
    let (world, store) = (World::new(4), Store::new(MemoryStore::new()));
    world.init(&store).unwrap();
    world.backup(&store, &source).unwrap();
    store.reset();
    fs::write(source.join("dir-3").join("file-1"), b"short").unwrap();
    let report = world.backup(&store, &source).unwrap();
    check_only(&store.reset(), 1, 1, 1);
    let levels = u64::from(report.manifest.root.height) + 1;
    assert_eq!(report.manifest.statistics.new_chunk_count, levels, "metadata alone");
}

#[test]
fn a_copy_costs_metadata_alone() {
    let place = scratch();
    let source = place.path().join("src");
    grow(&source);
    let (world, store) = (World::new(5), Store::new(MemoryStore::new()));
    world.init(&store).unwrap();
    let first = world.backup(&store, &source).unwrap().manifest.statistics;
    fs::create_dir(source.join("copy")).unwrap();
    for file in 0..40 {
        let name = format!("file-{file}");
        fs::copy(source.join("dir-2").join(&name), source.join("copy").join(&name)).unwrap();
    }
    store.reset();
    let second = world.backup(&store, &source).unwrap().manifest.statistics;
    check_only(&store.reset(), 1, 1, 1);
    assert!(second.new_chunk_count <= 4, "{second:?}");
    assert!(second.new_bytes < first.new_bytes / 10, "{second:?}");
}

#[test]
fn restoring_a_small_file_reads_little() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    for file in 0..24_u64 {
        fs::write(source.join(format!("large-{file:02}")), noise(file, 1 << 20)).unwrap();
        fs::write(source.join(format!("small-{file:02}")), noise(100 + file, 700)).unwrap();
    }
    let (world, store) = (World::new(6), Store::new(MemoryStore::new()));
    world.init_with(&store, ChunkerSpec::Fixed { len: 1 << 20 }).unwrap();
    let mut options = backup_options(&source);
    options.pack_len_target = 8 << 20;
    world.backup_with(&store, &options).unwrap();
    let recording = store.reset();
    assert!(recording.written_under("packs/").len() >= 3);
    assert!(recording.written_bytes > 24 << 20);

    // Everything that has to be read to open the vault, and the small file.
    let read_one = |within: &[u8]| {
        let target = scratch();
        let vault = world.open(&store).unwrap();
        let snapshot = vault.select("latest").unwrap();
        let options = RestoreOptions { within: within.to_vec(), ..restore_options() };
        let report = restore(&vault, &snapshot, target.path(), &options, &mut Quiet).unwrap();
        assert_eq!((report.errors.len(), report.file_count), (0, 1));
        let name = std::str::from_utf8(within).unwrap();
        assert_eq!(fs::read(target.path().join(name)).unwrap(), fs::read(place.path().join(name)).unwrap());
        store.reset()
    };
    let recording = read_one(b"src/small-17");
    assert!(recording.read_bytes < 100_000, "{} bytes", recording.read_bytes);
    assert!(recording.call_count() < 40, "{recording:?}");
    let recording = read_one(b"src/large-17");
    assert!(recording.read_bytes < (1 << 20) + 100_000, "{} bytes", recording.read_bytes);
    assert_eq!((recording.put_count, recording.delete_count), (0, 0));

    // All of it is read once, and not twice.
    let expected = tree_of(&source);
    store.reset();
    assert_restores(&world, &store, "latest", &expected, "all of it");
    let recording = store.reset();
    assert!(recording.read_bytes < (25 << 20), "{} bytes", recording.read_bytes);
}
