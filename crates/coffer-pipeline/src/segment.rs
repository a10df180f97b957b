//! Index segments: written from finished packs, read page by page.

use coffer_crypto::rng::{self, Rng};
use coffer_crypto::{DomainKeys, ObjectKind, Purpose, SealContext, SealKey, commitment_matches, hash};
use coffer_format::FormatError;
use coffer_format::id::{ChunkId, DomainId, PackId, SegmentId, VaultId};
use coffer_format::index::{ChunkRow, PAGE_SIZE, PackRow, SegmentHead, write_frame_row, write_pack_row};
use coffer_format::limits::{
    INDEX_CHUNK_COUNT_MAX, INDEX_FRAME_COUNT_MAX, INDEX_LEN_MAX, INDEX_PACK_COUNT_MAX, PAGE_LEN,
};
use coffer_format::pack::{Directory, FramePlace};

use crate::error::PipelineError;

/// Rows of the chunk table on one page.
const ROWS_IN_PAGE: usize = PAGE_SIZE / 32;

/// Collects packs and writes one index segment that lists them.
#[derive(Debug, Default)]
pub struct SegmentWriter {
    packs: Vec<PackRow>,
    frame_starts: Vec<u32>,
    frames: Vec<FramePlace>,
    rows: Vec<ChunkRow>,
}

/// An index segment ready to be stored.
#[derive(Debug)]
pub struct FinishedSegment {
    /// Its name.
    pub id: SegmentId,
    /// The bytes of the object.
    pub bytes: Vec<u8>,
}

impl SegmentWriter {
    /// Number of packs so far.
    #[must_use]
    pub fn pack_count(&self) -> usize {
        self.packs.len()
    }

    /// Number of chunks so far.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        self.rows.len()
    }

    /// What rows are found by: the first bytes of the ids of all chunks so far.
    pub fn prefixes(&self) -> impl Iterator<Item = &[u8; 20]> {
        self.rows.iter().map(|row| &row.prefix)
    }

    /// Whether a pack with this directory still fits.
    #[must_use]
    pub fn has_room(&self, directory: &Directory) -> bool {
        let chunks: usize = directory.frames.iter().map(|frame| frame.chunks.len()).sum();
        let rows = (self.rows.len() + chunks) as u64;
        let frames = (self.frames.len() + directory.frames.len()) as u64;
        (self.packs.len() as u64) < INDEX_PACK_COUNT_MAX
            && frames <= INDEX_FRAME_COUNT_MAX
            && rows <= INDEX_CHUNK_COUNT_MAX
            && rows * 33 + frames * 13 + (self.packs.len() as u64 + 1) * 45 + 4096 <= INDEX_LEN_MAX
    }

    /// Lists a pack.
    ///
    /// # Errors
    /// [`PipelineError::Full`] when [`Self::has_room`] would say no.
    pub fn add_pack(&mut self, id: PackId, len: u64, directory: &Directory) -> Result<(), PipelineError> {
        let full = |_| PipelineError::Full { object: "index segment", count: 1 };
        if !self.has_room(directory) {
            return Err(PipelineError::Full { object: "index segment", count: 1 });
        }
        let pack = u16::try_from(self.packs.len()).map_err(full)?;
        self.packs.push(PackRow { id, len });
        self.frame_starts.push(u32::try_from(self.frames.len()).map_err(full)?);
        for (number, frame) in directory.frames.iter().enumerate() {
            let number = u16::try_from(number).map_err(full)?;
            self.frames.push(frame.place);
            let mut offset = 0;
            for chunk in &frame.chunks {
                let prefix = ChunkRow::prefix_of(&chunk.id);
                self.rows.push(ChunkRow { prefix, pack, frame: number, offset, len: chunk.len });
                offset += chunk.len;
            }
        }
        Ok(())
    }

    /// Seals the segment and leaves the writer empty.
    ///
    /// # Errors
    /// When randomness fails.
    pub fn finish(
        &mut self,
        vault: VaultId,
        keys: &DomainKeys,
        rng: &dyn Rng,
    ) -> Result<FinishedSegment, PipelineError> {
        let full = |_| PipelineError::Full { object: "index segment", count: 0 };
        let writer = std::mem::take(self);
        let mut rows = writer.rows;
        rows.sort_unstable();
        rows.dedup_by_key(|row| row.prefix);
        let salt: [u8; 32] = rng::array(rng)?;
        let (key, commitment) = keys.index_segment_key(&vault.0, &salt);
        let head = SegmentHead {
            domain: DomainId(*keys.domain()),
            salt,
            commitment,
            pack_count: u32::try_from(writer.packs.len()).map_err(full)?,
            frame_count: u32::try_from(writer.frames.len()).map_err(full)?,
            chunk_count: rows.len() as u64,
        };
        let seal = SealKey::new(&key, SealContext::new(vault.0, ObjectKind::IndexSegment, salt));
        let mut bytes = head.encode();
        bytes.reserve(usize::try_from(head.object_len()).unwrap_or_default());
        writer.packs.iter().for_each(|pack| write_pack_row(pack, &mut bytes));
        let mut frame_table = Vec::with_capacity(writer.packs.len() * 4 + writer.frames.len() * 12);
        writer.frame_starts.iter().for_each(|start| frame_table.extend_from_slice(&start.to_le_bytes()));
        writer.frames.iter().for_each(|place| write_frame_row(place, &mut frame_table));
        append_pages(&seal, Purpose::FrameTablePage, &frame_table, &mut bytes)?;
        // Page by page: a table of its own would be as long as the segment.
        for (page, rows) in (0..).zip(rows.chunks(ROWS_IN_PAGE)) {
            let from = bytes.len();
            rows.iter().for_each(|row| bytes.extend_from_slice(&row.encode()));
            seal.seal_in_place(Purpose::ChunkTablePage, page, &mut bytes, from)?;
        }
        debug_assert_eq!(bytes.len() as u64, head.object_len(), "a segment has the length its counts say");
        Ok(FinishedSegment { id: SegmentId(hash::hash(&bytes)), bytes })
    }
}

