//! Wrapping by a 32-byte secret that this process holds (section 7, kinds 1, 2 and 6).

use coffer_crypto::{Rng, Secret, commitment_matches, hash, rng, wrap};
use coffer_format::slot::Slot;
use zeroize::Zeroizing;

use crate::error::KeyError;

/// Fills in salt, commitment and wrapped key.
pub(crate) fn wrap_with(
    secret: &Secret<32>,
    mut slot: Slot,
    key: &Secret<32>,
    rng: &dyn Rng,
) -> Result<Slot, KeyError> {
    let salt = rng::array(rng)?;
    slot.salt = Some(salt); // The context covers the salt.
    let context = slot.context();
    let (kek, commitment) = wrap::slot_keys(secret, &salt, &slot.vault.0);
    let mut plain = Zeroizing::new([0; 64]);
    plain[..32].copy_from_slice(key.expose());
    plain[32..].copy_from_slice(&hash::hash(&context));
    slot.commitment = Some(commitment);
    slot.wrapped = wrap::wrap(&kek, &context, &plain);
    Ok(slot)
}

/// The wrapped key, or nothing: the reason is not told.
pub(crate) fn unwrap_with(secret: &Secret<32>, slot: &Slot) -> Option<Secret<32>> {
    let (salt, stored) = (slot.salt.as_ref()?, slot.commitment.as_ref()?);
    let (kek, commitment) = wrap::slot_keys(secret, salt, &slot.vault.0);
    if !commitment_matches(stored, &commitment) {
        return None;
    }
    let context = slot.context();
    let (key, bound_to) = wrap::unwrap(&kek, &context, &slot.wrapped).ok()?.split();
    commitment_matches(&bound_to, &hash::hash(&context)).then_some(key)
}
