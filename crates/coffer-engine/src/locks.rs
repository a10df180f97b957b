//! Locks on the objects that kept snapshots need: prolonging them, and looking until when they last.
//!
//! A snapshot needs the header, all of the log, the current key slots, the live index segments and the packs that its chunks
//! lie in. Nothing else is prolonged, nothing is ever shortened, and no object is written.

use std::collections::BTreeMap;

use coffer_format::id::{Head, PackId, SnapshotId};
use coffer_format::object::ObjectName;
use coffer_format::record::{Details, RecordKind};
use coffer_store::{ObjectStore, Retention};

use crate::access::key_of;
use crate::cold::cloud_of;
use crate::error::EngineError;
use crate::needs::Needs;
use crate::parallel::{in_flight, map};
use crate::restore::RestoreOptions;
use crate::vault::{Snapshot, Vault};

/// The objects that kept snapshots need.
#[derive(Debug, Clone, Default)]
pub struct Needed {
    /// What every snapshot needs.
    pub common: Vec<ObjectName>,
    /// The packs of each snapshot that is not forgotten.
    pub packs: BTreeMap<SnapshotId, Vec<PackId>>,
    /// What could not be found out, and why.
    pub unreadable: Vec<String>,
}

impl Needed {
    /// Finds out what the kept snapshots need; all of them, or those that are named.
    ///
    /// # Errors
    /// [`EngineError::Interrupted`] and failures of the store. What is damaged is noted.
    pub fn find(vault: &Vault<'_>, only: Option<&[SnapshotId]>) -> Result<Self, EngineError> {
        let state = vault.state();
        let mut needed = Self::default();
        needed.common.push(ObjectName::Header);
        if vault.access.store.stat(&key_of(ObjectName::Store)?).is_ok() {
            needed.common.push(ObjectName::Store);
        }
        needed.common.extend((0..state.next).map(ObjectName::Record));
        needed.common.extend(state.slots.iter().copied().map(ObjectName::Slot));
        needed.common.extend(state.segments.keys().copied().map(ObjectName::Segment));
        for (state, snapshot) in vault.snapshots() {
            if only.is_some_and(|only| !only.contains(&state.id)) {
                continue;
            }
            let snapshot = match snapshot {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    needed.unreadable.push(format!(
                        "snapshot {}: {}",
                        state.id.short(),
                        crate::log::explain(&error)
                    ));
                    continue;
                }
            };
            let packs = needed.packs_of(vault, &snapshot)?;
            needed.packs.insert(state.id, packs);
        }
        Ok(needed)
    }

    fn packs_of(&mut self, vault: &Vault<'_>, snapshot: &Snapshot) -> Result<Vec<PackId>, EngineError> {
        let mut needs = Needs::default();
        needs.add(vault, snapshot, &RestoreOptions::default())?;
        if needs.is_partial {
            self.unreadable
                .push(format!("snapshot {}: a part of its tree is archived", snapshot.id().short()));
        }
        self.unreadable.extend(needs.unreadable);
        Ok(needs.packs.into_keys().collect())
    }

    /// All objects, none twice.
    #[must_use]
    pub fn objects(&self) -> Vec<ObjectName> {
        let mut packs: Vec<_> = self.packs.values().flatten().copied().collect();
        packs.sort_unstable();
        packs.dedup();
        self.common.iter().copied().chain(packs.into_iter().map(ObjectName::Pack)).collect()
    }
}

/// What prolonging locks did, or would do.
#[derive(Debug, Clone, Default)]
pub struct ExtendReport {
    /// Objects that kept snapshots need.
    pub object_count: u64,
    /// Locked long enough already.
    pub unchanged_count: u64,
    /// Prolonged.
    pub extended_count: u64,
    /// Locked for the first time, among those prolonged.
    pub first_count: u64,
    /// Objects that could not be prolonged, and why.
    pub errors: Vec<(String, String)>,
}

/// What became of one object.
enum Extended {
    Unchanged,
    Later,
    First,
}

