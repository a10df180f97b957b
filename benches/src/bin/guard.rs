//! Fixed work for the regression guard, which counts and never looks at a clock: `cargo xtask guard` runs it.
//!
//! `coffer-guard list` names the stages, `coffer-guard features` what the processor offers. `coffer-guard prepare STAGE` makes what a stage needs
//! and ends, `coffer-guard run STAGE` also does the stage once: the difference of their instructions is the stage's. `run` prints what the stage
//! has allocated and asked of the store, as JSON. Operations have one worker, so that threads do not change the counts.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::fs;
use std::hint::black_box;
use std::path::Path;

use anyhow::{Context, Result, bail};
use coffer_benches::data::{Kind, grow_tree, set_time, write_file};
use coffer_benches::world::{Keys, World};
use coffer_format::id::{ChunkId, PackId};
use coffer_format::index::SegmentHead;
use coffer_format::pack::{ChunkKind, PACK_HEAD_SIZE};
use coffer_format::tree::ChunkRef;
use coffer_pipeline::chunker::{Chunker, ChunkerParams, Path as ChunkerPath};
use coffer_pipeline::compress::{Compression, Compressor};
use coffer_pipeline::pack_reader::{FrameReader, PackKey};
use coffer_pipeline::pack_writer::{FinishedPack, PackWriter};
use coffer_pipeline::segment::{SegmentReader, SegmentTable, SegmentWriter, find_in_page};
use coffer_store::{CountingStore, MemoryStore, RequestCounts};
use serde_json::json;

use self::allocations::{Allocations, Counting};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts what is allocated, by all threads.
#[expect(unsafe_code, reason = "the trait of allocators is unsafe; each call goes to the system's unchanged")]
mod allocations {
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::sync::atomic::{AtomicU64, Ordering};

    static COUNT: AtomicU64 = AtomicU64::new(0);
    static BYTES: AtomicU64 = AtomicU64::new(0);

    /// The system's allocator, counted.
    #[derive(Debug)]
    pub(crate) struct Counting;

    /// How often, and how many bytes in all, memory was allocated or made longer.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Allocations {
        pub(crate) count: u64,
        pub(crate) bytes: u64,
    }

    impl Allocations {
        /// So far.
        pub(crate) fn now() -> Self {
            Self { count: COUNT.load(Ordering::Relaxed), bytes: BYTES.load(Ordering::Relaxed) }
        }
    }

    fn add(bytes: usize) {
        COUNT.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    // SAFETY: every call is passed on to `System` with the arguments it came with, and its result returned.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            add(layout.size());
            unsafe { System.alloc(layout) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            add(layout.size());
            unsafe { System.alloc_zeroed(layout) }
        }

        unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            add(size.saturating_sub(layout.size()));
            unsafe { System.realloc(pointer, layout, size) }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            unsafe { System.dealloc(pointer, layout) }
        }
    }
}

type Stage = fn(&Session) -> Result<()>;

const STAGES: &[(&str, Stage)] = &[
    ("chunker", chunker),
    ("chunk-ids", chunk_ids),
    ("compress", compress),
    ("pack-write", pack_write),
    ("pack-read", pack_read),
    ("segment-write", segment_write),
    ("segment-find", segment_find),
    ("backup-first", backup_first),
    ("backup-unchanged", backup_unchanged),
    ("restore", restore),
    ("verify-keyless", verify_keyless),
    ("verify-deep", verify_deep),
];

const FRAME_LEN: usize = 1 << 20;

/// Whether stages are only prepared, and what they cost if not.
struct Session {
    is_real: bool,
}

impl Session {
    /// Does the work that counts.
    fn measure<R>(
        &self,
        requests: &dyn Fn() -> RequestCounts,
        work: impl FnOnce() -> Result<R>,
    ) -> Result<()> {
        if !self.is_real {
            return Ok(());
        }
        let (before, asked) = (Allocations::now(), requests());
        black_box(work()?);
        let (after, now) = (Allocations::now(), requests());
        println!(
            "{}",
            json!({
                "allocation_count": after.count - before.count,
                "allocated_bytes": after.bytes - before.bytes,
                "store_call_count": now.total() - asked.total(),
                "store_read_bytes": now.read_bytes - asked.read_bytes,
                "store_create_bytes": now.create_bytes - asked.create_bytes,
            })
        );
        Ok(())
    }

