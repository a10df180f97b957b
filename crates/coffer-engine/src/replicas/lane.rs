//! The way to one replica: a queue of writes, bounded in bytes, in the order in which the home took them.
//!
//! Objects are written side by side. A record is written when everything before it is done, and only if the log of the
//! replica ends right before it: so the replica is a vault of its own at every moment. After the first failure nothing more
//! is written: what is missing is found by comparing, later.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use coffer_format::limits::RECORD_LEN_MAX;
use coffer_format::object::ObjectName;
use coffer_format::record::{Record, chain_value};
use coffer_store::{ObjectKey, ObjectStore, PutOutcome, StoreError};

use crate::access::key_of;
use crate::error::EngineError;

/// Writes under way at once on a store that answers from nearby; one far away says how many it wants.
const WORKER_COUNT_MIN: usize = 2;
/// As many at most.
const WORKER_COUNT_MAX: usize = 16;

enum Job {
    Object { key: ObjectKey, body: Arc<[u8]> },
    Record { number: u64, body: Arc<[u8]> },
    Delete { key: ObjectKey },
}

impl Job {
    fn len(&self) -> u64 {
        match self {
            Self::Object { body, .. } | Self::Record { body, .. } => body.len() as u64,
            Self::Delete { .. } => 0,
        }
    }

    /// Whether everything before it must be done first.
    const fn is_last_of_its_kind(&self) -> bool {
        !matches!(self, Self::Object { .. })
    }
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// Bytes that are queued or being written.
    bytes: u64,
    writing_count: usize,
    worker_count: usize,
    /// Writes that have ended.
    done_count: u64,
    /// The number with which the log of the replica goes on.
    next: u64,
    /// Why nothing more is written.
    broken: Option<String>,
    /// Whether that is because it hangs.
    is_stalled: bool,
    closed: bool,
}

struct Shared {
    store: Arc<dyn ObjectStore>,
    state: Mutex<State>,
    changed: Condvar,
    worker_count_max: usize,
}

/// The queue to one replica.
pub(super) struct Lane {
    shared: Arc<Shared>,
    bytes_max: u64,
    patience: Duration,
}

impl Lane {
    /// A lane to `store`, whose log goes on with record `next`.
    pub(super) fn new(store: Arc<dyn ObjectStore>, next: u64, bytes_max: u64, patience: Duration) -> Self {
        let worker_count_max = store.parallelism_hint().clamp(WORKER_COUNT_MIN, WORKER_COUNT_MAX);
        let state = Mutex::new(State { next, ..State::default() });
        Self {
            shared: Arc::new(Shared { store, state, changed: Condvar::new(), worker_count_max }),
            bytes_max,
            patience,
        }
    }

    /// Whether it takes another object of this length without waiting.
    pub(super) fn has_room(&self, len: u64) -> bool {
        let state = self.shared.state();
        state.broken.is_none() && (state.bytes == 0 || state.bytes + len <= self.bytes_max)
    }

    /// Queues an object. If there is no room for it, waits while bytes move, if the replica `is_needed`, and else leaves it behind.
    pub(super) fn object(&self, key: ObjectKey, body: Arc<[u8]>, is_needed: bool) {
        let len = body.len() as u64;
        let mut state = self.shared.state();
        while state.broken.is_none() && state.bytes > 0 && state.bytes + len > self.bytes_max {
            if !is_needed {
                state.give_up("it could not keep up with the others");
                self.shared.changed.notify_all();
                return;
            }
            state = self.wait_for_progress(state);
        }
        self.shared.push(state, Job::Object { key, body });
    }

    /// Queues a record behind everything that was queued before.
    pub(super) fn record(&self, number: u64, body: Arc<[u8]>) {
        self.shared.push(self.shared.state(), Job::Record { number, body });
    }

    /// Queues a deletion behind everything that was queued before: a replica that lacks the record which releases an object keeps it.
    pub(super) fn delete(&self, key: ObjectKey) {
        self.shared.push(self.shared.state(), Job::Delete { key });
    }

