//! A snapshot's tree, leaf by leaf, in path order.

use coffer_format::pack::ChunkKind;
use coffer_format::path::{compare_paths, display_path, is_within};
use coffer_format::tree::{
    Blob, ChunkRef, Content, Hole, Kind, NodeChild, TreeEntry, TreeRoot, Xattr, decode_holes, decode_leaf,
    decode_node, decode_xattrs,
};

use crate::error::EngineError;
use crate::read::ChunkReader;

/// A leaf with its entries.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    /// How its node lists it.
    pub(crate) child: NodeChild,
    /// Its entries.
    pub(crate) entries: Vec<TreeEntry>,
}

/// What was behind a subtree that was opened.
#[derive(Debug)]
pub(crate) enum Opened {
    /// A node: its children are to be visited next.
    Node,
    /// A leaf.
    Leaf(Leaf),
}

/// A part of the tree that cannot be read.
#[derive(Debug)]
pub struct LostSubtree {
    /// The last path in it.
    pub last_path: Vec<u8>,
    /// Number of entries in it, where known.
    pub entry_count: u64,
    /// Why it cannot be read.
    pub error: EngineError,
}

/// Walks the leaves of a tree. What cannot be read is reported once, and the walk goes on behind it.
#[derive(Debug)]
pub(crate) struct TreeReader {
    /// Children still to be visited, deepest level last; each level in reverse order.
    stack: Vec<(u8, NodeChild)>,
    /// The root was not visited yet: nothing is claimed about it.
    at_root: bool,
    last_path: Option<Vec<u8>>,
    /// Only leaves that can hold this path, or paths below it, are visited.
    within: Vec<u8>,
}

impl TreeReader {
    pub(crate) fn new(root: &TreeRoot) -> Self {
        Self::within(root, Vec::new())
    }

    /// A walk over the leaves that may hold `path` and what lies below it.
    pub(crate) fn within(root: &TreeRoot, path: Vec<u8>) -> Self {
        let child = NodeChild { last_path: Vec::new(), chunk: root.chunk, entry_count: 0, content_bytes: 0 };
        Self { stack: vec![(root.height, child)], at_root: true, last_path: None, within: path }
    }

    /// The next leaf; `None` at the end.
    pub(crate) fn next_leaf(&mut self, chunks: &mut ChunkReader<'_>) -> Option<Result<Leaf, LostSubtree>> {
        loop {
            // All that is on the stack will be visited.
            chunks.read_ahead(self.stack.iter().rev().map(|(_, child)| &child.chunk));
            match self.open(chunks)? {
                Ok(Opened::Node) => {}
                Ok(Opened::Leaf(leaf)) => return Some(Ok(leaf)),
                Err(lost) => return Some(Err(lost)),
            }
        }
    }

    /// The subtree that comes next, and its height; nothing is claimed of the root but its chunk.
    pub(crate) fn peek(&self) -> Option<(u8, &NodeChild)> {
        self.stack.last().map(|(height, child)| (*height, child))
    }

    /// Passes the subtree that comes next, without reading it.
    pub(crate) fn skip(&mut self) {
        let Some((_, child)) = self.stack.pop() else { return };
        if !std::mem::replace(&mut self.at_root, false) {
            self.last_path = Some(child.last_path);
        }
    }

    /// Reads the leaf or node that comes next; `None` at the end.
    pub(crate) fn open(&mut self, chunks: &mut ChunkReader<'_>) -> Option<Result<Opened, LostSubtree>> {
        let (height, child) = self.stack.pop()?;
        let is_root = std::mem::replace(&mut self.at_root, false);
        let opened = chunks.read(ChunkKind::Meta, &child.chunk).and_then(|bytes| {
            if height == 0 {
                return self.leaf(child.clone(), is_root, &bytes).map(Opened::Leaf);
            }
            let children = self.check_node(&child, is_root, decode_node(&bytes)?)?;
            self.push_children(height - 1, children);
            Ok(Opened::Node)
        });
        let lost = |error| LostSubtree { last_path: child.last_path, entry_count: child.entry_count, error };
        Some(opened.map_err(lost))
    }

    /// A node holds what is claimed of it, behind everything that came before: so no subtree is visited twice.
    fn check_node(
        &self,
        claim: &NodeChild,
        is_root: bool,
        children: Vec<NodeChild>,
    ) -> Result<Vec<NodeChild>, EngineError> {
        let behind = match (&self.last_path, children.first()) {
            (Some(last), Some(first)) => compare_paths(last, &first.last_path).is_lt(),
            _ => true,
        };
        let count = children.iter().fold(0_u64, |sum, child| sum.saturating_add(child.entry_count));
        let claimed = is_root
            || (children.last().is_some_and(|last| last.last_path == claim.last_path)
                && count == claim.entry_count);
        if behind && claimed {
            Ok(children)
        } else {
            Err(EngineError::invalid("a node does not hold what is said of it"))
        }
    }

