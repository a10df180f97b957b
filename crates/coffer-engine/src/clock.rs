//! Time comes in from outside.

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Nanoseconds since 1970 UTC, for labels in snapshots and records.
    fn now_ns(&self) -> i64;

    /// Nanoseconds since some fixed moment, never going back, for deciding when a progress record is due.
    fn monotonic_ns(&self) -> u64;
}
