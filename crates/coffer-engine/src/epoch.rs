//! Changing what opens a vault without writing its data again: a new vault key, and slots under a new version of their root key.
//!
//! A new vault key begins an epoch (specification sections 4 and 9.10). Whoever has it reads all that there is; whoever has the old one
//! reads what was written before, as ever, and nothing that comes after, and signs nothing any more. Only the slots that are made anew
//! lead to it, so every root key that is to open the vault in future has to be at hand.

use coffer_crypto::{Secret, VaultKey};
use coffer_format::cbor::Encoder;
use coffer_format::id::{Head, SlotId};
use coffer_format::object::ObjectName;
use coffer_format::record::{Details, RecordKind};
use coffer_format::slot::{Slot, SlotPurpose};
use coffer_keys::{RootKey, open_slot, remake_slot};
use coffer_pipeline::epoch::begin_epoch;
use coffer_pipeline::keyring::{Keyring, UnwrappedKey};

use crate::access::key_of;
use crate::checkpoint::read_slot;
use crate::error::EngineError;
use crate::vault::Vault;
use crate::writer::Writer;

/// What a new vault key would do to the slots.
#[derive(Debug)]
pub struct RotationPlan {
    /// Slots that are made anew, each with the number of the root key that does it.
    pub kept: Vec<(SlotId, Slot, usize)>,
    /// Slots that open the vault no more, as no root key that is at hand opens them.
    pub lost: Vec<LostSlot>,
    /// Who may sign from then on besides the owner: a new vault key takes the right from nobody who is enrolled. Those that are to lose it are
    /// revoked, and taken out here.
    pub signers: Vec<Writer>,
}

/// A slot that cannot be made anew.
#[derive(Debug)]
pub struct LostSlot {
    /// The slot.
    pub id: SlotId,
    /// What it says; `None` if its object is lost or damaged.
    pub slot: Option<Slot>,
    /// What a root key that it may be for answered.
    pub answer: Option<String>,
}

/// A vault key that took the place of another.
#[derive(Debug)]
pub struct Rotation {
    /// Number of the epoch that began.
    pub epoch: u32,
    /// The head with the record that announces it.
    pub head: Head,
    /// The slots from here on.
    pub slots: Vec<SlotId>,
}

