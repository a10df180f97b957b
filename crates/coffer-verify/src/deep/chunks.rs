//! From a reference to the rows of the index that give the chunk a place.
//!
//! Rows are sorted by domain, id and place. Those of a small index are in memory, those of a large one in a temporary file; of each
//! domain, the leading bits of an id say between which rows it is. Ids are spread evenly, so those are few.

mod scratch;

use std::collections::{BTreeMap, BTreeSet};

use coffer_format::id::{ChunkId, DomainId};
use coffer_format::index::{ChunkRow, ID_PREFIX_LEN};
use coffer_format::pack::ChunkKind;
use coffer_format::tree::ChunkRef;

use crate::error::VerifyError;
use crate::packs::{PackTable, Row, RowState, count32};

use scratch::{RowFile, Runs};

/// Rows between which the leading bits of an id decide, in memory and in a file.
const ROWS_FOR_BITS: u64 = 2;
const ROWS_FOR_BITS_OF_FILE: u64 = 32;
/// Rows that are read at once from a file.
const ROWS_AT_ONCE: u64 = 64;
const BITS_MAX: u32 = 28;

/// Why a reference leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loss {
    /// The row of this listing is bad: its pack is to be blamed if it has a fault, else its segment.
    Bad(u32),
    /// This segment is damaged, and may be the one that gave it a place.
    Segment(u32),
    /// No live segment of the domain gives it a place.
    Unplaced(ChunkId),
    /// What is there is not what the reference says.
    Unfit(&'static str),
}

/// Collects rows, group by group, for a [`ChunkTable`].
pub(crate) struct RowCollector {
    /// Domain of each listing, as its place among all domains in order.
    domain_of: Vec<u32>,
    domains: Vec<DomainId>,
    rows: Vec<Row>,
    runs: Option<Runs>,
}

/// What rows are sorted by.
type Key = (u32, [u8; ID_PREFIX_LEN], u32, u16, u32);

fn key(domain_of: &[u32], row: &Row) -> Key {
    (domain_of[row.listing as usize], row.prefix(), row.listing, row.frame, row.offset)
}

impl RowCollector {
    pub(crate) fn new(table: &PackTable) -> Self {
        let domain = |segment: u32| table.segments[segment as usize].live.domain;
        let domains: BTreeSet<_> = table.segments.iter().map(|segment| segment.live.domain).collect();
        let domains: Vec<_> = domains.into_iter().collect();
        let place = |domain| domains.binary_search(&domain).map_or(0, count32);
        let domain_of = table.listings.iter().map(|listing| place(domain(listing.segment))).collect();
        Self { domain_of, domains, rows: Vec::new(), runs: None }
    }

    /// Adds the only group of rows.
    pub(crate) fn set(&mut self, rows: Vec<Row>) {
        self.rows = rows;
    }

    /// Adds a group of rows of many, which goes to the temporary file.
    pub(crate) fn add(&mut self, mut rows: Vec<Row>) -> Result<(), VerifyError> {
        rows.sort_unstable_by_key(|row| key(&self.domain_of, row));
        let runs = match &mut self.runs {
            Some(runs) => runs,
            None => self.runs.insert(Runs::new()?),
        };
        runs.add(&rows)
    }

    /// All rows, to be asked. `lost` are segments that did not give all their rows, beside those that are known not to.
    pub(crate) fn finish(
        mut self,
        table: &PackTable,
        lost: &BTreeSet<u32>,
    ) -> Result<ChunkTable, VerifyError> {
        let mut counts = vec![0; self.domains.len()];
        for (listing, domain) in table.listings.iter().zip(&self.domain_of) {
            counts[*domain as usize] += u64::from(listing.row_count);
        }
        let for_bits = if self.runs.is_some() { ROWS_FOR_BITS_OF_FILE } else { ROWS_FOR_BITS };
        let mut marks = Marks::new(&self.domains, &counts, for_bits);
        let rows = match self.runs.take() {
            None => {
                // What comes from a segment is sorted already, which this sort makes use of.
                self.rows.sort_by_key(|row| key(&self.domain_of, row));
                for row in &self.rows {
                    marks.add(self.domain_of[row.listing as usize], row);
                }
                Rows::Memory(self.rows)
            }
            Some(runs) => {
                let domain_of = &self.domain_of;
                Rows::File(runs.merge(
                    |row| key(domain_of, row),
                    |row| {
                        marks.add(domain_of[row.listing as usize], row);
                    },
                )?)
            }
        };
        let mut incomplete: BTreeMap<DomainId, Vec<u32>> = BTreeMap::new();
        for (number, segment) in (0..).zip(&table.segments) {
            if !segment.complete || lost.contains(&number) {
                incomplete.entry(segment.live.domain).or_default().push(number);
            }
        }
        Ok(ChunkTable { rows, domains: marks.finish(), incomplete })
    }
}

/// Where the rows of a domain stand.
struct DomainRows {
    /// Leading bits of an id that are looked up.
    bits: u32,
    /// For each value of them the first row that may have it; behind the last value, the end.
    starts: Vec<u64>,
}

