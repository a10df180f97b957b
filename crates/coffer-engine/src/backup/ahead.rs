//! Walking and reading ahead: a thread walks, others tell what is likely to be new and read small files before their turn comes.
//!
//! Entries come out in the order of the walk, in batches whose number is bounded. What is read ahead is only a guess that it will be
//! wanted, and only what went well: a file that changed meanwhile, that cannot be read, that is long or has holes, is left to its turn, where
//! it is read as if nothing had been tried.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::thread::Scope;

use coffer_collect::{CollectError, EntryKind, EntryPath, Found, Metadata, Walk};
use coffer_crypto::DomainKeys;
use coffer_format::limits::INLINE_LEN_MAX;
use coffer_format::pack::ChunkKind;
use coffer_format::tree::ChunkRef;
use coffer_pipeline::pack_reader::chunk_id;
use crossbeam_channel::{Receiver, Sender};

use super::run::{Fingerprints, NO_FINGERPRINT};
use crate::error::EngineError;
use crate::threads;

/// Entries of a batch.
const BATCH_ENTRY_COUNT: usize = 256;
/// Directories that the entries of a batch may hold open.
const BATCH_DIRECTORY_COUNT: usize = 32;
/// Bytes of small files after which a batch is closed.
const BATCH_LEN: u64 = 1 << 20;
/// Longer files are read when their turn comes.
const AHEAD_LEN_MAX: u64 = 256 << 10;

/// An entry of the walk, in its turn.
pub(super) struct Item {
    pub(super) found: Found,
    /// What its stat fields amount to.
    pub(super) fingerprint: u64,
    /// What was read of it already.
    pub(super) ahead: Option<Ahead>,
}

/// A small file that was read as the walk found it.
pub(super) struct Ahead {
    pub(super) metadata: Metadata,
    /// Where its bytes are among those of its batch.
    range: Range<usize>,
    /// Its one chunk, unless it is short enough to stand in its entry.
    pub(super) chunk: Option<ChunkRef>,
}

/// Entries that follow each other, as the walk found them.
struct Batch {
    number: u64,
    found: Vec<Result<Found, CollectError>>,
    /// A buffer for what will be read.
    bytes: Vec<u8>,
}

/// The same with what was read of them.
struct Ready {
    number: u64,
    items: Vec<Result<Item, CollectError>>,
    bytes: Vec<u8>,
}

/// Fingerprints of files that will not be read, as far as a guess needs them: the first four bytes of each. A file that has these in common
/// with another one is not read ahead, and that is all.
#[derive(Default)]
pub(super) struct Unchanged {
    beginnings: Vec<u32>,
}

impl Unchanged {
    pub(super) fn push(&mut self, fingerprint: u64) {
        self.beginnings.push(beginning(fingerprint));
    }

    /// Sorted first.
    fn contains(&self, fingerprint: u64) -> bool {
        self.beginnings.binary_search(&beginning(fingerprint)).is_ok()
    }
}

fn beginning(fingerprint: u64) -> u32 {
    u32::try_from(fingerprint >> 32).unwrap_or_default()
}

/// Which files will be read.
pub(super) struct Guess {
    /// Those that will not be; `None` if nothing can be told, and nothing is read ahead.
    unchanged: Option<Unchanged>,
    len_max: u64,
    fingerprints: Fingerprints,
}

impl Guess {
    /// From the fingerprints that are known; `None` if nothing can be told. Files of at most `single_len_max` bytes are one chunk.
    pub(super) fn new(
        fingerprints: Fingerprints,
        mut unchanged: Option<Unchanged>,
        single_len_max: usize,
    ) -> Self {
        if let Some(unchanged) = &mut unchanged {
            unchanged.beginnings.sort_unstable();
        }
        Self { unchanged, len_max: AHEAD_LEN_MAX.min(single_len_max as u64), fingerprints }
    }

    /// Takes the entries of a batch out of it, and reads those files that will be wanted.
    fn read(&self, batch: Batch, keys: &DomainKeys) -> Ready {
        let Batch { number, found, mut bytes } = batch;
        let mut item_of = |found: Found| {
            let fingerprint = self.fingerprints.of(&found);
            let is_wanted = self.wants(&found, fingerprint);
            let ahead = if is_wanted { read(&found, keys, &mut bytes) } else { None };
            Item { found, fingerprint, ahead }
        };
        let items = found.into_iter().map(|found| found.map(&mut item_of)).collect();
        Ready { number, items, bytes }
    }

