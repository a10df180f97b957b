//! The entries of a snapshot in path order, and which of them are restored.
//!
//! A directory that is not itself chosen comes when something below it is, with its own mode: what is private stays so.

use coffer_collect::Verdict;
use coffer_format::path::is_within;
use coffer_format::tree::{Kind, TreeEntry};

use super::lookup;
use super::report::RestoreOptions;
use crate::error::EngineError;
use crate::read::ChunkReader;
use crate::tree_reader::{Leaves, LostSubtree, TreeReader, path_text};
use crate::vault::Snapshot;

/// Why an entry is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is restored.
    Chosen,
    /// A directory above what is restored, shown before that.
    Above,
    /// It is in the part of the snapshot that is restored, and not chosen. A directory may be shown again as [`Role::Above`].
    Passed,
}

/// Sees the entries of a snapshot.
pub(crate) trait Visitor<'a> {
    fn chunks(&mut self) -> &mut ChunkReader<'a>;
    /// Called between leaves and at the end; an error ends the walk.
    fn check(&mut self) -> Result<(), EngineError>;
    fn entry(&mut self, entry: &TreeEntry, role: Role);
    /// An entry that is chosen and that the format forbids to restore.
    fn refused(&mut self, entry: &TreeEntry, error: &EngineError);
    fn lost(&mut self, subtree: &LostSubtree);
}

impl RestoreOptions {
    /// Whether a path is one that is restored, if it is in the snapshot.
    pub(super) fn is_chosen(&self, path: &[u8], is_directory: bool) -> bool {
        is_within(path, &self.within)
            && (self.include.is_empty()
                || self.include.matches_nearest(path, is_directory) == Verdict::Ignore)
            && (self.exclude.is_empty()
                || self.exclude.matches_from_top(path, is_directory) != Verdict::Ignore)
    }
}

/// Shows the entries at and below [`RestoreOptions::within`] to `visitor`.
pub(crate) fn walk<'a>(
    snapshot: &Snapshot,
    options: &RestoreOptions,
    visitor: &mut dyn Visitor<'a>,
) -> Result<(), EngineError> {
    // Directories that are made only once something below them is chosen.
    let mut leaves = Leaves::default();
    let mut above = ancestors(snapshot, options, visitor.chunks(), &mut leaves);
    let mut tree = TreeReader::within(&snapshot.manifest.root, options.within.clone());
    let mut found = options.within.is_empty();
    while let Some(leaf) = tree.next_leaf(visitor.chunks()) {
        visitor.check()?;
        let leaf = match leaf {
            Ok(leaf) => leaf,
            Err(subtree) => {
                found = true;
                visitor.lost(&subtree);
                continue;
            }
        };
        for entry in leaf.entries.iter().filter(|entry| is_within(&entry.path, &options.within)) {
            found = true;
            while above.last().is_some_and(|last| !is_within(&entry.path, &last.path)) {
                above.pop();
            }
            let is_chosen = options.is_chosen(&entry.path, entry.kind == Kind::Directory);
            if let Err(error) = leaves.check(entry) {
                if is_chosen {
                    visitor.refused(entry, &error);
                }
                continue;
            }
            if is_chosen {
                above.drain(..).for_each(|directory| visitor.entry(&directory, Role::Above));
                visitor.entry(entry, Role::Chosen);
                continue;
            }
            visitor.entry(entry, Role::Passed);
            if entry.kind == Kind::Directory && !options.include.is_empty() {
                above.push(entry.clone());
            }
        }
    }
    // Whoever stops it at the last entry is told so, and nothing is removed.
    visitor.check()?;
    if found { Ok(()) } else { Err(EngineError::NoPath { path: path_text(&options.within) }) }
}

/// The directories above a part that is restored. One that cannot be read is made with a mode that lets nobody else in.
fn ancestors(
    snapshot: &Snapshot,
    options: &RestoreOptions,
    chunks: &mut ChunkReader<'_>,
    leaves: &mut Leaves,
) -> Vec<TreeEntry> {
    let within = &options.within;
    let ends = within.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let ends = (!within.is_empty()).then_some(0).into_iter().chain(ends);
    ends.filter_map(|end| lookup(snapshot, &within[..end], chunks).ok().flatten())
        .filter(|entry| leaves.check(entry).is_ok() && entry.kind == Kind::Directory)
        .collect()
}
