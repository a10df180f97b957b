//! A file that is there against what the snapshot holds, along the snapshot's chunks.
//!
//! The file is read once, from the front; memory is one chunk. A chunk of which the file has the bytes at the right place needs
//! neither be looked up nor fetched.

use coffer_collect::OldFile;
use coffer_crypto::DomainKeys;
use coffer_format::pack::ChunkKind;
use coffer_format::tree::{ChunkRef, Content, Hole, TreeEntry};
use coffer_pipeline::pack_reader::chunk_id;

use super::ranges::DataRanges;
use crate::error::EngineError;
use crate::read::ChunkReader;
use crate::tree_reader::ContentReader;

/// One part of a file, and whether the old file has it.
pub(super) struct Stretch<'e> {
    pub(super) is_same: bool,
    pub(super) part: Part<'e>,
}

pub(super) enum Part<'e> {
    Hole(Hole),
    Inline { bytes: &'e [u8], ranges: Vec<(u64, u64)> },
    Chunk { chunk: ChunkRef, ranges: Vec<(u64, u64)> },
}

impl Part<'_> {
    /// Where the data of the part goes; none for a hole.
    pub(super) fn ranges(&self) -> &[(u64, u64)] {
        match self {
            Self::Hole(_) => &[],
            Self::Inline { ranges, .. } | Self::Chunk { ranges, .. } => ranges,
        }
    }
}

/// Goes through a file: its holes first, then its content from the front.
pub(super) struct Comparison<'e> {
    holes: std::slice::Iter<'e, Hole>,
    inline: Option<&'e [u8]>,
    content: ContentReader,
    ranges: DataRanges<'e>,
}

impl<'e> Comparison<'e> {
    pub(super) fn new(entry: &'e TreeEntry, holes: &'e [Hole]) -> Self {
        let inline = match &entry.content {
            Content::Inline(bytes) => Some(bytes.as_slice()),
            _ => None,
        };
        let (content, ranges) = (ContentReader::new(&entry.content), DataRanges::new(entry.size, holes));
        Self { holes: holes.iter(), inline, content, ranges }
    }

    /// The next part; `None` at the end. `buffer` is working memory.
    pub(super) fn next(
        &mut self,
        chunks: &mut ChunkReader<'_>,
        old: &OldFile,
        keys: &DomainKeys,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Stretch<'e>>, EngineError> {
        if let Some(hole) = self.holes.next() {
            let is_same = old.is_zero(hole.offset, hole.len);
            return Ok(Some(Stretch { is_same, part: Part::Hole(*hole) }));
        }
        if let Some(bytes) = self.inline.take() {
            let ranges = self.ranges.take_all(bytes.len() as u64)?;
            let is_same = read(old, &ranges, buffer) && buffer == bytes;
            return Ok(Some(Stretch { is_same, part: Part::Inline { bytes, ranges } }));
        }
        let Some(chunk) = self.content.next_chunk(chunks)? else {
            return if self.ranges.is_done() {
                Ok(None)
            } else {
                Err(EngineError::invalid("its content is not as long as its size says"))
            };
        };
        let ranges = self.ranges.take_all(u64::from(chunk.len))?;
        let is_same = read(old, &ranges, buffer) && chunk_id(keys, ChunkKind::Data, buffer) == chunk.id;
        Ok(Some(Stretch { is_same, part: Part::Chunk { chunk, ranges } }))
    }

    /// How far the content was gone through.
    pub(super) const fn offset(&self) -> u64 {
        self.ranges.offset()
    }
}

/// Reads what the old file has at these places; `false` if it does not go that far.
fn read(old: &OldFile, ranges: &[(u64, u64)], buffer: &mut Vec<u8>) -> bool {
    buffer.clear();
    // A file that ends earlier is not read, so nothing is allocated for what is not there.
    if ranges.last().is_some_and(|(offset, len)| offset.saturating_add(*len) > old.existing().size()) {
        return false;
    }
    ranges.iter().all(|(offset, len)| {
        let start = buffer.len();
        let Ok(len) = usize::try_from(*len) else { return false };
        buffer.resize(start + len, 0);
        old.read_at(&mut buffer[start..], *offset)
    })
}