    /// Waits until everything queued is done, while bytes move, but not beyond `deadline`. A lane that stands still is left behind.
    pub(super) fn drain(&self, deadline: Option<Instant>) {
        let mut state = self.shared.state();
        while state.broken.is_none() && (!state.queue.is_empty() || state.writing_count > 0) {
            let Some(deadline) = deadline else {
                state = self.wait_for_progress(state);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.is_stalled = state.writing_count > 0;
                state.give_up("it was still being written to when the others were done");
                self.shared.changed.notify_all();
                return;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether it was left behind because nothing moved.
    pub(super) fn is_stalled(&self) -> bool {
        self.shared.state().is_stalled
    }

    /// Whether something is queued or being written.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.shared.state();
        !state.queue.is_empty() || state.writing_count > 0
    }

    /// Waits for a change; a lane that stands still is left behind.
    pub(super) fn wait(&self) {
        let state = self.shared.state();
        let is_busy = !state.queue.is_empty() || state.writing_count > 0;
        if state.broken.is_none() && is_busy {
            drop(self.wait_for_progress(state));
        }
    }

    /// The number with which the log of the replica goes on.
    pub(super) fn next(&self) -> u64 {
        self.shared.state().next
    }

    /// Why nothing more is written to it, if so.
    pub(super) fn broken(&self) -> Option<String> {
        self.shared.state().broken.clone()
    }

    /// Nothing more is to be written to it.
    pub(super) fn give_up(&self, reason: &str) {
        self.shared.state().give_up(reason);
        self.shared.changed.notify_all();
    }

    /// The replica was caught up by other means: its log goes on with record `next`.
    pub(super) fn restart(&self, next: u64) {
        let mut state = self.shared.state();
        // What an earlier failure left under way may still come, and does no harm: names are hashes.
        state.queue.clear();
        state.bytes = 0;
        state.broken = None;
        state.next = next;
    }

    /// Waits until something changes. If for long enough no write ends and not a byte moves, the lane is left behind: over a slow line
    /// many large objects may be on their way for minutes before the first of them is there. A store that asked to be left alone is.
    fn wait_for_progress<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        let (before, _) = self.shared.progress(&state);
        let waited = self.shared.changed.wait_timeout(state, self.patience);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        let (after, is_asked_to_wait) = self.shared.progress(&state);
        if waited.timed_out() && after == before && !is_asked_to_wait && state.broken.is_none() {
            state.is_stalled = true;
            state.give_up("nothing has moved on the way to it for too long");
            self.shared.changed.notify_all();
        }
        state
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.closed = true;
        state.queue.clear();
        self.shared.changed.notify_all();
        // A worker that hangs in its store is not waited for.
    }
}

impl State {
    fn give_up(&mut self, reason: impl Into<String>) {
        if self.broken.is_none() {
            self.broken = Some(reason.into());
        }
        let dropped: u64 = self.queue.drain(..).map(|job| job.len()).sum();
        self.bytes = self.bytes.saturating_sub(dropped);
    }

