//! The keys of a vault and what follows from them (section 4).
//!
//! ```text
//! VaultKey ── signing()  the owner's signing key
//!    └─ reader() ── ReaderSecret ── sealing()      the key pair that packs and records are sealed to
//!                        └─ domain_keys(D) ── DomainKeys of one dedup domain
//! ```
//!
//! A holder of [`DomainKeys`] alone (a writer) can name, cut and seal data of that domain and read nothing.

use crate::error::CryptoError;
use crate::hash;
use crate::kdf::{kdf, kdf64};
use crate::rng::Rng;
use crate::secret::Secret;
use crate::sign::SigningKey;
use crate::to_vault::SealingKeyPair;

/// The key of one epoch of a vault: everything follows from it.
#[derive(Debug)]
pub struct VaultKey(Secret<32>);

impl VaultKey {
    /// A fresh key for a new vault or epoch.
    ///
    /// # Errors
    /// [`CryptoError::Random`] when `rng` fails.
    pub fn generate(rng: &dyn Rng) -> Result<Self, CryptoError> {
        Secret::generate(rng).map(Self)
    }

    /// The key that a slot or an epoch record held.
    #[must_use]
    pub fn from_secret(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// The bytes, to wrap them.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// What reads the vault and cannot sign for it.
    #[must_use]
    pub fn reader(&self) -> ReaderSecret {
        ReaderSecret(kdf(&self.0, "reader", b""))
    }

    /// The owner's signing key of this epoch.
    #[must_use]
    pub fn signing(&self) -> SigningKey {
        SigningKey::from_seed(&kdf(&self.0, "owner signing key", b""))
    }

    /// The key under which this epoch's record carries the vault key of the epoch before (section 9.10).
    #[must_use]
    pub fn previous_vault_key_kek(&self) -> Secret<32> {
        kdf(&self.0, "previous vault key", b"")
    }
}

/// The secret of one epoch that reads everything and signs nothing.
#[derive(Debug)]
pub struct ReaderSecret(Secret<32>);

impl ReaderSecret {
    /// The secret that a slot or an epoch record held.
    #[must_use]
    pub fn from_secret(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// The bytes, to wrap them.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// The key pair that packs and record bodies of this epoch are sealed to. Costs a key generation; keep it.
    #[must_use]
    pub fn sealing(&self) -> SealingKeyPair {
        SealingKeyPair::from_seed(&kdf(&self.0, "sealing key", b""))
    }

    /// The keys of dedup domain `domain`, whose first four bytes name this secret's epoch.
    #[must_use]
    pub fn domain_keys(&self, domain: &[u8; 16]) -> DomainKeys {
        let root = kdf(&self.0, "dedup domains", b"");
        let key = |label| kdf(&root, label, domain);
        let chunker = key("chunker");
        DomainKeys {
            domain: *domain,
            keys: DomainKeyParts {
                data_id: key("data chunk id"),
                meta_id: key("meta chunk id"),
                chunker: Secret::from_slice(&chunker.expose()[..16]).expect("16 bytes were taken"),
                tree: key("tree"),
                index: key("index"),
                psk: key("psk"),
            },
        }
    }

    /// The key under which this epoch's record carries the reader secret of the epoch before (section 9.10).
    #[must_use]
    pub fn previous_reader_secret_kek(&self) -> Secret<32> {
        kdf(&self.0, "previous reader secret", b"")
    }
}

/// The six keys of a dedup domain, as a writer's credential holds them.
#[derive(Debug)]
pub struct DomainKeyParts {
    /// Gives the ids of data chunks.
    pub data_id: Secret<32>,
    /// Gives the ids of meta chunks.
    pub meta_id: Secret<32>,
    /// Decides where chunks end.
    pub chunker: Secret<16>,
    /// Decides where leaves and nodes of the tree end.
    pub tree: Secret<32>,
    /// Seals index segments.
    pub index: Secret<32>,
    /// Shared by all who write and read the domain's packs and record bodies.
    pub psk: Secret<32>,
}

/// The keys of one dedup domain.
#[derive(Debug)]
pub struct DomainKeys {
    domain: [u8; 16],
    keys: DomainKeyParts,
}

impl DomainKeys {
    /// Puts together the keys of `domain` that a credential held.
    #[must_use]
    pub fn from_parts(domain: [u8; 16], keys: DomainKeyParts) -> Self {
        Self { domain, keys }
    }

    /// The same keys once more, for who has nothing to derive them from.
    #[must_use]
    pub fn copy(&self) -> Self {
        let key = |secret: &Secret<32>| Secret::new(*secret.expose());
        let keys = DomainKeyParts {
            data_id: key(&self.keys.data_id),
            meta_id: key(&self.keys.meta_id),
            chunker: Secret::new(*self.keys.chunker.expose()),
            tree: key(&self.keys.tree),
            index: key(&self.keys.index),
            psk: key(&self.keys.psk),
        };
        Self { domain: self.domain, keys }
    }

    /// The name of the domain.
    #[must_use]
    pub fn domain(&self) -> &[u8; 16] {
        &self.domain
    }

    /// The keys themselves, to write a credential.
    #[must_use]
    pub fn parts(&self) -> &DomainKeyParts {
        &self.keys
    }

    /// The id of a data chunk.
    #[must_use]
    pub fn data_id(&self, chunk: &[u8]) -> [u8; 32] {
        hash::keyed(self.keys.data_id.expose(), chunk)
    }

    /// The id of a meta chunk.
    #[must_use]
    pub fn meta_id(&self, chunk: &[u8]) -> [u8; 32] {
        hash::keyed(self.keys.meta_id.expose(), chunk)
    }

    /// The number that decides whether a leaf (height 0) or node ends after an item with path `path`:
    /// the first four bytes of `KH(tree key, height || path)`, little-endian.
    #[must_use]
    pub fn tree_hash(&self, height: u8, path: &[u8]) -> u32 {
        let mut hasher = hash::Hasher::new_keyed(self.keys.tree.expose());
        let [a, b, c, d, ..] = hasher.update(&[height]).update(path).finalize();
        u32::from_le_bytes([a, b, c, d])
    }

    /// The key of the chunker's MAC.
    #[must_use]
    pub fn chunker_key(&self) -> &Secret<16> {
        &self.keys.chunker
    }

    /// The key from which the keys of index segments follow.
    #[must_use]
    pub fn index_key(&self) -> &Secret<32> {
        &self.keys.index
    }

    /// The domain's PSK, for [`crate::seal_to_vault`] and [`crate::open_from_vault`].
    #[must_use]
    pub fn psk(&self) -> &Secret<32> {
        &self.keys.psk
    }

    /// Key and commitment of the index segment with this salt (section 11).
    #[must_use]
    pub fn index_segment_key(&self, vault_id: &[u8; 32], salt: &[u8; 32]) -> (Secret<32>, [u8; 32]) {
        kdf64(&self.keys.index, "index segment", &[vault_id.as_slice(), salt].concat())
    }
}

#[cfg(test)]
mod tests;
