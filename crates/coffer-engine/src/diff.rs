//! What differs between two snapshots, or between a snapshot and a directory.
//!
//! Two trees are compared from their roots down. Subtrees with the same id hold the same and are passed without being read, so the cost is
//! that of the changes and not of the trees. Where a part of one tree cannot be read, nothing is claimed about what the other one has
//! there: it is neither new nor gone.

use std::collections::HashSet;

use coffer_format::path::{compare_paths, is_within};
use coffer_format::tree::{Kind, TreeEntry, TreeRoot};

use crate::content::carrier;
use crate::error::EngineError;
use crate::read::ChunkReader;
use crate::tree_reader::{LostSubtree, TreeReader, path_text, xattrs};
use crate::vault::{Snapshot, Vault};

mod bytes;
mod cursor;
mod directory;

use cursor::{Cursor, Head, Unknown, relative};
pub use directory::{DirectoryOptions, diff_directory};

/// What is compared, and how.
#[derive(Debug, Clone, Default)]
pub struct DiffOptions {
    /// The part of the old snapshot; empty for all of it.
    pub old_within: Vec<u8>,
    /// The part of the new snapshot; empty for all of it.
    pub new_within: Vec<u8>,
    /// Whether entries are shown of which only the metadata differs.
    pub metadata: bool,
}

/// How an entry differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Only the new side has it.
    Added,
    /// Only the old side has it.
    Removed,
    /// It is of another kind.
    Kind,
    /// It has other content: data of a file, target of a symlink, numbers of a device.
    Content {
        /// The content is another, but size and times are the same: a sign of damage.
        suspect: bool,
    },
    /// Its content is the same, other facts about it are not.
    Metadata,
}

/// An entry that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its path below the parts that are compared; empty for these themselves.
    pub path: Vec<u8>,
    /// How it differs.
    pub change: Change,
    /// What it is, on the new side if it is there.
    pub kind: Kind,
    /// Its size on the old side, if it is there.
    pub old_size: Option<u64>,
    /// Its size on the new side, if it is there.
    pub new_size: Option<u64>,
}

/// What a comparison shows, one by one in path order.
#[derive(Debug)]
pub enum DiffItem {
    /// An entry that differs.
    Difference(Difference),
    /// A part of a tree that cannot be read, and with which nothing was compared.
    Lost(LostSubtree),
    /// An entry that could not be compared.
    Uncompared {
        /// Its path below the parts that are compared.
        path: Vec<u8>,
        /// Why.
        error: EngineError,
    },
}

/// Entries that only one side has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiffCounts {
    /// Files.
    pub file_count: u64,
    /// Directories.
    pub directory_count: u64,
    /// Everything else.
    pub other_count: u64,
    /// Content: of these files, and of the others what only this side has of it, as far as that can be told by chunks.
    pub content_bytes: u64,
}

/// Totals of a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiffReport {
    /// What only the new side has.
    pub added: DiffCounts,
    /// What only the old side has.
    pub removed: DiffCounts,
    /// Entries with other content.
    pub content_count: u64,
    /// Entries with other metadata alone, if these were asked for.
    pub metadata_count: u64,
    /// Entries of another kind.
    pub kind_count: u64,
    /// Entries and parts of trees that could not be compared.
    pub uncompared_count: u64,
    /// Leaves and nodes of trees that were read.
    pub tree_chunk_count: u64,
    /// Whether a part of a tree or a chunk could not be read.
    pub lost: bool,
}

impl DiffReport {
    fn count(&mut self, difference: &Difference) {
        let side = match difference.change {
            Change::Added => &mut self.added,
            Change::Removed => &mut self.removed,
            Change::Kind => {
                self.kind_count += 1;
                self.removed.content_bytes += difference.old_size.unwrap_or_default();
                self.added.content_bytes += difference.new_size.unwrap_or_default();
                return;
            }
            Change::Content { .. } => {
                self.content_count += 1;
                return;
            }
            Change::Metadata => {
                self.metadata_count += 1;
                return;
            }
        };
        match difference.kind {
            Kind::File | Kind::Resource => side.file_count += 1,
            Kind::Directory => side.directory_count += 1,
            _ => side.other_count += 1,
        }
        side.content_bytes += difference.new_size.or(difference.old_size).unwrap_or_default();
    }
}

/// Hears of differences.
pub type DiffVisit<'f> = dyn FnMut(DiffItem) -> Result<(), EngineError> + 'f;

