//! Parts of objects, which the local memory keeps where the store is far away.
//!
//! A part is kept as it is in the store, sealed where it is sealed there, and only after it could be opened. One that cannot be opened
//! any more is read from the store again.

use coffer_format::id::VaultId;
use coffer_format::object::ObjectName;
use coffer_store::ObjectStore;

use crate::access::key_of;
use crate::cache::Cache;
use crate::error::EngineError;
use crate::parallel::is_far;

/// Reads parts of the objects of one vault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    store: &'a dyn ObjectStore,
    vault: VaultId,
    cache: Option<&'a Cache>,
}

impl<'a> Parts<'a> {
    pub(crate) fn new(store: &'a dyn ObjectStore, vault: VaultId, cache: Option<&'a Cache>) -> Self {
        Self { store, vault, cache: cache.filter(|_| is_far(store)) }
    }

    /// The same, reading from the store alone.
    pub(crate) const fn without_memory(&self) -> Self {
        Self { cache: None, ..*self }
    }

    pub(crate) const fn store(&self) -> &'a dyn ObjectStore {
        self.store
    }

    /// What `open` makes of the `len` bytes from `offset` on.
    pub(crate) fn range<T>(
        &self,
        name: ObjectName,
        (offset, len): (u64, u64),
        open: &mut dyn FnMut(&[u8]) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let is_whole = |bytes: &[u8]| bytes.len() as u64 == len;
        let mut read = || {
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
            self.store.read_range(&key_of(name)?, offset, &mut bytes)?;
            Ok(bytes)
        };
        let part = self.part(&range_name(name, (offset, len)), open, &is_whole, &mut read);
        match part {
            // Another copy may be whole.
            Err(error)
                if (!error.is_unasked() || error.is_wrong_bytes()) && self.store.distrust(&key_of(name)?) =>
            {
                open(&read()?)
            }
            part => part,
        }
    }

    /// What `open` makes of a whole object of at most `len_max` bytes.
    pub(crate) fn whole<T>(
        &self,
        name: ObjectName,
        len_max: u64,
        open: &mut dyn FnMut(&[u8]) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let is_short = |bytes: &[u8]| bytes.len() as u64 <= len_max;
        let mut read = || {
            let mut bytes = Vec::new();
            self.store.read(&key_of(name)?, len_max, &mut bytes)?;
            Ok(bytes)
        };
        match self.part(&name.to_string(), open, &is_short, &mut read) {
            // Another copy may be whole.
            Err(error)
                if (!error.is_unasked() || error.is_wrong_bytes()) && self.store.distrust(&key_of(name)?) =>
            {
                open(&read()?)
            }
            whole => whole,
        }
    }

    /// Whether parts are kept at all.
    pub(crate) const fn has_memory(&self) -> bool {
        self.cache.is_some()
    }

    /// Whether a part seems to be kept.
    pub(crate) fn is_kept(&self, name: ObjectName, range: (u64, u64)) -> bool {
        self.cache.is_some_and(|cache| cache.has_part(&self.vault, &range_name(name, range)))
    }

    /// Keeps the bytes from `offset` on, which were read otherwise and could be opened.
    pub(crate) fn keep(&self, name: ObjectName, offset: u64, bytes: &[u8]) {
        if let Some(cache) = self.cache {
            cache.keep_part(&self.vault, &range_name(name, (offset, bytes.len() as u64)), bytes);
        }
    }

    /// Keeps a whole object, which this program made.
    pub(crate) fn keep_whole(&self, name: ObjectName, bytes: &[u8]) {
        if let Some(cache) = self.cache {
            cache.keep_part(&self.vault, &name.to_string(), bytes);
        }
    }

    fn part<T>(
        &self,
        name: &str,
        open: &mut dyn FnMut(&[u8]) -> Result<T, EngineError>,
        fits: &dyn Fn(&[u8]) -> bool,
        read: &mut dyn FnMut() -> Result<Vec<u8>, EngineError>,
    ) -> Result<T, EngineError> {
        let kept = self.cache.and_then(|cache| cache.part(&self.vault, name));
        if let Some(kept) = kept.filter(|kept| fits(kept))
            && let Ok(opened) = open(&kept)
        {
            return Ok(opened);
        }
        let bytes = read()?;
        let opened = open(&bytes)?;
        if let Some(cache) = self.cache {
            cache.keep_part(&self.vault, name, &bytes);
        }
        Ok(opened)
    }
}

/// What a part is called in the local memory.
fn range_name(name: ObjectName, (offset, len): (u64, u64)) -> String {
    format!("{name} {offset} {len}")
}