    /// Whether a file is likely to be read, and fit to be read ahead. Of hard links only the first is read, so they wait.
    fn wants(&self, found: &Found, fingerprint: u64) -> bool {
        let is_changed =
            |unchanged: &Unchanged| fingerprint == NO_FINGERPRINT || !unchanged.contains(fingerprint);
        found.kind() == EntryKind::File
            && found.link_count() < 2
            && found.size() <= self.len_max
            && !found.may_have_holes()
            && self.unchanged.as_ref().is_some_and(is_changed)
    }
}

/// What is left of a walk at its end.
pub(super) struct Walked {
    pub(super) skipped: Vec<EntryPath>,
    pub(super) excluded_count: u64,
    batch_count: u64,
}

impl Walked {
    fn of(walk: &Walk, batch_count: u64) -> Self {
        Self { skipped: walk.skipped().to_vec(), excluded_count: walk.excluded_count(), batch_count }
    }
}

/// The entries of a walk, one after the other.
pub(super) enum Entries {
    /// As the walk gives them.
    Direct(Box<Walk>, Fingerprints),
    /// Read ahead by other threads.
    Ahead(ReadAhead),
}

/// The receiving end of threads that walk and read.
pub(super) struct ReadAhead {
    done: Receiver<Result<Ready, ReaderGone>>,
    walked: Receiver<Walked>,
    /// Buffers that were used go back, which lets the walk go on.
    buffers: Sender<Vec<u8>>,
    /// Batches that came before their turn.
    early: HashMap<u64, Ready>,
    next_number: u64,
    items: std::vec::IntoIter<Result<Item, CollectError>>,
    bytes: Vec<u8>,
    /// A reader is gone, and its batch will not come.
    is_broken: bool,
}

/// What a reader that panics sends in the place of its batch.
struct ReaderGone;

impl Entries {
    /// Entries that `reader_count` threads read ahead, and one walks; with 0, or where the system gives no threads, nothing is done before
    /// its turn. `guess` tells which files to read.
    pub(super) fn new<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        walk: Walk,
        guess: Guess,
        keys: &'env DomainKeys,
        reader_count: usize,
    ) -> Self {
        if reader_count == 0 {
            return Self::Direct(Box::new(walk), guess.fingerprints);
        }
        let fingerprints = guess.fingerprints;
        let guess = Arc::new(guess);
        let read = move |batch| guess.read(batch, keys);
        match ReadAhead::start(scope, Box::new(walk), reader_count, read) {
            Ok(ahead) => Self::Ahead(ahead),
            Err(walk) => Self::Direct(walk, fingerprints),
        }
    }

    /// The next entry; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Result<Item, CollectError>> {
        match self {
            Self::Direct(walk, fingerprints) => {
                let found = walk.next()?;
                Some(found.map(|found| {
                    let fingerprint = fingerprints.of(&found);
                    Item { found, fingerprint, ahead: None }
                }))
            }
            Self::Ahead(ahead) => ahead.next(),
        }
    }

    /// The bytes of a file that was read ahead: that of the item which came last.
    pub(super) fn bytes_of(&self, ahead: &Ahead) -> &[u8] {
        match self {
            Self::Direct(..) => &[],
            Self::Ahead(reading) => &reading.bytes[ahead.range.clone()],
        }
    }

    /// What the walk tells at its end.
    pub(super) fn finish(self) -> Result<Walked, EngineError> {
        match self {
            Self::Direct(walk, _) => Ok(Walked::of(&walk, 0)),
            Self::Ahead(ahead) => ahead.finish(),
        }
    }
}

