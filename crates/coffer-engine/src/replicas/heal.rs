//! Repairing one store from another.
//!
//! A store creates and never overwrites, so a damaged object is deleted and created again, with bytes in hand that were checked: against
//! the hash in the name, or for a record against its signature and the record behind it.

use coffer_format::limits::{HEADER_LEN_MAX, INDEX_LEN_MAX, PACK_LEN_MAX, RECORD_LEN_MAX, SLOT_LEN_MAX};
use coffer_format::object::ObjectName;
use coffer_format::record::{Record, chain_value};
use coffer_store::{ObjectStore, StoreError};

use super::{CopyReport, Member, Refusal, Replicas, Standing, lock};
use crate::access::{Access, key_of};
use crate::error::EngineError;
use crate::log::{Log, explain};

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
        let is_behind = matches!(&*lock(&self.refusal), Some(Refusal::HomeBehind { .. }));
        let Some(home) = self.home.filter(|_| is_behind) else { return Ok(None) };
        let access = Access { store: self, ..*access };
        let log = Log::read(&access, self.vault)?;
        let copied = self.catch_up(&access, &log.state, home);
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
        let Some(good) = self.whole_copy(at, name) else { return Ok(HealOutcome::NoCopy) };
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
    fn whole_copy(&self, at: usize, name: ObjectName) -> Option<Vec<u8>> {
        let len_max = match name {
            ObjectName::Pack(_) => PACK_LEN_MAX,
            ObjectName::Segment(_) => INDEX_LEN_MAX,
            ObjectName::Slot(_) => SLOT_LEN_MAX,
            ObjectName::Header => HEADER_LEN_MAX,
            ObjectName::Record(_) => RECORD_LEN_MAX,
            // Each store has its own.
            ObjectName::Store => return None,
        };
        let key = key_of(name).ok()?;
        let mut bytes = Vec::new();
        let others = self.members.iter().enumerate().filter(|(other, _)| *other != at);
        let reachable = others.filter(|(_, member)| Member::is_reachable(&member.standing()));
        let mut fitting = reachable.filter(|(_, member)| match (name, member.standing()) {
            (ObjectName::Record(_), Standing::Fenced { .. }) => false,
            _ => {
                member.store.read(&key, len_max, &mut bytes).is_ok()
                    && self.fits(name, &bytes)
                    && self.is_chained(name, &bytes)
            }
        });
        fitting.next()?;
        drop(fitting);
        Some(bytes)
    }

    /// Whether the record behind this one, where a store in line has it whole, was chained to these bytes.
    fn is_chained(&self, name: ObjectName, bytes: &[u8]) -> bool {
        let ObjectName::Record(number) = name else { return true };
        let Ok(key) = key_of(ObjectName::Record(number + 1)) else { return false };
        let mut behind = Vec::new();
        self.members.iter().filter(|member| matches!(member.standing(), Standing::InLine { .. })).all(
            |member| {
                let read = member.store.read(&key, RECORD_LEN_MAX, &mut behind);
                let sound = read.is_ok().then(|| super::survey::is_sound(number + 1, &behind)).flatten();
                sound.is_none_or(|record: Record<'_>| record.public.previous == chain_value(bytes))
            },
        )
    }
}
