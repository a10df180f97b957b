//! Layout of index segments (specification section 11).

use crate::error::{FormatError, check_len};
use crate::id::{ChunkId, DomainId, PackId};
use crate::limits::{
    CHUNK_LEN_MAX, INDEX_CHUNK_COUNT_MAX, INDEX_FRAME_COUNT_MAX, INDEX_LEN_MAX, INDEX_PACK_COUNT_MAX,
    PACK_LEN_MAX, PACK_LEN_MIN, PAGE_LEN, TAG_LEN,
};
use crate::pack::FramePlace;

const OBJECT: &str = "index segment";
const MAGIC: &[u8; 8] = b"coffidx1";

/// Length of what stands before the pack table.
pub const SEGMENT_HEAD_LEN: u64 = 104;
/// [`PAGE_LEN`] as a length in memory.
pub const PAGE_SIZE: usize = 16_384;
/// Length of a row of the chunk table.
pub const CHUNK_ROW_LEN: u64 = 32;
/// Length of the part of a chunk id that stands in a row.
pub const ID_PREFIX_LEN: usize = 20;

const _: () = assert!(PAGE_SIZE as u64 == PAGE_LEN);

const PACK_ROW_LEN: u64 = 40;
const FRAME_ROW_LEN: u64 = 12;

/// A pack in the public table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRow {
    /// Name of the pack.
    pub id: PackId,
    /// Length of the object in bytes.
    pub len: u64,
}

/// The public head of an index segment: what can be read without a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHead {
    /// Dedup domain.
    pub domain: DomainId,
    /// Salt of the segment's key.
    pub salt: [u8; 32],
    /// Commitment to the segment's key.
    pub commitment: [u8; 32],
    /// Number of packs.
    pub pack_count: u32,
    /// Number of frames in all packs.
    pub frame_count: u32,
    /// Number of chunks.
    pub chunk_count: u64,
}

/// Where one table of a segment stands: pages of equal plain length, the last one shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Offset of its first sealed page in the object.
    pub offset: u64,
    /// Length of its plaintext.
    pub plain_len: u64,
}

impl Table {
    /// Number of pages.
    #[must_use]
    pub const fn page_count(&self) -> u64 {
        self.plain_len.div_ceil(PAGE_LEN)
    }

    /// Length of the sealed pages together.
    #[must_use]
    pub const fn sealed_len(&self) -> u64 {
        self.plain_len + self.page_count() * TAG_LEN
    }

    /// Offset in the object, and sealed length, of a page below [`Self::page_count`].
    #[must_use]
    pub fn page(&self, page: u64) -> (u64, u64) {
        let plain_len = (self.plain_len - page * PAGE_LEN).min(PAGE_LEN);
        (self.offset + page * (PAGE_LEN + TAG_LEN), plain_len + TAG_LEN)
    }
}

impl SegmentHead {
    /// The bytes before the pack table.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(104);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.domain.0);
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.commitment);
        out.extend_from_slice(&self.pack_count.to_le_bytes());
        out.extend_from_slice(&self.frame_count.to_le_bytes());
        out.extend_from_slice(&self.chunk_count.to_le_bytes());
        out
    }

    /// Reads the bytes before the pack table of an object of `object_len` bytes.
    ///
    /// # Errors
    /// When a count is over its limit, or the counts do not add up to the object's length.
    pub fn decode(bytes: &[u8], object_len: u64) -> Result<Self, FormatError> {
        let fail = |rule| FormatError::rule(OBJECT, rule);
        check_len(OBJECT, object_len, INDEX_LEN_MAX)?;
        let Some(bytes) = bytes.first_chunk::<104>().filter(|bytes| bytes.starts_with(MAGIC)) else {
            return Err(fail("it does not begin as an index segment does"));
        };
        let (mut domain, mut salt, mut commitment) = ([0; 16], [0; 32], [0; 32]);
        domain.copy_from_slice(&bytes[8..24]);
        salt.copy_from_slice(&bytes[24..56]);
        commitment.copy_from_slice(&bytes[56..88]);
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let head = Self {
            domain: DomainId(domain),
            salt,
            commitment,
            pack_count: number(88),
            frame_count: number(92),
            chunk_count: u64::from(number(96)) | u64::from(number(100)) << 32,
        };
        check_len("pack count of an index segment", u64::from(head.pack_count), INDEX_PACK_COUNT_MAX)?;
        check_len("frame count of an index segment", u64::from(head.frame_count), INDEX_FRAME_COUNT_MAX)?;
        check_len("chunk count of an index segment", head.chunk_count, INDEX_CHUNK_COUNT_MAX)?;
        if head.object_len() == object_len {
            Ok(head)
        } else {
            Err(fail("its length is not what its counts say"))
        }
    }

    /// Length of the pack table.
    #[must_use]
    pub fn pack_table_len(&self) -> u64 {
        u64::from(self.pack_count) * PACK_ROW_LEN
    }

    /// The frame table.
    #[must_use]
    pub fn frame_table(&self) -> Table {
        let plain_len = u64::from(self.pack_count) * 4 + u64::from(self.frame_count) * FRAME_ROW_LEN;
        Table { offset: SEGMENT_HEAD_LEN + self.pack_table_len(), plain_len }
    }

    /// The chunk table.
    #[must_use]
    pub fn chunk_table(&self) -> Table {
        let frames = self.frame_table();
        Table { offset: frames.offset + frames.sealed_len(), plain_len: self.chunk_count * CHUNK_ROW_LEN }
    }

    /// Length of the whole object.
    #[must_use]
    pub fn object_len(&self) -> u64 {
        let chunks = self.chunk_table();
        chunks.offset + chunks.sealed_len()
    }

    /// Reads the pack table, which follows the head.
    ///
    /// # Errors
    /// When it has another length, a pack's length is out of bounds, or a name stands twice.
    pub fn decode_packs(&self, table: &[u8]) -> Result<Vec<PackRow>, FormatError> {
        let fail = |rule| FormatError::rule("pack table of an index segment", rule);
        let (rows, rest) = table.as_chunks::<40>();
        if rows.len() as u64 != u64::from(self.pack_count) || !rest.is_empty() {
            return Err(fail("it has another length than its count says"));
        }
        let mut packs = Vec::with_capacity(rows.len());
        for row in rows {
            let (mut id, mut len) = ([0; 32], [0; 8]);
            id.copy_from_slice(&row[..32]);
            len.copy_from_slice(&row[32..]);
            let pack = PackRow { id: PackId(id), len: u64::from_le_bytes(len) };
            if !(PACK_LEN_MIN..=PACK_LEN_MAX).contains(&pack.len) {
                return Err(fail("a pack's length is out of bounds"));
            }
            packs.push(pack);
        }
        let mut names: Vec<_> = packs.iter().map(|pack| pack.id).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            Err(fail("a pack stands twice"))
        } else {
            Ok(packs)
        }
    }
}

