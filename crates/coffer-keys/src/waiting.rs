//! Waiting for a token, or for the work of a passphrase, no longer than it may take.
//!
//! Neither can be interrupted. So the work is done in a thread of its own, and whoever waits for it goes on when the time is
//! over. The thread is left behind: if it comes to an end after all, what it gave is wiped and nobody hears of it; if it does not, it
//! ends with the process.

use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use coffer_crypto::SecretBytes;

use crate::pkcs11::AskPin;

/// What the thread says.
enum Said<T> {
    /// The token with this name wants a PIN.
    PinWanted(String),
    Done(T),
}

/// What `work` gives; nothing if it takes longer than `limit`.
///
/// `name` is that of the thread. `work` is given a way to ask for the PIN of a token. It is asked for in the thread that waits, and the time that
/// a person takes for it does not count.
///
/// # Errors
/// If there can be no further thread.
pub(crate) fn within<T: Send + 'static>(
    name: &str,
    limit: Duration,
    ask_pin: Option<&AskPin>,
    work: impl FnOnce(&dyn Fn(&str) -> Option<SecretBytes>) -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (say, hear) = mpsc::channel();
    let (give, take) = mpsc::channel();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let ask = |token: &str| {
            say.send(Said::PinWanted(token.to_owned())).ok()?;
            take.recv().ok().flatten()
        };
        let done = work(&ask);
        // Nobody may be waiting any more.
        drop(say.send(Said::Done(done)));
    })?;
    let mut left = limit;
    loop {
        let since = Instant::now();
        match hear.recv_timeout(left) {
            Ok(Said::Done(done)) => return Ok(Some(done)),
            Ok(Said::PinWanted(token)) => {
                left = left.saturating_sub(since.elapsed());
                drop(give.send(ask_pin.and_then(|ask| ask(&token))));
            }
            Err(RecvTimeoutError::Timeout) => return Ok(None),
            // It ended without a word, so it panicked.
            Err(RecvTimeoutError::Disconnected) => {
                return thread.join().map_or_else(|panic| resume_unwind(panic), |()| Ok(None));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_done_in_time_is_given() {
        assert_eq!(within("test", LONG, None, |_| 7).unwrap(), Some(7));
    }

    #[test]
    fn what_never_ends_is_left_behind() {
        let (keep, never) = mpsc::channel::<()>();
        let since = Instant::now();
        let done = within("test", SHORT, None, move |_| never.recv()).unwrap();
        assert!(done.is_none() && since.elapsed() < LONG);
        drop(keep);
    }

    #[test]
    fn the_time_of_a_person_does_not_count() {
        let ask: AskPin = Box::new(|token| {
            thread::sleep(SHORT * 60);
            Some(SecretBytes::from(format!("pin of {token}")))
        });
        let limit = SHORT * 40;
        let given = within("test", limit, Some(&ask), |ask| ask("hsm")).unwrap().flatten();
        assert_eq!(given, Some(SecretBytes::from("pin of hsm".to_owned())));
        assert_eq!(within("test", LONG, None, |ask| ask("hsm")).unwrap(), Some(None));
    }

    #[test]
    #[should_panic(expected = "as it is")]
    fn a_panic_is_passed_on() {
        drop(within::<()>("test", LONG, None, |_| panic!("as it is")));
    }
}
