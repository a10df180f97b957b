//! Objects in an archive class: which of those that are needed are there, and asking for the others.
//!
//! Of several stores, one that has an object at hand is enough: then none is asked to bring it back.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use coffer_format::id::SlotId;
use coffer_format::object::{INDEX_PREFIX, LOG_PREFIX, ObjectName, SLOTS_PREFIX};
use coffer_store::{Access as Reach, CloudStore, ListItem, ObjectStore, RestoreTier, StoreError};

use crate::access::key_of;
use crate::error::EngineError;
use crate::needs::Needs;
use crate::parallel::{in_flight, map};

/// How the objects that are needed are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColdState {
    /// Objects that can be read now.
    pub ready_count: u64,
    /// Of those that are copies of archived ones, when the first copy goes, in seconds since 1970.
    pub ready_until_s: Option<u64>,
    /// Objects that are archived wherever they are and were not asked for.
    pub archived: Vec<ArchivedObject>,
    /// Their length in bytes.
    pub archived_bytes: u64,
    /// Objects that were asked for and are on their way.
    pub coming_count: u64,
}

/// An object that is archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedObject {
    /// Its name.
    pub name: ObjectName,
    /// Which of the stores have it, by their places.
    pub stores: Vec<usize>,
}

/// How an object is kept, as far as was asked.
#[derive(Debug)]
enum Kept {
    Ready(Option<u64>),
    Coming,
    Archived(Vec<usize>),
    /// No store gave it so far; what the first one said.
    Nowhere(Option<EngineError>),
}

impl Kept {
    const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }

    /// With what the store at the place `at` says.
    fn and(self, at: usize, answer: Result<Reach, EngineError>) -> Self {
        match (self, answer) {
            (Self::Ready(until_s), _) => Self::Ready(until_s),
            (_, Ok(Reach::Now)) => Self::Ready(None),
            (_, Ok(Reach::Restored(until_s))) => Self::Ready(until_s),
            (_, Ok(Reach::Restoring)) | (Self::Coming, _) => Self::Coming,
            (Self::Archived(mut stores), Ok(Reach::Archived)) => {
                stores.push(at);
                Self::Archived(stores)
            }
            (Self::Nowhere(_), Ok(Reach::Archived)) => Self::Archived(vec![at]),
            (Self::Nowhere(None), Err(error)) => Self::Nowhere(Some(error)),
            (kept, Err(_)) => kept,
        }
    }
}

