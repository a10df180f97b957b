//! Vaults in which every hash is right and the writer lied.

use coffer_format::id::ChunkId;
use coffer_format::pack::{ChunkKind, Directory};
use coffer_format::tree::{
    Blob, ChunkRef, Content, Hole, Kind, NodeChild, TreeEntry, TreeRoot, encode_holes, encode_items_head,
};
use coffer_verify::{Class, Finding, Report};

use crate::support::{Packs, Taken, Vault, check_affected, content, entry, file, found, only, tree};

/// Asserts that only the deep verification finds fault with the snapshot, and that it is this one.
#[track_caller]
fn check(vault: &Vault, taken: &Taken, class: Class, what: &str, paths: &[&str]) {
    assert_eq!(vault.verify().findings, [], "without a key nothing shows");
    let report = vault.verify_deep();
    check_affected(&report, class, &taken.record, &[taken], paths);
    assert!(report.findings[0].what.contains(what), "{:?}", report.findings);
}

fn leaf(packs: &mut Packs, entries: &[TreeEntry]) -> NodeChild {
    let mut bytes = encode_items_head(entries.len());
    entries.iter().for_each(|entry| bytes.extend(entry.encode()));
    NodeChild {
        last_path: entries.last().map(|entry| entry.path.clone()).unwrap_or_default(),
        chunk: packs.meta(&bytes),
        entry_count: entries.len() as u64,
        content_bytes: entries.iter().map(|entry| entry.size).sum(),
    }
}

fn node(packs: &mut Packs, children: &[NodeChild]) -> TreeRoot {
    let mut bytes = encode_items_head(children.len());
    children.iter().for_each(|child| bytes.extend(child.encode()));
    TreeRoot { chunk: packs.meta(&bytes), height: 1 }
}

/// Takes a snapshot of two leaves, `a b` and `c d`, after `edit` has changed what the node says of them.
fn two_leaves(edit: impl FnOnce(&mut Packs, &mut Vec<NodeChild>)) -> (Vault, Taken) {
    let mut vault = Vault::new(1);
    let mut packs = vault.packs();
    let row = packs.data(1, 100);
    let first = leaf(&mut packs, &[file("a", &[row]), file("b", &[row])]);
    let second = leaf(&mut packs, &[file("c", &[row]), file("d", &[row])]);
    let mut children = vec![first, second];
    edit(&mut packs, &mut children);
    let root = node(&mut packs, &children);
    let taken = vault.snapshot(packs, root);
    (vault, taken)
}

#[test]
fn two_leaves_as_they_should_be_are_clean() {
    let (vault, _) = two_leaves(|_, _| {});
    assert_eq!(vault.verify_deep().findings, []);
}

#[test]
fn a_tree_out_of_order() {
    let (vault, taken) = two_leaves(|packs, children| {
        let row = packs.data(1, 100);
        children[1] = leaf(packs, &[file("aa", &[row]), file("d", &[row])]);
    });
    check(&vault, &taken, Class::Corrupt, "not ascending", &["aa"]);
}

#[test]
fn wrong_sums_in_a_node() {
    let (vault, taken) = two_leaves(|_, children| children[0].entry_count += 1);
    check(&vault, &taken, Class::Corrupt, "number of entries", &["(3 entries up to b)"]);
    let (vault, taken) = two_leaves(|_, children| children[1].content_bytes += 1);
    check(&vault, &taken, Class::Corrupt, "number of bytes", &["(2 entries up to d)"]);
    let (vault, taken) = two_leaves(|_, children| children[1].last_path = b"e".to_vec());
    check(&vault, &taken, Class::Corrupt, "last path", &["(2 entries up to e)"]);
}

#[test]
fn a_wrong_height() {
    let mut vault = Vault::new(1);
    let mut packs = vault.packs();
    let root = tree(&vault.domain(), &mut packs, &[entry("a", Kind::Directory)]);
    let taken = vault.snapshot(packs, TreeRoot { height: 1, ..root });
    check(&vault, &taken, Class::Corrupt, "malformed", &["(all entries)"]);
}

#[test]
fn an_empty_leaf_below_a_node() {
    let (vault, taken) = two_leaves(|packs, children| {
        let mut empty = leaf(packs, &[]);
        empty.last_path = b"e".to_vec();
        children.push(empty);
    });
    let report = vault.verify_deep();
    assert!(report.findings.iter().any(|finding| finding.what.contains("empty")), "{:?}", report.findings);
    assert!(report.findings.iter().all(|finding| finding.object == taken.record));
}

#[test]
fn a_damaged_leaf_that_stands_twice_is_not_walked_twice() {
    let (vault, taken) = two_leaves(|packs, children| {
        let missing = ChunkRef { id: ChunkId([7; 32]), len: 10 };
        children[0] = leaf(packs, &[file("a", &[missing])]);
        let again = NodeChild { last_path: b"b".to_vec(), ..children[0].clone() };
        children.insert(1, again);
    });
    let report = vault.verify_deep();
    assert!(report.findings.iter().any(|finding| finding.what.contains("twice")), "{:?}", report.findings);
    assert!(report.findings.iter().all(|finding| finding.object == taken.record));
}

