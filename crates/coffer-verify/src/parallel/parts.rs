//! Jobs that fall into parts, so that few long ones keep all threads at work.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::VerifyError;

/// How jobs are done that fall into parts.
pub(crate) trait Parted: Sync {
    /// What is to be done.
    type Job: Send;
    /// A job that was begun: what its parts share.
    type Begun: Send + Sync;
    /// A part of a job.
    type Part: Send;
    /// What came of a part.
    type Done: Send;
    /// What came of a job.
    type Outcome: Send;
    /// What a thread keeps from one thing to the next.
    type Worker;

    /// Makes what a thread needs.
    fn worker(&self) -> Result<Self::Worker, VerifyError>;

    /// Begins a job and takes it apart.
    fn begin(
        &self,
        worker: &mut Self::Worker,
        job: Self::Job,
    ) -> Result<(Self::Begun, Vec<Self::Part>), VerifyError>;

    /// Does a part of a job.
    fn part(
        &self,
        worker: &mut Self::Worker,
        begun: &Self::Begun,
        part: Self::Part,
    ) -> Result<Self::Done, VerifyError>;

    /// Ends a job, with what came of its parts in their order.
    fn end(&self, begun: Self::Begun, done: Vec<Self::Done>) -> Self::Outcome;
}

/// Does jobs on `threads` threads, those of most weight first, and returns what came of them in the order of the jobs.
///
/// Any thread does any part, and none begins another job while there are parts to do: so no more jobs are open than there are
/// threads. The first error ends the work of all.
///
/// # Errors
/// What the work says; of several errors, one of them.
pub(crate) fn map_parts<W: Parted>(
    threads: usize,
    jobs: Vec<W::Job>,
    weight: impl Fn(&W::Job) -> u64,
    work: &W,
) -> Result<Vec<W::Outcome>, VerifyError> {
    let mut jobs: Vec<_> = jobs.into_iter().enumerate().collect();
    jobs.sort_by_key(|(_, job)| Reverse(weight(job)));
    let board = Board::<W> {
        jobs: jobs.into(),
        parts: VecDeque::new(),
        open: BTreeMap::new(),
        beginning: 0,
        outcomes: Vec::new(),
        error: None,
        stopped: false,
    };
    let shared = Shared { board: Mutex::new(board), changed: Condvar::new() };
    thread::scope(|scope| {
        for _ in 1..threads {
            // Where the system gives no more threads, those that there are do the work.
            if thread::Builder::new().spawn_scoped(scope, || shared.run(work)).is_err() {
                break;
            }
        }
        shared.run(work);
    });
    let board = shared.board.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = board.error {
        return Err(error);
    }
    let mut outcomes = board.outcomes;
    outcomes.sort_unstable_by_key(|(number, _)| *number);
    Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}

/// A job whose parts are not all done.
struct Open<W: Parted> {
    begun: Arc<W::Begun>,
    done: Vec<Option<W::Done>>,
    left: usize,
}

/// A part that waits for a thread: of which job, the how manieth, and what it is.
type Waiting<W> = (usize, Arc<<W as Parted>::Begun>, usize, <W as Parted>::Part);

struct Board<W: Parted> {
    jobs: VecDeque<(usize, W::Job)>,
    parts: VecDeque<Waiting<W>>,
    open: BTreeMap<usize, Open<W>>,
    /// Threads that begin a job, whose parts are still to come.
    beginning: usize,
    outcomes: Vec<(usize, W::Outcome)>,
    error: Option<VerifyError>,
    stopped: bool,
}

enum Task<W: Parted> {
    Job(usize, W::Job),
    Part(Waiting<W>),
}

struct Shared<W: Parted> {
    board: Mutex<Board<W>>,
    changed: Condvar,
}

impl<W: Parted> Shared<W> {
    fn lock(&self) -> MutexGuard<'_, Board<W>> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, work: &W) {
        // A thread that panics leaves nobody waiting for it.
        let guard = StopOnPanic(self);
        let ended = work.worker().and_then(|mut worker| {
            while let Some(task) = self.next() {
                match task {
                    Task::Job(number, job) => {
                        let (begun, parts) = work.begin(&mut worker, job)?;
                        self.begun(work, number, begun, parts);
                    }
                    Task::Part((number, begun, at, part)) => {
                        let done = work.part(&mut worker, &begun, part)?;
                        // Whoever reports the last part is then the only one who holds the job.
                        drop(begun);
                        self.done(work, number, at, done);
                    }
                }
            }
            Ok(())
        });
        if let Err(error) = ended {
            let mut board = self.lock();
            board.error.get_or_insert(error);
            board.stopped = true;
            drop(board);
            self.changed.notify_all();
        }
        drop(guard);
    }

    /// The next thing to do; none when all is done.
    fn next(&self) -> Option<Task<W>> {
        let mut board = self.lock();
        loop {
            if board.stopped {
                return None;
            }
            if let Some(part) = board.parts.pop_front() {
                return Some(Task::Part(part));
            }
            if let Some((number, job)) = board.jobs.pop_front() {
                board.beginning += 1;
                return Some(Task::Job(number, job));
            }
            if board.beginning == 0 {
                return None;
            }
            board = self.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn begun(&self, work: &W, number: usize, begun: W::Begun, parts: Vec<W::Part>) {
        let mut board = self.lock();
        board.beginning -= 1;
        if parts.is_empty() {
            drop(board);
            let outcome = work.end(begun, Vec::new());
            self.lock().outcomes.push((number, outcome));
        } else {
            let begun = Arc::new(begun);
            let done = parts.iter().map(|_| None).collect();
            let waiting =
                parts.into_iter().enumerate().map(|(at, part)| (number, Arc::clone(&begun), at, part));
            let waiting: Vec<_> = waiting.collect();
            let left = waiting.len();
            board.parts.extend(waiting);
            board.open.insert(number, Open { begun, done, left });
            drop(board);
        }
        self.changed.notify_all();
    }

    fn done(&self, work: &W, number: usize, at: usize, done: W::Done) {
        let mut board = self.lock();
        let Some(open) = board.open.get_mut(&number) else { return };
        open.done[at] = Some(done);
        open.left -= 1;
        if open.left > 0 {
            return;
        }
        let Some(open) = board.open.remove(&number) else { return };
        drop(board);
        if let Some(begun) = Arc::into_inner(open.begun) {
            let outcome = work.end(begun, open.done.into_iter().flatten().collect());
            self.lock().outcomes.push((number, outcome));
        }
    }
}

struct StopOnPanic<'a, W: Parted>(&'a Shared<W>);

impl<W: Parted> Drop for StopOnPanic<'_, W> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().stopped = true;
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
