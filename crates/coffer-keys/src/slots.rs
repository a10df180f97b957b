//! Making key slots, and finding the one that opens.

use std::cmp::Reverse;

use coffer_crypto::{Rng, Secret};
use coffer_format::id::{SlotId, VaultId};
use coffer_format::slot::{ServiceKey, Slot, SlotKind, SlotPurpose};

use crate::RootKey;
use crate::error::{Answer, KeyError, Untried};

/// Makes a slot in which `root` wraps `key`: its name, the bytes to store under it, and what they say.
///
/// `label` is at most 256 bytes; `created_s` is in seconds since 1970 UTC.
///
/// # Errors
/// [`KeyError::Format`] when the label is too long, otherwise those of [`RootKey::wrap`].
#[expect(clippy::too_many_arguments, reason = "they are the fields of a slot, each of a type of its own")]
pub fn make_slot(
    root: &dyn RootKey,
    vault: VaultId,
    epoch: u32,
    purpose: SlotPurpose,
    label: &str,
    created_s: i64,
    key: &Secret<32>,
    rng: &dyn Rng,
) -> Result<(SlotId, Vec<u8>, Slot), KeyError> {
    let template = Slot::unwrapped(vault, epoch, purpose, root.new_kind(rng)?, label.to_owned(), created_s);
    let bytes = root.wrap(template, key, rng)?.encode();
    let slot = Slot::decode(&bytes)?; // What a reader will see, under the reader's rules.
    Ok((Slot::id(&bytes), bytes, slot))
}

/// Makes a slot for the root key, the purpose and the label of another, with a new key in it.
///
/// # Errors
/// Those of [`RootKey::wrap`].
pub fn remake_slot(
    root: &dyn RootKey,
    old: &Slot,
    epoch: u32,
    created_s: i64,
    key: &Secret<32>,
    rng: &dyn Rng,
) -> Result<Slot, KeyError> {
    // A root key is where the slot says; a passphrase gets a new salt, and the cost that is due now.
    let kind = match &old.kind {
        SlotKind::Passphrase { .. } => root.new_kind(rng)?,
        // The service wraps under the version that is its newest now, which it is not asked for.
        SlotKind::Service(key) => SlotKind::Service(ServiceKey { version: None, ..key.clone() }),
        other => other.clone(),
    };
    let template = Slot::unwrapped(old.vault, epoch, old.purpose, kind, old.label.clone(), created_s);
    Ok(Slot::decode(&root.wrap(template, key, rng)?.encode())?) // What a reader will see.
}

/// The key in `slot` if it is one of `vault`.
///
/// The caller still MUST check that the vault's public keys follow from it.
///
/// # Errors
/// Those of [`RootKey::unwrap`]; [`KeyError::WrongKey`] also for a slot of another vault.
pub fn open_slot(slot: &Slot, vault: VaultId, root: &dyn RootKey) -> Result<Secret<32>, KeyError> {
    if slot.vault != vault {
        return Err(KeyError::WrongKey { root: root.kind_name() });
    }
    root.unwrap(slot)
}

/// Opens the first of `slots` that `root` can open: its name, the slot, which says what the key is, and the key.
///
/// Only slots that `root` may open are tried: those of the newest epoch first, a vault key before a reader secret; then key files, recovery
/// shares, tokens, key services and passphrases in this order, and the cheapest of those that are alike. A slot whose cost is outside the limits does not keep the others from being
/// tried, nor does one that takes longer than its root key waits. The work is bounded by the number of slots times that, or the highest cost the
/// format allows, so the caller passes the current slots of the log, or others of which it has bounded the cost.
///
/// # Errors
/// [`KeyError::NoSlot`].
pub fn try_slots<'a>(
    slots: &'a [(SlotId, Slot)],
    vault: VaultId,
    root: &dyn RootKey,
) -> Result<(SlotId, &'a Slot, Secret<32>), KeyError> {
    let mut candidates: Vec<_> = slots.iter().filter(|(_, slot)| root.may_open(slot)).collect();
    candidates.sort_by_key(|(_, slot)| {
        (Reverse(slot.epoch), slot.purpose == SlotPurpose::ReaderSecret, rank(&slot.kind), cost(&slot.kind))
    });
    let mut answers = Vec::new();
    for (id, slot) in &candidates {
        match open_slot(slot, vault, root) {
            Ok(key) => return Ok((*id, slot, key)),
            Err(error) => answers.push(Answer { slot: *id, kind: slot.kind.name(), error }),
        }
    }
    let mut kinds: Vec<_> = slots.iter().map(|(_, slot)| (slot.kind.number(), slot.kind.name())).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let untried = slots.iter().filter(|_| candidates.is_empty());
    Err(KeyError::NoSlot {
        root: root.kind_name(),
        untried: untried.filter_map(|(id, slot)| Untried::of(*id, &slot.kind)).collect(),
        lost: Box::default(),
        slot_count: slots.len(),
        tried_count: candidates.len(),
        kinds: kinds.into_iter().map(|(_, name)| name).collect(),
        answers: answers.into(),
    })
}

/// The order in which kinds are tried: what costs nothing and asks nobody comes first, what costs seconds last.
const fn rank(kind: &SlotKind) -> u8 {
    match kind {
        SlotKind::KeyFile { .. } => 0,
        SlotKind::Shares { .. } => 1,
        SlotKind::Service(_) => 3,
        SlotKind::Passphrase { .. } => 4,
        _ => 2,
    }
}

/// Work of trying a slot, comparable within a kind.
fn cost(kind: &SlotKind) -> u64 {
    match kind {
        SlotKind::Passphrase { memory_kib, passes, .. } => u64::from(*memory_kib) * u64::from(*passes),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
