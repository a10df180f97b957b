//! Log records: bodies sealed to the vault, public parts signed.

use std::cell::Cell;

use coffer_crypto::hash;
use coffer_crypto::rng::{self, Rng};
use coffer_crypto::{
    DomainKeys, ObjectKind, Purpose, SealContext, SealKey, SealedAs, SealingKeyPair, SealingPublicKey,
    SigningKey, VerifyingKey, commitment_matches, open_from_vault, seal_to_vault,
};
use coffer_format::id::VaultId;
use coffer_format::record::{BodySeal, Public, Record, SealedBody, chain_value, pad_body, unpad_body};

use crate::error::PipelineError;

fn body_context(vault: VaultId, salt: &[u8; 32], number: u64, signer: &[u8; 32]) -> SealContext {
    let mut extra = [0; 40];
    extra[..8].copy_from_slice(&number.to_le_bytes());
    extra[8..].copy_from_slice(signer);
    SealContext::new(vault.0, ObjectKind::LogRecord, *salt).with_extra(&extra)
}

/// What a record body is sealed with.
#[derive(Debug)]
pub struct BodySealer<'a> {
    /// Sealing public key of the epoch.
    pub sealing_key: &'a SealingPublicKey,
    /// Number of the epoch.
    pub epoch: u32,
    /// Keys of the dedup domain whose PSK is used.
    pub domain: &'a DomainKeys,
}

/// Seals the body (CBOR) if there is one, signs the public part, and puts the record object together.
///
/// # Errors
/// When randomness or a limit fails.
pub fn seal_record(
    mut public: Public,
    body: Option<(&[u8], &BodySealer<'_>)>,
    signing_key: &SigningKey,
    rng: &dyn Rng,
) -> Result<Vec<u8>, PipelineError> {
    let mut sealed_body = Vec::new();
    if let Some((cbor, sealer)) = body {
        let salt: [u8; 32] = rng::array(rng)?;
        let (domain, psk) = (sealer.domain.domain(), sealer.domain.psk().expose());
        let sealed =
            seal_to_vault(rng, sealer.sealing_key, psk, domain, SealedAs::Record, &public.vault.0, &salt)?;
        let key = SealKey::new(&sealed.key, body_context(public.vault, &salt, public.number, &public.signer));
        sealed_body.extend_from_slice(&salt);
        sealed_body.extend_from_slice(&sealed.enc[..]);
        sealed_body.extend_from_slice(&sealed.commitment);
        let from = sealed_body.len();
        sealed_body.extend_from_slice(&pad_body(cbor)?);
        key.seal_in_place(Purpose::RecordBody, 0, &mut sealed_body, from)?;
        let domain = coffer_format::id::DomainId(*domain);
        public.body = Some(BodySeal { hash: chain_value(&sealed_body), domain, epoch: sealer.epoch });
    }
    let public = public.encode();
    let signature = signing_key.sign_record(&public);
    Ok(Record::assemble(&public, &sealed_body, &signature)?)
}

/// Opens the body of a record and returns its CBOR.
///
/// # Errors
/// [`PipelineError::Commitment`] when the keys are not those of the body's epoch and domain; else what does not open.
pub fn open_body(
    record: &Record<'_>,
    pair: &SealingKeyPair,
    domain: &DomainKeys,
) -> Result<Vec<u8>, PipelineError> {
    let public = &record.public;
    let body = SealedBody::decode(record.body)?;
    let psk = domain.psk().expose();
    let (key, expected) =
        open_from_vault(pair, psk, domain.domain(), SealedAs::Record, &public.vault.0, body.salt, body.enc)?;
    if !commitment_matches(&expected, body.commitment) {
        return Err(PipelineError::Commitment { object: "record body" });
    }
    let key = SealKey::new(&key, body_context(public.vault, body.salt, public.number, &public.signer));
    let mut plain = Vec::new();
    key.open_to(Purpose::RecordBody, 0, body.sealed, &mut plain)?;
    Ok(unpad_body(&plain)?.to_vec())
}

/// The signature check that the replay of the log needs.
#[must_use]
pub fn signature_is_good(signer: &[u8; 32], public_part: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(signer).is_ok_and(|key| key.verify_record(public_part, signature).is_ok())
}

/// A check of signatures that is not made twice for one record: a signature costs more than all else about a small one.
#[derive(Debug, Default)]
pub struct LastSignature(Cell<Option<([u8; 32], bool)>>);

impl LastSignature {
    /// As [`signature_is_good`]; if the last check was of the same, its answer.
    #[must_use]
    pub fn is_good(&self, signer: &[u8; 32], public_part: &[u8], signature: &[u8; 64]) -> bool {
        let about = hash::Hasher::new().update(signer).update(signature).update(public_part).finalize();
        match self.0.get() {
            Some((known, is_good)) if known == about => is_good,
            _ => {
                let is_good = signature_is_good(signer, public_part, signature);
                self.0.set(Some((about, is_good)));
                is_good
            }
        }
    }
}

#[cfg(test)]
mod tests;
