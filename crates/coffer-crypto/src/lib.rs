//! Secrets, keys and seals.
//!
//! Implements sections 1, 4, 5, 7 and 8.1 of `docs/format.md` as far as they are about key material: which keys
//! follow from which, what a seal is bound to, how a key is wrapped, how a record is signed. It is meant to be
//! small enough to audit whole.
//!
//! - [`secret`], [`wiping`], [`rng`], [`hash`]: memory that is wiped, also where libraries freed it, randomness that comes in from outside, BLAKE3.
//! - [`kdf`], [`key`], [`passphrase`]: the tree of keys of section 4, and Argon2id.
//! - [`seal`], [`wrap`], [`to_vault`], [`sign`]: AES-256-GCM bound to its place, wrapped keys, HPKE with X-Wing,
//!   Ed25519.
//!
//! What it refuses to do: it parses no object, opens no file and no socket, and takes no nonce from a caller.
//! Opening fails in one way; the error says what did not open and never why.

pub mod error;
pub mod hash;
mod hazmat;
pub mod kdf;
pub mod key;
mod locked;
pub mod passphrase;
pub mod rng;
pub mod seal;
pub mod secret;
pub mod shares;
pub mod sign;
pub mod to_vault;
pub mod wiping;
pub mod wrap;

pub use error::CryptoError;
pub use key::{DomainKeyParts, DomainKeys, ReaderSecret, VaultKey};
pub use passphrase::Argon2Params;
pub use rng::{OsRng, Rng};
pub use seal::{ObjectKind, PortableSealKey, Purpose, SealContext, SealKey, TAG_LEN};
pub use secret::{Secret, SecretBytes};
pub use sign::{SigningKey, VerifyingKey};
pub use to_vault::{
    ENCAPSULATION_LEN, Encapsulation, SEALING_PUBLIC_KEY_LEN, SealedAs, SealingKeyPair, SealingPublicKey,
    commitment_matches, open_from_vault, seal_to_vault,
};
