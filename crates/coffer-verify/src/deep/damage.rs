//! What is wrong with packs and index segments, and who suffers from it.

use std::collections::BTreeMap;

use coffer_format::id::SnapshotId;
use coffer_format::object::ObjectName;

use crate::packs::{FurtherPacks, PackFault, PackTable};
use crate::report::{Affected, Class, Faults, Findings, PACKS_NAMED_MAX};

/// Most paths and chunks that are listed, of all packs and segments together.
const LISTED_COUNT_MAX: usize = 100_000;

/// What is to be blamed for a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blamed {
    /// This pack, which has a fault.
    Pack(u32),
    /// Packs with such a fault that are not named.
    Further(Class),
    /// This segment.
    Segment(u32),
}

/// Faults of packs by position, and of every segment.
pub(crate) struct Damage {
    packs: BTreeMap<u32, (PackFault, Affected)>,
    /// Packs with faults beyond those that are named.
    further: BTreeMap<u32, Class>,
    further_affected: FurtherPacks,
    segments: Vec<(Faults, Affected)>,
    listed_count: usize,
    touched: bool,
}

impl Damage {
    pub(crate) fn new(table: &PackTable) -> Self {
        let segments = table.segments.iter();
        let segments = segments.map(|segment| (segment.faults.clone(), Affected::default())).collect();
        Self {
            packs: BTreeMap::new(),
            further: BTreeMap::new(),
            further_affected: FurtherPacks::default(),
            segments,
            listed_count: 0,
            touched: false,
        }
    }

    /// Whether anything was added.
    pub(crate) const fn is_touched(&self) -> bool {
        self.touched
    }

    /// Whom a row that leads nowhere is to be blamed on.
    pub(crate) fn blame(&self, table: &PackTable, listing: u32) -> Blamed {
        let listing = &table.listings[listing as usize];
        match self.further.get(&listing.pack) {
            Some(class) => Blamed::Further(*class),
            None if self.packs.contains_key(&listing.pack) => Blamed::Pack(listing.pack),
            None => Blamed::Segment(listing.segment),
        }
    }

    /// Adds a fault of a pack. A pack that only damaged segments list may be one that never was: the fault is theirs.
    pub(crate) fn add_to_pack(&mut self, table: &PackTable, number: u32, fault: PackFault) {
        self.touched = true;
        let pack = &table.packs[number as usize];
        if !pack.trusted {
            for segment in table.segments_of(pack) {
                let what = format!("pack {} of its table: {}", pack.id.short(), fault.faults.what());
                self.segments[segment as usize].0.add(what);
            }
            return;
        }
        let has_room = self.packs.len() < PACKS_NAMED_MAX;
        match self.packs.get_mut(&number) {
            // It is said once.
            Some(_) if !fault.is_of_bytes() => {}
            Some((known, _)) => {
                if !known.is_of_bytes() {
                    known.class = fault.class;
                }
                known.faults.merge(fault.faults);
            }
            None if has_room => {
                self.packs.insert(number, (fault, Affected::default()));
            }
            None => {
                let known = self.further.entry(number).or_insert(fault.class);
                if *known == Class::Archived {
                    *known = fault.class;
                }
            }
        }
    }

    pub(crate) fn add_to_segment(&mut self, segment: u32, what: impl Into<String>) {
        self.touched = true;
        self.segments[segment as usize].0.add(what);
    }

    /// A chunk is lost.
    pub(crate) fn add_chunk(&mut self, blamed: Blamed, id: &[u8]) {
        let room = self.listed_count < LISTED_COUNT_MAX;
        self.listed_count += self.suffering(blamed).map_or(0, |affected| {
            let before = affected.listed_count();
            if room {
                affected.add_chunk(id)
            } else {
                affected.count_chunk()
            }
            affected.listed_count() - before
        });
    }

    /// `count` entries at `path` need what is lost.
    pub(crate) fn add_path(&mut self, blamed: Blamed, snapshot: SnapshotId, path: &str, count: u64) {
        let room = self.listed_count < LISTED_COUNT_MAX;
        self.listed_count += self.suffering(blamed).map_or(0, |affected| {
            let before = affected.listed_count();
            if room {
                affected.add_path(snapshot, path, count)
            } else {
                affected.count_path(snapshot, count)
            }
            affected.listed_count() - before
        });
    }

    /// Who suffers from its faults.
    fn suffering(&mut self, blamed: Blamed) -> Option<&mut Affected> {
        self.touched = true;
        match blamed {
            Blamed::Segment(segment) => Some(&mut self.segments[segment as usize].1),
            Blamed::Pack(pack) => self.packs.get_mut(&pack).map(|(_, affected)| affected),
            Blamed::Further(class) => Some(self.further_affected.affected(class)),
        }
    }

    pub(crate) fn report(mut self, table: &PackTable, findings: &mut Findings) {
        for class in self.further.into_values() {
            self.further_affected.add(class);
        }
        self.further_affected.report(findings);
        for (number, (fault, affected)) in self.packs {
            let name = ObjectName::Pack(table.packs[number as usize].id);
            findings.add(fault.class, name, fault.faults.what()).merge(affected);
        }
        for (segment, (faults, affected)) in table.segments.iter().zip(self.segments) {
            if !faults.is_empty() {
                let name = ObjectName::Segment(segment.id);
                findings.add(segment.class, name, faults.what()).merge(affected);
            }
        }
    }
}
