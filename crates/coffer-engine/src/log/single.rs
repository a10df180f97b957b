//! A record that is read by its number, and not in the course of the replay.
//!
//! That the record took effect when the log was read says nothing of what stands under its name now: whoever may write to the store may
//! have laid something over it. So it is believed only as far as it proves itself, by the rules that hold in the replay.

use coffer_format::log::LogState;
use coffer_format::record::{Record, RecordKind, chain_value};
use coffer_pipeline::record::signature_is_good;

/// The record in these bytes, if it is that of this vault and number, whole, and signed by somebody who was ever enrolled.
pub(crate) fn of_signer<'b>(state: &LogState, number: u64, bytes: &'b [u8]) -> Option<Record<'b>> {
    let record = Record::decode(bytes).ok()?;
    let public = &record.public;
    // The signature covers the public part, and that names the body.
    let body = (!record.body.is_empty()).then(|| chain_value(record.body));
    let is_sound = public.vault == state.vault
        && public.number == number
        && public.body.map(|seal| seal.hash) == body
        && state.signers.contains_key(&public.signer)
        && signature_is_good(&public.signer, record.public_bytes, &record.signature);
    is_sound.then_some(record)
}

/// As [`of_signer`], of this kind and signed by one who may have been the owner when it was made.
pub(crate) fn of_owner<'b>(
    state: &LogState,
    number: u64,
    kind: RecordKind,
    bytes: &'b [u8],
) -> Option<Record<'b>> {
    let record = of_signer(state, number, bytes)?;
    let is_owners = record.public.kind == kind.number() && may_own(state, number, &record.public.signer);
    is_owners.then_some(record)
}

/// Whether this may be the owner's key at record `number`: each snapshot that an owner signed tells which epoch it was then.
fn may_own(state: &LogState, number: u64, key: &[u8; 32]) -> bool {
    let epoch_of = |key: &[u8; 32]| state.epochs.iter().position(|epoch| epoch.owner_key == *key);
    let Some(epoch) = epoch_of(key) else { return false };
    let mut known =
        state.snapshots.iter().filter_map(|snapshot| Some((snapshot.number, epoch_of(&snapshot.signer)?)));
    known.all(|(at, known)| if at < number { known <= epoch } else { known >= epoch })
}
