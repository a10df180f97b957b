//! Making a vault.

use coffer_crypto::rng;
use coffer_crypto::{Secret, VaultKey};
use coffer_format::header::{ChunkerSpec, FORMAT_MINOR, Header, StoreMode};
use coffer_format::id::{Head, SlotId, VaultId};
use coffer_format::limits::HEADER_LEN_MAX;
use coffer_format::log::{LogState, Outcome, StoredRecord};
use coffer_format::object::{INDEX_PREFIX, LOG_PREFIX, ObjectName, PACKS_PREFIX};
use coffer_format::record::{Details, RecordKind, chain_value};
use coffer_format::slot::{Slot, SlotKind, SlotPurpose};
use coffer_format::store::{FIRST_STORE, STORE_LEN, encode_store};
use coffer_keys::{KeyError, RootKey, make_slot, open_slot};
use coffer_pipeline::record::{seal_record, signature_is_good};
use coffer_store::{ListItem, PutOutcome};

use crate::access::{Access, key_of};
use crate::checkpoint::{asks_others, few_slots, is_cheap};
use crate::error::EngineError;
use crate::log::is_lost;

/// Slots that are tried to complete an init: each may take seconds, or ask a service.
const SLOT_TRY_COUNT_MAX: usize = 16;

/// What a new vault is made of.
#[derive(Debug, Clone, Copy)]
pub struct InitOptions {
    /// How streams are cut.
    pub chunker: ChunkerSpec,
    /// How commits are made exclusive.
    pub store_mode: StoreMode,
}

/// A vault that was just made.
#[derive(Debug, Clone)]
pub struct Created {
    /// Its id: the fingerprint to write down.
    pub vault: VaultId,
    /// Its first head.
    pub head: Head,
    /// Its key slots.
    pub slots: Vec<SlotId>,
    /// Whether an interrupted init was completed.
    pub resumed: bool,
}

/// Makes a vault with one slot for each root key. Each comes with its label.
///
/// An init that was interrupted before it wrote record 0 is completed, if one of the root keys opens a slot of it.
///
/// # Errors
/// [`EngineError::VaultExists`] when there is a vault already, which is then untouched.
pub fn init(
    access: &Access<'_>,
    roots: &[(&dyn RootKey, String)],
    options: &InitOptions,
) -> Result<Created, EngineError> {
    init_with(access, roots, options, &mut || {})
}

