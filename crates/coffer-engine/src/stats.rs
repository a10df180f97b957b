//! How much a vault holds.

use std::collections::BTreeMap;

use coffer_format::id::{PackId, SegmentId};
use coffer_format::index::{PackRow, SEGMENT_HEAD_LEN, SegmentHead};
use coffer_format::object::ObjectName;
use coffer_store::ObjectStore;

use crate::access::key_of;
use crate::error::EngineError;
use crate::vault::Vault;

/// Counts of a vault. Lengths in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records in the log.
    pub record_count: u64,
    /// Snapshots that are not forgotten.
    pub snapshot_count: u64,
    /// Bytes of content of all of them together, as restored.
    pub content_bytes: u64,
    /// Live index segments.
    pub segment_count: u64,
    /// Their length.
    pub segment_bytes: u64,
    /// Packs that live segments list.
    pub pack_count: u64,
    /// Their length.
    pub pack_bytes: u64,
    /// Chunks that live segments list; one in several segments counts several times.
    pub chunk_count: u64,
    /// Bytes of new chunks before compression, over all snapshots.
    pub new_bytes: u64,
    /// Snapshots, segments, that could not be read and are not counted.
    pub unreadable_count: u64,
}

/// Counts what a vault holds, from its log and the public parts of its index.
///
/// # Errors
/// None so far that a single object causes: those are counted.
pub fn stats(vault: &Vault<'_>) -> Result<Stats, EngineError> {
    let state = vault.state();
    let mut stats = Stats { record_count: state.next, ..Stats::default() };
    for (_, snapshot) in vault.snapshots() {
        match snapshot {
            Ok(snapshot) => {
                stats.snapshot_count += 1;
                stats.content_bytes += snapshot.manifest.statistics.content_bytes;
                stats.new_bytes += snapshot.manifest.statistics.new_bytes;
            }
            Err(_) => stats.unreadable_count += 1,
        }
    }
    let mut packs: BTreeMap<PackId, u64> = BTreeMap::new();
    for (id, live) in &state.segments {
        let Ok((head, rows)) = listed_packs(vault.access.store, *id, live.len) else {
            stats.unreadable_count += 1;
            continue;
        };
        stats.segment_count += 1;
        stats.segment_bytes += live.len;
        stats.chunk_count += head.chunk_count;
        packs.extend(rows.into_iter().map(|row| (row.id, row.len)));
    }
    stats.pack_count = packs.len() as u64;
    stats.pack_bytes = packs.values().sum();
    Ok(stats)
}

/// The public beginning of an index segment of `len` bytes: its head, and the packs that it lists.
pub(crate) fn listed_packs(
    store: &dyn ObjectStore,
    segment: SegmentId,
    len: u64,
) -> Result<(SegmentHead, Vec<PackRow>), EngineError> {
    let key = key_of(ObjectName::Segment(segment))?;
    let mut head = vec![0; usize::try_from(SEGMENT_HEAD_LEN).unwrap_or_default()];
    store.read_range(&key, 0, &mut head)?;
    let head = SegmentHead::decode(&head, len)?;
    let mut table = vec![0; usize::try_from(head.pack_table_len()).unwrap_or_default()];
    store.read_range(&key, SEGMENT_HEAD_LEN, &mut table)?;
    let packs = head.decode_packs(&table)?;
    Ok((head, packs))
}
