//! A directory as it stands in the file system, as plain values: the model that a restored snapshot is held against.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// What stands at a path.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    Fifo,
}

/// One entry: what it is, and what of its metadata a restore gives back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) body: Body,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime_ns: i128,
    /// The least path of its group of hard links, where that has more than one name.
    pub(crate) group: Option<Vec<u8>>,
}

/// Entries by their paths below the directory, which itself has the empty path.
pub(crate) type Tree = BTreeMap<Vec<u8>, Item>;

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory => f.write_str("Directory"),
            Self::File(bytes) => {
                let digest = coffer_crypto::hash::hash(bytes);
                write!(f, "File({} bytes, {:02x?})", bytes.len(), &digest[..4])
            }
            Self::Symlink(target) => write!(f, "Symlink({:?})", OsStr::from_bytes(target)),
            Self::Fifo => f.write_str("Fifo"),
        }
    }
}

/// Reads everything at and below `root`.
pub(crate) fn tree_of(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut links = BTreeMap::new();
    add(root, Vec::new(), &mut tree, &mut links);
    for paths in links.into_values().filter(|paths: &Vec<Vec<u8>>| paths.len() > 1) {
        let least = paths.iter().min().unwrap().clone();
        for path in paths {
            tree.get_mut(&path).unwrap().group = Some(least.clone());
        }
    }
    tree
}

fn add(place: &Path, path: Vec<u8>, tree: &mut Tree, links: &mut BTreeMap<(u64, u64), Vec<Vec<u8>>>) {
    let metadata = fs::symlink_metadata(place).unwrap();
    let kind = metadata.file_type();
    let body = if kind.is_dir() {
        Body::Directory
    } else if kind.is_file() {
        Body::File(fs::read(place).unwrap())
    } else if kind.is_symlink() {
        Body::Symlink(fs::read_link(place).unwrap().as_os_str().as_bytes().to_vec())
    } else {
        assert!(kind.is_fifo(), "tests make nothing else");
        Body::Fifo
    };
    if !kind.is_dir() {
        links.entry((metadata.dev(), metadata.ino())).or_default().push(path.clone());
    }
    let item = Item {
        body,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        mtime_ns: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
        group: None,
    };
    tree.insert(path.clone(), item);
    if kind.is_dir() {
        for child in fs::read_dir(place).unwrap() {
            let name = child.unwrap().file_name();
            let mut below = path.clone();
            if !below.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name.as_bytes());
            add(&place.join(&name), below, tree, links);
        }
    }
}

/// Panics, naming what differs, unless both are the same in everything.
#[track_caller]
pub(crate) fn assert_same(expected: &Tree, actual: &Tree, context: &str) {
    let mut differences = Vec::new();
    let paths: std::collections::BTreeSet<_> = expected.keys().chain(actual.keys()).collect();
    for path in paths {
        let (expected, actual) = (expected.get(path), actual.get(path));
        if expected != actual {
            let path = OsStr::from_bytes(path);
            differences.push(format!("{path:?}: expected {expected:?}, found {actual:?}"));
        }
    }
    assert!(differences.is_empty(), "{context}: {}", differences.join("\n"));
}

/// Panics unless every file that stands in `actual` stands in `expected` with the same bytes.
#[track_caller]
pub(crate) fn assert_no_false_file(expected: &Tree, actual: &Tree, context: &str) {
    for (path, item) in actual {
        if let Body::File(_) = item.body {
            let wanted = expected.get(path).map(|item| &item.body);
            assert_eq!(wanted, Some(&item.body), "{context}: {:?}", OsStr::from_bytes(path));
        }
    }
}
