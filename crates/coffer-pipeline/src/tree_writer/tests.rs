use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use coffer_format::id::ChunkId;
use coffer_format::path::compare_paths;
use coffer_format::tree::{Kind, decode_leaf, decode_node};
use proptest::prelude::*;

use super::*;
use crate::testing::World;

mod content;

/// Meta chunks by id, with the ids the domain gives them.
struct Chunks<'k> {
    keys: &'k DomainKeys,
    by_id: BTreeMap<[u8; 32], Vec<u8>>,
}

impl<'k> Chunks<'k> {
    fn new(keys: &'k DomainKeys) -> Self {
        Self { keys, by_id: BTreeMap::new() }
    }

    fn get(&self, chunk: &ChunkRef) -> &[u8] {
        let bytes = &self.by_id[&chunk.id.0];
        assert_eq!(bytes.len(), chunk.len as usize);
        bytes
    }
}

impl MetaSink for Chunks<'_> {
    type Error = Infallible;

    fn put(&mut self, bytes: &[u8]) -> Result<ChunkRef, Infallible> {
        let id = self.keys.meta_id(bytes);
        self.by_id.insert(id, bytes.to_vec());
        Ok(ChunkRef { id: ChunkId(id), len: u32::try_from(bytes.len()).unwrap() })
    }
}

// ---- the model: section 12 level by level, with everything in memory ----

struct Item {
    encoded: Vec<u8>,
    path: Vec<u8>,
    entry_count: u64,
    content_bytes: u64,
}

fn array_of(items: &[Item]) -> Vec<u8> {
    let count = items.len();
    let [.., high, low] = u32::try_from(count).unwrap().to_be_bytes();
    let mut bytes = match count {
        0..24 => vec![0x80 | low],
        24..256 => vec![0x98, low],
        _ => vec![0x99, high, low],
    };
    items.iter().for_each(|item| bytes.extend_from_slice(&item.encoded));
    bytes
}

fn model(keys: &DomainKeys, entries: &[TreeEntry], chunks: &mut Chunks<'_>) -> TreeRoot {
    let mut items: Vec<Item> = entries
        .iter()
        .map(|entry| Item {
            encoded: entry.encode(),
            path: entry.path.clone(),
            entry_count: 1,
            content_bytes: entry.size,
        })
        .collect();
    for height in 0.. {
        let mut groups: Vec<Vec<Item>> = Vec::new();
        let mut open = false;
        for item in items {
            if !open {
                groups.push(Vec::new());
            }
            let ends = {
                let mut hasher = blake3::Hasher::new_keyed(keys.parts().tree.expose());
                let hash = hasher.update(&[height]).update(&item.path).finalize();
                u32::from_le_bytes(hash.as_bytes()[..4].try_into().unwrap()) < 67_108_864
            };
            let group = groups.last_mut().unwrap();
            group.push(item);
            if group.len() > 1 && array_of(group).len() > 524_288 {
                let item = group.pop().unwrap();
                groups.push(vec![item]);
            }
            let group = groups.last().unwrap();
            open = !(ends && (height == 0 || group.len() >= 2));
        }
        if groups.is_empty() {
            groups.push(Vec::new());
        }
        let single = groups.len() == 1;
        items = Vec::new();
        for group in groups {
            let Ok(chunk) = chunks.put(&array_of(&group));
            if single {
                return TreeRoot { chunk, height };
            }
            let child = NodeChild {
                last_path: group.last().unwrap().path.clone(),
                chunk,
                entry_count: group.iter().map(|item| item.entry_count).sum(),
                content_bytes: group.iter().map(|item| item.content_bytes).sum(),
            };
            let NodeChild { entry_count, content_bytes, .. } = child;
            items.push(Item { encoded: child.encode(), path: child.last_path, entry_count, content_bytes });
        }
    }
    unreachable!("each level has fewer chunks than the one below")
}

// ---- what is compared with it ----

fn entry(path: impl Into<Vec<u8>>, size: u64) -> TreeEntry {
    let mut entry = TreeEntry::new(path.into(), Kind::File);
    entry.size = size;
    if size > 0 {
        // The content is of no interest here, but a size without one is not an entry.
        let rows = vec![ChunkRef { id: ChunkId([7; 32]), len: 1 }];
        entry.content = Content::List { level: 0, rows };
    }
    entry
}

/// Entries of so many names, in their order.
fn entries(count: u32) -> Vec<TreeEntry> {
    (0..count).map(|n| entry(format!("folder {:03}/file {n:06}", n / 100), u64::from(n % 1000))).collect()
}