impl ReadAhead {
    /// Starts a thread that walks, and `reader_count` that do `read` with each batch, or as many of these as the system gives. Without one of
    /// each kind the walk comes back.
    fn start<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        walk: Box<Walk>,
        reader_count: usize,
        read: impl Fn(Batch) -> Ready + Clone + Send + 'scope,
    ) -> Result<Self, Box<Walk>> {
        let batch_count = 2 * reader_count + 2;
        let (jobs_in, jobs) = crossbeam_channel::bounded(batch_count);
        let (done_in, done) = crossbeam_channel::bounded(batch_count);
        let (walked_in, walked) = crossbeam_channel::bounded(1);
        let (buffers, free) = crossbeam_channel::bounded(batch_count);
        (0..batch_count).for_each(|_| drop(buffers.try_send(Vec::new())));
        // The walk is handed over when all threads are there.
        let (walk_in, walk_out) = crossbeam_channel::bounded::<Box<Walk>>(1);
        let walker = threads::start(scope, move || {
            let Ok(mut walk) = walk_out.recv() else { return };
            let walker = Walker { jobs: jobs_in, free };
            let batch_count = walker.run(&mut walk);
            // Nobody listens only when the backup has already failed.
            drop(walked_in.send(Walked::of(&walk, batch_count)));
        });
        let start_reader = || {
            let (jobs, done, read) = (jobs.clone(), done_in.clone(), read.clone());
            threads::start(scope, move || {
                let alarm = Alarm(done.clone());
                for batch in jobs {
                    if done.send(Ok(read(batch))).is_err() {
                        return;
                    }
                }
                drop(alarm);
            })
        };
        let has_reader = (0..reader_count).take_while(|_| start_reader().is_ok()).count() > 0;
        if walker.is_err() || !has_reader {
            // What was started ends, as nothing comes.
            return Err(walk);
        }
        walk_in.send(walk).map_err(|unsent| unsent.0)?;
        let (early, items) = (HashMap::new(), Vec::new().into_iter());
        let (next_number, bytes, is_broken) = (0, Vec::new(), false);
        Ok(Self { done, walked, buffers, early, next_number, items, bytes, is_broken })
    }

    fn next(&mut self) -> Option<Result<Item, CollectError>> {
        loop {
            if let Some(item) = self.items.next() {
                return Some(item);
            }
            let batch = loop {
                if let Some(batch) = self.early.remove(&self.next_number) {
                    break batch;
                }
                if self.is_broken {
                    return None;
                }
                // Ends when walker and readers have ended: all batches came, or the walker is gone, which `finish` tells. A reader that is
                // gone has to say so: the others wait for the walker, and it for the buffer that was lost.
                match self.done.recv().ok()? {
                    Ok(batch) => drop(self.early.insert(batch.number, batch)),
                    Err(ReaderGone) => self.is_broken = true,
                }
            };
            self.next_number += 1;
            self.items = batch.items.into_iter();
            let mut used = std::mem::replace(&mut self.bytes, batch.bytes);
            used.clear();
            // In the place of the first batch, which is in use now, one more may be on its way.
            drop(self.buffers.try_send(used));
        }
    }

    fn finish(self) -> Result<Walked, EngineError> {
        if self.is_broken {
            // Whoever still waits for buffers or to hand something over ends as `self` goes.
            return Err(EngineError::WorkerGone);
        }
        let walked = self.walked.recv().map_err(|_| EngineError::WorkerGone)?;
        if walked.batch_count == self.next_number { Ok(walked) } else { Err(EngineError::WorkerGone) }
    }
}

/// Tells the main thread when a reader panics, which would otherwise wait for its batch.
struct Alarm(Sender<Result<Ready, ReaderGone>>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.0.send(Err(ReaderGone)));
        }
    }
}

struct Walker {
    jobs: Sender<Batch>,
    free: Receiver<Vec<u8>>,
}

impl Walker {
    /// Walks to the end, or until nobody listens, and returns the number of batches.
    fn run(&self, walk: &mut Walk) -> u64 {
        let mut number = 0;
        loop {
            let Ok(bytes) = self.free.recv() else { return number };
            let mut batch = Batch { number, found: Vec::with_capacity(BATCH_ENTRY_COUNT), bytes };
            let (mut len, mut directory_count) = (0, 0);
            let mut is_last = true;
            for found in walk.by_ref() {
                if let Ok(found) = &found {
                    // What may be read ahead, whether it will be or not.
                    len += if found.size() <= AHEAD_LEN_MAX { found.size() } else { 0 };
                    let last = batch.found.last().and_then(|last| last.as_ref().ok());
                    let is_beside = last.is_some_and(|last| found.shares_directory(last));
                    directory_count += usize::from(!is_beside);
                }
                batch.found.push(found);
                let is_full =
                    batch.found.len() >= BATCH_ENTRY_COUNT || directory_count >= BATCH_DIRECTORY_COUNT;
                if is_full || len >= BATCH_LEN {
                    is_last = false;
                    break;
                }
            }
            number += 1;
            if self.jobs.send(batch).is_err() || is_last {
                return number;
            }
        }
    }
}

