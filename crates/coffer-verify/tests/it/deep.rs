//! With the key: what is clean, and exactly who suffers from damage.

use coffer_crypto::hash::hash;
use coffer_crypto::{Secret, VaultKey};
use coffer_format::id::{ChunkId, DomainId, PackId};
use coffer_format::log::StoredRecord;
use coffer_format::manifest::Manifest;
use coffer_format::object::ObjectName;
use coffer_format::pack::{Directory, DirectoryFrame, FramePlace};
use coffer_format::record::{Details, RecordKind, SegmentAdded, chain_value};
use coffer_format::tree::{ChunkRef, Content, Kind, TreeEntry};
use coffer_pipeline::keyring::UnwrappedKey;
use coffer_pipeline::record::signature_is_good;
use coffer_pipeline::segment::SegmentWriter;
use coffer_pipeline::tree_writer::ContentWriter;
use coffer_testkit::copy::store_from;
use coffer_verify::{
    Class, LISTED_MAX, Options, PACKS_NAMED_MAX, Silent, Subset, VerifyError, verify, verify_deep,
};

use crate::support::{EMPTY_BODY, Standard, Vault, check_affected, entry, file, found, only, tree};

/// Where frame 1 of the second pack of A begins: behind the head and a stored frame of 7000 bytes.
const SECOND_FRAME: usize = 1184 + 8 + 7000 + 16;

#[test]
fn a_clean_vault_has_no_findings() {
    let Standard { vault, .. } = Standard::new();
    let report = vault.verify_deep();
    assert_eq!(report.findings, []);
    assert!(report.deep && report.origin_proved && report.fresh_proved);
    let counts = report.counts;
    // Five data chunks, the attributes, three leaves.
    assert_eq!((counts.frames, counts.chunks), (9, 9));
    assert!(counts.chunk_bytes > 9000 + 7000 + 5000 + 6000 + 3000 + 5000);
    assert_eq!((counts.trees, counts.entries, counts.tree_chunks), (2, 12, 2));
    assert_eq!((counts.hashed_packs, counts.hashed_bytes), (8, counts.pack_bytes));
}

#[test]
fn the_reader_secret_suffices() {
    let Standard { vault, .. } = Standard::new();
    let (_, UnwrappedKey::VaultKey(key)) = vault.key() else { panic!("the test has the vault key") };
    let report =
        verify_deep(&vault.store, (0, UnwrappedKey::Reader(key.reader())), &vault.options(), &Silent);
    assert_eq!(report.unwrap().findings, []);
}

#[test]
fn a_key_that_does_not_fit_is_refused() {
    let Standard { mut vault, .. } = Standard::new();
    let wrong = UnwrappedKey::VaultKey(VaultKey::from_secret(Secret::new([9; 32])));
    let error = verify_deep(&vault.store, (0, wrong), &vault.options(), &Silent).unwrap_err();
    assert!(matches!(error, VerifyError::Key { epoch: 0, .. }), "{error}");
    let old = vault.key();
    vault.rotate();
    let error = verify_deep(&vault.store, old, &vault.options(), &Silent).unwrap_err();
    assert!(matches!(error, VerifyError::OldKey { epoch: 0, newest: 1 }), "{error}");
}

#[test]
fn a_new_epoch_reads_what_older_ones_wrote() {
    let Standard { mut vault, a, b, .. } = Standard::new();
    vault.rotate();
    let mut packs = vault.packs();
    let row = packs.data(50, 1000);
    let d = vault.take(packs, &[file("later", &[row])]);
    assert_eq!(vault.verify_deep().findings, []);
    let store = vault.without(&d.packs[0]);
    check_affected(&vault.verify_store_deep(&store), Class::Missing, &d.packs[0], &[&d], &["later"]);
    let store = vault.without(&a.packs[0]);
    check_affected(&vault.verify_store_deep(&store), Class::Missing, &a.packs[0], &[&a, &b], &["docs/big"]);
}

