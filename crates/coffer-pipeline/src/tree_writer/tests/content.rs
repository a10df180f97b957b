//! Content lists against section 12.3, level by level.

use super::*;
use crate::testing::random;

fn model(rows: &[ChunkRef], chunks: &mut Chunks<'_>) -> Content {
    if rows.is_empty() {
        return Content::Empty;
    }
    let mut rows = rows.to_vec();
    let mut level = 0;
    while rows.len() > 64 {
        let mut groups: Vec<Vec<ChunkRef>> = vec![Vec::new()];
        for row in rows {
            groups.last_mut().unwrap().push(row);
            let ends = u16::from_le_bytes([row.id.0[0], row.id.0[1]]) < 64;
            if ends || groups.last().unwrap().len() == 8192 {
                groups.push(Vec::new());
            }
        }
        groups.retain(|group| !group.is_empty());
        rows = groups
            .iter()
            .map(|group| {
                let bytes: Vec<u8> =
                    group.iter().flat_map(|row| [&row.id.0[..], &row.len.to_le_bytes()].concat()).collect();
                let Ok(row) = chunks.put(&bytes);
                row
            })
            .collect();
        level += 1;
    }
    Content::List { level, rows }
}

/// All rows of level 0 below a list.
fn read(chunks: &Chunks<'_>, content: &Content) -> Vec<ChunkRef> {
    let Content::List { level, rows } = content else { return Vec::new() };
    assert!((1..=64).contains(&rows.len()) && *level <= 4);
    let mut rows = rows.clone();
    for _ in 0..*level {
        rows = rows.iter().flat_map(|row| ChunkRef::read_chunked_rows(chunks.get(row)).unwrap()).collect();
    }
    rows
}

/// Checks a list of `rows` against the model and returns its level and the number of rows in the entry.
fn check_list(rows: &[ChunkRef]) -> (u8, usize) {
    let world = World::new(1);
    let (mut written, mut expected) = (Chunks::new(&world.keys), Chunks::new(&world.keys));
    let mut writer = ContentWriter::default();
    for row in rows {
        let Ok(()) = writer.push(*row, &mut written);
    }
    let Ok(content) = writer.finish(&mut written);
    assert_eq!(content, model(rows, &mut expected));
    assert!(written.by_id == expected.by_id, "the same chunks");
    assert_eq!(read(&written, &content), rows);
    match content {
        Content::List { level, rows } => (level, rows.len()),
        _ => (0, 0),
    }
}

/// Rows with ids that look random, but for the first two bytes where `start` gives them.
fn rows(count: usize, start: Option<[u8; 2]>) -> Vec<ChunkRef> {
    random("rows", count * 32)
        .as_chunks::<32>()
        .0
        .iter()
        .zip(1..)
        .map(|(id, len)| {
            let mut id = *id;
            [id[0], id[1]] = start.unwrap_or([id[0], id[1]]);
            ChunkRef { id: ChunkId(id), len }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn lists_are_those_of_the_model(ends in prop::collection::vec(prop::bool::weighted(0.2), 0..700)) {
        let mut all = rows(ends.len(), Some([64, 0]));
        for (row, ends) in all.iter_mut().zip(ends) {
            row.id.0[0] -= u8::from(ends);
        }
        check_list(&all);
    }
}

#[test]
fn up_to_64_rows_stand_in_the_entry() {
    assert_eq!(check_list(&[]), (0, 0));
    assert_eq!(check_list(&rows(1, None)), (0, 1));
    assert_eq!(check_list(&rows(64, None)), (0, 64));
    assert_eq!(check_list(&rows(65, Some([0xff, 0xff]))), (1, 1));
}

#[test]
fn rows_end_chunks_where_their_ids_say() {
    // 63 is below 64 and 64 is not; the number is little-endian.
    assert_eq!(check_list(&rows(65, Some([63, 0]))).0, 2);
    assert_eq!(check_list(&rows(65, Some([64, 0]))), (1, 1));
    assert_eq!(check_list(&rows(65, Some([0, 1]))), (1, 1));
}

#[test]
fn chunks_of_rows_end_at_8192() {
    assert_eq!(check_list(&rows(8192, Some([0xff, 0xff]))), (1, 1));
    assert_eq!(check_list(&rows(8193, Some([0xff, 0xff]))), (1, 2));
    assert_eq!(check_list(&rows(64 * 8192, Some([0xff, 0xff]))), (1, 64));
    assert_eq!(check_list(&rows(64 * 8192 + 1, Some([0xff, 0xff]))).0, 2);
}

#[test]
fn lists_grow_by_levels() {
    let (level, count) = check_list(&rows(20_000, None));
    assert!(level == 1 && count > 5, "{level}, {count}");
    assert_eq!(check_list(&rows(150_000, None)).0, 2);
    // Each row ends its chunk: as many rows one level up, which then are cut as any others.
    assert_eq!(check_list(&rows(20_000, Some([0, 0]))).0, 2);
    assert_eq!(check_list(&rows(120_000, Some([0, 0]))).0, 3);
}
