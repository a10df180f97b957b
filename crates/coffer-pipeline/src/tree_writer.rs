//! Entries into leaves, leaves into nodes, up to one root; and content lists.
//!
//! Where a leaf or node ends follows from paths alone, so an unchanged stretch of entries gives the same chunks again.

use coffer_crypto::DomainKeys;
use coffer_format::limits::{
    CONTENT_CHUNK_ROW_COUNT_MAX, CONTENT_LEVEL_MAX, CONTENT_ROW_COUNT_MAX, TREE_ITEM_COUNT_MAX, TREE_LEN_SOFT,
};
use coffer_format::tree::{ChunkRef, Content, NodeChild, TreeEntry, TreeRoot, encode_items_head};

/// Takes the bytes of a meta chunk and says under which id it is kept.
pub trait MetaSink {
    /// What can go wrong.
    type Error;

    /// Keeps a meta chunk.
    ///
    /// # Errors
    /// Whatever keeping it meets.
    fn put(&mut self, bytes: &[u8]) -> Result<ChunkRef, Self::Error>;
}

/// A leaf or node ends after a path whose keyed hash is below this: one in 64.
const END_BELOW: u32 = 1 << 26;

#[derive(Debug, Default)]
struct Level {
    items: Vec<u8>,
    item_count: usize,
    last_path: Vec<u8>,
    entry_count: u64,
    content_bytes: u64,
    /// Children this level has given to the next one.
    given: u64,
}

/// Writes the tree of one snapshot from entries in path order.
#[derive(Debug)]
pub struct TreeWriter<'k> {
    keys: &'k DomainKeys,
    levels: Vec<Level>,
}

impl<'k> TreeWriter<'k> {
    /// A tree without entries, in the domain of `keys`.
    #[must_use]
    pub fn new(keys: &'k DomainKeys) -> Self {
        Self { keys, levels: vec![Level::default()] }
    }

    /// Takes the tree out and leaves one without entries.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.keys))
    }

    /// Adds the next entry; paths ascend.
    ///
    /// # Errors
    /// What the sink says.
    pub fn push<S: MetaSink>(&mut self, entry: &TreeEntry, sink: &mut S) -> Result<(), S::Error> {
        let encoded = entry.encode();
        self.add(0, &encoded, &entry.path, 1, entry.size, sink)
    }

    /// Whether the next entry begins a leaf.
    #[must_use]
    pub fn at_leaf_start(&self) -> bool {
        self.levels[0].item_count == 0
    }

    /// Whether a leaf whose last path this is ends there whatever comes next, so that it may be adopted.
    #[must_use]
    pub fn ends_after(&self, last_path: &[u8]) -> bool {
        self.keys.tree_hash(0, last_path) < END_BELOW
    }

    /// Adds a whole leaf of an earlier tree without encoding it again. Call it where [`Self::at_leaf_start`] holds,
    /// with a leaf for which [`Self::ends_after`] holds and whose entries all are as they were.
    ///
    /// # Errors
    /// What the sink says.
    pub fn adopt_leaf<S: MetaSink>(&mut self, leaf: &NodeChild, sink: &mut S) -> Result<(), S::Error> {
        debug_assert!(self.at_leaf_start() && self.ends_after(&leaf.last_path), "a leaf is adopted whole");
        self.levels[0].given += 1;
        self.give(1, leaf, sink)
    }

    /// Ends the tree and returns its root.
    ///
    /// # Errors
    /// What the sink says.
    pub fn finish<S: MetaSink>(mut self, sink: &mut S) -> Result<TreeRoot, S::Error> {
        let mut height = 0;
        loop {
            let top = height + 1 == self.levels.len();
            let level = &self.levels[height];
            if top && (level.given == 0) {
                // Everything is in this one leaf or node. A node of one child stands for that child.
                let chunk = self.write_out(height, sink)?.chunk;
                return Ok(TreeRoot { chunk, height: u8::try_from(height).unwrap_or(u8::MAX) });
            }
            if self.levels[height].item_count > 0 {
                self.flush(height, sink)?;
            }
            height += 1;
            if height + 1 == self.levels.len()
                && self.levels[height].given == 0
                && self.levels[height].item_count == 1
            {
                return Ok(self.only_child(height));
            }
        }
    }

    /// The root when the topmost node would have a single child: that child itself.
    fn only_child(&self, height: usize) -> TreeRoot {
        let head = encode_items_head(1);
        let bytes = [&head[..], &self.levels[height].items].concat();
        let child = coffer_format::tree::decode_node(&bytes).ok().and_then(|mut children| children.pop());
        let child = child.expect("the level holds the one child that was encoded into it");
        TreeRoot { chunk: child.chunk, height: u8::try_from(height - 1).unwrap_or(u8::MAX) }
    }

    fn add<S: MetaSink>(
        &mut self,
        height: usize,
        encoded: &[u8],
        path: &[u8],
        entry_count: u64,
        content_bytes: u64,
        sink: &mut S,
    ) -> Result<(), S::Error> {
        let level = &self.levels[height];
        let len = items_head_len(level.item_count + 1) + level.items.len() as u64 + encoded.len() as u64;
        let full = len > TREE_LEN_SOFT || level.item_count as u64 >= TREE_ITEM_COUNT_MAX;
        if full && level.item_count > 0 {
            self.flush(height, sink)?;
        }
        let level = &mut self.levels[height];
        level.items.extend_from_slice(encoded);
        level.item_count += 1;
        level.last_path.clear();
        level.last_path.extend_from_slice(path);
        level.entry_count += entry_count;
        level.content_bytes = level.content_bytes.saturating_add(content_bytes);
        let height_byte = u8::try_from(height).unwrap_or(u8::MAX);
        let may_end = height == 0 || level.item_count > 1;
        if may_end && self.keys.tree_hash(height_byte, path) < END_BELOW {
            self.flush(height, sink)?;
        }
        Ok(())
    }

    /// Ends the leaf or node at `height` and lists it in the level above.
    fn flush<S: MetaSink>(&mut self, height: usize, sink: &mut S) -> Result<(), S::Error> {
        let child = self.write_out(height, sink)?;
        self.levels[height].given += 1;
        self.give(height + 1, &child, sink)
    }

    fn give<S: MetaSink>(&mut self, height: usize, child: &NodeChild, sink: &mut S) -> Result<(), S::Error> {
        if self.levels.len() == height {
            self.levels.push(Level::default());
        }
        let encoded = child.encode();
        self.add(height, &encoded, &child.last_path, child.entry_count, child.content_bytes, sink)
    }

    fn write_out<S: MetaSink>(&mut self, height: usize, sink: &mut S) -> Result<NodeChild, S::Error> {
        let level = &mut self.levels[height];
        let mut bytes = encode_items_head(level.item_count);
        bytes.extend_from_slice(&level.items);
        let child = NodeChild {
            last_path: std::mem::take(&mut level.last_path),
            chunk: sink.put(&bytes)?,
            entry_count: std::mem::take(&mut level.entry_count),
            content_bytes: std::mem::take(&mut level.content_bytes),
        };
        level.items.clear();
        level.item_count = 0;
        Ok(child)
    }
}

