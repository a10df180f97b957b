//! Opaque objects on disk, in memory and on object storage.
//!
//! An [`ObjectStore`] keeps immutable byte strings under validated names. It offers what a vault needs and no more:
//! create-if-absent, whole and ranged reads, length, listing, deletion. It refuses to know what an object holds and to
//! overwrite one. No promise of it rests on a clock; S3 reads one, as signatures and time-outs need it.
//!
//! The trait is blocking and called from many threads at once; a backend that needs an asynchronous runtime holds its
//! own inside.
//!
//! - [`MemoryStore`], [`LocalStore`] and [`S3Store`] keep objects; [`RetryStore`] and [`CountingStore`] wrap a store
//!   and are one.
//! - [`VersionedStore`] says which version of an object counts, [`RetainingStore`] retains what it creates.
//! - [`CloudStore`] is what object storage has besides: versions, locks, archive classes.
//! - [`probe`] finds out whether a store keeps the promises below, above all whether its conditional create can be
//!   trusted.
//! - [`Location`] parses what an operator types for a store.

mod cloud;
mod counting;
mod error;
mod key;
mod limit;
mod local;
mod memory;
mod probe;
mod regions;
mod retained;
mod retry;
mod s3;
mod uploads;
mod url;
mod versioned;

use std::fmt::Debug;
use std::ops::ControlFlow;
use std::sync::Arc;

pub use cloud::{
    Access, BucketFacts, ClockAhead, CloudStore, Fact, ObjectLock, Protection, RestoreTier, Retention,
    RetentionMode, StorageState, VersionItem, Versioning,
};
pub use counting::{CountingStore, RequestCounter, RequestCounts};
pub use error::{Cause, CredentialFault, StoreError};
pub use key::{COMPONENT_LEN_MAX, KEY_LEN_MAX, ObjectKey};
pub use limit::RateLimit;
pub use local::{LocalStore, TempFile};
pub use memory::MemoryStore;
pub use probe::{ProbeCheck, ProbeFact, ProbeReport, Support, probe};
pub use regions::{CosLocation, LOCATIONS, Network, Resiliency};
pub use retained::RetainingStore;
pub use retry::{RetryPolicy, RetryStore};
pub use s3::{
    ApiKey, AwsKeys, AwsSettings, BearerSource, BearerToken, CosCredentials, Credentials, RequestFailure,
    S3Options, S3Store, TokenError, TokenFault,
};
pub use uploads::{
    ChecksumUse, Checksums, ChunkedUse, Trial, UploadChecksum, UploadFacts, UploadForm, UploadMemory,
};
pub use url::{Location, S3Location, S3Place};
pub use versioned::{VersionRule, VersionedStore};

/// Whether [`ObjectStore::put_if_absent`] made the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PutOutcome {
    /// This call created the object, and it holds this call's bytes.
    Created,
    /// An object of that name was there before; it is unchanged, and may or may not hold the same bytes.
    AlreadyExists,
}

/// What a store knows of an object without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectStat {
    /// Length of the object in bytes.
    pub len: u64,
}

/// Whether a listed name can be an object of a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ItemKind {
    /// Readable through an [`ObjectKey`] of the same name.
    Object,
    /// Something else that lies in the store: its name is no valid key, or it is a symbolic link, a special file or a
    /// directory where none belongs. It is never read or followed.
    Foreign,
}

/// One name that a listing shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListItem {
    /// Name relative to the store. Of a foreign item it is for messages only: bytes that are not UTF-8 are replaced,
    /// and the name of a directory ends in `/`.
    pub name: String,
    /// Length in bytes; 0 for a foreign item that is not a regular file.
    pub len: u64,
    /// Whether this can be an object.
    pub kind: ItemKind,
}

/// Makes a request, once or until it succeeds, and gives what it gave at last.
pub type Attempt<'a> = &'a dyn Fn(&mut dyn FnMut() -> Result<(), StoreError>) -> Result<(), StoreError>;

/// Waits that a store asked for, by saying how long it wants to be left alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct AskedWaits {
    /// Calls that wait so now.
    pub under_way_count: u64,
    /// Such waits that are over.
    pub ended_count: u64,
}

/// A flat space of immutable objects.
///
/// All calls may be made from many threads at once. Once a call that writes has returned `Ok`, its effect is durable
/// and every later read of that key sees it. After an error of a writing call the effect is unknown unless the variant
/// says otherwise: the object is there whole or not at all, never in part.
///
/// One name must not be a directory prefix of another (`a` and `a/b`); a store may refuse that.
pub trait ObjectStore: Send + Sync + Debug {
    /// Creates the object `key` with exactly the bytes `body`, unless one of that name exists. Never overwrites.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`], [`StoreError::Denied`], [`StoreError::Unavailable`], [`StoreError::SyncFailed`] and
    /// others; whether the object is there is unknown then.
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError>;

    /// As [`Self::put_if_absent`], with bytes that the store may hold on to while it sends them, and need not copy for that.
    ///
    /// # Errors
    /// As there.
    fn put_shared_if_absent(&self, key: &ObjectKey, body: &Arc<Vec<u8>>) -> Result<PutOutcome, StoreError> {
        self.put_if_absent(key, body)
    }

    /// Reads the whole object of at most `len_max` bytes into `out`, whose content is dropped and whose allocation is
    /// reused. On error `out` is empty.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::TooLong`], found before anything is allocated;
    /// [`StoreError::LengthChanged`] when the object was not what its length promised.
    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError>;

