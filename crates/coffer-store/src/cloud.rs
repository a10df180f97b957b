//! What object storage has beyond plain objects: versions, locks, archive classes, facts of the bucket.
//!
//! A store that has them gives itself out by [`ObjectStore::cloud`](crate::ObjectStore::cloud); a local directory has
//! none of it. Each call is one wish to the store: nothing here decides when to lock, restore or fall back, and nothing
//! shortens a retention or lifts a protection of the bucket.
//!
//! Where a call takes the id of a version, `None` stands for the newest one.
//!
//! Times are seconds or milliseconds since 1970, in UTC, as the store tells them.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::{Attempt, Checksums, ObjectKey, PutOutcome, StoreError, Trial, UploadFacts, UploadForm};

/// The calls of a store on S3 or Cloud Object Storage that a plain [`ObjectStore`](crate::ObjectStore) has not.
///
/// What the store does not know fails with [`StoreError::Unsupported`]. All else that may fail is what fails on any
/// store.
pub trait CloudStore: Send + Sync {
    /// Asks what the bucket is set to. What the credentials may not see, or the store does not know, comes as
    /// [`Fact::Unknown`].
    ///
    /// # Errors
    /// [`StoreError::NoBucket`], and when the store cannot be reached or refuses the credentials altogether.
    fn bucket_facts(&self) -> Result<BucketFacts, StoreError>;