    fn push_children(&mut self, height: u8, children: Vec<NodeChild>) {
        let mut passed = false;
        let mut wanted = Vec::new();
        for child in children {
            let before = compare_paths(&child.last_path, &self.within).is_lt();
            if before || passed {
                continue;
            }
            // The first child that ends behind everything below the path is the last that can hold any of it.
            passed = !is_within(&child.last_path, &self.within);
            wanted.push((height, child));
        }
        self.stack.extend(wanted.into_iter().rev());
    }

    fn leaf(&mut self, mut child: NodeChild, is_root: bool, bytes: &[u8]) -> Result<Leaf, EngineError> {
        let entries = decode_leaf(bytes)?;
        let ascending = match (&self.last_path, entries.first()) {
            (Some(last), Some(first)) => compare_paths(last, &first.path).is_lt(),
            _ => true,
        };
        let last_path = entries.last().map(|last| last.path.clone()).unwrap_or_default();
        let claimed = is_root || (child.entry_count == entries.len() as u64 && child.last_path == last_path);
        if !ascending || !claimed || (entries.is_empty() && !is_root) {
            return Err(EngineError::invalid("a leaf does not hold what is said of it"));
        }
        self.last_path = Some(last_path.clone());
        child.last_path = last_path;
        child.entry_count = entries.len() as u64;
        child.content_bytes = entries.iter().fold(0, |sum: u64, entry| sum.saturating_add(entry.size));
        Ok(Leaf { child, entries })
    }
}

/// Refuses entries below one that is no directory. Entries come in path order, so that the last such entry is enough to know.
#[derive(Debug, Default)]
pub(crate) struct Leaves {
    last: Option<Vec<u8>>,
}

impl Leaves {
    pub(crate) fn check(&mut self, entry: &TreeEntry) -> Result<(), EngineError> {
        if self.last.as_ref().is_some_and(|above| is_within(&entry.path, above)) {
            return Err(EngineError::invalid("it stands below something that is not a directory"));
        }
        if entry.kind != Kind::Directory {
            self.last = Some(entry.path.clone());
        }
        Ok(())
    }
}

/// The data chunks of a file, in order, from its content list. Memory is one list chunk for each level, whatever the list says.
#[derive(Debug)]
pub(crate) struct ContentReader {
    /// Rows still to be visited, with their level; the lowest level last.
    stack: Vec<(u8, std::vec::IntoIter<ChunkRef>)>,
}

impl ContentReader {
    pub(crate) fn new(content: &Content) -> Self {
        let stack = match content {
            Content::List { level, rows } => vec![(*level, rows.clone().into_iter())],
            Content::Empty | Content::Inline(_) => Vec::new(),
        };
        Self { stack }
    }

    /// The next chunk; `None` at the end.
    pub(crate) fn next_chunk(
        &mut self,
        chunks: &mut ChunkReader<'_>,
    ) -> Result<Option<ChunkRef>, EngineError> {
        while let Some((level, rows)) = self.stack.last_mut() {
            let level = *level;
            match (rows.next(), level) {
                (Some(chunk), 0) => return Ok(Some(chunk)),
                (Some(list), _) => {
                    chunks.read_ahead(std::iter::once(&list).chain(rows.as_slice()));
                    let rows = ChunkRef::read_chunked_rows(&chunks.read(ChunkKind::Meta, &list)?)?;
                    self.stack.push((level - 1, rows.into_iter()));
                }
                (None, _) => drop(self.stack.pop()),
            }
        }
        Ok(None)
    }
}

fn blob(blob: &Blob, chunks: &mut ChunkReader<'_>) -> Result<Vec<u8>, EngineError> {
    match blob {
        Blob::Inline(bytes) => Ok(bytes.clone()),
        Blob::Chunk(chunk) => chunks.read(ChunkKind::Meta, chunk),
    }
}

/// The extended attributes of an entry.
pub(crate) fn xattrs(entry: &TreeEntry, chunks: &mut ChunkReader<'_>) -> Result<Vec<Xattr>, EngineError> {
    let Some(stored) = &entry.xattrs else { return Ok(Vec::new()) };
    Ok(decode_xattrs(&blob(stored, chunks)?)?)
}

/// The holes of an entry.
pub(crate) fn holes(entry: &TreeEntry, chunks: &mut ChunkReader<'_>) -> Result<Vec<Hole>, EngineError> {
    let Some(stored) = &entry.holes else { return Ok(Vec::new()) };
    Ok(decode_holes(&blob(stored, chunks)?, entry.size)?)
}

/// The entry at `path`; `None` if the tree has none.
pub(crate) fn lookup(
    root: &TreeRoot,
    path: &[u8],
    chunks: &mut ChunkReader<'_>,
) -> Result<Option<TreeEntry>, EngineError> {
    let mut tree = TreeReader::within(root, path.to_vec());
    while let Some(leaf) = tree.next_leaf(chunks) {
        let leaf = leaf.map_err(|lost| lost.error)?;
        let found = leaf.entries.into_iter().find(|entry| compare_paths(&entry.path, path).is_ge());
        if let Some(entry) = found {
            return Ok(Some(entry).filter(|entry| entry.path == path));
        }
    }
    Ok(None)
}

/// How a path is named in messages.
pub(crate) fn path_text(path: &[u8]) -> String {
    if path.is_empty() { ".".to_owned() } else { display_path(path) }
}
