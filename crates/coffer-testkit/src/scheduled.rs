//! Running every interleaving of several workers' store calls.
//!
//! Each worker is a thread with a store of its own that waits before every call until it is given the turn. The
//! scheduler gives a turn only when every worker waits or has ended, so between two turns nothing moves, and a run is
//! fixed by its *schedule*: which worker had each turn. [`explore`] runs all schedules depth-first.
//!
//! What it needs of a worker: it makes its store calls one at a time, it waits for no other worker, and what it does
//! depends on the replies alone. A breach is found and reported, with the schedule that showed it.

use std::any::Any;
use std::fmt;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coffer_store::{ListItem, ObjectKey, ObjectStat, ObjectStore, PutOutcome, StoreError};

/// What one worker does with its store; called afresh for each schedule.
pub type Worker<R> = Arc<dyn Fn(Arc<dyn ObjectStore>) -> R + Send + Sync>;

/// Makes a [`Worker`] of a closure.
pub fn worker<R>(work: impl Fn(Arc<dyn ObjectStore>) -> R + Send + Sync + 'static) -> Worker<R> {
    Arc::new(work)
}

/// When to give up.
#[derive(Debug, Clone, Copy)]
pub struct ExploreLimits {
    /// Most schedules to run.
    pub schedules_max: u64,
    /// How long no worker may reach a call or its end before the run counts as a deadlock.
    pub stuck_after: Duration,
}

impl Default for ExploreLimits {
    /// A hundred thousand schedules, half a minute.
    fn default() -> Self {
        Self { schedules_max: 100_000, stuck_after: Duration::from_secs(30) }
    }
}

/// What [`explore`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explored {
    /// Number of schedules run, each another one.
    pub schedules_count: u64,
    /// Whether these were all there are.
    pub is_complete: bool,
    /// Most turns in one schedule.
    pub turns_max: usize,
}

/// Runs `workers` under every schedule, each time on a new store from `make_store`, and calls `check` afterwards with
/// the store, the workers' results in their order, and the schedule: the numbers of the workers that had the turns.
///
/// # Panics
/// When a worker or `check` panics, naming the schedule; when workers are stuck; when a worker makes two calls at once;
/// when the same turns lead to different calls in two runs.
pub fn explore<S, R>(
    limits: ExploreLimits,
    make_store: impl Fn() -> S,
    workers: &[Worker<R>],
    mut check: impl FnMut(&S, Vec<R>, &[usize]),
) -> Explored
where
    S: ObjectStore + 'static,
    R: Send + 'static,
{
    let mut explored = Explored { schedules_count: 0, is_complete: false, turns_max: 0 };
    let mut choices: Vec<Choice> = Vec::new();
    while explored.schedules_count < limits.schedules_max {
        let mut turn = 0;
        run(limits, &make_store, workers, &mut check, |waiting| {
            match choices.get(turn) {
                Some(choice) if choice.waiting != waiting => return Err(NOT_REPEATABLE.to_owned()),
                Some(_) => {}
                None => choices.push(Choice { waiting: waiting.to_vec(), taken: 0 }),
            }
            turn += 1;
            Ok(choices[turn - 1].worker())
        });
        assert_eq!(turn, choices.len(), "{NOT_REPEATABLE}");
        explored.schedules_count += 1;
        explored.turns_max = explored.turns_max.max(turn);

        while choices.last().is_some_and(|choice| choice.taken + 1 == choice.waiting.len()) {
            choices.pop();
        }
        match choices.last_mut() {
            Some(choice) => choice.taken += 1,
            None => {
                explored.is_complete = true;
                break;
            }
        }
    }
    explored
}

/// Runs `workers` once, under `schedule`: what [`explore`] named when something went wrong. Once the schedule is used
/// up, the waiting worker of the lowest number has the turn.
///
/// # Panics
/// As [`explore`]; and when the schedule does not fit the workers.
pub fn replay<S, R>(
    limits: ExploreLimits,
    make_store: impl Fn() -> S,
    workers: &[Worker<R>],
    schedule: &[usize],
    mut check: impl FnMut(&S, Vec<R>, &[usize]),
) where
    S: ObjectStore + 'static,
    R: Send + 'static,
{
    let mut rest = schedule.iter();
    run(limits, &make_store, workers, &mut check, |waiting| match rest.next() {
        None => Ok(waiting[0]),
        Some(worker) if waiting.contains(worker) => Ok(*worker),
        Some(worker) => Err(format!("worker {worker} does not wait for the turn the schedule gives it")),
    });
    assert!(rest.next().is_none(), "the workers ended before the schedule did");
}

const NOT_REPEATABLE: &str =
    "the same turns led to different calls: a worker depends on more than the replies";

/// A turn that several workers wait for, and which of them has it.
struct Choice {
    waiting: Vec<usize>,
    taken: usize,
}

impl Choice {
    fn worker(&self) -> usize {
        self.waiting[self.taken]
    }
}

