//! What is wrong with packs and index segments, and who suffers from it.

use std::collections::BTreeMap;

use coffer_format::object::ObjectName;

use crate::packs::{PackFault, PackTable};
use crate::report::{Affected, Faults, Findings};

/// Faults of packs by position, and of every segment.
pub(crate) struct Damage {
    packs: BTreeMap<u32, (PackFault, Affected)>,
    segments: Vec<(Faults, Affected)>,
}

impl Damage {
    pub(crate) fn new(table: &PackTable) -> Self {
        let segments = table.segments.iter();
        let segments = segments.map(|segment| (segment.faults.clone(), Affected::default())).collect();
        Self { packs: BTreeMap::new(), segments }
    }

    pub(crate) fn has_pack(&self, pack: u32) -> bool {
        self.packs.contains_key(&pack)
    }

    /// Adds a fault of a pack. A pack that only damaged segments list may be one that never was: the fault is theirs.
    pub(crate) fn add_to_pack(&mut self, table: &PackTable, number: u32, fault: PackFault) {
        let pack = &table.packs[number as usize];
        if !pack.trusted {
            for segment in table.segments_of(pack) {
                let what = format!("pack {} of its table: {}", pack.id.short(), fault.faults.what());
                self.segments[segment as usize].0.add(what);
            }
            return;
        }
        match self.packs.get_mut(&number) {
            // It is said once.
            Some(_) if !fault.is_of_bytes() => {}
            Some((known, _)) => {
                if !known.is_of_bytes() {
                    known.class = fault.class;
                }
                known.faults.merge(fault.faults);
            }
            None => drop(self.packs.insert(number, (fault, Affected::default()))),
        }
    }

    pub(crate) fn add_to_segment(&mut self, segment: u32, what: impl Into<String>) {
        self.segments[segment as usize].0.add(what);
    }

    /// Who suffers from the faults of a pack that has some.
    pub(crate) fn pack(&mut self, pack: u32) -> Option<&mut Affected> {
        self.packs.get_mut(&pack).map(|(_, affected)| affected)
    }

    /// Who suffers from the faults of a segment.
    pub(crate) fn segment(&mut self, segment: u32) -> &mut Affected {
        &mut self.segments[segment as usize].1
    }

    pub(crate) fn report(self, table: &PackTable, findings: &mut Findings) {
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
