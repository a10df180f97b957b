use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Adds up the numbers below each job, a part for each number.
#[derive(Default)]
struct Sums {
    open: AtomicUsize,
    most_open: AtomicUsize,
    fail_at: Option<u64>,
}

impl Parted for Sums {
    type Job = u64;
    type Begun = u64;
    type Part = u64;
    type Done = u64;
    type Outcome = (u64, Vec<u64>);
    type Worker = ();

    fn worker(&self) -> Result<(), VerifyError> {
        Ok(())
    }

    fn begin(&self, (): &mut (), job: u64) -> Result<(u64, Vec<u64>), VerifyError> {
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(open, Ordering::SeqCst);
        Ok((job, (0..job).collect()))
    }

    fn part(&self, (): &mut (), begun: &u64, part: u64) -> Result<u64, VerifyError> {
        if self.fail_at == Some(part) {
            return Err(VerifyError::NotAVault { url: "here".to_owned() });
        }
        Ok(begun * 1000 + part)
    }

    fn end(&self, begun: u64, done: Vec<u64>) -> (u64, Vec<u64>) {
        self.open.fetch_sub(1, Ordering::SeqCst);
        (begun, done)
    }
}

#[test]
fn jobs_and_parts_keep_their_order() {
    for threads in [0, 1, 2, 8] {
        let work = Sums::default();
        let jobs = [3, 0, 40, 1, 0, 7, 200];
        let sums = map_parts(threads, jobs.to_vec(), |job| *job, &work).unwrap();
        for (job, (begun, done)) in jobs.into_iter().zip(sums) {
            assert_eq!((begun, done), (job, (0..job).map(|part| job * 1000 + part).collect()));
        }
        assert!(work.most_open.into_inner() <= threads.max(1), "a job for each thread at most is open");
    }
}

#[test]
fn an_error_ends_the_work() {
    for threads in [1, 4] {
        let work = Sums { fail_at: Some(5), ..Sums::default() };
        assert!(map_parts(threads, vec![3, 100, 100_000], |job| *job, &work).is_err());
    }
}

/// One job of two parts, each of which waits for the other.
struct Meeting(Barrier);

impl Parted for Meeting {
    type Job = ();
    type Begun = ();
    type Part = ();
    type Done = ();
    type Outcome = usize;
    type Worker = ();

    fn worker(&self) -> Result<(), VerifyError> {
        Ok(())
    }

    fn begin(&self, (): &mut (), (): ()) -> Result<((), Vec<()>), VerifyError> {
        Ok(((), vec![(); 2]))
    }

    fn part(&self, (): &mut (), (): &(), (): ()) -> Result<(), VerifyError> {
        self.0.wait();
        Ok(())
    }

    fn end(&self, (): (), done: Vec<()>) -> usize {
        done.len()
    }
}

#[test]
fn the_parts_of_one_job_are_done_by_several_threads() {
    // With one thread for each job this would wait for ever.
    let met = map_parts(2, vec![()], |()| 0, &Meeting(Barrier::new(2))).unwrap();
    assert_eq!(met, [2]);
}