/// Length of what [`encode_items_head`] gives for up to [`TREE_ITEM_COUNT_MAX`] items.
const fn items_head_len(count: usize) -> u64 {
    match count {
        0..24 => 1,
        24..256 => 2,
        256..65_536 => 3,
        _ => 5,
    }
}

/// Collects the chunks of one file into its content list.
#[derive(Debug, Default)]
pub struct ContentWriter {
    /// Rows by level; all but the topmost are the tail that has not been written yet.
    levels: Vec<Vec<ChunkRef>>,
}

impl ContentWriter {
    /// Adds the next chunk.
    ///
    /// # Errors
    /// What the sink says.
    pub fn push<S: MetaSink>(&mut self, chunk: ChunkRef, sink: &mut S) -> Result<(), S::Error> {
        if self.levels.is_empty() {
            self.levels.push(Vec::new());
        }
        self.add(0, chunk, sink)
    }

    fn add<S: MetaSink>(&mut self, level: usize, row: ChunkRef, sink: &mut S) -> Result<(), S::Error> {
        let topmost = level + 1 == self.levels.len();
        let rows = &mut self.levels[level];
        rows.push(row);
        if topmost {
            if rows.len() as u64 <= CONTENT_ROW_COUNT_MAX || level as u64 >= CONTENT_LEVEL_MAX {
                return Ok(());
            }
            // The list outgrows the entry: cut what is there into chunks and list those one level up.
            self.levels.push(Vec::new());
            for row in std::mem::take(&mut self.levels[level]) {
                self.add(level, row, sink)?;
            }
            return Ok(());
        }
        if row.ends_list_chunk() || rows.len() as u64 >= CONTENT_CHUNK_ROW_COUNT_MAX {
            self.flush(level, sink)?;
        }
        Ok(())
    }

    fn flush<S: MetaSink>(&mut self, level: usize, sink: &mut S) -> Result<(), S::Error> {
        let mut bytes = Vec::new();
        self.levels[level].drain(..).for_each(|row| row.write_row(&mut bytes));
        let row = sink.put(&bytes)?;
        self.add(level + 1, row, sink)
    }

    /// Ends the list.
    ///
    /// # Errors
    /// What the sink says.
    pub fn finish<S: MetaSink>(mut self, sink: &mut S) -> Result<Content, S::Error> {
        let mut level = 0;
        while level + 1 < self.levels.len() {
            if !self.levels[level].is_empty() {
                self.flush(level, sink)?;
            }
            level += 1;
        }
        match self.levels.pop() {
            Some(rows) if !rows.is_empty() => {
                Ok(Content::List { level: u8::try_from(level).unwrap_or(u8::MAX), rows })
            }
            _ => Ok(Content::Empty),
        }
    }
}

#[cfg(test)]
mod tests;
