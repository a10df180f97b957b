//! Packs in an archive class: which of those that are needed are there, and asking for the others.
//!
//! Of several stores, one that has a pack at hand is enough: then none is asked to bring it back.

use std::sync::Arc;

use coffer_format::id::PackId;
use coffer_format::object::ObjectName;
use coffer_store::{Access as Reach, CloudStore, ObjectStore, RestoreTier, StoreError};

use crate::access::key_of;
use crate::error::EngineError;
use crate::needs::Needs;
use crate::parallel::{in_flight, map};

/// How the packs that are needed are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColdState {
    /// Packs that can be read now.
    pub ready_count: u64,
    /// Of those that are copies of archived ones, when the first copy goes, in seconds since 1970.
    pub ready_until_s: Option<u64>,
    /// Packs that are archived wherever they are and were not asked for.
    pub archived: Vec<ArchivedPack>,
    /// Their length in bytes.
    pub archived_bytes: u64,
    /// Packs that were asked for and are on their way.
    pub coming_count: u64,
}

/// A pack that is archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedPack {
    /// The pack.
    pub id: PackId,
    /// Which of the stores have it, by their places.
    pub stores: Vec<usize>,
}

/// How a pack is kept, as far as was asked.
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

    /// Asks how each pack is kept: the first store for all, each further one for those that no store before it has at hand.
    ///
    /// # Errors
    /// For a pack that no store gives, what the first one said.
    pub fn look(stores: &[Arc<dyn ObjectStore>], needs: &Needs) -> Result<Self, EngineError> {
        let mut packs: Vec<_> =
            needs.packs.iter().map(|(id, need)| (*id, need.len, Kept::Nowhere(None))).collect();
        for (at, store) in stores.iter().enumerate() {
            let wanted: Vec<_> = packs
                .iter_mut()
                .filter(|(_, _, kept)| !kept.is_ready())
                .map(|(id, _, kept)| (*id, kept))
                .collect();
            let ids: Vec<_> = wanted.iter().map(|(id, _)| *id).collect();
            let asked = map(in_flight(&**store), &ids, |id| reach(&**store, *id));
            for ((_, kept), answer) in wanted.into_iter().zip(asked) {
                *kept = std::mem::replace(kept, Kept::Nowhere(None)).and(at, answer);
            }
        }
        let mut state = Self::default();
        for (id, len, kept) in packs {
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
                    state.archived.push(ArchivedPack { id, stores });
                    state.archived_bytes += len;
                }
                Kept::Nowhere(Some(error)) => return Err(error),
                Kept::Nowhere(None) => return Err(EngineError::invalid("no store was asked for a pack")),
            }
        }
        Ok(state)
    }

    /// Asks for those that are archived, each in the first of the stores that have it and bring it back.
    ///
    /// # Errors
    /// For the first pack that none brings back, what the first store said; the other requests were made.
    pub fn request(
        &self,
        stores: &[Arc<dyn ObjectStore>],
        days: u32,
        tier: RestoreTier,
    ) -> Result<(), EngineError> {
        let in_flight = stores.iter().map(|store| in_flight(&**store)).max().unwrap_or(1);
        let asked = map(in_flight, &self.archived, |pack| {
            let key = key_of(ObjectName::Pack(pack.id))?;
            let mut failure = None;
            for at in &pack.stores {
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

/// How a store keeps a pack. What is no bucket has no archive.
fn reach(store: &dyn ObjectStore, pack: PackId) -> Result<Reach, EngineError> {
    let key = key_of(ObjectName::Pack(pack))?;
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
