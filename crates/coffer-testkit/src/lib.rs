//! Fakes, faults and conformance suites for tests.
//!
//! Wrappers around any [`ObjectStore`](coffer_store::ObjectStore), which are stores themselves:
//! - [`AlteredStore`] forwards every call but those that a test changes;
//! - [`RecordingStore`] counts what it is asked for;
//! - [`FaultyStore`] fails chosen calls, before or after their effect;
//! - [`CrashingStore`] stops the process, as far as the store can tell, at a chosen write;
//! - [`SlowStore`] answers late and counts the rounds that somebody waited for;
//! - [`ScheduledStore`] hands out turns, so that [`explore`] can run every interleaving of several workers.
//!
//! [`proxy`] does to real requests over HTTP what a bad network does.
//!
//! [`softhsm`] makes PKCS#11 tokens in a directory; [`Mounted`] is a file system of a test's own.
//!
//! [`conformance`] holds the suites that every implementation of a trait runs; [`copy`] takes stores apart and builds
//! them, for damage tests. Helpers here panic on what a test would have to unwrap anyway.

mod altered;
pub mod conformance;
pub mod copy;
mod crashing;
mod faulty;
mod mounted;
pub mod proxy;
mod recording;
mod scheduled;
mod slow;
pub mod softhsm;

pub use altered::{AlteredStore, Visit};
pub use crashing::{CrashMoment, CrashingStore};
pub use faulty::{Fault, FaultKind, FaultMoment, FaultyStore};
pub use mounted::Mounted;
pub use recording::{Recording, RecordingStore};
pub use scheduled::{ExploreLimits, Explored, ScheduledStore, Worker, explore, replay, worker};
pub use slow::{SlowCounts, SlowStore};