impl DomainRows {
    fn value(&self, prefix: &[u8; ID_PREFIX_LEN]) -> usize {
        let top = prefix.first_chunk().map_or(0, |first| u32::from_be_bytes(*first));
        top.checked_shr(32 - self.bits).map_or(0, |value| value as usize)
    }
}

/// Notes where rows stand that come in order.
struct Marks {
    domains: Vec<(DomainId, DomainRows)>,
    current: usize,
    next: u64,
}

impl Marks {
    fn new(domains: &[DomainId], counts: &[u64], rows_for_bits: u64) -> Self {
        let domain_rows = |count: u64| {
            let bits = (count / rows_for_bits).checked_ilog2().unwrap_or_default().min(BITS_MAX);
            DomainRows { bits, starts: Vec::with_capacity((1 << bits) + 1) }
        };
        let domains = domains.iter().zip(counts).map(|(domain, count)| (*domain, domain_rows(*count)));
        Self { domains: domains.collect(), current: 0, next: 0 }
    }

    fn add(&mut self, domain: u32, row: &Row) {
        while self.current < domain as usize {
            self.close();
        }
        let rows = &mut self.domains[self.current].1;
        let value = rows.value(&row.prefix());
        while rows.starts.len() <= value {
            rows.starts.push(self.next);
        }
        self.next += 1;
    }

    /// No more rows of the current domain are to come.
    fn close(&mut self) {
        let rows = &mut self.domains[self.current].1;
        rows.starts.resize((1 << rows.bits) + 1, self.next);
        self.current += 1;
    }

    fn finish(mut self) -> BTreeMap<DomainId, DomainRows> {
        while self.current < self.domains.len() {
            self.close();
        }
        self.domains.into_iter().collect()
    }
}

enum Rows {
    Memory(Vec<Row>),
    File(RowFile),
}

/// The rows of all live segments, by domain and id.
pub(crate) struct ChunkTable {
    rows: Rows,
    domains: BTreeMap<DomainId, DomainRows>,
    /// Segments of each domain that do not give all their rows.
    incomplete: BTreeMap<DomainId, Vec<u32>>,
}

impl ChunkTable {
    /// Puts the rows into `found` that may lead to the chunk; one of them suffices. There is one, or it is said why there is none.
    pub(crate) fn resolve(
        &self,
        domain: DomainId,
        chunk: &ChunkRef,
        kind: ChunkKind,
        found: &mut Vec<Row>,
    ) -> Result<Result<(), Vec<Loss>>, VerifyError> {
        self.find(domain, &ChunkRow::prefix_of(&chunk.id), found)?;
        if found.iter().any(|row| unfit(row, chunk, kind).is_none()) {
            found.retain(|row| unfit(row, chunk, kind).is_none());
            return Ok(Ok(()));
        }
        let bad = found.iter().filter(|row| row.state == RowState::Bad);
        let mut losses: Vec<Loss> = bad.map(|row| Loss::Bad(row.listing)).collect();
        if losses.is_empty() {
            let incomplete = self.incomplete.get(&domain).into_iter().flatten();
            losses.extend(incomplete.map(|segment| Loss::Segment(*segment)));
        }
        if losses.is_empty() {
            losses.push(match found.first().and_then(|row| unfit(row, chunk, kind)) {
                Some(what) => Loss::Unfit(what),
                None => Loss::Unplaced(chunk.id),
            });
        }
        Ok(Err(losses))
    }

    /// All rows of a domain that begin so.
    fn find(
        &self,
        domain: DomainId,
        prefix: &[u8; ID_PREFIX_LEN],
        found: &mut Vec<Row>,
    ) -> Result<(), VerifyError> {
        found.clear();
        let Some(domain) = self.domains.get(&domain) else { return Ok(()) };
        let value = domain.value(prefix);
        let (mut from, to) = (domain.starts[value], domain.starts[value + 1]);
        match &self.rows {
            Rows::Memory(rows) => {
                let rows = &rows[row_range(from, to)];
                let from = rows.partition_point(|row| row.prefix() < *prefix);
                found.extend(rows[from..].iter().take_while(|row| row.prefix() == *prefix));
            }
            Rows::File(file) => {
                // Whoever has the keys can make many ids that begin alike.
                let mut end = to;
                while end - from > ROWS_AT_ONCE {
                    let middle = from + (end - from) / 2;
                    file.read(middle, 1, found)?;
                    if found[0].prefix() < *prefix { from = middle + 1 } else { end = middle }
                }
                found.clear();
                let mut some = Vec::new();
                while from < to {
                    let count = (to - from).min(ROWS_AT_ONCE);
                    file.read(from, count, &mut some)?;
                    found.extend(some.iter().filter(|row| row.prefix() == *prefix));
                    if some.last().is_none_or(|last| last.prefix() > *prefix) {
                        break;
                    }
                    from += count;
                }
            }
        }
        Ok(())
    }
}

fn row_range(from: u64, to: u64) -> std::ops::Range<usize> {
    // These are positions in a vector.
    usize::try_from(from).unwrap_or(usize::MAX)..usize::try_from(to).unwrap_or(usize::MAX)
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

#[cfg(test)]
mod tests;
