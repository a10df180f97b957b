//! Edits of a directory that proptest can make up: each picks its object by number among what happens to be there.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};

use super::super::support::noise;

/// Names that are odd, and names that sort before, at and after a slash.
const NAMES: [&[u8]; 18] = [
    b"a",
    b"b",
    b"a!",
    b"a-b",
    b"a.b",
    b"a0",
    b"ab",
    b".hidden",
    b"-",
    b" ",
    b"\n",
    b"\x01",
    b"\x7f",
    b"\xff\xfe",
    b"a\xff",
    "\u{e4}".as_bytes(),
    "a\u{308}".as_bytes(),
    &[b'z'; 200],
];

/// Modes a file may get; its owner can always read and write it.
const FILE_MODES: [u32; 5] = [0o644, 0o600, 0o755, 0o666, 0o647];
/// Modes a directory may get.
const DIR_MODES: [u32; 4] = [0o755, 0o700, 0o1777, 0o750];

/// Bytes of a file; few seeds, so that contents repeat.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes {
    class: u8,
    seed: u8,
}

impl Bytes {
    fn make(self) -> Vec<u8> {
        let seed = usize::from(self.seed);
        let len = match self.class {
            0 => 0,
            1 => [1, 2, 127, 128][seed % 4],
            2 => [129, 200, 255, 256][seed % 4],
            3 => 257 + seed * 1031,
            _ => 60_000 + seed * 7919,
        };
        if self.seed.is_multiple_of(2) {
            return noise(u64::from(self.class) * 256 + u64::from(self.seed), len);
        }
        let words = noise(u64::from(self.seed), 64);
        (0..len).map(|at| words[(at / 7 + at / 512) % 64] & 0x3f).collect()
    }
}

/// One change of the directory. Numbers pick among what is there.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    File { dir: u16, name: u8, bytes: Bytes },
    Dir { dir: u16, name: u8 },
    Symlink { dir: u16, name: u8, target: u8 },
    HardLink { file: u16, dir: u16, name: u8 },
    Fifo { dir: u16, name: u8 },
    Delete { entry: u16 },
    Rename { entry: u16, dir: u16, name: u8 },
    Rewrite { file: u16, bytes: Bytes },
    Append { file: u16, bytes: Bytes },
    Insert { file: u16, at: u16, bytes: Bytes },
    Chmod { entry: u16, mode: u8 },
    Touch { entry: u16 },
    Replace { entry: u16, bytes: Bytes },
}

fn bytes() -> impl Strategy<Value = Bytes> {
    (0..5_u8, 0..8_u8).prop_map(|(class, seed)| Bytes { class, seed })
}

/// Edits that add something.
pub(super) fn growth() -> impl Strategy<Value = Edit> {
    let (pick, name) = (any::<u16>(), any::<u8>());
    prop_oneof![
        5 => (pick, name, bytes()).prop_map(|(dir, name, bytes)| Edit::File { dir, name, bytes }),
        3 => (pick, name).prop_map(|(dir, name)| Edit::Dir { dir, name }),
        1 => (pick, name, any::<u8>())
            .prop_map(|(dir, name, target)| Edit::Symlink { dir, name, target }),
        1 => (pick, pick, name)
            .prop_map(|(file, dir, name)| Edit::HardLink { file, dir, name }),
        1 => (pick, name).prop_map(|(dir, name)| Edit::Fifo { dir, name }),
    ]
}

/// Any edit.
pub(super) fn edit() -> impl Strategy<Value = Edit> {
    let (pick, name) = (any::<u16>(), any::<u8>());
    prop_oneof![
        4 => growth(),
        2 => pick.prop_map(|entry| Edit::Delete { entry }),
        2 => (pick, pick, name).prop_map(|(entry, dir, name)| Edit::Rename { entry, dir, name }),
        2 => (pick, bytes()).prop_map(|(file, bytes)| Edit::Rewrite { file, bytes }),
        1 => (pick, bytes()).prop_map(|(file, bytes)| Edit::Append { file, bytes }),
        2 => (pick, pick, bytes()).prop_map(|(file, at, bytes)| Edit::Insert { file, at, bytes }),
        1 => (pick, any::<u8>()).prop_map(|(entry, mode)| Edit::Chmod { entry, mode }),
        1 => pick.prop_map(|entry| Edit::Touch { entry }),
        2 => (pick, bytes()).prop_map(|(entry, bytes)| Edit::Replace { entry, bytes }),
    ]
}

/// A directory that edits are applied to.
pub(super) struct Disk {
    root: PathBuf,
    stamps: u32,
}