#[test]
fn a_lost_pack_is_blamed_for_what_needs_its_chunks() {
    let Standard { vault, a, b, c } = Standard::new();
    let check = |pack: &str, snapshots: &[&_], paths: &[&str]| {
        let report = vault.verify_store_deep(&vault.without(pack));
        check_affected(&report, Class::Missing, pack, snapshots, paths);
    };
    check(&a.packs[0], &[&a, &b], &["docs/big"]);
    check(&a.packs[1], &[&a, &b], &["docs/big", "docs/sparse"]);
    check(&a.packs[2], &[&a], &["docs/tagged"]);
    check(&a.packs[3], &[&a], &["(all entries)"]);
    check(&b.packs[0], &[&b], &["docs/new"]);
    check(&b.packs[1], &[&b], &["(all entries)"]);
    // A forgotten snapshot needs nothing, but its pack is live still.
    check(&c.packs[0], &[], &[]);

    let report = vault.verify_store_deep(&vault.without(&a.packs[1]));
    let finding = only(&report, Class::Missing, &a.packs[1]);
    assert_eq!((finding.chunk_count, finding.chunks.len(), finding.path_count), (2, 2, 3));
}

#[test]
fn without_the_key_all_that_may_need_it_are_named() {
    let Standard { vault, a, b, c } = Standard::new();
    let check = |object: &str, snapshots: &[&_]| {
        let report = vault.verify_store(&vault.without(object));
        check_affected(&report, Class::Missing, object, snapshots, &[]);
    };
    check(&a.packs[2], &[&a, &b]);
    check(&a.segment, &[&a, &b]);
    check(&b.packs[0], &[&b]);
    check(&b.segment, &[&b]);
    check(&c.packs[0], &[]);
}

#[test]
fn damage_within_a_pack_affects_what_lies_there() {
    let Standard { vault, a, b, .. } = Standard::new();
    let check = |place: usize, snapshots: &[&_], paths: &[&str], chunk_count: u64| {
        let store = vault.changed(&a.packs[1], |bytes| bytes[place] ^= 1);
        let report = vault.verify_store_deep(&store);
        check_affected(&report, Class::Corrupt, &a.packs[1], snapshots, paths);
        assert_eq!(report.findings[0].chunk_count, chunk_count, "{:?}", report.findings);
    };
    let len = vault.store.raw(&a.packs[1]).unwrap().len();
    check(SECOND_FRAME + 100, &[&a], &["docs/sparse"], 1);
    check(SECOND_FRAME - 1, &[&a, &b], &["docs/big"], 1);
    // Salt, encapsulation or commitment: nothing opens any more.
    for place in [0, 500, 1160] {
        check(place, &[&a, &b], &["docs/big", "docs/sparse"], 2);
    }
    // Directory, its padding, and the footer can be done without.
    for place in [SECOND_FRAME + 5030, len - 200, len - 1] {
        check(place, &[], &[], 0);
    }
    // Cut off within the second frame, and within the padding.
    let cut = |len: usize| vault.verify_store_deep(&vault.changed(&a.packs[1], |bytes| bytes.truncate(len)));
    check_affected(&cut(SECOND_FRAME + 10), Class::Corrupt, &a.packs[1], &[&a], &["docs/sparse"]);
    check_affected(&cut(len - 100), Class::Corrupt, &a.packs[1], &[], &[]);
}

#[test]
fn a_lost_segment_is_blamed_for_what_only_it_places() {
    let Standard { vault, a, b, .. } = Standard::new();
    let report = vault.verify_store_deep(&vault.without(&a.segment));
    check_affected(&report, Class::Missing, &a.segment, &[&a, &b], &["(all entries)", "docs/big"]);
    assert_eq!(report.residue, [], "packs that the lost segment may list are not called residue");
    let report = vault.verify_store_deep(&vault.without(&b.segment));
    check_affected(&report, Class::Missing, &b.segment, &[&b], &["(all entries)"]);
}

#[test]
fn of_a_damaged_segment_the_sound_part_is_used() {
    let Standard { vault, a, b, .. } = Standard::new();
    let len = vault.store.raw(&a.segment).unwrap().len();
    let report =
        |place: usize| vault.verify_store_deep(&vault.changed(&a.segment, |bytes| bytes[place] ^= 1));
    // The chunk table, the frame table, the salt, the head: no row can be used.
    for place in [len - 1, 104 + 4 * 40 + 3, 30, 0] {
        check_affected(&report(place), Class::Corrupt, &a.segment, &[&a, &b], &["(all entries)", "docs/big"]);
    }
    // The name of one pack: its rows lead nowhere, the others do.
    let names = &vault.store.raw(&a.segment).unwrap()[104..];
    let position = |pack: &str| {
        let rows = names.chunks(40).map(|row| coffer_format::id::hex(&row[..32]));
        rows.take(4).position(|name| pack.ends_with(&name)).unwrap()
    };
    let place = 104 + 40 * position(&a.packs[2]) + 5;
    check_affected(&report(place), Class::Corrupt, &a.segment, &[&a], &["docs/tagged"]);
}

