//! The parent's entries, merged with what the walk finds.
//!
//! Both come in path order. A writer, who cannot read the vault, has them from what this machine remembers. For others, while everything in a leaf is as it was, its entries are withheld; at its end the leaf is adopted without being
//! encoded again.

use coffer_format::path::compare_paths;
use coffer_format::tree::TreeEntry;
use coffer_pipeline::tree_writer::{MetaSink, TreeWriter};

use super::ahead::Unchanged;
use super::memory::Recalled;
use super::options::{BackupOptions, Origin};
use super::uploads::Uploads;
use crate::cache::KeptFingerprints;
use crate::error::EngineError;
use crate::parallel;
use crate::read::ChunkReader;
use crate::tree_reader::{Leaf, TreeReader};
use crate::vault::{Snapshot, Vault};

/// What was found to compare with.
pub(super) enum Found {
    /// A snapshot; for a writer with the state that this machine keeps of it.
    Parent(Box<Snapshot>, Option<Box<Recalled>>),
    /// None; with a reason, if there was one to be expected.
    Nothing(Option<&'static str>),
}

/// The snapshot to compare with: the one that was asked for, or the newest of the same origin.
pub(super) fn find(
    vault: &Vault<'_>,
    options: &BackupOptions,
    origin: &Origin,
) -> Result<Found, EngineError> {
    if options.force {
        return Ok(Found::Nothing(None));
    }
    if vault.writer.is_some() {
        if options.parent.is_some() {
            return Err(EngineError::NotAllowed { action: "compare with a snapshot of one's choice" });
        }
        return Ok(match Recalled::open(vault, origin) {
            Ok((snapshot, state)) => Found::Parent(Box::new(snapshot), Some(Box::new(state))),
            Err(reason) => Found::Nothing(reason),
        });
    }
    let domain = vault.owner_domain();
    let found = |snapshot: Snapshot| Ok(Found::Parent(Box::new(snapshot), None));
    if let Some(parent) = &options.parent {
        if parent.state.body.domain != domain {
            let reason = "the parent is of another dedup domain; nothing can be taken over from it";
            return Err(EngineError::invalid(reason));
        }
        return found(parent.clone());
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
        if let Some(parent) = read.into_iter().flatten().find(is_of_origin) {
            return found(parent);
        }
        wave = (2 * wave).min(in_flight);
    }
    Ok(Found::Nothing(None))
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
pub(super) enum Parent<'a> {
    /// From the tree in the vault.
    Vault(Box<FromVault<'a>>),
    /// From what a writer remembers.
    Local(Box<Recalled>),
}

impl<'a> Parent<'a> {
    pub(super) fn in_vault(
        uploads: &Uploads<'_, 'a, '_, '_>,
        snapshot: &Snapshot,
    ) -> Result<Self, EngineError> {
        Ok(Self::Vault(Box::new(FromVault::open(uploads, snapshot)?)))
    }

    /// Fingerprints of its entries that need not be read if they have one; `None` where nothing is remembered at all. They are given away.
    pub(super) fn take_unchanged(&mut self) -> Option<Unchanged> {
        match self {
            Self::Vault(tree) => tree.fingerprints.is_some().then(|| std::mem::take(&mut tree.unchanged)),
            Self::Local(state) => Some(state.take_unchanged()),
        }
    }

    /// The current entry.
    pub(super) fn entry(&self) -> Option<&TreeEntry> {
        match self {
            Self::Vault(tree) => tree.entry(),
            Self::Local(state) => state.entry(),
        }
    }

    /// Whether all of the current entry is known, or only what its content amounts to.
    pub(super) fn has_content(&self) -> bool {
        match self {
            Self::Vault(_) => true,
            Self::Local(state) => state.has_content(),
        }
    }

    /// Whether the current entry is this one.
    pub(super) fn has(&self, entry: &TreeEntry) -> bool {
        match self {
            Self::Vault(tree) => tree.entry().is_some_and(|old| old == entry),
            Self::Local(state) => state.has(entry),
        }
    }

    /// Whether the current entry has the content of this one.
    pub(super) fn has_content_of(&self, entry: &TreeEntry) -> bool {
        match self {
            Self::Vault(tree) => tree.entry().is_some_and(|old| old.content == entry.content),
            Self::Local(state) => state.has_content_of(entry),
        }
    }

    /// Passes entries before `path`, which are gone, and says what is known of `path` itself.
    pub(super) fn seek<S: MetaSink<Error = EngineError>>(
        &mut self,
        path: &[u8],
        tree: &mut TreeWriter<'_>,
        sink: &mut S,
    ) -> Result<Known, EngineError> {
        match self {
            Self::Vault(parent) => parent.seek(path, tree, sink),
            Self::Local(state) => Ok(state.seek(path).map_or(Known::Nothing, Known::Fingerprint)),
        }
    }

    /// Passes the current entry without taking it.
    pub(super) fn pass(&mut self) {
        match self {
            Self::Vault(parent) => parent.pass(),
            Self::Local(state) => state.pass(),
        }
    }

    /// Something in the leaf differs: gives the withheld entries to the tree one by one.
    pub(super) fn give_up_leaf<S: MetaSink<Error = EngineError>>(
        &mut self,
        tree: &mut TreeWriter<'_>,
        sink: &mut S,
    ) -> Result<(), EngineError> {
        match self {
            Self::Vault(parent) => parent.give_up_leaf(tree, sink),
            Self::Local(_) => Ok(()),
        }
    }

    /// Takes the current entry as it is; `read` is the same, where it was read.
    pub(super) fn keep<S: MetaSink<Error = EngineError>>(
        &mut self,
        read: Option<&TreeEntry>,
        tree: &mut TreeWriter<'_>,
        sink: &mut S,
    ) -> Result<(), EngineError> {
        match self {
            Self::Vault(parent) => parent.keep(tree, sink),
            Self::Local(state) => {
                // Encoded anew, the leaves are those of the parent, which the index knows.
                if let Some(entry) = read.or(state.entry()) {
                    tree.push(entry, sink)?;
                }
                state.pass();
                Ok(())
            }
        }
    }
}

/// The parent's entries as they are in the vault.
pub(super) struct FromVault<'a> {
    chunks: ChunkReader<'a>,
    tree: TreeReader,
    fingerprints: Option<KeptFingerprints>,
    /// All of them, until the guess takes them.
    unchanged: Unchanged,
    /// Number of entries before the current one.
    number: u64,
    leaf: Option<Leaf>,
    position: usize,
    /// Entries at the beginning of the leaf that are unchanged and were not given to the tree yet.
    withheld: usize,
    /// Whether the leaf can still be adopted.
    whole: bool,
}

impl<'a> FromVault<'a> {
    fn open(uploads: &Uploads<'_, 'a, '_, '_>, snapshot: &Snapshot) -> Result<Self, EngineError> {
        let vault = uploads.vault();
        // Without fingerprints every file is read, unless size and time are to decide.
        let origin = Origin::of(&snapshot.manifest).key();
        let mut unchanged = Unchanged::default();
        let fingerprints = vault.access.cache.map(|cache| {
            let mut show = |fingerprint| unchanged.push(fingerprint);
            cache.fingerprints(&vault.id(), &origin, &snapshot.id(), &mut show)
        });
        let fingerprints = fingerprints.map(|remembered| {
            remembered.unwrap_or_else(|| {
                // What was shown is not to be believed.
                unchanged = Unchanged::default();
                KeptFingerprints::default()
            })
        });
        Ok(Self {
            chunks: ChunkReader::without_recovery(vault, &snapshot.state.body.domain)?,
            tree: TreeReader::new(&snapshot.manifest.root),
            fingerprints,
            unchanged,
            number: 0,
            leaf: None,
            position: 0,
            withheld: 0,
            whole: false,
        })
    }

    /// The current entry.
    fn entry(&self) -> Option<&TreeEntry> {
        self.leaf.as_ref().and_then(|leaf| leaf.entries.get(self.position))
    }

    /// Passes entries before `path`, which are gone, and says what is known of `path` itself.
    fn seek<S: MetaSink<Error = EngineError>>(
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
                    let fingerprints = self.fingerprints.as_mut();
                    let fingerprint = fingerprints.map(|fingerprints| fingerprints.of_entry(self.number));
                    return Ok(fingerprint.map_or(Known::Entry, Known::Fingerprint));
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
                Some(Err(_)) => self.fingerprints = Some(KeptFingerprints::default()),
            }
        }
    }

    /// Passes the current entry without taking it.
    fn pass(&mut self) {
        self.position += 1;
        self.number += 1;
        if self.entry().is_none() {
            self.leaf = None;
        }
    }

    /// Something in the leaf differs: gives the withheld entries to the tree one by one.
    fn give_up_leaf<S: MetaSink<Error = EngineError>>(
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
    fn keep<S: MetaSink<Error = EngineError>>(
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
