//! Which packs, and how much of them, a snapshot needs.
//!
//! The tree is walked and each chunk of it and of its files looked up in the index; of packs, only the parts are read that
//! hold the tree. Where a part of the tree is archived, it is noted that what lies below it is not known yet.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use coffer_format::id::{ChunkId, PackId, SegmentId};
use coffer_format::object::INDEX_PREFIX;
use coffer_format::pack::PACK_HEAD_SIZE;
use coffer_format::tree::{ChunkRef, TreeEntry};

use crate::error::{EngineError, archived_name};
use crate::read::ChunkReader;
use crate::restore::{RestoreOptions, Role, Visitor, walk};
use crate::tree_reader::{ContentReader, LostSubtree, xattrs};
use crate::vault::{Snapshot, Vault};

/// More chunks than this are not remembered: 20 MB.
const SEEN_COUNT_MAX: usize = 1 << 18;

/// What is needed of one pack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackNeed {
    /// Length of the pack in bytes.
    pub len: u64,
    /// Frames: offset and length.
    frames: BTreeSet<(u32, u32)>,
}

impl PackNeed {
    /// Bytes of the frames that are needed, and of the pack's head.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        PACK_HEAD_SIZE as u64 + self.frames.iter().map(|(_, len)| u64::from(*len)).sum::<u64>()
    }

    /// Requests for them, neighbours being read at once, and one for the head.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        let mut end = None;
        let mut count = 1;
        for (offset, len) in &self.frames {
            if end != Some(u64::from(*offset)) {
                count += 1;
            }
            end = Some(u64::from(*offset) + u64::from(*len));
        }
        count
    }
}

/// The packs that snapshots need.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// Packs by name.
    pub packs: BTreeMap<PackId, PackNeed>,
    /// Index segments that are archived and may tell where chunks are that no other one lists, with their length.
    pub segments: BTreeMap<SegmentId, u64>,
    /// Whether parts of the tree or of the index are archived, so that more packs are needed than are known.
    pub is_partial: bool,
    /// The first object of which a read said that it is archived.
    pub archived: Option<String>,
    /// Whether a chunk may be listed in an archived segment.
    lacks_segments: bool,
    /// Parts that could not be read for another reason: what is wrong with them.
    pub unreadable: Vec<String>,
    /// Chunks that were looked up already, and need not be for the next file or snapshot: some of them, for a chunk counts once however often
    /// it is looked up.
    seen: HashSet<ChunkId>,
}

impl Needs {
    /// Adds what a snapshot, or the part of it that `options` choose, needs.
    ///
    /// # Errors
    /// [`EngineError::NoPath`], [`EngineError::Interrupted`]; what cannot be read is noted in `self`.
    pub fn add(
        &mut self,
        vault: &Vault<'_>,
        snapshot: &Snapshot,
        options: &RestoreOptions,
    ) -> Result<(), EngineError> {
        let mut chunks = ChunkReader::without_recovery(vault, &snapshot.state.body.domain)?;
        chunks.trace();
        let mut collector = Collector { vault, chunks, needs: self };
        let walked = walk(snapshot, options, &mut collector);
        let Collector { mut chunks, needs, .. } = collector;
        for place in chunks.traced() {
            needs.note(&place);
        }
        if needs.lacks_segments {
            let live = &vault.log.state.segments;
            let len = |id| live.get(&id).map(|segment| (id, segment.len));
            needs.segments.extend(chunks.index.archived_segments().filter_map(len));
        }
        walked
    }

    /// Bytes that are needed of all packs.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.packs.values().map(PackNeed::bytes).sum()
    }

    /// Requests for them.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.packs.values().map(PackNeed::request_count).sum()
    }

    fn note(&mut self, place: &crate::index::Place) {
        let need = self.packs.entry(place.pack.id).or_default();
        need.len = place.pack.len;
        need.frames.insert((place.frame.offset, place.frame.sealed_len));
    }

    fn unread(&mut self, error: &EngineError) {
        match archived_name(error) {
            Some(name) => {
                self.is_partial = true;
                self.archived.get_or_insert_with(|| name.to_owned());
                self.lacks_segments |= name.starts_with(INDEX_PREFIX);
            }
            None => self.unreadable.push(crate::log::explain(error)),
        }
    }
}

struct Collector<'n, 'v, 'a> {
    vault: &'v Vault<'a>,
    chunks: ChunkReader<'a>,
    needs: &'n mut Needs,
}

impl<'a> Visitor<'a> for Collector<'_, '_, 'a> {
    fn chunks(&mut self) -> &mut ChunkReader<'a> {
        &mut self.chunks
    }

    fn check(&mut self) -> Result<(), EngineError> {
        self.vault.access.check_interrupt()
    }

    fn entry(&mut self, entry: &TreeEntry, role: Role) {
        if role == Role::Passed {
            return;
        }
        if let Err(error) = self.add_entry(entry) {
            self.needs.unread(&error);
        }
    }

    fn refused(&mut self, _: &TreeEntry, _: &EngineError) {}

    fn lost(&mut self, subtree: &LostSubtree) {
        self.needs.unread(&subtree.error);
    }
}

impl Collector<'_, '_, '_> {
    fn add_entry(&mut self, entry: &TreeEntry) -> Result<(), EngineError> {
        xattrs(entry, &mut self.chunks)?;
        crate::tree_reader::holes(entry, &mut self.chunks)?;
        let mut list = ContentReader::new(&entry.content);
        while let Some(chunk) = list.next_chunk(&mut self.chunks)? {
            self.add_chunk(&chunk)?;
        }
        Ok(())
    }

    fn add_chunk(&mut self, chunk: &ChunkRef) -> Result<(), EngineError> {
        let seen = &mut self.needs.seen;
        if seen.len() >= SEEN_COUNT_MAX {
            seen.clear();
        }
        if !seen.insert(chunk.id) {
            return Ok(());
        }
        let places = self.chunks.index.places(&chunk.id);
        let place = places.first().ok_or_else(|| self.chunks.index.unlisted(&chunk.id))?;
        self.needs.note(place);
        Ok(())
    }
}
