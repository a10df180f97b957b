use coffer_format::log::LiveSegment;
use coffer_format::pack::FramePlace;

use crate::packs::Listed;
use crate::segments::Segment;

use super::*;

const SEGMENTS: u32 = 3;

/// Three segments of two domains, of one pack each.
fn table(row_counts: &[u32]) -> PackTable {
    let domain = |number: u32| DomainId([u8::from(number == 1); 16]);
    let segment = |number| {
        let live = LiveSegment { domain: domain(number), len: 0, added_by: 0 };
        Segment::of_test(live)
    };
    let listing = |number: u32| Listed {
        segment: number,
        pack: number,
        row_count: row_counts[number as usize],
        frames: Vec::new(),
    };
    PackTable {
        segments: (0..SEGMENTS).map(segment).collect(),
        packs: Vec::new(),
        listings: (0..SEGMENTS).map(listing).collect(),
        has_unreadable_segments: false,
    }
}

fn row(number: u32, listing: u32, len: u32) -> Row {
    let id = coffer_crypto::hash::hash(&number.to_le_bytes());
    let place = FramePlace { offset: number, sealed_len: number + 1, plain_len: number + 2 };
    let frame = u16::try_from(number % 60_000).unwrap();
    Row { id, listing, offset: number * 3, len, frame, state: RowState::GoodData, place }
}

#[test]
fn rows_in_a_file_are_those_in_memory() {
    // Every seventh row stands in two segments of a domain, every eleventh in the other domain too.
    let mut rows: Vec<Row> = (0..5_000).map(|number| row(number, number % 2 * 2, 7)).collect();
    rows.extend((0..5_000).step_by(7).map(|number| row(number, (number + 1) % 2 * 2, 7)));
    rows.extend((0..5_000).step_by(11).map(|number| row(number, 1, 8)));
    let count = |listing| count32(rows.iter().filter(|row| row.listing == listing).count());
    let table = table(&[count(0), count(1), count(2)]);
    let mut memory = RowCollector::new(&table);
    memory.set(rows.clone());
    let memory = memory.finish(&table, &BTreeSet::new()).unwrap();
    let mut file = RowCollector::new(&table);
    for some in rows.chunks(777) {
        file.add(some.to_vec()).unwrap();
    }
    let file = file.finish(&table, &BTreeSet::new()).unwrap();
    let (mut from_memory, mut from_file) = (Vec::new(), Vec::new());
    let mut found_count = 0;
    for number in 0..6_000 {
        for domain in [DomainId([0; 16]), DomainId([1; 16]), DomainId([2; 16])] {
            let prefix = row(number, 0, 1).prefix();
            memory.find(domain, &prefix, &mut from_memory).unwrap();
            file.find(domain, &prefix, &mut from_file).unwrap();
            assert_eq!(from_memory, from_file);
            found_count += from_memory.len();
        }
    }
    assert_eq!(found_count, rows.len());
}

#[test]
fn many_ids_that_begin_alike_are_told_apart() {
    // As somebody makes them who has the keys: their first bytes are the same.
    let alike = |number: u16, listing: u32| {
        let mut row = row(u32::from(number), listing, 7);
        row.id = [9; 32];
        row.id[18..20].copy_from_slice(&number.to_be_bytes());
        row
    };
    let mut rows: Vec<Row> = (0..3_000).map(|number| alike(number, 0)).collect();
    rows.extend((0..300).map(|_| alike(1_500, 2)));
    let table = table(&[3_000, 0, 300]);
    let mut file = RowCollector::new(&table);
    file.add(rows).unwrap();
    let file = file.finish(&table, &BTreeSet::new()).unwrap();
    let mut found = Vec::new();
    for number in 0..3_000 {
        file.find(DomainId([0; 16]), &alike(number, 0).prefix(), &mut found).unwrap();
        assert_eq!(found.len(), if number == 1_500 { 301 } else { 1 });
        assert!(found.iter().all(|row| row.prefix() == alike(number, 0).prefix()));
    }
}
