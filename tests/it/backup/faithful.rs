//! Everything that a file system says of an entry comes back.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use coffer_engine::{RestoreOptions, restore};
use coffer_store::MemoryStore;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, chownat, lgetxattr, llistxattr,
    lsetxattr, makedev, mknodat, utimensat,
};
use rustix::thread::{Gid, Uid};

use crate::support::{
    Quiet, World, assert_clean, backup_options, has_program, noise, restore_options, scratch,
};

/// What `lstat` and its like say, but what no restore can give back: device, inode, ctime.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    size: u64,
    device: u64,
    link_count: u64,
    target: Option<PathBuf>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0; 65_536];
    let Ok(len) = llistxattr(path, &mut names) else { return Vec::new() };
    let names: Vec<&[u8]> = names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    let mut found: Vec<_> = names
        .into_iter()
        .map(|name| {
            let mut value = vec![0; 65_536];
            let len = lgetxattr(path, CString::new(name).unwrap().as_c_str(), &mut value).unwrap();
            (name.to_vec(), value[..len].to_vec())
        })
        .collect();
    found.sort();
    found
}

fn facts(path: &Path) -> Facts {
    let metadata = fs::symlink_metadata(path).unwrap();
    let kind = metadata.file_type();
    let is_directory = kind.is_dir();
    Facts {
        kind: match () {
            () if kind.is_file() => "file",
            () if kind.is_dir() => "directory",
            () if kind.is_symlink() => "symlink",
            () if kind.is_fifo() => "fifo",
            () if kind.is_socket() => "socket",
            () if kind.is_char_device() => "character device",
            () => "block device",
        },
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        size: if is_directory { 0 } else { metadata.len() },
        device: metadata.rdev(),
        link_count: if is_directory { 0 } else { metadata.nlink() },
        target: fs::read_link(path).ok(),
        xattrs: xattrs(path),
    }
}