    /// Fills `out` with the bytes from `offset` on. An empty `out` asks whether the object reaches to `offset`. On
    /// error the content of `out` is unspecified.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Truncated`] when the object ends before `offset + out.len()`.
    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError>;

    /// Tells the length of an object.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError>;

    /// Visits every name that starts with the string `prefix` and is greater bytewise than `start_after`, in any
    /// order, foreign names included, until `visit` breaks. `visit` may call the store.
    ///
    /// A listing is a hint: an object created or deleted while it runs may be shown or not.
    ///
    /// # Errors
    /// After an error any part of the names may have been visited.
    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    /// As [`Self::list`], with each request that it takes made by `attempt`, which may make it more than once; what was shown before
    /// is not asked for again. A store that lists in one go, as this does by itself, is asked for all of it each time, and may show
    /// names twice.
    ///
    /// # Errors
    /// As there, and what `attempt` ends with.
    fn list_by(
        &self,
        attempt: Attempt<'_>,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        attempt(&mut || self.list(prefix, start_after, visit))
    }

    /// Removes an object; that it is absent already is no error. Unlike a creation it need not survive a crash of the
    /// machine.
    ///
    /// # Errors
    /// [`StoreError::Denied`] when the store does not allow it, as under a retention lock.
    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError>;

    /// Where the store is, for messages. Holds no secret.
    fn url(&self) -> String;

    /// The store as no other one is called: its address, and of a bucket that is not where its address says, the service that has it. What is
    /// remembered of a store is kept under this.
    fn place(&self) -> String {
        self.url()
    }

    /// The bytes that a range of this object gave were found wrong. Says whether another copy of it will be read from now
    /// on, so that trying once more is worth it; only a store that keeps several can say so.
    fn distrust(&self, _key: &ObjectKey) -> bool {
        false
    }

    /// How many requests are worth having under way at once. One means that a request costs no more than its work, as on
    /// a disk; more, that each waits for an answer from far away, so that requests are better made side by side, and what
    /// they brought is better kept.
    fn parallelism_hint(&self) -> usize {
        1
    }

    /// How many bytes have gone to the store and come from it so far, those of transfers under way included. Where this grows,
    /// the store is slow and does not hang. One that counts nothing says 0, and tells nothing by that.
    fn moved_bytes(&self) -> u64 {
        0
    }

    /// How many calls wait because the store asked for it, and how many have. While one does, the store does not hang, though nothing moves.
    fn asked_waits(&self) -> AskedWaits {
        AskedWaits::default()
    }

    /// Which version of a name counts, for each store in it that keeps versions and knows by now: its URL and the rule. Asks
    /// nothing.
    fn version_rules(&self) -> Vec<(String, VersionRule)> {
        Vec::new()
    }

    /// From now on this rule holds in each store in it that keeps versions and was told none: the object that tells it is not there.
    /// A store that is shown as it was stays so. Says whether one of them goes by the oldest versions from now on, which went by the
    /// newest. Asks nothing.
    fn settle_rule(&self, _rule: VersionRule) -> bool {
        false
    }

    /// Names over which something was laid, as far as listings showed it, and whose first version counts all the same. Asks
    /// nothing.
    fn overwritten(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the store has beyond plain objects, if it is one of object storage.
    fn cloud(&self) -> Option<&dyn CloudStore> {
        None
    }
}

macro_rules! forward_to_inner {
    ($($wrapper:ty),+) => {$(
        impl<T: ObjectStore + ?Sized> ObjectStore for $wrapper {
            fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
                (**self).put_if_absent(key, body)
            }

            fn put_shared_if_absent(&self, key: &ObjectKey, body: &Arc<Vec<u8>>) -> Result<PutOutcome, StoreError> {
                (**self).put_shared_if_absent(key, body)
            }

            fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
                (**self).read(key, len_max, out)
            }

            fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
                (**self).read_range(key, offset, out)
            }

            fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
                (**self).stat(key)
            }

            fn list(
                &self,
                prefix: &str,
                start_after: Option<&str>,
                visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
            ) -> Result<(), StoreError> {
                (**self).list(prefix, start_after, visit)
            }

            fn list_by(
                &self,
                attempt: Attempt<'_>,
                prefix: &str,
                start_after: Option<&str>,
                visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
            ) -> Result<(), StoreError> {
                (**self).list_by(attempt, prefix, start_after, visit)
            }

            fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
                (**self).delete(key)
            }

            fn url(&self) -> String {
                (**self).url()
            }

            fn place(&self) -> String {
                (**self).place()
            }

            fn distrust(&self, key: &ObjectKey) -> bool {
                (**self).distrust(key)
            }

            fn parallelism_hint(&self) -> usize {
                (**self).parallelism_hint()
            }

            fn moved_bytes(&self) -> u64 {
                (**self).moved_bytes()
            }

            fn asked_waits(&self) -> AskedWaits {
                (**self).asked_waits()
            }

            fn version_rules(&self) -> Vec<(String, VersionRule)> {
                (**self).version_rules()
            }

            fn settle_rule(&self, rule: VersionRule) -> bool {
                (**self).settle_rule(rule)
            }

            fn overwritten(&self) -> Vec<String> {
                (**self).overwritten()
            }

            fn cloud(&self) -> Option<&dyn CloudStore> {
                (**self).cloud()
            }
        }
    )+};
}

forward_to_inner!(&T, Arc<T>, Box<T>);
