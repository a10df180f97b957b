//! A tar archive in the form of POSIX.1-2001 (pax), as GNU tar, bsdtar and others read it.
//!
//! What a ustar header cannot hold stands in extended records: long and non-ASCII names, nanoseconds, large numbers, extended attributes as
//! `SCHILY.xattr.*`, POSIX ACLs also as text (`SCHILY.acl.*`, which GNU tar restores by `--acls`), and holes in the form
//! GNU.sparse 1.0. Bytes of names are never changed, whether they are UTF-8 or not, as GNU tar does it.

use std::io::Write;

use tar::{EntryType, Header};

use super::{ArchiveHole, ArchiveWriter, Archived, Due, output, unfit};
use crate::{CollectError, EntryKind, EntryPath, Metadata};

const BLOCK_LEN: usize = 512;
/// Length of the fields of a header for name and link name.
const NAME_LEN_MAX: usize = 100;
/// Length of the fields of a header for names of owners, less the byte that ends them.
const OWNER_LEN_MAX: usize = 31;
/// The largest number in a field of eight bytes.
const SHORT_MAX: u64 = 0o7_777_777;
/// The largest number in a field of twelve bytes.
const LONG_MAX: u64 = 0o77_777_777_777;

/// Writes a tar archive to `W`.
#[derive(Debug)]
pub struct TarArchive<W: Write> {
    out: W,
    due: Due,
    /// Bytes that fill the last block of the file that was begun.
    padding: usize,
}

impl<W: Write> TarArchive<W> {
    /// An archive without entries.
    pub fn new(out: W) -> Self {
        Self { out, due: Due::default(), padding: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), CollectError> {
        self.out.write_all(bytes).map_err(output)
    }

    /// Writes a header, with extended records before it where they are needed.
    fn header(&mut self, member: &Member<'_>) -> Result<(), CollectError> {
        let metadata = member.metadata;
        let mut records = Records::default();
        let mut header = Header::new_ustar();
        header.set_entry_type(member.kind);
        match &member.sparse {
            None => set_name(&mut header, &member.name, &mut records),
            Some(sparse) => {
                // The name is in the records; a program that does not know this form unpacks a file of another name.
                let base = member.name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                let mut name = b"GNUSparseFile.0/".to_vec();
                name.extend_from_slice(&base[..base.len().min(NAME_LEN_MAX - name.len())]);
                copy(&mut header.as_old_mut().name, &name);
                records.add("GNU.sparse.major", b"1");
                records.add("GNU.sparse.minor", b"0");
                records.add("GNU.sparse.name", &member.name);
                records.add("GNU.sparse.realsize", sparse.size.to_string().as_bytes());
            }
        }
        if let Some(target) = member.link {
            copy(&mut header.as_old_mut().linkname, target);
            if target.len() > NAME_LEN_MAX || !target.is_ascii() {
                records.add("linkpath", target);
            }
        }
        header.set_mode(metadata.mode);
        let numbers = [("uid", metadata.uid), ("gid", metadata.gid)].map(|(key, number)| {
            let number = u64::from(number);
            if number > SHORT_MAX {
                records.add(key, number.to_string().as_bytes());
            }
            if number > SHORT_MAX { 0 } else { number }
        });
        header.set_uid(numbers[0]);
        header.set_gid(numbers[1]);
        if member.len > LONG_MAX {
            records.add("size", member.len.to_string().as_bytes());
        }
        header.set_size(if member.len > LONG_MAX { 0 } else { member.len });
        set_time(&mut header, metadata.mtime_ns, &mut records);
        set_owner_names(&mut header, metadata, &mut records);
        if let Some((major, minor)) = metadata.device.filter(|_| member.has_device) {
            for number in [major, minor] {
                if u64::from(number) > SHORT_MAX {
                    return Err(unfit(member.path, "its device numbers are too large for a tar archive"));
                }
            }
            header.set_device_major(major).and_then(|()| header.set_device_minor(minor)).map_err(output)?;
        }
        records.add_xattrs(metadata);
        header.set_cksum();
        self.records(&records, member)?;
        self.put(header.as_bytes())
    }

    fn records(&mut self, records: &Records, member: &Member<'_>) -> Result<(), CollectError> {
        let bytes = records.encode();
        if bytes.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        let base = member.name.strip_suffix(b"/").unwrap_or(&member.name);
        let base = base.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let mut name = b"PaxHeaders/".to_vec();
        name.extend_from_slice(&base[..base.len().min(NAME_LEN_MAX - name.len())]);
        copy(&mut header.as_old_mut().name, &name);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        self.put(header.as_bytes())?;
        self.put(&bytes)?;
        self.put(&[0; BLOCK_LEN][..padding_of(bytes.len() as u64)])
    }
}

impl<W: Write> ArchiveWriter for TarArchive<W> {
    fn directory(&mut self, path: &EntryPath, metadata: &Metadata) -> Result<(), CollectError> {
        let mut member = Member::new(path, EntryType::Directory, metadata);
        member.name.extend_from_slice(if path.is_root() { b"./" } else { b"/" });
        self.header(&member)
    }

