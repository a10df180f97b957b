//! What needs the key: packs opened, chunks rehashed, the index compared with what is there, every tree walked.
//!
//! First each chosen pack is read once, hashed and opened, and every row of the index is found good or bad; of a large index, group by
//! group. Then the snapshots are walked in log order; their references are looked up among the rows, so that content is not read again.

mod chunks;
mod damage;
mod groups;
mod meta;
mod open;
mod snapshot;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use coffer_crypto::DomainKeys;
use coffer_format::id::DomainId;
use coffer_pipeline::keyring::Keyring;

use crate::error::VerifyError;
use crate::listing::Listing;
use crate::packs::{PackTable, Row, chosen_bytes};
use crate::progress::{Progress, Stage};
use crate::replay::Replayed;
use crate::report::{Counts, Findings};
use crate::source::Source;

use chunks::{ChunkTable, RowCollector};
use damage::Damage;
use groups::Group;
use meta::MetaCache;
use tree::Walker;

/// What a deep verification works on.
pub(crate) struct Task<'a> {
    pub(crate) source: &'a Source<'a>,
    pub(crate) listing: &'a Listing,
    pub(crate) replayed: &'a Replayed,
    pub(crate) keyring: &'a Keyring,
    pub(crate) table: &'a PackTable,
    pub(crate) chosen: &'a [bool],
    pub(crate) threads: usize,
    /// The most rows of the index in memory; none if all are there.
    pub(crate) rows_in_memory: Option<u64>,
    pub(crate) progress: &'a dyn Progress,
}

/// Keys of every domain that has an epoch.
pub(crate) type Domains = BTreeMap<DomainId, DomainKeys>;

/// Checks packs, index rows and snapshots, and reports what is wrong with them and with segments.
pub(crate) fn check(
    task: &Task<'_>,
    rows: Vec<Row>,
    findings: &mut Findings,
    counts: &mut Counts,
) -> Result<(), VerifyError> {
    let segments = task.table.segments.iter().map(|segment| segment.live.domain);
    let snapshots = task.replayed.log.snapshots.iter().map(|snapshot| snapshot.body.domain);
    let domains: Domains = segments
        .chain(snapshots)
        .filter_map(|domain| Some((domain, task.keyring.domain_keys(&domain).ok()?)))
        .collect();

    let mut damage = Damage::new(task.table);
    let cache = MetaCache::default();
    let chunks = open_packs(task, &domains, &cache, rows, &mut damage, counts)?;

    task.progress.begin(Stage::Trees, counts.snapshots);
    let (known, known_counts) = (std::mem::take(findings), *counts);
    let mut walker = Walker::new(task, &domains, &chunks, &cache, damage, known, known_counts)?;
    for snapshot in task.replayed.log.snapshots.iter().filter(|snapshot| !snapshot.forgotten) {
        if let Some(root) = snapshot::root_of(task, &domains, snapshot, walker.findings())? {
            walker.walk(snapshot, root)?;
        }
        task.progress.advance(Stage::Trees, 1);
    }
    (damage, *findings, *counts) = walker.finish();
    damage.report(task.table, findings);
    Ok(())
}

/// Opens packs, all at once or group by group, and returns the rows that lead into them.
fn open_packs(
    task: &Task<'_>,
    domains: &Domains,
    cache: &MetaCache,
    rows: Vec<Row>,
    damage: &mut Damage,
    counts: &mut Counts,
) -> Result<ChunkTable, VerifyError> {
    task.progress.begin(Stage::Packs, chosen_bytes(task.table, task.chosen));
    let mut collector = RowCollector::new(task.table);
    let mut lost = BTreeSet::new();
    let spare = Mutex::default();
    let Some(row_count_max) = task.rows_in_memory else {
        let packs = groups::plan(task.table, u64::MAX).concat();
        let mut group = Group { packs, rows, ..Group::default() };
        open::open_packs(task, domains, cache, &spare, &mut group, damage, counts)?;
        collector.set(group.rows);
        return collector.finish(task.table, &lost);
    };
    for packs in groups::plan(task.table, row_count_max) {
        let mut group = groups::load(task, packs)?;
        open::open_packs(task, domains, cache, &spare, &mut group, damage, counts)?;
        for (segment, what) in group.lost {
            if lost.insert(segment) {
                damage.add_to_segment(segment, what);
            }
        }
        collector.add(group.rows)?;
    }
    collector.finish(task.table, &lost)
}
