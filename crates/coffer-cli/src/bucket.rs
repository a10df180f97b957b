//! A bucket as a store of a vault: which version of an object counts, and what new objects are retained for.
//!
//! Which version counts follows from the mode in the vault's header, which the bucket itself holds.

use std::sync::Arc;

use anyhow::Result;
use coffer_crypto::{OsRng, rng};
use coffer_engine::{Clock, LockPolicy};
use coffer_format::header::{Header, StoreMode};
use coffer_format::id::VaultId;
use coffer_format::limits::HEADER_LEN_MAX;
use coffer_format::object::{LOG_PREFIX, ObjectName};
use coffer_store::{
    ObjectKey, ObjectStore, RequestCounter, RetainingStore, RetryPolicy, RetryStore, S3Store, Support,
    VersionRule, VersionedStore,
};

use crate::clock::SystemClock;

type Plain = RetryStore<S3Store>;
type Versioned = VersionedStore<Arc<Plain>>;

/// The layers of one bucket.
#[derive(Clone)]
pub(crate) struct Bucket {
    plain: Arc<Plain>,
    versioned: Arc<Versioned>,
    retaining: Arc<RetainingStore<Arc<Versioned>>>,
    counter: RequestCounter,
}

impl Bucket {
    /// Wraps a store whose requests `counter` counts; with `as_of_ms`, as it was at that time. A header of another vault than
    /// the `expected` one is not believed: somebody may have laid it over the one that was there first.
    pub(crate) fn new(
        store: S3Store,
        counter: RequestCounter,
        as_of_ms: Option<u64>,
        expected: Option<VaultId>,
    ) -> Result<Self> {
        let seed = u64::from_le_bytes(rng::array(&OsRng)?);
        let plain = Arc::new(RetryStore::new(store, RetryPolicy::remote(), seed));
        let header = (ObjectKey::new(ObjectName::Header.to_string())?, HEADER_LEN_MAX);
        let first_rule = as_of_ms.map_or(VersionRule::NewestElseOldest, VersionRule::AsOf);
        let decide = move |bytes: &[u8]| {
            let header = Header::decode(bytes).ok()?;
            if expected.is_some_and(|expected| expected != Header::vault_id(bytes)) {
                return None;
            }
            Some(rule_of(header.store_mode, as_of_ms))
        };
        let versioned = VersionedStore::by_object(Arc::clone(&plain), header, first_rule, decide);
        // Two records of one number may both be signed by somebody enrolled: the log goes by the one that was there first.
        let versioned = Arc::new(versioned.reading_first(LOG_PREFIX));
        let retaining = Arc::new(RetainingStore::new(Arc::clone(&versioned)));
        Ok(Self { plain, versioned, retaining, counter })
    }

    /// The store that a vault works on.
    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        self.retaining.clone()
    }

    /// The bucket as it is, for a probe.
    pub(crate) fn plain(&self) -> &dyn ObjectStore {
        &*self.plain
    }

    pub(crate) const fn counter(&self) -> &RequestCounter {
        &self.counter
    }

    /// The mode of the vault that is about to be made here.
    pub(crate) fn settle(&self, mode: StoreMode) {
        self.versioned.settle(rule_of(mode, None));
    }

    /// From now on what is stored is retained.
    pub(crate) fn retain(&self, policy: LockPolicy) {
        let clock = SystemClock::new();
        self.retaining.retain(policy.mode, move || policy.until_s(clock.now_ns().div_euclid(1_000_000_000)));
    }
}

const fn rule_of(mode: StoreMode, as_of_ms: Option<u64>) -> VersionRule {
    match (mode, as_of_ms) {
        (StoreMode::OldestVersion, None) => VersionRule::Oldest,
        (StoreMode::OldestVersion, Some(at_ms)) => VersionRule::OldestAsOf(at_ms),
        (_, Some(at_ms)) => VersionRule::AsOf(at_ms),
        (StoreMode::SingleWriter, None) => VersionRule::OneWriter,
        (StoreMode::ConditionalCreate, None) => VersionRule::NewestElseOldest,
    }
}

/// How a vault's writers share the store, by its mode.
pub(crate) const fn support_of(mode: StoreMode) -> Support {
    match mode {
        StoreMode::ConditionalCreate => Support::ConditionalCreate,
        StoreMode::OldestVersion => Support::OldestVersion,
        StoreMode::SingleWriter => Support::SingleWriter,
    }
}

/// The mode that a store allows.
pub(crate) const fn mode_of(support: Support) -> StoreMode {
    match support {
        Support::ConditionalCreate => StoreMode::ConditionalCreate,
        Support::OldestVersion => StoreMode::OldestVersion,
        Support::SingleWriter => StoreMode::SingleWriter,
    }
}

/// What a mode means for the user.
pub(crate) const fn told(support: Support) -> &'static str {
    match support {
        Support::ConditionalCreate => "several machines may write at once: the store creates each name once",
        Support::OldestVersion => {
            "several machines may write at once: the store ignores the condition of a create, but keeps versions, and the \
             oldest version of a name counts"
        }
        Support::SingleWriter => {
            "only one machine may write, and never two commands at once: the store does not create exclusively and keeps no \
             versions; a second writer would overwrite the log"
        }
    }
}
