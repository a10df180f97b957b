//! Workers that compress, seal, check and store.
//!
//! A worker compresses a frame by itself, and then takes a place with a pack for as long as it adds the frame: one that is open and nobody
//! else holds, or else a new one. So there are as few packs as the workers get along with. Workers are started when the queue is full.
//!
//! To a store that is far away other threads send the packs, several at once, while the workers go on. A pack has its place until it is
//! stored, and there are as many places as [`PACKS_LEN_MAX`] allows for: who finds none waits. So memory does not depend on the store, and of
//! the number of workers only their frames do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Scope;
use std::time::Duration;

use coffer_crypto::Rng;
use coffer_format::id::PackId;
use coffer_format::limits::PACK_LEN_MIN;
use coffer_format::object::ObjectName;
use coffer_format::pack::{ChunkKind, Directory};
use coffer_format::tree::ChunkRef;
use coffer_pipeline::compress::{Compression, Compressor, Payload};
use coffer_pipeline::pack_writer::{FinishedPack, PackSealer, PackWriter};
use coffer_store::ObjectStore;
use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TryRecvError, TrySendError};

use super::options::BackupOptions;
use crate::access::{Access, put_new_shared};
use crate::error::EngineError;
use crate::estimate::Sampler;
use crate::parallel;
use crate::pool::{Lent, Pool};
use crate::read::Opener;

/// Frames waiting for a worker.
const QUEUE_COUNT: usize = 2;
/// Packs that are open or being stored have about this many bytes together, or there are [`PACK_COUNT_MIN`] of them.
const PACKS_LEN_MAX: u64 = 80 << 20;
/// While one is being stored, another one can be filled.
const PACK_COUNT_MIN: usize = 2;
/// More workers than this wait for the one thread that reads, cuts and hashes, unless they compress more than by default.
const WORKER_COUNT_MAX: usize = 8;
/// Levels above this one take the time that more workers are worth.
const FAST_LEVEL_MAX: u8 = 3;
/// Memory of frames and of long chunks, all alike, so that each can be used for every other. What is longer is not used again: all would come to
/// have the memory of the longest chunk.
pub(super) const BUFFER_LEN: usize = 5 << 20;
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

type Results = Sender<Result<StoredPack, EngineError>>;

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
    /// Packs that are open or being stored.
    pack_count_max: usize,
    /// Threads that send packs; with none, workers store what they have filled.
    sender_count: usize,
    /// Frames are dropped: nothing is sealed or stored, and a sample compressed.
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
        let sending_count = if in_flight > 1 { in_flight } else { 0 };
        let worker_count_max = match options.compression {
            Compression::Level(level) if level > FAST_LEVEL_MAX => options.worker_count.max(1),
            _ => options.worker_count.clamp(1, WORKER_COUNT_MAX),
        };
        let fitting = usize::try_from(PACKS_LEN_MAX / options.pack_len_target.max(1)).unwrap_or(usize::MAX);
        let pack_count_max = fitting.max(PACK_COUNT_MIN).min(worker_count_max + sending_count);
        Self {
            sender_count: sending_count.min(pack_count_max),
            pack_count_max,
            store: access.store,
            rng: access.rng,
            sealer,
            stopped,
            compression: options.compression,
            extra_verify: options.extra_verify,
            pack_len_target: options.pack_len_target,
            worker_count_max,
            is_dry,
        }
    }
}

struct Open {
    jobs: Sender<Job>,
    queue: Receiver<Job>,
    results: Results,
    /// Packs to be sent, each of them waited for until a sender takes it; absent where workers store them.
    packs: Option<(Sender<SealedPack>, Receiver<SealedPack>)>,
}

/// Where a pack is filled, and is until it is stored.
#[derive(Default)]
struct Place {
    /// The open pack, unless its next frame is the first one.
    pack: Option<PackWriter>,
    /// Memory of a pack that was stored.
    buffer: Vec<u8>,
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
    places: Arc<Pool<Place>>,
    /// What packs are checked with.
    openers: Arc<Pool<Opener>>,
    worker_count: usize,
    at_work_count: Arc<AtomicUsize>,
    /// What is told of frames that are dropped.
    sampler: Sampler,
}

