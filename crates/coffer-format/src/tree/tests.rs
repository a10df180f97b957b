use proptest::prelude::*;

use super::*;
use crate::support::{array, bytes, cases_data, map, with};
use crate::testing::{check, check_cut, rule};

fn leaf_of(entry: &TreeEntry) -> Vec<u8> {
    [encode_items_head(1), entry.encode()].concat()
}

fn encode_leaf(entries: &[TreeEntry]) -> Vec<u8> {
    [encode_items_head(entries.len()), entries.iter().flat_map(TreeEntry::encode).collect()].concat()
}

fn encode_node(children: &[NodeChild]) -> Vec<u8> {
    [encode_items_head(children.len()), children.iter().flat_map(NodeChild::encode).collect()].concat()
}

#[test]
fn every_case_of_leaves() {
    check(&cases_data::leaf(), |_, bytes| decode_leaf(bytes).map(drop));
    check_cut(&cases_data::leaf(), |_, bytes| decode_leaf(bytes).map(drop));
    for case in cases_data::leaf().all.iter().filter(|case| case.fault.is_none()) {
        assert_eq!(encode_leaf(&decode_leaf(&case.bytes).unwrap()), case.bytes, "{}", case.name);
    }
}

#[test]
fn every_case_of_nodes() {
    check(&cases_data::node(), |_, bytes| decode_node(bytes).map(drop));
    check_cut(&cases_data::node(), |_, bytes| decode_node(bytes).map(drop));
    for case in cases_data::node().all.iter().filter(|case| case.fault.is_none()) {
        assert_eq!(encode_node(&decode_node(&case.bytes).unwrap()), case.bytes, "{}", case.name);
    }
}

#[test]
fn every_case_of_content_rows() {
    check(&cases_data::content_rows(), |case, bytes| {
        ChunkRef::read_rows(bytes, case.parameter("row_count_max")).map(drop)
    });
    assert!(ChunkRef::read_chunked_rows(&cases_data::row("a", 1).repeat(8192)).is_ok());
    assert!(ChunkRef::read_chunked_rows(&cases_data::row("a", 1).repeat(8193)).is_err());
}

#[test]
fn every_case_of_holes() {
    check(&cases_data::holes(), |case, bytes| decode_holes(bytes, case.parameter("size")).map(drop));
    for case in cases_data::holes().all.iter().filter(|case| case.fault.is_none()) {
        assert_eq!(encode_holes(&decode_holes(&case.bytes, 1000).unwrap()), case.bytes);
    }
}

#[test]
fn every_case_of_attributes() {
    check(&cases_data::xattrs(), |_, bytes| decode_xattrs(bytes).map(drop));
    check_cut(&cases_data::xattrs(), |_, bytes| decode_xattrs(bytes).map(drop));
    for case in cases_data::xattrs().all.iter().filter(|case| case.fault.is_none()) {
        assert_eq!(encode_xattrs(&decode_xattrs(&case.bytes).unwrap()), case.bytes);
    }
    for name in [&b""[..], b"a\0b"] {
        assert!(decode_xattrs(&encode_xattrs(&[(name.to_vec(), Vec::new())])).is_err());
    }
}

#[test]
fn limits_of_leaves_and_nodes() {
    let entry = map(&cases_data::entry_fields("a"));
    let many = [encode_items_head(65_537), entry.repeat(10)].concat();
    assert_eq!(rule(&decode_leaf(&many).unwrap_err()), "an array is over its limit");
    let long = usize::try_from(TREE_LEN_MAX).unwrap() + 1;
    assert_eq!(rule(&decode_leaf(&vec![0x80; long]).unwrap_err()), "over the limit");
    assert_eq!(rule(&decode_node(&vec![0x80; long]).unwrap_err()), "over the limit");
    assert_eq!(rule(&decode_leaf(&vec![0x80; long - 1]).unwrap_err()), "bytes left over at the end");
}

