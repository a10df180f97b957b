//! Key slots of a vault: listed, added, replaced, revoked, tested.

use coffer_crypto::hash::hash;
use coffer_crypto::{ReaderSecret, Secret, VaultKey};
use coffer_format::cbor::Encoder;
use coffer_format::id::{Head, SlotId};
use coffer_format::limits::SLOT_COUNT_MAX;
use coffer_format::record::{Details, RecordKind};
use coffer_format::slot::{Slot, SlotPurpose};
use coffer_keys::{RootKey, open_slot};

use crate::beginning::{BeginningError, by_beginning};
use crate::checkpoint::read_slot;
use crate::error::EngineError;
use crate::init::put_slot_for;
use crate::vault::{Vault, current_slots};

/// A current slot and what is known of it.
#[derive(Debug)]
pub struct SlotStatus {
    /// Its id.
    pub id: SlotId,
    /// The slot; `None` if its object is missing, damaged or archived.
    pub slot: Option<Slot>,
    /// Whether its object is archived: nothing is wrong with it, and it was not read.
    pub is_archived: bool,
    /// Whether the vault was opened with it.
    pub opened_by: bool,
    /// Whether it was tested, and gave the vault's key.
    pub tested: Option<bool>,
    /// What it answered in place of a key.
    pub answer: Option<String>,
}

