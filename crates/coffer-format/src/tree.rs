//! Entries, leaves and nodes of a snapshot's tree, and content lists (specification section 12).

use crate::cbor::{Decoder, Encoder, Unknown};
use crate::error::{FormatError, check_len};
use crate::id::ChunkId;
use crate::limits::{
    BLOB_INLINE_MAX, CHUNK_LEN_MAX, CONTENT_CHUNK_ROW_COUNT_MAX, CONTENT_LEVEL_MAX, CONTENT_ROW_COUNT_MAX,
    INLINE_LEN_MAX, LINK_LEN_MAX, PATH_LEN_MAX, TREE_HEIGHT_MAX, TREE_ITEM_COUNT_MAX, TREE_LEN_MAX,
};
use crate::path::{check_path, compare_paths};

const ENTRY: &str = "entry";
const LEAF: &str = "leaf";
const NODE: &str = "node";
const CONTENT: &str = "content list";

/// Length of a row of a content list.
pub const CONTENT_ROW_LEN: usize = 36;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Kind {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
    Resource,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::File,
        Self::Directory,
        Self::Symlink,
        Self::Fifo,
        Self::Socket,
        Self::CharDevice,
        Self::BlockDevice,
        Self::Resource,
    ];

    const fn number(self) -> u64 {
        self as u64 + 1
    }

    /// Name of the kind.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "dir",
            Self::Symlink => "symlink",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::CharDevice => "chardev",
            Self::BlockDevice => "dev",
            Self::Resource => "resource",
        }
    }
}

/// A chunk by id and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// Its id.
    pub id: ChunkId,
    /// Its length in bytes.
    pub len: u32,
}

impl ChunkRef {
    /// Appends the row of a content list.
    pub fn write_row(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.len.to_le_bytes());
    }

    /// Reads rows of a content list.
    ///
    /// # Errors
    /// When the bytes are not whole rows, there are none or more than `count_max`, or a length is out of bounds.
    pub fn read_rows(bytes: &[u8], count_max: u64) -> Result<Vec<Self>, FormatError> {
        let (rows, rest) = bytes.as_chunks::<CONTENT_ROW_LEN>();
        if rows.is_empty() || !rest.is_empty() || rows.len() as u64 > count_max {
            return Err(FormatError::rule(CONTENT, "it has no rows, part of a row, or too many"));
        }
        rows.iter()
            .map(|row| {
                let mut id = [0; 32];
                id.copy_from_slice(&row[..32]);
                let len = u32::from_le_bytes([row[32], row[33], row[34], row[35]]);
                if len == 0 || u64::from(len) > CHUNK_LEN_MAX {
                    return Err(FormatError::rule(CONTENT, "a chunk's length is out of bounds"));
                }
                Ok(Self { id: ChunkId(id), len })
            })
            .collect()
    }

    /// Reads the rows in a meta chunk of a content list of level 1 and above.
    ///
    /// # Errors
    /// As [`Self::read_rows`].
    pub fn read_chunked_rows(bytes: &[u8]) -> Result<Vec<Self>, FormatError> {
        Self::read_rows(bytes, CONTENT_CHUNK_ROW_COUNT_MAX)
    }

    /// Whether a writer ends a chunk of a content list after this row.
    #[must_use]
    pub fn ends_list_chunk(&self) -> bool {
        u16::from_le_bytes([self.id.0[0], self.id.0[1]]) < 64
    }
}

/// Where the content of a file is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Content {
    /// There is none.
    #[default]
    Empty,
    /// At most 128 bytes in the entry itself.
    Inline(Vec<u8>),
    /// Data chunks (level 0), or meta chunks that hold rows of the level below.
    List {
        /// The level.
        level: u8,
        /// 1 to 64 rows.
        rows: Vec<ChunkRef>,
    },
}

impl Content {
    /// Reads a content list.
    pub(crate) fn read_list(d: &mut Decoder<'_>) -> Result<Self, FormatError> {
        if d.array(2)? != 2 {
            return Err(d.fail("a content list has level and rows"));
        }
        let level = d.uint()?;
        if level > CONTENT_LEVEL_MAX {
            return Err(d.fail("the level of a content list is over the limit"));
        }
        let rows = d.bytes(CONTENT_ROW_COUNT_MAX * CONTENT_ROW_LEN as u64)?;
        let rows = ChunkRef::read_rows(rows, CONTENT_ROW_COUNT_MAX)?;
        let level =
            u8::try_from(level).map_err(|_| d.fail("the level of a content list is over the limit"))?;
        Ok(Self::List { level, rows })
    }

