//! A store that tries again.
//!
//! [`RetryStore`] repeats a call whose error [is retryable](StoreError::is_retryable), a bounded number of times, with
//! exponential backoff and jitter, and no sooner than a store asked for. It reads no clock; how it waits comes from
//! outside. It repeats nothing else: a failed sync or a denied access stays what it is.
//!
//! It is the one place that tries again: a backend makes each request once. What gives tokens goes on by itself, as several
//! stores may wait for it: that it gave up is final here.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{
    AskedWaits, Attempt, BucketFacts, Checksums, ClockAhead, CloudStore, ListItem, ObjectKey, ObjectStat,
    ObjectStore, PutOutcome, RestoreTier, Retention, StorageState, StoreError, Trial, UploadFacts,
    UploadForm, VersionItem,
};

/// Longest piece read at once when an object is compared with what was to be written.
const COMPARE_LEN_MAX: usize = 1 << 20;

/// Longest wait that a store may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);

/// How often and how patiently to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Most attempts per call, the first included; 0 counts as 1.
    pub attempts_max: u32,
    /// Wait after the first failure, before jitter; doubled after each further one.
    pub delay_first: Duration,
    /// Longest wait.
    pub delay_max: Duration,
}

impl RetryPolicy {
    /// For a store behind a network: ten attempts over at most some eighty seconds of waiting.
    #[must_use]
    pub const fn remote() -> Self {
        Self { attempts_max: 10, delay_first: Duration::from_millis(200), delay_max: Duration::from_secs(30) }
    }

    /// Half of the backoff after so many failures, and a random part of the other half: that of `number` in the row of `seed`.
    #[must_use]
    pub fn delay_after(&self, failure_count: u32, seed: u64, number: u64) -> Duration {
        let full = self.backoff_after(failure_count);
        let counter = seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let share = (mix(counter) >> 32) as f64 / f64::from(u32::MAX);
        full / 2 + (full / 2).mul_f64(share)
    }

    /// All waits of one call together, at most, unless a store asks for more.
    #[must_use]
    pub fn wait_max(&self) -> Duration {
        (1..self.attempts_max).map(|failure_count| self.backoff_after(failure_count)).sum()
    }

    fn backoff_after(&self, failure_count: u32) -> Duration {
        let factor = 1u32.checked_shl(failure_count.saturating_sub(1)).unwrap_or(u32::MAX);
        self.delay_first.saturating_mul(factor).min(self.delay_max)
    }
}

impl Default for RetryPolicy {
    /// Six attempts over at most some seven seconds of waiting.
    fn default() -> Self {
        Self { attempts_max: 6, delay_first: Duration::from_millis(200), delay_max: Duration::from_secs(10) }
    }
}

/// A wrapper that retries the calls of `S`.
///
/// A creation whose reply was lost is settled: when a later attempt finds the object there, it is read back, and if it
/// holds the bytes that were to be written, the creation counts as this call's. Of a listing each page is retried by itself, with the
/// same patience for each; where a store lists in one go, all of it is, and shows each name once.
pub struct RetryStore<S> {
    inner: S,
    policy: RetryPolicy,
    seed: u64,
    wait_count: AtomicU64,
    asked_under_way_count: AtomicU64,
    asked_ended_count: AtomicU64,
    sleep: Box<dyn Fn(Duration) + Send + Sync>,
}

impl<S: ObjectStore> RetryStore<S> {
    /// Wraps `inner`; waits by putting the calling thread to sleep. `seed` spreads the waits of several clients: it
    /// should be random, it need not be secret.
    pub fn new(inner: S, policy: RetryPolicy, seed: u64) -> Self {
        Self::with_sleeper(inner, policy, seed, std::thread::sleep)
    }