/// The same segment under another name: everything in it is sealed anew, for somebody else has taken its name.
///
/// # Errors
/// When it does not open with these keys; when randomness fails.
pub fn reseal(
    stored: &[u8],
    vault: VaultId,
    keys: &DomainKeys,
    rng: &dyn Rng,
) -> Result<FinishedSegment, PipelineError> {
    let reader = SegmentReader::open(vault, keys, SegmentHead::decode(stored, stored.len() as u64)?)?;
    let head = reader.head();
    let salt: [u8; 32] = rng::array(rng)?;
    let (key, commitment) = keys.index_segment_key(&vault.0, &salt);
    let seal = SealKey::new(&key, SealContext::new(vault.0, ObjectKind::IndexSegment, salt));
    let mut bytes = SegmentHead { salt, commitment, ..head.clone() }.encode();
    let part = |from: u64, len: u64| {
        let from = usize::try_from(from).ok()?;
        stored.get(from..from.checked_add(usize::try_from(len).ok()?)?)
    };
    let cut = || FormatError::Malformed {
        object: "index segment",
        offset: 0,
        rule: "its length is not what its counts say",
    };
    bytes.extend_from_slice(part(bytes.len() as u64, head.pack_table_len()).ok_or_else(cut)?);
    for (table, purpose, pages) in [
        (SegmentTable::Frames, Purpose::FrameTablePage, head.frame_table()),
        (SegmentTable::Chunks, Purpose::ChunkTablePage, head.chunk_table()),
    ] {
        let mut plain = Vec::new();
        let mut opened = Vec::new();
        for page in 0..pages.page_count() {
            let (offset, len) = pages.page(page);
            reader.page(table, page, part(offset, len).ok_or_else(cut)?, &mut opened)?;
            plain.append(&mut opened);
        }
        append_pages(&seal, purpose, &plain, &mut bytes)?;
    }
    Ok(FinishedSegment { id: SegmentId(hash::hash(&bytes)), bytes })
}