    pub(crate) fn write_list(encoder: &mut Encoder, level: u8, rows: &[ChunkRef]) {
        let mut bytes = Vec::with_capacity(rows.len() * CONTENT_ROW_LEN);
        rows.iter().for_each(|row| row.write_row(&mut bytes));
        encoder.array(2);
        encoder.uint(u64::from(level));
        encoder.bytes(&bytes);
    }
}

/// Bytes that stand in the entry if they are short, else in a meta chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blob {
    /// At most 4096 bytes.
    Inline(Vec<u8>),
    /// A meta chunk.
    Chunk(ChunkRef),
}

impl Blob {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Inline(bytes) if bytes.is_empty())
    }

    fn write(&self, encoder: &mut Encoder) {
        match self {
            Self::Inline(bytes) => encoder.bytes(bytes),
            Self::Chunk(chunk) => {
                encoder.array(2);
                encoder.bytes(&chunk.id.0);
                encoder.uint(u64::from(chunk.len));
            }
        }
    }

    fn read(d: &mut Decoder<'_>) -> Result<Self, FormatError> {
        if !d.at_array() {
            return some_bytes(d, BLOB_INLINE_MAX).map(Self::Inline);
        }
        if d.array(2)? != 2 {
            return Err(d.fail("a chunk is named by id and length"));
        }
        read_chunk_ref(d).map(Self::Chunk)
    }
}

const EMPTY_MAP: &[u8] = &[0xa0];
const EMPTY: &str = "an empty value is written by leaving it out";

fn some_bytes(d: &mut Decoder<'_>, len_max: u64) -> Result<Vec<u8>, FormatError> {
    let bytes = d.bytes(len_max)?;
    if bytes.is_empty() { Err(d.fail(EMPTY)) } else { Ok(bytes.to_vec()) }
}

fn some_uint(d: &mut Decoder<'_>) -> Result<u64, FormatError> {
    let value = d.uint()?;
    if value == 0 { Err(d.fail(EMPTY)) } else { Ok(value) }
}

fn read_chunk_ref(d: &mut Decoder<'_>) -> Result<ChunkRef, FormatError> {
    let (id, len) = (ChunkId(d.fixed()?), d.uint32()?);
    if len == 0 || u64::from(len) > CHUNK_LEN_MAX {
        return Err(d.fail("a chunk's length is out of bounds"));
    }
    Ok(ChunkRef { id, len })
}

/// One extended attribute: name and value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// Encodes extended attributes, which must ascend by name, as the bytes of a blob.
#[must_use]
pub fn encode_xattrs(xattrs: &[Xattr]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.array(xattrs.len());
    for (name, value) in xattrs {
        encoder.array(2);
        encoder.bytes(name);
        encoder.bytes(value);
    }
    encoder.finish()
}

/// Reads the bytes of a blob of extended attributes.
///
/// # Errors
/// What is malformed.
pub fn decode_xattrs(bytes: &[u8]) -> Result<Vec<Xattr>, FormatError> {
    let mut d = Decoder::new("extended attributes", bytes);
    let count = d.array(u64::MAX)?;
    let mut xattrs: Vec<Xattr> = Vec::new();
    for _ in 0..count {
        if d.array(2)? != 2 {
            return Err(d.fail("an attribute has name and value"));
        }
        let (name, value) = (d.bytes(CHUNK_LEN_MAX)?.to_vec(), d.bytes(CHUNK_LEN_MAX)?.to_vec());
        if name.is_empty() || name.contains(&0) || xattrs.last().is_some_and(|last| last.0 >= name) {
            return Err(d.fail("names of attributes are not ascending, empty, or contain NUL"));
        }
        xattrs.push((name, value));
    }
    d.finish()?;
    if xattrs.is_empty() { Err(d.fail(EMPTY)) } else { Ok(xattrs) }
}

/// A hole in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Where it begins.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// Encodes holes as the bytes of a blob.
#[must_use]
pub fn encode_holes(holes: &[Hole]) -> Vec<u8> {
    holes.iter().flat_map(|hole| [hole.offset.to_le_bytes(), hole.len.to_le_bytes()]).flatten().collect()
}