/// Compares two snapshots of a vault.
///
/// # Errors
/// [`EngineError::NoPath`] when a part is not there; those of the vault, and what `visit` returns.
pub fn diff(
    vault: &Vault<'_>,
    old: &Snapshot,
    new: &Snapshot,
    options: &DiffOptions,
    visit: &mut DiffVisit<'_>,
) -> Result<DiffReport, EngineError> {
    let (old_domain, new_domain) = (old.state.body.domain, new.state.body.domain);
    let mut readers = vec![ChunkReader::new(vault, &old_domain)?];
    if new_domain != old_domain {
        readers.push(ChunkReader::new(vault, &new_domain)?);
    }
    let new_reader = readers.len() - 1;
    for (snapshot, within, reader) in [(old, &options.old_within, 0), (new, &options.new_within, new_reader)]
    {
        check_part(&snapshot.manifest.root, within, &mut readers[reader])?;
    }
    let mut merge = Merge {
        vault,
        options,
        old: Cursor::new(&old.manifest.root, &options.old_within, 0),
        new: Cursor::new(&new.manifest.root, &options.new_within, new_reader),
        same_domain: old_domain == new_domain,
        same_part: options.old_within == options.new_within,
        told: HashSet::new(),
        readers,
        report: DiffReport::default(),
        visit,
    };
    merge.run()?;
    Ok(merge.report)
}

/// A part that is named is there: an entry, or a directory above entries.
fn check_part(root: &TreeRoot, within: &[u8], chunks: &mut ChunkReader<'_>) -> Result<(), EngineError> {
    if within.is_empty() {
        return Ok(());
    }
    let mut tree = TreeReader::within(root, within.to_vec());
    while let Some(leaf) = tree.next_leaf(chunks) {
        // What is lost may have held it.
        let Ok(leaf) = leaf else { return Ok(()) };
        if leaf.entries.iter().any(|entry| is_within(&entry.path, within)) {
            return Ok(());
        }
    }
    Err(EngineError::NoPath { path: path_text(within) })
}

struct Merge<'m, 'v, 'f> {
    vault: &'m Vault<'v>,
    options: &'m DiffOptions,
    old: Cursor<'m>,
    new: Cursor<'m>,
    /// Chunks of both sides are named by the same keys.
    same_domain: bool,
    /// Entries have the same paths on both sides.
    same_part: bool,
    /// First paths (old, new) of files that differ and were shown where one of the two is a later link. Grows with such files alone.
    told: HashSet<(Vec<u8>, Vec<u8>)>,
    readers: Vec<ChunkReader<'v>>,
    report: DiffReport,
    visit: &'m mut DiffVisit<'f>,
}