fn write(keys: &DomainKeys, entries: &[TreeEntry], chunks: &mut Chunks<'_>) -> TreeRoot {
    let mut writer = TreeWriter::new(keys);
    for entry in entries {
        let Ok(()) = writer.push(entry, chunks);
    }
    let Ok(root) = writer.finish(chunks);
    root
}

/// The leaves below `chunk`, each as its parent lists it; checks what a reader checks on the way.
fn leaves(chunks: &Chunks<'_>, child: &NodeChild, height: u8, out: &mut Vec<NodeChild>) {
    if height == 0 {
        let entries = decode_leaf(chunks.get(&child.chunk)).unwrap();
        assert_eq!(entries.len() as u64, child.entry_count);
        assert_eq!(entries.iter().map(|entry| entry.size).sum::<u64>(), child.content_bytes);
        assert_eq!(entries.last().map(|entry| &entry.path), Some(&child.last_path));
        out.push(child.clone());
        return;
    }
    let children = decode_node(chunks.get(&child.chunk)).unwrap();
    assert_eq!(children.iter().map(|child| child.entry_count).sum::<u64>(), child.entry_count);
    assert_eq!(children.iter().map(|child| child.content_bytes).sum::<u64>(), child.content_bytes);
    assert_eq!(children.last().unwrap().last_path, child.last_path);
    children.iter().for_each(|child| leaves(chunks, child, height - 1, out));
}

fn leaves_of(chunks: &Chunks<'_>, root: &TreeRoot, entries: &[TreeEntry]) -> Vec<NodeChild> {
    let mut out = Vec::new();
    let Some(last) = entries.last() else { return out };
    let root_child = NodeChild {
        last_path: last.path.clone(),
        chunk: root.chunk,
        entry_count: entries.len() as u64,
        content_bytes: entries.iter().map(|entry| entry.size).sum(),
    };
    leaves(chunks, &root_child, root.height, &mut out);
    let found = out.iter().flat_map(|leaf| decode_leaf(chunks.get(&leaf.chunk)).unwrap());
    assert!(found.eq(entries.iter().cloned()), "the leaves hold the entries");
    out
}

/// Checks that writer and model agree to the byte, and that a reader finds the entries; returns height and leaf count.
fn check(keys: &DomainKeys, entries: &[TreeEntry]) -> (u8, usize) {
    let (mut written, mut expected) = (Chunks::new(keys), Chunks::new(keys));
    let root = write(keys, entries, &mut written);
    assert_eq!(root, model(keys, entries, &mut expected));
    assert!(written.by_id == expected.by_id, "the same chunks");
    (root.height, leaves_of(&written, &root, entries).len())
}

/// Paths that end no leaf, and do where `ends`.
fn path_that(keys: &DomainKeys, start: &str, ends: bool) -> String {
    (0..)
        .map(|n| format!("{start} {n:05}"))
        .find(|path| (keys.tree_hash(0, path.as_bytes()) < 1 << 26) == ends)
        .unwrap()
}