/// Reads the bytes of a blob of holes in a file of `size` bytes.
///
/// # Errors
/// When holes are empty, touch, overlap, or reach beyond the file.
pub fn decode_holes(bytes: &[u8], size: u64) -> Result<Vec<Hole>, FormatError> {
    let fail = |rule| Err(FormatError::rule("holes", rule));
    let (rows, rest) = bytes.as_chunks::<16>();
    if rows.is_empty() || !rest.is_empty() {
        return fail("they are not whole rows");
    }
    let mut end = None;
    let mut holes = Vec::with_capacity(rows.len());
    for row in rows {
        let (offset, len) = row.split_at(8);
        let number = |half: &[u8]| half.try_into().map(u64::from_le_bytes).unwrap_or_default();
        let hole = Hole { offset: number(offset), len: number(len) };
        let hole_end = hole.offset.checked_add(hole.len).filter(|end| hole.len > 0 && *end <= size);
        if hole_end.is_none() || end.is_some_and(|end| hole.offset <= end) {
            return fail("they are empty, not ascending, or reach beyond the file");
        }
        end = hole_end;
        holes.push(hole);
    }
    Ok(holes)
}

/// One entry of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// Path; empty for the root directory itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The 12 permission bits.
    pub mode: u32,
    /// Owner by number.
    pub uid: u32,
    /// Group by number.
    pub gid: u32,
    /// Owner by name.
    pub user: Option<Vec<u8>>,
    /// Group by name.
    pub group: Option<Vec<u8>>,
    /// Modification time, nanoseconds since 1970 UTC.
    pub mtime_ns: i64,
    /// Size in bytes of a file or resource.
    pub size: u64,
    /// Where the content is.
    pub content: Content,
    /// Target of a symbolic link.
    pub link_target: Option<Vec<u8>>,
    /// First path of the hard link group.
    pub hard_link: Option<Vec<u8>>,
    /// Extended attributes.
    pub xattrs: Option<Blob>,
    /// Holes of a sparse file.
    pub holes: Option<Blob>,
    /// Device numbers.
    pub device: Option<(u32, u32)>,
    /// Whether the file changed while it was read.
    pub changed_while_read: bool,
    /// Typed metadata of a service resource, as CBOR.
    pub resource: Option<Vec<u8>>,
    other_marks: u64,
    unknown: Unknown,
}

impl TreeEntry {
    /// An entry with nothing but a path and a kind.
    #[must_use]
    pub fn new(path: Vec<u8>, kind: Kind) -> Self {
        Self {
            path,
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            user: None,
            group: None,
            mtime_ns: 0,
            size: 0,
            content: Content::Empty,
            link_target: None,
            hard_link: None,
            xattrs: None,
            holes: None,
            device: None,
            changed_while_read: false,
            resource: None,
            other_marks: 0,
            unknown: Unknown::default(),
        }
    }

