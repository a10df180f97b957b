//! Sparse files and extended attributes, as another writer of the format may lay them out.

use std::fs;
use std::os::unix::fs::MetadataExt;

use coffer_engine::RestoreReport;
use coffer_format::tree::{Blob, Content, Hole, Kind, TreeEntry, Xattr, encode_holes, encode_xattrs};
use coffer_pipeline::tree_writer::ContentWriter;
use coffer_store::MemoryStore;
use tempfile::TempDir;

use super::by_hand::{Writer, entry, file, inline};
use crate::support::{World, assert_clean, noise, scratch};

/// Restores a snapshot of the entries that `make` writes; they are clean, and restore without a word about damage.
fn restored(make: impl FnOnce(&mut Writer) -> Vec<TreeEntry>) -> (TempDir, RestoreReport) {
    let (world, store) = (World::new(6), MemoryStore::new());
    world.init(&store).unwrap();
    let mut vault = world.open(&store).unwrap();
    let mut writer = Writer::new(&vault, vault.owner_domain(), 8);
    let mut entries = vec![entry("", Kind::Directory)];
    entries.extend(make(&mut writer));
    let root = writer.tree(&entries);
    let signing = vault.keyring.vault_key().unwrap().signing();
    writer.snapshot(&mut vault, &signing, root);
    drop(vault);
    assert_clean(&world, &store, "written by hand");
    let target = scratch();
    let report = world.restore(&store, "latest", target.path()).unwrap();
    assert_eq!((&report.errors[..], report.degraded), (&[][..], false));
    (target, report)
}

/// The bytes of a sparse file.
fn spread(data: &[u8], holes: &[Hole], size: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    let mut data = data.iter();
    for (offset, byte) in (0..).zip(&mut bytes) {
        if !holes.iter().any(|hole| (hole.offset..hole.offset + hole.len).contains(&offset)) {
            *byte = *data.next().unwrap();
        }
    }
    assert_eq!(data.next(), None);
    bytes
}

#[test]
fn holes_are_where_they_were() {
    let hole = |offset, len| Hole { offset, len };
    let cases: [(&str, Vec<Hole>, usize); 7] = [
        ("begins", vec![hole(0, 5_000)], 9_000),
        ("ends", vec![hole(9_000, 70_000)], 9_000),
        ("both", vec![hole(0, 1), hole(9_001, 1)], 9_000),
        ("within", vec![hole(100, 1), hole(102, 3_000), hole(5_000, 4_096)], 9_000),
        ("all", vec![hole(0, 100_000)], 0),
        // More rows than an entry holds: they stand in a chunk.
        ("many", (0..400).map(|row| hole(row * 20, 7)).collect(), 9_000),
        (
            "many, and the end",
            (0..400).map(|row| hole(row * 20, 7)).chain([hole(50_000, 9)]).collect(),
            47_200,
        ),
    ];
    let sizes: Vec<u64> = cases
        .iter()
        .map(|(_, holes, data)| holes.iter().map(|hole| hole.len).sum::<u64>() + *data as u64)
        .collect();
    let (target, _) = restored(|writer| {
        let make = |((name, holes, data_len), size): (&(&str, Vec<Hole>, usize), &u64)| {
            let mut sparse = entry(name, Kind::File);
            sparse.size = *size;
            let mut content = ContentWriter::default();
            // Chunks do not care where holes are.
            for piece in noise(9, *data_len).chunks(3_333) {
                let chunk = writer.data(piece);
                let Ok(()) = content.push(chunk, writer);
            }
            let Ok(content) = content.finish(writer);
            sparse.content = content;
            let rows = encode_holes(holes);
            sparse.holes =
                Some(if rows.len() <= 4_096 { Blob::Inline(rows) } else { Blob::Chunk(writer.meta(&rows)) });
            sparse
        };
        let mut entries: Vec<_> = cases.iter().zip(&sizes).map(make).collect();
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        entries
    });
    for ((name, holes, data_len), size) in cases.iter().zip(sizes) {
        let bytes = fs::read(target.path().join(name)).unwrap();
        assert!(bytes == spread(&noise(9, *data_len), holes, size), "{name}");
    }
}

