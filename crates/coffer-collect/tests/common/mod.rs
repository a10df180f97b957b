//! What the tests of this crate share: trees as plain values, copies through the public API, and loss of privilege.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coffer_collect::{
    CollectError, DirectoryTarget, EntryKind, EntryPath, Found, Identity, Metadata, SpecialOutcome,
    TargetOptions, Walk, Warning,
};
use rustix::fs::XattrFlags;
use rustix::thread::{Gid, Uid};

/// One entry as the tests compare it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) path: EntryPath,
    pub(crate) kind: EntryKind,
    pub(crate) metadata: Metadata,
    pub(crate) content: Option<Vec<u8>>,
    /// The first path of the same file, when it has several.
    pub(crate) first: Option<EntryPath>,
}

pub(crate) fn path(text: impl AsRef<[u8]>) -> EntryPath {
    EntryPath::new(text.as_ref()).unwrap()
}

/// A directory with these files, of one byte each.
pub(crate) fn tree(files: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let file = dir.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "x").unwrap();
    }
    dir
}

/// Walks and splits entries from errors.
pub(crate) fn walk(sources: &[&str], cwd: &Path) -> (Vec<Found>, Vec<CollectError>) {
    let sources: Vec<PathBuf> = sources.iter().map(PathBuf::from).collect();
    split(Walk::new(&sources, cwd).unwrap())
}

pub(crate) fn split(
    walk: impl IntoIterator<Item = Result<Found, CollectError>>,
) -> (Vec<Found>, Vec<CollectError>) {
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for item in walk {
        match item {
            Ok(entry) => found.push(entry),
            Err(error) => errors.push(error),
        }
    }
    (found, errors)
}

pub(crate) fn paths(found: &[Found]) -> Vec<String> {
    found.iter().map(|entry| entry.path().to_string()).collect()
}

/// The tree below `root`, the root itself among it.
pub(crate) fn snapshot(root: &Path) -> Vec<Item> {
    let mut firsts: HashMap<Identity, EntryPath> = HashMap::new();
    let mut items = Vec::new();
    for found in Walk::new(&[PathBuf::from(".")], root).unwrap() {
        let found = found.unwrap();
        let several = found.kind() != EntryKind::Directory && found.link_count() > 1;
        let first = several
            .then(|| firsts.entry(found.identity()).or_insert_with(|| found.path().clone()).clone())
            .filter(|first| first != found.path());
        let content = (found.kind() == EntryKind::File).then(|| {
            let mut content = Vec::new();
            found.open().unwrap().read_to_end(&mut content).unwrap();
            content
        });
        let metadata = found.metadata().unwrap();
        items.push(Item { path: found.path().clone(), kind: found.kind(), metadata, content, first });
    }
    items
}

/// Restores `items` below `root`, the content of files from other threads.
pub(crate) fn restore(items: &[Item], root: &Path, options: TargetOptions) -> Vec<Warning> {
    let mut target = DirectoryTarget::open(root, options).unwrap();
    let mut warnings = Vec::new();
    std::thread::scope(|scope| {
        let mut writers = Vec::new();
        for item in items {
            if let Some(first) = &item.first {
                // The first name must be finished before it can be linked.
                for writer in writers.drain(..) {
                    let writer: std::thread::ScopedJoinHandle<'_, Vec<Warning>> = writer;
                    warnings.extend(writer.join().unwrap());
                }
                target.hard_link(&item.path, first).unwrap();
                continue;
            }
            match item.kind {
                EntryKind::Directory => target.directory(&item.path, &item.metadata).unwrap(),
                EntryKind::Symlink => warnings.extend(target.symlink(&item.path, &item.metadata).unwrap()),
                EntryKind::File => {
                    let writer = target.file(&item.path).unwrap();
                    writers.push(scope.spawn(move || {
                        let content = item.content.as_deref().unwrap();
                        let (head, tail) = content.split_at(content.len() / 2);
                        writer.write_at(head.len() as u64, tail).unwrap();
                        writer.write_at(0, head).unwrap();
                        writer.finish(&item.metadata).unwrap()
                    }));
                }
                kind => match target.special(&item.path, kind, &item.metadata).unwrap() {
                    SpecialOutcome::Created(lost) => warnings.extend(lost),
                    other => panic!("{}: {other:?}", item.path),
                },
            }
        }
        for writer in writers {
            warnings.extend(writer.join().unwrap());
        }
    });
    warnings.extend(target.finish());
    warnings
}

pub(crate) fn name(bytes: &[u8]) -> &OsStr {
    OsStr::from_bytes(bytes)
}

/// Sets a `user.` attribute; false, said aloud, where the file system has none.
#[expect(clippy::print_stdout, reason = "a test that is passed over says so")]
pub(crate) fn try_xattr(path: &Path, name: &str, value: &[u8]) -> bool {
    match rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()) {
        Ok(()) => true,
        Err(error) => {
            println!("not tested: {name} on {}: {error}", path.display());
            false
        }
    }
}

/// Says why something is not tested.
#[expect(clippy::print_stdout, reason = "a test that is passed over says so")]
pub(crate) fn pass_over(reason: &str) {
    println!("not tested: {reason}");
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs `test` as a user without privilege, in a thread of its own, and with `dir` given to that user.
pub(crate) fn unprivileged(dir: &Path, test: impl FnOnce() + Send) {
    const NOBODY: u32 = 65_534;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if is_root() {
                let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
                rustix::fs::chown(dir, Some(uid), Some(gid)).unwrap();
                fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
                // These change the calling thread alone.
                rustix::thread::set_thread_groups(&[]).unwrap();
                rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
                rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            }
            test();
        });
        thread.join().unwrap();
    });
}

/// No temporary of a target is left below `root`.
pub(crate) fn assert_no_temporaries(root: &Path) {
    for found in Walk::new(&[PathBuf::from(".")], root).unwrap() {
        let found = found.unwrap();
        let name = found.path().file_name().unwrap_or_default();
        assert!(!name.starts_with(b".coffer-"), "{} is left", found.path());
    }
}
