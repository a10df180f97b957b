//! What stands in the target and is not in the snapshot.
//!
//! A directory is looked through only if its own entry was seen, it lies at or below a source of the snapshot, and no part of
//! the tree that could hold entries of it was lost. The names in the directories along the current path are kept in memory.

use std::collections::BTreeSet;

use coffer_collect::{CollectError, DirectoryTarget, EntryPath, Identity, Removal};
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
    /// Directories along the current path.
    open: Vec<Open>,
}

struct Open {
    path: EntryPath,
    /// Names in the target that were not seen in the snapshot so far.
    names: BTreeSet<Vec<u8>>,
    /// Entries of it may have been lost.
    is_incomplete: bool,
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
        Self { options, sources, open: Vec::new() }
    }

    /// Sources whose place in the snapshot cannot be told from how they were given.
    pub(super) fn unplaced(snapshot: &Snapshot) -> impl Iterator<Item = &[u8]> {
        let sources = snapshot.manifest.sources.iter().map(Vec::as_slice);
        sources.filter(|source| place_of(source).is_none())
    }

    /// An entry of the snapshot, after what is to be made of it was made.
    pub(super) fn pass(&mut self, entry: &TreeEntry, target: &mut DirectoryTarget, removed: Removed<'_>) {
        if !self.options.delete {
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
        }
        if entry.kind != Kind::Directory || !self.is_covered(&entry.path) {
            return;
        }
        match target.names(&path) {
            Ok(Some(names)) => {
                let names = names.into_iter().collect();
                self.open.push(Open { path, names, is_incomplete: false });
            }
            Ok(None) => {}
            Err(error) => removed(&path, Err(error)),
        }
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
        target.remove(path, &mut Remover { options: self.options, removed });
    }

    fn leave(&mut self, target: &mut DirectoryTarget, removed: Removed<'_>) {
        let Some(open) = self.open.pop() else { return };
        if open.is_incomplete {
            return;
        }
        for name in open.names {
            match open.path.join(&name) {
                Ok(path) => target.remove(&path, &mut Remover { options: self.options, removed }),
                Err(error) => removed(&open.path, Err(error)),
            }
        }
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
