//! Requests made side by side, to a store that is far away.
//!
//! How many, the store says ([`ObjectStore::parallelism_hint`]), whatever the number of processors: threads that wait cost
//! nothing. To a store that is near, requests are made one after the other on the thread that wants them.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread::ScopedJoinHandle;

use coffer_store::ObjectStore;

/// More requests than this are never made at once, whatever the store says.
const IN_FLIGHT_MAX: usize = 64;
/// So many times as many requests for small objects as for large ones.
const SMALL_FACTOR: usize = 4;
/// As [`SMALL_FACTOR`] and [`IN_FLIGHT_MAX`], for what there may be a thousand of.
const MANY_FACTOR: usize = 16;
const MANY_MAX: usize = 256;

/// How many requests to have under way at once.
pub(crate) fn in_flight(store: &dyn ObjectStore) -> usize {
    store.parallelism_hint().clamp(1, IN_FLIGHT_MAX)
}

/// How many requests for small objects to have under way at once, such as log records and key slots: of these no line carries too
/// many, and it is the number of rounds that takes time.
pub(crate) fn in_flight_small(store: &dyn ObjectStore) -> usize {
    match in_flight(store) {
        1 => 1,
        count => (SMALL_FACTOR * count).min(IN_FLIGHT_MAX),
    }
}

/// How many where all of a long log is read, or a bit of every index segment: a thousand in four rounds. Each may need a connection of its own, and a
/// store may let fewer through, so this is not for what is done every day.
pub(crate) fn in_flight_many(store: &dyn ObjectStore) -> usize {
    match in_flight(store) {
        1 => 1,
        count => (MANY_FACTOR * count).min(MANY_MAX),
    }
}

/// Processors that this process may use, for what is mostly work of theirs.
pub(crate) fn processor_count() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Whether a request costs time whatever it brings, so that what was brought is worth keeping.
pub(crate) fn is_far(store: &dyn ObjectStore) -> bool {
    in_flight(store) > 1
}

/// Does `work` for each job, as many at a time as `in_flight` says, and gives the results in the order of the jobs.
pub(crate) fn map<J: Send, R: Send>(
    in_flight: usize,
    jobs: impl IntoIterator<Item = J>,
    work: impl Fn(J) -> R + Sync,
) -> Vec<R> {
    let jobs: Vec<J> = jobs.into_iter().collect();
    let thread_count = in_flight.min(jobs.len());
    if thread_count <= 1 {
        return jobs.into_iter().map(work).collect();
    }
    let queue = Mutex::new(jobs.into_iter().enumerate());
    let done = Mutex::new(Vec::new());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || {
        while let Some((number, job)) = next() {
            let result = work(job);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..thread_count {
            // Where the system gives no more threads, those that there are do the work.
            if std::thread::Builder::new().spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
    let mut results = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Does `work` for each of a few jobs at once, on a thread for each, and gives the results in the order of the jobs; `None` where one panicked.
pub(crate) fn at_once<J: Sync, R: Send>(jobs: &[J], work: impl Fn(&J) -> R + Sync) -> Vec<Option<R>> {
    let work = &work;
    std::thread::scope(|scope| {
        let start = |job| std::thread::Builder::new().spawn_scoped(scope, move || work(job)).map_err(|_| job);
        let started: Vec<_> = jobs.iter().map(start).collect();
        let end = |thread: Result<ScopedJoinHandle<'_, R>, &J>| match thread {
            Ok(thread) => thread.join().ok(),
            // Where the system gives no thread for it, this one does the work.
            Err(job) => catch_unwind(AssertUnwindSafe(|| work(job))).ok(),
        };
        started.into_iter().map(end).collect()
    })
}

/// Does both at once if the store is far away, else one after the other.
pub(crate) fn both<A: Send, B>(
    store: &dyn ObjectStore,
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B,
) -> (A, B) {
    if !is_far(store) {
        return (first(), second());
    }
    std::thread::scope(|scope| {
        let other = scope.spawn(first);
        let second = second();
        let first = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (first, second)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_jobs() {
        for in_flight in [0, 1, 3, 200] {
            let squares = map(in_flight, 0..100_u64, |job| job * job);
            assert_eq!(squares, (0..100).map(|job| job * job).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_job_that_panics_is_none_and_the_others_are_done() {
        let done = at_once(&[3, 0, 5], |job| 15_u32.checked_div(*job).unwrap());
        assert_eq!(done, [Some(5), None, Some(3)]);
    }
}
