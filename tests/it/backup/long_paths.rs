//! Paths longer than the system takes in one call.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use coffer_engine::BackupOptions;
use coffer_store::MemoryStore;
use rustix::fs::{Mode, OFlags, mkdirat, openat};

use super::paths;
use crate::support::{World, assert_clean, backup_options, noise, scratch};

const DEPTH: usize = 40;

fn name(level: usize) -> Vec<u8> {
    // Not UTF-8 either.
    [format!("{level:03}").as_bytes(), &[b'x'; 200], b"\xff"].concat()
}

fn enter(dir: impl AsFd, name: &[u8]) -> OwnedFd {
    openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// Opens the directory at this depth below `root`, which makes directories where `create` says so.
fn descend(root: &Path, create: bool) -> OwnedFd {
    let mut dir = OwnedFd::from(File::open(root).unwrap());
    for level in 0..DEPTH {
        if create {
            mkdirat(&dir, name(level).as_slice(), Mode::from_raw_mode(0o755)).unwrap();
        }
        dir = enter(&dir, &name(level));
    }
    dir
}

fn open_file(dir: &OwnedFd, flags: OFlags) -> File {
    File::from(openat(dir, "file", flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600)).unwrap())
}

#[test]
fn paths_beyond_the_limit_of_one_call_come_back() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    let bottom = descend(&source, true);
    open_file(&bottom, OFlags::CREATE | OFlags::WRONLY).write_all(&noise(1, 10_000)).unwrap();
    let link = [b'l'; 4000];
    rustix::fs::symlinkat(link.as_slice(), &bottom, "link").unwrap();
    let _ = rustix::fs::fsetxattr(&bottom, "user.deep", b"yes", rustix::fs::XattrFlags::empty());

    let (world, store) = (World::new(19), MemoryStore::new());
    world.init(&store).unwrap();
    let report = world.backup(&store, &source).unwrap();
    assert_eq!(report.errors, []);
    assert_eq!(report.manifest.statistics.entry_count, DEPTH as u64 + 3);
    assert!(paths(&world, &store).iter().any(|path| path.len() > 8000));
    assert_clean(&world, &store, "long paths");
    let target = scratch();
    assert_eq!(world.restore(&store, "latest", target.path()).unwrap().errors, []);
    let bottom = descend(&target.path().join("src"), false);
    let mut bytes = Vec::new();
    open_file(&bottom, OFlags::RDONLY).read_to_end(&mut bytes).unwrap();
    assert!(bytes == noise(1, 10_000));
    assert_eq!(rustix::fs::readlinkat(&bottom, "link", Vec::new()).unwrap().as_bytes(), link);

    // Such a path can also be a source.
    let mut whole = b"src".to_vec();
    for level in 0..DEPTH {
        whole.push(b'/');
        whole.extend_from_slice(&name(level));
    }
    whole.extend_from_slice(b"/file");
    let options =
        BackupOptions { sources: vec![OsStr::from_bytes(&whole).into()], ..backup_options(&source) };
    let report = world.backup_with(&store, &options).unwrap();
    assert_eq!((report.error_count, report.manifest.statistics.file_count), (0, 1));
}
