//! Counting what a store is asked, by what object storage bills as one request.
//!
//! [`CountingStore`] counts the calls of a store. One that makes several requests of a call, as
//! [`S3Store`](crate::S3Store) does, counts these itself, with the [`RequestCounter`] that it is given. Bytes are counted
//! when a request succeeds, requests always, every attempt for itself. No names and no times are kept.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{
    AskedWaits, Attempt, BucketFacts, Checksums, ClockAhead, CloudStore, ListItem, ObjectKey, ObjectStat,
    ObjectStore, PutOutcome, RestoreTier, Retention, StorageState, StoreError, Trial, UploadFacts,
    UploadForm, VersionItem,
};

/// How many requests of each kind a store has had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RequestCounts {
    /// Creations, whether or not the object was there already, and changes of a lock, a hold or an archive class.
    pub create_count: u64,
    /// Bytes of the objects that were made, in parts or whole.
    pub create_bytes: u64,
    /// Requests of uploads in parts: begins, parts, ends.
    pub multipart_count: u64,
    /// Reads of a whole object or of a range.
    pub read_count: u64,
    /// Bytes these gave.
    pub read_bytes: u64,
    /// Questions for the length of an object, or about an object or the bucket.
    pub stat_count: u64,
    /// Listings; on object storage one for each page.
    pub list_count: u64,
    /// Deletions.
    pub delete_count: u64,
}

impl RequestCounts {
    /// Requests of all kinds.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.class_a() + self.class_b() + self.delete_count
    }

    /// Adds what another store was asked.
    pub const fn add(&mut self, other: &Self) {
        self.create_count += other.create_count;
        self.create_bytes += other.create_bytes;
        self.multipart_count += other.multipart_count;
        self.read_count += other.read_count;
        self.read_bytes += other.read_bytes;
        self.stat_count += other.stat_count;
        self.list_count += other.list_count;
        self.delete_count += other.delete_count;
    }

    /// Requests of the dearer class of object storage: what writes or lists.
    #[must_use]
    pub const fn class_a(&self) -> u64 {
        self.create_count + self.multipart_count + self.list_count
    }

    /// Requests of the cheaper class: what reads or asks. Deletions are in neither: they are free.
    #[must_use]
    pub const fn class_b(&self) -> u64 {
        self.read_count + self.stat_count
    }
}

/// What one request is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RequestKind {
    Create,
    Multipart,
    Read,
    Stat,
    List,
    Delete,
}

impl RequestKind {
    /// What a request to S3 is, by its method and its query.
    pub(crate) fn of_http(method: &str, query: &str) -> Self {
        let has = |words: &[&str]| {
            let names = query.split('&').filter_map(|pair| pair.split('=').next());
            names.into_iter().any(|name| words.contains(&name))
        };
        match method {
            "DELETE" => Self::Delete,
            "HEAD" => Self::Stat,
            "GET" if has(&["list-type", "versions", "uploads"]) => Self::List,
            "GET" if has(ABOUT) => Self::Stat,
            "GET" => Self::Read,
            _ if has(&["uploads", "uploadId"]) => Self::Multipart,
            _ => Self::Create,
        }
    }
}

/// Queries that ask about a bucket or an object.
const ABOUT: &[&str] = &[
    "location",
    "versioning",
    "object-lock",
    "protection",
    "encryption",
    "lifecycle",
    "retention",
    "legal-hold",
    "legalHold",
];

/// A wrapper that counts the calls of `S`.
#[derive(Debug)]
pub struct CountingStore<S> {
    inner: S,
    counters: Arc<Counters>,
}

/// Tells what was counted, also after the store is gone. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct RequestCounter {
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    create_count: AtomicU64,
    create_bytes: AtomicU64,
    multipart_count: AtomicU64,
    read_count: AtomicU64,
    read_bytes: AtomicU64,
    stat_count: AtomicU64,
    list_count: AtomicU64,
    delete_count: AtomicU64,
    /// Bytes of bodies both ways, as they go and come.
    moved_bytes: AtomicU64,
}

impl<S> CountingStore<S> {
    /// Wraps `inner`; all counts begin at 0.
    pub fn new(inner: S) -> Self {
        Self { inner, counters: Arc::new(Counters::default()) }
    }

