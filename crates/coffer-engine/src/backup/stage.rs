//! Workers that compress, seal, check and store.
//!
//! Each worker owns one pack at a time, so nothing is handed around but frames of plain bytes. Workers are started when the queue
//! is full: a small backup fills one pack, not one for each core.
//!
//! To a store that is far away other threads send the packs, several at once, while the workers go on. What is under way has at most
//! [`UNDER_WAY_LEN_MAX`] bytes, beside the pack of each worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Scope;
use std::time::Duration;

use coffer_crypto::Rng;
use coffer_format::id::PackId;
use coffer_format::object::ObjectName;
use coffer_format::pack::{ChunkKind, Directory};
use coffer_format::tree::ChunkRef;
use coffer_pipeline::compress::{Compression, Compressor};
use coffer_pipeline::pack_reader::FrameReader;
use coffer_pipeline::pack_writer::{PackSealer, PackWriter};
use coffer_store::ObjectStore;
use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TryRecvError, TrySendError};

use super::options::BackupOptions;
use crate::access::{Access, put_new};
use crate::error::EngineError;
use crate::parallel;

/// Frames waiting for a worker.
const QUEUE_COUNT: usize = 2;
/// Packs that are being sent to a store far away have at most this many bytes together; one may be sent in any case.
const UNDER_WAY_LEN_MAX: u64 = 128 << 20;
/// How often a full queue is looked at for a worker that failed.
const FAILURE_POLL: Duration = Duration::from_millis(20);

/// Plain bytes of one frame on their way to a worker.
#[derive(Debug, Default)]
pub(super) struct Frame {
    pub(super) plain: Vec<u8>,
    pub(super) chunks: Vec<ChunkRef>,
}

struct Job {
    kind: ChunkKind,
    frame: Frame,
}

/// A pack that is durable in the store.
#[derive(Debug)]
pub(super) struct StoredPack {
    pub(super) id: PackId,
    pub(super) len: u64,
    pub(super) directory: Directory,
}

/// What workers need.
#[derive(Clone, Copy)]
pub(super) struct StageOptions<'env> {
    store: &'env dyn ObjectStore,
    rng: &'env dyn Rng,
    sealer: &'env PackSealer,
    stopped: &'env AtomicBool,
    compression: Compression,
    extra_verify: bool,
    pack_len_target: u64,
    worker_count_max: usize,
    /// Threads that send packs; with none, each worker stores its own.
    sender_count: usize,
    /// Frames are dropped: nothing is compressed, sealed or stored.
    is_dry: bool,
}

impl<'env> StageOptions<'env> {
    pub(super) fn new(
        access: &Access<'env>,
        sealer: &'env PackSealer,
        options: &BackupOptions,
        stopped: &'env AtomicBool,
        is_dry: bool,
    ) -> Self {
        let in_flight = parallel::in_flight(access.store);
        let fitting =
            usize::try_from(UNDER_WAY_LEN_MAX / options.pack_len_target.max(1)).unwrap_or(usize::MAX);
        let sender_count = if in_flight > 1 { fitting.clamp(1, in_flight) } else { 0 };
        Self {
            sender_count,
            store: access.store,
            rng: access.rng,
            sealer,
            stopped,
            compression: options.compression,
            extra_verify: options.extra_verify,
            pack_len_target: options.pack_len_target,
            worker_count_max: options.worker_count.max(1),
            is_dry,
        }
    }
}

struct Open {
    jobs: Sender<Job>,
    queue: Receiver<Job>,
    results: Sender<Result<StoredPack, EngineError>>,
    /// Packs to be sent, each of them waited for until a sender takes it; absent where workers store them.
    packs: Option<(Sender<SealedPack>, Receiver<SealedPack>)>,
}

/// The workers and the queues to and from them.
pub(super) struct Stage<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    options: StageOptions<'env>,
    /// The ends that workers are started with; gone once no more work comes.
    open: Option<Open>,
    results: Receiver<Result<StoredPack, EngineError>>,
    used: Receiver<Frame>,
    used_in: Sender<Frame>,
    /// Memory of packs that were sent.
    buffers: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
    worker_count: usize,
}