    /// Visits every version and every delete marker of the names that start with `prefix`, until `visit` breaks. Names
    /// come in any order. Of one name the newest comes first, as far as the store keeps its word; times alone cannot
    /// tell, as they may be equal. A bucket that was never versioned shows each object once, with the id `null`.
    ///
    /// # Errors
    /// After an error any part may have been visited.
    fn versions(
        &self,
        prefix: &str,
        visit: &mut dyn FnMut(VersionItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    /// As [`Self::versions`], with each request that it takes made by `attempt`: see [`ObjectStore::list_by`](crate::ObjectStore::list_by).
    ///
    /// # Errors
    /// As there, and what `attempt` ends with.
    fn versions_by(
        &self,
        attempt: Attempt<'_>,
        prefix: &str,
        visit: &mut dyn FnMut(VersionItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        attempt(&mut || self.versions(prefix, visit))
    }

    /// How far the clock of this machine is from that of the store, as its last answer told; `None` before one told a time. Asks
    /// nothing.
    fn clock_ahead(&self) -> Option<ClockAhead> {
        None
    }

    /// Whether the bucket keeps versions, as far as what was read until now shows it; `None` before anything was read. Asks
    /// nothing.
    fn keeps_versions(&self) -> Option<bool>;

    /// Reads one version whole, under the rules of [`ObjectStore::read`](crate::ObjectStore::read).
    ///
    /// # Errors
    /// [`StoreError::NotFound`] also for a delete marker.
    fn read_version(
        &self,
        key: &ObjectKey,
        version_id: &str,
        len_max: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError>;

    /// Fills `out` with bytes of one version, under the rules of
    /// [`ObjectStore::read_range`](crate::ObjectStore::read_range).
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Truncated`].
    fn read_version_range(
        &self,
        key: &ObjectKey,
        version_id: &str,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), StoreError>;

    /// Creates an object as [`ObjectStore::put_if_absent`](crate::ObjectStore::put_if_absent) does, under a retention
    /// from its first moment. One that was there before is left as it is, its retention too.
    ///
    /// # Errors
    /// [`StoreError::Denied`] and [`StoreError::LockRefused`] when the bucket cannot lock, [`StoreError::ClockSkew`] when the
    /// clock of this machine, by which the retention was reckoned, is [too far](ClockAhead::is_too_far) from that of the store.
    fn put_if_absent_retained(
        &self,
        key: &ObjectKey,
        body: &[u8],
        retention: &Retention,
    ) -> Result<PutOutcome, StoreError>;

    /// As [`Self::put_if_absent_retained`], with bytes that the store may hold on to while it sends them.
    ///
    /// # Errors
    /// As there.
    fn put_shared_if_absent_retained(
        &self,
        key: &ObjectKey,
        body: &Arc<Vec<u8>>,
        retention: &Retention,
    ) -> Result<PutOutcome, StoreError> {
        self.put_if_absent_retained(key, body, retention)
    }

    /// Writes an object whether or not one is there, and tells the id of the version made; `None` when the bucket is
    /// not versioned, and then what was there is lost. For buckets whose conditional create cannot be trusted, and for
    /// finding that out.
    ///
    /// # Errors
    /// [`StoreError::Denied`] when what is there is protected and the bucket is not versioned.
    fn put_unconditional(
        &self,
        key: &ObjectKey,
        body: &[u8],
        retention: Option<&Retention>,
    ) -> Result<Option<String>, StoreError>;

    /// As [`Self::put_unconditional`], with bytes that the store may hold on to while it sends them.
    ///
    /// # Errors
    /// As there.
    fn put_shared_unconditional(
        &self,
        key: &ObjectKey,
        body: &Arc<Vec<u8>>,
        retention: Option<&Retention>,
    ) -> Result<Option<String>, StoreError> {
        self.put_unconditional(key, body, retention)
    }

    /// Creates an object as [`ObjectStore::put_if_absent`](crate::ObjectStore::put_if_absent) does, by an upload in parts
    /// however short it is. For finding out whether the condition holds there too.
    ///
    /// # Errors
    /// As those of a plain creation.
    fn put_if_absent_in_parts(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError>;

    /// Writes an object in this form, whatever is known of the store; with `if_absent`, under the condition that none of its
    /// name is there, which is then to be so. For finding out what the store does.
    ///
    /// # Errors
    /// When the store cannot be asked; that it does not take what it is given is [`Trial::Refused`].
    fn try_upload(
        &self,
        key: &ObjectKey,
        body: &[u8],
        form: UploadForm,
        if_absent: bool,
    ) -> Result<Trial, StoreError>;

    /// From now on uploads are made as follows from these facts, and from what was known before where they say nothing.
    fn learn_uploads(&self, facts: &UploadFacts);

    /// Which checksums uploads bring, as it was chosen.
    fn checksums(&self) -> Checksums;

    /// Tells until when an object is retained, `None` if it is not.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Denied`].
    fn retention(&self, key: &ObjectKey, version_id: Option<&str>) -> Result<Option<Retention>, StoreError>;

    /// Retains an object until `retention.until_s`, if that is later than what holds now; an earlier end is refused
    /// here, whatever the store would do. An object lock is set where there was none; of a bucket retention policy the
    /// mode is [`RetentionMode::Policy`].
    ///
    /// # Errors
    /// [`StoreError::Rejected`] for an earlier end or another kind of protection than the bucket has; [`StoreError::ClockSkew`]
    /// as for a creation.
    fn extend_retention(
        &self,
        key: &ObjectKey,
        version_id: Option<&str>,
        retention: &Retention,
    ) -> Result<(), StoreError>;

    /// Whether a legal hold lies on an object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Denied`].
    fn legal_hold(&self, key: &ObjectKey, version_id: Option<&str>) -> Result<bool, StoreError>;

    /// Lays a legal hold on an object or lifts the one that coffer laid. Doing it again is no error.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Denied`].
    fn set_legal_hold(
        &self,
        key: &ObjectKey,
        version_id: Option<&str>,
        is_held: bool,
    ) -> Result<(), StoreError>;

    /// Tells how an object is kept and whether it can be read now.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    fn storage_class(&self, key: &ObjectKey, version_id: Option<&str>) -> Result<StorageState, StoreError>;

    /// Asks for a readable copy of an archived object, for `days` days; one of S3 Intelligent-Tiering comes back itself, and stays until
    /// nobody has read it for long. That one is on its way already is no error.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] when the object is not archived or the tier is not offered.
    fn request_restore(
        &self,
        key: &ObjectKey,
        version_id: Option<&str>,
        days: u32,
        tier: RestoreTier,
    ) -> Result<(), StoreError>;

    /// Removes one version or one delete marker for good; that it is absent already is no error.
    ///
    /// # Errors
    /// [`StoreError::Denied`] when a retention or a legal hold protects it.
    fn delete_version(&self, key: &ObjectKey, version_id: &str) -> Result<(), StoreError>;
}

/// What a question about the bucket gave.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fact<T> {
    /// The store said so.
    Known(T),
    /// It could not be found out: missing rights, or a store without the call. The text says which.
    Unknown(String),
}

impl<T> Fact<T> {
    /// What the store said, if it said anything.
    #[must_use]
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}

/// What a bucket is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketFacts {
    /// Where the bucket is, in the store's words (`eu-central-1`, `eu-de-standard`).
    pub location: Fact<String>,
    /// Whether overwritten and deleted objects are kept.
    pub versioning: Fact<Versioning>,
    /// The object lock; `Known(None)` if the bucket has none.
    pub object_lock: Fact<Option<ObjectLock>>,
    /// The retention policy of Cloud Object Storage; `Known(None)` if the bucket has none.
    pub protection: Fact<Option<Protection>>,
    /// The root key that the store encrypts the bucket with (SSE-KP, SSE-KMS): its CRN, ARN or id; `Known(None)` if
    /// the store uses its own.
    pub root_key: Fact<Option<String>>,
}

impl BucketFacts {
    /// Nothing is known, for the reason given.
    #[must_use]
    pub fn unknown(reason: &str) -> Self {
        let unknown = || reason.to_owned();
        Self {
            location: Fact::Unknown(unknown()),
            versioning: Fact::Unknown(unknown()),
            object_lock: Fact::Unknown(unknown()),
            protection: Fact::Unknown(unknown()),
            root_key: Fact::Unknown(unknown()),
        }
    }
}

/// Whether a bucket keeps old versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Versioning {
    /// It never did.
    Off,
    /// It does.
    On,
    /// It did, and kept what it had.
    Suspended,
}