fn append_pages(
    seal: &SealKey,
    purpose: Purpose,
    table: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), PipelineError> {
    for (page, plain) in (0..).zip(table.chunks(PAGE_SIZE)) {
        let from = out.len();
        out.extend_from_slice(plain);
        seal.seal_in_place(purpose, page, out, from)?;
    }
    Ok(())
}

/// Opens the pages of one index segment. It holds the public head and the key; the caller fetches bytes.
#[derive(Debug)]
pub struct SegmentReader {
    head: SegmentHead,
    key: SealKey,
}

/// The two sealed tables of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SegmentTable {
    /// Frame starts by pack, then frame places.
    Frames,
    /// Chunk rows.
    Chunks,
}

impl SegmentReader {
    /// Finds the key of the segment with this head.
    ///
    /// # Errors
    /// [`PipelineError::Commitment`] when the keys are not those of the segment's domain and vault.
    pub fn open(vault: VaultId, keys: &DomainKeys, head: SegmentHead) -> Result<Self, PipelineError> {
        let (key, commitment) = keys.index_segment_key(&vault.0, &head.salt);
        if head.domain.0 != *keys.domain() || !commitment_matches(&commitment, &head.commitment) {
            return Err(PipelineError::Commitment { object: "index segment" });
        }
        let key = SealKey::new(&key, SealContext::new(vault.0, ObjectKind::IndexSegment, head.salt));
        Ok(Self { head, key })
    }

    /// The public head.
    #[must_use]
    pub const fn head(&self) -> &SegmentHead {
        &self.head
    }

    /// Opens a sealed page into `out`.
    ///
    /// # Errors
    /// When it does not open.
    pub fn page(
        &self,
        table: SegmentTable,
        page: u64,
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), PipelineError> {
        let purpose = match table {
            SegmentTable::Frames => Purpose::FrameTablePage,
            SegmentTable::Chunks => Purpose::ChunkTablePage,
        };
        let page =
            u32::try_from(page).map_err(|_| PipelineError::Full { object: "index segment", count: page })?;
        Ok(self.key.open_to(purpose, page, sealed, out)?)
    }

    /// The page of the chunk table where the row of `id` is, if ids are spread evenly.
    #[must_use]
    pub fn guess_page(&self, id: &ChunkId) -> u64 {
        let first =
            u64::from_be_bytes([id.0[0], id.0[1], id.0[2], id.0[3], id.0[4], id.0[5], id.0[6], id.0[7]]);
        let row = (u128::from(first) * u128::from(self.head.chunk_count)) >> 64;
        u64::try_from(row).unwrap_or_default() / (PAGE_LEN / 32)
    }
}

/// What a page of the chunk table says about an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageAnswer {
    /// The row.
    Found(ChunkRow),
    /// It is not in the segment.
    Absent,
    /// If anywhere, it is on an earlier page.
    Before,
    /// If anywhere, it is on a later page.
    After,
}

/// Looks for `id` in an opened page of the chunk table.
///
/// # Errors
/// When the page is not whole rows.
pub fn find_in_page(page: &[u8], id: &ChunkId) -> Result<PageAnswer, FormatError> {
    let (rows, rest) = page.as_chunks::<32>();
    if rows.is_empty() || !rest.is_empty() {
        return Err(FormatError::Malformed {
            object: "chunk table",
            offset: 0,
            rule: "a page is not whole rows",
        });
    }
    let prefix = ChunkRow::prefix_of(id);
    Ok(match rows.binary_search_by(|row| row[..20].cmp(&prefix[..])) {
        Ok(at) => PageAnswer::Found(ChunkRow::decode(&rows[at])),
        Err(0) => PageAnswer::Before,
        Err(at) if at == rows.len() => PageAnswer::After,
        Err(_) => PageAnswer::Absent,
    })
}

#[cfg(test)]
mod tests;
