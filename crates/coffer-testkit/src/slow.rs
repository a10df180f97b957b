//! A store that answers late, as one far away does, and tells how often somebody had to wait for it.

use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coffer_store::{ListItem, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError};

/// Names that object storage gives in one answer to a listing.
const PAGE_COUNT: u64 = 1000;

/// What a [`SlowStore`] was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlowCounts {
    /// Dependent rounds: one more than the most rounds that had ended when a request was made, at the highest. Requests that are under way
    /// together count once.
    pub rounds: u64,
    /// The most requests that were under way together.
    pub in_flight_max: u64,
    /// Creations, those that found the object there among them.
    pub puts: u64,
    /// Creations that found the object there.
    pub lost_puts: u64,
    /// Reads, whole and ranged.
    pub gets: u64,
    /// Questions for a length.
    pub stats: u64,
    /// Pages of listings, of 1000 names at most.
    pub lists: u64,
    /// Bytes that reads gave.
    pub read_bytes: u64,
}

#[derive(Debug, Default)]
struct Clock {
    counts: SlowCounts,
    /// The highest round that has ended.
    ended: u64,
    in_flight: u64,
}

/// A wrapper that delays every request to `S` by the same time, without work for the processor.
///
/// Whoever measures rounds chooses a delay well above what a thread needs to make its next request: then the rounds are those that a
/// stopwatch would show, divided by the delay.
#[derive(Debug)]
pub struct SlowStore<S> {
    inner: S,
    delay: Duration,
    parallelism: usize,
    clock: Mutex<Clock>,
}

impl<S> SlowStore<S> {
    /// Wraps `inner`; `parallelism` is what the store says of itself.
    pub fn new(inner: S, delay: Duration, parallelism: usize) -> Self {
        Self { inner, delay, parallelism, clock: Mutex::default() }
    }

    /// The wrapped store, which answers at once and counts nothing.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// What was seen since the start or the last reset.
    pub fn counts(&self) -> SlowCounts {
        self.clock().counts
    }

    /// Starts anew, while nothing is under way, and gives what was seen until now.
    pub fn reset(&self) -> SlowCounts {
        std::mem::take(&mut *self.clock()).counts
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a request whose answer is under way until the delay is over.
    fn request<T>(&self, count: impl FnOnce(&mut SlowCounts), ask: impl FnOnce() -> T) -> T {
        let round = {
            let mut clock = self.clock();
            count(&mut clock.counts);
            clock.in_flight += 1;
            clock.counts.in_flight_max = clock.counts.in_flight_max.max(clock.in_flight);
            let round = clock.ended + 1;
            clock.counts.rounds = clock.counts.rounds.max(round);
            round
        };
        // What the store does, it does in the middle of the time that the answer takes.
        std::thread::sleep(self.delay / 2);
        let answer = ask();
        std::thread::sleep(self.delay / 2);
        let mut clock = self.clock();
        clock.in_flight -= 1;
        clock.ended = clock.ended.max(round);
        answer
    }
}

impl<S: ObjectStore> ObjectStore for SlowStore<S> {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        let result = self.request(|counts| counts.puts += 1, || self.inner.put_if_absent(key, body));
        self.clock().counts.lost_puts += u64::from(matches!(result, Ok(PutOutcome::AlreadyExists)));
        result
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let result = self.request(|counts| counts.gets += 1, || self.inner.read(key, len_max, out));
        self.clock().counts.read_bytes += out.len() as u64;
        result
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let result = self.request(|counts| counts.gets += 1, || self.inner.read_range(key, offset, out));
        self.clock().counts.read_bytes += if result.is_ok() { out.len() as u64 } else { 0 };
        result
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        self.request(|counts| counts.stats += 1, || self.inner.stat(key))
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut page = Vec::new();
        let mut after = start_after.map(str::to_owned);
        loop {
            page.clear();
            self.request(
                |counts| counts.lists += 1,
                || {
                    self.inner.list(prefix, after.as_deref(), &mut |item| {
                        page.push(item);
                        let full = page.len() as u64 == PAGE_COUNT;
                        if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                    })
                },
            )?;
            after = page.last().map(|item: &ListItem| item.name.clone());
            let full = page.len() as u64 == PAGE_COUNT;
            if page.drain(..).any(|item| visit(item).is_break()) || !full {
                return Ok(());
            }
        }
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.request(|_| (), || self.inner.delete(key))
    }

    fn url(&self) -> String {
        self.inner.url()
    }

    fn parallelism_hint(&self) -> usize {
        self.parallelism
    }
}

#[cfg(test)]
mod tests {
    use coffer_store::MemoryStore;

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(name).expect("a valid name")
    }

    #[test]
    fn requests_one_after_the_other_are_rounds_and_those_side_by_side_are_one() {
        let store = SlowStore::new(MemoryStore::new(), Duration::from_millis(500), 8);
        for name in ["a", "b", "c"] {
            store.put_if_absent(&key(name), b"12").expect("is made");
        }
        let counts = store.reset();
        assert_eq!((counts.rounds, counts.puts, counts.in_flight_max), (3, 3, 1));
        std::thread::scope(|scope| {
            for name in ["a", "b", "c"] {
                let store = &store;
                scope.spawn(move || store.read(&key(name), 10, &mut Vec::new()).expect("is read"));
            }
        });
        store.stat(&key("a")).expect("is there");
        let counts = store.reset();
        assert_eq!((counts.rounds, counts.gets, counts.in_flight_max, counts.read_bytes), (2, 3, 3, 6));
    }

    #[test]
    fn a_long_listing_takes_a_request_for_each_thousand_names() {
        let inner = MemoryStore::new();
        for number in 0..2001 {
            inner.insert_raw(format!("log/{number:06}"), b"".as_slice());
        }
        let store = SlowStore::new(inner, Duration::ZERO, 8);
        let mut seen = 0;
        store
            .list("log/", None, &mut |_| {
                seen += 1;
                ControlFlow::Continue(())
            })
            .expect("is listed");
        assert_eq!((seen, store.reset().lists), (2001, 3));
        store.list("log/", Some("log/001990"), &mut |_| ControlFlow::Continue(())).expect("is listed");
        assert_eq!(store.reset().lists, 1);
    }
}