/// Appends a row of the pack table.
pub fn write_pack_row(pack: &PackRow, out: &mut Vec<u8>) {
    out.extend_from_slice(&pack.id.0);
    out.extend_from_slice(&pack.len.to_le_bytes());
}

/// Appends a row of the frame table.
pub fn write_frame_row(place: &FramePlace, out: &mut Vec<u8>) {
    for number in [place.offset, place.sealed_len, place.plain_len] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// Reads a row of the frame table.
#[must_use]
pub fn read_frame_row(row: &[u8; 12]) -> FramePlace {
    let number = |at: usize| u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
    FramePlace { offset: number(0), sealed_len: number(4), plain_len: number(8) }
}

/// A row of the chunk table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkRow {
    /// First 20 bytes of the chunk id.
    pub prefix: [u8; ID_PREFIX_LEN],
    /// Position of the pack in the pack table.
    pub pack: u16,
    /// Number of the frame in the pack.
    pub frame: u16,
    /// Offset in the frame's plain bytes.
    pub offset: u32,
    /// Length of the chunk.
    pub len: u32,
}

impl ChunkRow {
    /// The part of an id that stands in a row.
    #[must_use]
    pub fn prefix_of(id: &ChunkId) -> [u8; ID_PREFIX_LEN] {
        let mut prefix = [0; ID_PREFIX_LEN];
        prefix.copy_from_slice(&id.0[..ID_PREFIX_LEN]);
        prefix
    }

    /// The bytes of the row.
    #[must_use]
    pub fn encode(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out[..20].copy_from_slice(&self.prefix);
        out[20..22].copy_from_slice(&self.pack.to_le_bytes());
        out[22..24].copy_from_slice(&self.frame.to_le_bytes());
        out[24..28].copy_from_slice(&self.offset.to_le_bytes());
        out[28..].copy_from_slice(&self.len.to_le_bytes());
        out
    }

    /// Reads a row.
    #[must_use]
    pub fn decode(row: &[u8; 32]) -> Self {
        let mut prefix = [0; ID_PREFIX_LEN];
        prefix.copy_from_slice(&row[..20]);
        let number = |at: usize| u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
        Self {
            prefix,
            pack: u16::from_le_bytes([row[20], row[21]]),
            frame: u16::from_le_bytes([row[22], row[23]]),
            offset: number(24),
            len: number(28),
        }
    }

    /// Checks the row against the segment and the frame it points into.
    ///
    /// # Errors
    /// When the chunk cannot be there.
    pub fn check(&self, head: &SegmentHead, place: &FramePlace) -> Result<(), FormatError> {
        let end = u64::from(self.offset) + u64::from(self.len);
        let fits = u32::from(self.pack) < head.pack_count
            && self.len > 0
            && u64::from(self.len) <= CHUNK_LEN_MAX
            && end <= u64::from(place.plain_len);
        if fits { Ok(()) } else { Err(FormatError::rule("chunk table", "a chunk is not within its frame")) }
    }
}

#[cfg(test)]
mod tests;
