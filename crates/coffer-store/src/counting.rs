//! A store that counts what it is asked.
//!
//! [`CountingStore`] passes every call on and counts it by what object storage bills as one request: creations, reads
//! (whole or of a range), lengths, listings and deletions. Bytes are counted when a call succeeds, calls always. It
//! keeps no names and no times, and refuses nothing.
//!
//! Inside a [`RetryStore`](crate::RetryStore) it counts every attempt.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{ListItem, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError};

/// How many requests of each kind a store has had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RequestCounts {
    /// Creations, whether or not the object was there already.
    pub create_count: u64,
    /// Bytes of the objects that were made.
    pub create_bytes: u64,
    /// Reads of a whole object or of a range.
    pub read_count: u64,
    /// Bytes these gave.
    pub read_bytes: u64,
    /// Questions for the length of an object.
    pub stat_count: u64,
    /// Listings, however many names they showed.
    pub list_count: u64,
    /// Deletions.
    pub delete_count: u64,
}

impl RequestCounts {
    /// Requests of all kinds.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.create_count + self.read_count + self.stat_count + self.list_count + self.delete_count
    }
}

/// A wrapper that counts the calls of `S`.
#[derive(Debug)]
pub struct CountingStore<S> {
    inner: S,
    counters: Arc<Counters>,
}

/// Tells what a [`CountingStore`] has counted, also after the store is gone.
#[derive(Debug, Clone)]
pub struct RequestCounter {
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    create_count: AtomicU64,
    create_bytes: AtomicU64,
    read_count: AtomicU64,
    read_bytes: AtomicU64,
    stat_count: AtomicU64,
    list_count: AtomicU64,
    delete_count: AtomicU64,
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
}

impl Counters {
    fn look(&self) -> RequestCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RequestCounts {
            create_count: read(&self.create_count),
            create_bytes: read(&self.create_bytes),
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

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        add(&self.counters.delete_count, 1);
        self.inner.delete(key)
    }

    fn url(&self) -> String {
        self.inner.url()
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
        assert_eq!(expected.total(), 9);
    }
}