impl<'scope, 'env> Stage<'scope, 'env> {
    pub(super) fn new(scope: &'scope Scope<'scope, 'env>, options: StageOptions<'env>) -> Self {
        let (jobs, queue) = crossbeam_channel::bounded(QUEUE_COUNT);
        let (results_in, results) = crossbeam_channel::unbounded();
        let (used_in, used) = crossbeam_channel::bounded(QUEUE_COUNT + options.worker_count_max);
        let packs = (options.sender_count > 0).then(|| crossbeam_channel::bounded(0));
        let buffers = crossbeam_channel::bounded(options.worker_count_max);
        let open = Some(Open { jobs, queue, results: results_in, packs });
        Self { scope, options, open, results, used, used_in, buffers, worker_count: 0 }
    }

    /// An empty frame, with the memory of one that was used where there is one.
    pub(super) fn empty_frame(&self) -> Frame {
        let mut frame = self.used.try_recv().unwrap_or_default();
        frame.plain.clear();
        frame.chunks = Vec::new();
        frame
    }

    /// Hands a frame to the workers; waits while all are busy. Packs that were stored meanwhile come through `stored`.
    pub(super) fn submit(
        &mut self,
        kind: ChunkKind,
        frame: Frame,
        stored: &mut dyn FnMut(StoredPack) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        if self.options.is_dry {
            drop(self.used_in.try_send(frame));
            return Ok(());
        }
        if self.worker_count == 0 {
            self.start_worker();
        }
        let jobs = self.open.as_ref().ok_or(EngineError::WorkerGone)?.jobs.clone();
        let mut job = match jobs.try_send(Job { kind, frame }) {
            Ok(()) => return self.collect(stored),
            Err(TrySendError::Full(job)) => job,
            Err(TrySendError::Disconnected(_)) => return Err(EngineError::WorkerGone),
        };
        if self.worker_count < self.options.worker_count_max {
            self.start_worker();
        }
        loop {
            match jobs.send_timeout(job, FAILURE_POLL) {
                Ok(()) => return self.collect(stored),
                Err(SendTimeoutError::Timeout(back)) => job = back,
                Err(SendTimeoutError::Disconnected(_)) => return Err(EngineError::WorkerGone),
            }
            self.collect(stored)?;
        }
    }

    /// Takes what workers have stored so far.
    pub(super) fn collect(
        &mut self,
        stored: &mut dyn FnMut(StoredPack) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        loop {
            match self.results.try_recv() {
                Ok(result) => stored(result?)?,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Lets the workers store what they have, and takes it.
    pub(super) fn finish(
        &mut self,
        stored: &mut dyn FnMut(StoredPack) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.open = None;
        // Ends when the last worker has dropped its end.
        while let Ok(result) = self.results.recv() {
            stored(result?)?;
        }
        Ok(())
    }

    /// Makes the workers drop what they have.
    pub(super) fn stop(&mut self) {
        self.open = None;
        self.options.stopped.store(true, Ordering::Relaxed);
    }

    fn start_sender(&self, open: &Open) {
        let Some((_, packs)) = &open.packs else { return };
        let (options, packs) = (self.options, packs.clone());
        let (results, buffers) = (open.results.clone(), self.buffers.0.clone());
        self.scope.spawn(move || {
            let alarm = Alarm(results.clone());
            for pack in packs {
                match store_pack(&options, pack, &results) {
                    Ok(buffer) => drop(buffers.try_send(buffer)),
                    Err(error) => {
                        drop(results.send(Err(error)));
                        break;
                    }
                }
            }
            drop(alarm);
        });
    }

    fn start_worker(&mut self) {
        let Some(open) = &self.open else { return };
        if self.worker_count == 0 {
            (0..self.options.sender_count).for_each(|_| self.start_sender(open));
        }
        self.worker_count += 1;
        let (options, queue) = (self.options, open.queue.clone());
        let (results, used) = (open.results.clone(), self.used_in.clone());
        let packs = open.packs.as_ref().map(|(packs, _)| packs.clone());
        let buffers = self.buffers.1.clone();
        self.scope.spawn(move || {
            let alarm = Alarm(results.clone());
            let work = Worker::new(options, packs, buffers)
                .and_then(|mut worker| worker.run(&queue, &results, &used));
            if let Err(error) = work {
                // Nobody listens only when the backup has already failed.
                drop(results.send(Err(error)));
            }
            drop(alarm);
        });
    }
}

/// A pack that is complete and not stored yet.
type SealedPack = coffer_pipeline::pack_writer::FinishedPack;

/// Stores a pack, unless the backup was given up. Gives its memory back.
fn store_pack(
    options: &StageOptions<'_>,
    pack: SealedPack,
    results: &Sender<Result<StoredPack, EngineError>>,
) -> Result<Vec<u8>, EngineError> {
    if options.stopped.load(Ordering::Relaxed) {
        return Ok(pack.bytes);
    }
    put_new(options.store, ObjectName::Pack(pack.id), &pack.bytes)?;
    let stored = StoredPack { id: pack.id, len: pack.bytes.len() as u64, directory: pack.directory };
    results.send(Ok(stored)).map_err(|_| EngineError::WorkerGone)?;
    Ok(pack.bytes)
}

/// Tells the main thread when a worker panics, which would otherwise wait for it.
struct Alarm(Sender<Result<StoredPack, EngineError>>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.0.send(Err(EngineError::WorkerGone)));
        }
    }
}

