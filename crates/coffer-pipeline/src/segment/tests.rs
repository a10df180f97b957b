use std::collections::BTreeMap;

use coffer_crypto::CryptoError;
use coffer_crypto::kdf::kdf64;
use coffer_crypto::rng::SeededRng;
use coffer_format::index::{SEGMENT_HEAD_LEN, Table, read_frame_row};
use coffer_format::pack::DirectoryFrame;
use coffer_format::tree::ChunkRef;
use proptest::prelude::*;

use super::*;
use crate::testing::World;

fn id(seed: u64) -> ChunkId {
    ChunkId(*blake3::hash(&seed.to_le_bytes()).as_bytes())
}

/// A directory with so many chunks in each frame, ids counted from `first`.
fn directory(first: u64, frames: &[u32]) -> Directory {
    let mut next = first;
    let mut offset = 1184;
    let frames = frames.iter().map(|count| {
        let chunks: Vec<_> = (0..*count)
            .map(|chunk| {
                next += 1;
                ChunkRef { id: id(next - 1), len: 10 + chunk % 7 }
            })
            .collect();
        let plain_len = chunks.iter().map(|chunk| chunk.len).sum();
        let place = FramePlace { offset, sealed_len: plain_len + 24, plain_len };
        offset += place.sealed_len;
        DirectoryFrame { place, chunks }
    });
    let frames = frames.collect();
    Directory { domain: DomainId::owner(0), frames }
}

fn pack_id(number: u8) -> PackId {
    PackId([number; 32])
}

fn finish(world: &World, directories: &[Directory]) -> FinishedSegment {
    let mut writer = SegmentWriter::default();
    for (number, directory) in (0..).zip(directories) {
        assert!(writer.has_room(directory));
        writer.add_pack(pack_id(number), 65_536 + u64::from(number), directory).unwrap();
    }
    assert_eq!(writer.pack_count(), directories.len());
    let segment = writer.finish(world.vault, &world.keys, &SeededRng::new(5)).unwrap();
    assert_eq!((writer.pack_count(), writer.chunk_count()), (0, 0));
    segment
}

/// A segment and whoever reads it.
struct Opened {
    bytes: Vec<u8>,
    reader: SegmentReader,
}

impl Opened {
    fn new(world: &World, segment: FinishedSegment) -> Self {
        let head = SegmentHead::decode(&segment.bytes, segment.bytes.len() as u64).unwrap();
        let reader = SegmentReader::open(world.vault, &world.keys, head).unwrap();
        Self { bytes: segment.bytes, reader }
    }

    fn table(&self, table: SegmentTable) -> Table {
        match table {
            SegmentTable::Frames => self.reader.head().frame_table(),
            SegmentTable::Chunks => self.reader.head().chunk_table(),
        }
    }

    fn sealed(&self, table: SegmentTable, page: u64) -> &[u8] {
        let (offset, len) = self.table(table).page(page);
        &self.bytes[usize::try_from(offset).unwrap()..usize::try_from(offset + len).unwrap()]
    }

    fn page(&self, table: SegmentTable, page: u64) -> Vec<u8> {
        let mut out = Vec::new();
        self.reader.page(table, page, self.sealed(table, page), &mut out).unwrap();
        out
    }

    fn whole(&self, table: SegmentTable) -> Vec<u8> {
        (0..self.table(table).page_count()).flat_map(|page| self.page(table, page)).collect()
    }

    /// From the guess towards where the answers point, as a client does; also the number of pages read.
    fn find(&self, pages: &[Vec<u8>], id: &ChunkId) -> (Option<ChunkRow>, usize) {
        let count = pages.len() as u64;
        if count == 0 {
            return (None, 0);
        }
        let mut page = self.reader.guess_page(id);
        assert!(page < count, "the guess is a page");
        let (mut last, mut steps) = (None, 0);
        loop {
            steps += 1;
            let next = match find_in_page(&pages[usize::try_from(page).unwrap()], id).unwrap() {
                PageAnswer::Found(row) => return (Some(row), steps),
                PageAnswer::Absent => return (None, steps),
                PageAnswer::Before => page.checked_sub(1),
                PageAnswer::After => Some(page + 1).filter(|page| *page < count),
            };
            match next {
                Some(next) if Some(next) != last => (last, page) = (Some(page), next),
                _ => return (None, steps),
            }
        }
    }

    fn chunk_pages(&self) -> Vec<Vec<u8>> {
        (0..self.table(SegmentTable::Chunks).page_count())
            .map(|page| self.page(SegmentTable::Chunks, page))
            .collect()
    }
}

