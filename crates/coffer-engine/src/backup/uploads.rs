//! What a backup adds to the vault: chunks that are new, the frames they are gathered in, and the index segments that list them.

use std::collections::{BTreeSet, HashSet};

use coffer_crypto::DomainKeys;
use coffer_format::FormatError;
use coffer_format::cbor::Encoder;
use coffer_format::id::{ChunkId, DomainId, Head, PackId, SegmentId, hex};
use coffer_format::index::ChunkRow;
use coffer_format::limits::{FRAME_PLAIN_MAX, INDEX_LEN_MAX};
use coffer_format::log::LogState;
use coffer_format::object::ObjectName;
use coffer_format::pack::ChunkKind;
use coffer_format::record::{OrphanName, RecordKind, SegmentAdded};
use coffer_format::tree::ChunkRef;
use coffer_pipeline::pack_reader::chunk_id;
use coffer_pipeline::segment::{SegmentWriter, reseal};
use coffer_pipeline::tree_writer::MetaSink;

use super::namer::Named;
use super::options::BackupOptions;
use super::stage::{BUFFER_LEN, Frame, Stage, StoredPack};
use crate::access::{key_of, put_new, put_new_shared};
use crate::error::EngineError;
use crate::index::Index;
use crate::lookup::fingerprint;
use crate::vault::Vault;

/// A frame is closed when its chunks have this many bytes.
const DATA_FRAME_LEN: usize = 4 << 20;
/// As [`DATA_FRAME_LEN`], for leaves, nodes and lists, which are read one at a time.
const META_FRAME_LEN: usize = 512 << 10;
/// A chunk of this length or more is a frame of its own.
const LONE_CHUNK_LEN: usize = 1 << 20;
/// An index segment is closed, and named in a progress record, when it has this many chunks: until then each takes some 80 bytes of memory.
const SEGMENT_CHUNK_COUNT: usize = 1 << 18;
/// How often segments are stored again because somebody else took the name of one.
const RENAME_COUNT_MAX: usize = 3;
/// After this many lookups the filter pays.
const LOOKUPS_BEFORE_FILTER: u32 = 64;

type Prefix = [u8; 20];

/// What a backup has added when it is done.
#[derive(Debug, Default)]
pub(super) struct Uploaded {
    /// Segments that the snapshot's record is to add.
    pub(super) segments: Vec<SegmentAdded>,
    /// Segments that were there before and on which the snapshot may rely.
    pub(super) relied_upon: Vec<SegmentId>,
    /// Packs that the segments to be added list.
    pub(super) packs: Vec<PackId>,
    pub(super) new_bytes: u64,
    pub(super) new_chunk_count: u64,
    pub(super) stored_bytes: u64,
    /// What packs would have by the sample of a dry run, about.
    pub(super) packed_bytes: u64,
    pub(super) progress_count: u64,
}

/// Refuses to rely on segments that another commit has removed meanwhile, and on own packs that it took for orphans.
pub(super) fn check_relied_upon(
    state: &LogState,
    segments: &[SegmentId],
    packs: &[PackId],
) -> Result<(), EngineError> {
    let condemned =
        |id: &PackId| state.swept_packs.contains(id) || state.orphans.contains(&OrphanName::Pack(*id));
    if segments.iter().all(|id| state.segments.contains_key(id)) && !packs.iter().any(condemned) {
        return Ok(());
    }
    let reason = "a prune removed what this backup relies on; run it again".to_owned();
    Err(EngineError::CannotCommit { reason })
}

