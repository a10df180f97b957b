//! Threads, which the system may not give.

use std::io;
use std::thread::{Builder, JoinHandle, Scope};

/// Starts a thread that ends within `scope`.
pub(crate) fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    run: impl FnOnce() + Send + 'scope,
) -> io::Result<()> {
    #[cfg(test)]
    tests::take()?;
    Builder::new().spawn_scoped(scope, run).map(drop)
}

/// Starts a thread that somebody waits for.
pub(crate) fn start_alone(run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    #[cfg(test)]
    tests::take()?;
    Builder::new().spawn(run)
}

/// A system with few threads.
#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    /// From now on so many threads can be started from this one.
    pub(crate) fn leave(count: usize) {
        LEFT.set(count);
    }

    pub(super) fn take() -> io::Result<()> {
        let left = LEFT.get().checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
        LEFT.set(left);
        Ok(())
    }
}