/// Prolongs the locks of `objects` in `store` to `retention`; those that last as long are left, so that a run that was
/// stopped goes on where it was. With `is_dry`, only says what would be done.
///
/// # Errors
/// [`EngineError::Store`] when the store has no locks; failures of single objects are in the report.
pub fn extend_locks(
    store: &dyn ObjectStore,
    objects: &[ObjectName],
    retention: &Retention,
    is_dry: bool,
) -> Result<ExtendReport, EngineError> {
    let cloud = cloud_of(store)?;
    let extend = |name: &ObjectName| -> Result<Extended, EngineError> {
        let key = key_of(*name)?;
        let now = cloud.retention(&key, None)?;
        if now.is_some_and(|now| now.until_s >= retention.until_s) {
            return Ok(Extended::Unchanged);
        }
        if !is_dry {
            cloud.extend_retention(&key, None, retention)?;
        }
        Ok(if now.is_some() { Extended::Later } else { Extended::First })
    };
    let mut report = ExtendReport { object_count: objects.len() as u64, ..ExtendReport::default() };
    let done = map(in_flight(store), objects, extend);
    for (name, outcome) in objects.iter().zip(done) {
        match outcome {
            Ok(Extended::Unchanged) => report.unchanged_count += 1,
            Ok(Extended::Later) => report.extended_count += 1,
            Ok(Extended::First) => {
                report.extended_count += 1;
                report.first_count += 1;
            }
            Err(error) => report.errors.push((name.to_string(), crate::log::explain(&error))),
        }
    }
    Ok(report)
}

/// Records in the log that so many objects are locked until then.
///
/// # Errors
/// As for any commit.
pub fn record_locks(vault: &mut Vault<'_>, until_s: u64, count: u64) -> Result<Head, EngineError> {
    let until = i64::try_from(until_s).unwrap_or(i64::MAX);
    let details = Details::Locks { until_s: until, object_count: count }.encode();
    vault.commit(RecordKind::Locks, None, &mut |_, public| {
        public.details.clone_from(&details);
        Ok(())
    })
}

/// Lays a legal hold on objects, or lifts it. Gives those that failed, and why.
///
/// # Errors
/// When the store has no holds at all.
pub fn hold_objects(
    store: &dyn ObjectStore,
    objects: &[ObjectName],
    is_held: bool,
) -> Result<Vec<(String, String)>, EngineError> {
    let cloud = cloud_of(store)?;
    let done = map(in_flight(store), objects, |name| {
        Ok::<_, EngineError>(cloud.set_legal_hold(&key_of(*name)?, None, is_held)?)
    });
    let failed = objects.iter().zip(done).filter_map(|(name, done)| Some((name, done.err()?)));
    Ok(failed.map(|(name, error)| (name.to_string(), crate::log::explain(&error))).collect())
}

/// Until when an object, or the weakest of several, is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// In seconds since 1970; `None` if it is not locked.
    pub until_s: Option<u64>,
    /// Which object that is.
    pub object: String,
}

/// The locks that kept snapshots depend on.
#[derive(Debug, Clone, Default)]
pub struct LockReport {
    /// For each snapshot the object it needs whose lock ends first.
    pub snapshots: Vec<(SnapshotId, Expiry)>,
    /// Objects that were asked about.
    pub object_count: u64,
    /// Objects among them that are not locked.
    pub unlocked_count: u64,
    /// What could not be found out, and why.
    pub unreadable: Vec<String>,
}

/// Asks `store` until when what kept snapshots need is locked.
///
/// # Errors
/// When the store has no locks; an object that cannot be asked about is in the report, and counts as not locked.
pub fn look_at_locks(store: &dyn ObjectStore, needed: &Needed) -> Result<LockReport, EngineError> {
    let cloud = cloud_of(store)?;
    let objects = needed.objects();
    let asked = map(in_flight(store), &objects, |name| {
        Ok::<_, EngineError>(cloud.retention(&key_of(*name)?, None)?.map(|retention| retention.until_s))
    });
    let mut report = LockReport { object_count: objects.len() as u64, ..LockReport::default() };
    report.unreadable.clone_from(&needed.unreadable);
    let mut until: BTreeMap<String, Option<u64>> = BTreeMap::new();
    for (name, asked) in objects.iter().zip(asked) {
        let until_s = asked.unwrap_or_else(|error| {
            report.unreadable.push(format!("{name}: {}", crate::log::explain(&error)));
            None
        });
        report.unlocked_count += u64::from(until_s.is_none());
        until.insert(name.to_string(), until_s);
    }
    let expiry_of = |name: &ObjectName| {
        let object = name.to_string();
        Expiry { until_s: until.get(&object).copied().flatten(), object }
    };
    // What is not locked ends before anything else.
    let common = needed.common.iter().map(expiry_of).min_by_key(|expiry| expiry.until_s);
    for (snapshot, packs) in &needed.packs {
        let own =
            packs.iter().map(|pack| expiry_of(&ObjectName::Pack(*pack))).min_by_key(|expiry| expiry.until_s);
        let first = common.iter().cloned().chain(own).min_by_key(|expiry| expiry.until_s);
        report.snapshots.extend(first.map(|expiry| (*snapshot, expiry)));
    }
    Ok(report)
}
