//! A page of a chunk table in which an id is looked for: the id (32), then the page. Also rows of both tables.
#![no_main]

use coffer_format::id::ChunkId;
use coffer_format::index::{ChunkRow, read_frame_row, write_frame_row};
use coffer_pipeline::segment::{PageAnswer, find_in_page};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((id, page)) = data.split_first_chunk::<32>() else { return };
    let id = ChunkId(*id);
    for row in page.as_chunks::<12>().0 {
        let mut again = Vec::new();
        let place = read_frame_row(row);
        write_frame_row(&place, &mut again);
        assert_eq!(again, row);
        for len in [0, 1 << 16, 1 << 27, u64::MAX] {
            if place.check(len).is_ok() {
                assert!(u64::from(place.offset) + u64::from(place.sealed_len) <= len.min(1 << 27));
            }
        }
    }
    let answer = find_in_page(page, &id);
    let (rows, rest) = page.as_chunks::<32>();
    assert_eq!(answer.is_ok(), !rows.is_empty() && rest.is_empty());
    let Ok(answer) = answer else { return };
    let wanted = ChunkRow::prefix_of(&id);
    let rows: Vec<_> = rows.iter().map(ChunkRow::decode).collect();
    if let PageAnswer::Found(row) = answer {
        assert!(row.prefix == wanted && rows.contains(&row));
    }
    // In a page that is in order, as a writer makes it, the answer is the one a search through all rows gives.
    if rows.is_sorted_by(|a, b| a.prefix < b.prefix) {
        let expected = match rows.iter().find(|row| row.prefix == wanted) {
            Some(row) => PageAnswer::Found(*row),
            None if wanted < rows[0].prefix => PageAnswer::Before,
            None if wanted > rows[rows.len() - 1].prefix => PageAnswer::After,
            None => PageAnswer::Absent,
        };
        assert_eq!(answer, expected);
    }
});