/// The row every id must have: its first place in the order of packs, frames and bytes.
fn model(directories: &[Directory]) -> BTreeMap<[u8; 20], ChunkRow> {
    let mut rows = BTreeMap::new();
    for (pack, directory) in (0..).zip(directories) {
        for (frame, row) in (0..).zip(&directory.frames) {
            let mut offset = 0;
            for chunk in &row.chunks {
                let prefix = chunk.id.0[..20].try_into().unwrap();
                rows.entry(prefix).or_insert(ChunkRow { prefix, pack, frame, offset, len: chunk.len });
                offset += chunk.len;
            }
        }
    }
    rows
}

fn check(world: &World, directories: &[Directory]) {
    let opened = Opened::new(world, finish(world, directories));
    let pages = opened.chunk_pages();
    let rows = model(directories);
    assert_eq!(opened.reader.head().chunk_count, rows.len() as u64);
    let table: Vec<u8> = rows.values().flat_map(ChunkRow::encode).collect();
    assert_eq!(pages.concat(), table);
    for chunk in directories.iter().flat_map(|directory| &directory.frames).flat_map(|frame| &frame.chunks) {
        let expected = rows[&ChunkRow::prefix_of(&chunk.id)];
        let (found, steps) = opened.find(&pages, &chunk.id);
        assert_eq!(found, Some(expected));
        assert!(steps <= 4, "{steps} pages read");
    }
    for seed in 0..200 {
        assert_eq!(opened.find(&pages, &id(seed << 32 | 1 << 31)).0, None);
    }
    for byte in [0, 0xff] {
        assert_eq!(opened.find(&pages, &ChunkId([byte; 32])).0, None);
    }

    // The frame table: where each pack's frames begin, then all frames.
    let frames = opened.whole(SegmentTable::Frames);
    let (starts, places) = frames.split_at(4 * directories.len());
    let mut start = 0;
    for (directory, found) in directories.iter().zip(starts.chunks(4)) {
        assert_eq!(found, u32::to_le_bytes(start));
        start += u32::try_from(directory.frames.len()).unwrap();
    }
    let expected: Vec<_> =
        directories.iter().flat_map(|directory| &directory.frames).map(|frame| frame.place).collect();
    let found: Vec<_> = places.as_chunks::<12>().0.iter().map(read_frame_row).collect();
    assert_eq!(found, expected);
    assert_eq!(u64::from(opened.reader.head().frame_count), expected.len() as u64);
    for row in rows.values() {
        let place = directories[usize::from(row.pack)].frames[usize::from(row.frame)].place;
        row.check(opened.reader.head(), &place).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_chunk_is_found(
        packs in prop::collection::vec(prop::collection::vec(1..200_u32, 0..8), 0..8),
        overlap in 0..300_u64,
    ) {
        let mut first = 0;
        let directories: Vec<_> = packs
            .iter()
            .map(|frames| {
                let made = directory(first, frames);
                first = (first + u64::from(frames.iter().sum::<u32>())).saturating_sub(overlap);
                made
            })
            .collect();
        check(&World::new(1), &directories);
    }

    #[test]
    fn a_page_is_searched_as_a_list_would_be(
        prefixes in prop::collection::btree_set(0..60_u8, 1..30),
        wanted in 0..60_u8,
    ) {
        let row = |byte: u8| ChunkRow { prefix: [byte; 20], pack: 1, frame: 2, offset: 3, len: 4 };
        let page: Vec<u8> = prefixes.iter().flat_map(|byte| row(*byte).encode()).collect();
        let (first, last) = (*prefixes.first().unwrap(), *prefixes.last().unwrap());
        let expected = match wanted {
            _ if prefixes.contains(&wanted) => PageAnswer::Found(row(wanted)),
            _ if wanted < first => PageAnswer::Before,
            _ if wanted > last => PageAnswer::After,
            _ => PageAnswer::Absent,
        };
        prop_assert_eq!(find_in_page(&page, &ChunkId([wanted; 32])), Ok(expected));
    }

    #[test]
    fn anything_is_a_page_or_an_error(page in prop::collection::vec(any::<u8>(), 0..200), byte in any::<u8>()) {
        let answer = find_in_page(&page, &ChunkId([byte; 32]));
        prop_assert_eq!(answer.is_ok(), !page.is_empty() && page.len().is_multiple_of(32));
    }
}

#[test]
fn tables_of_many_pages() {
    let world = World::new(1);
    // 512 rows fill a page: around that, and far beyond.
    for count in [2, 511, 512, 513, 1024, 40_000] {
        check(&world, &[directory(0, &[count / 2, count - count / 2])]);
    }
    // 1365 frames of one chunk and the pack's own row fill a page of the frame table.
    for count in [1364, 1365, 1366, 5000] {
        check(&world, &[directory(0, &vec![1; count])]);
    }
}

#[test]
fn segments_of_nothing() {
    let world = World::new(1);
    check(&world, &[]);
    check(&world, &[directory(0, &[]), directory(0, &[])]);
    assert_eq!(finish(&world, &[]).bytes.len() as u64, SEGMENT_HEAD_LEN);
}

/// Section 11 byte by byte, without the reader.
#[test]
fn the_layout_is_that_of_the_specification() {
    let world = World::new(1);
    let directories = [directory(0, &[2]), directory(10, &[1, 1])];
    let segment = finish(&world, &directories);
    let bytes = &segment.bytes;
    assert_eq!(segment.id.0, *blake3::hash(bytes).as_bytes());
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(bytes[..24], [&b"coffidx1"[..], &[0; 16]].concat());
    let salt: [u8; 32] = bytes[24..56].try_into().unwrap();
    let context = [&world.vault.0[..], &salt].concat();
    let (key, commitment) = kdf64(world.keys.index_key(), "index segment", &context);
    assert_eq!(bytes[56..88], commitment);
    assert_eq!([number(88), number(92), number(96), number(100)], [2, 3, 4, 0]);
    for (at, byte) in [(104, 0), (144, 1)] {
        assert_eq!(bytes[at..at + 32], [byte; 32]);
        assert_eq!(bytes[at + 32..at + 40], (65_536 + u64::from(byte)).to_le_bytes());
    }
    let key = SealKey::new(&key, SealContext::new(world.vault.0, ObjectKind::IndexSegment, salt));
    let (mut frames, mut chunks) = (Vec::new(), Vec::new());
    let frames_end = 184 + 2 * 4 + 3 * 12 + 16;
    key.open_to(Purpose::FrameTablePage, 0, &bytes[184..frames_end], &mut frames).unwrap();
    key.open_to(Purpose::ChunkTablePage, 0, &bytes[frames_end..], &mut chunks).unwrap();
    let expected = [0, 1, 1184, 45, 21, 1184, 34, 10, 1218, 34, 10];
    assert_eq!(frames, expected.iter().flat_map(|n: &u32| n.to_le_bytes()).collect::<Vec<_>>());

    let mut rows = [(0, 0, 0, 0_u32, 10_u32), (1, 0, 0, 10, 11), (10, 1, 0, 0, 10), (11, 1, 1, 0, 10)];
    rows.sort_by_key(|row| id(row.0).0);
    let mut expected = Vec::new();
    for (seed, pack, frame, offset, len) in rows {
        expected.extend_from_slice(&id(seed).0[..20]);
        expected.extend_from_slice(&[pack, 0, frame, 0]);
        expected.extend_from_slice(&offset.to_le_bytes());
        expected.extend_from_slice(&len.to_le_bytes());
    }
    assert_eq!(chunks, expected);
}

#[test]
fn a_segment_opens_with_its_own_keys_alone() {
    let (world, other) = (World::new(1), World::new(2));
    let segment = finish(&world, &[directory(0, &[3])]);
    let head = SegmentHead::decode(&segment.bytes, segment.bytes.len() as u64).unwrap();
    let refused = |what: &str, result: Result<SegmentReader, PipelineError>| {
        let expected = matches!(result, Err(PipelineError::Commitment { object: "index segment" }));
        assert!(expected, "{what}");
    };
    refused("vault", SegmentReader::open(other.vault, &world.keys, head.clone()));
    refused("index key", SegmentReader::open(world.vault, &other.keys, head.clone()));
    refused("domain", SegmentReader::open(world.vault, &world.other_domain(), head.clone()));
    for position in 0..32 {
        let mut altered = head.clone();
        altered.salt[position] ^= 1;
        refused("salt", SegmentReader::open(world.vault, &world.keys, altered));
        let mut altered = head.clone();
        altered.commitment[position] ^= 1;
        refused("commitment", SegmentReader::open(world.vault, &world.keys, altered));
    }
    for position in 0..16 {
        let mut altered = head.clone();
        altered.domain.0[position] ^= 1;
        refused("domain in the head", SegmentReader::open(world.vault, &world.keys, altered));
    }
    SegmentReader::open(world.vault, &world.keys, head).unwrap();
}

#[test]
fn a_page_opens_in_its_place_alone() {
    let world = World::new(1);
    let opened = Opened::new(&world, finish(&world, &[directory(0, &vec![1; 3000])]));
    let other = World::new(1);
    let mut writer = SegmentWriter::default();
    writer.add_pack(pack_id(0), 65_536, &directory(0, &vec![1; 3000])).unwrap();
    let other = Opened::new(&other, writer.finish(other.vault, &other.keys, &SeededRng::new(6)).unwrap());
    let refused = |table, page, sealed: &[u8], what: &str| {
        let mut out = vec![1];
        let result = opened.reader.page(table, page, sealed, &mut out);
        assert!(matches!(result, Err(PipelineError::Crypto(CryptoError::Open { .. }))), "{what}");
        assert!(out.is_empty());
    };
    for table in [SegmentTable::Frames, SegmentTable::Chunks] {
        let other_table =
            if table == SegmentTable::Frames { SegmentTable::Chunks } else { SegmentTable::Frames };
        let count = opened.table(table).page_count();
        assert!(count > 2);
        for page in 0..count {
            refused(table, (page + 1) % count, opened.sealed(table, page), "another page");
            refused(other_table, page, opened.sealed(table, page), "the other table");
            refused(table, page, other.sealed(table, page), "another segment");
            let sealed = opened.sealed(table, page);
            refused(table, page, &sealed[..sealed.len() - 1], "cut short");
            refused(table, page, &[], "nothing");
        }
        let last = count - 1;
        let mut altered = opened.sealed(table, last).to_vec();
        for position in 0..altered.len() {
            altered[position] ^= 1 << (position % 8);
            refused(table, last, &altered, "a bit");
            altered[position] ^= 1 << (position % 8);
        }
    }
    let far = opened.reader.page(SegmentTable::Chunks, 1 << 32, &[], &mut Vec::new());
    assert!(matches!(far, Err(PipelineError::Full { .. })));
}

#[test]
fn a_segment_has_its_limits() {
    let mut writer = SegmentWriter::default();
    let nothing = directory(0, &[]);
    for pack in 0..65_536_u32 {
        assert!(writer.has_room(&nothing), "{pack}");
        let mut id = [0; 32];
        id[..4].copy_from_slice(&pack.to_le_bytes());
        writer.add_pack(PackId(id), 65_536, &nothing).unwrap();
    }
    assert!(!writer.has_room(&nothing));
    let refused = writer.add_pack(PackId([9; 32]), 65_536, &nothing).unwrap_err();
    assert!(matches!(refused, PipelineError::Full { object: "index segment", .. }));
    assert_eq!(writer.pack_count(), 65_536);
    let world = World::new(1);
    let segment = writer.finish(world.vault, &world.keys, &SeededRng::new(5)).unwrap();
    let head = SegmentHead::decode(&segment.bytes, segment.bytes.len() as u64).unwrap();
    assert_eq!(head.pack_count, 65_536);

    // As many frames as a pack may have, and as many chunks as a segment may have.
    let mut writer = SegmentWriter::default();
    let frames = directory(0, &vec![1; 65_536]);
    for pack in 0..64 {
        assert!(writer.has_room(&frames), "{pack}");
        writer.add_pack(pack_id(pack), 65_536, &frames).unwrap();
    }
    assert_eq!(writer.chunk_count() as u64, INDEX_CHUNK_COUNT_MAX);
    assert!(!writer.has_room(&directory(0, &[1])) && writer.has_room(&nothing));
}

#[test]
fn a_segment_that_is_sealed_again_lists_the_same_under_another_name() {
    let world = World::new(1);
    let segment = finish(&world, &[directory(0, &[700, 3]), directory(703, &[400])]);
    let again = reseal(&segment.bytes, world.vault, &world.keys, &SeededRng::new(6)).unwrap();
    assert_ne!(again.id, segment.id);
    assert_eq!((again.bytes.len(), again.id.0), (segment.bytes.len(), hash::hash(&again.bytes)));
    let plain = |segment: &FinishedSegment| {
        let head = SegmentHead::decode(&segment.bytes, segment.bytes.len() as u64).unwrap();
        let reader = SegmentReader::open(world.vault, &world.keys, head).unwrap();
        let head = reader.head();
        let from = usize::try_from(SEGMENT_HEAD_LEN).unwrap();
        let packs = segment.bytes[from..from + usize::try_from(head.pack_table_len()).unwrap()].to_vec();
        let mut pages = vec![packs];
        for (table, place) in
            [(SegmentTable::Frames, head.frame_table()), (SegmentTable::Chunks, head.chunk_table())]
        {
            for page in 0..place.page_count() {
                let (offset, len) = place.page(page);
                let (offset, len) = (usize::try_from(offset).unwrap(), usize::try_from(len).unwrap());
                let mut out = Vec::new();
                reader.page(table, page, &segment.bytes[offset..offset + len], &mut out).unwrap();
                pages.push(out);
            }
        }
        pages
    };
    assert_eq!(plain(&again), plain(&segment));
    assert!(plain(&again).len() > 4, "several pages");
    let mut other = segment.bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    assert!(reseal(&other, world.vault, &world.keys, &SeededRng::new(6)).is_err());
}
