//! A store that retains whatever it creates.
//!
//! [`RetainingStore`] gives every object that is created through it a [`Retention`] from its first moment. What is there
//! already keeps the retention that it has. It prolongs and shortens nothing, and reads no clock: until when comes from
//! outside.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use crate::{
    AskedWaits, CloudStore, ListItem, ObjectKey, ObjectStat, ObjectStore, PutOutcome, Retention,
    RetentionMode, StoreError, VersionRule,
};

/// A wrapper that puts `S`'s new objects under a retention.
pub struct RetainingStore<S> {
    inner: S,
    asked: OnceLock<Asked>,
}

struct Asked {
    mode: RetentionMode,
    until_s: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Asked {
    /// That of an object that is created now.
    fn retention(&self) -> Retention {
        Retention { mode: self.mode, until_s: (self.until_s)() }
    }
}

impl<S: ObjectStore> RetainingStore<S> {
    /// Wraps `inner`; nothing is retained before [`Self::retain`].
    pub const fn new(inner: S) -> Self {
        Self { inner, asked: OnceLock::new() }
    }

    /// From now on what is created is retained; the first call counts. `until_s` tells, in seconds since 1970, until when an
    /// object is retained that is created now.
    pub fn retain(&self, mode: RetentionMode, until_s: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.asked.set(Asked { mode, until_s: Box::new(until_s) });
    }

    fn cloud_inside(&self) -> Result<&dyn CloudStore, StoreError> {
        let (store, what) = (self.inner.url(), "retention, which the vault's policy asks for");
        self.inner.cloud().ok_or(StoreError::Unsupported { store, what })
    }
}

impl<S: fmt::Debug> fmt::Debug for RetainingStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetainingStore")
            .field("inner", &self.inner)
            .field("mode", &self.asked.get().map(|asked| asked.mode))
            .finish_non_exhaustive()
    }
}

impl<S: ObjectStore> ObjectStore for RetainingStore<S> {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        let Some(asked) = self.asked.get() else { return self.inner.put_if_absent(key, body) };
        self.cloud_inside()?.put_if_absent_retained(key, body, &asked.retention())
    }

    fn put_shared_if_absent(&self, key: &ObjectKey, body: &Arc<Vec<u8>>) -> Result<PutOutcome, StoreError> {
        let Some(asked) = self.asked.get() else { return self.inner.put_shared_if_absent(key, body) };
        self.cloud_inside()?.put_shared_if_absent_retained(key, body, &asked.retention())
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.inner.read(key, len_max, out)
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.inner.read_range(key, offset, out)
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        self.inner.stat(key)
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.inner.list(prefix, start_after, visit)
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.inner.delete(key)
    }

    fn url(&self) -> String {
        self.inner.url()
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn distrust(&self, key: &ObjectKey) -> bool {
        self.inner.distrust(key)
    }

    fn parallelism_hint(&self) -> usize {
        self.inner.parallelism_hint()
    }

    fn moved_bytes(&self) -> u64 {
        self.inner.moved_bytes()
    }

    fn asked_waits(&self) -> AskedWaits {
        self.inner.asked_waits()
    }

    fn version_rules(&self) -> Vec<(String, VersionRule)> {
        self.inner.version_rules()
    }

    fn settle_rule(&self, rule: VersionRule) -> bool {
        self.inner.settle_rule(rule)
    }

    fn overwritten(&self) -> Vec<String> {
        self.inner.overwritten()
    }

    fn cloud(&self) -> Option<&dyn CloudStore> {
        self.inner.cloud()
    }
}
