//! Layout of packs: frame head, directory, footer, padded length (specification section 10).

use crate::error::{FormatError, check_len};
use crate::id::{ChunkId, DomainId};
use crate::limits::{
    CHUNK_LEN_MAX, ENC_LEN, FRAME_PLAIN_MAX, INDEX_CHUNK_COUNT_MAX, PACK_FRAME_COUNT_MAX, PACK_LEN_MAX,
    PACK_LEN_MIN, TAG_LEN,
};
use crate::tree::ChunkRef;

const DIRECTORY: &str = "pack directory";
const FRAME: &str = "frame";

/// Length of what stands before the first frame: salt, encapsulation, commitment.
pub const PACK_HEAD_LEN: u64 = 32 + ENC_LEN + 32;
/// Length of the sealed footer.
pub const PACK_FOOTER_LEN: u64 = FOOTER_PLAIN_LEN as u64 + TAG_LEN;
/// [`PACK_HEAD_LEN`] as a length in memory.
pub const PACK_HEAD_SIZE: usize = 1184;
/// [`PACK_FOOTER_LEN`] as a length in memory.
pub const PACK_FOOTER_SIZE: usize = 48;
/// Length of the footer's plaintext.
pub const FOOTER_PLAIN_LEN: usize = 32;
/// Length of the head of a frame's plaintext.
pub const FRAME_HEAD_LEN: usize = 8;

const _: () = assert!(PACK_HEAD_SIZE as u64 == PACK_HEAD_LEN && PACK_FOOTER_SIZE as u64 == PACK_FOOTER_LEN);

const DIRECTORY_HEAD_LEN: usize = 24;
const FRAME_ROW_LEN: usize = 16;
const CHUNK_ROW_LEN: usize = 36;

/// How a frame's payload is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    Stored,
    /// One Zstandard frame.
    Zstd,
}

/// What the chunks of a frame are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkKind {
    /// Content of files.
    Data,
    /// Leaves, nodes, content lists, blobs.
    Meta,
}

/// The head of a frame's plaintext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// How the payload is coded.
    pub codec: Codec,
    /// What the chunks are.
    pub kind: ChunkKind,
    /// Length of all chunks together.
    pub plain_len: u32,
}

impl FrameHead {
    /// The bytes of the head.
    #[must_use]
    pub fn encode(&self) -> [u8; FRAME_HEAD_LEN] {
        let codec = u8::from(self.codec == Codec::Zstd);
        let kind = if self.kind == ChunkKind::Data { 1 } else { 2 };
        let [a, b, c, d] = self.plain_len.to_le_bytes();
        [codec, kind, 0, 0, a, b, c, d]
    }

    /// Takes the plaintext of a frame apart into head and payload.
    ///
    /// # Errors
    /// What is malformed.
    pub fn decode(plain: &[u8]) -> Result<(Self, &[u8]), FormatError> {
        let Some(([codec, kind, 0, 0, a, b, c, d], payload)) = plain.split_first_chunk() else {
            return Err(FormatError::rule(FRAME, "its head is not one"));
        };
        let codec = match codec {
            0 => Codec::Stored,
            1 => Codec::Zstd,
            _ => return Err(FormatError::rule(FRAME, "its codec is not known")),
        };
        let kind = match kind {
            1 => ChunkKind::Data,
            2 => ChunkKind::Meta,
            _ => return Err(FormatError::rule(FRAME, "its kind is not known")),
        };
        let plain_len = u32::from_le_bytes([*a, *b, *c, *d]);
        check_len("plain length of a frame", u64::from(plain_len), FRAME_PLAIN_MAX)?;
        if plain_len == 0 || (codec == Codec::Stored && payload.len() != plain_len as usize) {
            return Err(FormatError::rule(FRAME, "its plain length is not that of its payload"));
        }
        Ok((Self { codec, kind, plain_len }, payload))
    }
}

/// Where a frame stands in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePlace {
    /// Offset of the sealed frame in the pack.
    pub offset: u32,
    /// Length of the sealed frame, with tag.
    pub sealed_len: u32,
    /// Length of its chunks together.
    pub plain_len: u32,
}

