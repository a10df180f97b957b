//! Locks on the objects that kept snapshots need: prolonging them, and looking until when they last.
//!
//! A snapshot needs the header, all of the log, the current key slots, the live index segments and the packs that its chunks
//! lie in. Where its tree is archived, so that nobody can tell which packs these are, all packs that live index segments of its
//! domain list are taken for needed. Nothing else is prolonged, nothing is ever shortened or made less firm, and no object is written.
//!
//! What is looked at is what readers take: where the oldest version of a name counts, that one; elsewhere the newest, and the
//! oldest beside it where something was laid over a name, as readers fall back to that.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use coffer_format::header::StoreMode;
use coffer_format::id::{DomainId, Head, PackId, SnapshotId};
use coffer_format::object::ObjectName;
use coffer_format::record::{Details, RecordKind};
use coffer_format::store::STORE_LEN;
use coffer_store::{CloudStore, ObjectStore, Retention, RetentionMode, VersionItem};

use crate::access::key_of;
use crate::cold::cloud_of;
use crate::error::EngineError;
use crate::index::Index;
use crate::needs::Needs;
use crate::parallel::{in_flight, map};
use crate::restore::RestoreOptions;
use crate::stats::listed_packs;
use crate::vault::{Snapshot, Vault};

/// The objects that kept snapshots need.
#[derive(Debug, Clone, Default)]
pub struct Needed {
    /// What every snapshot needs.
    pub common: Vec<ObjectName>,
    /// The packs of each snapshot that is not forgotten.
    pub packs: BTreeMap<SnapshotId, Vec<PackId>>,
    /// Snapshots whose tree is archived, so that more packs than they need may be among theirs.
    pub widened: Vec<SnapshotId>,
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
        // Each store but the first has one of its own.
        needed.common.push(ObjectName::Store);
        needed.common.extend((0..state.next).map(ObjectName::Record));
        needed.common.extend(state.slots.iter().copied().map(ObjectName::Slot));
        needed.common.extend(state.segments.keys().copied().map(ObjectName::Segment));
        let mut listed = BTreeMap::new();
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
            let packs = needed.packs_of(vault, &snapshot, &mut listed)?;
            needed.packs.insert(state.id, packs);
        }
        Ok(needed)
    }

    /// The packs of a snapshot; `listed` keeps what was found out of domains.
    fn packs_of(
        &mut self,
        vault: &Vault<'_>,
        snapshot: &Snapshot,
        listed: &mut BTreeMap<DomainId, BTreeSet<PackId>>,
    ) -> Result<Vec<PackId>, EngineError> {
        let mut needs = Needs::default();
        needs.add(vault, snapshot, &RestoreOptions::default())?;
        let mut packs: BTreeSet<PackId> = needs.packs.into_keys().collect();
        if needs.is_partial {
            self.widened.push(snapshot.id());
            let domain = snapshot.state.body.domain;
            packs.extend(listed.entry(domain).or_insert_with(|| self.listed_packs(vault, domain)).iter());
        }
        self.unreadable.extend(needs.unreadable);
        Ok(packs.into_iter().collect())
    }

    /// All packs that live index segments of a domain list.
    fn listed_packs(&mut self, vault: &Vault<'_>, domain: DomainId) -> BTreeSet<PackId> {
        let store = vault.access.store;
        let segments: Vec<_> = Index::segments_of(vault.state(), domain).collect();
        let read = map(in_flight(store), &segments, |(id, len)| listed_packs(store, *id, *len));
        let mut packs = BTreeSet::new();
        for ((id, _), read) in segments.iter().zip(read) {
            match read {
                Ok((_, rows)) => packs.extend(rows.into_iter().map(|row| row.id)),
                Err(error) => {
                    let reason = crate::log::explain(&error);
                    self.unreadable.push(format!("{}: {reason}", ObjectName::Segment(*id)));
                }
            }
        }
        packs
    }

    /// The packs that no other kept snapshot than `chosen`, which these are the needs of, relies on; none while it is not known what the others
    /// do. What the whole vault relies on is not among them.
    ///
    /// # Errors
    /// As for [`Self::find`].
    pub fn only_for(
        &mut self,
        vault: &Vault<'_>,
        chosen: &[SnapshotId],
    ) -> Result<Vec<ObjectName>, EngineError> {
        let all = Self::find(vault, None)?;
        if !all.unreadable.is_empty() {
            self.unreadable.extend(all.unreadable);
            return Ok(Vec::new());
        }
        let others: BTreeSet<PackId> = all
            .packs
            .iter()
            .filter(|(id, _)| !chosen.contains(id))
            .flat_map(|(_, packs)| packs)
            .copied()
            .collect();
        let own: BTreeSet<PackId> = self.packs.values().flatten().copied().collect();
        Ok(own.difference(&others).copied().map(ObjectName::Pack).collect())
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

/// Those of `objects` that can be in `store`: one may have lost its id.
fn present(store: &dyn ObjectStore, objects: &[ObjectName]) -> Result<Vec<ObjectName>, EngineError> {
    let mut bytes = Vec::new();
    let has_id = match store.read(&key_of(ObjectName::Store)?, STORE_LEN as u64, &mut bytes) {
        Err(error) if error.is_not_found() => false,
        Err(error) if error.is_of_store() => return Err(error.into()),
        Ok(()) | Err(_) => true,
    };
    Ok(objects.iter().copied().filter(|name| *name != ObjectName::Store || has_id).collect())
}

/// Which versions of objects are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockView {
    /// How the vault's writers share its stores, which says which version of a name counts.
    pub store_mode: StoreMode,
    /// Whether the bucket may keep versions; one with a retention policy keeps none.
    pub has_versions: bool,
}