    /// Wraps `inner` and waits by calling `sleep`.
    pub fn with_sleeper(
        inner: S,
        policy: RetryPolicy,
        seed: u64,
        sleep: impl Fn(Duration) + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            policy,
            seed,
            wait_count: AtomicU64::new(0),
            asked_under_way_count: AtomicU64::new(0),
            asked_ended_count: AtomicU64::new(0),
            sleep: Box::new(sleep),
        }
    }

    /// The wrapped store.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Makes `call` until it succeeds, fails for good, or has had its attempts.
    fn attempt<T>(&self, mut call: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut failure_count = 0;
        loop {
            match call() {
                Err(error) if error.is_retryable() => {
                    failure_count += 1;
                    if failure_count >= self.policy.attempts_max {
                        return Err(error);
                    }
                    let asked = error.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX);
                    let number = self.wait_count.fetch_add(1, Ordering::Relaxed);
                    self.wait(self.policy.delay_after(failure_count, self.seed, number), asked);
                }
                result => return result,
            }
        }
    }

    /// Waits for `delay`, or for as long as the store asked to be left alone.
    fn wait(&self, delay: Duration, asked: Duration) {
        if asked.is_zero() {
            return (self.sleep)(delay);
        }
        self.asked_under_way_count.fetch_add(1, Ordering::SeqCst);
        (self.sleep)(delay.max(asked));
        // It is over before it is not under way any more: who looks in between sees one or the other.
        self.asked_ended_count.fetch_add(1, Ordering::SeqCst);
        self.asked_under_way_count.fetch_sub(1, Ordering::SeqCst);
    }

    /// Creates by `put` until it is known whether the object is this call's.
    fn settle(
        &self,
        key: &ObjectKey,
        body: &[u8],
        mut put: impl FnMut() -> Result<PutOutcome, StoreError>,
    ) -> Result<PutOutcome, StoreError> {
        let mut is_effect_unknown = false;
        let outcome = self.attempt(|| {
            let result = put();
            is_effect_unknown |= result.is_err();
            result
        })?;
        if outcome == PutOutcome::Created || !is_effect_unknown {
            return Ok(outcome);
        }
        match self.holds(key, body) {
            Ok(true) => Ok(PutOutcome::Created),
            Ok(false) => Ok(PutOutcome::AlreadyExists),
            // A caller that writes must not be told that what it writes is missing.
            Err(StoreError::NotFound { name, store }) => Err(StoreError::Unavailable {
                name,
                store,
                source: "the object came and went while its creation was being settled".into(),
            }),
            Err(error) => Err(error),
        }
    }

    /// Whether the object `key` holds exactly `body`, compared piece by piece.
    fn holds(&self, key: &ObjectKey, body: &[u8]) -> Result<bool, StoreError> {
        if self.stat(key)?.len != body.len() as u64 {
            return Ok(false);
        }
        let mut piece = vec![0; body.len().min(COMPARE_LEN_MAX)];
        let mut offset = 0;
        for expected in body.chunks(COMPARE_LEN_MAX) {
            let piece = &mut piece[..expected.len()];
            self.read_range(key, offset, piece)?;
            if piece != expected {
                return Ok(false);
            }
            offset += expected.len() as u64;
        }
        Ok(true)
    }
}

impl<S: fmt::Debug> fmt::Debug for RetryStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryStore")
            .field("inner", &self.inner)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl<S: ObjectStore> ObjectStore for RetryStore<S> {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        self.settle(key, body, || self.inner.put_if_absent(key, body))
    }

    fn put_shared_if_absent(&self, key: &ObjectKey, body: &Arc<Vec<u8>>) -> Result<PutOutcome, StoreError> {
        self.settle(key, body, || self.inner.put_shared_if_absent(key, body))
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.attempt(|| self.inner.read(key, len_max, out))
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.attempt(|| self.inner.read_range(key, offset, out))
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        self.attempt(|| self.inner.stat(key))
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        // Names come in any order, so what was shown already is known by name: by a hash, 8 bytes for each.
        let hasher = RandomState::new();
        let mut shown = HashSet::new();
        let retry: Attempt<'_> = &|request| self.attempt(request);
        self.inner.list_by(retry, prefix, start_after, &mut |item| {
            if shown.insert(hasher.hash_one(&item.name)) { visit(item) } else { ControlFlow::Continue(()) }
        })
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.attempt(|| self.inner.delete(key))
    }

    fn url(&self) -> String {
        self.inner.url()
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn parallelism_hint(&self) -> usize {
        self.inner.parallelism_hint()
    }

    fn moved_bytes(&self) -> u64 {
        self.inner.moved_bytes()
    }

    fn asked_waits(&self) -> AskedWaits {
        let inner = self.inner.asked_waits();
        let under_way_count = self.asked_under_way_count.load(Ordering::SeqCst) + inner.under_way_count;
        let ended_count = self.asked_ended_count.load(Ordering::SeqCst) + inner.ended_count;
        AskedWaits { under_way_count, ended_count }
    }

    fn cloud(&self) -> Option<&dyn CloudStore> {
        self.inner.cloud().is_some().then_some(self)
    }
}

impl<S: ObjectStore> RetryStore<S> {
    fn inner_cloud(&self) -> Result<&dyn CloudStore, StoreError> {
        self.inner.cloud().ok_or_else(|| StoreError::Unsupported {
            store: self.inner.url(),
            what: "what only object storage has",
        })
    }
}

impl<S: ObjectStore> CloudStore for RetryStore<S> {
    fn bucket_facts(&self) -> Result<BucketFacts, StoreError> {
        self.attempt(|| self.inner_cloud()?.bucket_facts())
    }

