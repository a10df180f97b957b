//! A store with an address of its own, that can hang or be broken, and that stops with the others of its process.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coffer_store::{ListItem, MemoryStore, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError};

/// The address of the store at a position.
pub(super) fn url(at: usize) -> String {
    format!("memory:{at}")
}

pub(super) fn position(url: &str) -> usize {
    url.strip_prefix("memory:").unwrap().parse().unwrap()
}

/// A process that writes to several stores, and stops at a write.
#[derive(Debug, Default)]
pub(super) struct Process {
    writes: Mutex<u64>,
    stops_at: Option<u64>,
    has_effect: bool,
    stopped: AtomicBool,
}

impl Process {
    /// A process that stops at its write number `stops_at`, over all stores, which `has_effect` or not.
    pub(super) fn stopping(stops_at: u64, has_effect: bool) -> Arc<Self> {
        Arc::new(Self { stops_at: Some(stops_at), has_effect, ..Self::default() })
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

/// The store at a position.
#[derive(Debug)]
pub(super) struct NamedStore {
    at: usize,
    inner: Arc<MemoryStore>,
    process: Arc<Process>,
    hangs: AtomicBool,
    denies_deletion: AtomicBool,
    read_count: AtomicU64,
    /// Steps of each transfer, and the pause before each.
    pace: Mutex<(u64, Duration)>,
    moved_bytes: AtomicU64,
    /// Where it is, if its address does not tell.
    place: Option<&'static str>,
    /// The call that panics.
    broken: Mutex<Option<&'static str>>,
}

impl NamedStore {
    pub(super) fn new(at: usize, inner: Arc<MemoryStore>) -> Self {
        Self::of_process(at, inner, Arc::default())
    }

    pub(super) fn of_process(at: usize, inner: Arc<MemoryStore>, process: Arc<Process>) -> Self {
        Self {
            at,
            inner,
            process,
            hangs: AtomicBool::new(false),
            denies_deletion: AtomicBool::new(false),
            read_count: AtomicU64::new(0),
            pace: Mutex::default(),
            moved_bytes: AtomicU64::new(0),
            place: None,
            broken: Mutex::default(),
        }
    }

    /// As [`Self::new`], at a place that its address does not tell.
    pub(super) fn placed(at: usize, inner: Arc<MemoryStore>, place: &'static str) -> Arc<Self> {
        Arc::new(Self { place: Some(place), ..Self::new(at, inner) })
    }

    /// From now on every call of this name panics.
    pub(super) fn break_at(&self, call: &'static str) {
        *self.broken.lock().unwrap() = Some(call);
    }

    fn check_broken(&self, call: &'static str) {
        let broken = *self.broken.lock().unwrap();
        assert_ne!(broken, Some(call), "this store is broken");
    }

    /// From now on each call takes so many steps with a pause before each, and in each of them something moves.
    pub(super) fn crawl(&self, steps: u64, pause: Duration) {
        *self.pace.lock().unwrap() = (steps, pause);
    }

    pub(super) fn read_count(&self) -> u64 {
        self.read_count.load(Ordering::SeqCst)
    }

    fn wait(&self) {
        while self.hangs.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let (steps, pause) = *self.pace.lock().unwrap();
        for _ in 0..steps {
            std::thread::sleep(pause);
            self.moved_bytes.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// From now on no call ends.
    pub(super) fn hang(&self) {
        self.hangs.store(true, Ordering::SeqCst);
    }

    pub(super) fn go_on(&self) {
        self.hangs.store(false, Ordering::SeqCst);
    }

    pub(super) fn deny_deletion(&self) {
        self.denies_deletion.store(true, Ordering::SeqCst);
    }

    fn stopped<T>(&self, name: &str) -> Result<T, StoreError> {
        let source = "the process has stopped".into();
        Err(StoreError::Io { name: name.to_owned(), store: self.url(), source })
    }

    fn read_call<T>(
        &self,
        name: &str,
        call: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.wait();
        self.read_count.fetch_add(1, Ordering::SeqCst);
        if self.process.is_stopped() { self.stopped(name) } else { call() }
    }

    fn write_call<T>(
        &self,
        name: &str,
        call: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.wait();
        // One write at a time over all stores, so that "after write n" has a meaning.
        let mut writes = self.process.writes.lock().unwrap();
        if self.process.is_stopped() {
            return self.stopped(name);
        }
        let number = *writes;
        *writes += 1;
        if self.process.stops_at != Some(number) {
            return call();
        }
        self.process.stopped.store(true, Ordering::SeqCst);
        if self.process.has_effect {
            let _ = call();
        }
        self.stopped(name)
    }
}

impl ObjectStore for NamedStore {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        self.check_broken("put");
        self.write_call(key.as_str(), || self.inner.put_if_absent(key, body))
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.read_call(key.as_str(), || self.inner.read(key, len_max, out))
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.read_call(key.as_str(), || self.inner.read_range(key, offset, out))
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        self.read_call(key.as_str(), || self.inner.stat(key))
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.check_broken("list");
        self.read_call(prefix, || self.inner.list(prefix, start_after, visit))
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        if self.denies_deletion.load(Ordering::SeqCst) {
            let source = "it is locked".into();
            return Err(StoreError::Denied { name: key.to_string(), store: self.url(), source });
        }
        self.write_call(key.as_str(), || self.inner.delete(key))
    }

    fn url(&self) -> String {
        url(self.at)
    }

    fn place(&self) -> String {
        self.place.map_or_else(|| self.url(), str::to_owned)
    }

    fn moved_bytes(&self) -> u64 {
        self.moved_bytes.load(Ordering::SeqCst)
    }
}
