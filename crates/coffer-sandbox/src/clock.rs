//! The clock of the region: the time of the machine plus what tests have added.
//!
//! What tests add is never taken away and survives a restart, but the machine's own clock may be corrected, and then this one goes back with it. So a
//! mark may lie in the future, and such a mark holds nothing up ([`is_within`]). Everything that expires in the region (tokens, locks, retention,
//! archived and restored copies) does so on this clock. Request signatures are checked against the time of the machine, because
//! clients sign with that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub(crate) type Millis = u64;

/// Milliseconds of one second.
pub(crate) const SECOND_MS: Millis = 1000;
/// Milliseconds of one day.
pub(crate) const DAY_MS: Millis = 86_400 * SECOND_MS;

/// The clock of one region.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    added_ms: AtomicU64,
}

impl Clock {
    /// A clock that is this much ahead of the machine.
    pub(crate) fn ahead_by(added_ms: Millis) -> Self {
        Self { added_ms: AtomicU64::new(added_ms) }
    }

    /// What time it is in the region.
    pub(crate) fn now_ms(&self) -> Millis {
        machine_now_ms().saturating_add(self.added_ms())
    }

    /// How far this clock is ahead of the machine.
    pub(crate) fn added_ms(&self) -> Millis {
        self.added_ms.load(Ordering::SeqCst)
    }

    /// Moves the clock forward.
    pub(crate) fn advance(&self, by: Duration) {
        let by_ms = Millis::try_from(by.as_millis()).unwrap_or(Millis::MAX);
        self.added_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

/// Whether less than `rest_ms` have passed since `since_ms`. Nothing is known of a mark in the future: it was made before the clock was set back.
pub(crate) const fn is_within(rest_ms: Millis, since_ms: Millis, now_ms: Millis) -> bool {
    since_ms <= now_ms && now_ms - since_ms < rest_ms
}

/// What time it is on the machine.
#[expect(clippy::disallowed_methods, reason = "this module is the clock")]
pub(crate) fn machine_now_ms() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}