#[test]
fn another_place_for_the_same_chunks_suffices() {
    let Standard { mut vault, a, .. } = Standard::new();
    let mut packs = vault.packs();
    packs.data(1, 9000);
    vault.take(packs, &[]);
    let report = vault.verify_store_deep(&vault.without(&a.packs[0]));
    check_affected(&report, Class::Missing, &a.packs[0], &[], &[]);
}

#[test]
fn a_pack_listed_again_serves_older_snapshots() {
    let Standard { mut vault, a, b, c } = Standard::new();
    let mut packs = vault.packs();
    packs.data(1, 9000);
    packs.end_pack();
    let added = vault.list_packs(&packs.done, |_| {});
    let pack = ObjectName::Pack(packs.done[0].id).to_string();
    vault.store.insert_raw(pack.clone(), packs.done[0].bytes.clone());
    let details = Details::Prune { base: vault.head().number, orphans: Vec::new() };
    let gone = c.segment.strip_prefix("index/").unwrap().parse().unwrap();
    vault.commit(RecordKind::Prune, details, Some(EMPTY_BODY), |public| {
        public.segments_added = vec![added];
        public.segments_removed = vec![gone];
    });
    assert_eq!(vault.verify_deep().findings, []);
    check_affected(&vault.verify_store(&vault.without(&pack)), Class::Missing, &pack, &[&a, &b], &[]);
}

/// A vault with one snapshot of many files in many leaves, each with a chunk of its own size.
fn many_files(count: usize) -> (Vault, crate::support::Taken, Vec<TreeEntry>) {
    let mut vault = Vault::new(7);
    let mut packs = vault.packs();
    let small = packs.data(1, 300);
    let files: Vec<_> = (0..count).map(|number| file(&format!("file-{number:05}"), &[small])).collect();
    let taken = vault.take(packs, &files);
    (vault, taken, files)
}

#[test]
fn a_tree_of_several_levels_is_walked_once() {
    let (mut vault, _, files) = many_files(9000);
    let report = vault.verify_deep();
    assert_eq!(report.findings, []);
    let chunks = report.counts.tree_chunks;
    assert!(chunks > 100 && report.counts.entries == 9000, "{:?}", report.counts);
    // A second snapshot that differs in one file costs a leaf and the nodes above it.
    let mut files = files;
    files[4000].mode = 0o644;
    let packs = vault.packs();
    vault.take(packs, &files);
    let report = vault.verify_deep();
    assert_eq!(report.findings, []);
    assert!(report.counts.tree_chunks <= chunks + 4, "{:?}", report.counts);
    assert_eq!((report.counts.trees, report.counts.entries), (2, 18_000));
}

#[test]
fn a_lost_leaf_is_a_stretch_of_paths() {
    let (vault, taken, _) = many_files(2000);
    // The first frame of the tree's pack is its first leaf.
    let store = vault.changed(&taken.packs[1], |bytes| bytes[1184 + 20] ^= 1);
    let report = vault.verify_store_deep(&store);
    let finding = only(&report, Class::Corrupt, &taken.packs[1]);
    assert_eq!((finding.snapshots.as_slice(), finding.chunk_count), (&[taken.id][..], 1));
    let [path] = &finding.paths[..] else { panic!("{finding:?}") };
    let (count, last) = path.strip_prefix('(').unwrap().split_once(" entries up to file-").unwrap();
    let (count, last): (u64, u64) = (count.parse().unwrap(), last.trim_end_matches(')').parse().unwrap());
    assert_eq!((last + 1, finding.path_count), (count, count), "files are numbered from 0");
}

#[test]
fn paths_are_listed_up_to_a_bound_and_counted_beyond() {
    let (vault, taken, _) = many_files(2000);
    let report = vault.verify_store_deep(&vault.without(&taken.packs[0]));
    let finding = only(&report, Class::Missing, &taken.packs[0]);
    assert_eq!((finding.paths.len(), finding.path_count), (LISTED_MAX, 2000));
}

