//! `skip_if_unchanged`: no snapshot where there is nothing new to say.

use std::fs;
use std::io::Cursor;

use coffer_collect::{EntryPath, Stream};
use coffer_engine::{BackupOptions, BackupReport, backup_stream};
use coffer_store::MemoryStore;
use coffer_testkit::RecordingStore;

use crate::support::{Quiet, World, assert_clean, backup_options, noise, scratch};

type Store = RecordingStore<MemoryStore>;

#[test]
fn an_unchanged_source_makes_no_snapshot() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    for number in 0..20 {
        fs::write(source.join(format!("{number}")), noise(number, 5000)).unwrap();
    }
    let world = World::with_cache(5, &place.path().join("cache"));
    let store = Store::new(MemoryStore::new());
    world.init(&store).unwrap();
    let options = BackupOptions { skip_if_unchanged: true, ..backup_options(&source) };
    let first = world.backup_with(&store, &options).unwrap();
    assert!(first.is_new, "there is nothing to be equal to");

    for _ in 0..2 {
        store.reset();
        let report = world.backup_with(&store, &options).unwrap();
        assert_eq!((report.is_new, report.snapshot, report.head), (false, first.snapshot, first.head));
        assert_eq!(report.manifest.statistics.read_bytes, 0, "what is remembered still holds");
        let recording = store.reset();
        assert_eq!((recording.put_count, recording.delete_count), (0, 0));
    }
    // Reading everything anew comes to the same.
    let stranger = World::new(5);
    let mut unremembered = options.clone();
    unremembered.parent = Some(stranger.open(&store).unwrap().select("latest").unwrap());
    let report = stranger.backup_with(&store, &unremembered).unwrap();
    assert_eq!((report.is_new, report.snapshot), (false, first.snapshot));

    // Without a parent there is nothing to be equal to, and metadata counts as a change.
    let forced = world.backup_with(&store, &BackupOptions { force: true, ..options.clone() }).unwrap();
    assert!(forced.is_new && forced.manifest.root == first.manifest.root);
    fs::set_permissions(source.join("7"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(world.backup_with(&store, &options).unwrap().is_new);
    assert!(!world.backup_with(&store, &options).unwrap().is_new);
    assert_eq!(world.open(&store).unwrap().state().snapshots.len(), 3);
    assert_clean(&world, &store, "after backups that made no snapshot");
}

/// The parent's chunks are lost: equal or not, what was stored again has to be listed.
#[test]
fn what_had_to_be_stored_again_makes_a_snapshot() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("a"), noise(1, 50_000)).unwrap();
    let (world, store) = (World::new(6), MemoryStore::new());
    world.init(&store).unwrap();
    let options = BackupOptions { skip_if_unchanged: true, ..backup_options(&source) };
    let first = world.backup_with(&store, &options).unwrap();
    let segment = store.names().into_iter().find(|name| name.starts_with("index/")).unwrap();
    store.remove_raw(&segment).unwrap();
    let report = world.backup_with(&store, &options).unwrap();
    assert!(report.is_new && report.manifest.root == first.manifest.root);
    assert!(report.manifest.statistics.new_chunk_count > 0);
}

fn send(world: &World, store: &Store, options: &BackupOptions, bytes: &[u8]) -> BackupReport {
    world.clock.advance(1_000_000_000);
    let mut vault = world.open(store).unwrap();
    let mut stream = Stream::new(EntryPath::new("dump").unwrap(), Cursor::new(bytes.to_vec()));
    backup_stream(&mut vault, options, &mut stream, &mut Quiet).unwrap()
}

#[test]
fn a_stream_is_unchanged_if_it_brings_the_same() {
    let place = scratch();
    let (world, store) = (World::new(7), Store::new(MemoryStore::new()));
    world.init(&store).unwrap();
    let options = BackupOptions { skip_if_unchanged: true, ..backup_options(&place.path().join("src")) };
    let first = send(&world, &store, &options, &noise(1, 100_000));
    assert!(first.is_new);
    let again = send(&world, &store, &options, &noise(1, 100_000));
    assert_eq!((again.is_new, again.snapshot), (false, first.snapshot));
    let other = send(&world, &store, &options, &noise(2, 100_000));
    assert_eq!((other.is_new, other.manifest.parent), (true, Some(first.snapshot)));
    // Not asked for, a snapshot is made in any case, with the time of now.
    let plain = BackupOptions { skip_if_unchanged: false, ..options.clone() };
    let copy = send(&world, &store, &plain, &noise(2, 100_000));
    assert!(copy.is_new && copy.manifest.root != other.manifest.root);
}
