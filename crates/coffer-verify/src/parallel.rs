//! Worker threads over a queue of jobs.

use std::cmp::Reverse;
use std::sync::{Mutex, PoisonError};
use std::thread;

mod parts;

pub(crate) use parts::{Parted, map_parts};

use crate::error::VerifyError;

/// Does `work` for each job on `threads` threads and returns the results in the order of the jobs.
///
/// Each thread makes its own state with `init`. The first error ends the work of all.
///
/// # Errors
/// What `init` or `work` says; of several errors, one of them.
pub(crate) fn map<J: Send, S, R: Send>(
    threads: usize,
    jobs: impl Iterator<Item = J> + Send,
    init: impl Fn() -> Result<S, VerifyError> + Sync,
    work: impl Fn(&mut S, J) -> Result<R, VerifyError> + Sync,
) -> Result<Vec<R>, VerifyError> {
    map_numbered(threads, jobs.enumerate(), init, work)
}

/// Like [`map`], but begins with the jobs of most weight, so that no thread is left alone with a long one at the end.
pub(crate) fn map_heaviest_first<J: Send, S, R: Send>(
    threads: usize,
    jobs: impl Iterator<Item = J>,
    weight: impl Fn(&J) -> u64,
    init: impl Fn() -> Result<S, VerifyError> + Sync,
    work: impl Fn(&mut S, J) -> Result<R, VerifyError> + Sync,
) -> Result<Vec<R>, VerifyError> {
    let mut jobs: Vec<_> = jobs.enumerate().collect();
    jobs.sort_by_key(|(_, job)| Reverse(weight(job)));
    map_numbered(threads, jobs.into_iter(), init, work)
}

/// Does numbered jobs in the order given, and returns the results in the order of their numbers.
fn map_numbered<J: Send, S, R: Send>(
    threads: usize,
    jobs: impl Iterator<Item = (usize, J)> + Send,
    init: impl Fn() -> Result<S, VerifyError> + Sync,
    work: impl Fn(&mut S, J) -> Result<R, VerifyError> + Sync,
) -> Result<Vec<R>, VerifyError> {
    let queue = Mutex::new(Some(jobs));
    let done = Mutex::new((Vec::new(), None));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(Iterator::next);
    let stop = |error| {
        *queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
        done.lock().unwrap_or_else(PoisonError::into_inner).1.get_or_insert(error);
    };
    let run = || {
        let mut state = match init() {
            Ok(state) => state,
            Err(error) => return stop(error),
        };
        while let Some((number, job)) = next() {
            match work(&mut state, job) {
                Ok(result) => done.lock().unwrap_or_else(PoisonError::into_inner).0.push((number, result)),
                Err(error) => return stop(error),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // Where the system gives no more threads, those that there are do the work.
            if thread::Builder::new().spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
    let (mut results, error) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = error {
        return Err(error);
    }
    results.sort_unstable_by_key(|(number, _)| *number);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_jobs() {
        for threads in [0, 1, 3, 8] {
            let squares = map(threads, 0..100_u64, || Ok(()), |(), job| Ok(job * job)).unwrap();
            assert_eq!(squares, (0..100).map(|job| job * job).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_heaviest_job_is_begun_first_and_results_keep_their_places() {
        let begun = Mutex::new(Vec::new());
        let note = |(): &mut (), job: u64| {
            begun.lock().unwrap().push(job);
            Ok(job * job)
        };
        let squares = map_heaviest_first(1, [3, 9, 0, 5].into_iter(), |job| *job, || Ok(()), note).unwrap();
        assert_eq!(squares, [9, 81, 0, 25]);
        assert_eq!(*begun.lock().unwrap(), [9, 5, 3, 0]);
    }

    #[test]
    fn an_error_ends_the_work() {
        let fail = |(): &mut (), job: u64| match job {
            7 => Err(VerifyError::NotAVault { url: "here".to_owned() }),
            _ => Ok(job),
        };
        for threads in [1, 4] {
            assert!(map(threads, 0..1_000_000, || Ok(()), fail).is_err());
        }
    }
}
