//! What both formats hold, read back by their own libraries.

use std::io::{Cursor, Read};

use super::*;

fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).expect("a path")
}

fn metadata(size: u64) -> Metadata {
    Metadata { mode: 0o640, uid: 7, gid: 8, mtime_ns: 1_700_000_001_500_000_000, size, ..Metadata::default() }
}

/// A directory, a file with a hole, a symlink and a hard link.
fn fill(archive: &mut dyn ArchiveWriter) -> Archived {
    archive.directory(&path("d"), &Metadata { mode: 0o755, ..metadata(0) }).expect("directory");
    let holes = [ArchiveHole { offset: 3, len: 4 }];
    archive.begin_file(&path("d/f"), &metadata(10), &holes).expect("begin");
    archive.write(b"abc").expect("write");
    archive.hole(4).expect("hole");
    archive.write(b"xyz").expect("write");
    archive.end_file().expect("end");
    let link = Metadata { link_target: Some(b"f".to_vec()), ..metadata(0) };
    archive.symlink(&path("d/link"), &link).expect("symlink");
    let outcome = archive.hard_link(&path("d/twin"), &path("d/f"), &metadata(10)).expect("hard link");
    archive.begin_file(&path("e"), &metadata(0), &[]).expect("begin");
    archive.end_file().expect("end");
    outcome
}

#[test]
fn a_tar_archive_is_read_back() {
    let mut bytes = Vec::new();
    let mut archive = Box::new(TarArchive::new(&mut bytes));
    assert_eq!(fill(archive.as_mut()), Archived::Yes);
    archive.finish().expect("finish");
    assert_eq!(bytes.len() % 512, 0);
    let mut read = ::tar::Archive::new(Cursor::new(bytes));
    let mut found = Vec::new();
    for entry in read.entries().expect("entries") {
        let entry = entry.expect("entry");
        found.push((
            entry.path_bytes().into_owned(),
            entry.header().entry_type(),
            entry.header().mode().ok(),
        ));
    }
    let names: Vec<_> = found.iter().map(|(name, ..)| String::from_utf8_lossy(name).into_owned()).collect();
    assert_eq!(names, ["d/", "GNUSparseFile.0/f", "d/link", "d/twin", "e"]);
    assert_eq!(found[0].2, Some(0o755));
    assert_eq!(found[3].1, ::tar::EntryType::Link);
}

#[test]
fn a_zip_archive_is_read_back() {
    let mut bytes = Vec::new();
    let mut archive = Box::new(ZipArchive::new(&mut bytes));
    assert!(matches!(fill(archive.as_mut()), Archived::No(_)));
    archive.finish().expect("finish");
    let mut read = ::zip::ZipArchive::new(Cursor::new(bytes)).expect("archive");
    assert_eq!(read.len(), 4);
    let mut content = Vec::new();
    let mut file = read.by_name("d/f").expect("file");
    assert_eq!(file.unix_mode(), Some(0o100_640));
    file.read_to_end(&mut content).expect("read");
    drop(file);
    assert_eq!(content, b"abc\0\0\0\0xyz");
    assert!(read.by_name("d/link").expect("link").is_symlink());
    assert!(read.by_name("d/").expect("directory").is_dir());
}

/// The time of [`metadata`].
fn zip_time() -> ::zip::DateTime {
    ::zip::DateTime::from_date_and_time(2023, 11, 14, 22, 13, 20).expect("a time")
}

/// The mode in the archive's directory, for what reads only that.
#[test]
fn a_directory_in_a_zip_archive_is_one_whatever_its_name() {
    let names = [&b"plain"[..], "\u{e4}".as_bytes(), b"\xff\xfe"];
    let mut bytes = Vec::new();
    let mut archive = Box::new(ZipArchive::new(&mut bytes));
    for name in names {
        let path = EntryPath::new(name).expect("a path");
        archive.directory(&path, &Metadata { mode: 0o2750, ..metadata(0) }).expect("directory");
        assert_eq!(archive.path_flaw(name).is_some(), name[0] == 0xff, "{name:?}");
    }
    archive.finish().expect("finish");
    let mut read = ::zip::ZipArchive::new(Cursor::new(&bytes)).expect("archive");
    assert_eq!(read.len(), names.len());
    for (at, name) in names.iter().enumerate() {
        let entry = read.by_index(at).expect("entry");
        assert_eq!(entry.name_raw(), [name, &b"/"[..]].concat());
        // That reader shows no mode as it is in the archive.
        let header = usize::try_from(entry.central_header_start()).expect("in memory");
        let attributes = bytes[header + 38..header + 42].try_into().expect("four bytes");
        assert_eq!(u32::from_le_bytes(attributes), 0o042_750 << 16 | 0x10, "{name:?}");
        assert_eq!(entry.last_modified(), Some(zip_time()), "{name:?}");
    }
    assert_eq!(TarArchive::new(Vec::new()).path_flaw(b"\xff"), None);
}

#[test]
fn a_file_has_exactly_the_length_that_was_said() {
    let check = |archive: &mut dyn ArchiveWriter| {
        archive.begin_file(&path("f"), &metadata(3), &[]).expect("begin");
        archive.write(b"ab").expect("write");
        assert!(matches!(archive.end_file(), Err(CollectError::Unfit { .. })), "too short");
        assert!(matches!(archive.write(b"cd"), Err(CollectError::Unfit { .. })), "too long");
    };
    check(&mut TarArchive::new(Vec::new()));
    check(&mut ZipArchive::new(Vec::new()));
}

#[test]
fn output_that_fails_is_told_from_an_entry_that_does_not_fit() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = TarArchive::new(Full).directory(&path("d"), &metadata(0)).expect_err("full");
    assert_eq!(error.io_kind(), Some(std::io::ErrorKind::StorageFull));
    let error = ZipArchive::new(Full).directory(&path("d"), &metadata(0)).expect_err("full");
    assert!(matches!(error, CollectError::Archive { .. }), "{error:?}");
    let device = Metadata { device: Some((1 << 24, 0)), ..metadata(0) };
    let error = TarArchive::new(Vec::new()).special(&path("d"), EntryKind::CharDevice, &device);
    assert!(matches!(error, Err(CollectError::Unfit { .. })));
}

#[test]
fn what_is_given_up_is_no_archive() {
    for is_zip in [false, true] {
        let mut bytes = Vec::new();
        let mut archive: Box<dyn ArchiveWriter> = if is_zip {
            Box::new(ZipArchive::new(&mut bytes))
        } else {
            Box::new(TarArchive::new(&mut bytes))
        };
        archive.begin_file(&path("f"), &metadata(3), &[]).expect("begin");
        archive.write(b"ab").expect("write");
        drop(archive);
        assert!(::zip::ZipArchive::new(Cursor::new(&bytes)).is_err());
        assert!(!bytes.ends_with(&[0; 1024]), "a tar archive ends with two empty blocks");
    }
}