#[test]
fn a_content_chunk_ends_after_a_low_id() {
    let row = |a, b| {
        let mut id = [9; 32];
        (id[0], id[1]) = (a, b);
        ChunkRef { id: ChunkId(id), len: 1 }.ends_list_chunk()
    };
    assert_eq!(
        [row(0, 0), row(63, 0), row(64, 0), row(0, 1), row(255, 255)],
        [true, true, false, false, false]
    );
}

#[test]
fn marks_that_are_not_known_are_kept() {
    for marks in [1, 2, 3, 1 << 40] {
        let fields = with(&cases_data::entry_fields("a"), 17, Some(crate::support::uint(marks)));
        let bytes = array(&[map(&fields)]);
        let entries = decode_leaf(&bytes).unwrap();
        assert_eq!(entries[0].changed_while_read, marks & 1 == 1);
        assert_eq!(encode_leaf(&entries), bytes);
    }
}

#[test]
fn empty_values_are_left_out() {
    let entry = TreeEntry::new(b"a".to_vec(), Kind::File);
    let mut other = entry.clone();
    (other.user, other.group) = (Some(Vec::new()), Some(Vec::new()));
    (other.xattrs, other.holes) = (Some(Blob::Inline(Vec::new())), Some(Blob::Inline(Vec::new())));
    other.resource = Some(vec![0xa0]);
    assert_eq!(other.encode(), entry.encode());
    assert_eq!(decode_leaf(&leaf_of(&other)).unwrap(), [entry]);
}

#[test]
fn kinds_have_names_of_their_own() {
    let mut names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 8);
}

/// Every rule about an entry's parts together, from one sound entry each.
#[test]
fn every_fault() {
    let chunk = ChunkRef { id: ChunkId([1; 32]), len: 5 };
    let file = || {
        let mut entry = TreeEntry::new(b"b".to_vec(), Kind::File);
        entry.size = 5;
        entry.content = Content::List { level: 0, rows: vec![chunk] };
        entry
    };
    let of = |kind| TreeEntry::new(b"b".to_vec(), kind);
    let check = |mut entry: TreeEntry, rule: Option<&str>, change: &dyn Fn(&mut TreeEntry)| {
        change(&mut entry);
        assert_eq!(entry.fault(), rule);
        let found = decode_leaf(&leaf_of(&entry)).map(|entries| assert_eq!(entries, [entry.clone()]));
        assert_eq!(found.is_err(), rule.is_some());
    };
    check(file(), None, &|_| ());
    check(file(), Some("only a directory has the empty path"), &|entry| entry.path.clear());
    check(file(), Some("there is content but no size"), &|entry| entry.size = 0);
    check(file(), Some("there is a size but no content"), &|entry| entry.content = Content::Empty);
    check(file(), Some("the size is not that of the content"), &|entry| {
        entry.content = Content::Inline(vec![0; 4])
    });
    check(file(), None, &|entry| entry.content = Content::Inline(vec![0; 5]));
    check(file(), None, &|entry| {
        entry.content = Content::Inline(vec![0; 4]);
        entry.holes = Some(Blob::Inline(encode_holes(&[Hole { offset: 0, len: 1 }])));
    });
    check(file(), Some("a link target belongs to symbolic links alone"), &|entry| {
        entry.link_target = Some(vec![1])
    });
    check(file(), Some("device numbers belong to devices alone"), &|entry| entry.device = Some((1, 2)));
    check(file(), Some("this kind of entry has no content"), &|entry| entry.hard_link = Some(b"a".to_vec()));
    check(file(), None, &|entry| {
        entry.hard_link = Some(b"a".to_vec());
        entry.content = Content::Empty;
    });
    check(of(Kind::Directory), Some("this kind of entry has no size"), &|entry| entry.size = 1);
    check(of(Kind::Directory), Some("a hard link names an earlier path"), &|entry| {
        entry.hard_link = Some(b"a".to_vec())
    });
    check(of(Kind::Directory), None, &|entry| entry.path.clear());
    check(of(Kind::Fifo), None, &|entry| entry.hard_link = Some(b"a".to_vec()));
    check(of(Kind::Socket), Some("this kind of entry has no holes"), &|entry| {
        entry.holes = Some(Blob::Chunk(chunk))
    });
    check(of(Kind::Symlink), Some("a link target is empty or contains NUL"), &|entry| {
        entry.link_target = Some(b"a\0".to_vec())
    });
    check(of(Kind::Symlink), None, &|entry| entry.link_target = Some(b"a".to_vec()));
    check(of(Kind::Resource), None, &|entry| {
        entry.size = 5;
        entry.content = Content::List { level: 4, rows: vec![chunk; 64] };
    });
    check(of(Kind::Resource), Some("the content of a resource is never inline"), &|entry| {
        entry.size = 1;
        entry.content = Content::Inline(vec![1]);
    });
    assert_eq!(of(Kind::CharDevice).fault(), Some("device numbers belong to devices alone"));
    assert_eq!(of(Kind::BlockDevice).fault(), Some("device numbers belong to devices alone"));
}