impl<'scope, 'env> Stage<'scope, 'env> {
    pub(super) fn new(scope: &'scope Scope<'scope, 'env>, options: StageOptions<'env>) -> Self {
        let (jobs, queue) = crossbeam_channel::bounded(QUEUE_COUNT);
        let (results_in, results) = crossbeam_channel::unbounded();
        let (used_in, used) = crossbeam_channel::bounded(QUEUE_COUNT + options.worker_count_max);
        let packs = (options.sender_count > 0).then(|| crossbeam_channel::bounded(0));
        let open = Some(Open { jobs, queue, results: results_in, packs });
        let places = Pool::new(options.pack_count_max);
        // No more packs are checked at once than are open.
        let openers = Pool::new(options.pack_count_max.min(options.worker_count_max));
        let at_work_count = Arc::default();
        let sampler = Sampler::new(options.compression);
        Self {
            scope,
            options,
            open,
            results,
            used,
            used_in,
            places,
            openers,
            worker_count: 0,
            at_work_count,
            sampler,
        }
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
            self.sampler.meet(kind, &frame.plain, &frame.chunks)?;
            drop(self.used_in.try_send(frame));
            return Ok(());
        }
        if self.worker_count == 0 {
            self.start_worker()?;
        }
        let jobs = self.open.as_ref().ok_or(EngineError::WorkerGone)?.jobs.clone();
        let mut job = match jobs.try_send(Job { kind, frame }) {
            Ok(()) => return self.collect(stored),
            Err(TrySendError::Full(job)) => job,
            Err(TrySendError::Disconnected(_)) => return Err(EngineError::WorkerGone),
        };
        if self.worker_count < self.options.worker_count_max {
            self.start_worker()?;
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

    /// Bytes that packs would have by the frames of a dry run, about.
    pub(super) fn packed_bytes(&self) -> u64 {
        self.sampler.packed_bytes()
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
            if let Err(error) = result.and_then(&mut *stored) {
                // What others would still store is of no use.
                self.stop();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Makes the workers drop what they have.
    pub(super) fn stop(&mut self) {
        self.open = None;
        self.options.stopped.store(true, Ordering::Relaxed);
    }

    /// Starts a thread; whether the system gave one.
    fn start(&self, work: impl FnOnce() + Send + 'scope) -> Result<(), EngineError> {
        let started = std::thread::Builder::new().spawn_scoped(self.scope, work);
        started.map(drop).map_err(|source| EngineError::NoThread { source })
    }

    fn start_sender(&self, open: &Open) -> Result<(), EngineError> {
        let Some((_, packs)) = &open.packs else { return Ok(()) };
        let (options, packs) = (self.options, packs.clone());
        let results = open.results.clone();
        self.start(move || {
            let alarm = Alarm(results.clone());
            for pack in packs {
                if let Err(error) = pack.store(&options, &results) {
                    drop(results.send(Err(error)));
                    break;
                }
            }
            drop(alarm);
        })
    }

    /// Starts one more worker, and with the first one the senders. Where the system gives no more threads, those that there are do the work.
    fn start_worker(&mut self) -> Result<(), EngineError> {
        let Some(open) = &self.open else { return Ok(()) };
        if self.worker_count == 0 {
            let started = (0..self.options.sender_count).map(|_| self.start_sender(open));
            needs_one(started)?;
        }
        let (options, queue) = (self.options, open.queue.clone());
        let (results, used) = (open.results.clone(), self.used_in.clone());
        let packs = open.packs.as_ref().map(|(packs, _)| packs.clone());
        let (places, openers) = (Arc::clone(&self.places), Arc::clone(&self.openers));
        let at_work_count = Arc::clone(&self.at_work_count);
        self.at_work_count.fetch_add(1, Ordering::AcqRel);
        let started = self.start(move || {
            let alarm = Alarm(results.clone());
            let worker = Worker { options, packs, places, openers, at_work_count, results: &results };
            if let Err(error) = worker.run(&queue, &used) {
                // Nobody listens only when the backup has already failed.
                drop(results.send(Err(error)));
            }
            drop(alarm);
        });
        match started {
            Ok(()) => self.worker_count += 1,
            Err(error) => {
                self.at_work_count.fetch_sub(1, Ordering::AcqRel);
                if self.worker_count == 0 {
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// The error of the first thread of several, without which there is none.
fn needs_one(mut started: impl Iterator<Item = Result<(), EngineError>>) -> Result<(), EngineError> {
    started.next().unwrap_or(Ok(()))?;
    for started in started {
        if started.is_err() {
            break;
        }
    }
    Ok(())
}

/// A pack that is complete and not stored yet, with its place.
struct SealedPack {
    pack: FinishedPack,
    place: Lent<Place>,
}

impl SealedPack {
    /// Stores the pack, unless the backup was given up.
    fn store(self, options: &StageOptions<'_>, results: &Results) -> Result<(), EngineError> {
        let Self { pack: FinishedPack { id, bytes, directory }, mut place } = self;
        if options.stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        let len = bytes.len() as u64;
        place.buffer = put_new_shared(options.store, ObjectName::Pack(id), bytes)?;
        results.send(Ok(StoredPack { id, len, directory })).map_err(|_| EngineError::WorkerGone)
    }
}

/// Tells the main thread when a worker panics, which would otherwise wait for it.
struct Alarm(Results);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.0.send(Err(EngineError::WorkerGone)));
        }
    }
}

struct Worker<'env, 'w> {
    options: StageOptions<'env>,
    /// Where packs go that others are to store.
    packs: Option<Sender<SealedPack>>,
    places: Arc<Pool<Place>>,
    openers: Arc<Pool<Opener>>,
    /// Workers that wait for frames or have one.
    at_work_count: Arc<AtomicUsize>,
    results: &'w Results,
}

impl Worker<'_, '_> {
    fn run(&self, queue: &Receiver<Job>, used: &Sender<Frame>) -> Result<(), EngineError> {
        let mut compressor = Compressor::new(self.options.compression)?;
        for Job { kind, mut frame } in queue {
            let chunks = std::mem::take(&mut frame.chunks);
            let payload = compressor.compress(&frame.plain)?;
            let mut place = self.place_for(&payload, chunks.len())?;
            let mut pack = match place.pack.take() {
                Some(pack) => pack,
                None => {
                    let buffer = std::mem::take(&mut place.buffer);
                    PackWriter::begin(self.options.sealer, self.options.rng, buffer)?
                }
            };
            pack.add_payload(kind, &payload, chunks)?;
            if self.options.extra_verify {
                let mut opener = self.openers.take(|_| true);
                let (reader, _) = opener.parts()?;
                // The frame is in the pack; its memory will do for what is opened.
                pack.verify_newest(&self.options.sealer.domain, reader, &mut frame.plain)?;
            }
            if frame.plain.capacity() <= BUFFER_LEN {
                drop(used.try_send(frame));
            }
            // From here on others may add to it; one that failed is gone.
            let target_reached = pack.stored_len() >= self.options.pack_len_target;
            place.pack = Some(pack);
            if target_reached {
                self.store(place)?;
            }
        }
        // Who is still at work may have a frame for an open pack, and the last one stores all that are left.
        let is_last = self.at_work_count.fetch_sub(1, Ordering::AcqRel) == 1;
        while let Some(place) = self.places.try_take(|place| place.pack.is_some()) {
            self.store(place)?;
            if !is_last {
                break;
            }
        }
        Ok(())
    }

    /// A place whose pack has room for a frame, within the length that packs are to have. Those that have none are stored.
    fn place_for(&self, payload: &Payload<'_>, chunk_count: usize) -> Result<Lent<Place>, EngineError> {
        let fits = |pack: &PackWriter| {
            // None is shorter than the least length, whatever was wanted.
            let len_end = self.options.pack_len_target.max(PACK_LEN_MIN + 1);
            let is_within = pack.len_with(payload.stored_len(), chunk_count) < len_end;
            (is_within || pack.is_empty()) && pack.has_room(payload.plain_len(), chunk_count)
        };
        loop {
            let place = self.places.take(|place| place.pack.is_some());
            if place.pack.as_ref().is_none_or(fits) {
                return Ok(place);
            }
            self.store(place)?;
        }
    }

    /// Closes the pack, and stores it or has it stored.
    fn store(&self, mut place: Lent<Place>) -> Result<(), EngineError> {
        let Some(pack) = place.pack.take() else { return Ok(()) };
        if self.options.stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        let sealed = SealedPack { pack: pack.finish()?, place };
        match &self.packs {
            // Senders end only when all of them have failed, and that was told.
            Some(packs) => packs.send(sealed).map_err(|_| EngineError::WorkerGone),
            None => sealed.store(&self.options, self.results),
        }
    }
}
