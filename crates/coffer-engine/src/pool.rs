//! What threads share so that memory does not grow with their number: a few things that are lent, and a number of bytes.
//!
//! Whoever wants what is not there waits for it. What was lent comes back when it is dropped, also by a thread that panics.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Things of one kind, of which there are only so many.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    /// Those that are not lent; the one that came back last is at the end.
    free: Mutex<Vec<T>>,
    returned: Condvar,
}

impl<T: Default> Pool<T> {
    /// A pool of `count` new things.
    pub(crate) fn new(count: usize) -> Arc<Self> {
        let free = Mutex::new(std::iter::repeat_with(T::default).take(count).collect());
        Arc::new(Self { free, returned: Condvar::new() })
    }

    /// Lends a thing: one that is preferred if there is one now, else any. Waits while all are lent.
    pub(crate) fn take(self: &Arc<Self>, is_preferred: impl Fn(&T) -> bool) -> Lent<T> {
        let mut free = self.lock();
        loop {
            let preferred = free.iter().rposition(&is_preferred);
            if let Some(position) = preferred.or(free.len().checked_sub(1)) {
                return self.lend(free.remove(position));
            }
            free = self.returned.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lends a thing that is wanted, if there is one now.
    pub(crate) fn try_take(self: &Arc<Self>, is_wanted: impl Fn(&T) -> bool) -> Option<Lent<T>> {
        let mut free = self.lock();
        let position = free.iter().rposition(&is_wanted)?;
        Some(self.lend(free.remove(position)))
    }

    fn lend(self: &Arc<Self>, thing: T) -> Lent<T> {
        Lent { pool: Arc::clone(self), thing }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<T>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thing that is lent.
#[derive(Debug)]
pub(crate) struct Lent<T: Default> {
    pool: Arc<Pool<T>>,
    thing: T,
}

impl<T: Default> Deref for Lent<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.thing
    }
}

impl<T: Default> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.thing
    }
}

impl<T: Default> Drop for Lent<T> {
    fn drop(&mut self) {
        let thing = std::mem::take(&mut self.thing);
        self.pool.lock().push(thing);
        self.pool.returned.notify_one();
    }
}

/// A number of bytes that may be in memory at once.
#[derive(Debug)]
pub(crate) struct Budget {
    len: u64,
    left: Mutex<u64>,
    returned: Condvar,
}

impl Budget {
    pub(crate) const fn new(len: u64) -> Self {
        Self { len, left: Mutex::new(len), returned: Condvar::new() }
    }

    /// Waits until `len` bytes are left, and takes them. Who wants more than there ever are gets all.
    pub(crate) fn take(&self, len: u64) -> Share<'_> {
        let len = len.min(self.len);
        let mut left = self.lock();
        while *left < len {
            left = self.returned.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
        *left -= len;
        Share { budget: self, len }
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Share<'b> {
    budget: &'b Budget,
    len: u64,
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.budget.lock() += self.len;
        self.budget.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_preferred_is_lent_first_and_what_is_dropped_comes_back() {
        let pool: Arc<Pool<u32>> = Pool::new(2);
        let mut first = pool.take(|_| false);
        *first = 7;
        drop(first);
        assert_eq!(*pool.take(|number| *number == 7), 7);
        assert_eq!(*pool.take(|number| *number == 0), 0);
        let seven = pool.try_take(|number| *number == 7).expect("it is there");
        assert!(pool.try_take(|number| *number == 7).is_none(), "it is lent");
        // Any is better than none.
        assert_eq!(*pool.take(|number| *number == 7), 0);
        drop(seven);
    }

    #[test]
    fn a_thread_that_panics_gives_back_what_it_was_lent() {
        let pool: Arc<Pool<u32>> = Pool::new(1);
        let lent = Arc::clone(&pool);
        let thread = std::thread::spawn(move || {
            let _held = lent.take(|_| true);
            panic!("a panic that is meant");
        });
        assert!(thread.join().is_err());
        assert!(pool.try_take(|_| true).is_some());
    }

    #[test]
    fn no_more_is_out_than_there_is() {
        let (budget, out, most) = (Budget::new(100), AtomicU64::new(0), AtomicU64::new(0));
        let pool: Arc<Pool<u32>> = Pool::new(3);
        std::thread::scope(|scope| {
            for thread in 0..8_u64 {
                let (budget, out, most, pool) = (&budget, &out, &most, &pool);
                scope.spawn(move || {
                    for turn in 0..50 {
                        // More than there is counts as all.
                        let len = [10, 30, 60, 500][((thread + turn) % 4) as usize];
                        let share = budget.take(len);
                        let now = out.fetch_add(len.min(100), Ordering::SeqCst) + len.min(100);
                        most.fetch_max(now, Ordering::SeqCst);
                        drop(pool.take(|_| true));
                        std::thread::sleep(Duration::from_micros(50));
                        out.fetch_sub(len.min(100), Ordering::SeqCst);
                        drop(share);
                    }
                });
            }
        });
        assert!((60..=100).contains(&most.into_inner()));
        assert_eq!(*budget.lock(), 100);
        assert_eq!(pool.lock().len(), 3);
    }
}
