//! Contents of two files against each other: by the ids of their chunks, or by their bytes where ids tell nothing.

use std::collections::{HashMap, HashSet, VecDeque};

use coffer_format::id::ChunkId;
use coffer_format::tree::{ChunkRef, Content, TreeEntry};

use crate::content::{FileReader, Piece};
use crate::error::EngineError;
use crate::read::ChunkReader;
use crate::tree_reader::{ContentReader, holes};

/// Chunks of one file that may wait for their like in the other one: changes that move content further than this count as new.
const UNMATCHED_COUNT_MAX: usize = 65_536;

/// How many bytes only the first file has, and how many only the second one. Both are of one dedup domain.
pub(super) fn changed(
    old: &TreeEntry,
    new: &TreeEntry,
    chunks: &mut ChunkReader<'_>,
) -> Result<(u64, u64), EngineError> {
    let (old_rest, new_rest) = without_common_lists(&old.content, &new.content);
    let mut readers = [ContentReader::new(&old_rest), ContentReader::new(&new_rest)];
    let mut waiting = [Waiting::default(), Waiting::default()];
    let mut at_end = [false, false];
    while !at_end[0] || !at_end[1] {
        for side in [0, 1] {
            let Some(chunk) = readers[side].next_chunk(chunks)? else {
                at_end[side] = true;
                continue;
            };
            if !waiting[1 - side].take(&chunk) {
                waiting[side].push(chunk);
            }
        }
    }
    let inline =
        |entry: &TreeEntry| if let Content::Inline(bytes) = &entry.content { bytes.len() as u64 } else { 0 };
    Ok((waiting[0].bytes + inline(old), waiting[1].bytes + inline(new)))
}

/// Content lists of the same level without the meta chunks that both have: what is below these is the same.
fn without_common_lists(old: &Content, new: &Content) -> (Content, Content) {
    if let (
        Content::List { level: old_level, rows: old_rows },
        Content::List { level: new_level, rows: new_rows },
    ) = (old, new)
        && old_level == new_level
        && *old_level > 0
    {
        let ids = |rows: &[ChunkRef]| rows.iter().map(|row| row.id).collect::<HashSet<_>>();
        let (old_ids, new_ids) = (ids(old_rows), ids(new_rows));
        let rest = |rows: &[ChunkRef], others: &HashSet<ChunkId>| Content::List {
            level: *old_level,
            rows: rows.iter().filter(|row| !others.contains(&row.id)).copied().collect(),
        };
        return (rest(old_rows, &new_ids), rest(new_rows, &old_ids));
    }
    (old.clone(), new.clone())
}

/// Chunks of one side that the other one did not have so far.
#[derive(Default)]
struct Waiting {
    counts: HashMap<ChunkId, u32>,
    order: VecDeque<ChunkId>,
    /// Length of all that were never matched.
    bytes: u64,
}

impl Waiting {
    fn push(&mut self, chunk: ChunkRef) {
        self.bytes += u64::from(chunk.len);
        *self.counts.entry(chunk.id).or_default() += 1;
        self.order.push_back(chunk.id);
        if self.order.len() > UNMATCHED_COUNT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(&oldest);
        }
    }

    fn take(&mut self, chunk: &ChunkRef) -> bool {
        let found = self.forget(&chunk.id);
        if found {
            self.bytes -= u64::from(chunk.len);
        }
        found
    }

    fn forget(&mut self, id: &ChunkId) -> bool {
        let Some(count) = self.counts.get_mut(id) else { return false };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(id);
        }
        true
    }
}