/// Runs all workers to their ends; `choose` picks who has each turn, among one or more.
fn run<S, R>(
    limits: ExploreLimits,
    make_store: &impl Fn() -> S,
    workers: &[Worker<R>],
    check: &mut impl FnMut(&S, Vec<R>, &[usize]),
    choose: impl FnMut(&[usize]) -> Result<usize, String>,
) where
    S: ObjectStore + 'static,
    R: Send + 'static,
{
    let store = Arc::new(make_store());
    let turns = Arc::new(Turns::new(workers.len()));
    let threads: Vec<_> = workers
        .iter()
        .enumerate()
        .map(|(number, work)| {
            let inner = Arc::clone(&store) as Arc<dyn ObjectStore>;
            let own = ScheduledStore { inner, turns: Arc::clone(&turns), number };
            let (turns, work) = (Arc::clone(&turns), Arc::clone(work));
            std::thread::spawn(move || {
                let _end = EndOnDrop { turns, number };
                work(Arc::new(own))
            })
        })
        .collect();

    let mut schedule = Vec::new();
    if let Err(message) = turns.give_all(limits.stuck_after, choose, &mut schedule) {
        turns.abandon();
        // The threads are left behind: a stuck one would never be joined.
        panic!("{message}; schedule {schedule:?}");
    }
    let results = threads.into_iter().enumerate().map(|(number, thread)| match thread.join() {
        Ok(result) => result,
        Err(panic) => panic!("worker {number} panicked: {}; schedule {schedule:?}", words_of(&*panic)),
    });
    let results = results.collect();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&store, results, &schedule))) {
        panic!("the check failed: {}; schedule {schedule:?}", words_of(&*panic));
    }
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkerState {
    /// Between calls.
    Running,
    /// Before a call.
    Waiting,
    /// Given the turn, in its call.
    Calling,
    Ended,
}

#[derive(Debug)]
struct TurnsState {
    workers: Vec<WorkerState>,
    breach: Option<String>,
    is_abandoned: bool,
}

/// Who may make a call now.
struct Turns {
    state: Mutex<TurnsState>,
    changed: Condvar,
}

impl Turns {
    fn new(workers_count: usize) -> Self {
        let workers = vec![WorkerState::Running; workers_count];
        Self {
            state: Mutex::new(TurnsState { workers, breach: None, is_abandoned: false }),
            changed: Condvar::new(),
        }
    }

    /// Gives turns until every worker has ended, and writes them down.
    fn give_all(
        &self,
        stuck_after: Duration,
        mut choose: impl FnMut(&[usize]) -> Result<usize, String>,
        schedule: &mut Vec<usize>,
    ) -> Result<(), String> {
        loop {
            let is_moving = |state: &mut TurnsState| {
                let moving = [WorkerState::Running, WorkerState::Calling];
                state.breach.is_none() && state.workers.iter().any(|worker| moving.contains(worker))
            };
            let (mut state, timeout) = self
                .changed
                .wait_timeout_while(self.state(), stuck_after, is_moving)
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(breach) = state.breach.take() {
                return Err(breach);
            }
            if timeout.timed_out() {
                return Err(format!("stuck: the workers are {:?}", state.workers));
            }
            let waiting: Vec<usize> = (0..state.workers.len())
                .filter(|&number| state.workers[number] == WorkerState::Waiting)
                .collect();
            if waiting.is_empty() {
                return Ok(());
            }
            let number = choose(&waiting)?;
            schedule.push(number);
            state.workers[number] = WorkerState::Calling;
            self.changed.notify_all();
        }
    }

    /// Waits for the turn of worker `number`.
    fn await_turn(&self, number: usize) {
        let mut state = self.state();
        if state.workers[number] != WorkerState::Running {
            state.breach =
                Some(format!("worker {number} made a call while another of its calls was under way"));
            self.changed.notify_all();
            drop(state);
            panic!("one call of a worker at a time");
        }
        state.workers[number] = WorkerState::Waiting;
        self.changed.notify_all();
        let is_waiting =
            |state: &mut TurnsState| !state.is_abandoned && state.workers[number] == WorkerState::Waiting;
        let state = self.changed.wait_while(state, is_waiting).unwrap_or_else(PoisonError::into_inner);
        let is_abandoned = state.is_abandoned;
        drop(state);
        assert!(!is_abandoned, "this schedule was given up");
    }

    fn set(&self, number: usize, worker: WorkerState) {
        self.state().workers[number] = worker;
        self.changed.notify_all();
    }

    fn abandon(&self) {
        self.state().is_abandoned = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, TurnsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the worker when its thread ends, in a panic too.
struct EndOnDrop {
    turns: Arc<Turns>,
    number: usize,
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.turns.set(self.number, WorkerState::Ended);
    }
}

/// One worker's view of the shared store: each call waits for the turn. A listing takes one turn and visits
/// afterwards, so that its visitor may make calls.
pub struct ScheduledStore {
    inner: Arc<dyn ObjectStore>,
    turns: Arc<Turns>,
    number: usize,
}

impl ScheduledStore {
    fn call<T>(&self, call: impl FnOnce() -> T) -> T {
        self.turns.await_turn(self.number);
        let result = call();
        self.turns.set(self.number, WorkerState::Running);
        result
    }
}

impl fmt::Debug for ScheduledStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScheduledStore").field("number", &self.number).finish_non_exhaustive()
    }
}

impl ObjectStore for ScheduledStore {
    fn put_if_absent(&self, key: &ObjectKey, body: &[u8]) -> Result<PutOutcome, StoreError> {
        self.call(|| self.inner.put_if_absent(key, body))
    }

    fn read(&self, key: &ObjectKey, len_max: u64, out: &mut Vec<u8>) -> Result<(), StoreError> {
        self.call(|| self.inner.read(key, len_max, out))
    }

    fn read_range(&self, key: &ObjectKey, offset: u64, out: &mut [u8]) -> Result<(), StoreError> {
        self.call(|| self.inner.read_range(key, offset, out))
    }

    fn stat(&self, key: &ObjectKey) -> Result<ObjectStat, StoreError> {
        self.call(|| self.inner.stat(key))
    }

    fn list(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut items = Vec::new();
        let result = self.call(|| {
            self.inner.list(prefix, start_after, &mut |item| {
                items.push(item);
                ControlFlow::Continue(())
            })
        });
        for item in items {
            if visit(item).is_break() {
                return Ok(());
            }
        }
        result
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        self.call(|| self.inner.delete(key))
    }

    fn url(&self) -> String {
        self.inner.url()
    }
}

#[cfg(test)]
mod tests;