fn any_path() -> impl Strategy<Value = Vec<u8>> {
    let component = proptest::collection::vec(prop_oneof![b'a'..=b'c', Just(b'-'), 0x80_u8..], 1..4);
    proptest::collection::vec(component, 1..4).prop_map(|components| components.join(&b'/'))
}

fn any_chunk() -> impl Strategy<Value = ChunkRef> {
    (any::<[u8; 32]>(), 1..=16_777_216_u32).prop_map(|(id, len)| ChunkRef { id: ChunkId(id), len })
}

fn any_blob() -> impl Strategy<Value = Blob> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..80).prop_map(Blob::Inline),
        any_chunk().prop_map(Blob::Chunk)
    ]
}

/// A sound entry of any kind, every field in use.
fn any_entry() -> impl Strategy<Value = TreeEntry> {
    let kind = proptest::sample::select(Kind::ALL.to_vec());
    let name = || proptest::option::of(proptest::collection::vec(any::<u8>(), 1..20));
    let numbers = (0..=0o7777_u32, any::<u32>(), any::<u32>(), any::<i64>(), any::<u64>());
    let parts = (
        proptest::collection::vec(any_chunk(), 0..4),
        0..=4_u8,
        proptest::collection::vec(any::<u8>(), 1..=128),
        0..5_u8,
        proptest::collection::vec(1_u8.., 1..30),
    );
    let extras =
        (proptest::option::of(any_blob()), any::<bool>(), any_blob(), any::<(u32, u32)>(), any::<bool>());
    (any_path(), kind, numbers, (name(), name()), parts, extras)
        .prop_map(
            |(
                path,
                kind,
                (mode, uid, gid, mtime_ns, size),
                (user, group),
                (rows, level, inline, choice, target),
                (xattrs, sparse, holes, device, changed),
            )| {
                let mut entry = TreeEntry::new(path, kind);
                (entry.mode, entry.uid, entry.gid, entry.mtime_ns) = (mode, uid, gid, mtime_ns);
                (entry.user, entry.group, entry.xattrs, entry.changed_while_read) =
                    (user, group, xattrs, changed);
                match kind {
                    Kind::Symlink => entry.link_target = Some(target),
                    Kind::CharDevice | Kind::BlockDevice => entry.device = Some(device),
                    Kind::Resource => {
                        entry.resource = Some(vec![0xa1, 1, 2]);
                        if !rows.is_empty() {
                            (entry.size, entry.content) = (size.max(1), Content::List { level, rows });
                        }
                    }
                    Kind::File if choice == 0 => {
                        (entry.size, entry.content) = (inline.len() as u64, Content::Inline(inline));
                    }
                    Kind::File if choice == 1 => (entry.size, entry.hard_link) = (size, Some(b"-".to_vec())),
                    Kind::File if !rows.is_empty() => {
                        (entry.size, entry.content) = (size.max(1), Content::List { level, rows });
                        entry.holes = sparse.then_some(holes);
                    }
                    _ => {}
                }
                entry
            },
        )
        .prop_filter("a hard link names an earlier path", |entry| entry.fault().is_none())
}

