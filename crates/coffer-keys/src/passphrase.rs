//! A passphrase as a root key.

use std::fmt;

use coffer_crypto::{Argon2Params, CryptoError, Rng, Secret, SecretBytes, passphrase, rng};
use coffer_format::slot::{Slot, SlotKind};

use crate::RootKey;
use crate::error::KeyError;
use crate::local::{unwrap_with, wrap_with};

const KIND_NAME: &str = "passphrase";

/// A passphrase, and the Argon2id cost of slots that are made with it. Existing slots state their own cost.
pub struct Passphrase {
    passphrase: SecretBytes,
    cost: Argon2Params,
}

impl Passphrase {
    /// Takes the bytes as they are: UTF-8, without the line end that a terminal adds. [`Argon2Params::FLOOR`] is the least cost.
    ///
    /// # Errors
    /// [`KeyError::PassphraseEmpty`], [`KeyError::PassphraseEncoding`], and [`KeyError::Crypto`] for a cost outside
    /// the limits of the format.
    pub fn new(passphrase: SecretBytes, cost: Argon2Params) -> Result<Self, KeyError> {
        if passphrase.is_empty() {
            return Err(KeyError::PassphraseEmpty);
        }
        if std::str::from_utf8(passphrase.expose()).is_err() {
            return Err(KeyError::PassphraseEncoding);
        }
        cost.check()?;
        Ok(Self { passphrase, cost })
    }

    /// The 32-byte secret for a slot's parameters; `None` for a slot of another kind. The cost is checked before
    /// any memory is taken.
    fn secret(&self, kind: &SlotKind) -> Option<Result<Secret<32>, CryptoError>> {
        let SlotKind::Passphrase { memory_kib, passes, lanes, salt } = kind else {
            return None;
        };
        let cost = Argon2Params { memory_kib: *memory_kib, passes: *passes, lanes: *lanes };
        Some(passphrase::derive(self.passphrase.expose(), salt, cost))
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
        let Argon2Params { memory_kib, passes, lanes } = self.cost;
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
