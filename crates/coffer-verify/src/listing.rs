//! The names in the store, and what to think of those that the log does not know.
//!
//! A listing is a hint: that a name is absent from it proves nothing, and the other modules ask for the object itself.

use std::ops::ControlFlow;

use coffer_format::id::{PackId, SegmentId, SlotId};
use coffer_format::limits::SLOT_LEN_MAX;
use coffer_format::log::LogState;
use coffer_format::object::{ObjectName, PROBE_PREFIX};
use coffer_format::slot::Slot;
use coffer_format::store::{STORE_LEN, decode_store};
use coffer_store::{ItemKind, ListItem, ObjectStore};

use crate::error::VerifyError;
use crate::packs::PackTable;
use crate::replay::Replayed;

use crate::report::{Class, Counts, Findings, LISTED_MAX, Residue};
use crate::source::{ReadFault, Source};

/// Most residue that a report lists.
const RESIDUE_MAX: usize = 100_000;

/// Names with lengths, each list sorted and without repetitions.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) records: Vec<(u64, u64)>,
    packs: Vec<(PackId, u64)>,
    segments: Vec<(SegmentId, u64)>,
    slots: Vec<(SlotId, u64)>,
    /// Records over which something was laid in a store that goes by what was there first.
    overwritten: Vec<u64>,
    has_store_id: bool,
    probes: Vec<Residue>,
    /// Names that mean nothing, with what they are.
    strange: Vec<(String, &'static str)>,
    /// How many more of them there are.
    more_strange: u64,
}

impl Listing {
    pub(crate) fn read(store: &dyn ObjectStore) -> Result<Self, VerifyError> {
        let mut listing = Self::default();
        let visit = &mut |item| {
            listing.add(item);
            ControlFlow::Continue(())
        };
        store.list("", None, visit).map_err(|source| VerifyError::Store { source })?;
        let overwritten = store.overwritten().into_iter().filter_map(|name| match ObjectName::parse(&name) {
            Some(ObjectName::Record(number)) => Some(number),
            _ => None,
        });
        listing.overwritten.extend(overwritten);
        sort(&mut listing.overwritten);
        sort(&mut listing.records);
        sort(&mut listing.packs);
        sort(&mut listing.segments);
        sort(&mut listing.slots);
        sort(&mut listing.probes);
        sort(&mut listing.strange);
        Ok(listing)
    }

    fn add(&mut self, item: ListItem) {
        let strange = match (item.kind, ObjectName::parse(&item.name)) {
            (ItemKind::Foreign, _) => "it is not an object",
            (_, Some(ObjectName::Header)) => return,
            (_, Some(ObjectName::Store)) => return self.has_store_id = true,
            (_, Some(ObjectName::Record(number))) => return self.records.push((number, item.len)),
            (_, Some(ObjectName::Pack(id))) => return self.packs.push((id, item.len)),
            (_, Some(ObjectName::Segment(id))) => return self.segments.push((id, item.len)),
            (_, Some(ObjectName::Slot(id))) => return self.slots.push((id, item.len)),
            _ if item.name.starts_with(PROBE_PREFIX) && self.probes.len() < RESIDUE_MAX => {
                return self.probes.push(Residue { name: item.name, len: item.len });
            }
            _ => "nothing in a vault has such a name",
        };
        if self.strange.len() < LISTED_MAX {
            self.strange.push((item.name, strange));
        } else {
            self.more_strange += 1;
        }
    }

