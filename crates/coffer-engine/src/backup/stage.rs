//! Workers that compress, seal, check and store.
//!
//! Each worker owns one pack at a time, so nothing is handed around but frames of plain bytes. Workers are started when the queue
//! is full: a small backup fills one pack, not one for each core.

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

/// Frames waiting for a worker.
const QUEUE_COUNT: usize = 2;
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
        Self {
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
    worker_count: usize,
}

impl<'scope, 'env> Stage<'scope, 'env> {
    pub(super) fn new(scope: &'scope Scope<'scope, 'env>, options: StageOptions<'env>) -> Self {
        let (jobs, queue) = crossbeam_channel::bounded(QUEUE_COUNT);
        let (results_in, results) = crossbeam_channel::unbounded();
        let (used_in, used) = crossbeam_channel::bounded(QUEUE_COUNT + options.worker_count_max);
        let open = Some(Open { jobs, queue, results: results_in });
        Self { scope, options, open, results, used, used_in, worker_count: 0 }
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

    fn start_worker(&mut self) {
        let Some(open) = &self.open else { return };
        self.worker_count += 1;
        let (options, queue) = (self.options, open.queue.clone());
        let (results, used) = (open.results.clone(), self.used_in.clone());
        self.scope.spawn(move || {
            let alarm = Alarm(results.clone());
            let work = Worker::new(options).and_then(|mut worker| worker.run(&queue, &results, &used));
            if let Err(error) = work {
                // Nobody listens only when the backup has already failed.
                drop(results.send(Err(error)));
            }
            drop(alarm);
        });
    }
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
    compressor: Compressor,
    reader: FrameReader,
    pack: Option<PackWriter>,
    buffer: Vec<u8>,
}

impl<'env> Worker<'env> {
    fn new(options: StageOptions<'env>) -> Result<Self, EngineError> {
        let compressor = Compressor::new(options.compression)?;
        Ok(Self { options, compressor, reader: FrameReader::new()?, pack: None, buffer: Vec::new() })
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
        let name = ObjectName::Pack(pack.id);
        put_new(self.options.store, name, &pack.bytes)?;
        let stored = StoredPack { id: pack.id, len: pack.bytes.len() as u64, directory: pack.directory };
        self.buffer = pack.bytes;
        results.send(Ok(stored)).map_err(|_| EngineError::WorkerGone)
    }
}