fn paths() -> impl Strategy<Value = BTreeSet<String>> {
    prop_oneof![
        prop::collection::btree_set("[a-c/]{1,6}", 0..60),
        prop::collection::btree_set("[a-z]{1,3}/[a-z]{1,20}", 0..600),
        // So long that the length decides where leaves and nodes end.
        prop::collection::btree_set("[a-z]{30}", 0..40).prop_map(|names| {
            names.into_iter().map(|name| [&name[..], "/", &"x/".repeat(32_000), "y"].concat()).collect()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn trees_are_those_of_the_model(paths in paths(), seed in any::<u64>(), size in 0..1000_u64) {
        let is_path = |path: &String| coffer_format::path::check_path(path.as_bytes()).is_ok() && !path.is_empty();
        let mut entries: Vec<_> =
            paths.into_iter().filter(is_path).map(|path| entry(path, size)).collect();
        entries.sort_by(|a, b| compare_paths(&a.path, &b.path));
        check(&World::new(seed).keys, &entries);
    }

    /// Unchanged leaves are taken over from an earlier tree: the root is the one that pushing each entry gives.
    #[test]
    fn adoption_changes_nothing(
        count in 0..3000_u32,
        removed in prop::collection::btree_set(0..3000_u32, 0..6),
        changed in prop::collection::btree_set(0..3000_u32, 0..6),
        inserted in prop::collection::btree_set(0..3000_u32, 0..6),
    ) {
        let world = World::new(1);
        let old = entries(count);
        let mut new = Vec::new();
        for (number, entry) in (0..).zip(&old) {
            if removed.contains(&number) {
                continue;
            }
            let mut entry = entry.clone();
            if changed.contains(&number) {
                entry.mtime_ns = 5;
            }
            let beside = inserted.contains(&number).then(|| {
                let mut beside = entry.clone();
                beside.path.push(b'~');
                beside
            });
            new.push(entry);
            new.extend(beside);
        }
        let mut chunks = Chunks::new(&world.keys);
        let old_root = write(&world.keys, &old, &mut chunks);
        let old_leaves: BTreeMap<_, _> = leaves_of(&chunks, &old_root, &old)
            .into_iter()
            .map(|leaf| {
                let held = decode_leaf(chunks.get(&leaf.chunk)).unwrap();
                (held[0].path.clone(), (leaf, held))
            })
            .collect();
        let mut pushed_chunks = Chunks::new(&world.keys);
        let pushed = write(&world.keys, &new, &mut pushed_chunks);

        let mut writer = TreeWriter::new(&world.keys);
        let mut position = 0;
        let mut adopted = 0;
        while position < new.len() {
            let leaf = old_leaves.get(&new[position].path).filter(|(leaf, held)| {
                writer.at_leaf_start()
                    && writer.ends_after(&leaf.last_path)
                    && new[position..].starts_with(held)
            });
            match leaf {
                Some((leaf, _)) => {
                    adopted += 1;
                    position += usize::try_from(leaf.entry_count).unwrap();
                    writer.adopt_leaf(leaf, &mut chunks).unwrap();
                }
                None => {
                    writer.push(&new[position], &mut chunks).unwrap();
                    position += 1;
                }
            }
        }
        prop_assert_eq!(writer.finish(&mut chunks).unwrap(), pushed);
        for (id, bytes) in &pushed_chunks.by_id {
            prop_assert_eq!(&chunks.by_id[id], bytes);
        }
        // At most the edited leaves and the last one are written again; an edit may split or join two.
        let edits = removed.len() + changed.len() + inserted.len();
        prop_assert!(adopted + 2 * edits + 1 >= old_leaves.len(), "{adopted} of {}", old_leaves.len());
    }
}

#[test]
fn a_tree_without_entries_is_one_empty_leaf() {
    let world = World::new(1);
    let mut chunks = Chunks::new(&world.keys);
    let root = write(&world.keys, &[], &mut chunks);
    assert_eq!((root.height, chunks.get(&root.chunk)), (0, &[0x80][..]));
    assert_eq!(chunks.by_id.len(), 1);
    assert_eq!(check(&world.keys, &[]), (0, 0));
}

#[test]
fn one_leaf_is_the_root_whether_it_has_ended_or_not() {
    let keys = World::new(1).keys;
    for ends in [false, true] {
        let mut all = vec![entry(path_that(&keys, "a", ends), 3)];
        assert_eq!(check(&keys, &all), (0, 1));
        all.push(entry(path_that(&keys, "b", false), 4));
        assert_eq!(check(&keys, &all), if ends { (1, 2) } else { (0, 1) });
        all.push(entry(path_that(&keys, "c", true), 5));
        assert_eq!(check(&keys, &all), if ends { (1, 2) } else { (0, 1) });
    }
}

/// A node may end with its last child: the level above would then have a single node, which is the root.
#[test]
fn a_node_that_has_ended_can_be_the_root() {
    let keys = World::new(1).keys;
    let ends_node = (0..)
        .map(|n| format!("b {n:07}"))
        .find(|path| {
            keys.tree_hash(0, path.as_bytes()) < 1 << 26 && keys.tree_hash(1, path.as_bytes()) < 1 << 26
        })
        .unwrap();
    let mut all = vec![entry(path_that(&keys, "a", true), 1), entry(ends_node.clone(), 2)];
    assert_eq!(check(&keys, &all), (1, 2));
    all.push(entry(path_that(&keys, "c", false), 3));
    assert_eq!(check(&keys, &all), (2, 3));

    // As the first child it does not end the node.
    let all = [entry(ends_node, 2), entry(path_that(&keys, "c", false), 3)];
    assert_eq!(check(&keys, &all), (1, 2));
}

#[test]
fn ten_thousand_entries() {
    let (height, leaf_count) = check(&World::new(1).keys, &entries(10_000));
    assert_eq!(height, 2);
    // One in 64, give or take four standard deviations.
    assert!((106..=206).contains(&leaf_count), "{leaf_count}");
}

/// Symbolic links whose targets bring the leaf to exactly its length, and beyond.
#[test]
fn a_leaf_is_as_long_as_the_limit_and_no_longer() {
    let keys = World::new(1).keys;
    for count in [9, 23, 24, 30] {
        let link = |number: usize, len: usize| {
            let path = path_that(&keys, &format!("{number:03}"), false);
            let mut link = TreeEntry::new(path.into_bytes(), Kind::Symlink);
            link.link_target = Some(vec![b'x'; len]);
            link
        };
        let mut all: Vec<_> = (0..count).map(|number| link(number, 524_288 / count - 500)).collect();
        all.push(link(count, 300));
        let items: usize = all.iter().map(|entry| entry.encode().len()).sum();
        let head = if count + 1 < 24 { 1 } else { 2 };
        let missing = 524_288 - items - head;
        for (more, leaf_count) in [(missing - 1, 1), (missing, 1), (missing + 1, 2)] {
            *all.last_mut().unwrap() = link(count, 300 + more);
            assert_eq!(check(&keys, &all), (u8::from(leaf_count > 1), leaf_count), "{count}, {more}");
        }
    }
}

/// Paths so long that a node takes eight children, and a leaf eight entries.
#[test]
fn nodes_end_by_their_length_too() {
    let keys = World::new(1).keys;
    let long = "x/".repeat(31_000);
    let all: Vec<_> = (0..150).map(|n| entry(format!("{n:03}/{long}y"), 1)).collect();
    let (height, leaf_count) = check(&keys, &all);
    assert!(height >= 2 && leaf_count >= 150 / 8, "{height}, {leaf_count}");
}

/// The point of cutting by paths: whatever is inserted, all but a few chunks are those of the tree before.
#[test]
fn an_insertion_changes_few_chunks() {
    let world = World::new(1);
    let all = entries(10_000);
    let mut before = Chunks::new(&world.keys);
    let root = write(&world.keys, &all, &mut before);
    assert_eq!(root.height, 2);
    let mut most = 0;
    for position in (0..=all.len()).step_by(97) {
        let mut path = position.checked_sub(1).map_or(Vec::new(), |before| all[before].path.clone());
        path.push(b'+');
        let mut more = all.clone();
        more.insert(position, entry(path, 12));
        let mut after = Chunks::new(&world.keys);
        let root = write(&world.keys, &more, &mut after);
        leaves_of(&after, &root, &more);
        let new = after.by_id.keys().filter(|id| !before.by_id.contains_key(*id)).count();
        assert!((3..=6).contains(&new), "{new} new chunks for an entry at {position}");
        most = most.max(new);
    }
    assert!(most > 3, "some insertion splits a leaf");
}

#[test]
fn another_domain_cuts_elsewhere() {
    let (one, other) = (World::new(1), World::new(2));
    let all = entries(3000);
    let cut = |keys: &DomainKeys| -> Vec<Vec<u8>> {
        let mut chunks = Chunks::new(keys);
        let root = write(keys, &all, &mut chunks);
        leaves_of(&chunks, &root, &all).into_iter().map(|leaf| leaf.last_path).collect()
    };
    let (one, other) = (cut(&one.keys), cut(&other.keys));
    let shared = one.iter().filter(|path| other.contains(path)).count();
    assert!(shared * 4 < one.len(), "{shared} of {} cuts are the same", one.len());
}

/// A failure of the sink reaches the caller, wherever it happens.
#[test]
fn a_sink_that_fails() {
    struct Failing(usize);
    impl MetaSink for Failing {
        type Error = usize;

        fn put(&mut self, bytes: &[u8]) -> Result<ChunkRef, usize> {
            self.0 = self.0.checked_sub(1).ok_or(bytes.len())?;
            Ok(ChunkRef { id: ChunkId([1; 32]), len: 1 })
        }
    }
    let keys = World::new(1).keys;
    let all = entries(1000);
    let mut whole = Chunks::new(&keys);
    write(&keys, &all, &mut whole);
    for puts in 0..=whole.by_id.len() {
        let mut sink = Failing(puts);
        let mut writer = TreeWriter::new(&keys);
        let pushed = all.iter().try_for_each(|entry| writer.push(entry, &mut sink));
        let result = pushed.and_then(|()| writer.finish(&mut sink));
        assert_eq!(result.is_ok(), puts == whole.by_id.len(), "{puts}");
    }
}

#[test]
fn a_writer_is_taken_and_starts_anew() {
    let keys = World::new(1).keys;
    let mut chunks = Chunks::new(&keys);
    let mut writer = TreeWriter::new(&keys);
    for entry in &entries(200) {
        writer.push(entry, &mut chunks).unwrap();
    }
    let taken = writer.take().finish(&mut chunks).unwrap();
    assert_eq!(taken, write(&keys, &entries(200), &mut Chunks::new(&keys)));
    assert!(writer.at_leaf_start());
    let rest = writer.finish(&mut chunks).unwrap();
    assert_eq!(rest, write(&keys, &[], &mut Chunks::new(&keys)));
}
