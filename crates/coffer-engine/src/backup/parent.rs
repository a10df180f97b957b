//! The parent's entries, merged with what the walk finds.
//!
//! Both come in path order. While everything in a leaf is as it was, its entries are withheld; at its end the leaf is adopted without being
//! encoded again.

use coffer_format::path::compare_paths;
use coffer_format::tree::TreeEntry;
use coffer_pipeline::tree_writer::{MetaSink, TreeWriter};

use super::options::{BackupOptions, Origin};
use super::uploads::Uploads;
use crate::error::EngineError;
use crate::parallel;
use crate::read::ChunkReader;
use crate::tree_reader::{Leaf, TreeReader};
use crate::vault::{Snapshot, Vault};

/// The snapshot to compare with: the one that was asked for, or the newest of the same origin.
pub(super) fn find(
    vault: &Vault<'_>,
    options: &BackupOptions,
    origin: &Origin,
) -> Result<Option<Snapshot>, EngineError> {
    if options.force {
        return Ok(None);
    }
    let domain = vault.owner_domain();
    if let Some(parent) = &options.parent {
        if parent.state.body.domain != domain {
            let reason = "the parent is of another dedup domain; nothing can be taken over from it";
            return Err(EngineError::invalid(reason));
        }
        return Ok(Some(parent.clone()));
    }
    let live =
        vault.state().snapshots.iter().rev().filter(|state| !state.forgotten && state.body.domain == domain);
    let mut live = live.peekable();
    let in_flight = parallel::in_flight(vault.access.store);
    // The newest is likely the one; where it is not, more are read at a time.
    let mut wave = 1;
    while live.peek().is_some() {
        let read = parallel::map(in_flight, live.by_ref().take(wave), |state| vault.snapshot(state).ok());
        let is_of_origin = |snapshot: &Snapshot| Origin::of(&snapshot.manifest) == *origin;
        if let Some(found) = read.into_iter().flatten().find(is_of_origin) {
            return Ok(Some(found));
        }
        wave = (2 * wave).min(in_flight);
    }
    Ok(None)
}

/// What the parent knows of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing.
    Nothing,
    /// The entry, and no fingerprints of this parent are remembered.
    Entry,
    /// The entry, and what its stat fields amounted to.
    Fingerprint(u64),
}

/// The parent's entries.
pub(super) struct Parent<'a> {
    chunks: ChunkReader<'a>,
    tree: TreeReader,
    fingerprints: Option<Vec<u64>>,
    /// Number of entries before the current one.
    number: usize,
    leaf: Option<Leaf>,
    position: usize,
    /// Entries at the beginning of the leaf that are unchanged and were not given to the tree yet.
    withheld: usize,
    /// Whether the leaf can still be adopted.
    whole: bool,
}

impl<'a> Parent<'a> {
    pub(super) fn open(uploads: &Uploads<'_, 'a, '_, '_>, snapshot: &Snapshot) -> Result<Self, EngineError> {
        let vault = uploads.vault();
        // Without fingerprints every file is read, unless size and time are to decide.
        let origin = Origin::of(&snapshot.manifest).key();
        let remembered = |cache: &crate::Cache| cache.fingerprints(&vault.id(), &origin, &snapshot.id());
        let fingerprints = vault.access.cache.map(|cache| remembered(cache).unwrap_or_default());
        Ok(Self {
            chunks: ChunkReader::without_recovery(vault, &snapshot.state.body.domain)?,
            tree: TreeReader::new(&snapshot.manifest.root),
            fingerprints,
            number: 0,
            leaf: None,
            position: 0,
            withheld: 0,
            whole: false,
        })
    }

    /// Fingerprints of all its entries; `None` where nothing is remembered at all.
    pub(super) fn fingerprints(&self) -> Option<&[u64]> {
        self.fingerprints.as_deref()
    }

    /// The current entry.
    pub(super) fn entry(&self) -> Option<&TreeEntry> {
        self.leaf.as_ref().and_then(|leaf| leaf.entries.get(self.position))
    }

    /// Passes entries before `path`, which are gone, and says what is known of `path` itself.
    pub(super) fn seek<S: MetaSink<Error = EngineError>>(
        &mut self,
        path: &[u8],
        tree: &mut TreeWriter<'_>,
        sink: &mut S,
    ) -> Result<Known, EngineError> {
        loop {
            if self.leaf.is_none() && !self.next_leaf() {
                return Ok(Known::Nothing);
            }
            match self.entry().map(|entry| compare_paths(&entry.path, path)) {
                None => self.leaf = None,
                Some(std::cmp::Ordering::Less) => {
                    self.give_up_leaf(tree, sink)?;
                    self.pass();
                }
                Some(std::cmp::Ordering::Equal) => {
                    let fingerprints = self.fingerprints.as_ref();
                    let word = fingerprints.map(|words| words.get(self.number).copied().unwrap_or_default());
                    return Ok(word.map_or(Known::Entry, Known::Fingerprint));
                }
                Some(std::cmp::Ordering::Greater) => return Ok(Known::Nothing),
            }
        }
    }

    fn next_leaf(&mut self) -> bool {
        loop {
            match self.tree.next_leaf(&mut self.chunks) {
                None => return false,
                Some(Ok(leaf)) => {
                    (self.position, self.withheld, self.whole) = (0, 0, true);
                    self.leaf = Some(leaf);
                    return true;
                }
                // What is lost is read again from the source. Fingerprints are counted by entries: they are of no use any more, and
                // all that follows is read too.
                Some(Err(_)) => self.fingerprints = Some(Vec::new()),
            }
        }
    }

    /// Passes the current entry without taking it.
    pub(super) fn pass(&mut self) {
        self.position += 1;
        self.number += 1;
        if self.entry().is_none() {
            self.leaf = None;
        }
    }

    /// Something in the leaf differs: gives the withheld entries to the tree one by one.
    pub(super) fn give_up_leaf<S: MetaSink<Error = EngineError>>(
        &mut self,
        tree: &mut TreeWriter<'_>,
        sink: &mut S,
    ) -> Result<(), EngineError> {
        self.whole = false;
        let withheld = std::mem::take(&mut self.withheld);
        let entries = self.leaf.iter().flat_map(|leaf| &leaf.entries);
        for entry in entries.take(withheld) {
            tree.push(entry, sink)?;
        }
        Ok(())
    }

    /// Takes the current entry as it is.
    pub(super) fn keep<S: MetaSink<Error = EngineError>>(
        &mut self,
        tree: &mut TreeWriter<'_>,
        sink: &mut S,
    ) -> Result<(), EngineError> {
        let Some(leaf) = &self.leaf else { return Ok(()) };
        if self.whole && self.position == self.withheld && (self.withheld > 0 || tree.at_leaf_start()) {
            self.withheld += 1;
            if self.withheld == leaf.entries.len() && tree.ends_after(&leaf.child.last_path) {
                self.withheld = 0;
                tree.adopt_leaf(&leaf.child, sink)?;
            } else if self.withheld == leaf.entries.len() {
                self.give_up_leaf(tree, sink)?;
            }
        } else {
            self.give_up_leaf(tree, sink)?;
            if let Some(entry) = self.entry() {
                tree.push(entry, sink)?;
            }
        }
        self.pass();
        Ok(())
    }
}