    fn symlink(&mut self, path: &EntryPath, metadata: &Metadata) -> Result<(), CollectError> {
        let target = metadata.link_target.as_deref();
        let target = target.ok_or_else(|| unfit(path, "it is a symlink without a target"))?;
        self.header(&Member { link: Some(target), ..Member::new(path, EntryType::Symlink, metadata) })
    }

    fn special(
        &mut self,
        path: &EntryPath,
        kind: EntryKind,
        metadata: &Metadata,
    ) -> Result<Archived, CollectError> {
        let kind = match kind {
            EntryKind::Fifo => EntryType::Fifo,
            EntryKind::CharDevice => EntryType::Char,
            EntryKind::BlockDevice => EntryType::Block,
            EntryKind::Socket => return Ok(Archived::No("a tar archive holds no sockets")),
            EntryKind::File | EntryKind::Directory | EntryKind::Symlink => {
                return Err(unfit(path, "it is no special file"));
            }
        };
        let has_device = kind != EntryType::Fifo;
        if has_device && metadata.device.is_none() {
            return Err(unfit(path, "it is a device without numbers"));
        }
        self.header(&Member { has_device, ..Member::new(path, kind, metadata) })?;
        Ok(Archived::Yes)
    }

    fn hard_link(
        &mut self,
        path: &EntryPath,
        first: &EntryPath,
        metadata: &Metadata,
    ) -> Result<Archived, CollectError> {
        // Attributes and holes are those of the first name.
        let metadata = Metadata { xattrs: Vec::new(), ..metadata.clone() };
        let link = Some(first.as_bytes());
        self.header(&Member { link, ..Member::new(path, EntryType::Link, &metadata) })?;
        Ok(Archived::Yes)
    }

    fn begin_file(
        &mut self,
        path: &EntryPath,
        metadata: &Metadata,
        holes: &[ArchiveHole],
    ) -> Result<(), CollectError> {
        let mut member = Member::new(path, EntryType::Regular, metadata);
        let mut data_len = metadata.size;
        let mut map = Vec::new();
        if !holes.is_empty() {
            let sparse = Sparse::new(metadata.size, holes).ok_or_else(|| unfit(path, "its holes overlap"))?;
            map = sparse.map();
            data_len = sparse.data_len;
            member.sparse = Some(sparse);
        }
        member.len = data_len + map.len() as u64;
        self.header(&member)?;
        self.put(&map)?;
        self.due = Due::new(path, data_len);
        self.padding = padding_of(member.len);
        Ok(())
    }

    fn write(&mut self, data: &[u8]) -> Result<(), CollectError> {
        self.due.take(data.len() as u64)?;
        self.put(data)
    }

    fn hole(&mut self, _len: u64) -> Result<(), CollectError> {
        Ok(())
    }

    fn end_file(&mut self) -> Result<(), CollectError> {
        self.due.end()?;
        self.put(&[0; BLOCK_LEN][..self.padding])
    }

    fn finish(mut self: Box<Self>) -> Result<(), CollectError> {
        self.put(&[0; 2 * BLOCK_LEN])?;
        self.out.flush().map_err(output)
    }
}

/// What a header is made from.
struct Member<'m> {
    path: &'m EntryPath,
    name: Vec<u8>,
    kind: EntryType,
    metadata: &'m Metadata,
    link: Option<&'m [u8]>,
    has_device: bool,
    sparse: Option<Sparse>,
    /// Bytes that follow the header.
    len: u64,
}

impl<'m> Member<'m> {
    fn new(path: &'m EntryPath, kind: EntryType, metadata: &'m Metadata) -> Self {
        let name = path.as_bytes().to_vec();
        Self { path, name, kind, metadata, link: None, has_device: false, sparse: None, len: 0 }
    }
}