impl Disk {
    pub(super) fn new(root: PathBuf) -> Self {
        fs::create_dir(&root).unwrap();
        Self { root, stamps: 0 }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Applies one round of edits. An edit that does not fit what is there does nothing.
    pub(super) fn apply_all(&mut self, edits: &[Edit]) {
        // The file system's clock goes on before anything changes: it moves in steps, and a change in the step of the last backup
        // would be one that stat fields cannot show.
        std::thread::sleep(Duration::from_millis(12));
        for edit in edits {
            self.apply(edit);
        }
    }

    fn apply(&mut self, edit: &Edit) {
        match *edit {
            Edit::File { dir, name, bytes } => {
                self.at_free(dir, name, |place| fs::write(place, bytes.make()).unwrap());
            }
            Edit::Dir { dir, name } => self.at_free(dir, name, |place| fs::create_dir(place).unwrap()),
            Edit::Symlink { dir, name, target } => {
                let target = OsStr::from_bytes(NAMES[usize::from(target) % NAMES.len()]);
                self.at_free(dir, name, |place| symlink(target, place).unwrap());
            }
            Edit::HardLink { file, dir, name } => {
                if let Some(file) = self.file(file) {
                    self.at_free(dir, name, |place| fs::hard_link(file, place).unwrap());
                }
            }
            Edit::Fifo { dir, name } => self.at_free(dir, name, |place| {
                mknodat(CWD, place, FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
            }),
            Edit::Delete { entry } => {
                if let Some(place) = self.entry(entry) {
                    remove(&place);
                }
            }
            Edit::Rename { entry, dir, name } => {
                if let Some(from) = self.entry(entry) {
                    let to = self.named(dir, name);
                    if fs::symlink_metadata(&to).is_err() && !to.starts_with(&from) {
                        fs::rename(from, to).unwrap();
                    }
                }
            }
            Edit::Rewrite { file, bytes } => {
                if let Some(place) = self.file(file) {
                    fs::write(&place, bytes.make()).unwrap();
                    self.stamp(&place);
                }
            }
            Edit::Append { file, bytes } => {
                if let Some(place) = self.file(file) {
                    let mut open = fs::OpenOptions::new().append(true).open(&place).unwrap();
                    open.write_all(&bytes.make()).unwrap();
                    self.stamp(&place);
                }
            }
            Edit::Insert { file, at, bytes } => {
                if let Some(place) = self.file(file) {
                    let mut whole = fs::read(&place).unwrap();
                    let at = usize::from(at) % (whole.len() + 1);
                    whole.splice(at..at, bytes.make());
                    fs::write(&place, whole).unwrap();
                    self.stamp(&place);
                }
            }
            Edit::Chmod { entry, mode } => {
                if let Some(place) = self.entry(entry).filter(|place| !place.is_symlink()) {
                    let modes: &[u32] = if place.is_dir() { &DIR_MODES } else { &FILE_MODES };
                    let mode = modes[usize::from(mode) % modes.len()];
                    fs::set_permissions(place, fs::Permissions::from_mode(mode)).unwrap();
                }
            }
            Edit::Touch { entry } => {
                if let Some(place) = self.entry(entry) {
                    self.stamp(&place);
                }
            }
            Edit::Replace { entry, bytes } => {
                if let Some(place) = self.entry(entry) {
                    let was_dir = place.is_dir() && !place.is_symlink();
                    remove(&place);
                    if was_dir {
                        fs::write(&place, bytes.make()).unwrap();
                    } else {
                        fs::create_dir(&place).unwrap();
                        fs::write(place.join("inside"), bytes.make()).unwrap();
                        self.stamp(&place.join("inside"));
                    }
                    self.stamp(&place);
                }
            }
        }
    }

    /// Makes something at a path where nothing is.
    fn at_free(&mut self, dir: u16, name: u8, make: impl FnOnce(&Path)) {
        let place = self.named(dir, name);
        if fs::symlink_metadata(&place).is_err() {
            make(&place);
            self.stamp(&place);
        }
    }

    /// Gives a time that no other entry ever had: without stat fields of the parent, size and time decide what is read.
    fn stamp(&mut self, place: &Path) {
        self.stamps += 1;
        let time = Timespec {
            tv_sec: 1_000_000_000 + i64::from(self.stamps % 3) * 400_000_000,
            tv_nsec: i64::from(self.stamps) * 7_654_321 % 1_000_000_000,
        };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    fn named(&self, dir: u16, name: u8) -> PathBuf {
        let mut dirs: Vec<_> =
            self.entries().into_iter().filter(|place| place.is_dir() && !place.is_symlink()).collect();
        dirs.push(self.root.clone());
        let dir = &dirs[usize::from(dir) % dirs.len()];
        dir.join(OsStr::from_bytes(NAMES[usize::from(name) % NAMES.len()]))
    }

    fn entry(&self, number: u16) -> Option<PathBuf> {
        nth(self.entries(), number)
    }

    fn file(&self, number: u16) -> Option<PathBuf> {
        let is_file = |place: &PathBuf| fs::symlink_metadata(place).unwrap().is_file();
        nth(self.entries().into_iter().filter(is_file).collect(), number)
    }

    /// Everything below the root, sorted, so that a number picks the same in every run.
    fn entries(&self) -> Vec<PathBuf> {
        let mut entries = Vec::new();
        let mut open = vec![self.root.clone()];
        while let Some(dir) = open.pop() {
            for child in fs::read_dir(dir).unwrap() {
                let child = child.unwrap();
                if child.file_type().unwrap().is_dir() {
                    open.push(child.path());
                }
                entries.push(child.path());
            }
        }
        entries.sort();
        entries
    }
}

fn nth(places: Vec<PathBuf>, number: u16) -> Option<PathBuf> {
    let count = places.len().max(1);
    places.into_iter().nth(usize::from(number) % count)
}

fn remove(place: &Path) {
    if place.is_dir() && !place.is_symlink() {
        fs::remove_dir_all(place).unwrap();
    } else {
        fs::remove_file(place).unwrap();
    }
}