#[test]
fn garbage_where_leaf_or_manifest_should_be() {
    let mut vault = Vault::new(1);
    let mut packs = vault.packs();
    let chunk = packs.meta(b"no leaf");
    let taken = vault.snapshot(packs, TreeRoot { chunk, height: 0 });
    check(&vault, &taken, Class::Corrupt, "malformed", &["(all entries)"]);
}

/// Takes a snapshot of one file that `make` writes.
fn one_entry(make: impl FnOnce(&mut Packs) -> TreeEntry) -> (Vault, Taken) {
    let mut vault = Vault::new(1);
    let mut packs = vault.packs();
    let entry = make(&mut packs);
    let taken = vault.take(packs, &[entry]);
    (vault, taken)
}

#[test]
fn a_dangling_reference() {
    let missing = ChunkRef { id: ChunkId([7; 32]), len: 10 };
    let (vault, taken) = one_entry(|_| file("lost", &[missing]));
    check(&vault, &taken, Class::Missing, "no live index segment", &["lost"]);
    let report = vault.verify_deep();
    assert_eq!(
        (report.findings[0].chunks.as_slice(), report.findings[0].path_count),
        (&["07".repeat(32)][..], 1)
    );

    let (vault, taken) = one_entry(|_| {
        let mut tagged = entry("tagged", Kind::Directory);
        tagged.xattrs = Some(Blob::Chunk(missing));
        tagged
    });
    check(&vault, &taken, Class::Missing, "no live index segment", &["tagged"]);

    let mut vault = Vault::new(1);
    let packs = vault.packs();
    let (packs, segment) = {
        let mut packs = packs;
        packs.data(1, 10);
        vault.store_packs(packs, |_| {})
    };
    let taken = vault.commit_snapshot(packs, segment, TreeRoot { chunk: missing, height: 0 });
    check(&vault, &taken, Class::Missing, "no live index segment", &["(all entries)"]);
}

#[test]
fn a_reference_that_says_another_length_or_kind_or_id() {
    let (vault, taken) = one_entry(|packs| {
        let mut row = packs.data(1, 100);
        row.len = 99;
        file("short", &[row])
    });
    check(&vault, &taken, Class::Corrupt, "another length", &["short"]);
    let (vault, taken) = one_entry(|packs| {
        let row = packs.meta(&content(1, 100));
        file("meta", &[row])
    });
    check(&vault, &taken, Class::Corrupt, "meta chunk", &["meta"]);
    let (vault, taken) = one_entry(|packs| {
        let mut row = packs.data(1, 100);
        row.id.0[31] ^= 1;
        file("similar", &[row])
    });
    check(&vault, &taken, Class::Corrupt, "only begins like", &["similar"]);
}

#[test]
fn a_wrong_size() {
    let (vault, taken) = one_entry(|packs| {
        let mut wrong = file("wrong", &[packs.data(1, 100)]);
        wrong.size += 1;
        wrong
    });
    check(&vault, &taken, Class::Corrupt, "size", &["wrong"]);
    let (vault, taken) = one_entry(|packs| {
        let mut wrong = file("wrong", &[packs.data(1, 100)]);
        wrong.size += 50;
        wrong.holes = Some(Blob::Inline(encode_holes(&[Hole { offset: 100, len: 49 }])));
        wrong
    });
    check(&vault, &taken, Class::Corrupt, "size", &["wrong"]);
    let (vault, taken) = one_entry(|packs| {
        let mut wrong = file("wrong", &[packs.data(1, 100)]);
        wrong.holes = Some(Blob::Inline(encode_holes(&[Hole { offset: 90, len: 20 }])));
        wrong
    });
    check(&vault, &taken, Class::Corrupt, "holes", &["wrong"]);
}

#[test]
fn attributes_that_are_none() {
    let (vault, taken) = one_entry(|packs| {
        let mut tagged = entry("tagged", Kind::Directory);
        tagged.xattrs = Some(Blob::Chunk(packs.meta(b"no attributes")));
        tagged
    });
    check(&vault, &taken, Class::Corrupt, "extended attributes", &["tagged"]);
}

#[test]
fn a_malformed_content_list() {
    let (vault, taken) = one_entry(|packs| {
        let mut list = file("list", &[]);
        list.size = 10;
        list.content = Content::List { level: 2, rows: vec![packs.meta(b"no rows")] };
        list
    });
    check(&vault, &taken, Class::Corrupt, "content list", &["list"]);
}

#[test]
fn a_content_list_that_names_itself_over_and_over_ends() {
    // Four levels, each naming the one below 8192 times: 2^58 rows, were they walked.
    let (vault, taken) = one_entry(|packs| {
        let mut row = packs.data(1, 100);
        for _ in 0..4 {
            let mut rows = Vec::new();
            (0..8192).for_each(|_| row.write_row(&mut rows));
            row = packs.meta(&rows);
        }
        let mut bomb = file("bomb", &[]);
        bomb.size = 1;
        bomb.content = Content::List { level: 4, rows: vec![row; 64] };
        bomb
    });
    check(&vault, &taken, Class::Corrupt, "size", &["bomb"]);
}

