//! Repairing one store from another.
//!
//! A store creates and never overwrites, so a damaged object is deleted and created again, with bytes in hand that were checked: against
//! the hash in the name, or for a record against its signature and the record behind it.

use coffer_format::limits::{HEADER_LEN_MAX, INDEX_LEN_MAX, PACK_LEN_MAX, RECORD_LEN_MAX, SLOT_LEN_MAX};
use coffer_format::object::ObjectName;
use coffer_store::{ObjectStore, StoreError};

use super::reading::Everywhere;
use super::{CopyReport, Replicas, Standing, lock};
use crate::access::{Access, key_of};
use crate::error::EngineError;
use crate::log::{Log, explain};
use crate::refusal::Refusal;

/// What became of one object of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealOutcome {
    /// It was missing and is there again.
    Restored,
    /// It was damaged and was replaced.
    Replaced,
    /// It is whole; somebody else was faster, or the reading was disturbed.
    Whole,
    /// No other store has it whole.
    NoCopy,
    /// The store does not let the damaged object be deleted.
    Locked(String),
    /// The store failed, or shows the damaged object still.
    Failed(String),
}

impl HealOutcome {
    /// Whether the object is whole now.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        matches!(self, Self::Restored | Self::Replaced | Self::Whole)
    }
}

/// An object that was to be healed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healed {
    /// The store.
    pub store: String,
    /// The object.
    pub object: String,
    /// What became of it.
    pub outcome: HealOutcome,
}

impl Replicas {
    /// Repairs objects of the store at position `at` that a verification found missing or damaged; names that are no objects are passed over.
    pub fn heal(&self, at: usize, objects: &[String]) -> Vec<Healed> {
        let names = objects.iter().filter_map(|name| ObjectName::parse(name));
        // Records from the newest to the oldest: each is checked against the one behind it.
        let mut names: Vec<_> = names.collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        names.dedup();
        let healed = names.into_iter().map(|name| Healed {
            store: self.members[at].url.clone(),
            object: name.to_string(),
            outcome: self.heal_one(at, name).unwrap_or_else(|error| HealOutcome::Failed(explain(&error))),
        });
        healed.collect()
    }

    /// Gives a home that was rolled back the records that a replica still has. `None` if it lacks none.
    ///
    /// # Errors
    /// When the log of that replica cannot be read.
    pub fn heal_home(&self, access: &Access<'_>) -> Result<Option<CopyReport>, EngineError> {
        if let Some(vault) = self.vault {
            self.name_again(access, &vault)?;
        }
        let is_behind = matches!(&*lock(&self.refusal), Some(Refusal::HomeBehind { .. }));
        let Some(home) = self.home.filter(|_| is_behind) else { return Ok(None) };
        let access = Access { store: self, ..*access };
        let log = Log::read(&access, self.vault)?;
        let copied = self.catch_up(&access, &log, home);
        if copied.error.is_none() {
            *lock(&self.refusal) = None;
        }
        Ok(Some(copied))
    }

    fn heal_one(&self, at: usize, name: ObjectName) -> Result<HealOutcome, EngineError> {
        let member = &self.members[at];
        let is_fenced = matches!(member.standing(), Standing::Fenced { .. });
        if matches!(name, ObjectName::Record(_)) && is_fenced {
            return Ok(HealOutcome::NoCopy);
        }
        let good = match self.whole_copy(at, name) {
            Everywhere::Whole(good) => good,
            Everywhere::Lost => return Ok(HealOutcome::NoCopy),
            Everywhere::NotLookedAt(reason) => {
                return Ok(HealOutcome::Failed(format!("not all other stores could be looked at: {reason}")));
            }
        };
        let key = key_of(name)?;
        let mut bytes = Vec::new();
        let outcome = match member.store.read(&key, good.len() as u64, &mut bytes) {
            Ok(()) if bytes == good => return Ok(HealOutcome::Whole),
            Err(error) if error.is_not_found() => HealOutcome::Restored,
            // What says nothing of the object itself is no reason to delete it.
            Err(error) if error.is_of_store() && !matches!(error, StoreError::Io { .. }) => {
                return Err(error.into());
            }
            // Damaged, too long, or unreadable.
            Ok(()) | Err(_) => {
                match member.store.delete(&key) {
                    Ok(()) => {}
                    Err(error @ StoreError::Denied { .. }) => {
                        return Ok(HealOutcome::Locked(explain(&error)));
                    }
                    Err(error) => return Err(error.into()),
                }
                HealOutcome::Replaced
            }
        };
        member.store.put_if_absent(&key, &good)?;
        // A store that keeps versions may go on showing the first one.
        match member.store.read(&key, good.len() as u64, &mut bytes) {
            Ok(()) if bytes == good => Ok(outcome),
            _ => Ok(HealOutcome::Failed("the store still shows the damaged object".to_owned())),
        }
    }

    /// The bytes of an object as another store has them, if these are whole.
    fn whole_copy(&self, at: usize, name: ObjectName) -> Everywhere {
        let len_max = match name {
            ObjectName::Pack(_) => PACK_LEN_MAX,
            ObjectName::Segment(_) => INDEX_LEN_MAX,
            ObjectName::Slot(_) => SLOT_LEN_MAX,
            ObjectName::Header => HEADER_LEN_MAX,
            ObjectName::Record(_) => RECORD_LEN_MAX,
            // Each store has its own.
            ObjectName::Store => return Everywhere::Lost,
        };
        let Ok(key) = key_of(name) else { return Everywhere::Lost };
        // A record is good if the log vouches for it, and not because it is signed.
        let judge = match name {
            ObjectName::Record(number) => self.judge_of_records().map(|judge| (number, judge)),
            _ => None,
        };
        let is_good = |bytes: &[u8]| match (name, &judge) {
            (ObjectName::Record(_), None) => false,
            (_, Some((number, judge))) => {
                self.fits(name, bytes) && self.is_vouched_for(judge, *number, bytes)
            }
            (_, None) => self.fits(name, bytes),
        };
        let mut not_asked = None;
        let mut bytes = Vec::new();
        for (other, member) in self.members.iter().enumerate() {
            match (name, member.standing()) {
                _ if other == at => continue,
                (_, Standing::Unreachable { reason }) => {
                    not_asked.get_or_insert(format!("{} is not reached: {reason}", member.url));
                    continue;
                }
                (ObjectName::Record(_), Standing::Fenced { .. }) => continue,
                _ => {}
            }
            match member.store.read(&key, len_max, &mut bytes) {
                Ok(()) if is_good(&bytes) => return Everywhere::Whole(bytes),
                Err(error) if error.is_of_store() && !error.is_not_found() => {
                    not_asked.get_or_insert(explain(&error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        not_asked.map_or(Everywhere::Lost, Everywhere::NotLookedAt)
    }
}
