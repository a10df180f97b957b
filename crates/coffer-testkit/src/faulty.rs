//! A store that fails chosen calls.

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use coffer_store::{ListItem, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError};

/// What a failed call says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// [`StoreError::Unavailable`]: may be retried.
    Unavailable,
    /// [`StoreError::NoSpace`].
    NoSpace,
    /// [`StoreError::Denied`].
    Denied,
    /// [`StoreError::NotFound`].
    NotFound,
    /// [`StoreError::SyncFailed`].
    SyncFailed,
    /// [`StoreError::Io`].
    Io,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Unavailable, Self::NoSpace, Self::Denied, Self::NotFound, Self::SyncFailed, Self::Io];

    fn error(self, name: &str, store: String) -> StoreError {
        let name = name.to_owned();
        let source = "a fault was planned here".into();
        match self {
            Self::Unavailable => StoreError::Unavailable { name, store, source },
            Self::NoSpace => StoreError::NoSpace { name, store, source },
            Self::Denied => StoreError::Denied { name, store, source },
            Self::NotFound => StoreError::NotFound { name, store },
            Self::SyncFailed => StoreError::SyncFailed { name, store, source },
            Self::Io => StoreError::Io { name, store, source },
        }
    }
}

/// When a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultMoment {
    /// Before it does anything.
    Before,
    /// After it has done all of it: the reply is lost.
    After,
}

/// Which calls fail, and how. Calls are numbered from 0 over all operations but `url`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Number of the first call that fails.
    pub first_call: u64,
    /// How many calls fail from there on; `None` for all of them.
    pub call_count: Option<u64>,
    /// Before or after the effect.
    pub moment: FaultMoment,
    /// What the calls say.
    pub kind: FaultKind,
}

impl Fault {
    /// Call `call` alone fails.
    #[must_use]
    pub fn once(call: u64, moment: FaultMoment, kind: FaultKind) -> Self {
        Self::times(call, 1, moment, kind)
    }

    /// `call_count` calls fail, from call `first_call` on.
    #[must_use]
    pub fn times(first_call: u64, call_count: u64, moment: FaultMoment, kind: FaultKind) -> Self {
        Self { first_call, call_count: Some(call_count), moment, kind }
    }

    /// Every call fails, from call `first_call` on.
    #[must_use]
    pub fn forever(first_call: u64, moment: FaultMoment, kind: FaultKind) -> Self {
        Self { first_call, call_count: None, moment, kind }
    }

    fn covers(&self, call: u64) -> bool {
        let past = call.checked_sub(self.first_call);
        past.is_some_and(|past| self.call_count.is_none_or(|count| past < count))
    }
}

#[derive(Debug, Default)]
struct State {
    plan: Vec<Fault>,
    call_count: u64,
    failed_count: u64,
}

/// A wrapper that fails calls of `S` by a plan; where several faults cover a call, the first in the plan counts.
#[derive(Debug)]
pub struct FaultyStore<S> {
    inner: S,
    state: Mutex<State>,
}

impl<S: ObjectStore> FaultyStore<S> {
    /// Wraps `inner`; `plan` may be empty.
    pub fn new(inner: S, plan: impl Into<Vec<Fault>>) -> Self {
        Self { inner, state: Mutex::new(State { plan: plan.into(), ..State::default() }) }
    }

    /// The wrapped store, which does not fail.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Replaces the plan and numbers the calls from 0 again.
    pub fn set_plan(&self, plan: impl Into<Vec<Fault>>) {
        *self.state() = State { plan: plan.into(), ..State::default() };
    }

    /// Number of calls seen, failed ones included.
    pub fn call_count(&self) -> u64 {
        self.state().call_count
    }

    /// Number of calls that failed by the plan.
    pub fn failed_count(&self) -> u64 {
        self.state().failed_count
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call<T>(&self, name: &str, call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let fault = {
            let mut state = self.state();
            let number = state.call_count;
            state.call_count += 1;
            let fault = state.plan.iter().find(|fault| fault.covers(number)).copied();
            state.failed_count += u64::from(fault.is_some());
            fault
        };
        let Some(fault) = fault else { return call() };
        if fault.moment == FaultMoment::After {
            // What the call really gave is lost, a failure of its own too.
            let _ = call();
        }
        Err(fault.kind.error(name, self.inner.url()))
    }
}

impl<S: ObjectStore> ObjectStore for FaultyStore<S> {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        self.call(key.as_str(), || self.inner.put_if_absent(key, body))
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let result = self.call(key.as_str(), || self.inner.read(key, len_max, out));
        if result.is_err() {
            out.clear();
        }
        result
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.call(key.as_str(), || self.inner.read_range(key, offset, out))
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        self.call(key.as_str(), || self.inner.stat(key))
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.call(prefix, || self.inner.list(prefix, start_after, visit))
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.call(key.as_str(), || self.inner.delete(key))
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

    /// Which of six creations fail under `plan`, and which objects are there afterwards.
    #[track_caller]
    fn check(plan: Fault, expected_failed: &[u64], expected_there: &[&str]) {
        let store = FaultyStore::new(MemoryStore::new(), [plan]);
        let failed: Vec<u64> =
            (0..6).filter(|number| store.put_if_absent(&key(&number.to_string()), b"x").is_err()).collect();
        assert_eq!(failed, expected_failed);
        assert_eq!(store.inner().names(), expected_there);
        assert_eq!(store.call_count(), 6);
        assert_eq!(store.failed_count(), expected_failed.len() as u64);
    }

    #[test]
    fn planned_calls_fail_and_no_other() {
        use FaultKind::Io;
        check(Fault::once(2, FaultMoment::Before, Io), &[2], &["0", "1", "3", "4", "5"]);
        check(Fault::once(2, FaultMoment::After, Io), &[2], &["0", "1", "2", "3", "4", "5"]);
        check(Fault::times(1, 3, FaultMoment::Before, Io), &[1, 2, 3], &["0", "4", "5"]);
        check(Fault::forever(4, FaultMoment::Before, Io), &[4, 5], &["0", "1", "2", "3"]);
        check(Fault::forever(4, FaultMoment::After, Io), &[4, 5], &["0", "1", "2", "3", "4", "5"]);
        check(Fault::once(6, FaultMoment::Before, Io), &[], &["0", "1", "2", "3", "4", "5"]);
    }

    #[test]
    fn every_operation_is_numbered_and_fails_with_the_kind_asked_for() {
        for kind in FaultKind::ALL {
            let store = FaultyStore::new(MemoryStore::new(), [Fault::forever(0, FaultMoment::Before, kind)]);
            let mut out = b"before".to_vec();
            let errors = [
                store.put_if_absent(&key("a"), b"").expect_err("put"),
                store.read(&key("a"), 1, &mut out).expect_err("read"),
                store.read_range(&key("a"), 0, &mut []).expect_err("range"),
                store.stat(&key("a")).expect_err("stat"),
                store.list("a", None, &mut |_| ControlFlow::Continue(())).expect_err("list"),
                store.delete(&key("a")).expect_err("delete"),
            ];
            for error in &errors {
                assert!(format!("{error:?}").starts_with(&format!("{kind:?}")), "{error:?}");
            }
            assert_eq!(store.call_count(), 6);
            assert!(out.is_empty());
            store.set_plan([]);
            assert_eq!(store.call_count(), 0);
            store.put_if_absent(&key("a"), b"").expect("put without a plan");
        }
    }
}