/// Commits a record that adds these index segments. Whoever is enrolled can list the name of a segment that is stored and not named yet, and
/// the record would be void: then the segment is stored again under another name, a few times.
pub(super) fn commit_segments(
    vault: &mut Vault<'_>,
    kind: RecordKind,
    body: &[u8],
    segments: &mut Vec<SegmentAdded>,
    check: &dyn Fn(&LogState) -> Result<(), EngineError>,
) -> Result<Head, EngineError> {
    for attempt in 0.. {
        let mut taken = None;
        let committed = vault.commit(kind, Some(body), &mut |state, public| {
            check(state)?;
            let live = segments.iter().find_map(|segment| state.segments.get(&segment.id));
            if let Some(live) = live {
                taken = Some(live.added_by);
                return Err(EngineError::CannotCommit {
                    reason: "a segment of it is named already".to_owned(),
                });
            }
            public.segments_added.clone_from(segments);
            Ok(())
        });
        let Some(number) = taken else { return committed };
        let signer = vault.signer_of(number)?;
        // A record of one's own is no reason to write another.
        if signer == *vault.signing_key()?.verifying_key().as_bytes() {
            return committed;
        }
        if attempt == RENAME_COUNT_MAX {
            let key = hex(&signer[..8]);
            let reason = format!(
                "the signer {key} takes the name of each index segment before it is committed; if it is a writer, have it revoked: \
                 `coffer keys revoke-writer {key}`"
            );
            return Err(EngineError::CannotCommit { reason });
        }
        for segment in segments.iter_mut() {
            *segment = rename(vault, segment)?;
        }
        segments.sort_unstable();
    }
    Err(EngineError::WorkerGone)
}

/// Stores an index segment under another name.
fn rename(vault: &Vault<'_>, segment: &SegmentAdded) -> Result<SegmentAdded, EngineError> {
    let access = vault.access;
    let name = ObjectName::Segment(segment.id);
    let mut stored = Vec::new();
    access.store.read(&key_of(name)?, INDEX_LEN_MAX, &mut stored)?;
    let keys = vault.domain_keys(&segment.domain)?;
    let renamed = reseal(&stored, vault.id(), &keys, access.rng);
    let renamed = renamed.map_err(|error| EngineError::damaged(name, error))?;
    put_new(access.store, ObjectName::Segment(renamed.id), &renamed.bytes)?;
    Ok(SegmentAdded { id: renamed.id, len: renamed.bytes.len() as u64, domain: segment.domain })
}

/// New chunks on their way into the vault.
pub(super) struct Uploads<'v, 'a, 'scope, 'env> {
    vault: &'v mut Vault<'a>,
    stage: Stage<'scope, 'env>,
    keys: DomainKeys,
    domain: DomainId,
    index: Index<'a>,
    lookup_count: u32,
    /// Chunks of this run that no segment of the index lists yet.
    seen: HashSet<Prefix>,
    pub(super) data: Frame,
    meta: Frame,
    pending: Pending,
    uploaded: Uploaded,
    collector: String,
    is_read_once: bool,
    host: String,
    progress_interval_ns: u64,
    progress_due_ns: u64,
}

/// Stored packs that no segment lists yet.
#[derive(Default)]
struct Pending {
    segment: SegmentWriter,
    packs: Vec<PackId>,
    full: Vec<StoredPack>,
    stored_bytes: u64,
}

impl Pending {
    fn add(&mut self, pack: StoredPack) -> Result<(), EngineError> {
        self.stored_bytes += pack.len;
        if !self.full.is_empty() || !self.segment.has_room(&pack.directory) {
            self.full.push(pack);
            return Ok(());
        }
        self.list(&pack)
    }

    fn list(&mut self, pack: &StoredPack) -> Result<(), EngineError> {
        self.segment.add_pack(pack.id, pack.len, &pack.directory)?;
        self.packs.push(pack.id);
        Ok(())
    }

    fn is_large(&self) -> bool {
        !self.full.is_empty() || self.segment.chunk_count() >= SEGMENT_CHUNK_COUNT
    }
}

