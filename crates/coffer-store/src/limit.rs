//! How much may be under way at once.
//!
//! [`AdaptiveLimit`] bounds the requests of a store: additive increase while all goes well, halved when the store says
//! that it is too much. [`RateLimit`] spaces out bytes. Both are shared by all threads and know nothing of requests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Requests under way when nothing is known of the store: as many as there may be of small objects at once. Of large ones a store
/// says how many are worth it.
const START_COUNT: f64 = COUNT_MAX;

/// Most requests under way.
const COUNT_MAX: f64 = 64.0;

/// A bound on requests that follows what the store can take.
#[derive(Debug)]
pub(crate) struct AdaptiveLimit {
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    limit: f64,
    in_flight_count: usize,
    /// Grows with every halving: what started before one says nothing about the limit after it.
    epoch: u64,
}

/// One request under way; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limit: Arc<AdaptiveLimit>,
    epoch: u64,
    is_success: bool,
}

impl AdaptiveLimit {
    pub(crate) fn new() -> Arc<Self> {
        let state = State { limit: START_COUNT, in_flight_count: 0, epoch: 0 };
        Arc::new(Self { state: Mutex::new(state), freed: Notify::new() })
    }

    /// Waits for a place.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Permit {
        loop {
            {
                let mut state = self.lock();
                if state.in_flight_count < state.count_max() {
                    state.in_flight_count += 1;
                    if state.in_flight_count < state.count_max() {
                        self.freed.notify_one();
                    }
                    return Permit { limit: Arc::clone(self), epoch: state.epoch, is_success: false };
                }
            }
            // A place that was freed since is kept for the next who asks.
            self.freed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 64")]
    const fn count_max(&self) -> usize {
        self.limit as usize
    }
}

impl Permit {
    /// The store answered as it should; counts when the request ends.
    pub(crate) const fn succeeded(&mut self) {
        self.is_success = true;
    }

    /// The store said that it is too much.
    pub(crate) fn overloaded(&mut self) {
        let mut state = self.limit.lock();
        if self.epoch == state.epoch {
            state.limit = (state.limit / 2.0).max(1.0);
            state.epoch += 1;
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut state = self.limit.lock();
            // Only a limit that was reached is known to be fine.
            if self.is_success && self.epoch == state.epoch && state.in_flight_count == state.count_max() {
                state.limit = (state.limit + 1.0 / state.limit).min(COUNT_MAX);
            }
            state.in_flight_count -= 1;
        }
        self.limit.freed.notify_one();
    }
}

/// A bound on bytes per second, over all who share it.
#[derive(Debug)]
pub struct RateLimit {
    bytes_per_second: f64,
    /// When all that was granted so far is through.
    through: Mutex<Option<Instant>>,
}

/// What may pass at once after a pause.
const BURST: Duration = Duration::from_millis(50);

impl RateLimit {
    /// A bound of so many bytes.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Arc<Self> {
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let bytes_per_second = bytes_per_second.max(1) as f64;
        Arc::new(Self { bytes_per_second, through: Mutex::new(None) })
    }

    /// Grants `len` bytes and tells when they may pass.
    pub(crate) fn grant(&self, len: usize) -> Instant {
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let time = Duration::from_secs_f64(len as f64 / self.bytes_per_second);
        let now = Instant::now();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let mut through = self.through.lock().unwrap_or_else(PoisonError::into_inner);
        let end = through.map_or(earliest, |through| through.max(earliest)) + time;
        *through = Some(end);
        end
    }

    /// Length of pieces that make the flow even: some tenth of a second each.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 256 and 65536")]
    pub(crate) const fn piece_len(&self) -> usize {
        (self.bytes_per_second / 10.0).clamp(256.0, 65_536.0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_time()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    #[test]
    fn overload_halves_once_for_all_that_were_under_way_and_success_grows_back() {
        run(async {
            let limit = AdaptiveLimit::new();
            let mut permits = Vec::new();
            for _ in 0..64 {
                permits.push(limit.acquire().await);
            }
            let next = tokio::time::timeout(Duration::from_millis(20), limit.acquire()).await;
            assert!(next.is_err(), "a sixty-fifth request was let through");
            for permit in &mut permits {
                permit.overloaded();
            }
            assert_eq!(limit.lock().count_max(), 32);
            drop(permits);
            for _ in 0..4000 {
                let mut permits = Vec::new();
                let count_max = limit.lock().count_max();
                for _ in 0..count_max {
                    permits.push(limit.acquire().await);
                }
                permits.iter_mut().for_each(Permit::succeeded);
            }
            assert_eq!(limit.lock().count_max(), 64);
            for _ in 0..10 {
                limit.acquire().await.overloaded();
            }
            assert_eq!(limit.lock().count_max(), 1);
            assert_eq!(limit.lock().in_flight_count, 0);
        });
    }

    #[test]
    fn whoever_waits_gets_the_place_that_is_freed() {
        run(async {
            let limit = AdaptiveLimit::new();
            limit.lock().limit = 1.0;
            let count = Arc::new(Mutex::new((0, 0)));
            let work = |_| {
                let (limit, count) = (Arc::clone(&limit), Arc::clone(&count));
                tokio::spawn(async move {
                    let _permit = limit.acquire().await;
                    {
                        let mut count = count.lock().expect("no panic");
                        count.0 += 1;
                        count.1 = count.1.max(limit.lock().in_flight_count);
                    }
                    tokio::task::yield_now().await;
                })
            };
            for task in (0..100).map(work).collect::<Vec<_>>() {
                tokio::time::timeout(Duration::from_secs(20), task)
                    .await
                    .expect("in time")
                    .expect("no panic");
            }
            assert_eq!(*count.lock().expect("no panic"), (100, 1));
        });
    }

    #[test]
    fn bytes_are_spaced_out_over_all_who_share_the_rate() {
        // All are granted before the first is through, unless the machine is too busy to let this thread do that.
        let (start, ends) = (0..100)
            .find_map(|_| {
                let rate = RateLimit::new(100_000);
                let start = Instant::now();
                let ends: Vec<Instant> = (0..10).map(|_| rate.grant(10_000)).collect();
                (start.elapsed() < BURST).then_some((start, ends))
            })
            .expect("ten grants take no time");
        assert!(ends.windows(2).all(|pair| pair[1] - pair[0] == Duration::from_millis(100)));
        let last = ends[9] - start;
        assert!(last >= Duration::from_millis(940) && last < Duration::from_millis(1100), "{last:?}");
        assert_eq!(RateLimit::new(1).piece_len(), 256);
        assert_eq!(RateLimit::new(u64::MAX).piece_len(), 65_536);
    }
}