    /// The same for work without a store.
    fn measure_alone<R>(&self, work: impl FnOnce() -> Result<R>) -> Result<()> {
        self.measure(&RequestCounts::default, work)
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["list"] => STAGES.iter().for_each(|(name, _)| println!("{name}")),
        ["features"] => println!("{}", features()),
        [action @ ("prepare" | "run"), stage] => {
            let found = STAGES.iter().find(|(name, _)| name == stage);
            let (_, work) = found.with_context(|| format!("no stage {stage}"))?;
            work(&Session { is_real: *action == "run" })?;
        }
        _ => bail!("usage: coffer-guard list | features | prepare STAGE | run STAGE"),
    }
    Ok(())
}

/// What decides which code is taken; under valgrind it is what valgrind can execute.
fn features() -> String {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("aes", is_x86_feature_detected!("aes")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("sha", is_x86_feature_detected!("sha")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("vaes", is_x86_feature_detected!("vaes")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let found: [(&str, bool); 0] = [];
    let names = found.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name);
    std::iter::once(std::env::consts::ARCH).chain(names).collect::<Vec<_>>().join(" ")
}

fn chunker(session: &Session) -> Result<()> {
    let bytes = Kind::Random.bytes(1, 8 << 20);
    // The one path that every processor has.
    let chunker = Chunker::with_path(ChunkerParams::default(), &[6; 16], ChunkerPath::Portable)?;
    session.measure_alone(|| {
        let (mut scanner, mut rest, mut count) = (chunker.scanner(), bytes.as_slice(), 0);
        while let Some(len) = scanner.scan(rest, true) {
            rest = &rest[len..];
            count += 1;
        }
        Ok(count)
    })
}

fn chunk_ids(session: &Session) -> Result<()> {
    let keys = Keys::new(2)?;
    let bytes = Kind::Json.bytes(2, 1 << 20);
    session.measure_alone(|| Ok(keys.chunks(&bytes, 900)))
}

fn compress(session: &Session) -> Result<()> {
    let bytes = [Kind::Source.bytes(3, FRAME_LEN), Kind::Random.bytes(3, FRAME_LEN)];
    let mut compressor = Compressor::new(Compression::Auto)?;
    let mut out = Vec::new();
    session.measure_alone(|| {
        for frame in &bytes {
            compressor.append(frame, &mut out)?;
        }
        Ok(())
    })
}

/// Frames of what does not compress, so that it is the pack's own work that counts.
fn frames(keys: &Keys) -> Vec<(Vec<u8>, Vec<ChunkRef>)> {
    let bytes = Kind::Random.bytes(4, 4 * FRAME_LEN);
    bytes.chunks(FRAME_LEN).map(|frame| (frame.to_vec(), keys.chunks(frame, 4 << 10))).collect()
}

fn write_pack(keys: &Keys, frames: Vec<(Vec<u8>, Vec<ChunkRef>)>) -> Result<FinishedPack> {
    let (mut compressor, mut reader) = (Compressor::new(Compression::Off)?, FrameReader::new()?);
    let mut pack = PackWriter::begin(&keys.sealer, &keys.rng, Vec::new())?;
    for (mut plain, chunks) in frames {
        pack.add_frame(ChunkKind::Data, &plain, chunks, &mut compressor)?;
        pack.verify_newest(&keys.sealer.domain, &mut reader, &mut plain)?;
    }
    Ok(pack.finish()?)
}

fn pack_write(session: &Session) -> Result<()> {
    let keys = Keys::new(4)?;
    let frames = frames(&keys);
    session.measure_alone(|| write_pack(&keys, frames))
}

fn pack_read(session: &Session) -> Result<()> {
    let keys = Keys::new(4)?;
    let pack = write_pack(&keys, frames(&keys))?;
    let mut reader = FrameReader::new()?;
    session.measure_alone(|| {
        let head: &[u8; PACK_HEAD_SIZE] = pack.bytes.first_chunk().context("a pack has a head")?;
        let key = PackKey::open(keys.vault, &keys.pair, &keys.domain, head)?;
        for (ordinal, frame) in (0..).zip(&pack.directory.frames) {
            let from = frame.place.offset as usize;
            let sealed = &pack.bytes[from..from + frame.place.sealed_len as usize];
            black_box(reader.open(&key, ordinal, frame.place.plain_len, sealed)?);
        }
        Ok(())
    })
}

/// A directory of 20,000 chunks, and their ids.
fn many_chunks(keys: &Keys) -> Result<(FinishedPack, Vec<ChunkId>)> {
    let pack = write_pack(keys, frames(keys))?;
    let mut directory = pack.directory.clone();
    let mut ids = Vec::new();
    for (number, frame) in (0_u32..).zip(&mut directory.frames) {
        frame.chunks = (0_u32..5000)
            .map(|chunk| {
                let id = ChunkId(keys.domain.data_id(&(number * 5000 + chunk).to_le_bytes()));
                ids.push(id);
                ChunkRef { id, len: 200 }
            })
            .collect();
    }
    Ok((FinishedPack { id: PackId([7; 32]), bytes: Vec::new(), directory }, ids))
}

fn segment_write(session: &Session) -> Result<()> {
    let keys = Keys::new(5)?;
    let (pack, _) = many_chunks(&keys)?;
    session.measure_alone(|| {
        let mut writer = SegmentWriter::default();
        writer.add_pack(pack.id, 1 << 20, &pack.directory)?;
        Ok(writer.finish(keys.vault, &keys.domain, &keys.rng)?)
    })
}

fn segment_find(session: &Session) -> Result<()> {
    let keys = Keys::new(5)?;
    let (pack, ids) = many_chunks(&keys)?;
    let mut writer = SegmentWriter::default();
    writer.add_pack(pack.id, 1 << 20, &pack.directory)?;
    let segment = writer.finish(keys.vault, &keys.domain, &keys.rng)?;
    let head = SegmentHead::decode(&segment.bytes, segment.bytes.len() as u64)?;
    let table = head.chunk_table();
    let reader = SegmentReader::open(keys.vault, &keys.domain, head)?;
    let mut page = Vec::new();
    session.measure_alone(|| {
        for id in ids.iter().step_by(200) {
            let number = reader.guess_page(id);
            let (offset, len) = table.page(number);
            let sealed = &segment.bytes[usize::try_from(offset)?..][..usize::try_from(len)?];
            reader.page(SegmentTable::Chunks, number, sealed, &mut page)?;
            black_box(find_in_page(&page, id)?);
        }
        Ok(())
    })
}

/// A vault in memory and a tree of 600 small files and a large one.
struct Operation {
    place: tempfile::TempDir,
    world: World,
    store: CountingStore<MemoryStore>,
}

impl Operation {
    fn new() -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let place = tempfile::Builder::new().prefix("coffer-guard-").tempdir_in(parent)?;
        let source = place.path().join("source");
        let small = source.join("small");
        fs::create_dir_all(&small)?;
        write_file(&source.join("large"), &Kind::Random.bytes(6, 4 << 20))?;
        grow_tree(&small, Kind::Json, 6, 600 << 10, 1 << 10)?;
        set_time(&source)?;
        let world = World::new(6, &place.path().join("cache"), 1)?;
        let store = CountingStore::new(MemoryStore::new());
        world.init(&store)?;
        Ok(Self { place, world, store })
    }

    fn backed_up() -> Result<Self> {
        let operation = Self::new()?;
        operation.backup()?;
        Ok(operation)
    }

    fn backup(&self) -> Result<()> {
        let report = self.world.backup(&self.store, &self.place.path().join("source"), true)?;
        if report.error_count > 0 {
            bail!("files were left out: {:?}", report.errors);
        }
        Ok(())
    }

    fn measure<R>(&self, session: &Session, work: impl FnOnce(&Self) -> Result<R>) -> Result<()> {
        session.measure(&|| self.store.counts(), || work(self))
    }
}

fn backup_first(session: &Session) -> Result<()> {
    Operation::new()?.measure(session, Operation::backup)
}

fn backup_unchanged(session: &Session) -> Result<()> {
    Operation::backed_up()?.measure(session, Operation::backup)
}

fn restore(session: &Session) -> Result<()> {
    Operation::backed_up()?.measure(session, |operation| {
        let report = operation.world.restore(&operation.store, &operation.place.path().join("target"))?;
        if report.error_count > 0 {
            bail!("files were not restored: {:?}", report.errors);
        }
        Ok(())
    })
}

fn verify_keyless(session: &Session) -> Result<()> {
    Operation::backed_up()?.measure(session, |operation| {
        let report = operation.world.verify(&operation.store)?;
        if !report.is_clean() {
            bail!("there are findings: {:?}", report.findings);
        }
        Ok(())
    })
}

fn verify_deep(session: &Session) -> Result<()> {
    Operation::backed_up()?.measure(session, |operation| {
        let report = operation.world.verify_deep(&operation.store)?;
        if !report.is_clean() {
            bail!("there are findings: {:?}", report.findings);
        }
        Ok(())
    })
}