proptest! {
    #[test]
    fn entries_round_trip(entry in any_entry()) {
        prop_assert_eq!(decode_leaf(&leaf_of(&entry)).unwrap(), vec![entry]);
    }

    #[test]
    fn leaves_keep_their_order(entries in proptest::collection::vec(any_entry(), 0..6)) {
        let ascending = entries.windows(2).all(|pair| compare_paths(&pair[0].path, &pair[1].path).is_lt());
        let decoded = decode_leaf(&encode_leaf(&entries));
        prop_assert_eq!(decoded.is_ok(), ascending);
        let mut sorted = entries;
        sorted.sort_by(|a, b| compare_paths(&a.path, &b.path));
        sorted.dedup_by(|a, b| a.path == b.path);
        prop_assert_eq!(decode_leaf(&encode_leaf(&sorted)).unwrap(), sorted);
    }

    #[test]
    fn whatever_is_accepted_is_written_alike(entry in any_entry(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = leaf_of(&entry);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(entries) = decode_leaf(&bytes) {
            prop_assert_eq!(encode_leaf(&entries), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), size in any::<u64>()) {
        if let Ok(entries) = decode_leaf(&bytes) {
            prop_assert_eq!(encode_leaf(&entries), &bytes[..]);
        }
        if let Ok(children) = decode_node(&bytes) {
            prop_assert_eq!(encode_node(&children), &bytes[..]);
        }
        if let Ok(xattrs) = decode_xattrs(&bytes) {
            prop_assert_eq!(encode_xattrs(&xattrs), &bytes[..]);
        }
        if let Ok(holes) = decode_holes(&bytes, size) {
            prop_assert_eq!(encode_holes(&holes), &bytes[..]);
        }
        let _ = ChunkRef::read_chunked_rows(&bytes);
    }

    #[test]
    fn holes_are_sound_exactly_if_they_ascend_apart(rows in proptest::collection::vec((0_u64..40, 0_u64..8), 1..5)) {
        let holes: Vec<Hole> = rows.iter().map(|(offset, len)| Hole { offset: *offset, len: *len }).collect();
        let sound = holes.iter().all(|hole| hole.len > 0 && hole.offset + hole.len <= 40)
            && holes.windows(2).all(|pair| pair[0].offset + pair[0].len < pair[1].offset);
        prop_assert_eq!(decode_holes(&encode_holes(&holes), 40).ok(), sound.then_some(holes));
    }

    #[test]
    fn nodes_round_trip(rows in proptest::collection::vec((any_path(), any_chunk(), any::<u64>(), any::<u64>()), 1..6)) {
        let mut children: Vec<NodeChild> = rows
            .into_iter()
            .map(|(last_path, chunk, entry_count, content_bytes)| NodeChild { last_path, chunk, entry_count, content_bytes })
            .collect();
        children.sort_by(|a, b| compare_paths(&a.last_path, &b.last_path));
        children.dedup_by(|a, b| a.last_path == b.last_path);
        prop_assert_eq!(decode_node(&encode_node(&children)).unwrap(), children.clone());
        children.reverse();
        prop_assert_eq!(decode_node(&encode_node(&children)).is_ok(), children.len() == 1);
    }

    #[test]
    fn attributes_round_trip(xattrs in proptest::collection::btree_map(proptest::collection::vec(1_u8.., 1..9), proptest::collection::vec(any::<u8>(), 0..9), 1..5)) {
        let xattrs: Vec<Xattr> = xattrs.into_iter().collect();
        prop_assert_eq!(decode_xattrs(&encode_xattrs(&xattrs)).unwrap(), xattrs);
    }
}

#[test]
fn a_list_of_bytes_is_not_a_chunk() {
    let fields = with(&cases_data::entry_fields("a"), 14, Some(array(&[bytes(&[0; 32])])));
    assert_eq!(rule(&decode_leaf(&array(&[map(&fields)])).unwrap_err()), "a chunk is named by id and length");
}
