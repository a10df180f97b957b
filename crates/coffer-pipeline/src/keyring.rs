//! The reading keys of every epoch, found backwards from the key that a slot gave; or what a writer has in their place, which reads nothing.

use coffer_crypto::{
    DomainKeys, ObjectKind, Purpose, ReaderSecret, SealContext, SealKey, SealingKeyPair, Secret, SigningKey,
    VaultKey,
};
use coffer_format::FormatError;
use coffer_format::id::{DomainId, VaultId};
use coffer_format::log::Epoch;
use zeroize::Zeroizing;

use crate::error::PipelineError;

/// The key that was unwrapped from a slot.
#[derive(Debug)]
pub enum UnwrappedKey {
    /// The vault key: reads and signs.
    VaultKey(VaultKey),
    /// The reader secret: reads.
    Reader(ReaderSecret),
}

/// Keys to read all epochs up to the one the unwrapped key belongs to.
#[derive(Debug)]
pub struct Keyring {
    /// Epoch of the first reader secret: 0, unless the log that leads back to it was not read.
    first: u32,
    readers: Vec<ReaderSecret>,
    pairs: Vec<SealingKeyPair>,
    signing: Option<SigningKey>,
    vault_key: Option<VaultKey>,
    /// The one domain of a writer, who has no reader secret to derive it from.
    writes: Option<DomainKeys>,
}

impl Keyring {
    /// What a writer has: a signing key and the keys of one domain. It opens no pack and no record body.
    #[must_use]
    pub fn of_writer(signing: SigningKey, domain: DomainKeys) -> Self {
        Self {
            first: 0,
            readers: Vec::new(),
            pairs: Vec::new(),
            signing: Some(signing),
            vault_key: None,
            writes: Some(domain),
        }
    }

    /// Checks the unwrapped key of epoch number `epoch` against the log's `epochs` and opens the older ones.
    ///
    /// # Errors
    /// [`PipelineError::WrongKey`] when the key does not belong to the epoch; [`PipelineError::Crypto`] when an older
    /// key does not open.
    pub fn open(
        vault: VaultId,
        epochs: &[Epoch],
        epoch: u32,
        key: UnwrappedKey,
    ) -> Result<Self, PipelineError> {
        let wrong = || PipelineError::WrongKey { epoch };
        let last = epoch as usize;
        let newest = epochs.get(last).ok_or_else(wrong)?;
        let (reader, signing, vault_key) = match key {
            UnwrappedKey::VaultKey(key) => {
                let signing = key.signing();
                if *signing.verifying_key().as_bytes() != newest.owner_key {
                    return Err(wrong());
                }
                (key.reader(), Some(signing), Some(key))
            }
            UnwrappedKey::Reader(reader) => (reader, None, None),
        };
        let (mut readers, mut pairs) = (Vec::new(), Vec::new());
        let mut reader = Some(reader);
        for number in (0..=epoch).rev() {
            let Some(current) = reader.take() else { break };
            let pair = current.sealing();
            let other = || PipelineError::WrongKey { epoch: number };
            let known = epochs.get(number as usize).ok_or_else(other)?;
            if pair.public().to_bytes() != *known.sealing_key {
                return Err(other());
            }
            if let Some(details) = &known.details {
                reader = Some(previous_reader(vault, &current, number, &details.previous_reader_secret)?);
            }
            readers.push(current);
            pairs.push(pair);
        }
        readers.reverse();
        pairs.reverse();
        // Only the newest owner's key may sign, and only it is worth a new slot.
        let newest = last + 1 == epochs.len();
        Ok(Self {
            first: 0,
            readers,
            pairs,
            signing: signing.filter(|_| newest),
            vault_key: vault_key.filter(|_| newest),
            writes: None,
        })
    }

    /// The keys of epoch number `epoch` alone, from its vault key, before a log says what came before it. Nothing is checked: whether it is
    /// the newest epoch of the vault is for the caller to find out.
    #[must_use]
    pub fn of_newest(epoch: u32, key: VaultKey) -> Self {
        let reader = key.reader();
        let (pairs, signing) = (vec![reader.sealing()], Some(key.signing()));
        Self { first: epoch, readers: vec![reader], pairs, signing, vault_key: Some(key), writes: None }
    }

    fn position(&self, epoch: u32) -> Option<usize> {
        epoch.checked_sub(self.first).map(|position| position as usize)
    }

    /// The domain that a writer has; `None` for who derives the keys of every domain.
    #[must_use]
    pub fn writer_domain(&self) -> Option<DomainId> {
        self.writes.as_ref().map(|keys| DomainId(*keys.domain()))
    }

    /// The owner's signing key, if the unwrapped key gives it; that of a writer.
    #[must_use]
    pub const fn signing(&self) -> Option<&SigningKey> {
        self.signing.as_ref()
    }

    /// The vault key of the newest epoch, if the unwrapped key is it.
    #[must_use]
    pub const fn vault_key(&self) -> Option<&VaultKey> {
        self.vault_key.as_ref()
    }

    /// The sealing key pair of an epoch, if it is known.
    #[must_use]
    pub fn sealing(&self, epoch: u32) -> Option<&SealingKeyPair> {
        self.pairs.get(self.position(epoch)?)
    }

    /// Sealing key pairs of all epochs, oldest first.
    #[must_use]
    pub fn sealing_pairs(&self) -> &[SealingKeyPair] {
        &self.pairs
    }

    /// Keys of a dedup domain.
    ///
    /// # Errors
    /// When the domain is of an epoch that is not known, or another one than a writer's own.
    pub fn domain_keys(&self, domain: &DomainId) -> Result<DomainKeys, PipelineError> {
        if let Some(keys) = &self.writes {
            return if *keys.domain() == domain.0 {
                Ok(keys.copy())
            } else {
                Err(PipelineError::OtherDomain)
            };
        }
        let reader = self.position(domain.epoch()).and_then(|position| self.readers.get(position));
        let rule = "its dedup domain is of an epoch that does not exist";
        let reader = reader.ok_or(FormatError::Malformed { object: "domain id", offset: 0, rule })?;
        Ok(reader.domain_keys(&domain.0))
    }
}

fn previous_reader(
    vault: VaultId,
    current: &ReaderSecret,
    epoch: u32,
    sealed: &[u8; 48],
) -> Result<ReaderSecret, PipelineError> {
    let context = SealContext::new(vault.0, ObjectKind::EpochRecord, [0; 32]);
    let key = SealKey::new(&current.previous_reader_secret_kek(), context);
    let mut bytes = Zeroizing::new(*sealed);
    let plain = key.open_in_place(Purpose::PreviousReaderSecret, epoch, bytes.as_mut_slice())?;
    Ok(ReaderSecret::from_secret(Secret::from_slice(plain)?))
}

#[cfg(test)]
mod tests;