    /// The entry as CBOR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.map(|map| {
            self.unknown.write_low(map);
            map.key(1).bytes(&self.path);
            map.key(2).uint(self.kind.number());
            map.key(3).uint(u64::from(self.mode));
            map.key(4).uint(u64::from(self.uid));
            map.key(5).uint(u64::from(self.gid));
            if let Some(user) = self.user.as_ref().filter(|user| !user.is_empty()) {
                map.key(6).bytes(user);
            }
            if let Some(group) = self.group.as_ref().filter(|group| !group.is_empty()) {
                map.key(7).bytes(group);
            }
            map.key(8).int(self.mtime_ns);
            if self.size > 0 {
                map.key(9).uint(self.size);
            }
            match &self.content {
                Content::Empty => {}
                Content::Inline(bytes) => map.key(10).bytes(bytes),
                Content::List { level, rows } => Content::write_list(map.key(11), *level, rows),
            }
            if let Some(target) = &self.link_target {
                map.key(12).bytes(target);
            }
            if let Some(first) = &self.hard_link {
                map.key(13).bytes(first);
            }
            if let Some(xattrs) = self.xattrs.as_ref().filter(|xattrs| !xattrs.is_empty()) {
                xattrs.write(map.key(14));
            }
            if let Some(holes) = self.holes.as_ref().filter(|holes| !holes.is_empty()) {
                holes.write(map.key(15));
            }
            if let Some((major, minor)) = self.device {
                let value = map.key(16);
                value.array(2);
                value.uint(u64::from(major));
                value.uint(u64::from(minor));
            }
            let marks = self.other_marks | u64::from(self.changed_while_read);
            if marks > 0 {
                map.key(17).uint(marks);
            }
            if let Some(resource) = self.resource.as_ref().filter(|resource| *resource != EMPTY_MAP) {
                map.key(18).raw(resource);
            }
            self.unknown.write(map);
        });
        encoder.finish()
    }

    fn decode(d: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let mut entry = Self::new(Vec::new(), Kind::File);
        let mut seen = [false; 9];
        let mut map = d.map()?;
        while let Some(key) = map.next_key(d)? {
            if let Some(seen) = usize::try_from(key).ok().and_then(|key| seen.get_mut(key)) {
                *seen = true;
            }
            match key {
                1 => {
                    entry.path = d.bytes(PATH_LEN_MAX)?.to_vec();
                    check_path(&entry.path)?;
                }
                2 => {
                    let number = d.uint()?;
                    let kind = Kind::ALL.into_iter().find(|kind| kind.number() == number);
                    entry.kind = kind.ok_or_else(|| d.fail("the kind is not known"))?;
                }
                3 => {
                    entry.mode = d
                        .uint32()
                        .ok()
                        .filter(|mode| *mode <= 0o7777)
                        .ok_or_else(|| d.fail("the mode has more than 12 bits"))?
                }
                4 => entry.uid = d.uint32()?,
                5 => entry.gid = d.uint32()?,
                6 => entry.user = Some(some_bytes(d, 1024)?),
                7 => entry.group = Some(some_bytes(d, 1024)?),
                8 => entry.mtime_ns = d.int()?,
                9 => entry.size = some_uint(d)?,
                10 => entry.content = Content::Inline(d.bytes(INLINE_LEN_MAX)?.to_vec()),
                11 if entry.content == Content::Empty => entry.content = Content::read_list(d)?,
                11 => return Err(d.fail("content stands both inline and in a list")),
                12 => entry.link_target = Some(d.bytes(LINK_LEN_MAX)?.to_vec()),
                13 => {
                    let first = d.bytes(PATH_LEN_MAX)?.to_vec();
                    check_path(&first)?;
                    entry.hard_link = Some(first);
                }
                14 => entry.xattrs = Some(Blob::read(d)?),
                15 => entry.holes = Some(Blob::read(d)?),
                16 => {
                    if d.array(2)? != 2 {
                        return Err(d.fail("a device has two numbers"));
                    }
                    entry.device = Some((d.uint32()?, d.uint32()?));
                }
                17 => {
                    let marks = some_uint(d)?;
                    entry.changed_while_read = marks & 1 == 1;
                    entry.other_marks = marks & !1;
                }
                18 => {
                    d.clone().map()?;
                    let resource = d.raw_within(2)?;
                    if resource == EMPTY_MAP {
                        return Err(d.fail(EMPTY));
                    }
                    entry.resource = Some(resource.to_vec());
                }
                _ => entry.unknown.keep(key, d, 2)?,
            }
        }
        if [1, 2, 3, 4, 5, 8].iter().any(|key| !seen[*key]) {
            return Err(d.fail("a key is absent"));
        }
        match entry.fault() {
            Some(rule) => Err(d.fail(rule)),
            None => Ok(entry),
        }
    }

    /// The rule that the entry's parts break together, if they do.
    fn fault(&self) -> Option<&'static str> {
        let has_content = matches!(self.kind, Kind::File | Kind::Resource) && self.hard_link.is_none();
        let sized = matches!(self.kind, Kind::File | Kind::Resource);
        if self.path.is_empty() && self.kind != Kind::Directory {
            Some("only a directory has the empty path")
        } else if self.content != Content::Empty && !has_content {
            Some("this kind of entry has no content")
        } else if self.size > 0 && !sized {
            Some("this kind of entry has no size")
        } else if matches!(&self.content, Content::Inline(bytes) if bytes.is_empty()) {
            Some("empty content is written by leaving it out")
        } else if matches!((&self.content, &self.holes), (Content::Inline(bytes), None) if bytes.len() as u64 != self.size)
        {
            Some("the size is not that of the content")
        } else if matches!(self.content, Content::Inline(_)) && self.kind == Kind::Resource {
            Some("the content of a resource is never inline")
        } else if matches!(self.content, Content::List { .. }) && self.size == 0 {
            Some("there is content but no size")
        } else if has_content && self.content == Content::Empty && self.size > 0 && self.holes.is_none() {
            Some("there is a size but no content")
        } else if self.holes.is_some() && !has_content {
            Some("this kind of entry has no holes")
        } else if self.link_target.is_some() != (self.kind == Kind::Symlink) {
            Some("a link target belongs to symbolic links alone")
        } else if self.link_target.as_ref().is_some_and(|target| target.is_empty() || target.contains(&0)) {
            Some("a link target is empty or contains NUL")
        } else if self.device.is_some() != matches!(self.kind, Kind::CharDevice | Kind::BlockDevice) {
            Some("device numbers belong to devices alone")
        } else if self.resource.is_some() && self.kind != Kind::Resource {
            Some("typed metadata belongs to resources alone")
        } else if self.hard_link.as_ref().is_some_and(|first| {
            first.is_empty()
                || self.kind == Kind::Directory
                || compare_paths(first, &self.path) != std::cmp::Ordering::Less
        }) {
            Some("a hard link names an earlier path")
        } else {
            None
        }
    }
}

