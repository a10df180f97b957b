//! What every operation gets from outside: store, clock, randomness, and the local memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coffer_crypto::Rng;
use coffer_format::object::ObjectName;
use coffer_store::{ObjectKey, ObjectStore, PutOutcome};

use crate::cache::Cache;
use crate::clock::Clock;
use crate::error::EngineError;

/// The world as an operation sees it.
#[derive(Clone, Copy)]
pub struct Access<'a> {
    /// Where the vault is.
    pub store: &'a dyn ObjectStore,
    /// What time it is.
    pub clock: &'a dyn Clock,
    /// Where randomness comes from.
    pub rng: &'a dyn Rng,
    /// What this machine remembers; `None` if it is to remember nothing.
    pub cache: Option<&'a Cache>,
    /// Set when the user wants to stop.
    pub interrupt: &'a AtomicBool,
}

impl std::fmt::Debug for Access<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("store", &self.store.url()).finish_non_exhaustive()
    }
}

impl Access<'_> {
    /// Ends the operation here if the user wants to stop.
    pub(crate) fn check_interrupt(&self) -> Result<(), EngineError> {
        if self.interrupt.load(Ordering::Relaxed) { Err(EngineError::Interrupted) } else { Ok(()) }
    }

    pub(crate) fn now_s(&self) -> i64 {
        self.clock.now_ns().div_euclid(1_000_000_000)
    }
}

/// The store's key of an object of the vault.
pub(crate) fn key_of(name: ObjectName) -> Result<ObjectKey, EngineError> {
    Ok(ObjectKey::new(name.to_string())?)
}

/// Creates an object whose name is the hash of its bytes. One that is there already must hold the same.
pub(crate) fn put_new(store: &dyn ObjectStore, name: ObjectName, bytes: &[u8]) -> Result<(), EngineError> {
    let key = key_of(name)?;
    if store.put_if_absent(&key, bytes)? == PutOutcome::Created {
        return Ok(());
    }
    check_there(store, name, bytes)
}

/// As [`put_new`], with bytes that the store may hold on to while it sends them. Gives their memory back, to be used again.
pub(crate) fn put_new_shared(
    store: &dyn ObjectStore,
    name: ObjectName,
    bytes: Vec<u8>,
) -> Result<Vec<u8>, EngineError> {
    let bytes = Arc::new(bytes);
    if store.put_shared_if_absent(&key_of(name)?, &bytes)? != PutOutcome::Created {
        check_there(store, name, &bytes)?;
    }
    Ok(Arc::try_unwrap(bytes).unwrap_or_default())
}

fn check_there(store: &dyn ObjectStore, name: ObjectName, bytes: &[u8]) -> Result<(), EngineError> {
    let mut there = Vec::new();
    store.read(&key_of(name)?, bytes.len() as u64, &mut there)?;
    if there == bytes {
        return Ok(());
    }
    Err(EngineError::damaged(name, EngineError::invalid("other bytes stand under its name")))
}
