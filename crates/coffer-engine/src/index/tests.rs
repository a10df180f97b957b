//! What is asked of a store that is far away.

#![allow(clippy::unwrap_used, reason = "tests fail where they stand")]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;

use coffer_crypto::VaultKey;
use coffer_crypto::hash::hash;
use coffer_crypto::rng::OsRng;
use coffer_format::pack::DirectoryFrame;
use coffer_format::tree::ChunkRef;
use coffer_pipeline::segment::SegmentWriter;
use coffer_store::{MemoryStore, ObjectKey, ObjectStat, PutOutcome};

use super::*;

const VAULT: VaultId = VaultId([7; 32]);
/// Chunks of a segment whose tables are some 40 pages: more than is read of it at first, and no more than two pieces.
const CHUNK_COUNT: u64 = 20_000;

/// A store that says it is far away, and notes of which bytes it was asked.
#[derive(Debug)]
struct Far {
    inner: MemoryStore,
    asked: Mutex<Vec<(String, u64, u64)>>,
}

impl Far {
    /// What was asked since it was last looked.
    fn asked(&self) -> Vec<(String, u64, u64)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl ObjectStore for Far {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        self.inner.put_if_absent(key, body)
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.inner.read(key, len_max, out)
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.asked.lock().unwrap().push((key.to_string(), offset, out.len() as u64));
        self.inner.read_range(key, offset, out)
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        self.inner.stat(key)
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner.list(prefix, start_after, visit)
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.inner.delete(key)
    }

    fn url(&self) -> String {
        self.inner.url()
    }

    fn parallelism_hint(&self) -> usize {
        32
    }
}

/// A vault of large index segments.
struct Fixture {
    store: Far,
    key: VaultKey,
    segments: Vec<(SegmentId, u64)>,
}

/// The chunk of this number; those of the first segment are counted from 0, of the second one from [`CHUNK_COUNT`].
fn chunk(number: u64) -> ChunkId {
    ChunkId(hash(&number.to_le_bytes()))
}

impl Fixture {
    fn new(segment_count: u64) -> Self {
        let key = VaultKey::generate(&OsRng).unwrap();
        let store = Far { inner: MemoryStore::new(), asked: Mutex::default() };
        let mut fixture = Self { store, key, segments: Vec::new() };
        (0..segment_count).for_each(|number| fixture.add(number));
        fixture
    }

    fn keys(&self) -> DomainKeys {
        self.key.reader().domain_keys(&[3; 16])
    }

    fn add(&mut self, number: u64) {
        // Frames of one chunk, so that the frame table takes its pages as well.
        let frames = (0..CHUNK_COUNT).map(|at| {
            let place = FramePlace { offset: 1184, sealed_len: 124, plain_len: 100 };
            let chunks = vec![ChunkRef { id: chunk(number * CHUNK_COUNT + at), len: 100 }];
            DirectoryFrame { place, chunks }
        });
        let directory = Directory { domain: DomainId([3; 16]), frames: frames.collect() };
        let mut writer = SegmentWriter::default();
        writer.add_pack(PackId(hash(&number.to_le_bytes())), 65_536, &directory).unwrap();
        let segment = writer.finish(VAULT, &self.keys(), &OsRng).unwrap();
        self.segments.push((segment.id, segment.bytes.len() as u64));
        self.store.inner.insert_raw(ObjectName::Segment(segment.id).to_string(), segment.bytes);
    }

    fn open<'a>(&'a self, cache: Option<&'a Cache>) -> Index<'a> {
        let index = Index::open(&self.store, VAULT, self.keys(), self.segments.iter().copied(), cache);
        assert!(index.unreadable().is_empty(), "{:?}", index.unreadable());
        assert_eq!(self.store.asked().len(), self.segments.len(), "the beginning of each");
        index
    }
}

/// That no byte was asked for twice, but for the page that the beginning of a segment ends in.
#[track_caller]
fn assert_none_twice(mut asked: Vec<(String, u64, u64)>) {
    asked.sort_unstable();
    for pair in asked.windows(2) {
        assert!(pair[0].0 != pair[1].0 || pair[0].1 + pair[0].2 <= pair[1].1, "{pair:?}");
    }
}

/// Forgets the parts of objects that a cache has, but not the table.
fn forget_parts(cache: &Path) {
    for vault in std::fs::read_dir(cache.join("vaults")).unwrap() {
        std::fs::remove_dir_all(vault.unwrap().path().join("objects")).unwrap();
    }
}

#[test]
fn tables_are_read_in_long_pieces_and_once() {
    let fixture = Fixture::new(3);
    let mut index = fixture.open(None);
    index.build_lookup().unwrap();
    let asked = fixture.store.asked();
    assert_eq!(asked.len(), 3, "all that the beginning of each lacks: {asked:?}");
    assert_none_twice(asked);
    // What is there is found, and what is not, without another request.
    for number in (0..3 * CHUNK_COUNT).step_by(97) {
        assert!(index.contains(&chunk(number)).unwrap(), "{number}");
        let place = index.places(&chunk(number))[0];
        assert_eq!(place.pack.id, PackId(hash(&(number / CHUNK_COUNT).to_le_bytes())));
        assert!(!index.contains(&chunk(number + 3 * CHUNK_COUNT)).unwrap());
    }
    assert_eq!(fixture.store.asked(), []);
}