#[test]
fn a_chunked_content_list_is_followed() {
    let mut vault = Vault::new(3);
    let mut packs = vault.packs();
    let rows: Vec<_> = (0..200).map(|seed| packs.data(seed, 100 + usize::from(seed))).collect();
    packs.end_pack();
    let mut writer = ContentWriter::default();
    for row in &rows {
        let Ok(()) = writer.push(*row, &mut packs);
    }
    let Ok(list) = writer.finish(&mut packs);
    assert!(matches!(list, Content::List { level: 1, .. }));
    let mut huge = file("huge", &rows);
    huge.content = list;
    let mut twin = huge.clone();
    twin.path = b"twin".to_vec();
    let taken = vault.take(packs, &[huge, twin]);
    assert_eq!(vault.verify_deep().findings, []);
    for pack in [0, 1] {
        let report = vault.verify_store_deep(&vault.without(&taken.packs[pack]));
        check_affected(&report, Class::Missing, &taken.packs[pack], &[&taken], &["huge", "twin"]);
    }
}

#[test]
fn hard_links_across_leaves_are_resolved() {
    let mut vault = Vault::new(3);
    let mut packs = vault.packs();
    let row = packs.data(1, 300);
    let mut files: Vec<_> = (0..1000).map(|number| file(&format!("file-{number:05}"), &[row])).collect();
    for number in 500..1000 {
        files[number].content = Content::Empty;
        files[number].hard_link = Some(files[number - 500].path.clone());
    }
    vault.take(packs, &files);
    assert_eq!(vault.verify_deep().findings, []);
}

#[test]
fn a_subset_still_walks_every_tree() {
    let Standard { vault, a, b, .. } = Standard::new();
    let mut found_by_opening = 0;
    for n in 1..=8 {
        let options = Options { subset: Subset::Part { n, m: 8 }, ..vault.options() };
        let report = |store: &_| verify_deep(store, vault.key(), &options, &Silent).unwrap();
        let clean = report(&vault.store);
        assert_eq!((clean.findings.as_slice(), clean.counts.trees), (&[][..], 2));
        // A damaged leaf shows in any subset, as the walk reads it; damaged content in one.
        let leaf = report(&vault.changed(&b.packs[1], |bytes| bytes[1184 + 20] ^= 1));
        check_affected(&leaf, Class::Corrupt, &b.packs[1], &[&b], &["(all entries)"]);
        let content = report(&vault.changed(&a.packs[0], |bytes| bytes[1184 + 20] ^= 1));
        found_by_opening += content.findings.len();
    }
    assert_eq!(found_by_opening, 1);
}

#[test]
fn a_snapshot_taken_over_by_reconcile_is_walked() {
    let Standard { mut vault, a, b, .. } = Standard::new();
    // A record made for a log that went another way.
    let mut packs = vault.packs();
    let row = packs.data(60, 2000);
    packs.end_pack();
    let root = tree(&vault.domain(), &mut packs, &[entry("", Kind::Directory), file("rescued", &[row])]);
    let (packs, segment) = vault.store_packs(packs, |_| {});
    let body = Manifest::new("files", root).encode();
    let quoted = vault.record(RecordKind::Snapshot, &Details::None, Some(&body), |public| {
        public.segments_added = vec![segment];
    });
    let mut other = vault.log.clone();
    other.apply(StoredRecord::Whole(&quoted), &signature_is_good);
    vault.commit(RecordKind::Locks, Details::Locks { until_s: 0, object_count: 0 }, None, |_| {});
    let records = vec![quoted.clone()];
    vault.commit(RecordKind::Reconcile, Details::Reconcile { records }, None, |_| {});
    let report = vault.verify_deep();
    assert_eq!((report.findings.as_slice(), report.counts.trees), (&[][..], 3));
    assert_eq!(vault.log.snapshots.last().unwrap().id.0, chain_value(&quoted));
    let report = vault.verify_store_deep(&vault.without(&packs[0]));
    let finding = only(&report, Class::Missing, &packs[0]);
    assert_eq!(finding.paths, ["rescued"]);
    assert!(!finding.snapshots.contains(&a.id) && !finding.snapshots.contains(&b.id));
}

