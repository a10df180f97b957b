//! A store under a process that stops.

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use coffer_store::{ListItem, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError};

/// Whether the write at which the process stops has its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CrashMoment {
    /// It does not.
    Before,
    /// It does, but nobody is told.
    After,
}

impl CrashMoment {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Before, Self::After];
}

#[derive(Debug)]
struct State {
    write_count: u64,
    is_crashed: bool,
}

/// A wrapper through which a process stops at its `crash_at`-th write, counted from 0: from there on every call fails,
/// without effect and not retryably. Creations and deletions are writes. The wrapped store stays usable for the test:
/// give a shared reference or an [`Arc`](std::sync::Arc) of it.
///
/// Writes are made one after another, so that "after write n" means the same with many threads.
#[derive(Debug)]
pub struct CrashingStore<S> {
    inner: S,
    crash_at: u64,
    moment: CrashMoment,
    state: Mutex<State>,
}

impl<S: ObjectStore> CrashingStore<S> {
    /// Wraps `inner`. With a `crash_at` beyond the last write nothing happens but counting.
    pub fn new(inner: S, crash_at: u64, moment: CrashMoment) -> Self {
        Self { inner, crash_at, moment, state: Mutex::new(State { write_count: 0, is_crashed: false }) }
    }

    /// The wrapped store.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Whether the process has stopped.
    pub fn is_crashed(&self) -> bool {
        self.state().is_crashed
    }

    /// Number of writes seen, the one that stopped the process included.
    pub fn write_count(&self) -> u64 {
        self.state().write_count
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self, name: &str) -> StoreError {
        StoreError::Io {
            name: name.to_owned(),
            store: self.inner.url(),
            source: "the process has stopped".into(),
        }
    }

    fn write<T>(&self, name: &str, write: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut state = self.state();
        if state.is_crashed {
            return Err(self.stopped(name));
        }
        let number = state.write_count;
        state.write_count += 1;
        if number != self.crash_at {
            return write();
        }
        state.is_crashed = true;
        if self.moment == CrashMoment::After {
            // Nobody is left to hear how it went.
            let _ = write();
        }
        Err(self.stopped(name))
    }

    fn check_running(&self, name: &str) -> Result<(), StoreError> {
        if self.is_crashed() { Err(self.stopped(name)) } else { Ok(()) }
    }
}

impl<S: ObjectStore> ObjectStore for CrashingStore<S> {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        self.write(key.as_str(), || self.inner.put_if_absent(key, body))
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        out.clear();
        self.check_running(key.as_str())?;
        self.inner.read(key, len_max, out)
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.check_running(key.as_str())?;
        self.inner.read_range(key, offset, out)
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        self.check_running(key.as_str())?;
        self.inner.stat(key)
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.check_running(prefix)?;
        self.inner.list(prefix, start_after, visit)
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.write(key.as_str(), || self.inner.delete(key))
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

#[cfg(test)]
mod tests {
    use coffer_store::MemoryStore;

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(name).expect("valid key")
    }

    /// Four writes: create a, create b, delete a, create c. What is there when the process stops at each?
    #[track_caller]
    fn check(crash_at: u64, moment: CrashMoment, expected: &[&str]) {
        let inner = MemoryStore::new();
        let store = CrashingStore::new(&inner, crash_at, moment);
        let mut stopped_at = None;
        for number in 0..4 {
            let result = match number {
                0 => store.put_if_absent(&key("a"), b"").map(drop),
                1 => store.put_if_absent(&key("b"), b"").map(drop),
                2 => store.delete(&key("a")),
                _ => store.put_if_absent(&key("c"), b"").map(drop),
            };
            let is_stopped = number >= crash_at;
            assert_eq!(result.is_err(), is_stopped, "write {number}, crash at {crash_at}");
            assert_eq!(store.stat(&key("b")).is_ok_and(|_| true), !is_stopped && number >= 1);
            if is_stopped && stopped_at.is_none() {
                stopped_at = Some(number);
                assert!(!result.expect_err("stopped").is_retryable());
                store.list("", None, &mut |_| ControlFlow::Continue(())).expect_err("stopped");
                store.read(&key("b"), 9, &mut Vec::new()).expect_err("stopped");
                store.read_range(&key("b"), 0, &mut []).expect_err("stopped");
            }
        }
        assert_eq!(store.is_crashed(), crash_at < 4);
        assert_eq!(store.write_count(), (crash_at + 1).min(4));
        assert_eq!(inner.names(), expected);
    }

    #[test]
    fn the_process_stops_where_told() {
        check(0, CrashMoment::Before, &[]);
        check(0, CrashMoment::After, &["a"]);
        check(1, CrashMoment::Before, &["a"]);
        check(1, CrashMoment::After, &["a", "b"]);
        check(2, CrashMoment::Before, &["a", "b"]);
        check(2, CrashMoment::After, &["b"]);
        check(3, CrashMoment::Before, &["b"]);
        check(3, CrashMoment::After, &["b", "c"]);
        check(4, CrashMoment::Before, &["b", "c"]);
    }
}
