//! The pack table of an index segment: `u64` count, then the table. Also rows of the frame and chunk tables.
#![no_main]

use coffer_format::id::DomainId;
use coffer_format::index::{ChunkRow, SegmentHead, read_frame_row, write_frame_row, write_pack_row};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((count, table)) = data.split_first_chunk() else { return };
    let Ok(pack_count) = u32::try_from(u64::from_le_bytes(*count)) else { return };
    let head = SegmentHead {
        domain: DomainId::owner(0),
        salt: [0; 32],
        commitment: [0; 32],
        pack_count,
        frame_count: 0,
        chunk_count: 0,
    };
    if let Ok(packs) = head.decode_packs(table) {
        let mut again = Vec::new();
        packs.iter().for_each(|pack| write_pack_row(pack, &mut again));
        assert_eq!(again, table);
    }
    let (Some(frame), Some(chunk)) = (data.first_chunk::<12>(), table.first_chunk::<32>()) else { return };
    let (place, row) = (read_frame_row(frame), ChunkRow::decode(chunk));
    let mut again = Vec::new();
    write_frame_row(&place, &mut again);
    assert_eq!(again, frame);
    assert_eq!(row.encode(), *chunk);
    if row.check(&head, &place).is_ok() {
        assert!(u64::from(row.offset) + u64::from(row.len) <= u64::from(place.plain_len));
    }
});