impl Merge<'_, '_, '_> {
    fn run(&mut self) -> Result<(), EngineError> {
        loop {
            self.vault.access.check_interrupt()?;
            if self.pass_unknown() {
                continue;
            }
            match (self.old.head(), self.new.head()) {
                (Head::End, Head::End) => return Ok(()),
                (
                    Head::Subtree { height: old_height, id: old_id },
                    Head::Subtree { height: new_height, id: new_id },
                ) => {
                    if self.same_part && old_height == new_height && old_id == new_id {
                        self.old.skip();
                        self.new.skip();
                    } else {
                        self.open(old_height >= new_height)?;
                    }
                }
                (Head::Subtree { .. }, _) => self.open(true)?,
                (_, Head::Subtree { .. }) => self.open(false)?,
                (Head::Entry | Head::End, Head::Entry | Head::End) => self.entries()?,
            }
        }
    }

    fn pass_unknown(&mut self) -> bool {
        let passed = |unknown: &mut Option<Unknown>, other: &mut Cursor<'_>| {
            let Some(known) = unknown else { return false };
            let passed = other.pass_unknown(known);
            // Once something lies behind it, nothing more lies in it.
            if !passed && other.path().is_some() {
                *unknown = None;
            }
            passed
        };
        passed(&mut self.old.unknown, &mut self.new) || passed(&mut self.new.unknown, &mut self.old)
    }

    fn open(&mut self, is_old: bool) -> Result<(), EngineError> {
        let cursor = if is_old { &mut self.old } else { &mut self.new };
        self.report.tree_chunk_count += 1;
        if let Some(lost) = cursor.open(&mut self.readers) {
            self.report.uncompared_count += 1;
            self.report.lost = true;
            (self.visit)(DiffItem::Lost(lost))?;
        }
        Ok(())
    }

    fn entries(&mut self) -> Result<(), EngineError> {
        let order = match (self.old.path(), self.new.path()) {
            (Some(old), Some(new)) => compare_paths(old, new),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, _) => std::cmp::Ordering::Greater,
        };
        let old = if order.is_le() { self.old.entries.next() } else { None };
        let new = if order.is_ge() { self.new.entries.next() } else { None };
        let entry = new.as_ref().or(old.as_ref());
        let within = if new.is_some() { self.new.within } else { self.old.within };
        let Some(path) = entry.and_then(|entry| relative(&entry.path, within)) else { return Ok(()) };
        let path = path.to_vec();
        let change = match (&old, &new) {
            (Some(_), None) => Ok(Some(Change::Removed)),
            (Some(old), Some(new)) => self.change(old, new),
            (None, _) => Ok(Some(Change::Added)),
        };
        match change {
            Ok(None) => Ok(()),
            Ok(Some(change)) => {
                let kind = entry.map_or(Kind::File, |entry| entry.kind);
                let size = |entry: Option<TreeEntry>| entry.map(|entry| counted_size(&entry));
                let difference = Difference { path, change, kind, old_size: size(old), new_size: size(new) };
                self.report.count(&difference);
                (self.visit)(DiffItem::Difference(difference))
            }
            Err(error) if is_loss(&error) => {
                self.report.uncompared_count += 1;
                self.report.lost = true;
                (self.visit)(DiffItem::Uncompared { path, error })
            }
            Err(error) => Err(error),
        }
    }

    fn change(&mut self, old: &TreeEntry, new: &TreeEntry) -> Result<Option<Change>, EngineError> {
        if self.same_part && self.same_domain && old == new {
            return Ok(None);
        }
        if old.kind != new.kind {
            return Ok(Some(Change::Kind));
        }
        let content = match old.kind {
            Kind::File | Kind::Resource => self.content_differs(old, new)?,
            Kind::Symlink => old.link_target != new.link_target,
            Kind::CharDevice | Kind::BlockDevice => old.device != new.device,
            Kind::Directory | Kind::Fifo | Kind::Socket => false,
        };
        if content {
            let same_facts = old.size == new.size && old.mtime_ns == new.mtime_ns;
            return Ok(Some(Change::Content { suspect: old.kind == Kind::File && same_facts }));
        }
        let metadata = self.options.metadata && self.metadata_differs(old, new)?;
        Ok(metadata.then_some(Change::Metadata))
    }

    fn content_differs(&mut self, old: &TreeEntry, new: &TreeEntry) -> Result<bool, EngineError> {
        if let (Some(old_first), Some(new_first)) = (&old.hard_link, &new.hard_link)
            && let Some(first) = relative(old_first, self.old.within)
            && Some(first) == relative(new_first, self.new.within)
        {
            // It is the content of the first one, of which it is said.
            return Ok(false);
        }
        let is_link = old.hard_link.is_some() || new.hard_link.is_some();
        let old = carrier(&self.old.root, old, &mut self.readers[self.old.reader])?;
        let new = carrier(&self.new.root, new, &mut self.readers[self.new.reader])?;
        let firsts = is_link.then(|| (old.path.clone(), new.path.clone()));
        if firsts.as_ref().is_some_and(|firsts| self.told.contains(firsts)) {
            return Ok(false);
        }
        let differs = if old.size != new.size {
            true
        } else if self.same_domain && old.holes == new.holes {
            old.content != new.content
        } else {
            bytes::differ(&old, self.old.reader, &new, self.new.reader, &mut self.readers)?
        };
        if differs {
            self.count_bytes(&old, &new)?;
            self.told.extend(firsts);
        }
        Ok(differs)
    }

    fn count_bytes(&mut self, old: &TreeEntry, new: &TreeEntry) -> Result<(), EngineError> {
        let (removed, added) = if self.same_domain {
            bytes::changed(old, new, &mut self.readers[0])?
        } else {
            (old.size, new.size)
        };
        self.report.removed.content_bytes += removed;
        self.report.added.content_bytes += added;
        Ok(())
    }

    fn metadata_differs(&mut self, old: &TreeEntry, new: &TreeEntry) -> Result<bool, EngineError> {
        let facts = |entry: &TreeEntry| {
            let TreeEntry { mode, uid, gid, mtime_ns, changed_while_read, .. } = *entry;
            (mode, uid, gid, mtime_ns, changed_while_read)
        };
        let same_links = !self.same_part || old.hard_link == new.hard_link;
        if facts(old) != facts(new)
            || (&old.user, &old.group, &old.resource) != (&new.user, &new.group, &new.resource)
            || !same_links
        {
            return Ok(true);
        }
        if self.same_domain {
            return Ok(old.xattrs != new.xattrs);
        }
        let old = xattrs(old, &mut self.readers[self.old.reader])?;
        Ok(old != xattrs(new, &mut self.readers[self.new.reader])?)
    }
}

/// Whether an error says that something of a snapshot is lost.
const fn is_loss(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::ChunkLost { .. }
            | EngineError::Damaged { .. }
            | EngineError::NoPath { .. }
            | EngineError::Format(_)
            | EngineError::Invalid { .. }
    )
}

/// The size that counts in totals: hard links have the content of another entry.
fn counted_size(entry: &TreeEntry) -> u64 {
    if entry.hard_link.is_some() { 0 } else { entry.size }
}
