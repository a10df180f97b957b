//! What one store is known to do with uploads, in this process and beyond it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Checksums, UploadFacts, UploadMemory};

/// How uploads to one store are made.
pub(super) struct Uploads {
    pub(super) choice: Checksums,
    memory: Option<Arc<dyn UploadMemory>>,
    /// The store, in the words of the memory.
    place: String,
    /// Read when something is first uploaded.
    known: Mutex<Option<UploadFacts>>,
}

impl Uploads {
    pub(super) fn new(choice: Checksums, memory: Option<Arc<dyn UploadMemory>>, place: String) -> Self {
        Self { choice, memory, place, known: Mutex::default() }
    }

    /// What is known now.
    pub(super) fn known(&self) -> UploadFacts {
        self.recall(&mut self.lock())
    }

    /// Takes notice of what was found, here and in the memory.
    pub(super) fn learn(&self, newer: &UploadFacts) {
        let mut known = self.lock();
        let before = self.recall(&mut known);
        let after = before.updated(newer);
        if after == before {
            return;
        }
        *known = Some(after);
        if let Some(memory) = &self.memory {
            memory.write(&self.place, &after);
        }
    }

    fn recall(&self, known: &mut Option<UploadFacts>) -> UploadFacts {
        let read = || self.memory.as_ref().and_then(|memory| memory.read(&self.place));
        *known.get_or_insert_with(|| read().unwrap_or_default())
    }

    fn lock(&self) -> MutexGuard<'_, Option<UploadFacts>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploads")
            .field("choice", &self.choice)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
