//! The table against a plain map, over restarts, segments that go, and files that are not what they were.

#![allow(clippy::unwrap_used, reason = "tests fail where they stand")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;

use coffer_format::id::SegmentId;

use super::{BLOCK_ROW_COUNT, FILE_ROW_COUNT_MIN, HEAD_LEN, Lookup, ROW_LEN, SEGMENT_LEN};

/// Numbers that look like keyed hashes; the high bits of some are alike.
fn fingerprints(seed: u64, count: u64) -> Vec<u64> {
    let mix = |number: u64| {
        let mut value = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ seed.wrapping_mul(0xD1B5_4A32_D192_ED03);
        value = (value ^ (value >> 31)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 29)
    };
    (0..count)
        .map(|number| if number % 7 == 0 { mix(number % 97) } else { mix(number ^ (seed << 40)) })
        .collect()
}

fn id(number: u64) -> SegmentId {
    let mut id = [7; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    SegmentId(id)
}

/// What each fingerprint is listed by.
type Model = BTreeMap<u64, BTreeSet<SegmentId>>;

fn add(lookup: &mut Lookup, model: &mut Model, segment: u64, count: u64) {
    let place = lookup.begin_segment(id(segment));
    let all = fingerprints(segment, count);
    for fingerprint in &all {
        model.entry(*fingerprint).or_default().insert(id(segment));
    }
    lookup.extend(place, all.into_iter());
    lookup.end_segment();
}

fn save(lookup: &Lookup, path: &Path) {
    let fresh = path.with_extension("new");
    lookup.write(&mut File::create(&fresh).unwrap()).unwrap();
    fs::rename(fresh, path).unwrap();
}

fn check(lookup: &Lookup, model: &Model, live: impl Fn(&SegmentId) -> bool) {
    let named = |fingerprint| -> BTreeSet<_> {
        lookup.candidates(fingerprint).into_iter().map(|place| lookup.segments()[place as usize]).collect()
    };
    for (fingerprint, segments) in model {
        let expected: BTreeSet<_> = segments.iter().copied().filter(&live).collect();
        assert_eq!(named(*fingerprint), expected, "{fingerprint:x}");
        assert!(model.contains_key(&(fingerprint + 1)) || named(fingerprint + 1).is_empty());
    }
    assert!(named(0).is_empty() && named(u64::MAX).is_empty());
}

#[test]
fn it_answers_as_a_map_does_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let mut model = Model::new();
    let mut lookup = Lookup::open(None, |_| true);
    check(&lookup, &model, |_| true);
    for (segment, count) in [(1, 5000), (2, 1), (3, 0), (4, BLOCK_ROW_COUNT as u64), (5, 4 * 340)] {
        add(&mut lookup, &mut model, segment, count);
    }
    check(&lookup, &model, |_| true);
    assert!(lookup.is_worth_writing());
    save(&lookup, &path);

    // As it was; with more in memory; and with all of it in the file again.
    let mut lookup = Lookup::open(Some(File::open(&path).unwrap()), |_| true);
    check(&lookup, &model, |_| true);
    assert!(!lookup.is_worth_writing());
    for (segment, count) in [(6, 3000), (7, 50), (8, 1), (9, 700), (10, 2)] {
        add(&mut lookup, &mut model, segment, count);
        check(&lookup, &model, |_| true);
    }
    save(&lookup, &path);
    check(&Lookup::open(Some(File::open(&path).unwrap()), |_| true), &model, |_| true);
}

#[test]
fn what_is_not_live_is_not_named_and_is_left_out_when_it_is_much() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let (mut model, mut lookup) = (Model::new(), Lookup::default());
    (1..=4).for_each(|segment| add(&mut lookup, &mut model, segment, 2000));
    save(&lookup, &path);
    let len = fs::metadata(&path).unwrap().len();
    let live = |segment: &SegmentId| *segment != id(2) && *segment != id(3);
    let lookup = Lookup::open(Some(File::open(&path).unwrap()), live);
    check(&lookup, &model, live);
    assert!(lookup.is_worth_writing());
    save(&lookup, &path);
    assert!(fs::metadata(&path).unwrap().len() < len * 6 / 10);
    let mut lookup = Lookup::open(Some(File::open(&path).unwrap()), |_| true);
    check(&lookup, &model, live);
    // One that comes back is not known, so its rows are taken again.
    assert!(!lookup.segments().contains(&id(2)));
    add(&mut lookup, &mut model, 2, 2000);
    check(&lookup, &model, |segment| *segment != id(3));
}

#[test]
fn a_file_that_is_none_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("table");
    let (mut model, mut lookup) = (Model::new(), Lookup::default());
    add(&mut lookup, &mut model, 1, 1000);
    save(&lookup, &path);
    let whole = fs::read(&path).unwrap();
    let open = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Lookup::open(Some(File::open(&path).unwrap()), |_| true)
    };
    for len in [0, 1, HEAD_LEN - 1, HEAD_LEN, HEAD_LEN + SEGMENT_LEN, whole.len() - 1] {
        assert!(open(&whole[..len]).segments().is_empty(), "{len} bytes");
    }
    assert!(open(&[&whole[..], &[0]].concat()).segments().is_empty());
    for position in 0..HEAD_LEN - 8 {
        let mut other = whole.clone();
        other[position] ^= 0x80;
        assert!(open(&other).segments().is_empty(), "byte {position}");
    }
    // Other bytes behind the head give other answers, and nothing worse: whoever asks checks them.
    for position in (HEAD_LEN..whole.len()).step_by(ROW_LEN + 1) {
        let mut other = whole.clone();
        other[position] ^= 0xff;
        let lookup = open(&other);
        for fingerprint in model.keys().step_by(50) {
            let places = lookup.candidates(*fingerprint);
            assert!(places.iter().all(|place| (*place as usize) < lookup.segments().len()));
        }
    }
}

#[test]
fn a_small_table_stays_in_memory() {
    let mut lookup = Lookup::default();
    add(&mut lookup, &mut Model::new(), 1, FILE_ROW_COUNT_MIN as u64 - 1);
    assert!(!lookup.is_worth_writing());
    add(&mut lookup, &mut Model::new(), 2, 1);
    assert!(lookup.is_worth_writing());
}
