//! What needs the key: packs opened, chunks rehashed, the index compared with what is there, every tree walked.
//!
//! First each chosen pack is read once, hashed and opened, and every row of the index is found good or bad. Then the
//! snapshots are walked in log order; their references are looked up among the rows, so that content is not read again.

mod chunks;
mod damage;
mod meta;
mod open;
mod snapshot;
mod tree;

use std::collections::BTreeMap;

use coffer_crypto::DomainKeys;
use coffer_format::id::DomainId;
use coffer_pipeline::keyring::Keyring;

use crate::error::VerifyError;
use crate::listing::Listing;
use crate::packs::{PackTable, Row};
use crate::progress::{Progress, Stage};
use crate::replay::Replayed;
use crate::report::{Counts, Findings};
use crate::source::Source;

use chunks::ChunkTable;
use damage::Damage;
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
    let rows = open::open_packs(task, &domains, rows, &mut damage, counts)?;
    let chunks = ChunkTable::new(task.table, rows);

    task.progress.begin(Stage::Trees, counts.snapshots);
    let mut walker = Walker::new(task, &domains, &chunks, &mut damage, findings, counts)?;
    for snapshot in task.replayed.log.snapshots.iter().filter(|snapshot| !snapshot.forgotten) {
        if let Some(root) = snapshot::root_of(task, &domains, snapshot, walker.findings())? {
            walker.walk(snapshot, root)?;
        }
        task.progress.advance(Stage::Trees, 1);
    }
    damage.report(task.table, findings);
    Ok(())
}