impl<'v, 'a, 'scope, 'env> Uploads<'v, 'a, 'scope, 'env> {
    pub(super) fn new(
        vault: &'v mut Vault<'a>,
        stage: Stage<'scope, 'env>,
        options: &BackupOptions,
        collector: &str,
        distrusted: &BTreeSet<SegmentId>,
    ) -> Result<Self, EngineError> {
        let domain = vault.write_domain();
        let trusted = |(id, _): &(SegmentId, u64)| !distrusted.contains(id);
        let segments: Vec<_> = Index::segments_of(vault.state(), domain).filter(trusted).collect();
        let relied_upon = segments.iter().map(|(id, _)| *id).collect();
        let mut index = Index::open(
            vault.access.store,
            vault.id(),
            vault.domain_keys(&domain)?,
            segments,
            vault.access.cache,
        );
        if options.force {
            // Whoever reads everything again wants what was lost to be there again.
            index.check_packs()?;
        }
        let keys = vault.domain_keys(&domain)?;
        let now = vault.access.clock.monotonic_ns();
        Ok(Self {
            vault,
            stage,
            keys,
            domain,
            index,
            lookup_count: 0,
            seen: HashSet::new(),
            data: Frame::default(),
            meta: Frame::default(),
            pending: Pending::default(),
            uploaded: Uploaded { relied_upon, ..Uploaded::default() },
            collector: collector.to_owned(),
            is_read_once: false,
            host: options.host.clone(),
            progress_interval_ns: options.progress_interval_ns,
            progress_due_ns: now.saturating_add(options.progress_interval_ns),
        })
    }

