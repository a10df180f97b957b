//! Calls whose callers are not known.
//!
//! Anybody who reaches the port can make them, so they are counted in memory, and written to the audit log as one entry a minute at most:
//! the first at once, those of the minute after it together.

use super::audit::AuditEntry;
use super::desk;
use crate::clock::{Millis, SECOND_MS};

const MINUTE_MS: Millis = 60 * SECOND_MS;

/// The calls to an instance that are not in its audit log yet.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    count: u64,
    /// The correlation id of the newest.
    correlation: String,
    /// When others were written.
    written_ms: Option<Millis>,
}

impl Strangers {
    /// Takes note of a call.
    pub(super) fn add(&mut self, correlation: &str) {
        self.count = self.count.saturating_add(1);
        correlation.clone_into(&mut self.correlation);
    }

    /// The entry that speaks of them, if there are any.
    pub(super) fn entry(&self, guid: &str, now_ms: Millis) -> Option<AuditEntry> {
        let mut entry = desk::entry(guid, "-", "kms.request", now_ms);
        entry.correlation.clone_from(&self.correlation);
        entry.status = 401;
        entry.count = self.count;
        (self.count > 0).then_some(entry)
    }

    /// Whether the last ones were written a minute ago or more. A clock that is set back delays nothing.
    pub(super) fn may_be_written(&self, now_ms: Millis) -> bool {
        self.written_ms.is_none_or(|written_ms| written_ms.abs_diff(now_ms) >= MINUTE_MS)
    }

    /// They are in the audit log now.
    pub(super) fn written(&mut self, now_ms: Millis) {
        *self = Self { written_ms: Some(now_ms), ..Self::default() };
    }
}