/// Whether two files of the same size differ in a byte.
pub(super) fn differ(
    old: &TreeEntry,
    old_reader: usize,
    new: &TreeEntry,
    new_reader: usize,
    readers: &mut [ChunkReader<'_>],
) -> Result<bool, EngineError> {
    let old_holes = holes(old, &mut readers[old_reader])?;
    let new_holes = holes(new, &mut readers[new_reader])?;
    let mut sides =
        [(FileReader::new(old, old_holes), old_reader), (FileReader::new(new, new_holes), new_reader)];
    let mut pieces = [None, None];
    loop {
        for (piece, (file, reader)) in pieces.iter_mut().zip(&mut sides) {
            if piece.is_none() {
                *piece = file.next_piece(&mut readers[*reader])?;
            }
        }
        let (Some(a), Some(b)) = (&pieces[0], &pieces[1]) else {
            return Ok(pieces.iter().any(Option::is_some));
        };
        let len = piece_len(a).min(piece_len(b));
        if !same_start(a, b, len) {
            return Ok(true);
        }
        for piece in &mut pieces {
            *piece = piece.take().and_then(|piece| rest_of(piece, len));
        }
    }
}

fn piece_len(piece: &Piece) -> u64 {
    match piece {
        Piece::Data(bytes) => bytes.len() as u64,
        Piece::Hole(len) => *len,
    }
}

fn same_start(a: &Piece, b: &Piece, len: u64) -> bool {
    let end = usize::try_from(len).unwrap_or(usize::MAX);
    match (a, b) {
        (Piece::Data(a), Piece::Data(b)) => a[..end] == b[..end],
        (Piece::Data(data), Piece::Hole(_)) | (Piece::Hole(_), Piece::Data(data)) => {
            data[..end].iter().all(|byte| *byte == 0)
        }
        (Piece::Hole(_), Piece::Hole(_)) => true,
    }
}

fn rest_of(piece: Piece, len: u64) -> Option<Piece> {
    match piece {
        Piece::Data(mut bytes) => {
            let rest = bytes.split_off(usize::try_from(len).unwrap_or(usize::MAX).min(bytes.len()));
            (!rest.is_empty()).then_some(Piece::Data(rest))
        }
        Piece::Hole(whole) => (whole > len).then(|| Piece::Hole(whole - len)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(name: u8, len: u32) -> ChunkRef {
        ChunkRef { id: ChunkId([name; 32]), len }
    }

    #[test]
    fn chunks_that_the_other_side_has_are_matched_once_each() {
        let mut waiting = Waiting::default();
        waiting.push(chunk(1, 10));
        waiting.push(chunk(1, 10));
        waiting.push(chunk(2, 5));
        assert!(waiting.take(&chunk(1, 10)));
        assert!(!waiting.take(&chunk(3, 7)));
        assert_eq!(waiting.bytes, 15);
        assert!(waiting.take(&chunk(1, 10)));
        assert!(!waiting.take(&chunk(1, 10)));
        assert_eq!(waiting.bytes, 5);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut waiting = Waiting::default();
        let count = UNMATCHED_COUNT_MAX + 10;
        for number in 0..count {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(number as u64).to_le_bytes());
            waiting.push(ChunkRef { id: ChunkId(id), len: 1 });
        }
        assert_eq!((waiting.order.len(), waiting.counts.len()), (UNMATCHED_COUNT_MAX, UNMATCHED_COUNT_MAX));
        assert!(!waiting.take(&ChunkRef { id: ChunkId([0; 32]), len: 1 }), "the first one was given up");
        assert_eq!(waiting.bytes, count as u64, "and counts as changed");
    }

    #[test]
    fn lists_that_both_have_are_not_read() {
        let list = |level, names: &[u8]| Content::List {
            level,
            rows: names.iter().map(|name| chunk(*name, 9)).collect(),
        };
        let (old, new) = without_common_lists(&list(1, &[1, 2, 3]), &list(1, &[1, 4, 3, 5]));
        assert_eq!((old, new), (list(1, &[2]), list(1, &[4, 5])));
        let (old, new) = without_common_lists(&list(0, &[1]), &list(0, &[1]));
        assert_eq!((old, new), (list(0, &[1]), list(0, &[1])), "data chunks are matched one by one");
        let (old, new) = without_common_lists(&list(1, &[1]), &list(2, &[1]));
        assert_eq!((old, new), (list(1, &[1]), list(2, &[1])));
    }
}