/// Reads a small file whole, behind what is in `bytes`; `None` if anything about it is not as the walk found it.
fn read(found: &Found, keys: &DomainKeys, bytes: &mut Vec<u8>) -> Option<Ahead> {
    let start = bytes.len();
    match found.read_whole(bytes) {
        Ok(Some(metadata)) => {
            let range = start..bytes.len();
            let content = &bytes[range.clone()];
            let chunk = (content.len() as u64 > INLINE_LEN_MAX).then(|| {
                let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
                ChunkRef { id: chunk_id(keys, ChunkKind::Data, content), len }
            });
            Some(Ahead { metadata, range, chunk })
        }
        Ok(None) | Err(_) => {
            bytes.truncate(start);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::PathBuf;
    use std::time::Duration;

    use coffer_crypto::VaultKey;
    use coffer_crypto::rng::OsRng;

    use super::*;

    /// Walks 3000 files with `reader_count` readers that first do `check`; the number of entries that came, and whether that was all.
    fn run(reader_count: usize, check: impl Fn(&Batch) + Copy + Send + 'static) -> (usize, bool) {
        let (result_in, result) = crossbeam_channel::bounded(1);
        // In a thread of its own, so that a run which waits for ever fails.
        std::thread::spawn(move || {
            let place = tempfile::tempdir().unwrap();
            for number in 0..3000 {
                std::fs::write(place.path().join(number.to_string()), "x").unwrap();
            }
            let walk = Walk::new(&[PathBuf::from(".")], place.path()).unwrap();
            let read = move |batch: Batch| {
                check(&batch);
                let item_of = |found| Item { found, fingerprint: NO_FINGERPRINT, ahead: None };
                let items = batch.found.into_iter().map(|found| found.map(item_of)).collect();
                Ready { number: batch.number, items, bytes: batch.bytes }
            };
            // A scope hands the panic of a thread on.
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                std::thread::scope(|scope| {
                    let Ok(mut reading) = ReadAhead::start(scope, Box::new(walk), reader_count, read) else {
                        panic!("there are threads")
                    };
                    let count = std::iter::from_fn(|| reading.next()).filter(Result::is_ok).count();
                    let finished = reading.finish();
                    result_in.send((count, finished.is_ok())).unwrap();
                });
            }));
            drop(outcome);
        });
        result.recv_timeout(Duration::from_secs(60)).expect("nobody waits for ever")
    }

    #[test]
    fn a_reader_that_panics_ends_the_walk() {
        for reader_count in 1..4 {
            assert_eq!(run(reader_count, |_| ()), (3001, true));
            for lost in [0, 3, 11] {
                let (count, is_whole) =
                    run(reader_count, move |batch| assert!(batch.number != lost, "a panic that is meant"));
                assert!(!is_whole && count < 3001, "{reader_count} readers, batch {lost}: {count}");
            }
            assert!(!run(reader_count, |_| panic!("a panic that is meant")).1);
        }
    }

    /// The entries of a walk over a thousand files that is to be read ahead by three threads, where there are so many threads; and whether any
    /// other thread read them.
    fn run_with(thread_count: usize) -> (usize, bool) {
        let place = tempfile::tempdir().unwrap();
        for number in 0..1000 {
            std::fs::write(place.path().join(number.to_string()), "x").unwrap();
        }
        let walk = Walk::new(&[PathBuf::from(".")], place.path()).unwrap();
        let keys = VaultKey::generate(&OsRng).unwrap().reader().domain_keys(&[3; 16]);
        let rule = Fingerprints { start_ns: 0, ignore_inode: false, ignore_ctime: false };
        let guess = Guess::new(rule, Some(Unchanged::default()), 1 << 20);
        std::thread::scope(|scope| {
            threads::tests::leave(thread_count);
            let mut entries = Entries::new(scope, walk, guess, &keys, 3);
            threads::tests::leave(usize::MAX);
            let items: Vec<_> = std::iter::from_fn(|| entries.next()).map(Result::unwrap).collect();
            entries.finish().unwrap();
            (items.len(), items.iter().any(|item| item.ahead.is_some()))
        })
    }

    #[test]
    fn where_there_are_few_threads_those_read_and_without_any_nothing_is_read_ahead() {
        for thread_count in 0..=4 {
            // One walks, and at least one reads.
            assert_eq!(run_with(thread_count), (1001, thread_count >= 2), "{thread_count} threads");
        }
    }
}