fn all_facts(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(path) = open.pop() {
        let facts = facts(&path);
        if facts.kind == "directory" {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.insert(path.strip_prefix(root).unwrap().to_path_buf(), facts);
    }
    found
}

fn set_mtime(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Makes one of everything that the system lets this user make, and says what it does not.
fn make(source: &Path) {
    let place = |name: &str| source.join(name);
    fs::create_dir(source).unwrap();
    for dir in ["d", "d/empty", "sticky", "closed"] {
        fs::create_dir(place(dir)).unwrap();
    }
    fs::write(place("d/f"), noise(1, 3000)).unwrap();
    fs::write(place("empty"), "").unwrap();
    fs::write(place("setuid"), "#!").unwrap();
    fs::write(source.join(OsStr::from_bytes(b"caf\xe9 \n\x01")), "Latin-1").unwrap();
    fs::write(place(&"n".repeat(255)), "a long name").unwrap();
    fs::hard_link(place("d/f"), place("link")).unwrap();
    symlink("nowhere/\u{1F512}", place("dangling")).unwrap();
    symlink(OsStr::from_bytes(b"\xff\xfe"), place("odd")).unwrap();
    fs::hard_link(place("odd"), place("odder")).unwrap();
    mknodat(CWD, place("fifo"), FileType::Fifo, Mode::from_raw_mode(0o620), 0).unwrap();
    drop(UnixListener::bind(place("socket")).unwrap());
    let device = |name: &str, kind, device| {
        if let Err(error) = mknodat(CWD, place(name), kind, Mode::from_raw_mode(0o640), device) {
            println!("not tested: {name}: {error}");
        }
    };
    device("null", FileType::CharacterDevice, makedev(1, 3));
    device("disk", FileType::BlockDevice, makedev(259, 70_000));

    let owner = |name: &str, uid, gid| {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        if let Err(error) = chownat(CWD, place(name), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
            println!("not tested: owner of {name}: {error}");
        }
    };
    owner("d/f", 1, 2);
    owner("dangling", 12_345, 54_321);
    owner("setuid", 1, 1);
    for (name, mode) in
        [("setuid", 0o6755), ("sticky", 0o1777), ("closed", 0o000), ("d", 0o2750), ("empty", 0o000)]
    {
        fs::set_permissions(place(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    let attribute = |name: &str, attribute: &str, value: &[u8]| {
        if let Err(error) = lsetxattr(place(name), attribute, value, XattrFlags::empty()) {
            println!("not tested: {attribute} of {name}: {error}");
        }
    };
    attribute("d/f", "user.empty", b"");
    attribute("d/f", "user.value", &noise(3, 200));
    attribute("d/f", "user.long", &noise(4, 3000));
    attribute("d", "user.of-a-directory", b"\0\xff");
    attribute("dangling", "trusted.of-a-link", b"x");
    attribute("empty", "trusted.empty", b"");
    for (entry, name) in [("u:12345:rw,g:2:r,m::rwx", "d/f"), ("d:u:12345:rwx", "d")] {
        let set = has_program("setfacl")
            .then(|| Command::new("setfacl").args(["-m", entry]).arg(place(name)).status().unwrap());
        if !set.is_some_and(|status| status.success()) {
            println!("not tested: the access control list of {name}");
        }
    }
    // Times at last: whatever is made in a directory changes its own. They have nanoseconds, and need not be of this century.
    let mut paths: Vec<PathBuf> = all_facts(source).into_keys().collect();
    paths.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for (number, path) in (1..).zip(paths) {
        set_mtime(&source.join(path), -1_000_000_000 + number * 97_000_000, 123_456_789 + number);
    }
}

#[test]
fn one_of_everything_comes_back_as_it_was() {
    let place = scratch();
    let source = place.path().join("src");
    make(&source);
    let before = all_facts(&source);
    let (world, store) = (World::new(17), MemoryStore::new());
    world.init(&store).unwrap();
    let report = world.backup(&store, &source).unwrap();
    assert_eq!(report.errors, []);
    assert_eq!(report.manifest.statistics.entry_count, before.len() as u64);
    assert_clean(&world, &store, "one of everything");
    assert_eq!(all_facts(&source), before, "a backup changes nothing");

    let target = scratch();
    let vault = world.open(&store).unwrap();
    let mut options: RestoreOptions = restore_options();
    (options.target.devices, options.target.privileged_files) = (true, true);
    let report =
        restore(&vault, &vault.select("latest").unwrap(), target.path(), &options, &mut Quiet).unwrap();
    assert_eq!(report.errors, []);
    let after = all_facts(&target.path().join("src"));
    for (path, facts) in &before {
        assert_eq!(after.get(path), Some(facts), "{}", path.display());
    }
    assert_eq!(after.len(), before.len());
    for name in ["d/f", "link", "caf\u{e9}"] {
        let there = |root: &Path| fs::read(root.join(name)).ok();
        assert_eq!(there(&target.path().join("src")), there(&source), "{name}");
    }
    let inode = |name: &str| fs::symlink_metadata(target.path().join("src").join(name)).unwrap().ino();
    assert_eq!((inode("d/f"), inode("odd")), (inode("link"), inode("odder")));
}

/// Attributes that are longer than an entry holds stand in a chunk of their own.
#[test]
fn attributes_may_be_long() {
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("f"), "x").unwrap();
    for number in 0..10 {
        let name = format!("user.number-{number}");
        if lsetxattr(source.join("f"), name.as_str(), &noise(number, 900), XattrFlags::empty()).is_err() {
            println!("skipped: no such attributes here");
            return;
        }
    }
    let (world, store) = (World::new(18), MemoryStore::new());
    world.init(&store).unwrap();
    assert_eq!(world.backup_with(&store, &backup_options(&source)).unwrap().errors, []);
    let target = scratch();
    world.restore(&store, "latest", target.path()).unwrap();
    assert_eq!(xattrs(&target.path().join("src/f")), xattrs(&source.join("f")));
    assert_eq!(xattrs(&source.join("f")).len(), 10);
}