impl FramePlace {
    /// Checks lengths against the limits.
    ///
    /// # Errors
    /// When the frame cannot be in a pack of `pack_len` bytes.
    pub fn check(&self, pack_len: u64) -> Result<(), FormatError> {
        check_len("plain length of a frame", u64::from(self.plain_len), FRAME_PLAIN_MAX)?;
        let end = u64::from(self.offset) + u64::from(self.sealed_len);
        let least = FRAME_HEAD_LEN as u64 + 1 + TAG_LEN;
        if u64::from(self.offset) < PACK_HEAD_LEN
            || u64::from(self.sealed_len) < least
            || end > pack_len.min(PACK_LEN_MAX)
            || self.plain_len == 0
        {
            return Err(FormatError::rule(FRAME, "its place is not within its pack"));
        }
        Ok(())
    }
}

/// One frame of a pack's directory, with its chunks in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryFrame {
    /// Where it stands.
    pub place: FramePlace,
    /// Its chunks.
    pub chunks: Vec<ChunkRef>,
}

/// The directory of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Dedup domain of the pack.
    pub domain: DomainId,
    /// Its frames.
    pub frames: Vec<DirectoryFrame>,
}

impl Directory {
    /// Length of the directory's plaintext without the zeros behind it.
    #[must_use]
    pub fn plain_len(frame_count: usize, chunk_count: usize) -> usize {
        DIRECTORY_HEAD_LEN + frame_count * FRAME_ROW_LEN + chunk_count * CHUNK_ROW_LEN
    }

    /// Appends the plaintext, without the zeros behind it.
    ///
    /// # Errors
    /// [`FormatError::TooLong`] when there are too many frames or chunks.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), FormatError> {
        let count32 = |object, count: usize, limit| {
            check_len(object, count as u64, limit)?;
            u32::try_from(count).map_err(|_| FormatError::rule(DIRECTORY, "a count is over the limit"))
        };
        let chunk_count = self.frames.iter().map(|frame| frame.chunks.len()).sum();
        out.extend_from_slice(
            &count32("frame count of a pack", self.frames.len(), PACK_FRAME_COUNT_MAX)?.to_le_bytes(),
        );
        out.extend_from_slice(
            &count32("chunk count of a pack", chunk_count, INDEX_CHUNK_COUNT_MAX)?.to_le_bytes(),
        );
        out.extend_from_slice(&self.domain.0);
        for frame in &self.frames {
            let place = frame.place;
            let chunk_count = count32("chunk count of a frame", frame.chunks.len(), INDEX_CHUNK_COUNT_MAX)?;
            for number in [place.offset, place.sealed_len, place.plain_len, chunk_count] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        self.frames.iter().flat_map(|frame| &frame.chunks).for_each(|chunk| chunk.write_row(out));
        Ok(())
    }

    /// Reads the plaintext without its zeros; `directory_offset` is where the footer says it begins.
    ///
    /// # Errors
    /// What is malformed.
    pub fn decode(plain: &[u8], directory_offset: u64) -> Result<Self, FormatError> {
        let fail = |rule| FormatError::rule(DIRECTORY, rule);
        let short = || fail("its length is not what its counts say");
        let (head, rest) = plain.split_at_checked(DIRECTORY_HEAD_LEN).ok_or_else(short)?;
        let number = |bytes: &[u8], at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let (frame_count, chunk_count) = (u64::from(number(head, 0)), u64::from(number(head, 4)));
        check_len("frame count of a pack", frame_count, PACK_FRAME_COUNT_MAX)?;
        check_len("chunk count of a pack", chunk_count, INDEX_CHUNK_COUNT_MAX)?;
        let mut domain = [0; 16];
        domain.copy_from_slice(&head[8..]);
        let frame_rows_len = frame_count * FRAME_ROW_LEN as u64;
        if rest.len() as u64 != frame_rows_len + chunk_count * CHUNK_ROW_LEN as u64 {
            return Err(short());
        }
        let (frame_rows, mut chunk_rows) =
            rest.split_at_checked(usize::try_from(frame_rows_len).map_err(|_| short())?).ok_or_else(short)?;
        let mut offset = PACK_HEAD_LEN;
        let mut frames = Vec::with_capacity(frame_rows.len() / FRAME_ROW_LEN);
        for row in frame_rows.chunks_exact(FRAME_ROW_LEN) {
            let place =
                FramePlace { offset: number(row, 0), sealed_len: number(row, 4), plain_len: number(row, 8) };
            place.check(directory_offset)?;
            if u64::from(place.offset) != offset {
                return Err(fail("its frames do not lie one after the other"));
            }
            offset += u64::from(place.sealed_len);
            let rows_len = (number(row, 12) as usize).saturating_mul(CHUNK_ROW_LEN);
            let (rows, others) = chunk_rows.split_at_checked(rows_len).ok_or_else(short)?;
            chunk_rows = others;
            let chunks = read_chunks(rows)?;
            if chunks.iter().map(|chunk| u64::from(chunk.len)).sum::<u64>() != u64::from(place.plain_len) {
                return Err(fail("the chunks of a frame do not fill it"));
            }
            frames.push(DirectoryFrame { place, chunks });
        }
        if !chunk_rows.is_empty() || offset != directory_offset {
            return Err(fail("its frames and chunks do not fill it"));
        }
        Ok(Self { domain: DomainId(domain), frames })
    }
}

