//! Entries of snapshots by name or path.
//!
//! Leaves in which nothing was found are remembered by their ids, and are not read again for the next snapshot: searching all snapshots
//! costs little more than searching one and what changed between them.

use std::collections::HashSet;

use coffer_collect::{Patterns, Verdict};
use coffer_format::id::ChunkId;
use coffer_format::path::is_within;
use coffer_format::tree::{Kind, TreeEntry};

use crate::error::EngineError;
use crate::listing::ListedEntry;
use crate::read::ChunkReader;
use crate::tree_reader::{Opened, TreeReader, path_text};
use crate::vault::{Snapshot, Vault};

/// Leaves that are remembered: 8 MiB of ids. They hold some 16 million entries.
const DULL_LEAF_COUNT_MAX: usize = 1 << 18;

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct FindOptions {
    /// One of these matches: a name or, for a pattern with a slash, the whole path.
    pub patterns: Patterns,
    /// Changed at this time or later, ns since 1970.
    pub oldest_ns: Option<i64>,
    /// Changed at this time or earlier, ns since 1970.
    pub newest_ns: Option<i64>,
}

impl FindOptions {
    fn admits(&self, entry: &TreeEntry) -> bool {
        self.oldest_ns.is_none_or(|oldest| entry.mtime_ns >= oldest)
            && self.newest_ns.is_none_or(|newest| entry.mtime_ns <= newest)
            && self.patterns.matches(&entry.path, entry.kind == Kind::Directory) == Verdict::Ignore
    }
}

/// Searches one snapshot after the other.
#[derive(Debug)]
pub struct Finder {
    options: FindOptions,
    dull_leaves: HashSet<ChunkId>,
}

impl Finder {
    /// A search that has seen nothing yet.
    #[must_use]
    pub fn new(options: FindOptions) -> Self {
        Self { options, dull_leaves: HashSet::new() }
    }

    /// Shows what is found at and below `within` (anywhere for the empty path) in a snapshot, in path order, and the parts of it
    /// that cannot be read.
    ///
    /// # Errors
    /// [`EngineError::NoPath`] when the snapshot has nothing there, those of the vault, and what `visit` returns.
    pub fn find(
        &mut self,
        vault: &Vault<'_>,
        snapshot: &Snapshot,
        within: &[u8],
        visit: &mut dyn FnMut(ListedEntry) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut chunks = ChunkReader::new(vault, &snapshot.state.body.domain)?;
        let mut tree = TreeReader::within(&snapshot.manifest.root, within.to_vec());
        let mut is_there = within.is_empty();
        while let Some((height, child)) = tree.peek() {
            vault.access.check_interrupt()?;
            let leaf_id = (height == 0).then_some(child.chunk.id);
            if leaf_id.is_some_and(|id| self.dull_leaves.contains(&id)) {
                tree.skip();
                // What it holds is not remembered, only that none of it is looked for.
                is_there = true;
                continue;
            }
            match tree.open(&mut chunks) {
                None | Some(Ok(Opened::Node)) => {}
                Some(Err(lost)) => {
                    is_there = true;
                    visit(Err(lost))?;
                }
                Some(Ok(Opened::Leaf(leaf))) => {
                    let mut is_dull = true;
                    for entry in leaf.entries {
                        let is_inside = is_within(&entry.path, within);
                        is_there |= is_inside;
                        if self.options.admits(&entry) {
                            // Whatever the part: another search may be for another one.
                            is_dull = false;
                            if is_inside {
                                visit(Ok(entry))?;
                            }
                        }
                    }
                    if let Some(id) =
                        leaf_id.filter(|_| is_dull && self.dull_leaves.len() < DULL_LEAF_COUNT_MAX)
                    {
                        self.dull_leaves.insert(id);
                    }
                }
            }
        }
        if is_there { Ok(()) } else { Err(EngineError::NoPath { path: path_text(within) }) }
    }
}