    /// The wrapped store; what it is asked directly is not counted.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// What was counted so far. Calls that run meanwhile may be in it in part.
    pub fn counts(&self) -> RequestCounts {
        self.counters.look()
    }

    /// What tells the counts while the store is at work elsewhere.
    pub fn counter(&self) -> RequestCounter {
        RequestCounter { counters: Arc::clone(&self.counters) }
    }
}

impl RequestCounter {
    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> RequestCounts {
        self.counters.look()
    }

    /// A request is made.
    pub(crate) fn request(&self, kind: RequestKind) {
        let counters = &self.counters;
        let counter = match kind {
            RequestKind::Create => &counters.create_count,
            RequestKind::Multipart => &counters.multipart_count,
            RequestKind::Read => &counters.read_count,
            RequestKind::Stat => &counters.stat_count,
            RequestKind::List => &counters.list_count,
            RequestKind::Delete => &counters.delete_count,
        };
        add(counter, 1);
    }

    /// How many bytes of bodies went and came so far, those of requests under way and of failed ones included.
    #[must_use]
    pub fn moved_bytes(&self) -> u64 {
        self.counters.moved_bytes.load(Ordering::Relaxed)
    }

    /// So many bytes of a body went or came.
    pub(crate) fn moved(&self, bytes: usize) {
        add(&self.counters.moved_bytes, bytes);
    }

    /// A request of this kind succeeded that sent so many bytes.
    pub(crate) fn sent(&self, kind: RequestKind, bytes: u64) {
        if matches!(kind, RequestKind::Create | RequestKind::Multipart) {
            self.counters.create_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// So many bytes came of a request of this kind that succeeded.
    pub(crate) fn received(&self, kind: RequestKind, bytes: usize) {
        if kind == RequestKind::Read {
            add(&self.counters.read_bytes, bytes);
        }
    }
}

impl Counters {
    fn look(&self) -> RequestCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RequestCounts {
            create_count: read(&self.create_count),
            create_bytes: read(&self.create_bytes),
            multipart_count: read(&self.multipart_count),
            read_count: read(&self.read_count),
            read_bytes: read(&self.read_bytes),
            stat_count: read(&self.stat_count),
            list_count: read(&self.list_count),
            delete_count: read(&self.delete_count),
        }
    }
}

fn add(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(amount as u64, Ordering::Relaxed);
}

impl<S: ObjectStore> ObjectStore for CountingStore<S> {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        add(&self.counters.create_count, 1);
        let outcome = self.inner.put_if_absent(key, body)?;
        if outcome == PutOutcome::Created {
            add(&self.counters.create_bytes, body.len());
        }
        Ok(outcome)
    }

    fn put_shared_if_absent(&self, key: &ObjectKey, body: &Arc<Vec<u8>>) -> Result<PutOutcome, StoreError> {
        add(&self.counters.create_count, 1);
        let outcome = self.inner.put_shared_if_absent(key, body)?;
        if outcome == PutOutcome::Created {
            add(&self.counters.create_bytes, body.len());
        }
        Ok(outcome)
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        add(&self.counters.read_count, 1);
        self.inner.read(key, len_max, out)?;
        add(&self.counters.read_bytes, out.len());
        Ok(())
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        add(&self.counters.read_count, 1);
        self.inner.read_range(key, offset, out)?;
        add(&self.counters.read_bytes, out.len());
        Ok(())
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        add(&self.counters.stat_count, 1);
        self.inner.stat(key)
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        add(&self.counters.list_count, 1);
        self.inner.list(prefix, start_after, visit)
    }

    fn list_by(
        &self,
        attempt: Attempt<'_>,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner.list_by(&self.counting(attempt), prefix, start_after, visit)
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        add(&self.counters.delete_count, 1);
        self.inner.delete(key)
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

    /// What the store itself tells, or the bytes of calls that have ended.
    fn moved_bytes(&self) -> u64 {
        let counts = self.counters.look();
        self.inner.moved_bytes().max(counts.create_bytes + counts.read_bytes)
    }

    fn asked_waits(&self) -> AskedWaits {
        self.inner.asked_waits()
    }

    fn cloud(&self) -> Option<&dyn CloudStore> {
        self.inner.cloud().is_some().then_some(self)
    }
}

impl<S: ObjectStore> CountingStore<S> {
    /// Makes requests of a listing by `attempt`, and counts each time.
    fn counting<'a>(
        &'a self,
        attempt: Attempt<'a>,
    ) -> impl Fn(&mut dyn FnMut() -> Result<(), StoreError>) -> Result<(), StoreError> + 'a {
        move |request| {
            attempt(&mut || {
                add(&self.counters.list_count, 1);
                request()
            })
        }
    }

    fn inner_cloud(&self) -> Result<&dyn CloudStore, StoreError> {
        self.inner.cloud().ok_or_else(|| StoreError::Unsupported {
            store: self.inner.url(),
            what: "what only object storage has",
        })
    }
}

