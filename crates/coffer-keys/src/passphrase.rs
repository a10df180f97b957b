//! A passphrase as a root key.
//!
//! What a slot costs to open stands in the slot: whoever made it, on whatever machine, chose it. So the work is done in a thread of its own and
//! given up when its time is over; what it still computes is wiped when it ends, and has its memory until then. All work of a process
//! together takes no more memory than the most that one slot may ask for.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use coffer_crypto::{Argon2Params, CryptoError, Rng, Secret, SecretBytes, passphrase, rng};
use coffer_format::slot::{Slot, SlotKind};

use crate::error::KeyError;
use crate::local::{unwrap_with, wrap_with};
use crate::{RootKey, waiting};

const KIND_NAME: &str = "passphrase";

/// Longest time for a slot, unless another is given. The slowest of single-board computers needs a sixth of it for the least cost.
pub const LIMIT: Duration = Duration::from_secs(60);
/// How long opening a new slot is to take on the machine that makes it.
const TARGET: Duration = Duration::from_millis(750);

/// What slots that are made with a passphrase cost to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassphraseCost {
    /// What takes about three quarters of a second on this machine, between [`Argon2Params::FLOOR`] and [`Argon2Params::CALIBRATED_MAX`]. It is
    /// measured when the first slot of the process is made.
    Calibrated,
    /// This.
    Fixed(Argon2Params),
}

impl From<Argon2Params> for PassphraseCost {
    fn from(params: Argon2Params) -> Self {
        Self::Fixed(params)
    }
}

impl PassphraseCost {
    fn params(self) -> Argon2Params {
        static MEASURED: OnceLock<Argon2Params> = OnceLock::new();
        match self {
            Self::Fixed(params) => params,
            Self::Calibrated => *MEASURED.get_or_init(|| Argon2Params::calibrated(TARGET, &mut time_of)),
        }
    }
}

/// How long the work takes here; nothing if it cannot be done.
fn time_of(params: Argon2Params) -> Option<Duration> {
    let since = Instant::now();
    passphrase::derive(b"calibration", &[0; 16], params).ok().map(|_| since.elapsed())
}

/// A passphrase, and the Argon2id cost of slots that are made with it. Existing slots state their own cost.
pub struct Passphrase {
    passphrase: Arc<SecretBytes>,
    cost: PassphraseCost,
    limit: Duration,
}

impl Passphrase {
    /// Takes the bytes as they are: UTF-8, without the line end that a terminal adds. [`Argon2Params::FLOOR`] is the least cost.
    ///
    /// # Errors
    /// [`KeyError::PassphraseEmpty`], [`KeyError::PassphraseEncoding`], and [`KeyError::Crypto`] for a cost outside
    /// the limits of the format.
    pub fn new(passphrase: SecretBytes, cost: impl Into<PassphraseCost>) -> Result<Self, KeyError> {
        if passphrase.is_empty() {
            return Err(KeyError::PassphraseEmpty);
        }
        if std::str::from_utf8(passphrase.expose()).is_err() {
            return Err(KeyError::PassphraseEncoding);
        }
        let cost = cost.into();
        if let PassphraseCost::Fixed(params) = cost {
            params.check()?;
        }
        Ok(Self { passphrase: Arc::new(passphrase), cost, limit: LIMIT })
    }

    /// The same, with the longest time that making or opening a slot may take; without it, [`LIMIT`].
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The 32-byte secret for a slot's parameters; `None` for a slot of another kind. The cost is checked before
    /// any memory is taken.
    fn secret(&self, kind: &SlotKind) -> Option<Result<Secret<32>, KeyError>> {
        let SlotKind::Passphrase { memory_kib, passes, lanes, salt } = kind else {
            return None;
        };
        let cost = Argon2Params { memory_kib: *memory_kib, passes: *passes, lanes: *lanes };
        Some(self.derive(cost, *salt))
    }

    fn derive(&self, cost: Argon2Params, salt: [u8; 16]) -> Result<Secret<32>, KeyError> {
        cost.check()?;
        let Argon2Params { memory_kib, passes, lanes } = cost;
        let share = MemoryShare::take(memory_kib).ok_or(KeyError::PassphraseBusy { memory_kib })?;
        let passphrase = Arc::clone(&self.passphrase);
        let work = move |_: &dyn Fn(&str) -> Option<SecretBytes>| {
            let secret = passphrase::derive(passphrase.expose(), &salt, cost);
            drop(share);
            secret
        };
        let done: Option<Result<_, CryptoError>> = waiting::within(KIND_NAME, self.limit, None, work)
            .map_err(|source| KeyError::Thread { source })?;
        let limit_s = self.limit.as_secs();
        Ok(done.ok_or(KeyError::PassphraseSlow { memory_kib, passes, lanes, limit_s })??)
    }
}

/// Memory of work that is under way, whether or not anybody still waits for it.
struct MemoryShare(u32);

/// How much of it there is, in KiB.
static IN_USE_KIB: Mutex<u32> = Mutex::new(0);

impl MemoryShare {
    /// Nothing if all together would take more than one slot may.
    fn take(memory_kib: u32) -> Option<Self> {
        let mut in_use = IN_USE_KIB.lock().unwrap_or_else(PoisonError::into_inner);
        *in_use = in_use.checked_add(memory_kib).filter(|sum| *sum <= Argon2Params::MEMORY_KIB_MAX)?;
        Some(Self(memory_kib))
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        *IN_USE_KIB.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
    }
}

impl RootKey for Passphrase {
    fn kind_name(&self) -> &'static str {
        KIND_NAME
    }

    fn may_open(&self, slot: &Slot) -> bool {
        matches!(slot.kind, SlotKind::Passphrase { .. })
    }

    fn new_kind(&self, rng: &dyn Rng) -> Result<SlotKind, KeyError> {
        let Argon2Params { memory_kib, passes, lanes } = self.cost.params();
        Ok(SlotKind::Passphrase { memory_kib, passes, lanes, salt: rng::array(rng)? })
    }

    fn wrap(&self, slot: Slot, key: &Secret<32>, rng: &dyn Rng) -> Result<Slot, KeyError> {
        let secret = self.secret(&slot.kind);
        let secret = secret.ok_or(KeyError::Kind { slot: slot.kind.name(), root: KIND_NAME })??;
        wrap_with(&secret, slot, key, rng)
    }

    fn unwrap(&self, slot: &Slot) -> Result<Secret<32>, KeyError> {
        let wrong_key = KeyError::WrongKey { root: KIND_NAME };
        let Some(secret) = self.secret(&slot.kind) else {
            return Err(wrong_key);
        };
        unwrap_with(&secret?, slot).ok_or(wrong_key)
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passphrase").field("cost", &self.cost).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
