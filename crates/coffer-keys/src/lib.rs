//! Root keys and key slots: sections 4 and 7 of `docs/format.md` as far as they are about who can open a vault.
//!
//! A **root key** is what an owner keeps: a [`KeyFile`], a [`Passphrase`] or [`RecoveryShares`] here, others in crates of their own. A
//! **key slot** holds the vault key, or the reader secret, wrapped by one root key. Every root key looks alike
//! through [`RootKey`].
//!
//! - [`slots`] makes slots and finds the one that opens;
//! - [`keyfile`] reads and writes the text of section 7.1;
//! - [`shares`] puts a root key together from recovery shares, the text of section 7.2;
//! - [`writer`] reads and writes what a writer has in the place of a root key, the text of section 7.3;
//! - [`pkcs11`] lets a token wrap;
//! - [`passphrase`] goes through Argon2id, whose cost stands in the slot and is checked before any work; the work is given up when its time is over.
//!
//! Invariants: a slot opens only as it was made, for unwrapping fails if any field has changed; it fails in one
//! way, [`KeyError::WrongKey`]; `Debug` and errors show no secret.
//!
//! What it refuses to do: it reads no file, asks no terminal, looks at a clock only to give up in time and to measure how fast this machine is, and contacts no service; [`pkcs11`] alone calls what is outside, the module of a token. It cannot tell
//! whether the key in a slot is the vault's: whoever opens a slot MUST compare what follows from the key with the
//! header or the epoch record, and MUST take slots from the current list of the log.

#![forbid(unsafe_code)]

mod any_of;
mod error;
pub mod keyfile;
mod local;
pub mod passphrase;
pub mod pkcs11;
pub mod shares;
pub mod slots;
mod waiting;
pub mod writer;

use coffer_crypto::{Rng, Secret};
use coffer_format::slot::{Slot, SlotKind};

pub use any_of::AnyOf;
pub use error::{Answer, KeyError, LostSlot, ServiceAnswer, Untried};
pub use keyfile::KeyFile;
pub use passphrase::{Passphrase, PassphraseCost};
pub use pkcs11::{Pkcs11Key, TokenError, TokenSettings};
pub use shares::{RecoveryShares, Share};
pub use slots::{make_slot, open_slot, remake_slot, try_slots};
pub use writer::WriterCredential;

/// A key that wraps and unwraps the keys in slots.
pub trait RootKey: Send + Sync {
    /// Name of the kind, for people: the one that [`SlotKind::name`] gives to its slots.
    fn kind_name(&self) -> &'static str;

    /// Whether the slot is one that this key may open: its kind fits, and the key id, where the kind has one.
    /// Costs nothing.
    fn may_open(&self, slot: &Slot) -> bool;

    /// Whether whoever gave this key said of it exactly the place that the slot names. Then trying the slot asks nobody whom they did not name,
    /// whoever made the slot. Finding that out may ask the service at that place. Where a slot names no place it does not matter.
    fn is_at(&self, _slot: &Slot) -> bool {
        false
    }

    /// Kind and parameters of a new slot for this key.
    ///
    /// # Errors
    /// [`KeyError::Crypto`] when `rng` fails.
    fn new_kind(&self, rng: &dyn Rng) -> Result<SlotKind, KeyError>;

    /// Wraps `key` into `slot`, a template such as [`Slot::unwrapped`] makes with the kind of [`Self::new_kind`].
    /// Salt, commitment and wrapped key are set anew.
    ///
    /// # Errors
    /// [`KeyError::Kind`] when the template is not for this key; [`KeyError::Crypto`]; [`KeyError::Service`] or [`KeyError::Token`] where a service or a token wraps.
    fn wrap(&self, slot: Slot, key: &Secret<32>, rng: &dyn Rng) -> Result<Slot, KeyError>;

    /// The key in `slot`, which is bound to every field of it.
    ///
    /// # Errors
    /// [`KeyError::WrongKey`], whatever the reason. [`KeyError::Crypto`] only for what the slot asks for openly:
    /// an Argon2id cost outside the limits, or above the memory there is, and [`KeyError::PassphraseSlow`] for one above the time. [`KeyError::SharesMissing`] where shares are not those of the slot.
    /// [`KeyError::Service`] where a service was to be asked, [`KeyError::Token`] where a token was.
    fn unwrap(&self, slot: &Slot) -> Result<Secret<32>, KeyError>;
}