impl ColdState {
    /// Whether everything that is known to be needed can be read.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.archived.is_empty() && self.coming_count == 0
    }

    /// Asks how each pack and index segment of these is kept: the first store for all, each further one for those that no store before it has at hand.
    ///
    /// # Errors
    /// For an object that no store gives, what the first one said.
    pub fn look(stores: &[Arc<dyn ObjectStore>], needs: &Needs) -> Result<Self, EngineError> {
        let packs = needs.packs.iter().map(|(id, need)| (ObjectName::Pack(*id), need.len));
        let segments = needs.segments.iter().map(|(id, len)| (ObjectName::Segment(*id), *len));
        Self::look_at(stores, segments.chain(packs))
    }

    /// As [`Self::look`], for key slots: a vault that opened with one of them may have others that are archived. One that is lost is
    /// passed over, as nothing brings it back.
    #[must_use]
    pub fn look_at_slots(stores: &[Arc<dyn ObjectStore>], slots: &[SlotId]) -> Self {
        let mut all = Self::default();
        for id in slots {
            let Ok(one) = Self::look_at(stores, std::iter::once((ObjectName::Slot(*id), 0))) else {
                continue;
            };
            all.ready_count += one.ready_count;
            all.coming_count += one.coming_count;
            all.archived.extend(one.archived);
        }
        all
    }

    /// As [`Self::look`], for what a vault is opened and looked up with: header, log, key slots and index segments, as the stores list
    /// them. Those are no packs, so that nothing else tells which of them are needed.
    ///
    /// # Errors
    /// As there, and when a store cannot be listed.
    pub fn look_at_all_but_packs(stores: &[Arc<dyn ObjectStore>]) -> Result<Self, EngineError> {
        let mut names = BTreeMap::new();
        for store in stores {
            for prefix in [LOG_PREFIX, SLOTS_PREFIX, INDEX_PREFIX] {
                store.list(prefix, None, &mut |item: ListItem| {
                    if let Some(name) = ObjectName::parse(&item.name) {
                        names.insert(name, item.len);
                    }
                    ControlFlow::Continue(())
                })?;
            }
            if let Ok(stat) = store.stat(&key_of(ObjectName::Header)?) {
                names.insert(ObjectName::Header, stat.len);
            }
        }
        Self::look_at(stores, names.into_iter())
    }

    fn look_at(
        stores: &[Arc<dyn ObjectStore>],
        objects: impl Iterator<Item = (ObjectName, u64)>,
    ) -> Result<Self, EngineError> {
        let mut objects: Vec<_> = objects.map(|(name, len)| (name, len, Kept::Nowhere(None))).collect();
        for (at, store) in stores.iter().enumerate() {
            let wanted: Vec<_> = objects
                .iter_mut()
                .filter(|(_, _, kept)| !kept.is_ready())
                .map(|(name, _, kept)| (*name, kept))
                .collect();
            let names: Vec<_> = wanted.iter().map(|(name, _)| *name).collect();
            let asked = map(in_flight(&**store), &names, |name| reach(&**store, *name));
            for ((_, kept), answer) in wanted.into_iter().zip(asked) {
                *kept = std::mem::replace(kept, Kept::Nowhere(None)).and(at, answer);
            }
        }
        let mut state = Self::default();
        for (name, len, kept) in objects {
            match kept {
                Kept::Ready(until_s) => {
                    state.ready_count += 1;
                    state.ready_until_s = match (state.ready_until_s, until_s) {
                        (Some(one), Some(other)) => Some(one.min(other)),
                        (one, other) => one.or(other),
                    };
                }
                Kept::Coming => state.coming_count += 1,
                Kept::Archived(stores) => {
                    state.archived.push(ArchivedObject { name, stores });
                    state.archived_bytes += len;
                }
                Kept::Nowhere(Some(error)) => return Err(error),
                Kept::Nowhere(None) => return Err(EngineError::invalid("no store was asked for an object")),
            }
        }
        Ok(state)
    }

    /// Asks for those that are archived, each in the first of the stores that have it and bring it back.
    ///
    /// # Errors
    /// For the first object that none brings back, what the first store said; the other requests were made.
    pub fn request(
        &self,
        stores: &[Arc<dyn ObjectStore>],
        days: u32,
        tier: RestoreTier,
    ) -> Result<(), EngineError> {
        let in_flight = stores.iter().map(|store| in_flight(&**store)).max().unwrap_or(1);
        let asked = map(in_flight, &self.archived, |object| {
            let key = key_of(object.name)?;
            let mut failure = None;
            for at in &object.stores {
                match cloud_of(&*stores[*at])?.request_restore(&key, None, days, tier) {
                    Ok(()) => return Ok(()),
                    Err(error) => drop(failure.get_or_insert(error)),
                }
            }
            failure.map_or(Ok(()), |error| Err(EngineError::from(error)))
        });
        asked.into_iter().collect()
    }
}

/// How a store keeps an object. What is no bucket has no archive.
fn reach(store: &dyn ObjectStore, name: ObjectName) -> Result<Reach, EngineError> {
    let key = key_of(name)?;
    match store.cloud() {
        Some(cloud) => Ok(cloud.storage_class(&key, None)?.access),
        None => {
            store.stat(&key)?;
            Ok(Reach::Now)
        }
    }
}

pub(crate) fn cloud_of(store: &dyn ObjectStore) -> Result<&dyn CloudStore, StoreError> {
    let (url, what) = (store.url(), "locks, versions or archive classes, as a bucket has");
    store.cloud().ok_or(StoreError::Unsupported { store: url, what })
}