/// The object lock of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectLock {
    /// What every new object gets without asking: mode and days.
    pub default: Option<(RetentionMode, u32)>,
}

/// The retention policy of a bucket of Cloud Object Storage, in days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Protection {
    /// Shortest retention that an object may ask for.
    pub minimum_days: u32,
    /// What an object gets that asks for none.
    pub default_days: u32,
    /// Longest retention that an object may ask for.
    pub maximum_days: u32,
    /// Whether objects may be retained for ever.
    pub is_permanent_allowed: bool,
}

/// One version of an object, or a delete marker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionItem {
    /// Name relative to the store.
    pub name: String,
    /// The store's id of this version.
    pub version_id: String,
    /// Whether a read without version gives this one, or, of a delete marker, nothing.
    pub is_latest: bool,
    /// Whether it stands for a deletion.
    pub is_delete_marker: bool,
    /// When it was made, by the store's clock, in milliseconds since 1970.
    pub modified_ms: u64,
    /// Length in bytes; 0 for a delete marker.
    pub len: u64,
}

/// How long an object is protected, and how firmly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Retention {
    /// How firmly.
    pub mode: RetentionMode,
    /// End of it, in seconds since 1970.
    pub until_s: u64,
}

/// How firmly a retained object is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetentionMode {
    /// Object lock; those with a special right may shorten it.
    Governance,
    /// Object lock; nobody may shorten it.
    Compliance,
    /// The retention policy of a Cloud Object Storage bucket; nobody may shorten it.
    Policy,
}

/// Most seconds by which the clock of this machine may be off where locks are set: what stores allow for signatures.
const CLOCK_AHEAD_S_MAX: u64 = 15 * 60;

/// By how many seconds the clock of this machine is ahead of that of a store; negative if it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClockAhead(pub i64);

impl ClockAhead {
    /// Whether a lock that is reckoned by the clock of this machine would be too short or too long.
    #[must_use]
    pub const fn is_too_far(self) -> bool {
        self.0.unsigned_abs() > CLOCK_AHEAD_S_MAX
    }
}

impl fmt::Display for ClockAhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.0.unsigned_abs() / 60;
        f.write_str("the clock of this machine is ")?;
        match (minutes / (24 * 60), minutes / 60, minutes % 60) {
            (0, 0, minutes) => write!(f, "{minutes} min")?,
            (0, hours, minutes) => write!(f, "{hours} h {minutes} min")?,
            (days, hours, _) => write!(f, "{days} day(s) {} h", hours % 24)?,
        }
        f.write_str(if self.0 < 0 { " behind" } else { " ahead of" })?;
        f.write_str(" that of the store")
    }
}

/// How an object is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StorageState {
    /// The store's word for the class: `STANDARD`, `GLACIER`, `ACCELERATED` …
    pub class: String,
    /// Whether it can be read.
    pub access: Access,
}

/// Whether an object can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// At once.
    Now,
    /// It is archived: it must be asked for.
    Archived,
    /// It is archived and was asked for.
    Restoring,
    /// A copy of the archived object is there, until this second since 1970 if the store says so.
    Restored(Option<u64>),
}

/// How fast an archived object is wanted; stores charge for haste.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestoreTier {
    /// Cheapest: within half a day or more.
    Bulk,
    /// Within hours.
    Standard,
    /// Fastest: `Expedited` on AWS, `Accelerated` on Cloud Object Storage.
    Expedited,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_differ_by_more_than_signatures_allow_are_too_far_apart() {
        let check = |seconds, is_too_far, text: &str| {
            let ahead = ClockAhead(seconds);
            assert_eq!(ahead.is_too_far(), is_too_far, "{seconds}");
            assert_eq!(ahead.to_string(), format!("the clock of this machine is {text} that of the store"));
        };
        check(0, false, "0 min ahead of");
        check(900, false, "15 min ahead of");
        check(901, true, "15 min ahead of");
        check(-901, true, "15 min behind");
        check(3 * 3600 + 125, true, "3 h 2 min ahead of");
        check(-(50 * 3600), true, "2 day(s) 2 h behind");
        check(i64::MIN, true, "106751991167300 day(s) 15 h behind");
    }
}