/// As [`init`]; `before_commit` is called before record 0 is stored: until then there is no vault, and whether there is one afterwards only
/// the result tells.
///
/// # Errors
/// As there.
pub fn init_with(
    access: &Access<'_>,
    roots: &[(&dyn RootKey, String)],
    options: &InitOptions,
    before_commit: &mut dyn FnMut(),
) -> Result<Created, EngineError> {
    options.chunker.check()?;
    if roots.is_empty() {
        return Err(EngineError::invalid("a vault needs at least one key slot"));
    }
    let header_key = key_of(ObjectName::Header)?;
    match access.store.stat(&header_key) {
        Ok(_) => return resume(access, roots, before_commit),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    match access.store.stat(&key_of(ObjectName::Record(0))?) {
        // The header is lost, but its copy in record 0 lets the vault be read.
        Ok(_) => return Err(EngineError::VaultExists { store: access.store.url() }),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    for prefix in [LOG_PREFIX, INDEX_PREFIX, PACKS_PREFIX] {
        let mut is_empty = true;
        access.store.list(prefix, None, &mut |_: ListItem| {
            is_empty = false;
            std::ops::ControlFlow::Break(())
        })?;
        if !is_empty {
            let reason = format!(
                "objects of a vault whose header is lost lie under {prefix} at {}",
                access.store.url()
            );
            return Err(EngineError::invalid(reason));
        }
    }
    let key = VaultKey::generate(access.rng)?;
    let header = Header {
        minor: FORMAT_MINOR,
        chunker: options.chunker,
        store_mode: options.store_mode,
        sealing_key: Box::new(key.reader().sealing().public().to_bytes()),
        owner_key: *key.signing().verifying_key().as_bytes(),
        random: rng::array(access.rng)?,
    };
    let header_bytes = header.encode();
    let vault = Header::vault_id(&header_bytes);
    // All are made before anything is written: a root key that refuses leaves no trace.
    let made = roots.iter().map(|(root, label)| {
        make_slot_for(access, *root, (vault, 0), label, (SlotPurpose::VaultKey, key.expose()))
    });
    let made = made.collect::<Result<Vec<_>, _>>()?;
    name_first(access)?;
    let mut slot_ids = Vec::new();
    for (id, bytes) in made {
        access.store.put_if_absent(&key_of(ObjectName::Slot(id))?, &bytes)?;
        slot_ids.push(id);
    }
    slot_ids.sort_unstable();
    if access.store.put_if_absent(&header_key, &header_bytes)? == PutOutcome::AlreadyExists {
        return Err(EngineError::VaultExists { store: access.store.url() });
    }
    finish(access, (&header_bytes, &header), slot_ids, &key, false, before_commit)
}

/// Gives the store in which a vault is made its id.
fn name_first(access: &Access<'_>) -> Result<(), EngineError> {
    let (key, first) = (key_of(ObjectName::Store)?, encode_store(&FIRST_STORE));
    if access.store.put_if_absent(&key, &first)? == PutOutcome::Created {
        return Ok(());
    }
    let mut there = Vec::new();
    match access.store.read(&key, STORE_LEN as u64, &mut there) {
        Ok(()) if there == first => Ok(()),
        Err(error) if error.is_of_store() => Err(error.into()),
        Ok(()) | Err(_) => Err(EngineError::invalid(format!(
            "{} is, or was, another store of a vault: its object `store` says so, and has to be removed first",
            access.store.url()
        ))),
    }
}

/// Wraps the vault key for `root` and stores the slot.
pub(crate) fn put_slot(
    access: &Access<'_>,
    root: &dyn RootKey,
    vault: VaultId,
    epoch: u32,
    label: &str,
    key: &VaultKey,
) -> Result<SlotId, EngineError> {
    put_slot_for(access, root, (vault, epoch), label, (SlotPurpose::VaultKey, key.expose()))
}

/// Stores a slot that holds `secret`, which is what `purpose` says.
pub(crate) fn put_slot_for(
    access: &Access<'_>,
    root: &dyn RootKey,
    of: (VaultId, u32),
    label: &str,
    holds: (SlotPurpose, &[u8; 32]),
) -> Result<SlotId, EngineError> {
    let (id, bytes) = make_slot_for(access, root, of, label, holds)?;
    access.store.put_if_absent(&key_of(ObjectName::Slot(id))?, &bytes)?;
    Ok(id)
}

/// Makes a slot that holds `secret`, and stores nothing: its name and its bytes.
fn make_slot_for(
    access: &Access<'_>,
    root: &dyn RootKey,
    (vault, epoch): (VaultId, u32),
    label: &str,
    (purpose, secret): (SlotPurpose, &[u8; 32]),
) -> Result<(SlotId, Vec<u8>), EngineError> {
    let secret = Secret::new(*secret);
    let created_s = access.now_s();
    let made = make_slot(root, vault, epoch, purpose, label, created_s, &secret, access.rng);
    let (id, bytes, slot) = made.map_err(|source| EngineError::NoNewSlot { source })?;
    // What others wrap is opened once: a slot that gives back something else is found out before anything relies on it.
    if !slot.kind.is_local() {
        let found = open_slot(&slot, vault, root).map_err(|source| EngineError::NoNewSlot { source })?;
        if found != secret {
            return Err(EngineError::invalid(
                "a new key slot does not give back the key that was put into it",
            ));
        }
    }
    Ok((id, bytes))
}

/// Completes an init that stopped between header and record 0.
fn resume(
    access: &Access<'_>,
    roots: &[(&dyn RootKey, String)],
    before_commit: &mut dyn FnMut(),
) -> Result<Created, EngineError> {
    let exists = || EngineError::VaultExists { store: access.store.url() };
    let mut header_bytes = Vec::new();
    access.store.read(&key_of(ObjectName::Header)?, HEADER_LEN_MAX, &mut header_bytes)?;
    if access.store.stat(&key_of(ObjectName::Record(0))?).is_ok() {
        return Err(exists());
    }
    let header = Header::decode(&header_bytes).map_err(|_| exists())?;
    let vault = Header::vault_id(&header_bytes);
    // A vault that was whole once is not begun anew, whether this machine or what is left there tells.
    if let Some(Ok(Some(remembered))) = access.cache.map(|cache| cache.head(&vault)) {
        return Err(EngineError::Rollback { store: access.store.url(), remembered });
    }
    if is_lost(access.store)? {
        return Err(EngineError::LogLost { store: access.store.url() });
    }
    name_first(access)?;
    let slots: Vec<_> = few_slots(access.store, vault, SLOT_TRY_COUNT_MAX)?
        .into_iter()
        .filter(|(_, slot)| is_of_first_key(slot))
        .collect();
    // Only slots that one of the root keys opens, and that hold the key of the header, are taken over: the store may have planted others.
    let (mut slot_ids, mut key, mut answer) = (Vec::new(), None, None);
    let mut has_slot = vec![false; roots.len()];
    for (id, slot) in &slots {
        for ((root, _), has_slot) in roots.iter().zip(&mut has_slot) {
            if !may_try(*root, slot) {
                continue;
            }
            match open_slot(slot, vault, *root).map(VaultKey::from_secret) {
                Ok(found) if *found.signing().verifying_key().as_bytes() == header.owner_key => {
                    *has_slot = true;
                    slot_ids.push(*id);
                    key = Some(found);
                }
                Ok(_) | Err(KeyError::WrongKey { .. }) => {}
                Err(error) => answer = Some(error),
            }
        }
    }
    let unfinished = || EngineError::Unfinished { store: access.store.url(), source: answer.map(Box::new) };
    let key = key.ok_or_else(unfinished)?;
    // A root key whose slot was not written yet gets one now.
    for ((root, label), _) in roots.iter().zip(has_slot).filter(|(_, has_slot)| !has_slot) {
        slot_ids.push(put_slot(access, *root, vault, 0, label, &key)?);
    }
    slot_ids.sort_unstable();
    slot_ids.dedup();
    finish(access, (&header_bytes, &header), slot_ids, &key, true, before_commit)
}

const fn is_of_first_key(slot: &Slot) -> bool {
    matches!(slot.purpose, SlotPurpose::VaultKey) && slot.epoch == 0
}

/// Whether a slot may be tried that no log names: there is none yet. What costs much is left out, and so is whatever would ask somebody whom the
/// user has not named.
fn may_try(root: &dyn RootKey, slot: &Slot) -> bool {
    let is_safe = match &slot.kind {
        SlotKind::Shares { .. } => true,
        kind => is_cheap(kind) || (asks_others(slot) && root.is_at(slot)),
    };
    is_safe && root.may_open(slot)
}

/// Writes record 0: from here on the vault exists.
fn finish(
    access: &Access<'_>,
    (header_bytes, header): (&[u8], &Header),
    slots: Vec<SlotId>,
    key: &VaultKey,
    resumed: bool,
    before_commit: &mut dyn FnMut(),
) -> Result<Created, EngineError> {
    let vault = Header::vault_id(header_bytes);
    let signing = key.signing();
    let state = LogState::new(vault, header);
    let mut public = state.next_public(RecordKind::Slots, *signing.verifying_key().as_bytes());
    public.time_s = access.now_s();
    public.slots = Some(slots.clone());
    public.details = Details::Genesis { header: header_bytes.to_vec() }.encode();
    let bytes = seal_record(public, None, &signing, access.rng)?;
    let outcome = state.clone().apply(StoredRecord::Whole(&bytes), &signature_is_good);
    if outcome != Outcome::Effective {
        return Err(EngineError::invalid("the first record of the vault would be void"));
    }
    before_commit();
    match access.store.put_if_absent(&key_of(ObjectName::Record(0))?, &bytes)? {
        PutOutcome::Created => {}
        PutOutcome::AlreadyExists => return Err(EngineError::VaultExists { store: access.store.url() }),
    }
    let head = Head { number: 0, chain: chain_value(&bytes) };
    if let Some(cache) = access.cache {
        // The vault is made; that this machine cannot remember it is said by the next command.
        drop(
            cache
                .set_location(&access.store.place(), &vault)
                .and_then(|()| cache.set_head(&vault, &head, 0, 0)),
        );
    }
    Ok(Created { vault, head, slots, resumed })
}
