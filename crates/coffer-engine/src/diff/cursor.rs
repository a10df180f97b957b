//! One side of a comparison: a tree in path order, of which nothing is read before it is needed.

use coffer_format::id::ChunkId;
use coffer_format::path::{compare_paths, is_within};
use coffer_format::tree::{TreeEntry, TreeRoot};

use crate::read::ChunkReader;
use crate::tree_reader::{LostSubtree, Opened, TreeReader};

/// The path below a part; `None` for one that is not in it.
pub(super) fn relative<'p>(path: &'p [u8], within: &[u8]) -> Option<&'p [u8]> {
    if !is_within(path, within) {
        return None;
    }
    let rest = path.get(within.len()..).unwrap_or_default();
    Some(rest.strip_prefix(b"/").filter(|_| !within.is_empty()).unwrap_or(rest))
}

/// How far one side is unknown.
#[derive(Debug, Clone)]
pub(super) enum Unknown {
    /// Up to this relative path, and with it.
    To(Vec<u8>),
    /// To the end.
    ToEnd,
}

impl Unknown {
    pub(super) fn covers(&self, path: &[u8]) -> bool {
        match self {
            Self::To(last) => compare_paths(path, last).is_le(),
            Self::ToEnd => true,
        }
    }
}

/// One side of a comparison: subtrees that are not opened yet, and entries of the leaf that is.
pub(super) struct Cursor<'w> {
    pub(super) root: TreeRoot,
    pub(super) within: &'w [u8],
    /// Which reader has its chunks.
    pub(super) reader: usize,
    tree: TreeReader,
    pub(super) entries: std::iter::Peekable<std::vec::IntoIter<TreeEntry>>,
    pub(super) unknown: Option<Unknown>,
    is_fresh: bool,
}

/// What a cursor stands before.
pub(super) enum Head {
    Subtree { height: u8, id: ChunkId },
    Entry,
    End,
}

impl<'w> Cursor<'w> {
    pub(super) fn new(root: &TreeRoot, within: &'w [u8], reader: usize) -> Self {
        Self {
            root: *root,
            within,
            reader,
            tree: TreeReader::within(root, within.to_vec()),
            entries: Vec::new().into_iter().peekable(),
            unknown: None,
            is_fresh: true,
        }
    }

    pub(super) fn head(&mut self) -> Head {
        if self.entries.peek().is_some() {
            return Head::Entry;
        }
        match self.tree.peek() {
            Some((height, child)) => Head::Subtree { height, id: child.chunk.id },
            None => Head::End,
        }
    }

    /// The relative path of the entry that comes next.
    pub(super) fn path(&mut self) -> Option<&[u8]> {
        let within = self.within;
        self.entries.peek().and_then(|entry| relative(&entry.path, within))
    }

    pub(super) fn skip(&mut self) {
        self.is_fresh = false;
        self.tree.skip();
    }

    /// Opens the subtree that comes next; gives what is lost if it cannot be read.
    pub(super) fn open(&mut self, readers: &mut [ChunkReader<'_>]) -> Option<LostSubtree> {
        let was_fresh = std::mem::replace(&mut self.is_fresh, false);
        match self.tree.open(&mut readers[self.reader])? {
            Ok(Opened::Node) => None,
            Ok(Opened::Leaf(leaf)) => {
                let mut entries = leaf.entries;
                entries.retain(|entry| is_within(&entry.path, self.within));
                self.entries = entries.into_iter().peekable();
                None
            }
            Err(lost) => {
                let last = relative(&lost.last_path, self.within).filter(|_| !was_fresh);
                self.unknown = Some(last.map_or(Unknown::ToEnd, |last| Unknown::To(last.to_vec())));
                Some(lost)
            }
        }
    }

    /// Passes what comes next if the other side is unknown there, and says whether it did.
    pub(super) fn pass_unknown(&mut self, unknown: &Unknown) -> bool {
        if let Some(path) = self.path() {
            let covered = unknown.covers(path);
            if covered {
                self.entries.next();
            }
            return covered;
        }
        let Some((_, child)) = self.tree.peek() else { return false };
        let last = relative(&child.last_path, self.within).filter(|_| !self.is_fresh);
        let covered = matches!(unknown, Unknown::ToEnd) || last.is_some_and(|last| unknown.covers(last));
        if covered {
            self.skip();
        }
        covered
    }
}
