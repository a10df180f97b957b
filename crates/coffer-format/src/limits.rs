//! Every size and count limit of the format (specification section 16). Lengths are in bytes.

/// Object `vault`.
pub const HEADER_LEN_MAX: u64 = 8_192;
/// A key slot object.
pub const SLOT_LEN_MAX: u64 = 16_384;
/// Current key slots of a vault.
pub const SLOT_COUNT_MAX: u64 = 64;
/// Recovery shares of one set.
pub const SHARE_COUNT_MAX: u64 = 64;
/// A log record object.
pub const RECORD_LEN_MAX: u64 = 8_388_608;
/// The public part, and the sealed body, of a log record.
pub const RECORD_PART_LEN_MAX: u64 = 4_194_304;
/// Highest record number.
pub const LOG_NUMBER_MAX: u64 = 999_999_999_999;
/// How far before it a record of an owner or maintainer shows that others were there.
pub const GAP_LEN_MAX: u64 = 1_000_000;
/// As [`GAP_LEN_MAX`], for any other signer.
pub const WRITER_GAP_LEN_MAX: u64 = 64;
/// A pack object.
pub const PACK_LEN_MAX: u64 = 134_217_728;
/// The smallest pack object.
pub const PACK_LEN_MIN: u64 = 65_536;
/// Frames in a pack.
pub const PACK_FRAME_COUNT_MAX: u64 = 65_536;
/// Plain bytes of a frame.
pub const FRAME_PLAIN_MAX: u64 = 16_777_216;
/// Plain bytes of a chunk.
pub const CHUNK_LEN_MAX: u64 = 16_777_216;
/// An index segment object.
pub const INDEX_LEN_MAX: u64 = 268_435_456;
/// Packs in an index segment.
pub const INDEX_PACK_COUNT_MAX: u64 = 65_536;
/// Frames in an index segment.
pub const INDEX_FRAME_COUNT_MAX: u64 = 4_194_304;
/// Chunks in an index segment, and in a pack.
pub const INDEX_CHUNK_COUNT_MAX: u64 = 4_194_304;
/// Plain bytes of a page of an index segment.
pub const PAGE_LEN: u64 = 16_384;
/// A leaf or node of a tree.
pub const TREE_LEN_MAX: u64 = 1_048_576;
/// Where a writer ends a leaf or node at the latest, if it holds more than one item.
pub const TREE_LEN_SOFT: u64 = 524_288;
/// Items in a leaf or node.
pub const TREE_ITEM_COUNT_MAX: u64 = 65_536;
/// Height of a tree's root.
pub const TREE_HEIGHT_MAX: u64 = 16;
/// A path.
pub const PATH_LEN_MAX: u64 = 65_535;
/// A component of a path.
pub const COMPONENT_LEN_MAX: u64 = 4_096;
/// File content inside an entry.
pub const INLINE_LEN_MAX: u64 = 128;
/// A blob inside an entry.
pub const BLOB_INLINE_MAX: u64 = 4_096;
/// The target of a symbolic link.
pub const LINK_LEN_MAX: u64 = 65_535;
/// Any text string.
pub const TEXT_LEN_MAX: u64 = 65_536;
/// Wrapped key in a slot.
pub const WRAPPED_LEN_MAX: u64 = 4_096;
/// Rows in a content list.
pub const CONTENT_ROW_COUNT_MAX: u64 = 64;
/// Rows in a chunk of a content list that is itself chunked.
pub const CONTENT_CHUNK_ROW_COUNT_MAX: u64 = 8_192;
/// Level of a content list.
pub const CONTENT_LEVEL_MAX: u64 = 4;
/// Errors listed in a manifest.
pub const MANIFEST_ERROR_COUNT_MAX: u64 = 1_000;
/// Length of the tag behind every ciphertext.
pub const TAG_LEN: u64 = 16;
/// Length of an HPKE encapsulation.
pub const ENC_LEN: u64 = 1_120;
/// State of a checkpoint, and its manifests.
pub const STATE_LEN_MAX: u64 = 1 << 30;
/// Nesting of CBOR.
pub const CBOR_DEPTH_MAX: u32 = 16;
/// Keys in a CBOR map.
pub const CBOR_MAP_KEY_MAX: u64 = 23;

const _: () = assert!(CHUNK_LEN_MAX <= FRAME_PLAIN_MAX && FRAME_PLAIN_MAX < PACK_LEN_MAX);
const _: () = assert!(TREE_LEN_SOFT < TREE_LEN_MAX && TREE_LEN_MAX <= CHUNK_LEN_MAX);
const _: () = assert!(2 * RECORD_PART_LEN_MAX <= RECORD_LEN_MAX);
const _: () = assert!(PATH_LEN_MAX + LINK_LEN_MAX + 4 * BLOB_INLINE_MAX < TREE_LEN_SOFT);
const _: () = assert!(PACK_LEN_MAX <= u32::MAX as u64);
