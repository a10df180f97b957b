//! How much a vault holds.

use std::collections::BTreeMap;

use coffer_format::id::{PackId, SegmentId};
use coffer_format::index::{PackRow, SEGMENT_HEAD_LEN, SegmentHead};
use coffer_format::object::ObjectName;
use coffer_store::{ObjectStore, StoreError};

use crate::access::key_of;
use crate::error::EngineError;
use crate::parallel;
use crate::vault::Vault;

/// What is read of a segment at first: most often all that is public.
const FIRST_LEN: u64 = 2 << 10;

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
    let store = vault.access.store;
    let read = parallel::map(parallel::in_flight_many(store), &state.segments, |(id, live)| {
        (live.len, listed_packs(store, *id, live.len))
    });
    for (len, listed) in read {
        let Ok((head, rows)) = listed else {
            stats.unreadable_count += 1;
            continue;
        };
        stats.segment_count += 1;
        stats.segment_bytes += len;
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
    let in_memory = |len| usize::try_from(len).unwrap_or(usize::MAX);
    let mut first = vec![0; in_memory(FIRST_LEN.min(len))];
    match store.read_range(&key, 0, &mut first) {
        // What is left of one that was cut may be all that is asked for here.
        Err(StoreError::Truncated { .. }) => {
            first.truncate(in_memory(SEGMENT_HEAD_LEN));
            store.read_range(&key, 0, &mut first)?;
        }
        read => read?,
    }
    let head_len = first.len().min(in_memory(SEGMENT_HEAD_LEN));
    let (head, mut table) = (SegmentHead::decode(&first[..head_len], len)?, first.split_off(head_len));
    let (known_len, table_len) = (table.len(), in_memory(head.pack_table_len()));
    table.resize(table_len, 0);
    if table_len > known_len {
        store.read_range(&key, (head_len + known_len) as u64, &mut table[known_len..])?;
    }
    let packs = head.decode_packs(&table)?;
    Ok((head, packs))
}
