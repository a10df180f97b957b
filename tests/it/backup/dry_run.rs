//! A dry run says what a backup would do, and does nothing.

use std::fs;
use std::io::Cursor;

use coffer_collect::{EntryPath, Stream};
use coffer_engine::{BackupOptions, DryRunReport, dry_run};
use coffer_store::MemoryStore;
use coffer_testkit::RecordingStore;

use crate::support::{Quiet, World, backup_options, noise, scratch};

type Store = RecordingStore<MemoryStore>;

fn stream(bytes: Vec<u8>) -> Stream {
    Stream::new(EntryPath::new("dump").unwrap(), Cursor::new(bytes))
}

#[track_caller]
fn try_out(
    world: &World,
    store: &Store,
    options: &BackupOptions,
    input: Option<&mut Stream>,
) -> DryRunReport {
    store.reset();
    let mut vault = world.open(store).unwrap();
    let report = dry_run(&mut vault, options, input, &mut Quiet).unwrap();
    let recording = store.reset();
    assert_eq!((recording.put_count, recording.delete_count), (0, 0), "nothing is written");
    report
}

#[test]
fn a_dry_run_counts_what_a_backup_then_does_and_stores_nothing() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    for number in 0..80 {
        let len = usize::try_from(number * 4000).unwrap();
        fs::write(source.join(format!("{number}")), noise(number, len)).unwrap();
    }
    let world = World::with_cache(3, &place.path().join("cache"));
    let store = Store::new(MemoryStore::new());
    world.init(&store).unwrap();
    // Progress records are due all the time.
    world.clock.set_step(1_000_000_000_000);
    let options = backup_options(&source);
    let first = try_out(&world, &store, &options, None).manifest.statistics;
    assert!(first.new_chunk_count > 100 && first.new_bytes > 1_000_000, "{first:?}");
    assert_eq!(first.stored_bytes, 0);

    let real = world.backup_with(&store, &options).unwrap();
    let mut expected = real.manifest.statistics;
    assert!(real.progress_count > 0 && expected.stored_bytes > 0);
    expected.stored_bytes = 0;
    assert_eq!(first, expected);

    // Unchanged, then with one more file, of which half is known.
    let again = try_out(&world, &store, &options, None);
    let s = again.manifest.statistics;
    assert_eq!((s.new_chunk_count, s.read_bytes, s.unchanged_count), (0, 0, 81));
    assert_eq!(again.manifest.parent, Some(real.snapshot));
    fs::write(source.join("more"), [noise(29, 29 * 4000), noise(99, 50_000)].concat()).unwrap();
    let more = try_out(&world, &store, &options, None).manifest.statistics;
    assert!((50_000..100_000).contains(&more.new_bytes), "{more:?}");
    // A dry run leaves nothing behind: the real one does all of it.
    assert_eq!(world.backup_with(&store, &options).unwrap().manifest.statistics.new_bytes, more.new_bytes);
}

#[test]
fn a_dry_run_of_a_stream_reads_it_and_stores_nothing() {
    let place = scratch();
    let (world, store) = (World::new(4), Store::new(MemoryStore::new()));
    world.init(&store).unwrap();
    let options = backup_options(&place.path().join("src"));
    let report = try_out(&world, &store, &options, Some(&mut stream(noise(1, 300_000))));
    let s = report.manifest.statistics;
    assert_eq!((s.content_bytes, s.read_bytes, s.file_count), (300_000, 300_000, 1));
    assert!(s.new_bytes > 300_000, "and what lists it");
}