impl Vault<'_> {
    /// The current slots, in the order of their ids.
    ///
    /// # Errors
    /// When the store fails.
    pub fn slots(&self) -> Result<Vec<SlotStatus>, EngineError> {
        let readable = current_slots(&self.access, &self.log)?;
        let status = |id: &SlotId| SlotStatus {
            id: *id,
            slot: readable.iter().find(|(known, _)| known == id).map(|(_, slot)| slot.clone()),
            is_archived: false,
            opened_by: *id == self.opened_by,
            tested: None,
            answer: None,
        };
        let mut slots: Vec<_> = self.log.state.slots.iter().map(status).collect();
        for status in slots.iter_mut().filter(|status| status.slot.is_none()) {
            let read = read_slot(self.access.store, status.id);
            status.is_archived = read.is_err_and(|error| error.is_archived());
        }
        Ok(slots)
    }

    /// Unwraps every slot that one of the root keys may open, and checks that all give the same key.
    ///
    /// # Errors
    /// When the store fails; that a slot does not open is in the answer.
    pub fn test_slots(&self, roots: &[&dyn RootKey]) -> Result<Vec<SlotStatus>, EngineError> {
        let mut slots = self.slots()?;
        for status in &mut slots {
            let Some(slot) = &status.slot else { continue };
            for root in roots.iter().filter(|root| root.may_open(slot)) {
                match open_slot(slot, self.id(), *root) {
                    Ok(key) => {
                        (status.tested, status.answer) = (Some(self.is_key_of(slot, key)), None);
                        break;
                    }
                    Err(error) => (status.tested, status.answer) = (Some(false), Some(error.to_string())),
                }
            }
        }
        Ok(slots)
    }

    /// Whether a key is the one that a slot is for: what follows from it is what the log says of the epoch.
    fn is_key_of(&self, slot: &Slot, key: Secret<32>) -> bool {
        let Some(epoch) = self.log.state.epochs.get(slot.epoch as usize) else { return false };
        let seals = |reader: &ReaderSecret| reader.sealing().public().to_bytes() == *epoch.sealing_key;
        match slot.purpose {
            SlotPurpose::VaultKey => {
                let key = VaultKey::from_secret(key);
                seals(&key.reader()) && *key.signing().verifying_key().as_bytes() == epoch.owner_key
            }
            SlotPurpose::ReaderSecret => seals(&ReaderSecret::from_secret(key)),
        }
    }

    /// The bytes of the header, as the log proves them.
    #[must_use]
    pub fn header_bytes(&self) -> Vec<u8> {
        self.log.header.encode()
    }

    /// Commits a report of `kind`, so that it can be shown later that something was done.
    ///
    /// # Errors
    /// [`EngineError::NotAllowed`] without the vault key.
    pub fn record_evidence(&mut self, kind: &str, report: &[u8]) -> Result<Head, EngineError> {
        let mut body = Encoder::new();
        body.map(|map| {
            map.key(1).text(kind);
            map.key(2).bytes(report);
        });
        let details = Details::Evidence { hash: hash(report) }.encode();
        self.commit(RecordKind::Evidence, Some(&body.finish()), &mut |_, public| {
            public.details.clone_from(&details);
            Ok(())
        })
    }

    /// Adds a slot for `root`.
    ///
    /// # Errors
    /// [`EngineError::NotAllowed`] without the vault key.
    pub fn add_slot(&mut self, root: &dyn RootKey, label: &str) -> Result<(SlotId, Head), EngineError> {
        self.add_slot_for(root, label, SlotPurpose::VaultKey)
    }

    /// As [`Self::add_slot`], for a slot that holds the vault key or the reader secret alone.
    ///
    /// # Errors
    /// As there; [`EngineError::Invalid`] when `root` opens a slot of another purpose already: which of the two it would open is for nobody to
    /// guess.
    pub fn add_slot_for(
        &mut self,
        root: &dyn RootKey,
        label: &str,
        purpose: SlotPurpose,
    ) -> Result<(SlotId, Head), EngineError> {
        self.add_slot_with(root, label, purpose, &mut || {})
    }

    /// As [`Self::add_slot_for`]; `before_commit` is called before the record that makes the slot current is stored: until then nothing was
    /// added, and what of it may have happened afterwards only the result tells.
    ///
    /// # Errors
    /// As there.
    pub fn add_slot_with(
        &mut self,
        root: &dyn RootKey,
        label: &str,
        purpose: SlotPurpose,
        before_commit: &mut dyn FnMut(),
    ) -> Result<(SlotId, Head), EngineError> {
        let opens = |slot: &Slot| root.may_open(slot) && open_slot(slot, self.id(), root).is_ok();
        let mut others = current_slots(&self.access, &self.log)?;
        others.retain(|(_, slot)| slot.purpose != purpose);
        if let Some((id, _)) = others.iter().find(|(_, slot)| opens(slot)) {
            let reason = format!(
                "this {} opens key slot {} already, which is for another purpose",
                root.kind_name(),
                id.short()
            );
            return Err(EngineError::invalid(reason));
        }
        let id = self.put_new_slot(root, label, purpose)?;
        let head = self.commit_slots(&mut |slots| {
            slots.push(id);
            before_commit();
            Ok(())
        })?;
        Ok((id, head))
    }

    /// Adds a slot for `root` and revokes the slot `old`, in one record. The new one holds what the old one did.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when `old` is not current.
    pub fn replace_slot(
        &mut self,
        old: SlotId,
        root: &dyn RootKey,
        label: &str,
    ) -> Result<(SlotId, Head), EngineError> {
        let known = current_slots(&self.access, &self.log)?.into_iter().find(|(id, _)| *id == old);
        let unread =
            || EngineError::invalid(format!("key slot {} is not current, or cannot be read", old.short()));
        let purpose = known.ok_or_else(unread)?.1.purpose;
        let id = self.put_new_slot(root, label, purpose)?;
        let head = self.commit_slots(&mut |slots| {
            remove(slots, old)?;
            slots.push(id);
            Ok(())
        })?;
        Ok((id, head))
    }

    /// Revokes a slot: it is not current any more. An old copy of it, with the old secret, still opens what it could open. That another slot is
    /// left is looked at, not whether its root key is still there: see [`Self::revoke_slot_with`].
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when it is not current, or the last one.
    pub fn revoke_slot(&mut self, id: SlotId) -> Result<Head, EngineError> {
        let left: Vec<_> = self.slots_beside(id)?.into_iter().map(|(id, _)| id).collect();
        self.revoke_beside(id, &left)
    }

    /// As [`Self::revoke_slot`], if another slot is left that was opened: the one that opened the vault or, where that is to go, one that one of
    /// these root keys opens now.
    ///
    /// # Errors
    /// [`EngineError::LastOpened`] when there is none; and as there.
    pub fn revoke_slot_with(&mut self, id: SlotId, roots: &[&dyn RootKey]) -> Result<Head, EngineError> {
        self.keyring.vault_key().ok_or(EngineError::NotAllowed { action: "change key slots" })?;
        if id != self.opened_by {
            return self.revoke_beside(id, &[self.opened_by]);
        }
        let others = self.slots_beside(id)?;
        if others.is_empty() {
            return self.revoke_beside(id, &[]);
        }
        let opens = |slot: &Slot| {
            let mut opening = roots.iter().filter(|root| root.may_open(slot));
            opening.any(|root| open_slot(slot, self.id(), *root).is_ok_and(|key| self.is_key_of(slot, key)))
        };
        let opened = others.iter().find(|(_, slot)| opens(slot)).map(|(id, _)| *id);
        self.revoke_beside(id, &[opened.ok_or(EngineError::LastOpened { slot: id })?])
    }

    /// The slots but `id` that can be read and hold the vault key of the newest epoch; local ones first, for they cost nobody a request.
    fn slots_beside(&self, id: SlotId) -> Result<Vec<(SlotId, Slot)>, EngineError> {
        let mut slots = current_slots(&self.access, &self.log)?;
        slots.retain(|(known, slot)| {
            *known != id && slot.purpose == SlotPurpose::VaultKey && slot.epoch == self.log.state.epoch()
        });
        slots.sort_by_key(|(_, slot)| !slot.kind.is_local());
        Ok(slots)
    }

    /// Revokes a slot as long as one of `others` is still current.
    fn revoke_beside(&mut self, id: SlotId, others: &[SlotId]) -> Result<Head, EngineError> {
        self.commit_slots(&mut |slots| {
            if !slots.iter().any(|slot| others.contains(slot)) {
                let reason = "the last slot that opens cannot be revoked: nothing would open the vault";
                return Err(EngineError::invalid(reason));
            }
            remove(slots, id)
        })
    }

    /// The current slot whose id begins with `prefix`, as [`by_beginning`] takes it.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] when none or several do, or it is too short.
    pub fn select_slot(&self, prefix: &str) -> Result<SlotId, EngineError> {
        by_beginning(prefix, &self.log.state.slots, SlotId::to_string).copied().map_err(|error| {
            let none = matches!(error, BeginningError::None { .. });
            let why = if none { format!("no current key slot is {prefix:?}") } else { error.to_string() };
            EngineError::invalid(format!("{why}; `coffer keys list` shows them"))
        })
    }

    fn put_new_slot(
        &self,
        root: &dyn RootKey,
        label: &str,
        purpose: SlotPurpose,
    ) -> Result<SlotId, EngineError> {
        let key = self.keyring.vault_key().ok_or(EngineError::NotAllowed { action: "make key slots" })?;
        let place = (self.id(), self.log.state.epoch());
        match purpose {
            SlotPurpose::VaultKey => put_slot_for(&self.access, root, place, label, (purpose, key.expose())),
            SlotPurpose::ReaderSecret => {
                put_slot_for(&self.access, root, place, label, (purpose, key.reader().expose()))
            }
        }
    }

    pub(crate) fn commit_slots(
        &mut self,
        change: &mut dyn FnMut(&mut Vec<SlotId>) -> Result<(), EngineError>,
    ) -> Result<Head, EngineError> {
        self.commit(RecordKind::Slots, None, &mut |state, public| {
            let mut slots = state.slots.clone();
            change(&mut slots)?;
            slots.sort_unstable();
            slots.dedup();
            if slots.len() as u64 > SLOT_COUNT_MAX {
                return Err(EngineError::invalid(format!("a vault has at most {SLOT_COUNT_MAX} key slots")));
            }
            public.slots = Some(slots);
            Ok(())
        })
    }
}

pub(crate) fn remove(slots: &mut Vec<SlotId>, id: SlotId) -> Result<(), EngineError> {
    let before = slots.len();
    slots.retain(|slot| *slot != id);
    if slots.len() < before {
        Ok(())
    } else {
        Err(EngineError::invalid(format!("key slot {id} is not current")))
    }
}
