//! Several root keys that open as one.

use std::fmt;
use std::sync::Arc;

use coffer_crypto::{Rng, Secret};
use coffer_format::slot::{Slot, SlotKind};

use crate::RootKey;
use crate::error::KeyError;

/// Whatever was given to open a vault with: each slot is tried with those that may open it. It makes no slots.
pub struct AnyOf(Vec<Arc<dyn RootKey>>);

impl AnyOf {
    /// Puts root keys together; they are tried in this order where several may open one slot.
    #[must_use]
    pub const fn new(roots: Vec<Arc<dyn RootKey>>) -> Self {
        Self(roots)
    }

    const fn name(&self) -> &'static str {
        "set of keys"
    }
}

impl fmt::Debug for AnyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|root| root.kind_name())).finish()
    }
}

impl RootKey for AnyOf {
    fn kind_name(&self) -> &'static str {
        match self.0.as_slice() {
            [one] => one.kind_name(),
            _ => self.name(),
        }
    }

    fn may_open(&self, slot: &Slot) -> bool {
        self.0.iter().any(|root| root.may_open(slot))
    }

    fn new_kind(&self, _: &dyn Rng) -> Result<SlotKind, KeyError> {
        Err(KeyError::OnlyOpens { root: self.name() })
    }

    fn wrap(&self, _: Slot, _: &Secret<32>, _: &dyn Rng) -> Result<Slot, KeyError> {
        Err(KeyError::OnlyOpens { root: self.name() })
    }

    /// The first answer that says more than that a key does not fit is the one that is told.
    fn unwrap(&self, slot: &Slot) -> Result<Secret<32>, KeyError> {
        let mut told = None;
        for root in self.0.iter().filter(|root| root.may_open(slot)) {
            match root.unwrap(slot) {
                Ok(key) => return Ok(key),
                Err(KeyError::WrongKey { .. }) => {}
                Err(error) => told = told.or(Some(error)),
            }
        }
        Err(told.unwrap_or(KeyError::WrongKey { root: self.name() }))
    }
}