    fn next_job(&mut self) -> Option<Job> {
        let waits = self.queue.front().is_some_and(Job::is_last_of_its_kind) && self.writing_count > 0;
        if waits { None } else { self.queue.pop_front() }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What grows as long as the store does not hang, and whether a call waits because the store asked for it.
    fn progress(&self, state: &State) -> ([u64; 3], bool) {
        let waits = self.store.asked_waits();
        let counts = [state.done_count, self.store.moved_bytes(), waits.ended_count];
        (counts, waits.under_way_count > 0)
    }

    fn push(self: &Arc<Self>, mut state: MutexGuard<'_, State>, job: Job) {
        if state.broken.is_some() {
            return;
        }
        state.bytes += job.len();
        state.queue.push_back(job);
        if state.worker_count < self.worker_count_max
            && state.worker_count < state.queue.len() + state.writing_count
        {
            let shared = Arc::clone(self);
            match std::thread::Builder::new().spawn(move || shared.work()) {
                Ok(_) => state.worker_count += 1,
                // Where the system gives no more threads, those that there are do the work.
                Err(_) if state.worker_count > 0 => {}
                Err(error) => state.give_up(format!("no thread can be started that writes to it: {error}")),
            }
        }
        self.changed.notify_all();
    }

    fn work(&self) {
        let mut state = self.state();
        loop {
            let Some(job) = state.next_job() else {
                if state.closed {
                    return;
                }
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.writing_count += 1;
            let (len, next) = (job.len(), state.next);
            drop(state);
            let done = catch_unwind(AssertUnwindSafe(|| self.perform(job, next)));
            let done = done.unwrap_or(Err(EngineError::WorkerGone));
            state = self.state();
            state.writing_count -= 1;
            state.done_count += 1;
            state.bytes = state.bytes.saturating_sub(len);
            match done {
                Ok(Some(next)) => state.next = next,
                Ok(None) => {}
                Err(error) => state.give_up(crate::log::explain(&error)),
            }
            self.changed.notify_all();
        }
    }

    /// Does one write. A record says with which number the log goes on.
    fn perform(&self, job: Job, next: u64) -> Result<Option<u64>, EngineError> {
        match job {
            Job::Object { key, body } => {
                put_same(&*self.store, &key, &body)?;
                Ok(None)
            }
            Job::Record { number, body } => {
                self.check_end(number, next, &body)?;
                put_same(&*self.store, &key_of(ObjectName::Record(number))?, &body)?;
                Ok(Some(number + 1))
            }
            Job::Delete { key } => {
                self.store.delete(&key)?;
                Ok(None)
            }
        }
    }

    /// Whether the log ends right before record `number`: as far as was known, or because others have brought what came in between.
    fn check_end(&self, number: u64, next: u64, body: &[u8]) -> Result<(), EngineError> {
        let behind = || EngineError::invalid(format!("its log ends before record {next}"));
        if next == number {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for between in next..number {
            self.store
                .read(&key_of(ObjectName::Record(between))?, RECORD_LEN_MAX, &mut bytes)
                .map_err(|error| if error.is_not_found() { behind() } else { error.into() })?;
        }
        let previous = Record::decode(body)?.public.previous;
        if next < number && chain_value(&bytes) == previous { Ok(()) } else { Err(behind()) }
    }
}

/// Creates an object that must hold exactly these bytes, whoever creates it.
pub(super) fn put_same(store: &dyn ObjectStore, key: &ObjectKey, body: &[u8]) -> Result<bool, EngineError> {
    if store.put_if_absent(key, body)? == PutOutcome::Created {
        return Ok(true);
    }
    let mut there = Vec::new();
    match store.read(key, body.len() as u64, &mut there) {
        Ok(()) if there == body => Ok(false),
        Ok(()) | Err(StoreError::TooLong { .. }) => Err(EngineError::damaged(
            key,
            EngineError::invalid(format!("other bytes stand under its name in {}", store.url())),
        )),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use coffer_store::{AskedWaits, ListItem, MemoryStore, ObjectStat};

    use super::*;

    /// A store whose writes end when they are let go; what it says of its waits is set.
    #[derive(Debug, Default)]
    struct Held {
        inner: MemoryStore,
        is_let_go: Mutex<bool>,
        changed: Condvar,
        waits: Mutex<AskedWaits>,
    }

    impl Held {
        fn set(&self, under_way_count: u64, ended_count: u64) {
            *self.waits.lock().unwrap() = AskedWaits { under_way_count, ended_count };
        }

        fn let_go(&self) {
            *self.is_let_go.lock().unwrap() = true;
            self.changed.notify_all();
        }
    }

    impl ObjectStore for Held {
        fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
            drop(self.changed.wait_while(self.is_let_go.lock().unwrap(), |is_let_go| !*is_let_go).unwrap());
            self.inner.put_if_absent(key, body)
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
            "held:".to_owned()
        }

        fn asked_waits(&self) -> AskedWaits {
            *self.waits.lock().unwrap()
        }
    }

    #[test]
    fn a_store_that_asked_to_be_left_alone_does_not_hang() {
        let store = Arc::new(Held::default());
        let lane = Lane::new(store.clone(), 0, 1000, Duration::from_millis(1));
        store.set(1, 0);
        lane.object(ObjectKey::new("packs/a").unwrap(), Arc::from(&b"a"[..]), true);
        (0..100).for_each(|_| lane.wait());
        assert_eq!((lane.broken(), lane.is_busy()), (None, true));
        // It is asked again, and there is no end to that.
        store.set(0, 1);
        lane.wait();
        assert_eq!(lane.broken().as_deref(), Some("nothing has moved on the way to it for too long"));
        assert!(lane.is_stalled());
        store.let_go();
    }
}