impl Vault<'_> {
    /// Tries which of the current slots can be made anew with these root keys, and finds out who else may sign; for this the whole log is read.
    ///
    /// # Errors
    /// When the store fails, and when a service or a token does for now: whether its slot can be kept is not known then, and it must not be
    /// lost for that.
    pub fn plan_rotation(&mut self, roots: &[&dyn RootKey]) -> Result<RotationPlan, EngineError> {
        let mut signers = self.writers()?;
        signers.retain(|signer| !signer.is_revoked);
        let mut plan = RotationPlan { kept: Vec::new(), lost: Vec::new(), signers };
        for id in &self.log.state.slots {
            let slot = read_slot(self.access.store, *id)?;
            let mut answer = None;
            let mut found = None;
            if let Some(slot) = slot.as_ref().filter(|slot| slot.epoch == self.log.state.epoch()) {
                for (at, root) in roots.iter().enumerate().filter(|(_, root)| root.may_open(slot)) {
                    match open_slot(slot, self.id(), *root) {
                        Ok(_) => {
                            found = Some((*id, slot.clone(), at));
                            break;
                        }
                        Err(source) if source.may_pass() => {
                            return Err(EngineError::SlotUnknown { slot: *id, source: Box::new(source) });
                        }
                        Err(error) => answer = Some(error.to_string()),
                    }
                }
            }
            match found {
                Some(kept) => plan.kept.push(kept),
                None => plan.lost.push(LostSlot { id: *id, slot, answer }),
            }
        }
        Ok(plan)
    }

    /// Begins an epoch with a new random vault key. The slots of the plan are made anew, all others are revoked.
    ///
    /// `new_domains` gives up deduplication with what was written before: the next backup uploads everything again.
    ///
    /// # Errors
    /// [`EngineError::NotAllowed`] without the vault key; [`EngineError::Invalid`] when no slot would be left that holds it, or slots
    /// or signers are not those of the plan any more.
    pub fn rotate(
        &mut self,
        roots: &[&dyn RootKey],
        plan: &RotationPlan,
        new_domains: bool,
        reason: &str,
    ) -> Result<Rotation, EngineError> {
        let refuse = || EngineError::NotAllowed { action: "begin an epoch" };
        let old = self.keyring.vault_key().ok_or_else(refuse)?;
        if !plan.kept.iter().any(|(_, slot, _)| slot.purpose == SlotPurpose::VaultKey) {
            return Err(EngineError::invalid("no slot would be left that opens the vault"));
        }
        let epoch = self.log.state.epoch() + 1;
        let new = VaultKey::generate(self.access.rng)?;
        let details = begin_epoch(self.id(), epoch, old, &new, new_domains)?;
        let mut slots = Vec::new();
        for (_, slot, root) in &plan.kept {
            let root = roots.get(*root).ok_or_else(|| EngineError::invalid("a root key is not at hand"))?;
            let secret = match slot.purpose {
                SlotPurpose::VaultKey => Secret::new(*new.expose()),
                SlotPurpose::ReaderSecret => Secret::new(*new.reader().expose()),
            };
            let made = remake_slot(*root, slot, epoch, self.access.now_s(), &secret, self.access.rng);
            let made = made.map_err(|source| EngineError::NoNewSlot { source })?;
            slots.push(self.put_checked(made, *root, &secret)?);
        }
        slots.sort_unstable();
        let before = self.log.state.slots.clone();
        let mut body = Encoder::new();
        body.map(|map| map.key(1).text(reason));
        let body = body.finish();
        let details = Details::Epoch(details).encode();
        let named = slots.clone();
        let mut signers: Vec<_> = plan.signers.iter().map(|signer| signer.key).collect();
        signers.sort_unstable();
        let head = self.commit(
            RecordKind::Epoch,
            (!reason.is_empty()).then_some(&body[..]),
            &mut |state, public| {
                if state.slots != before {
                    return Err(EngineError::invalid(
                        "the key slots were changed meanwhile; run the command again",
                    ));
                }
                // Whoever has the old key may enrol up to the last moment.
                if Self::signer_keys(state) != signers {
                    return Err(EngineError::invalid(
                        "somebody was enrolled or revoked meanwhile; run the command again",
                    ));
                }
                public.slots = Some(named.clone());
                public.details.clone_from(&details);
                Ok(())
            },
        )?;
        // From here on the old key signs nothing.
        let key = UnwrappedKey::VaultKey(new);
        self.keyring = std::sync::Arc::new(Keyring::open(self.id(), &self.log.state.epochs, epoch, key)?);
        Ok(Rotation { epoch, head, slots })
    }

    /// Stores a slot, after it was opened once more: a root key that gives back something else is found out before anything relies on it.
    fn put_checked(
        &self,
        slot: Slot,
        root: &dyn RootKey,
        secret: &Secret<32>,
    ) -> Result<SlotId, EngineError> {
        if open_slot(&slot, self.id(), root)? != *secret {
            return Err(EngineError::invalid(
                "a new key slot does not give back the key that was put into it",
            ));
        }
        let bytes = slot.encode();
        let id = Slot::id(&bytes);
        self.access.store.put_if_absent(&key_of(ObjectName::Slot(id))?, &bytes)?;
        Ok(id)
    }

    /// Puts slots in the place of others that hold the same key, in one record; `root` opens the new ones. Returns their ids and the head.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when a new slot does not hold what the old one is for, or an old one is not current.
    pub fn replace_slots(
        &mut self,
        swaps: &[(SlotId, Slot)],
        root: &dyn RootKey,
    ) -> Result<(Vec<SlotId>, Head), EngineError> {
        let key = self.keyring.vault_key().ok_or(EngineError::NotAllowed { action: "make key slots" })?;
        let mut new = Vec::new();
        for (_, slot) in swaps {
            let secret = match slot.purpose {
                SlotPurpose::VaultKey => Secret::new(*key.expose()),
                SlotPurpose::ReaderSecret => Secret::new(*key.reader().expose()),
            };
            new.push(self.put_checked(slot.clone(), root, &secret)?);
        }
        let head = self.commit_slots(&mut |slots| {
            for (old, _) in swaps {
                crate::keys::remove(slots, *old)?;
            }
            slots.extend(&new);
            Ok(())
        })?;
        Ok((new, head))
    }
}