    pub(super) const fn vault(&self) -> &Vault<'a> {
        self.vault
    }

    /// Whether every live segment of the domain can be read.
    pub(super) fn index_is_whole(&self) -> bool {
        self.index.unreadable().is_empty()
    }

    /// What is backed up can be read only once, so nothing can begin anew where the index turns out to be damaged. A chunk of which it
    /// cannot be told whether it is there is stored instead.
    pub(super) const fn goes_on_without_index(&mut self) {
        self.is_read_once = true;
    }

    /// Ends the run if the user wants to stop; commits a progress record if one is due.
    pub(super) fn check(&mut self) -> Result<(), EngineError> {
        self.vault.access.check_interrupt()?;
        if self.pending.is_large() || self.vault.access.clock.monotonic_ns() >= self.progress_due_ns {
            let pending = &mut self.pending;
            self.stage.collect(&mut |pack| pending.add(pack))?;
            self.commit_progress()?;
        }
        Ok(())
    }

    /// The id of a data chunk, and whether its bytes have to be stored.
    pub(super) fn meet(&mut self, kind: ChunkKind, bytes: &[u8]) -> Result<(ChunkRef, bool), EngineError> {
        let chunk = ChunkRef { id: chunk_id(&self.keys, kind, bytes), len: chunk_len(bytes)? };
        Ok((chunk, self.meet_known(&chunk)?))
    }

    /// Whether the bytes of a chunk have to be stored.
    fn meet_known(&mut self, chunk: &ChunkRef) -> Result<bool, EngineError> {
        let ChunkRef { id, len } = *chunk;
        if self.seen.contains(&ChunkRow::prefix_of(&id)) || self.is_known(&id)? {
            return Ok(false);
        }
        self.seen.insert(ChunkRow::prefix_of(&id));
        self.uploaded.new_bytes += u64::from(len);
        self.uploaded.new_chunk_count += 1;
        Ok(true)
    }

    /// Takes a small data chunk whose id is known already.
    pub(super) fn put_small(&mut self, bytes: &[u8], chunk: ChunkRef) -> Result<(), EngineError> {
        if self.meet_known(&chunk)? {
            self.data.plain.extend_from_slice(bytes);
            self.data.chunks.push(chunk);
            self.flush_data_if_full()?;
        }
        Ok(())
    }

    fn is_known(&mut self, id: &ChunkId) -> Result<bool, EngineError> {
        match self.is_indexed(id) {
            Err(EngineError::SegmentUnusable { .. }) if self.is_read_once => Ok(false),
            answer => answer,
        }
    }

    fn is_indexed(&mut self, id: &ChunkId) -> Result<bool, EngineError> {
        self.lookup_count = self.lookup_count.saturating_add(1);
        if self.lookup_count == LOOKUPS_BEFORE_FILTER {
            self.index.build_lookup()?;
        }
        self.index.contains(id)
    }

    /// Takes a data chunk whose bytes are in the caller's buffer.
    pub(super) fn put_data(&mut self, bytes: &[u8]) -> Result<ChunkRef, EngineError> {
        let (chunk, is_new) = self.meet(ChunkKind::Data, bytes)?;
        if is_new && bytes.len() >= LONE_CHUNK_LEN {
            let mut frame = self.stage.empty_frame();
            frame.plain.extend_from_slice(bytes);
            frame.chunks.push(chunk);
            self.submit(ChunkKind::Data, frame)?;
        } else if is_new {
            self.data.plain.extend_from_slice(bytes);
            self.data.chunks.push(chunk);
            self.flush_data_if_full()?;
        }
        Ok(chunk)
    }

    /// Takes a data chunk whose id is known, and leaves a buffer to be used again.
    pub(super) fn put_named(&mut self, named: &mut Named) -> Result<ChunkRef, EngineError> {
        let chunk = ChunkRef { id: named.id, len: chunk_len(&named.bytes)? };
        if !self.meet_known(&chunk)? {
            return Ok(chunk);
        }
        if named.bytes.len() >= LONE_CHUNK_LEN {
            let mut frame = self.stage.empty_frame();
            std::mem::swap(&mut frame.plain, &mut named.bytes);
            frame.chunks.push(chunk);
            self.submit(ChunkKind::Data, frame)?;
        } else {
            self.data.plain.extend_from_slice(&named.bytes);
            self.data.chunks.push(chunk);
            self.flush_data_if_full()?;
        }
        Ok(chunk)
    }

    /// Takes the data chunk that the caller has appended to the open data frame, from `start` to its end.
    pub(super) fn put_data_tail(&mut self, start: usize) -> Result<ChunkRef, EngineError> {
        let plain = std::mem::take(&mut self.data.plain);
        let met = self.meet(ChunkKind::Data, &plain[start..]);
        self.data.plain = plain;
        let (chunk, is_new) = match met {
            Ok(met) => met,
            Err(error) => {
                // What was gathered before may still be stored, and bytes of no chunk would be in its frame.
                self.data.plain.truncate(start);
                return Err(error);
            }
        };
        if is_new && self.data.plain.len() - start < LONE_CHUNK_LEN {
            self.data.chunks.push(chunk);
            self.flush_data_if_full()?;
            return Ok(chunk);
        }
        if is_new {
            // Behind what is gathered already, a long chunk might not fit a frame.
            let mut frame = self.stage.empty_frame();
            frame.plain.extend_from_slice(&self.data.plain[start..]);
            frame.chunks.push(chunk);
            self.data.plain.truncate(start);
            self.submit(ChunkKind::Data, frame)?;
        }
        self.data.plain.truncate(start);
        Ok(chunk)
    }

    fn flush_data_if_full(&mut self) -> Result<(), EngineError> {
        if self.data.plain.len() < DATA_FRAME_LEN {
            return Ok(());
        }
        // Where one frame was filled another one will be, so its memory need not grow.
        let mut empty = self.stage.empty_frame();
        empty.plain.reserve_exact(BUFFER_LEN);
        let frame = std::mem::replace(&mut self.data, empty);
        self.submit(ChunkKind::Data, frame)
    }

    fn flush_meta(&mut self) -> Result<(), EngineError> {
        let empty = self.stage.empty_frame();
        let frame = std::mem::replace(&mut self.meta, empty);
        self.submit(ChunkKind::Meta, frame)
    }

    fn submit(&mut self, kind: ChunkKind, frame: Frame) -> Result<(), EngineError> {
        let pending = &mut self.pending;
        self.stage.submit(kind, frame, &mut |pack| pending.add(pack))
    }

    /// Stores an index segment of the packs that are pending; `None` if there are none.
    fn store_segment(&mut self) -> Result<Option<SegmentAdded>, EngineError> {
        if self.pending.segment.pack_count() == 0 {
            return Ok(None);
        }
        let segment = self.pending.segment.finish(self.vault.id(), &self.keys, self.vault.access.rng)?;
        let added = SegmentAdded { id: segment.id, len: segment.bytes.len() as u64, domain: self.domain };
        put_new_shared(self.vault.access.store, ObjectName::Segment(segment.id), segment.bytes)?;
        for pack in std::mem::take(&mut self.pending.full) {
            self.pending.add(pack)?;
        }
        Ok(Some(added))
    }

    /// Names what was stored so far, so that a run that is killed can be continued from any host.
    fn commit_progress(&mut self) -> Result<(), EngineError> {
        self.progress_due_ns =
            self.vault.access.clock.monotonic_ns().saturating_add(self.progress_interval_ns);
        let mut fingerprints = Vec::with_capacity(self.pending.segment.chunk_count());
        for prefix in self.pending.segment.prefixes() {
            fingerprints.push(fingerprint(prefix));
            // The index has it before anything is looked up again; if not, the backup has failed.
            self.seen.remove(prefix);
        }
        let packs = std::mem::take(&mut self.pending.packs);
        let Some(segment) = self.store_segment()? else { return Ok(()) };
        let mut body = Encoder::new();
        body.map(|map| {
            map.key(1).text(&self.collector);
            map.key(2).text(&self.host);
        });
        let body = body.finish();
        let relied_upon = &self.uploaded.relied_upon;
        let mut segments = vec![segment];
        commit_segments(self.vault, RecordKind::Progress, &body, &mut segments, &|state| {
            check_relied_upon(state, relied_upon, &packs)
        })?;
        self.uploaded.progress_count += 1;
        for segment in segments {
            self.uploaded.relied_upon.push(segment.id);
            self.index.add_segment(segment.id, segment.len, &fingerprints)?;
        }
        Ok(())
    }

    /// Stores everything that is still open.
    pub(super) fn finish(mut self) -> Result<Uploaded, EngineError> {
        // Nothing is looked up any more.
        self.seen = HashSet::new();
        self.finish_packs()?;
        while let Some(segment) = self.store_segment()? {
            self.uploaded.segments.push(segment);
        }
        self.uploaded.packs = std::mem::take(&mut self.pending.packs);
        self.uploaded.segments.sort_unstable();
        self.uploaded.stored_bytes = self.pending.stored_bytes;
        self.uploaded.packed_bytes = self.stage.packed_bytes();
        Ok(self.uploaded)
    }

    fn finish_packs(&mut self) -> Result<(), EngineError> {
        if !self.data.chunks.is_empty() {
            let frame = std::mem::take(&mut self.data);
            self.submit(ChunkKind::Data, frame)?;
        }
        if !self.meta.chunks.is_empty() {
            self.flush_meta()?;
        }
        let pending = &mut self.pending;
        self.stage.finish(&mut |pack| pending.add(pack))
    }

    /// Ends a run that makes no snapshot. If the user stopped it, what was read so far is stored and named, so that the next run
    /// need not do it again.
    pub(super) fn abandon(mut self, interrupted: bool) {
        if interrupted && self.finish_packs().is_ok() {
            // The run has failed already; that its remains are not named either costs the next run time, and nothing else.
            drop(self.commit_progress());
        }
        self.stage.stop();
    }
}

impl MetaSink for Uploads<'_, '_, '_, '_> {
    type Error = EngineError;

    fn put(&mut self, bytes: &[u8]) -> Result<ChunkRef, EngineError> {
        let (chunk, is_new) = self.meet(ChunkKind::Meta, bytes)?;
        if is_new && (self.meta.plain.len() + bytes.len()) as u64 > FRAME_PLAIN_MAX {
            self.flush_meta()?;
        }
        if is_new {
            self.meta.plain.extend_from_slice(bytes);
            self.meta.chunks.push(chunk);
            if self.meta.plain.len() >= META_FRAME_LEN {
                self.flush_meta()?;
            }
        }
        Ok(chunk)
    }
}

fn chunk_len(bytes: &[u8]) -> Result<u32, FormatError> {
    u32::try_from(bytes.len()).map_err(|_| FormatError::TooLong {
        object: "chunk",
        actual: bytes.len() as u64,
        limit: u64::from(u32::MAX),
    })
}