fn read_chunks(rows: &[u8]) -> Result<Vec<ChunkRef>, FormatError> {
    rows.chunks_exact(CHUNK_ROW_LEN)
        .map(|row| {
            let mut id = [0; 32];
            id.copy_from_slice(&row[..32]);
            let len = u32::from_le_bytes([row[32], row[33], row[34], row[35]]);
            if len == 0 || u64::from(len) > CHUNK_LEN_MAX {
                return Err(FormatError::rule(DIRECTORY, "a chunk's length is out of bounds"));
            }
            Ok(ChunkRef { id: ChunkId(id), len })
        })
        .collect()
}

/// The footer of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Where the sealed directory begins.
    pub directory_offset: u64,
    /// Length of the sealed directory, with zeros and tag.
    pub directory_sealed_len: u64,
    /// Length of the directory's plaintext without zeros.
    pub directory_plain_len: u64,
    /// Number of frames.
    pub frame_count: u32,
}

impl Footer {
    /// The plaintext of the footer.
    #[must_use]
    pub fn encode(&self) -> [u8; FOOTER_PLAIN_LEN] {
        let mut out = [0; FOOTER_PLAIN_LEN];
        out[..8].copy_from_slice(&self.directory_offset.to_le_bytes());
        out[8..16].copy_from_slice(&self.directory_sealed_len.to_le_bytes());
        out[16..24].copy_from_slice(&self.directory_plain_len.to_le_bytes());
        out[24..28].copy_from_slice(&self.frame_count.to_le_bytes());
        out
    }

    /// Reads the footer of a pack of `pack_len` bytes.
    ///
    /// # Errors
    /// When it does not describe such a pack.
    pub fn decode(plain: &[u8], pack_len: u64) -> Result<Self, FormatError> {
        let fail = FormatError::rule("pack footer", "it does not fit the pack");
        let Ok(plain) = <[u8; FOOTER_PLAIN_LEN]>::try_from(plain) else { return Err(fail) };
        let long = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&plain[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let footer = Self {
            directory_offset: long(0),
            directory_sealed_len: long(8),
            directory_plain_len: long(16),
            frame_count: u32::from_le_bytes([plain[24], plain[25], plain[26], plain[27]]),
        };
        let fits = pack_len <= PACK_LEN_MAX
            && footer.directory_offset >= PACK_HEAD_LEN
            && footer
                .directory_offset
                .checked_add(footer.directory_sealed_len)
                .and_then(|end| end.checked_add(PACK_FOOTER_LEN))
                == Some(pack_len)
            && footer
                .directory_plain_len
                .checked_add(TAG_LEN)
                .is_some_and(|len| len <= footer.directory_sealed_len)
            && plain[28..] == [0; 4];
        if fits { Ok(footer) } else { Err(fail) }
    }
}

/// The length to which a pack of `len` bytes is padded.
#[must_use]
pub const fn padded_len(len: u64) -> u64 {
    if len <= PACK_LEN_MIN {
        return PACK_LEN_MIN;
    }
    let exponent = len.ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1 << (exponent - kept)) - 1;
    (len + mask) & !mask
}

#[cfg(test)]
mod tests;
