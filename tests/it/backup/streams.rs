//! Streams as snapshots of one file.

use std::fs;
use std::io::{self, Cursor, Read};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use coffer_collect::{EntryPath, Stream};
use coffer_engine::{BackupOptions, BackupReport, EngineError, backup_stream};
use coffer_store::{MemoryStore, ObjectStore};

use super::entries;
use crate::support::{Quiet, World, assert_clean, backup_options, noise, scratch};

fn path() -> EntryPath {
    EntryPath::new("db/dump.sql").unwrap()
}

fn options() -> BackupOptions {
    backup_options(std::path::Path::new("/nowhere/src"))
}

fn send(world: &World, store: &dyn ObjectStore, stream: &mut Stream) -> Result<BackupReport, EngineError> {
    let mut vault = world.open(store)?;
    backup_stream(&mut vault, &options(), stream, &mut Quiet)
}

fn shell(script: &str) -> Stream {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    Stream::of_command(path(), command).unwrap()
}

#[track_caller]
fn assert_brings(world: &World, store: &dyn ObjectStore, expected: &[u8]) {
    let target = scratch();
    let report = world.restore(store, "latest", target.path()).unwrap();
    assert_eq!((report.errors.as_slice(), report.entry_count), (&[][..], 1));
    assert!(fs::read(target.path().join("db/dump.sql")).unwrap() == expected);
}

#[test]
fn a_stream_is_one_file_with_its_bytes() {
    let (world, store) = (World::new(9), MemoryStore::new());
    world.init(&store).unwrap();
    for len in [0, 1, 100, 129, 256, 5000, 2_500_001] {
        let bytes = noise(len as u64, len);
        let report = send(&world, &store, &mut Stream::new(path(), Cursor::new(bytes.clone()))).unwrap();
        assert_eq!(report.manifest.collector, "stream");
        assert_eq!(report.manifest.sources, [b"db/dump.sql"]);
        let s = report.manifest.statistics;
        assert_eq!(
            (s.entry_count, s.file_count, s.content_bytes, s.read_bytes),
            (1, 1, len as u64, len as u64)
        );
        assert_brings(&world, &store, &bytes);
        let entry = entries(&world, &store).pop().unwrap();
        assert_eq!((entry.mode, entry.mtime_ns), (0o600, report.manifest.start_ns));
    }
    assert_clean(&world, &store, "streams");
}

#[test]
fn a_stream_is_cut_as_a_file_is() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    let bytes = noise(1, 400_000);
    fs::write(source.join("f"), &bytes).unwrap();
    let (world, store) = (World::new(10), MemoryStore::new());
    world.init(&store).unwrap();
    world.backup(&store, &source).unwrap();
    let report = send(&world, &store, &mut Stream::new(path(), Cursor::new(bytes))).unwrap();
    assert!(report.manifest.statistics.new_bytes < 20_000, "{:?}", report.manifest.statistics);
}

#[test]
fn a_stream_that_is_not_whole_makes_no_snapshot() {
    struct Fails(usize);
    impl Read for Fails {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            if self.0 > 3 { Err(io::Error::other("cable pulled")) } else { Ok(buffer.len()) }
        }
    }
    let (world, store) = (World::new(11), MemoryStore::new());
    world.init(&store).unwrap();
    let bad = [
        (shell("head -c 300000 /dev/zero; exit 7"), "exit code 7"),
        (shell("head -c 300000 /dev/zero; kill -9 $$"), "signal 9"),
        (Stream::new(path(), Fails(0)), "read the stream"),
    ];
    for (mut stream, how) in bad {
        let error = send(&world, &store, &mut stream).unwrap_err();
        assert!(error.to_string().contains(how), "{error}");
        assert!(world.open(&store).unwrap().state().snapshots.is_empty());
        assert_clean(&world, &store, how);
    }
    send(&world, &store, &mut shell("printf whole")).unwrap();
    assert_brings(&world, &store, b"whole");
}

#[test]
fn a_stream_that_brings_nothing_more_can_be_interrupted() {
    let (world, store) = (World::new(12), MemoryStore::new());
    world.init(&store).unwrap();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            world.interrupt.store(true, Ordering::Relaxed);
        });
        let error = send(&world, &store, &mut shell("printf begin; exec sleep 600")).unwrap_err();
        assert!(matches!(error, EngineError::Interrupted), "{error:?}");
    });
    assert!(begin.elapsed() < Duration::from_secs(60));
}

/// A stream cannot be read twice, so what the index cannot tell is stored again.
#[test]
fn a_damaged_index_does_not_keep_a_stream_out() {
    let (world, store) = (World::new(13), MemoryStore::new());
    world.init(&store).unwrap();
    let bytes = noise(1, 900_000);
    send(&world, &store, &mut Stream::new(path(), Cursor::new(bytes.clone()))).unwrap();
    let segment = store.names().into_iter().find(|name| name.starts_with("index/")).unwrap();
    let mut broken = store.remove_raw(&segment).unwrap();
    let last = broken.len() - 20;
    broken[last] ^= 1;
    store.insert_raw(segment, broken);
    let report = send(&world, &store, &mut Stream::new(path(), Cursor::new(bytes.clone()))).unwrap();
    assert!(report.manifest.statistics.new_bytes > 100_000, "what the damaged page lists is stored again");
    assert_brings(&world, &store, &bytes);
}