#[test]
fn what_there_is_no_room_for_is_read_in_long_pieces_too() {
    let fixture = Fixture::new(3);
    let mut index = fixture.open(None);
    // For one of them.
    let lacking = usize::try_from(fixture.segments[0].1).unwrap() - (256 << 10);
    index.room = Room(AtomicUsize::new(lacking + 1));
    index.build_lookup().unwrap();
    let asked = fixture.store.asked();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert_none_twice(asked);
    let kept: usize = index.segments.iter().map(|segment| segment.beginning.len()).sum();
    assert_eq!(kept, lacking + 3 * (256 << 10));
    for number in (0..3 * CHUNK_COUNT).step_by(997) {
        assert!(index.contains(&chunk(number)).unwrap(), "{number}");
    }
}

#[test]
fn readers_read_tables_once_however_many_segments() {
    // As many as a reader makes a table for, and fewer.
    for count in [SEGMENTS_BEFORE_TABLE as u64, 3] {
        let fixture = Fixture::new(count);
        let mut index = fixture.open(None);
        for number in 0..u64::from(LOOKUPS_BEFORE_TABLE) - 1 {
            assert_eq!(index.places(&chunk(number)).len(), 1);
        }
        fixture.store.asked();
        for number in (0..count * CHUNK_COUNT).step_by(101) {
            assert_eq!(index.places(&chunk(number)).len(), 1, "{number}");
        }
        let asked = fixture.store.asked();
        assert_eq!(asked.len() as u64, count, "{asked:?}");
        assert_none_twice(asked);
    }
}

#[test]
fn a_table_in_the_local_cache_is_used_from_the_first_question() {
    let place = tempfile::tempdir().unwrap();
    let cache = Cache::new(place.path());
    let mut fixture = Fixture::new(3);
    fixture.open(Some(&cache)).build_lookup().unwrap();
    forget_parts(place.path());
    fixture.store.asked();

    let mut index = fixture.open(Some(&cache));
    for number in 3 * CHUNK_COUNT..3 * CHUNK_COUNT + 1000 {
        assert!(!index.contains(&chunk(number)).unwrap());
    }
    index.build_lookup().unwrap();
    assert_eq!(fixture.store.asked(), [], "the table says that no segment has them");
    for number in [5, CHUNK_COUNT + 5, 2 * CHUNK_COUNT + 5] {
        assert!(index.contains(&chunk(number)).unwrap());
    }
    let asked = fixture.store.asked();
    assert!(asked.len() <= 6, "{asked:?}");

    // A segment that it does not know is asked; then it knows it.
    fixture.add(3);
    forget_parts(place.path());
    let mut index = fixture.open(Some(&cache));
    assert!(index.contains(&chunk(3 * CHUNK_COUNT + 7)).unwrap());
    assert!(!index.contains(&chunk(4 * CHUNK_COUNT + 7)).unwrap());
    fixture.store.asked();
    index.build_lookup().unwrap();
    let asked = fixture.store.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    for number in (0..4 * CHUNK_COUNT).step_by(1009) {
        assert!(index.contains(&chunk(number)).unwrap(), "{number}");
        assert!(!index.contains(&chunk(number + 4 * CHUNK_COUNT)).unwrap());
    }
    // Whoever does not believe it asks all of them.
    assert!(index.distrust_lookup() && !index.distrust_lookup());
    assert!(index.contains(&chunk(3 * CHUNK_COUNT + 9)).unwrap());
}

#[test]
fn a_damaged_page_spoils_no_table_but_its_own() {
    let mut fixture = Fixture::new(3);
    let (id, len) = fixture.segments[1];
    let name = ObjectName::Segment(id).to_string();
    let mut bytes = fixture.store.inner.remove_raw(&name).unwrap();
    bytes[usize::try_from(len).unwrap() - 40_000] ^= 1;
    fixture.store.inner.insert_raw(name, bytes);
    let mut index = fixture.open(None);
    let error = index.build_lookup().unwrap_err();
    assert!(matches!(error, EngineError::SegmentUnusable { segment, .. } if segment == id), "{error}");
    // Without a table all are asked.
    for number in [3, 2 * CHUNK_COUNT + 3] {
        assert_eq!(index.places(&chunk(number)).len(), 1);
    }
    fixture.segments.remove(1);
    fixture.store.asked();
    fixture.open(None).build_lookup().unwrap();
}

#[test]
fn beginnings_for_which_there_is_no_room_are_dropped_as_they_come() {
    let fixture = Fixture::new(12);
    let mut index = Index::open(&fixture.store, VAULT, fixture.keys(), [], None);
    index.room = Room(AtomicUsize::new(1 << 20));
    let read = index.read_segments(fixture.segments.iter().copied());
    let len: usize = read.iter().map(|(_, segment)| segment.as_ref().unwrap().beginning.len()).sum();
    assert_eq!((read.len(), len), (12, 1 << 20), "four of 256 KiB");
    read.into_iter().for_each(|(_, segment)| index.push(segment.unwrap()));
    // Their pages are read when they are needed.
    for number in (0..12 * CHUNK_COUNT).step_by(7001) {
        assert!(index.contains(&chunk(number)).unwrap(), "{number}");
    }
}