    /// Whether there is anything at all that a vault consists of.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.packs.is_empty() && self.segments.is_empty() && self.slots.is_empty()
    }

    /// The length a pack was listed with.
    pub(crate) fn pack_len(&self, id: &PackId) -> Option<u64> {
        self.packs.binary_search_by_key(id, |pack| pack.0).ok().map(|at| self.packs[at].1)
    }

    /// Sorts what the log does not need into residue, which is returned, and surplus, which becomes findings.
    ///
    /// Packs that no segment lists are not called residue while a live segment cannot be read: it may list them. Nothing is, while a
    /// record is archived: it may name it.
    pub(crate) fn residue(
        &self,
        source: &Source<'_>,
        replayed: &Replayed,
        table: &PackTable,
        findings: &mut Findings,
        counts: &mut Counts,
    ) -> Result<Vec<Residue>, VerifyError> {
        let log: &LogState = &replayed.log;
        let mut residue = self.probes.clone();
        counts.residue_objects = residue.len() as u64;
        counts.residue_bytes = residue.iter().map(|item| item.len).sum();
        let mut keep = |name: ObjectName, len: u64| {
            counts.residue_objects += 1;
            counts.residue_bytes = counts.residue_bytes.saturating_add(len);
            if residue.len() < RESIDUE_MAX {
                residue.push(Residue { name: name.to_string(), len });
            }
        };
        // What a record that is archived names is not known.
        let is_log_read = replayed.archived.is_empty();
        if !table.has_unreadable_segments && is_log_read {
            for (id, len) in self.packs.iter().filter(|(id, _)| table.position(id).is_none()) {
                keep(ObjectName::Pack(*id), *len);
            }
        }
        let unlisted = self.segments.iter().filter(|(id, _)| is_log_read && !log.segments.contains_key(id));
        for (id, len) in unlisted {
            keep(ObjectName::Segment(*id), *len);
        }
        let wrong_id = match self.has_store_id {
            true => wrong_store_id(source)?,
            false => Some((
                Class::Missing,
                "without it the store is not the home, and nothing is committed to it".to_owned(),
            )),
        };
        if let Some((class, what)) = wrong_id {
            findings.add(class, ObjectName::Store, what);
        }
        let mut surplus = Surplus { findings, listed: 0, more: self.more_strange };
        for (id, len) in self.slots.iter().filter(|(id, _)| log.slots.binary_search(id).is_err()) {
            if replayed.known_slots.contains(id) || is_left_over(source, *id, log)? {
                if is_log_read {
                    keep(ObjectName::Slot(*id), *len);
                }
            } else {
                surplus.add(ObjectName::Slot(*id).to_string(), "it is no key slot of this vault");
            }
        }
        let beyond = |number: &u64| *number >= log.next && !replayed.unreadable.contains(number);
        for (number, _) in self.records.iter().filter(|(number, _)| beyond(number)) {
            let what = "it lies beyond the head and no enrolled signer signed it as a continuation";
            surplus.add(ObjectName::Record(*number).to_string(), what);
        }
        for number in &self.overwritten {
            let what = "something was laid over it; the first version, which counts, is there";
            surplus.add(ObjectName::Record(*number).to_string(), what);
        }
        for (name, what) in &self.strange {
            surplus.add(name.clone(), what);
        }
        counts.surplus_names = surplus.listed as u64 + surplus.more;
        if surplus.more > 0 {
            let what = format!("{} more names mean nothing", surplus.more);
            surplus.findings.add(Class::Surplus, "(further names)", what);
        }
        residue.sort_unstable();
        Ok(residue)
    }
}

/// Whether a slot that no record names is what an interrupted key command leaves: intact, and for this vault.
fn is_left_over(source: &Source<'_>, id: SlotId, log: &LogState) -> Result<bool, VerifyError> {
    let mut bytes = Vec::new();
    let read = source.read(ObjectName::Slot(id), SLOT_LEN_MAX, &mut bytes)?;
    Ok(read.is_ok()
        && Slot::id(&bytes) == id
        && Slot::decode(&bytes).is_ok_and(|slot| slot.vault == log.vault))
}

/// What is wrong with the id of the store, which nothing but the choice of a home depends on.
fn wrong_store_id(source: &Source<'_>) -> Result<Option<(Class, String)>, VerifyError> {
    let mut bytes = Vec::new();
    let mut read = source.read(ObjectName::Store, STORE_LEN as u64, &mut bytes)?;
    let is_wrong = match &read {
        Ok(()) => decode_store(&bytes).is_err(),
        Err(fault) => matches!(fault, ReadFault::TooLong { .. }),
    };
    if is_wrong && source.distrust(ObjectName::Store) {
        read = source.read(ObjectName::Store, STORE_LEN as u64, &mut bytes)?;
    }
    Ok(match read {
        Ok(()) => decode_store(&bytes).err().map(|error| (Class::Corrupt, error.to_string())),
        // It was listed before.
        Err(fault) => Some((fault.class(), fault.what())),
    })
}

fn sort<T: Ord>(items: &mut Vec<T>) {
    items.sort_unstable();
    items.dedup();
}

/// Makes findings of the first [`LISTED_MAX`] surplus names.
struct Surplus<'a> {
    findings: &'a mut Findings,
    listed: usize,
    more: u64,
}

impl Surplus<'_> {
    fn add(&mut self, name: String, what: &str) {
        if self.listed < LISTED_MAX {
            self.listed += 1;
            self.findings.add(Class::Surplus, name, what);
        } else {
            self.more += 1;
        }
    }
}