#[test]
fn inline_content_has_holes_too() {
    let (target, _) = restored(|_| {
        let mut sparse = inline("inline", b"front and back");
        sparse.size += 1_000;
        sparse.holes = Some(Blob::Inline(encode_holes(&[Hole { offset: 5, len: 1_000 }])));
        vec![sparse]
    });
    let expected = [&b"front"[..], &[0; 1_000], b" and back"].concat();
    assert_eq!(fs::read(target.path().join("inline")).unwrap(), expected);
}

#[test]
fn a_huge_hole_takes_no_room() {
    const HOLE: u64 = 1 << 36;
    let (target, report) = restored(|writer| {
        let chunk = writer.data(&noise(1, 8_192));
        let mut huge = file("huge", &[chunk]);
        huge.size += 2 * HOLE;
        let holes = [Hole { offset: 4_096, len: HOLE }, Hole { offset: HOLE + 8_192, len: HOLE }];
        huge.holes = Some(Blob::Inline(encode_holes(&holes)));
        vec![huge]
    });
    let metadata = fs::metadata(target.path().join("huge")).unwrap();
    assert_eq!(metadata.len(), 2 * HOLE + 8_192);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    assert_eq!(report.file_count, 1);
}

fn attributes(count: usize, len: usize) -> Vec<Xattr> {
    (0..count).map(|number| (format!("user.{number:03}").into_bytes(), noise(number as u64, len))).collect()
}

#[test]
fn attributes_are_applied_or_named() {
    let cases = [("few", attributes(2, 10)), ("empty value", attributes(1, 0)), ("many", attributes(60, 90))];
    let (target, report) = restored(|writer| {
        let mut entries: Vec<_> = cases
            .iter()
            .map(|(name, attributes)| {
                let mut tagged = entry(name, Kind::File);
                let bytes = encode_xattrs(attributes);
                let long = bytes.len() > 4_096;
                tagged.xattrs =
                    Some(if long { Blob::Chunk(writer.meta(&bytes)) } else { Blob::Inline(bytes) });
                tagged
            })
            .collect();
        assert!(entries.iter().any(|entry| matches!(entry.xattrs, Some(Blob::Chunk(_)))));
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        entries
    });
    for (name, attributes) in &cases {
        let path = target.path().join(name);
        assert_eq!(fs::read(&path).unwrap(), b"");
        for (attribute, value) in attributes {
            let attribute = std::str::from_utf8(attribute).unwrap();
            let mut buffer = [0_u8; 256];
            // A file system may not have attributes, or no room for so many; the report then says so.
            match rustix::fs::getxattr(&path, attribute, &mut buffer[..]) {
                Ok(len) => assert_eq!(&buffer[..len], value, "{name} {attribute}"),
                Err(_) => assert!(
                    report.warnings.iter().any(|text| text.starts_with(name) && text.contains(attribute)),
                    "{name} {attribute}: {:?}",
                    report.warnings
                ),
            }
        }
    }
}

#[test]
fn a_content_list_of_every_level_is_read() {
    let bytes = noise(5, 6_000);
    let (target, _) = restored(|writer| {
        let rows: Vec<_> = bytes.chunks(600).map(|piece| writer.data(piece)).collect();
        (0..=4)
            .map(|level| {
                let mut rows = rows.clone();
                for _ in 0..level {
                    // Lists of three rows, and lists of these.
                    let lists = rows.chunks(3).map(|three| {
                        let mut list = Vec::new();
                        three.iter().for_each(|row| row.write_row(&mut list));
                        writer.meta(&list)
                    });
                    rows = lists.collect();
                }
                let mut entry = file(&format!("level {level}"), &[]);
                entry.size = bytes.len() as u64;
                entry.content = Content::List { level, rows };
                entry
            })
            .collect()
    });
    for level in 0..=4 {
        assert_eq!(fs::read(target.path().join(format!("level {level}"))).unwrap(), bytes);
    }
}
