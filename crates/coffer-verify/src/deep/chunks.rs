//! From a reference to the rows of the index that give the chunk a place.

use std::collections::BTreeMap;
use std::ops::Range;

use coffer_format::id::{ChunkId, DomainId};
use coffer_format::index::ID_PREFIX_LEN;
use coffer_format::pack::ChunkKind;
use coffer_format::tree::ChunkRef;

use crate::packs::{PackTable, Row, RowState, count32};

use super::damage::Damage;

/// Why a reference leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loss {
    /// It is in the damaged part of this pack.
    Pack(u32),
    /// This segment is damaged, and may be the one that gave it a place.
    Segment(u32),
    /// No live segment of the domain gives it a place.
    Unplaced(ChunkId),
    /// What is there is not what the reference says.
    Unfit(&'static str),
}

/// The rows of all live segments, by domain and id.
pub(crate) struct ChunkTable {
    rows: Vec<Row>,
    domains: BTreeMap<DomainId, Range<usize>>,
    /// Segments of each domain that do not give all their rows.
    incomplete: BTreeMap<DomainId, Vec<u32>>,
}

impl ChunkTable {
    pub(crate) fn new(table: &PackTable, mut rows: Vec<Row>) -> Self {
        let domain = |row: &Row| {
            let listing = &table.listings[row.listing as usize];
            table.segments[listing.segment as usize].live.domain
        };
        rows.sort_unstable_by(|a, b| {
            let (id_a, id_b) = (&a.id[..ID_PREFIX_LEN], &b.id[..ID_PREFIX_LEN]);
            (domain(a), id_a, a.listing, a.frame, a.offset).cmp(&(
                domain(b),
                id_b,
                b.listing,
                b.frame,
                b.offset,
            ))
        });
        let mut domains = BTreeMap::new();
        let mut from = 0;
        for same in rows.chunk_by(|a, b| domain(a) == domain(b)) {
            domains.insert(domain(&same[0]), from..from + same.len());
            from += same.len();
        }
        let mut incomplete: BTreeMap<DomainId, Vec<u32>> = BTreeMap::new();
        for (number, segment) in table.segments.iter().enumerate().filter(|(_, segment)| !segment.complete) {
            incomplete.entry(segment.live.domain).or_default().push(count32(number));
        }
        Self { rows, domains, incomplete }
    }

    /// The rows that may lead to the chunk; one of them suffices.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn resolve(
        &self,
        table: &PackTable,
        damage: &Damage,
        domain: DomainId,
        chunk: &ChunkRef,
        kind: ChunkKind,
    ) -> Result<impl Iterator<Item = &Row>, Vec<Loss>> {
        let rows = self.domains.get(&domain).map_or(&[][..], |range| &self.rows[range.clone()]);
        let prefix = &chunk.id.0[..ID_PREFIX_LEN];
        let from = rows.partition_point(|row| &row.id[..ID_PREFIX_LEN] < prefix);
        let rows = &rows[from..];
        let rows = &rows[..rows.partition_point(|row| &row.id[..ID_PREFIX_LEN] == prefix)];
        let (chunk, wanted) = (*chunk, kind);
        let fits = move |row: &Row| unfit(row, &chunk, wanted).is_none();
        if rows.iter().any(fits) {
            return Ok(rows.iter().filter(move |row| fits(row)));
        }
        let bad = rows.iter().filter(|row| row.state == RowState::Bad);
        let mut losses: Vec<Loss> = bad.map(|row| loss_of(table, damage, row)).collect();
        if losses.is_empty() {
            let incomplete = self.incomplete.get(&domain).into_iter().flatten();
            losses.extend(incomplete.map(|segment| Loss::Segment(*segment)));
        }
        if losses.is_empty() {
            losses.push(match rows.first().and_then(|row| unfit(row, &chunk, wanted)) {
                Some(what) => Loss::Unfit(what),
                None => Loss::Unplaced(chunk.id),
            });
        }
        Err(losses)
    }
}

/// Whom a bad row is to be blamed on.
fn loss_of(table: &PackTable, damage: &Damage, row: &Row) -> Loss {
    let listing = &table.listings[row.listing as usize];
    if damage.has_pack(listing.pack) { Loss::Pack(listing.pack) } else { Loss::Segment(listing.segment) }
}

/// Why a row is not what the reference says.
fn unfit(row: &Row, chunk: &ChunkRef, wanted: ChunkKind) -> Option<&'static str> {
    let kind = match row.state {
        RowState::Bad => return Some("a reference leads to a bad row"),
        RowState::Unchecked => None,
        RowState::GoodData => Some(ChunkKind::Data),
        RowState::GoodMeta => Some(ChunkKind::Meta),
    };
    if row.len != chunk.len {
        Some("a reference gives a chunk another length than it has")
    } else if kind.is_some() && row.id != chunk.id.0 {
        Some("a reference names a chunk that only begins like one that is there")
    } else if kind.is_some_and(|kind| kind != wanted) {
        Some("a reference takes a data chunk for a meta chunk, or the reverse")
    } else {
        None
    }
}
