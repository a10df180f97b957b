use proptest::prelude::*;

use super::*;
use crate::support::cases_data;
use crate::testing::check;

fn head(pack_count: u32, frame_count: u32, chunk_count: u64) -> SegmentHead {
    let (domain, salt, commitment) = (DomainId([1; 16]), [2; 32], [3; 32]);
    SegmentHead { domain, salt, commitment, pack_count, frame_count, chunk_count }
}

#[test]
fn every_case_of_heads() {
    check(&cases_data::segment_head(), |case, bytes| {
        SegmentHead::decode(bytes, case.parameter("object_len")).map(drop)
    });
    for case in cases_data::segment_head().all.iter().filter(|case| case.fault.is_none()) {
        assert_eq!(
            SegmentHead::decode(&case.bytes, case.parameter("object_len")).unwrap().encode(),
            case.bytes
        );
    }
}

#[test]
fn every_case_of_pack_tables() {
    let of = |case: &crate::support::Case| head(u32::try_from(case.parameter("pack_count")).unwrap(), 0, 0);
    check(&cases_data::pack_table(), |case, bytes| of(case).decode_packs(bytes).map(drop));
    for case in cases_data::pack_table().all.iter().filter(|case| case.fault.is_none()) {
        let mut out = Vec::new();
        of(case).decode_packs(&case.bytes).unwrap().iter().for_each(|pack| write_pack_row(pack, &mut out));
        assert_eq!(out, case.bytes);
    }
}

#[test]
fn tables_and_pages() {
    let empty = head(0, 0, 0);
    assert_eq!(
        (empty.frame_table().page_count(), empty.chunk_table().page_count(), empty.object_len()),
        (0, 0, 104)
    );
    let head = head(3, 5000, 513);
    let frames = head.frame_table();
    assert_eq!((frames.offset, frames.plain_len, frames.page_count()), (104 + 120, 12 + 60_000, 4));
    assert_eq!(frames.page(0), (224, 16_400));
    assert_eq!(frames.page(3), (224 + 3 * 16_400, 60_012 - 3 * 16_384 + 16));
    assert_eq!(frames.sealed_len(), 60_012 + 64);
    let chunks = head.chunk_table();
    assert_eq!(chunks.offset, 224 + 60_076);
    assert_eq!((chunks.page(0).1, chunks.page(1)), (16_400, (chunks.offset + 16_400, 48)));
    assert_eq!(head.object_len(), chunks.offset + 513 * 32 + 32);
}

#[test]
fn a_chunk_lies_within_its_frame() {
    let place = FramePlace { offset: 1184, sealed_len: 100, plain_len: 1000 };
    let row = |pack, offset, len| ChunkRow { prefix: [0; 20], pack, frame: 0, offset, len };
    assert!(row(1, 0, 1000).check(&head(2, 2, 1), &place).is_ok());
    assert!(row(1, 999, 1).check(&head(2, 2, 1), &place).is_ok());
    for wrong in [row(2, 0, 1000), row(0, 0, 0), row(0, 1, 1000), row(0, 1000, 1), row(0, u32::MAX, u32::MAX)]
    {
        assert!(wrong.check(&head(2, 2, 1), &place).is_err(), "{wrong:?}");
    }
    let huge = FramePlace { plain_len: u32::MAX, ..place };
    assert!(row(0, 0, 16_777_216).check(&head(2, 2, 1), &huge).is_ok());
    assert!(row(0, 0, 16_777_217).check(&head(2, 2, 1), &huge).is_err());
}

#[test]
fn rows_have_the_layout_of_the_specification() {
    let id = ChunkId(std::array::from_fn(|at| u8::try_from(at).unwrap()));
    let row = ChunkRow {
        prefix: ChunkRow::prefix_of(&id),
        pack: 0x0102,
        frame: 0x0304,
        offset: 0x0506_0708,
        len: 9,
    };
    let bytes = [&id.0[..20], &[2, 1, 4, 3, 8, 7, 6, 5, 9, 0, 0, 0]].concat();
    assert_eq!(row.encode()[..], bytes);
    let mut out = Vec::new();
    write_frame_row(&FramePlace { offset: 1, sealed_len: 2, plain_len: 3 }, &mut out);
    assert_eq!(out, [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]);
}

proptest! {
    #[test]
    fn heads_round_trip(packs in 0..=65_536_u32, frames in 0..=4_194_304_u32, chunks in 0..=4_194_304_u64) {
        let head = head(packs, frames, chunks);
        let read = SegmentHead::decode(&head.encode(), head.object_len());
        prop_assert_eq!(read.is_ok(), head.object_len() <= INDEX_LEN_MAX);
        if let Ok(read) = read {
            prop_assert_eq!(read, head);
        }
    }

    #[test]
    fn pages_follow_one_another_to_the_end(packs in 0..100_u32, frames in 0..20_000_u32, chunks in 0..5_000_u64) {
        let head = head(packs, frames, chunks);
        let mut at = SEGMENT_HEAD_LEN + head.pack_table_len();
        for table in [head.frame_table(), head.chunk_table()] {
            prop_assert_eq!(table.offset, at);
            for page in 0..table.page_count() {
                let (offset, sealed_len) = table.page(page);
                prop_assert_eq!(offset, at);
                prop_assert!(sealed_len > 16 && sealed_len <= 16_400);
                at += sealed_len;
            }
            prop_assert_eq!(at, table.offset + table.sealed_len());
        }
        prop_assert_eq!(at, head.object_len());
    }

    #[test]
    fn rows_round_trip(bytes in any::<[u8; 32]>(), frame in any::<[u8; 12]>()) {
        prop_assert_eq!(ChunkRow::decode(&bytes).encode(), bytes);
        let mut out = Vec::new();
        write_frame_row(&read_frame_row(&frame), &mut out);
        prop_assert_eq!(out, frame);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..130), len in any::<u64>(), packs in 0..4_u32) {
        let _ = SegmentHead::decode(&bytes, len);
        let _ = SegmentHead::decode(&[MAGIC, &bytes[..]].concat(), len);
        let _ = head(packs, 0, 0).decode_packs(&bytes);
    }
}
