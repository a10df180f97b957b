//! How long the wait for a token may be, whoever waits.
//!
//! An identity service that is busy, or breaks off, is asked again as a store is: after the same waits, for as long as those
//! take together. That time is one for all who share a [`Patience`]: it begins when the first of them fails, and ends when
//! one of them gets what it wanted. Once it is over, each of them asks once and gives up.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use coffer_store::RetryPolicy;

use crate::IbmError;

/// What stores do.
const POLICY: RetryPolicy = RetryPolicy::remote();

/// Longest wait for an answer to a request that is made when the time is over.
const LAST_CALL: Duration = Duration::from_secs(10);

/// The time that all identities of one run have together to wait for services that are busy.
pub struct Patience {
    seed: u64,
    wait_count: AtomicU64,
    now: Box<dyn Fn() -> Instant + Send + Sync>,
    sleep: Box<dyn Fn(Duration) + Send + Sync>,
    outage: Mutex<Outage>,
}

#[derive(Default)]
struct Outage {
    /// When it began; of no meaning when nobody waits.
    since: Option<Instant>,
    /// Who failed, and has got nothing since.
    failing: BTreeSet<u64>,
    /// How many ever had a share in this patience.
    member_count: u64,
}

impl Patience {
    /// Waits by putting the calling thread to sleep. `seed` spreads the waits of several clients: it should be random, it
    /// need not be secret.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_clock(seed, Instant::now, std::thread::sleep)
    }

    pub(crate) fn with_clock(
        seed: u64,
        now: impl Fn() -> Instant + Send + Sync + 'static,
        sleep: impl Fn(Duration) + Send + Sync + 'static,
    ) -> Self {
        let (now, sleep) = (Box::new(now), Box::new(sleep));
        Self { seed, wait_count: AtomicU64::new(0), now, sleep, outage: Mutex::default() }
    }

    /// A number for one more who shares it.
    pub(crate) fn join(&self) -> u64 {
        let mut outage = self.lock();
        outage.member_count += 1;
        outage.member_count
    }

    /// Makes `call` until it succeeds, fails for good, or the time is over. It is given when the wait for its answer ends.
    pub(crate) fn spend<T>(
        &self,
        member: u64,
        may_pass: impl Fn(&IbmError) -> bool,
        mut call: impl FnMut(Instant) -> Result<T, IbmError>,
    ) -> Result<T, IbmError> {
        let begun = (self.now)();
        let mut failure_count = 0;
        loop {
            let end = self.lock().end(begun);
            let result = call(end.max((self.now)()) + LAST_CALL);
            let error = match result {
                Err(error) if may_pass(&error) => error,
                Ok(got) => {
                    // Who failed and does not ask again must not keep the others from waiting when that is needed next.
                    self.lock().end_for_all();
                    return Ok(got);
                }
                Err(error) => {
                    self.lock().leave(member);
                    return Err(error);
                }
            };
            failure_count += 1;
            let left = self.lock().enter(member, begun).saturating_duration_since((self.now)());
            if left.is_zero() {
                return Err(error);
            }
            let number = self.wait_count.fetch_add(1, Ordering::Relaxed);
            let wait = POLICY.delay_after(failure_count, self.seed, number);
            (self.sleep)(wait.max(error.retry_after().unwrap_or_default()).min(left));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outage {
    /// When the time is over, for a call that has `begun`.
    fn end(&self, begun: Instant) -> Instant {
        self.since.unwrap_or(begun) + POLICY.wait_max()
    }

    fn enter(&mut self, member: u64, begun: Instant) -> Instant {
        self.failing.insert(member);
        self.since.get_or_insert(begun);
        self.end(begun)
    }

    fn end_for_all(&mut self) {
        self.failing.clear();
        self.since = None;
    }

    fn leave(&mut self, member: u64) {
        self.failing.remove(&member);
        if self.failing.is_empty() {
            self.since = None;
        }
    }
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Patience")
    }
}
