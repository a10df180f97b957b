//! Sparse files: holes are neither read nor stored, and are holes again after a restore.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use coffer_format::tree::{Blob, Hole, decode_holes};
use coffer_store::MemoryStore;

use super::{copy_mtime, entries};
use crate::support::{World, assert_clean, assert_restores, backup_options, noise, scratch, tree_of};

/// Name and length of a file, and where it has data: offset and length.
type Shape = (&'static str, u64, Vec<(u64, usize)>);

const BLOCK: u64 = 4096;
const MIB: u64 = 1 << 20;

/// A file of `len` bytes with data at these places.
fn write(path: &Path, len: u64, data: &[(u64, usize)]) {
    let file = File::create(path).unwrap();
    file.set_len(len).unwrap();
    for (seed, (offset, len)) in (0..).zip(data) {
        file.write_all_at(&noise(seed, *len), *offset).unwrap();
    }
}

fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn holes_are_not_read_and_come_back() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    let block = usize::try_from(BLOCK).unwrap();
    let shapes: [Shape; 8] = [
        ("all", 64 * MIB, vec![]),
        ("begins", 8 * MIB, vec![(8 * MIB - BLOCK, block)]),
        ("ends", 8 * MIB, vec![(0, 3 * block)]),
        ("ends within a block", 8 * MIB + 17, vec![(0, 100)]),
        ("middle", 8 * MIB, vec![(0, block), (MIB, 20 * block), (8 * MIB - 5, 5)]),
        ("many", 12 * MIB, (0..600).map(|n| (n * 5 * BLOCK, block)).collect()),
        ("small", 3 * BLOCK, vec![(BLOCK, block)]),
        ("terabyte", 1 << 40, vec![(1 << 39, block)]),
    ];
    for (name, len, data) in &shapes {
        write(&source.join(name), *len, data);
    }
    fs::hard_link(source.join("middle"), source.join("twin")).unwrap();
    fs::write(source.join("dense"), noise(9, 50_000)).unwrap();
    if allocated(&source.join("all")) > MIB {
        println!("skipped: this file system has no sparse files");
        return;
    }
    let (world, store) = (World::with_cache(15, &place.path().join("cache")), MemoryStore::new());
    world.init(&store).unwrap();
    let report = world.backup(&store, &source).unwrap();
    let s = report.manifest.statistics;
    assert_eq!((report.error_count, report.changed_count), (0, 0));
    // What is in a block that was written in part is data.
    let written =
        shapes.iter().flat_map(|(_, _, data)| data).map(|(_, len)| (*len as u64).next_multiple_of(BLOCK));
    let data: u64 = written.sum();
    assert!(s.read_bytes < data + 50_000 + 20 * BLOCK, "{} read of {data}", s.read_bytes);
    assert!(s.content_bytes > 1 << 40, "a hole counts for the length of its file");

    for entry in entries(&world, &store) {
        let name = String::from_utf8(entry.path).unwrap();
        let Some((_, len, _)) = shapes.iter().find(|(shape, ..)| name == format!("src/{shape}")) else {
            assert_eq!(entry.holes, None, "{name}");
            continue;
        };
        assert_eq!(entry.size, *len);
        if let Blob::Inline(bytes) = entry.holes.unwrap_or_else(|| panic!("{name} has holes")) {
            let holes = decode_holes(&bytes, entry.size).unwrap();
            assert!(name != "src/all" || holes == [Hole { offset: 0, len: 64 * MIB }]);
        } else {
            assert_eq!(name, "src/many", "only this list is too long for an entry");
        }
    }
    assert_clean(&world, &store, "sparse files");

    let target = scratch();
    let restored = world.restore(&store, "latest", target.path()).unwrap();
    assert_eq!(restored.errors, []);
    for (name, len, data) in &shapes {
        let (from, to) = (source.join(name), target.path().join("src").join(name));
        assert_eq!(fs::metadata(&to).unwrap().len(), *len);
        assert!(allocated(&to) <= allocated(&from), "{name}: {} of {}", allocated(&to), allocated(&from));
        let file = File::open(&to).unwrap();
        for (seed, (offset, len)) in (0..).zip(data) {
            let mut bytes = vec![0; *len];
            file.read_exact_at(&mut bytes, *offset).unwrap();
            assert!(bytes == noise(seed, *len), "{name} at {offset}");
        }
    }
    // What can be held in memory is compared whole.
    fs::remove_file(source.join("terabyte")).unwrap();
    let report = world.backup(&store, &source).unwrap();
    assert_eq!(report.manifest.statistics.read_bytes, 0, "sparse files are remembered like others");
    assert_restores(&world, &store, "latest", &tree_of(&source), "sparse files");
}

/// Holes of a file whose content is taken over from the parent are taken over as well.
#[test]
fn holes_are_taken_over_with_the_content() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    write(&source.join("f"), 8 * MIB, &[(MIB, 9000)]);
    let (world, store) = (World::new(16), MemoryStore::new());
    world.init(&store).unwrap();
    world.backup(&store, &source).unwrap();
    let copy = place.path().join("copy");
    write(&copy, 8 * MIB, &[(MIB, 9000)]);
    copy_mtime(&source.join("f"), &copy);
    fs::rename(&copy, source.join("f")).unwrap();
    fs::set_permissions(source.join("f"), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let options =
        coffer_engine::BackupOptions { ignore_inode: true, ignore_ctime: true, ..backup_options(&source) };
    let report = world.backup_with(&store, &options).unwrap();
    assert_eq!((report.manifest.statistics.read_bytes, report.manifest.statistics.unchanged_count), (0, 0));
    assert_restores(&world, &store, "latest", &tree_of(&source), "holes of the parent");
}
