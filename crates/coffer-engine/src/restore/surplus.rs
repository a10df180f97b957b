//! What stands in the target and is not in the snapshot.
//!
//! A directory is looked through only if its own entry was seen, it lies at or below a source of the snapshot, and no part of
//! the tree that could hold entries of it was lost. What the backup could not read is not in the snapshot although it was there:
//! nothing is removed from directories at, above or below such a path, and nothing at all if not all such paths are recorded.
//! Directories that are to be kept, and file systems mounted in the target, are not looked into, nor is what lies below them.
//! The names in the directories along the current path are kept in memory.

use std::collections::{BTreeSet, HashSet};

use coffer_collect::{CollectError, DirectoryTarget, EntryPath, Identity, Listing, Removal};
use coffer_format::path::is_within;
use coffer_format::tree::{Kind, TreeEntry};

use super::report::RestoreOptions;
use crate::vault::Snapshot;

/// Hears of each entry that is gone, or could not be removed.
pub(super) type Removed<'r> = &'r mut dyn FnMut(&EntryPath, Result<(), CollectError>);

/// Finds and removes surplus while a snapshot is walked.
pub(super) struct Surplus<'o> {
    options: &'o RestoreOptions,
    /// Paths of the sources; `None` if the snapshot holds everything that its tree shows.
    sources: Option<Vec<Vec<u8>>>,
    unread: Unread,
    /// Directories along the current path.
    open: Vec<Open>,
    /// The last directory that is not looked into.
    spared: Option<EntryPath>,
    /// Directories from which nothing is removed although the snapshot has them, and why.
    warnings: Vec<String>,
}

/// What the backup could not read.
struct Unread {
    /// Paths with an error.
    paths: HashSet<Vec<u8>>,
    /// Directories above them.
    above: HashSet<Vec<u8>>,
    /// There were more than are recorded.
    is_more: bool,
}

impl Unread {
    fn of(snapshot: &Snapshot, within: &[u8]) -> Self {
        let completeness = &snapshot.manifest.completeness;
        let paths = completeness.errors.iter().map(|(path, _)| path);
        let paths = paths.filter(|path| is_within(path, within) || is_within(within, path));
        let paths: HashSet<_> = paths.cloned().collect();
        let above = paths.iter().flat_map(|path| prefixes(path)).map(<[u8]>::to_vec).collect();
        Self { paths, above, is_more: completeness.error_count > completeness.errors.len() as u64 }
    }

    /// Whether entries at, above or below this path may be missing in the snapshot.
    fn concerns(&self, path: &[u8]) -> bool {
        !self.paths.is_empty()
            && (self.paths.contains(path)
                || self.above.contains(path)
                || prefixes(path).any(|above| self.paths.contains(above)))
    }
}

/// The paths above a path.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    (!path.is_empty()).then_some(0).into_iter().chain(ends).map(|end| &path[..end])
}

struct Open {
    path: EntryPath,
    /// Names in the target that were not seen in the snapshot so far.
    names: BTreeSet<Vec<u8>>,
    /// Entries of it may have been lost.
    is_incomplete: bool,
    /// Another file system is mounted there, and no entry was seen in it so far.
    is_empty_mount: bool,
}

struct Remover<'r, 'o> {
    options: &'o RestoreOptions,
    removed: Removed<'r>,
}

impl Removal for Remover<'_, '_> {
    fn is_dry_run(&self) -> bool {
        self.options.dry_run
    }

    fn is_chosen(&self, path: &EntryPath, is_directory: bool) -> bool {
        self.options.is_chosen(path.as_bytes(), is_directory)
    }

    fn is_kept(&self, directory: Identity) -> bool {
        self.options.keep.contains(&directory)
    }

    fn removed(&mut self, path: &EntryPath, outcome: Result<(), CollectError>) {
        (self.removed)(path, outcome);
    }
}

impl<'o> Surplus<'o> {
    pub(super) fn new(snapshot: &Snapshot, options: &'o RestoreOptions) -> Self {
        let manifest = &snapshot.manifest;
        let given = manifest.collector == "files" && !manifest.sources.is_empty();
        let sources = given.then(|| manifest.sources.iter().filter_map(|source| place_of(source)).collect());
        let (open, spared, mut warnings) = (Vec::new(), None, Vec::new());
        let unread = Unread::of(snapshot, &options.within);
        if options.delete && unread.is_more {
            warnings
                .push("nothing was deleted: the backup did not record all that it could not read".to_owned());
        } else if options.delete && !unread.paths.is_empty() {
            let count = unread.paths.len();
            warnings.push(format!(
                "the snapshot is incomplete: nothing was deleted from directories above or below {count} paths that the backup could not read"
            ));
        }
        Self { options, sources, unread, open, spared, warnings }
    }

