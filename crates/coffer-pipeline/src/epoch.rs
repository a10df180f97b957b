//! Beginning an epoch (specification section 9.10).

use coffer_crypto::{ObjectKind, Purpose, SealContext, SealKey, Secret, VaultKey};
use coffer_format::id::VaultId;
use coffer_format::record::EpochDetails;

use crate::error::PipelineError;

/// What announces epoch `number` of a vault, whose key is `new`: `old`, the key of the epoch before it, is sealed under it, so that
/// whoever has the new key reads all that was written before. `new_domains` gives deduplication with it up.
///
/// # Errors
/// [`PipelineError::Crypto`] when sealing fails.
pub fn begin_epoch(
    vault: VaultId,
    number: u32,
    old: &VaultKey,
    new: &VaultKey,
    new_domains: bool,
) -> Result<EpochDetails, PipelineError> {
    let seal = |kek: &Secret<32>, purpose, secret: &[u8; 32]| -> Result<[u8; 48], PipelineError> {
        let mut bytes = zeroize::Zeroizing::new(secret.to_vec());
        SealKey::new(kek, SealContext::new(vault.0, ObjectKind::EpochRecord, [0; 32]))
            .seal_in_place(purpose, number, &mut bytes, 0)?;
        Ok(std::array::from_fn(|at| bytes.get(at).copied().unwrap_or_default()))
    };
    let (reader, old_reader) = (new.reader(), old.reader());
    Ok(EpochDetails {
        number,
        sealing_key: Box::new(reader.sealing().public().to_bytes()),
        owner_key: *new.signing().verifying_key().as_bytes(),
        previous_vault_key: seal(&new.previous_vault_key_kek(), Purpose::PreviousVaultKey, old.expose())?,
        previous_reader_secret: seal(
            &reader.previous_reader_secret_kek(),
            Purpose::PreviousReaderSecret,
            old_reader.expose(),
        )?,
        new_domains,
    })
}