    fn versions(
        &self,
        prefix: &str,
        visit: &mut dyn FnMut(VersionItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let hasher = RandomState::new();
        let mut shown = HashSet::new();
        let retry: Attempt<'_> = &|request| self.attempt(request);
        self.inner_cloud()?.versions_by(retry, prefix, &mut |item| {
            if shown.insert(hasher.hash_one((&item.name, &item.version_id))) {
                visit(item)
            } else {
                ControlFlow::Continue(())
            }
        })
    }

    fn clock_ahead(&self) -> Option<ClockAhead> {
        self.inner.cloud().and_then(CloudStore::clock_ahead)
    }

    fn keeps_versions(&self) -> Option<bool> {
        self.inner.cloud().and_then(CloudStore::keeps_versions)
    }

    fn read_version(
        &self,
        key: &ObjectKey,
        version_id: &str,
        len_max: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        self.attempt(|| self.inner_cloud()?.read_version(key, version_id, len_max, out))
    }

    fn read_version_range(
        &self,
        key: &ObjectKey,
        version_id: &str,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), StoreError> {
        self.attempt(|| self.inner_cloud()?.read_version_range(key, version_id, offset, out))
    }

    fn put_if_absent_retained(
        &self,
        key: &ObjectKey,
        body: &[u8],
        retention: &Retention,
    ) -> Result<PutOutcome, StoreError> {
        self.settle(key, body, || self.inner_cloud()?.put_if_absent_retained(key, body, retention))
    }

    fn put_shared_if_absent_retained(
        &self,
        key: &ObjectKey,
        body: &Arc<Vec<u8>>,
        retention: &Retention,
    ) -> Result<PutOutcome, StoreError> {
        self.settle(key, body, || self.inner_cloud()?.put_shared_if_absent_retained(key, body, retention))
    }

    /// A write whose reply was lost is made again, so that a versioned bucket may get two versions.
    fn put_unconditional(
        &self,
        key: &ObjectKey,
        body: &[u8],
        retention: Option<&Retention>,
    ) -> Result<Option<String>, StoreError> {
        self.attempt(|| self.inner_cloud()?.put_unconditional(key, body, retention))
    }

    fn put_shared_unconditional(
        &self,
        key: &ObjectKey,
        body: &Arc<Vec<u8>>,
        retention: Option<&Retention>,
    ) -> Result<Option<String>, StoreError> {
        self.attempt(|| self.inner_cloud()?.put_shared_unconditional(key, body, retention))
    }

    fn put_if_absent_in_parts(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        self.settle(key, body, || self.inner_cloud()?.put_if_absent_in_parts(key, body))
    }

    fn try_upload(
        &self,
        key: &ObjectKey,
        body: &[u8],
        form: UploadForm,
        if_absent: bool,
    ) -> Result<Trial, StoreError> {
        self.attempt(|| self.inner_cloud()?.try_upload(key, body, form, if_absent))
    }

    fn learn_uploads(&self, facts: &UploadFacts) {
        if let Some(cloud) = self.inner.cloud() {
            cloud.learn_uploads(facts);
        }
    }

    fn checksums(&self) -> Checksums {
        self.inner.cloud().map(|cloud| cloud.checksums()).unwrap_or_default()
    }

    fn retention(&self, key: &ObjectKey, version_id: Option<&str>) -> Result<Option<Retention>, StoreError> {
        self.attempt(|| self.inner_cloud()?.retention(key, version_id))
    }

    fn extend_retention(
        &self,
        key: &ObjectKey,
        version_id: Option<&str>,
        retention: &Retention,
    ) -> Result<(), StoreError> {
        self.attempt(|| self.inner_cloud()?.extend_retention(key, version_id, retention))
    }

    fn legal_hold(&self, key: &ObjectKey, version_id: Option<&str>) -> Result<bool, StoreError> {
        self.attempt(|| self.inner_cloud()?.legal_hold(key, version_id))
    }

    fn set_legal_hold(
        &self,
        key: &ObjectKey,
        version_id: Option<&str>,
        is_held: bool,
    ) -> Result<(), StoreError> {
        self.attempt(|| self.inner_cloud()?.set_legal_hold(key, version_id, is_held))
    }

    fn storage_class(&self, key: &ObjectKey, version_id: Option<&str>) -> Result<StorageState, StoreError> {
        self.attempt(|| self.inner_cloud()?.storage_class(key, version_id))
    }

    fn request_restore(
        &self,
        key: &ObjectKey,
        version_id: Option<&str>,
        days: u32,
        tier: RestoreTier,
    ) -> Result<(), StoreError> {
        self.attempt(|| self.inner_cloud()?.request_restore(key, version_id, days, tier))
    }

    fn delete_version(&self, key: &ObjectKey, version_id: &str) -> Result<(), StoreError> {
        self.attempt(|| self.inner_cloud()?.delete_version(key, version_id))
    }
}

/// The output function of SplitMix64: spreads a counter evenly over 64 bits.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