impl LockView {
    /// The versions to look at of names that have more than one, or that a delete marker hides. Of other names, and where the
    /// store itself goes by the oldest, the one that the store has.
    fn versions(
        self,
        cloud: &dyn CloudStore,
        objects: &[ObjectName],
    ) -> Result<BTreeMap<ObjectName, Vec<String>>, EngineError> {
        if !self.has_versions || self.store_mode == StoreMode::OldestVersion {
            return Ok(BTreeMap::new());
        }
        let wanted: BTreeSet<&ObjectName> = objects.iter().collect();
        // Versions that are no markers: the newest of all, if it is one, and the oldest; and how many come under the name.
        let mut found: BTreeMap<ObjectName, (Option<String>, Option<String>, u64)> = BTreeMap::new();
        cloud.versions("", &mut |version: VersionItem| {
            let name = ObjectName::parse(&version.name).filter(|name| wanted.contains(name));
            if let Some((newest, oldest, count)) = name.map(|name| found.entry(name).or_default()) {
                *count += 1;
                if !version.is_delete_marker {
                    if version.is_latest {
                        *newest = Some(version.version_id.clone());
                    }
                    *oldest = Some(version.version_id);
                }
            }
            ControlFlow::Continue(())
        })?;
        found.retain(|_, (_, _, count)| *count > 1);
        let of = |(newest, oldest, _): (Option<String>, Option<String>, u64)| {
            let mut ids: Vec<_> = newest.into_iter().chain(oldest).collect();
            ids.dedup();
            ids
        };
        Ok(found
            .into_iter()
            .map(|(name, found)| (name, of(found)))
            .filter(|(_, ids)| !ids.is_empty())
            .collect())
    }
}

/// Whether a lock of this kind is as firm as another one.
const fn is_as_firm(mode: RetentionMode, wanted: RetentionMode) -> bool {
    !matches!(mode, RetentionMode::Governance) || matches!(wanted, RetentionMode::Governance)
}

/// What prolonging locks did, or would do.
#[derive(Debug, Clone, Default)]
pub struct ExtendReport {
    /// Objects that kept snapshots need.
    pub object_count: u64,
    /// Locked long and firmly enough already.
    pub unchanged_count: u64,
    /// Prolonged, or locked more firmly.
    pub extended_count: u64,
    /// Locked for the first time, among those.
    pub first_count: u64,
    /// Locked more firmly than before, among those.
    pub firmer_count: u64,
    /// Objects that could not be prolonged, and why.
    pub errors: Vec<(String, String)>,
}

/// What became of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Extended {
    Unchanged,
    Later,
    Firmer,
    First,
}

