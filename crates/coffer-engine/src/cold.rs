//! Packs in an archive class: which of those that are needed are there, and asking for the others.

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
    /// Packs that are archived and were not asked for.
    pub archived: Vec<PackId>,
    /// Their length in bytes.
    pub archived_bytes: u64,
    /// Packs that were asked for and are on their way.
    pub coming_count: u64,
}

impl ColdState {
    /// Whether everything that is known to be needed can be read.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        self.archived.is_empty() && self.coming_count == 0
    }

    /// Asks how each pack is kept.
    ///
    /// # Errors
    /// The first question that failed.
    pub fn look(store: &dyn ObjectStore, needs: &Needs) -> Result<Self, EngineError> {
        let cloud = cloud_of(store)?;
        let packs: Vec<_> = needs.packs.iter().collect();
        let asked = map(in_flight(store), &packs, |(id, _)| {
            Ok::<_, EngineError>(cloud.storage_class(&key_of(ObjectName::Pack(**id))?, None)?.access)
        });
        let mut state = Self::default();
        for ((id, need), access) in packs.into_iter().zip(asked) {
            match access? {
                Reach::Now => state.ready_count += 1,
                Reach::Restored(until_s) => {
                    state.ready_count += 1;
                    state.ready_until_s = match (state.ready_until_s, until_s) {
                        (Some(one), Some(other)) => Some(one.min(other)),
                        (one, other) => one.or(other),
                    };
                }
                Reach::Restoring => state.coming_count += 1,
                Reach::Archived => {
                    state.archived.push(*id);
                    state.archived_bytes += need.len;
                }
            }
        }
        Ok(state)
    }

    /// Asks for those that are archived.
    ///
    /// # Errors
    /// The first request that failed; the others were made.
    pub fn request(&self, store: &dyn ObjectStore, days: u32, tier: RestoreTier) -> Result<(), EngineError> {
        let cloud = cloud_of(store)?;
        let asked = map(in_flight(store), &self.archived, |id| {
            Ok::<_, EngineError>(cloud.request_restore(&key_of(ObjectName::Pack(*id))?, None, days, tier)?)
        });
        asked.into_iter().collect()
    }
}

pub(crate) fn cloud_of(store: &dyn ObjectStore) -> Result<&dyn CloudStore, StoreError> {
    let (url, what) = (store.url(), "locks, versions or archive classes, as a bucket has");
    store.cloud().ok_or(StoreError::Unsupported { store: url, what })
}