#[test]
fn several_damaged_packs_are_each_blamed_for_their_part() {
    let Standard { vault, a, b, .. } = Standard::new();
    let mut objects = vault.objects();
    objects.remove(&a.packs[2]);
    objects.get_mut(&b.packs[0]).unwrap()[1184] ^= 1;
    let report = vault.verify_store_deep(&store_from(objects));
    let expected = [(Class::Missing, a.packs[2].as_str()), (Class::Corrupt, b.packs[0].as_str())];
    assert_eq!(found(&report), expected);
    assert_eq!(
        (report.findings[0].paths.as_slice(), &report.findings[0].snapshots),
        (&["docs/tagged".to_owned()][..], &vec![a.id])
    );
    assert_eq!(
        (report.findings[1].paths.as_slice(), &report.findings[1].snapshots),
        (&["docs/new".to_owned()][..], &vec![b.id])
    );
}

#[test]
fn of_very_many_lost_packs_some_are_named_and_the_others_counted() {
    const PACK_COUNT: usize = PACKS_NAMED_MAX + 7;
    let mut vault = Vault::new(5);
    let mut packs = vault.packs();
    let row = packs.data(1, 300);
    vault.take(packs, &[file("kept", &[row])]);
    // A segment of packs of fifteen chunks each, which nobody stored.
    let mut writer = SegmentWriter::default();
    let mut refs = Vec::new();
    for number in 0..PACK_COUNT {
        let chunk = |part: usize| {
            let id = ChunkId(hash(&((number * 100 + part) as u64).to_le_bytes()));
            ChunkRef { id, len: 10 }
        };
        let place = FramePlace { offset: 1184, sealed_len: 174, plain_len: 150 };
        let frame = DirectoryFrame { place, chunks: (0..15).map(chunk).collect() };
        refs.push(chunk(3));
        let directory = Directory { domain: DomainId(*vault.domain().domain()), frames: vec![frame] };
        writer.add_pack(PackId(hash(&(number as u64).to_le_bytes())), 65_536, &directory).unwrap();
    }
    let segment = writer.finish(vault.log.vault, &vault.domain(), &vault.rng).unwrap();
    vault.store.insert_raw(ObjectName::Segment(segment.id).to_string(), segment.bytes.clone());
    let domain = DomainId(*vault.domain().domain());
    let added = SegmentAdded { id: segment.id, len: segment.bytes.len() as u64, domain };
    let mut packs = vault.packs();
    // A chunk of each of the first packs, which are named, and of the last ones, of which seven are not.
    let refs = [&refs[..20], &refs[PACK_COUNT - 20..]].concat();
    let root = tree(&vault.domain(), &mut packs, &[entry("", Kind::Directory), file("lost", &refs)]);
    let (_, own) = vault.store_packs(packs, |_| {});
    let mut segments = vec![added, own];
    segments.sort_unstable_by_key(|segment| segment.id);
    let body = Manifest::new("files", root).encode();
    vault.commit(RecordKind::Snapshot, Details::None, Some(&body), |public| {
        public.segments_added = segments;
    });
    let id = vault.log.snapshots.last().unwrap().id;
    let options = Options { rows_in_memory: 20_000, ..vault.options() };
    let deep = verify_deep(&vault.store, vault.key(), &options, &Silent).unwrap();
    let keyless = verify(&vault.store, &options, &Silent).unwrap();
    for report in [&keyless, &deep] {
        let others: Vec<_> =
            report.findings.iter().filter(|finding| !finding.object.starts_with("packs/")).collect();
        assert_eq!((others.len(), report.findings.len()), (1, PACKS_NAMED_MAX + 1), "{others:?}");
        let further = report.findings.iter().find(|finding| finding.object == "(further packs)").unwrap();
        assert_eq!((further.class, further.what.as_str()), (Class::Missing, "7 more packs are missing"));
        assert_eq!(further.snapshots, [id]);
    }
    let listed: usize = deep.findings.iter().map(|finding| finding.chunks.len() + finding.paths.len()).sum();
    assert!(listed <= 100_000, "{listed}");
    let lost: u64 = deep.findings.iter().map(|finding| finding.chunk_count).sum();
    assert_eq!(lost, PACK_COUNT as u64 * 15);
    let needed: Vec<u64> =
        deep.findings.iter().map(|finding| finding.path_count).filter(|count| *count > 0).collect();
    assert_eq!(needed, [1; 34], "33 named packs, and the others together");
}