    /// What was left alone, and why.
    pub(super) fn into_warnings(self) -> Vec<String> {
        self.warnings
    }

    /// Sources whose place in the snapshot cannot be told from how they were given.
    pub(super) fn unplaced(snapshot: &Snapshot) -> impl Iterator<Item = &[u8]> {
        let sources = snapshot.manifest.sources.iter().map(Vec::as_slice);
        sources.filter(|source| place_of(source).is_none())
    }

    /// An entry of the snapshot, after what is to be made of it was made.
    pub(super) fn pass(&mut self, entry: &TreeEntry, target: &mut DirectoryTarget, removed: Removed<'_>) {
        if !self.options.delete || self.unread.is_more {
            return;
        }
        while self.open.last().is_some_and(|open| !is_within(&entry.path, open.path.as_bytes())) {
            self.leave(target, removed);
        }
        let Ok(path) = EntryPath::new(entry.path.clone()) else { return };
        if let Some(open) = self.open.last_mut() {
            // A directory need not have an entry of its own for something to be in it.
            let depth = open.path.components().count();
            path.components().nth(depth).map(|name| open.names.remove(name));
            open.is_empty_mount = false;
        }
        if entry.kind != Kind::Directory || self.is_spared(&path) || !self.is_covered(&entry.path) {
            return;
        }
        match target.listing(&path) {
            Ok(Some(listing)) => self.look_into(path, listing),
            Ok(None) => {}
            Err(error) => removed(&path, Err(error)),
        }
    }

    fn look_into(&mut self, path: EntryPath, listing: Listing) {
        let is_named = path.as_bytes() == self.options.within;
        if listing.identities.iter().any(|directory| self.options.keep.contains(directory)) {
            self.spared = Some(path);
            return;
        }
        if listing.is_mounted && !is_named {
            self.spare_mount(&path);
            self.spared = Some(path);
            return;
        }
        let is_incomplete = self.unread.concerns(path.as_bytes());
        let names = listing.names.into_iter().collect();
        self.open.push(Open { path, names, is_incomplete, is_empty_mount: listing.is_mounted });
    }

    fn spare_mount(&mut self, path: &EntryPath) {
        self.warnings
            .push(format!("{path}: nothing was deleted below it, as another file system is mounted there"));
    }

    /// A part of the tree could not be read: whatever is missing may belong to any directory along the path.
    pub(super) fn lost(&mut self) {
        self.open.iter_mut().for_each(|open| open.is_incomplete = true);
    }

    /// The end of the snapshot.
    pub(super) fn finish(&mut self, target: &mut DirectoryTarget, removed: Removed<'_>) {
        while !self.open.is_empty() {
            self.leave(target, removed);
        }
    }

    /// Empties a directory that stands where something else belongs.
    pub(super) fn clear(&self, path: &EntryPath, target: &mut DirectoryTarget, removed: Removed<'_>) {
        if !self.options.delete || self.unread.is_more || self.is_spared(path) {
            return;
        }
        target.remove(path, &mut Remover { options: self.options, removed });
    }

    fn leave(&mut self, target: &mut DirectoryTarget, removed: Removed<'_>) {
        let Some(open) = self.open.pop() else { return };
        if open.is_incomplete {
            return;
        }
        // A backup of one file system leaves a directory without entries where another one is mounted.
        if open.is_empty_mount && !open.names.is_empty() {
            self.spare_mount(&open.path);
            return;
        }
        for name in open.names {
            match open.path.join(&name) {
                Ok(path) => target.remove(&path, &mut Remover { options: self.options, removed }),
                Err(error) => removed(&open.path, Err(error)),
            }
        }
    }

    fn is_spared(&self, path: &EntryPath) -> bool {
        self.spared.as_ref().is_some_and(|spared| path.starts_with(spared))
    }

    fn is_covered(&self, path: &[u8]) -> bool {
        let Some(sources) = &self.sources else { return true };
        sources.iter().any(|source| is_within(path, source))
    }
}

/// The path in the snapshot of a source as it was given; `None` if it climbs, for then only the system knew.
fn place_of(source: &[u8]) -> Option<Vec<u8>> {
    let components: Vec<&[u8]> =
        source.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    (!components.contains(&&b".."[..])).then(|| components.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::place_of;

    #[test]
    fn a_source_is_placed_unless_it_climbs() {
        for (given, placed) in [
            (&b"src"[..], Some(&b"src"[..])),
            (b".", Some(b"")),
            (b"/", Some(b"")),
            (b"./a//b/./c/", Some(b"a/b/c")),
            (b"/home/u", Some(b"home/u")),
            (b"..", None),
            (b"a/../b", None),
            (b"a..b/..c", Some(b"a..b/..c")),
        ] {
            assert_eq!(place_of(given).as_deref(), placed);
        }
    }
}