/// Where the data of a sparse file is.
struct Sparse {
    size: u64,
    data_len: u64,
    /// Offset and length of each piece of data; the last one tells where the file ends.
    data: Vec<(u64, u64)>,
}

impl Sparse {
    /// `None` if the holes do not ascend, touch each other or reach beyond the file.
    fn new(size: u64, holes: &[ArchiveHole]) -> Option<Self> {
        let (mut end, mut data_len, mut data) = (0, 0, Vec::with_capacity(holes.len() + 1));
        for (position, hole) in holes.iter().enumerate() {
            let len = hole.offset.checked_sub(end).filter(|len| *len > 0 || position == 0)?;
            if len > 0 {
                data.push((end, len));
            }
            data_len += len;
            end = hole.offset.checked_add(hole.len).filter(|end| *end <= size && hole.len > 0)?;
        }
        data.push((end, size - end));
        Some(Self { size, data_len: data_len + (size - end), data })
    }

    /// The map that stands before the data: decimal numbers on lines, filled up to whole blocks.
    fn map(&self) -> Vec<u8> {
        let mut map = format!("{}\n", self.data.len()).into_bytes();
        for (offset, len) in &self.data {
            map.extend_from_slice(format!("{offset}\n{len}\n").as_bytes());
        }
        map.resize(map.len() + padding_of(map.len() as u64), 0);
        map
    }
}

/// Extended records of one entry.
#[derive(Default)]
struct Records {
    list: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Records {
    fn add(&mut self, key: &str, value: &[u8]) {
        self.list.push((key.as_bytes().to_vec(), value.to_vec()));
    }

    fn add_xattrs(&mut self, metadata: &Metadata) {
        for (name, value) in &metadata.xattrs {
            let text = match name.as_slice() {
                b"system.posix_acl_access" => acl_text(value).map(|text| ("SCHILY.acl.access", text)),
                b"system.posix_acl_default" => acl_text(value).map(|text| ("SCHILY.acl.default", text)),
                _ => None,
            };
            if let Some((key, text)) = text {
                self.add(key, text.as_bytes());
            }
            let mut key = b"SCHILY.xattr.".to_vec();
            for byte in name {
                match byte {
                    // As GNU tar does it: the key ends at the first `=`.
                    b'=' => key.extend_from_slice(b"%3D"),
                    b'%' => key.extend_from_slice(b"%25"),
                    byte => key.push(*byte),
                }
            }
            self.list.push((key, value.clone()));
        }
    }

    /// `LENGTH KEY=VALUE\n` for each record, the length counting itself.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.list.iter().for_each(|(key, value)| encode_record(key, value, &mut bytes));
        bytes
    }
}

