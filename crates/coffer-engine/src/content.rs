//! The content of one file, piece by piece, and the metadata of an entry.
//!
//! Memory is one data chunk and one list chunk for each level, whatever the file's size. What a reader gives has exactly the length that the
//! entry says, holes included; anything else is an error.

use coffer_collect::Metadata;
use coffer_format::pack::ChunkKind;
use coffer_format::tree::{Content, Hole, TreeEntry, TreeRoot};

use crate::error::EngineError;
use crate::read::ChunkReader;
use crate::tree_reader::{ContentReader, lookup, path_text, xattrs};

/// A piece of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Bytes, at least one.
    Data(Vec<u8>),
    /// So many zeros.
    Hole(u64),
}

/// Reads the content of a file from its beginning to its end.
#[derive(Debug)]
pub(crate) struct FileReader {
    offset: u64,
    size: u64,
    holes: std::vec::IntoIter<Hole>,
    hole: Option<Hole>,
    inline: Option<Vec<u8>>,
    list: ContentReader,
    /// Data that goes on behind a hole.
    rest: Vec<u8>,
}

impl FileReader {
    /// A reader of the content that `entry` itself carries; `holes` are its holes.
    pub(crate) fn new(entry: &TreeEntry, holes: Vec<Hole>) -> Self {
        let mut holes = holes.into_iter();
        let inline = match &entry.content {
            Content::Inline(bytes) => Some(bytes.clone()),
            Content::Empty | Content::List { .. } => None,
        };
        Self {
            offset: 0,
            size: entry.size,
            hole: holes.next(),
            holes,
            inline,
            list: ContentReader::new(&entry.content),
            rest: Vec::new(),
        }
    }

    /// The next piece; `None` at the end.
    pub(crate) fn next_piece(&mut self, chunks: &mut ChunkReader<'_>) -> Result<Option<Piece>, EngineError> {
        if let Some(hole) = self.hole.filter(|hole| hole.offset == self.offset) {
            self.offset += hole.len;
            self.hole = self.holes.next();
            return Ok(Some(Piece::Hole(hole.len)));
        }
        let mut data = std::mem::take(&mut self.rest);
        if data.is_empty() {
            data = match self.inline.take() {
                Some(bytes) => bytes,
                None => match self.list.next_chunk(chunks)? {
                    Some(chunk) => chunks.read(ChunkKind::Data, &chunk)?,
                    None if self.offset == self.size => return Ok(None),
                    None => return Err(EngineError::invalid("its content is shorter than its size says")),
                },
            };
        }
        let end = self.hole.map_or(self.size, |hole| hole.offset);
        let len = usize::try_from(end - self.offset).unwrap_or(usize::MAX).min(data.len());
        if len == 0 {
            return Err(EngineError::invalid("its content is longer than its size says"));
        }
        self.rest = data.split_off(len);
        self.offset += len as u64;
        Ok(Some(Piece::Data(data)))
    }
}

/// The entry that carries the content of `entry`: itself or, of a hard link, the first of its group.
pub(crate) fn carrier(
    root: &TreeRoot,
    entry: &TreeEntry,
    chunks: &mut ChunkReader<'_>,
) -> Result<TreeEntry, EngineError> {
    let Some(first) = &entry.hard_link else { return Ok(entry.clone()) };
    let found = lookup(root, first, chunks)?;
    found
        .filter(|found| found.hard_link.is_none() && found.kind == entry.kind)
        .ok_or_else(|| EngineError::NoPath { path: path_text(first) })
}

/// What a target or an archive is told of an entry.
pub(crate) fn metadata(entry: &TreeEntry, chunks: &mut ChunkReader<'_>) -> Result<Metadata, EngineError> {
    Ok(Metadata {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        user: entry.user.clone(),
        group: entry.group.clone(),
        mtime_ns: entry.mtime_ns,
        size: entry.size,
        link_target: entry.link_target.clone(),
        xattrs: xattrs(entry, chunks)?,
        device: entry.device,
    })
}