/// Prolongs the locks of `objects` in `store` to `retention`, and makes those firmer that are less firm; those that last as long
/// and are as firm are left, so that a run that was stopped goes on where it was. With `is_dry`, only says what would be done.
///
/// # Errors
/// [`EngineError::Store`] when the store has no locks, or does not tell its versions; failures of single objects are in the
/// report.
pub fn extend_locks(
    store: &dyn ObjectStore,
    objects: &[ObjectName],
    retention: &Retention,
    view: LockView,
    is_dry: bool,
) -> Result<ExtendReport, EngineError> {
    let cloud = cloud_of(store)?;
    let objects = &present(store, objects)?[..];
    let versions = view.versions(cloud, objects)?;
    let extend_one = |name: &ObjectName, version: Option<&str>| -> Result<Extended, EngineError> {
        let key = key_of(*name)?;
        let now = cloud.retention(&key, version)?;
        let is_firm = now.is_none_or(|now| is_as_firm(now.mode, retention.mode));
        if is_firm && now.is_some_and(|now| now.until_s >= retention.until_s) {
            return Ok(Extended::Unchanged);
        }
        // What is made firmer ends no earlier.
        let until_s = now.map_or(0, |now| now.until_s).max(retention.until_s);
        if !is_dry {
            cloud.extend_retention(&key, version, &Retention { mode: retention.mode, until_s })?;
        }
        Ok(match now {
            None => Extended::First,
            Some(_) if is_firm => Extended::Later,
            Some(_) => Extended::Firmer,
        })
    };
    let extend = |name: &ObjectName| -> Result<Extended, EngineError> {
        let Some(ids) = versions.get(name) else { return extend_one(name, None) };
        ids.iter().try_fold(Extended::Unchanged, |most, id| Ok(most.max(extend_one(name, Some(id))?)))
    };
    let mut report = ExtendReport { object_count: objects.len() as u64, ..ExtendReport::default() };
    let done = map(in_flight(store), objects, extend);
    for (name, outcome) in objects.iter().zip(done) {
        match outcome {
            Ok(Extended::Unchanged) => report.unchanged_count += 1,
            Ok(extended) => {
                report.extended_count += 1;
                report.first_count += u64::from(extended == Extended::First);
                report.firmer_count += u64::from(extended == Extended::Firmer);
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
/// When the store has no holds at all, or does not tell its versions.
pub fn hold_objects(
    store: &dyn ObjectStore,
    objects: &[ObjectName],
    view: LockView,
    is_held: bool,
) -> Result<Vec<(String, String)>, EngineError> {
    let cloud = cloud_of(store)?;
    let objects = &present(store, objects)?[..];
    let versions = view.versions(cloud, objects)?;
    let done = map(in_flight(store), objects, |name| -> Result<(), EngineError> {
        let key = key_of(*name)?;
        match versions.get(name) {
            None => Ok(cloud.set_legal_hold(&key, None, is_held)?),
            Some(ids) => ids.iter().try_for_each(|id| Ok(cloud.set_legal_hold(&key, Some(id), is_held)?)),
        }
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
    /// Objects among them that are locked less firmly than the policy says.
    pub weaker_count: u64,
    /// The first of these.
    pub first_weaker: Option<String>,
    /// What could not be found out, and why.
    pub unreadable: Vec<String>,
}

/// Asks `store` until when what kept snapshots need is locked, and whether as firmly as `wanted`.
///
/// # Errors
/// When the store has no locks, or does not tell its versions; an object that cannot be asked about is in the report, and counts
/// as not locked.
pub fn look_at_locks(
    store: &dyn ObjectStore,
    needed: &Needed,
    view: LockView,
    wanted: Option<RetentionMode>,
) -> Result<LockReport, EngineError> {
    let cloud = cloud_of(store)?;
    let objects = present(store, &needed.objects())?;
    let versions = view.versions(cloud, &objects)?;
    let asked = map(in_flight(store), &objects, |name| -> Result<Option<Retention>, EngineError> {
        let key = key_of(*name)?;
        let Some(ids) = versions.get(name) else { return Ok(cloud.retention(&key, None)?) };
        let mut weakest: Option<Retention> = None;
        for id in ids {
            let Some(one) = cloud.retention(&key, Some(id))? else { return Ok(None) };
            weakest = Some(weakest.map_or(one, |other| Retention {
                mode: if is_as_firm(one.mode, other.mode) { other.mode } else { one.mode },
                until_s: one.until_s.min(other.until_s),
            }));
        }
        Ok(weakest)
    });
    let mut report = LockReport { object_count: objects.len() as u64, ..LockReport::default() };
    report.unreadable.clone_from(&needed.unreadable);
    let mut until: BTreeMap<String, Option<u64>> = BTreeMap::new();
    for (name, asked) in objects.iter().zip(asked) {
        let retention = asked.unwrap_or_else(|error| {
            report.unreadable.push(format!("{name}: {}", crate::log::explain(&error)));
            None
        });
        report.unlocked_count += u64::from(retention.is_none());
        if let (Some(retention), Some(wanted)) = (retention, wanted)
            && !is_as_firm(retention.mode, wanted)
        {
            report.weaker_count += 1;
            report.first_weaker.get_or_insert_with(|| name.to_string());
        }
        until.insert(name.to_string(), retention.map(|retention| retention.until_s));
    }
    let expiry_of = |name: &ObjectName| {
        let object = name.to_string();
        Expiry { until_s: until.get(&object).copied().flatten(), object }
    };
    // What is not locked ends before anything else.
    let is_present = |name: &&ObjectName| until.contains_key(&name.to_string());
    let common = needed.common.iter().filter(is_present).map(expiry_of).min_by_key(|expiry| expiry.until_s);
    for (snapshot, packs) in &needed.packs {
        let own =
            packs.iter().map(|pack| expiry_of(&ObjectName::Pack(*pack))).min_by_key(|expiry| expiry.until_s);
        let first = common.iter().cloned().chain(own).min_by_key(|expiry| expiry.until_s);
        report.snapshots.extend(first.map(|expiry| (*snapshot, expiry)));
    }
    Ok(report)
}