fn encode_record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    out.extend_from_slice(len.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn set_name(header: &mut Header, name: &[u8], records: &mut Records) {
    copy(&mut header.as_old_mut().name, name);
    if name.len() > NAME_LEN_MAX || !name.is_ascii() {
        records.add("path", name);
    }
}

fn set_time(header: &mut Header, ns: i64, records: &mut Records) {
    let whole = u64::try_from(ns.div_euclid(1_000_000_000)).ok().filter(|seconds| *seconds <= LONG_MAX);
    header.set_mtime(whole.unwrap_or_default());
    let (seconds, rest) = (ns.unsigned_abs() / 1_000_000_000, ns.unsigned_abs() % 1_000_000_000);
    if whole.is_none() || rest > 0 {
        let sign = if ns < 0 { "-" } else { "" };
        let text = format!("{sign}{seconds}.{rest:09}");
        records.add("mtime", text.as_bytes());
    }
}

fn set_owner_names(header: &mut Header, metadata: &Metadata, records: &mut Records) {
    for (key, name) in [("uname", &metadata.user), ("gname", &metadata.group)] {
        let Some(name) = name.as_deref().filter(|name| !name.is_empty()) else { continue };
        if name.len() > OWNER_LEN_MAX || !name.is_ascii() {
            records.add(key, name);
        } else if let Some(ustar) = header.as_ustar_mut() {
            copy(if key == "uname" { &mut ustar.uname } else { &mut ustar.gname }, name);
        }
    }
}

/// As much of `bytes` as the field holds; what is longer stands in a record.
fn copy(field: &mut [u8], bytes: &[u8]) {
    let len = bytes.len().min(field.len());
    field[..len].copy_from_slice(&bytes[..len]);
}

fn padding_of(len: u64) -> usize {
    let over = usize::try_from(len % BLOCK_LEN as u64).unwrap_or_default();
    (BLOCK_LEN - over) % BLOCK_LEN
}

/// The text form of an ACL as Linux keeps it in an attribute; `None` for one that is not understood.
fn acl_text(value: &[u8]) -> Option<String> {
    let (version, rest) = value.split_first_chunk::<4>()?;
    let (entries, rest) = rest.as_chunks::<8>();
    if u32::from_le_bytes(*version) != 2 || entries.is_empty() || !rest.is_empty() {
        return None;
    }
    let mut text = String::new();
    for [tag, tag_high, bits, bits_high, id @ ..] in entries {
        let (tag, bits) = (u16::from_le_bytes([*tag, *tag_high]), u16::from_le_bytes([*bits, *bits_high]));
        let id = u32::from_le_bytes(*id);
        let who = match tag {
            0x01 => "user:".to_owned(),
            0x02 => format!("user:{id}"),
            0x04 => "group:".to_owned(),
            0x08 => format!("group:{id}"),
            0x10 => "mask:".to_owned(),
            0x20 => "other:".to_owned(),
            _ => return None,
        };
        let letter = |bit: u16, letter: char| if bits & bit == 0 { '-' } else { letter };
        let comma = if text.is_empty() { "" } else { "," };
        text.push_str(&format!("{comma}{who}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x')));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_record(key: &[u8], value: &[u8], expected: &[u8]) {
        let mut out = Vec::new();
        encode_record(key, value, &mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn the_length_of_a_record_counts_itself() {
        check_record(b"a", b"b", b"6 a=b\n");
        check_record(b"abc", b"de", b"9 abc=de\n");
        check_record(b"abc", b"def", b"11 abc=def\n");
        // 99 bytes with two digits, and then never 100: the third digit makes it 101.
        for (len, digits) in [(93, "99"), (94, "101")] {
            let value = vec![b'v'; len];
            let expected = [digits.as_bytes(), b" a=", &value, b"\n"].concat();
            check_record(b"a", &value, &expected);
        }
    }

    #[test]
    fn an_acl_becomes_text() {
        let entry = |tag: u16, bits: u16, id: u32| {
            [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let all = [
            2_u32.to_le_bytes().to_vec(),
            entry(1, 6, u32::MAX),
            entry(2, 7, 1000),
            entry(4, 4, u32::MAX),
            entry(8, 0, 7),
            entry(0x10, 5, u32::MAX),
            entry(0x20, 1, u32::MAX),
        ];
        let text = "user::rw-,user:1000:rwx,group::r--,group:7:---,mask::r-x,other::--x";
        assert_eq!(acl_text(&all.concat()).as_deref(), Some(text));
        assert_eq!(acl_text(&all[0]), None, "no entries");
        assert_eq!(acl_text(&[1, 0, 0, 0]), None, "another version");
        assert_eq!(acl_text(&all.concat()[..10]), None, "cut");
        assert_eq!(acl_text(&[all[0].clone(), entry(3, 0, 0)].concat()), None, "an unknown tag");
    }

    #[test]
    fn a_sparse_map_tells_where_data_is() {
        let hole = |offset, len| ArchiveHole { offset, len };
        let data = |size, holes: &[ArchiveHole]| Sparse::new(size, holes).map(|sparse| sparse.data);
        assert_eq!(data(10, &[hole(0, 10)]), Some(vec![(10, 0)]));
        assert_eq!(data(10, &[hole(0, 4)]), Some(vec![(4, 6)]));
        assert_eq!(data(10, &[hole(4, 6)]), Some(vec![(0, 4), (10, 0)]));
        assert_eq!(data(10, &[hole(2, 2), hole(6, 1)]), Some(vec![(0, 2), (4, 2), (7, 3)]));
        assert_eq!(data(10, &[hole(2, 2), hole(4, 1)]), None);
        assert_eq!(data(10, &[hole(2, 2), hole(3, 1)]), None);
        assert_eq!(data(10, &[hole(8, 3)]), None);
        let sparse = Sparse::new(10, &[hole(2, 2), hole(6, 1)]).expect("holes");
        assert_eq!(sparse.data_len, 7);
        let map = sparse.map();
        assert_eq!(map.len(), BLOCK_LEN);
        assert!(map.starts_with(b"3\n0\n2\n4\n2\n7\n3\n\0"), "{map:?}");
    }
}
