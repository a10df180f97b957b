//! Objects in memory: the reference implementation, for tests, drills and copies.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{ItemKind, ListItem, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError};

const URL: &str = "memory:";

/// A store whose objects live as long as it does. Share it between owners with an [`Arc`].
#[derive(Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Arc<[u8]>>>,
}

impl MemoryStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `bytes` under any `name`, replacing what is there. It goes past every promise of the trait, so that a test
    /// can damage a vault.
    pub fn insert_raw(&self, name: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.objects().insert(name.into(), bytes.into().into());
    }

    /// Removes and returns what is under `name`.
    pub fn remove_raw(&self, name: &str) -> Option<Vec<u8>> {
        self.objects().remove(name).map(|bytes| bytes.to_vec())
    }

    /// The bytes under `name`.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<Vec<u8>> {
        self.objects().get(name).map(|bytes| bytes.to_vec())
    }

    /// All names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.objects().keys().cloned().collect()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Arc<[u8]>>> {
        // Every change of the map is a single call, so a panic elsewhere leaves it whole.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, key: &ObjectKey) -> Result<Arc<[u8]>, StoreError> {
        let found = self.objects().get(key.as_str()).cloned();
        found.ok_or_else(|| StoreError::NotFound { name: key.to_string(), store: URL.to_owned() })
    }

    /// The first name after `after`, or from `from` on; no lock is held when it returns.
    fn next_item(&self, from: &str, after: Option<&str>) -> Option<(String, u64)> {
        let start = match after {
            Some(after) if after >= from => Bound::Excluded(after),
            _ => Bound::Included(from),
        };
        let objects = self.objects();
        let (name, bytes) = objects.range::<str, _>((start, Bound::Unbounded)).next()?;
        Some((name.clone(), bytes.len() as u64))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("object_count", &self.objects().len()).finish()
    }
}

impl ObjectStore for MemoryStore {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        let mut objects = self.objects();
        if objects.contains_key(key.as_str()) {
            return Ok(PutOutcome::AlreadyExists);
        }
        objects.insert(key.to_string(), body.into());
        Ok(PutOutcome::Created)
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        out.clear();
        let bytes = self.object(key)?;
        let len = bytes.len() as u64;
        if len > len_max {
            return Err(StoreError::TooLong { name: key.to_string(), store: self.url(), len, len_max });
        }
        out.extend_from_slice(&bytes);
        Ok(())
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let bytes = self.object(key)?;
        let range = usize::try_from(offset)
            .ok()
            .and_then(|start| bytes.get(start..start.checked_add(out.len())?))
            .ok_or_else(|| StoreError::Truncated {
                name: key.to_string(),
                store: self.url(),
                offset,
                range_len: out.len() as u64,
                actual_len: bytes.len() as u64,
            })?;
        out.copy_from_slice(range);
        Ok(())
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        Ok(ObjectStat { len: self.object(key)?.len() as u64 })
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut after = start_after.map(str::to_owned);
        while let Some((name, len)) = self.next_item(prefix, after.as_deref()) {
            if !name.starts_with(prefix) {
                break;
            }
            let is_key = ObjectKey::new(name.as_str()).is_ok();
            let kind = if is_key { ItemKind::Object } else { ItemKind::Foreign };
            after = Some(name.clone());
            if visit(ListItem { name, len, kind }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.objects().remove(key.as_str());
        Ok(())
    }

    fn url(&self) -> String {
        URL.to_owned()
    }
}
