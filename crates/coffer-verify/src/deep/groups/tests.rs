use coffer_format::id::{DomainId, PackId};
use coffer_format::log::LiveSegment;

use crate::packs::{Listed, Pack};
use crate::segments::Segment;

use super::*;

/// Segments, each with its packs and how many rows point into each.
fn table(segments: &[&[(u32, u32)]]) -> PackTable {
    let pack_count =
        segments.iter().flat_map(|packs| packs.iter()).map(|(pack, _)| pack + 1).max().unwrap_or(0);
    let pack = |number: u32| Pack {
        id: PackId([u8::try_from(number).unwrap(); 32]),
        len: 100_000,
        listings: Vec::new(),
        trusted: true,
        other_len: None,
    };
    let live = LiveSegment { len: 0, domain: DomainId([0; 16]), added_by: 0 };
    let mut table = PackTable {
        segments: segments.iter().map(|_| Segment::of_test(live)).collect(),
        packs: (0..pack_count).map(pack).collect(),
        listings: Vec::new(),
        has_unreadable_segments: false,
    };
    for (segment, packs) in (0..).zip(segments) {
        for (pack, row_count) in *packs {
            table.packs[*pack as usize].listings.push(count32(table.listings.len()));
            table.listings.push(Listed { segment, pack: *pack, row_count: *row_count, frames: Vec::new() });
        }
    }
    table
}

#[test]
fn packs_of_a_segment_stay_together() {
    let table = table(&[&[(0, 40), (1, 30)], &[(2, 20), (3, 20)], &[(4, 90), (5, 90), (6, 10)], &[(7, 5)]]);
    assert_eq!(plan(&table, 1000), [vec![0, 1, 2, 3, 4, 5, 6, 7]]);
    assert_eq!(plan(&table, 100), [vec![0, 1], vec![2, 3], vec![4], vec![5, 6], vec![7]]);
    assert_eq!(plan(&table, 50), [vec![0], vec![1], vec![2, 3], vec![4], vec![5], vec![6, 7]]);
}

#[test]
fn every_pack_is_in_one_group() {
    // Packs 1 and 2 are listed by two segments; one has more rows than fit; one has none.
    let table = table(&[&[(0, 10), (1, 10), (2, 500)], &[(2, 10), (1, 10), (3, 0)]]);
    for row_count_max in [0, 1, 15, 40, 600] {
        let mut packs: Vec<_> = plan(&table, row_count_max).concat();
        packs.sort_unstable();
        assert_eq!(packs, [0, 1, 2, 3], "{row_count_max}");
    }
    assert_eq!(plan(&table, 40), [vec![0, 1], vec![2], vec![3]]);
    assert_eq!(
        plan(&super::PackTable { packs: Vec::new(), listings: Vec::new(), ..table }, 40).concat(),
        [0; 0]
    );
}
