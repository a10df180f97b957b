//! Ids of chunks, computed by a thread of its own while the next ones are read and cut.
//!
//! One thread, so that ids come back in the order in which chunks were given. It begins with the first chunk, and ends with the [`Namer`].
//! Where the system gives none, ids are computed as chunks are given.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use coffer_crypto::DomainKeys;
use coffer_format::id::ChunkId;
use coffer_format::pack::ChunkKind;
use coffer_pipeline::pack_reader::chunk_id;
use crossbeam_channel::{Receiver, Sender};

use super::stage::BUFFER_LEN;
use crate::error::EngineError;
use crate::threads;

/// Chunks on their way: more of them only wait.
const UNDER_WAY_COUNT_MAX: usize = 2;
/// Their bytes, beside the newest one.
const UNDER_WAY_LEN_MAX: usize = 4 << 20;

/// A chunk with its id.
pub(super) struct Named {
    pub(super) bytes: Vec<u8>,
    pub(super) id: ChunkId,
}

/// Computes ids of data chunks.
pub(super) struct Namer {
    state: State,
    under_way_count: usize,
    under_way_len: usize,
    /// A buffer to be used again.
    spare: Option<Vec<u8>>,
}

enum State {
    /// With the keys of the domain.
    Idle(Arc<DomainKeys>),
    Running {
        chunks: Sender<Vec<u8>>,
        named: Receiver<Named>,
        thread: JoinHandle<()>,
    },
    /// Without a thread.
    Alone {
        keys: Arc<DomainKeys>,
        named: VecDeque<Named>,
    },
    Ended,
}

impl Namer {
    /// Ids are those of the domain whose `keys` are given.
    pub(super) fn new(keys: DomainKeys) -> Self {
        Self { state: State::Idle(Arc::new(keys)), under_way_count: 0, under_way_len: 0, spare: None }
    }

    /// Gives a chunk, whose id comes behind those of the chunks given before.
    pub(super) fn give(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let mut copy = self.spare.take().unwrap_or_default();
        copy.clear();
        copy.reserve_exact(bytes.len().max(BUFFER_LEN));
        copy.extend_from_slice(bytes);
        self.begin();
        match &mut self.state {
            State::Running { chunks, .. } => chunks.send(copy).map_err(|_| EngineError::WorkerGone)?,
            State::Alone { keys, named } => {
                let id = chunk_id(keys, ChunkKind::Data, &copy);
                named.push_back(Named { bytes: copy, id });
            }
            State::Idle(_) | State::Ended => return Err(EngineError::WorkerGone),
        }
        self.under_way_count += 1;
        self.under_way_len += bytes.len();
        Ok(())
    }

    /// Whether a chunk should be taken before another one is given.
    pub(super) const fn is_full(&self) -> bool {
        self.under_way_count > 0
            && (self.under_way_count >= UNDER_WAY_COUNT_MAX || self.under_way_len > UNDER_WAY_LEN_MAX)
    }

    /// Takes the chunk that was given first, once it has its id; `None` if all were taken.
    pub(super) fn take(&mut self) -> Result<Option<Named>, EngineError> {
        if self.under_way_count == 0 {
            return Ok(None);
        }
        let taken = match &mut self.state {
            State::Running { named, .. } => named.recv().ok(),
            State::Alone { named, .. } => named.pop_front(),
            State::Idle(_) | State::Ended => None,
        };
        let taken = taken.ok_or(EngineError::WorkerGone)?;
        self.under_way_count -= 1;
        self.under_way_len -= taken.bytes.len();
        Ok(Some(taken))
    }

    /// Gives a buffer back.
    pub(super) fn reuse(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() <= BUFFER_LEN {
            self.spare = Some(buffer);
        }
    }

    /// Drops what a stream that was given up has left.
    pub(super) fn clear(&mut self) -> Result<(), EngineError> {
        while let Some(left) = self.take()? {
            self.reuse(left.bytes);
        }
        Ok(())
    }

    fn begin(&mut self) {
        let keys = match std::mem::replace(&mut self.state, State::Ended) {
            State::Idle(keys) => keys,
            state => return self.state = state,
        };
        let (chunks, given) = crossbeam_channel::bounded::<Vec<u8>>(UNDER_WAY_COUNT_MAX);
        let (done, named) = crossbeam_channel::bounded(UNDER_WAY_COUNT_MAX);
        let same = Arc::clone(&keys);
        let thread = threads::start_alone(move || {
            for bytes in given {
                let id = chunk_id(&same, ChunkKind::Data, &bytes);
                if done.send(Named { bytes, id }).is_err() {
                    return;
                }
            }
        });
        self.state = match thread {
            Ok(thread) => State::Running { chunks, named, thread },
            Err(_) => State::Alone { keys, named: VecDeque::new() },
        };
    }
}

impl Drop for Namer {
    fn drop(&mut self) {
        if let State::Running { chunks, named, thread } = std::mem::replace(&mut self.state, State::Ended) {
            drop((chunks, named));
            // Its keys are gone when this is.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use coffer_crypto::VaultKey;
    use coffer_crypto::rng::OsRng;

    use super::*;

    /// The same keys twice.
    fn keys() -> [DomainKeys; 2] {
        let reader = VaultKey::generate(&OsRng).unwrap().reader();
        [reader.domain_keys(&[3; 16]), reader.domain_keys(&[3; 16])]
    }

    #[test]
    fn ids_come_in_order_and_are_those_of_the_chunks() {
        name_all();
        // The same without a thread.
        threads::tests::leave(0);
        name_all();
    }

    fn name_all() {
        let [keys, same] = keys();
        let mut namer = Namer::new(keys);
        let chunks: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![n; usize::from(n) * 100_000]).collect();
        let mut taken = Vec::new();
        for chunk in &chunks {
            while namer.is_full() {
                taken.push(namer.take().unwrap().unwrap());
            }
            namer.give(chunk).unwrap();
            assert!(namer.under_way_count <= UNDER_WAY_COUNT_MAX);
        }
        while let Some(named) = namer.take().unwrap() {
            taken.push(named);
        }
        assert_eq!(taken.len(), chunks.len());
        for (named, chunk) in taken.iter().zip(&chunks) {
            assert!(named.bytes == *chunk && named.id == chunk_id(&same, ChunkKind::Data, chunk));
        }
    }

    #[test]
    fn what_was_given_up_is_dropped() {
        let [keys, _] = keys();
        let mut namer = Namer::new(keys);
        namer.clear().unwrap();
        namer.give(b"one").unwrap();
        namer.give(b"two").unwrap();
        namer.clear().unwrap();
        namer.give(b"three").unwrap();
        assert_eq!(namer.take().unwrap().unwrap().bytes, b"three");
        assert!(namer.take().unwrap().is_none());
    }
}
