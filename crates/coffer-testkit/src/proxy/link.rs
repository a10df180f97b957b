//! How long the way is, and how much it carries.

use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::lock;

/// What the way to the server is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Link {
    /// Time that each request takes at least: half of it before the server sees the request, half before the client sees the answer.
    pub round_trip: Duration,
    /// Bytes of bodies that go to the server in a second, all connections together; no cap if `None`.
    pub upload_rate: Option<u64>,
    /// Bytes of bodies that come from the server in a second, all connections together; no cap if `None`.
    pub download_rate: Option<u64>,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// A [`Link`] in use.
#[derive(Default)]
pub(super) struct Wire {
    link: Mutex<Link>,
    /// When the wire is free again, up and down; `None` if nothing went over it yet.
    free_up: Mutex<Option<Instant>>,
    free_down: Mutex<Option<Instant>>,
}

impl Wire {
    pub(super) fn set(&self, link: Link) {
        *lock(&self.link) = link;
    }

    /// Waits as long as one way takes.
    pub(super) fn cross(&self) {
        let round_trip = lock(&self.link).round_trip;
        if !round_trip.is_zero() {
            sleep(round_trip / 2);
        }
    }

    /// Waits until `len` bytes have gone over the wire, after those of all others that were before.
    pub(super) fn carry(&self, direction: Direction, len: usize) {
        let link = *lock(&self.link);
        let (rate, free) = match direction {
            Direction::Up => (link.upload_rate, &self.free_up),
            Direction::Down => (link.download_rate, &self.free_down),
        };
        let Some(rate) = rate else { return };
        let now = Instant::now();
        let until = {
            let mut free = lock(free);
            let start = free.map_or(now, |free| free.max(now));
            let end = start + Duration::from_secs_f64(len as f64 / rate.max(1) as f64);
            *free = Some(end);
            end
        };
        sleep(until - now);
    }
}