/// Writes count as creations, questions about the bucket or an object as questions for a length.
impl<S: ObjectStore> CloudStore for CountingStore<S> {
    fn bucket_facts(&self) -> Result<BucketFacts, StoreError> {
        add(&self.counters.stat_count, 1);
        self.inner_cloud()?.bucket_facts()
    }

    fn versions(
        &self,
        prefix: &str,
        visit: &mut dyn FnMut(VersionItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        add(&self.counters.list_count, 1);
        self.inner_cloud()?.versions(prefix, visit)
    }

    fn versions_by(
        &self,
        attempt: Attempt<'_>,
        prefix: &str,
        visit: &mut dyn FnMut(VersionItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner_cloud()?.versions_by(&self.counting(attempt), prefix, visit)
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
        add(&self.counters.read_count, 1);
        self.inner_cloud()?.read_version(key, version_id, len_max, out)?;
        add(&self.counters.read_bytes, out.len());
        Ok(())
    }

    fn read_version_range(
        &self,
        key: &ObjectKey,
        version_id: &str,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), StoreError> {
        add(&self.counters.read_count, 1);
        self.inner_cloud()?.read_version_range(key, version_id, offset, out)?;
        add(&self.counters.read_bytes, out.len());
        Ok(())
    }

    fn put_if_absent_retained(
        &self,
        key: &ObjectKey,
        body: &[u8],
        retention: &Retention,
    ) -> Result<PutOutcome, StoreError> {
        add(&self.counters.create_count, 1);
        let outcome = self.inner_cloud()?.put_if_absent_retained(key, body, retention)?;
        if outcome == PutOutcome::Created {
            add(&self.counters.create_bytes, body.len());
        }
        Ok(outcome)
    }

    fn put_shared_if_absent_retained(
        &self,
        key: &ObjectKey,
        body: &Arc<Vec<u8>>,
        retention: &Retention,
    ) -> Result<PutOutcome, StoreError> {
        add(&self.counters.create_count, 1);
        let outcome = self.inner_cloud()?.put_shared_if_absent_retained(key, body, retention)?;
        if outcome == PutOutcome::Created {
            add(&self.counters.create_bytes, body.len());
        }
        Ok(outcome)
    }

    fn put_unconditional(
        &self,
        key: &ObjectKey,
        body: &[u8],
        retention: Option<&Retention>,
    ) -> Result<Option<String>, StoreError> {
        add(&self.counters.create_count, 1);
        let version_id = self.inner_cloud()?.put_unconditional(key, body, retention)?;
        add(&self.counters.create_bytes, body.len());
        Ok(version_id)
    }

    fn put_shared_unconditional(
        &self,
        key: &ObjectKey,
        body: &Arc<Vec<u8>>,
        retention: Option<&Retention>,
    ) -> Result<Option<String>, StoreError> {
        add(&self.counters.create_count, 1);
        let version_id = self.inner_cloud()?.put_shared_unconditional(key, body, retention)?;
        add(&self.counters.create_bytes, body.len());
        Ok(version_id)
    }

    fn put_if_absent_in_parts(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        add(&self.counters.multipart_count, 3);
        let outcome = self.inner_cloud()?.put_if_absent_in_parts(key, body)?;
        if outcome == PutOutcome::Created {
            add(&self.counters.create_bytes, body.len());
        }
        Ok(outcome)
    }

    fn try_upload(
        &self,
        key: &ObjectKey,
        body: &[u8],
        form: UploadForm,
        if_absent: bool,
    ) -> Result<Trial, StoreError> {
        add(&self.counters.create_count, 1);
        self.inner_cloud()?.try_upload(key, body, form, if_absent)
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
        add(&self.counters.stat_count, 1);
        self.inner_cloud()?.retention(key, version_id)
    }

    fn extend_retention(
        &self,
        key: &ObjectKey,
        version_id: Option<&str>,
        retention: &Retention,
    ) -> Result<(), StoreError> {
        add(&self.counters.create_count, 1);
        self.inner_cloud()?.extend_retention(key, version_id, retention)
    }

    fn legal_hold(&self, key: &ObjectKey, version_id: Option<&str>) -> Result<bool, StoreError> {
        add(&self.counters.stat_count, 1);
        self.inner_cloud()?.legal_hold(key, version_id)
    }

    fn set_legal_hold(
        &self,
        key: &ObjectKey,
        version_id: Option<&str>,
        is_held: bool,
    ) -> Result<(), StoreError> {
        add(&self.counters.create_count, 1);
        self.inner_cloud()?.set_legal_hold(key, version_id, is_held)
    }

    fn storage_class(&self, key: &ObjectKey, version_id: Option<&str>) -> Result<StorageState, StoreError> {
        add(&self.counters.stat_count, 1);
        self.inner_cloud()?.storage_class(key, version_id)
    }

    fn request_restore(
        &self,
        key: &ObjectKey,
        version_id: Option<&str>,
        days: u32,
        tier: RestoreTier,
    ) -> Result<(), StoreError> {
        add(&self.counters.create_count, 1);
        self.inner_cloud()?.request_restore(key, version_id, days, tier)
    }

    fn delete_version(&self, key: &ObjectKey, version_id: &str) -> Result<(), StoreError> {
        add(&self.counters.delete_count, 1);
        self.inner_cloud()?.delete_version(key, version_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[test]
    fn every_call_is_counted_once_and_bytes_only_of_those_that_succeed() {
        let store = CountingStore::new(MemoryStore::new());
        let key = |name: &str| ObjectKey::new(name).expect("a valid name");
        let mut out = Vec::new();
        assert_eq!(store.put_if_absent(&key("a"), b"12345").expect("is made"), PutOutcome::Created);
        assert_eq!(store.put_if_absent(&key("a"), b"678").expect("is there"), PutOutcome::AlreadyExists);
        store.read(&key("a"), 10, &mut out).expect("is read");
        store.read(&key("a"), 2, &mut out).expect_err("too long");
        store.read_range(&key("a"), 1, &mut [0; 3]).expect("is read");
        store.read_range(&key("a"), 4, &mut [0; 3]).expect_err("too short");
        store.stat(&key("b")).expect_err("not there");
        store.list("", None, &mut |_| ControlFlow::Continue(())).expect("is listed");
        store.delete(&key("a")).expect("is gone");
        let expected = RequestCounts {
            create_count: 2,
            create_bytes: 5,
            multipart_count: 0,
            read_count: 4,
            read_bytes: 8,
            stat_count: 1,
            list_count: 1,
            delete_count: 1,
        };
        let counter = store.counter();
        assert_eq!(store.counts(), expected);
        drop(store);
        assert_eq!(counter.counts(), expected);
        assert_eq!((expected.total(), expected.class_a(), expected.class_b()), (9, 3, 5));
    }

    #[test]
    fn requests_are_told_apart_by_method_and_query() {
        let check = |method, query, expected| {
            assert_eq!(RequestKind::of_http(method, query), expected, "{method} {query}")
        };
        check("PUT", "x-id=PutObject", RequestKind::Create);
        check("PUT", "partNumber=1&uploadId=a&x-id=UploadPart", RequestKind::Multipart);
        check("PUT", "retention", RequestKind::Create);
        check("POST", "uploads", RequestKind::Multipart);
        check("POST", "uploadId=a", RequestKind::Multipart);
        check("POST", "restore", RequestKind::Create);
        check("POST", "extendRetention", RequestKind::Create);
        check("GET", "x-id=GetObject", RequestKind::Read);
        check("GET", "versionId=a&x-id=GetObject", RequestKind::Read);
        check("GET", "list-type=2&prefix=versions", RequestKind::List);
        check("GET", "versions&prefix=log%2F", RequestKind::List);
        check("GET", "object-lock", RequestKind::Stat);
        check("HEAD", "", RequestKind::Stat);
        check("DELETE", "versionId=a", RequestKind::Delete);
    }
}