#[test]
fn hard_links_that_lead_nowhere() {
    let cases = [
        ("absent", "does not exist"),
        ("directory", "a directory"),
        ("first-link", "another hard link"),
        ("pipe", "another kind"),
    ];
    for (target, what) in cases {
        for padding in [0, 600] {
            let mut vault = Vault::new(1);
            let packs = vault.packs();
            let link = |path: &str, target: &str| {
                let mut link = entry(path, Kind::File);
                link.hard_link = Some(target.as_bytes().to_vec());
                link
            };
            let mut entries = vec![
                entry("directory", Kind::Directory),
                entry("file", Kind::File),
                link("first-link", "file"),
            ];
            // With these between, the link and what it names are in different leaves.
            entries.extend((0..padding).map(|number| entry(&format!("g-{number:04}"), Kind::File)));
            entries.push(entry("pipe", Kind::Fifo));
            entries.extend((0..padding).map(|number| entry(&format!("q-{number:04}"), Kind::File)));
            entries.push(link("z", target));
            let taken = vault.take(packs, &entries);
            check(&vault, &taken, Class::Corrupt, what, &["z"]);
        }
    }
}

#[test]
fn a_chunk_under_a_wrong_id() {
    let mut vault = Vault::new(1);
    let mut packs = vault.packs();
    let good = packs.data(1, 500);
    let bad = packs.put_as(ChunkKind::Data, &content(2, 500), ChunkId([7; 32]));
    let taken = vault.take(packs, &[file("bad", &[bad]), file("good", &[good])]);
    assert_eq!(vault.verify().findings, []);
    let report = vault.verify_deep();
    check_affected(&report, Class::Corrupt, &taken.packs[0], &[&taken], &["bad"]);
    let finding = &report.findings[0];
    assert!(finding.what.contains("other bytes than its id says"), "{finding:?}");
    assert_eq!(finding.chunks, ["07".repeat(20)]);
}

/// Takes a snapshot of two files whose segment was written from a directory that `edit` made lie.
fn lying_index(edit: impl Fn(&mut Directory)) -> (Taken, Report) {
    let mut vault = Vault::new(1);
    let mut packs = vault.packs();
    let (one, two) = (packs.data(1, 500), packs.data(2, 500));
    packs.end_pack();
    let root = tree(&vault.domain(), &mut packs, &[file("one", &[one]), file("two", &[two])]);
    let (packs, segment) = vault.store_packs(packs, |directory| {
        if directory.frames.len() == 2 {
            edit(directory);
        }
    });
    let taken = vault.commit_snapshot(packs, segment, root);
    assert_eq!(vault.verify().findings, []);
    (taken, vault.verify_deep())
}

#[track_caller]
fn segment_fault<'a>(report: &'a Report, taken: &Taken, paths: &[&str]) -> &'a Finding {
    let finding = only(report, Class::Corrupt, &taken.segment);
    assert_eq!(finding.paths, paths, "{finding:?}");
    finding
}

#[test]
fn an_index_that_disagrees_with_the_pack() {
    // The two chunks change places.
    let (taken, report) = lying_index(|directory| {
        let (first, second) = directory.frames.split_at_mut(1);
        std::mem::swap(&mut first[0].chunks, &mut second[0].chunks);
    });
    let finding = segment_fault(&report, &taken, &["one", "two"]);
    assert_eq!((finding.snapshots.as_slice(), finding.chunk_count), (&[taken.id][..], 2));

    // A row is shorter than its chunk.
    let (taken, report) = lying_index(|directory| directory.frames[1].chunks[0].len -= 1);
    segment_fault(&report, &taken, &["two"]);

    // A frame is elsewhere.
    let (taken, report) = lying_index(|directory| directory.frames[0].place.offset += 1);
    segment_fault(&report, &taken, &["one"]);

    // A chunk is left out: no segment gives it a place.
    let (taken, report) = lying_index(|directory| directory.frames[0].chunks.clear());
    check_affected(&report, Class::Missing, &taken.record, &[&taken], &["one"]);

    // A frame that does not exist.
    let (taken, report) = lying_index(|directory| {
        let mut more = directory.frames[1].clone();
        more.chunks[0].id = ChunkId([7; 32]);
        directory.frames.push(more);
    });
    assert_eq!(found(&report), [(Class::Corrupt, taken.segment.as_str())]);
    assert_eq!(report.findings[0].paths, [""; 0]);
}

#[test]
fn a_manifest_that_does_not_open() {
    let mut vault = Vault::new(1);
    let mut packs = vault.packs();
    packs.data(1, 10);
    let (_, segment) = vault.store_packs(packs, |_| {});
    let number = vault.log.next;
    let chain = vault.commit(
        coffer_format::record::RecordKind::Snapshot,
        coffer_format::record::Details::None,
        Some(crate::support::EMPTY_BODY),
        |public| public.segments_added = vec![segment],
    );
    let report = vault.verify_deep();
    let finding = only(&report, Class::Corrupt, &format!("log/{number:012}"));
    assert!(finding.what.contains("manifest"), "{finding:?}");
    assert_eq!(finding.snapshots[0].0, chain);
}