/// A child of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeChild {
    /// The last path below the child.
    pub last_path: Vec<u8>,
    /// The leaf or node.
    pub chunk: ChunkRef,
    /// Entries below it.
    pub entry_count: u64,
    /// Bytes of content below it.
    pub content_bytes: u64,
}

impl NodeChild {
    /// The child as CBOR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.array(5);
        encoder.bytes(&self.last_path);
        encoder.bytes(&self.chunk.id.0);
        encoder.uint(u64::from(self.chunk.len));
        encoder.uint(self.entry_count);
        encoder.uint(self.content_bytes);
        encoder.finish()
    }
}

/// The root of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeRoot {
    /// The root's leaf or node.
    pub chunk: ChunkRef,
    /// Its height; 0 is a leaf.
    pub height: u8,
}

impl TreeRoot {
    pub(crate) fn write(&self, encoder: &mut Encoder) {
        encoder.array(3);
        encoder.bytes(&self.chunk.id.0);
        encoder.uint(u64::from(self.chunk.len));
        encoder.uint(u64::from(self.height));
    }

    pub(crate) fn read(d: &mut Decoder<'_>) -> Result<Self, FormatError> {
        if d.array(3)? != 3 {
            return Err(d.fail("a root has id, length and height"));
        }
        let chunk = read_chunk_ref(d)?;
        let height = u8::try_from(d.uint()?).ok().filter(|height| u64::from(*height) <= TREE_HEIGHT_MAX);
        Ok(Self { chunk, height: height.ok_or_else(|| d.fail("the height is over the limit"))? })
    }
}

/// The head of a CBOR array of `count` items, to be put before the items of a leaf or node.
#[must_use]
pub fn encode_items_head(count: usize) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.array(count);
    encoder.finish()
}

/// Reads a leaf: entries, ascending by path.
///
/// # Errors
/// What is malformed or out of order.
pub fn decode_leaf(bytes: &[u8]) -> Result<Vec<TreeEntry>, FormatError> {
    check_len(LEAF, bytes.len() as u64, TREE_LEN_MAX)?;
    let mut d = Decoder::new(ENTRY, bytes);
    let count = d.array(TREE_ITEM_COUNT_MAX)?;
    let mut entries: Vec<TreeEntry> = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        let entry = TreeEntry::decode(&mut d)?;
        if entries.last().is_some_and(|last| compare_paths(&last.path, &entry.path).is_ge()) {
            return Err(d.fail("paths are not ascending"));
        }
        entries.push(entry);
    }
    d.finish()?;
    Ok(entries)
}

/// Reads a node: one or more children, ascending by last path.
///
/// # Errors
/// What is malformed or out of order.
pub fn decode_node(bytes: &[u8]) -> Result<Vec<NodeChild>, FormatError> {
    check_len(NODE, bytes.len() as u64, TREE_LEN_MAX)?;
    let mut d = Decoder::new(NODE, bytes);
    let count = d.array(TREE_ITEM_COUNT_MAX)?;
    let mut children: Vec<NodeChild> = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        if d.array(5)? != 5 {
            return Err(d.fail("a child has five parts"));
        }
        let last_path = d.bytes(PATH_LEN_MAX)?.to_vec();
        check_path(&last_path)?;
        let chunk = read_chunk_ref(&mut d)?;
        let child = NodeChild { last_path, chunk, entry_count: d.uint()?, content_bytes: d.uint()? };
        if children.last().is_some_and(|last| compare_paths(&last.last_path, &child.last_path).is_ge()) {
            return Err(d.fail("paths are not ascending"));
        }
        children.push(child);
    }
    d.finish()?;
    if children.is_empty() { Err(FormatError::rule(NODE, "it has no children")) } else { Ok(children) }
}

#[cfg(test)]
mod tests;
