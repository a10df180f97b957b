//! A store that counts what it is asked for.

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use coffer_store::{ListItem, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError};

/// What a [`RecordingStore`] has seen. Every call counts, failed ones too; bytes and names count only where the call
/// succeeded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// Calls of `put_if_absent`.
    pub put_count: u64,
    /// Calls of `put_if_absent` that found the object there.
    pub put_existing_count: u64,
    /// Calls of `read`.
    pub read_count: u64,
    /// Calls of `read_range`.
    pub read_range_count: u64,
    /// Calls of `stat`.
    pub stat_count: u64,
    /// Calls of `list`.
    pub list_count: u64,
    /// Names that listings showed.
    pub listed_count: u64,
    /// Calls of `delete`.
    pub delete_count: u64,
    /// Bytes in created objects.
    pub written_bytes: u64,
    /// Bytes that `read` and `read_range` gave.
    pub read_bytes: u64,
    /// Names of created objects, in the order in which their creation ended.
    pub written: Vec<String>,
    /// Names given to `delete`, in order.
    pub deleted: Vec<String>,
}

impl Recording {
    /// All calls.
    #[must_use]
    pub fn call_count(&self) -> u64 {
        self.put_count
            + self.read_count
            + self.read_range_count
            + self.stat_count
            + self.list_count
            + self.delete_count
    }

    /// Names of created objects that start with `prefix`, in order.
    #[must_use]
    pub fn written_under(&self, prefix: &str) -> Vec<&str> {
        self.written.iter().map(String::as_str).filter(|name| name.starts_with(prefix)).collect()
    }
}

/// A wrapper that records the calls of `S`.
#[derive(Debug)]
pub struct RecordingStore<S> {
    inner: S,
    recording: Mutex<Recording>,
}

impl<S> RecordingStore<S> {
    /// Wraps `inner`; nothing is recorded yet.
    pub fn new(inner: S) -> Self {
        Self { inner, recording: Mutex::default() }
    }

    /// The wrapped store; calls made on it are not recorded.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Gives the wrapped store back.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// What was seen since the start or the last reset.
    pub fn snapshot(&self) -> Recording {
        self.recording().clone()
    }

    /// Starts anew and gives what was seen until now.
    pub fn reset(&self) -> Recording {
        std::mem::take(&mut self.recording())
    }

    fn recording(&self) -> MutexGuard<'_, Recording> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: ObjectStore> ObjectStore for RecordingStore<S> {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        let result = self.inner.put_if_absent(key, body);
        let mut recording = self.recording();
        recording.put_count += 1;
        match result {
            Ok(PutOutcome::Created) => {
                recording.written_bytes += body.len() as u64;
                recording.written.push(key.to_string());
            }
            Ok(PutOutcome::AlreadyExists) => recording.put_existing_count += 1,
            Err(_) => {}
        }
        result
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let result = self.inner.read(key, len_max, out);
        let mut recording = self.recording();
        recording.read_count += 1;
        if result.is_ok() {
            recording.read_bytes += out.len() as u64;
        }
        result
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let result = self.inner.read_range(key, offset, out);
        let mut recording = self.recording();
        recording.read_range_count += 1;
        if result.is_ok() {
            recording.read_bytes += out.len() as u64;
        }
        result
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        self.recording().stat_count += 1;
        self.inner.stat(key)
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.recording().list_count += 1;
        self.inner.list(prefix, start_after, &mut |item| {
            self.recording().listed_count += 1;
            visit(item)
        })
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let result = self.inner.delete(key);
        let mut recording = self.recording();
        recording.delete_count += 1;
        if result.is_ok() {
            recording.deleted.push(key.to_string());
        }
        result
    }

    fn url(&self) -> String {
        self.inner.url()
    }

    fn parallelism_hint(&self) -> usize {
        self.inner.parallelism_hint()
    }
}

#[cfg(test)]
mod tests {
    use coffer_store::MemoryStore;

    use super::*;

    #[test]
    fn every_call_is_counted_once() {
        let store = RecordingStore::new(MemoryStore::new());
        let (one, two) = (ObjectKey::new("log/1").expect("key"), ObjectKey::new("packs/2").expect("key"));
        store.put_if_absent(&two, b"22").expect("put");
        store.put_if_absent(&one, b"1").expect("put");
        store.put_if_absent(&one, b"other").expect("put");
        store.read(&two, 10, &mut Vec::new()).expect("read");
        store.read(&two, 1, &mut Vec::new()).expect_err("too long");
        store.read_range(&two, 1, &mut [0]).expect("range");
        store.stat(&one).expect("stat");
        store.list("", None, &mut |_| ControlFlow::Continue(())).expect("list");
        store.delete(&one).expect("delete");
        let expected = Recording {
            put_count: 3,
            put_existing_count: 1,
            read_count: 2,
            read_range_count: 1,
            stat_count: 1,
            list_count: 1,
            listed_count: 2,
            delete_count: 1,
            written_bytes: 3,
            read_bytes: 3,
            written: vec!["packs/2".to_owned(), "log/1".to_owned()],
            deleted: vec!["log/1".to_owned()],
        };
        assert_eq!(store.snapshot(), expected);
        assert_eq!(expected.call_count(), 9);
        assert_eq!(expected.written_under("log/"), ["log/1"]);
        assert_eq!(store.reset(), expected);
        assert_eq!(store.snapshot(), Recording::default());
    }
}