struct Worker<'env> {
    options: StageOptions<'env>,
    /// Where packs go that others are to store.
    packs: Option<Sender<SealedPack>>,
    buffers: Receiver<Vec<u8>>,
    compressor: Compressor,
    reader: FrameReader,
    pack: Option<PackWriter>,
    buffer: Vec<u8>,
}

impl<'env> Worker<'env> {
    fn new(
        options: StageOptions<'env>,
        packs: Option<Sender<SealedPack>>,
        buffers: Receiver<Vec<u8>>,
    ) -> Result<Self, EngineError> {
        let compressor = Compressor::new(options.compression)?;
        let (reader, buffer) = (FrameReader::new()?, Vec::new());
        Ok(Self { options, packs, buffers, compressor, reader, pack: None, buffer })
    }

    fn run(
        &mut self,
        queue: &Receiver<Job>,
        results: &Sender<Result<StoredPack, EngineError>>,
        used: &Sender<Frame>,
    ) -> Result<(), EngineError> {
        for Job { kind, mut frame } in queue {
            let full = |pack: &PackWriter| !pack.has_room(frame.plain.len(), frame.chunks.len());
            if self.pack.as_ref().is_some_and(full) {
                self.store(results)?;
            }
            let mut pack = match self.pack.take() {
                Some(pack) => pack,
                None => {
                    let buffer = std::mem::take(&mut self.buffer);
                    PackWriter::begin(self.options.sealer, self.options.rng, buffer)?
                }
            };
            let chunks = std::mem::take(&mut frame.chunks);
            pack.add_frame(kind, &frame.plain, chunks, &mut self.compressor)?;
            drop(used.try_send(frame));
            if self.options.extra_verify {
                pack.verify_newest(&self.options.sealer.domain, &mut self.reader)?;
            }
            let target_reached = pack.stored_len() >= self.options.pack_len_target;
            self.pack = Some(pack);
            if target_reached {
                self.store(results)?;
            }
        }
        self.store(results)
    }

    /// Closes the pack, if there is one, and stores it.
    fn store(&mut self, results: &Sender<Result<StoredPack, EngineError>>) -> Result<(), EngineError> {
        let Some(pack) = self.pack.take() else { return Ok(()) };
        if self.options.stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        let pack = pack.finish()?;
        match &self.packs {
            // Senders end only when all of them have failed, and that was told.
            Some(packs) => packs.send(pack).map_err(|_| EngineError::WorkerGone)?,
            None => {
                self.buffer = store_pack(&self.options, pack, results)?;
                return Ok(());
            }
        }
        self.buffer = self.buffers.try_recv().unwrap_or_default();
        Ok(())
    }
}
