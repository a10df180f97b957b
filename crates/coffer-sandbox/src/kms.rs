//! The key service: the Key Protect API v2, as Key Protect and HPCS in the simulated region, and on its own for owners without a
//! cloud.
//!
//! A caller comes in through [`front`] (of the region) or [`alone`] (on its own); both know who it is and what it may do, and hand a
//! [`Call`] to [`Kms::handle`], which finds the endpoint in [`route`], carries it out, and writes what changed together with an entry of
//! the audit log before it answers.
//!
//! | module | what it does |
//! | --- | --- |
//! | `front`, `alone`, `tokens` | callers: of the region, on its own, with tokens from a file |
//! | `strangers` | calls whose callers are not known, counted |
//! | `route`, `desk`, `answer` | which endpoint, what each gets to see, shapes of answers and refusals |
//! | `keys`, `create`, `list`, `show` | keys as records |
//! | `actions`, `material`, `import` | what keys do; ciphertexts; how material comes in |
//! | `policies`, `rings`, `kmip` | the rest of the API |
//! | `instance`, `model`, `store`, `audit`, `files` | what is kept, and how |
//! | `master`, `crypto` | the master key, and the primitives |
//! | `roles` | who may do what |
//!
//! Invariants: nothing is acknowledged before it is in the database; no row is readable without the master key; key material is in memory
//! in the clear only while an action uses it; the audit log has an entry for every call that reached an instance, and one a minute at most
//! for all whose callers were not known.
//!
//! What it refuses to do: it gives root-key material to nobody, and answers nothing but 503 without its master key.

mod actions;
pub(crate) mod alone;
mod answer;
mod audit;
mod create;
mod crypto;
mod dates;
mod desk;
mod files;
pub(crate) mod front;
mod import;
mod instance;
mod keys;
mod kmip;
mod list;
mod master;
mod material;
mod model;
mod policies;
mod rings;
pub(crate) mod roles;
mod route;
mod show;
mod store;
mod strangers;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use alone::{KmsOptions, KmsServer};
pub(crate) use answer::{Refusal, Reply};
pub use audit::{AuditEntry, AuditHead};
use coffer_crypto::SecretBytes;
pub(crate) use desk::Call;
use instance::Instance;
use master::MasterKey;
pub use master::{KeyPart, KeyToken, MasterKeySource};
pub use model::Kind as KmsKind;
pub(crate) use model::Registration;
use model::State;
use store::{Record, Store};
use strangers::Strangers;
pub use tokens::{NewToken, add_token};

use crate::clock::Millis;
use crate::error::SandboxError;
use crate::random;

/// The account that everything belongs to.
pub(crate) const ACCOUNT: &str = "00000000000000000000000000000001";

/// An instance and, if its master key is loaded, what it holds.
struct Slot {
    record: Record,
    open: Option<Instance>,
    strangers: Strangers,
}

impl Slot {
    fn new(record: Record, open: Option<Instance>) -> Self {
        Self { record, open, strangers: Strangers::default() }
    }

    /// Writes an entry of the audit log about callers that are not known, if there are any.
    fn write_strangers(&mut self, store: &Store, now_ms: Millis) -> Result<(), SandboxError> {
        let Some(entry) = self.strangers.entry(&self.record.guid, now_ms) else { return Ok(()) };
        match &mut self.open {
            Some(open) => open.commit(store, entry)?,
            None => store.commit(&self.record.guid, Vec::new(), entry, None)?,
        }
        self.strangers.written(now_ms);
        Ok(())
    }

    /// The same, if the last such entry is old enough.
    fn settle_strangers(&mut self, store: &Store, now_ms: Millis) -> Result<(), SandboxError> {
        if self.strangers.may_be_written(now_ms) { self.write_strangers(store, now_ms) } else { Ok(()) }
    }
}

struct Inner {
    store: Store,
    slots: BTreeMap<String, Slot>,
}

impl Inner {
    /// Whether a call needs a new RSA key, and is to have one.
    fn needs_rsa(&mut self, call: &Call<'_>) -> bool {
        let open = self.slots.get_mut(call.guid).and_then(|slot| slot.open.as_mut());
        open.is_some_and(|open| route::needs_rsa(call, open))
    }
}

/// The service, with all its instances.
pub(crate) struct Kms {
    inner: Mutex<Inner>,
    /// Held while an RSA key is made.
    rsa: Mutex<()>,
    region: String,
}

impl std::fmt::Debug for Kms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kms").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Kms {
    /// Opens the service that a directory holds, or makes one there. With `is_forced`, each write reaches the disk.
    pub(crate) fn open(directory: &Path, region: &str, is_forced: bool) -> Result<Self, SandboxError> {
        let store = Store::open(directory, is_forced)?;
        let mut slots = BTreeMap::new();
        for record in store.instances()? {
            let open = match record.master.as_ref().and_then(MasterKey::kept_by_provider) {
                Some(master) => Some(Instance::open(&store, &record, &master?)?),
                None => None,
            };
            slots.insert(record.guid.clone(), Slot::new(record, open));
        }
        let inner = Mutex::new(Inner { store, slots });
        Ok(Self { inner, rsa: Mutex::new(()), region: region.to_owned() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an instance; returns its GUID. One of Key Protect has a master key of the provider from the start.
    pub(crate) fn create_instance(
        &self,
        name: &str,
        kind: KmsKind,
        now_ms: Millis,
    ) -> Result<String, SandboxError> {
        self.make_instance(name, kind, kind == KmsKind::KeyProtect, now_ms)
    }

    /// The same, with or without a master key of the provider.
    fn make_instance(
        &self,
        name: &str,
        kind: KmsKind,
        is_provided: bool,
        now_ms: Millis,
    ) -> Result<String, SandboxError> {
        let mut inner = self.lock();
        let mut record =
            Record { guid: random::uuid(), name: name.to_owned(), kind, created_ms: now_ms, master: None };
        let mut open = None;
        if is_provided {
            let (master, kept) = MasterKey::of_provider();
            record.master = Some(kept);
            open = Some(Instance::open(&inner.store, &record, &master)?);
        }
        inner.store.put_instance(&record)?;
        let guid = record.guid.clone();
        inner.slots.insert(guid.clone(), Slot::new(record, open));
        Ok(guid)
    }

    /// Removes an instance with all its keys.
    pub(crate) fn remove_instance(&self, guid: &str) -> Result<(), SandboxError> {
        let mut inner = self.lock();
        inner.slots.remove(guid).ok_or_else(|| SandboxError::NoInstance { guid: guid.to_owned() })?;
        inner.store.remove_instance(guid)
    }

    /// The GUIDs of all instances with their names.
    pub(crate) fn instances(&self) -> Vec<(String, String)> {
        self.lock().slots.values().map(|slot| (slot.record.guid.clone(), slot.record.name.clone())).collect()
    }

    /// Loads the master key of an instance: the first one is the one that it has from then on. Returns its verification pattern.
    pub(crate) fn load(&self, guid: &str, source: &MasterKeySource) -> Result<String, SandboxError> {
        self.load_with(guid, source, Instance::open)
    }

    /// The same, but a damaged audit log is put aside and a new one started; returns what is wrong with it, too.
    pub(crate) fn load_past_damage(
        &self,
        guid: &str,
        source: &MasterKeySource,
        now_ms: Millis,
    ) -> Result<(String, Option<String>), SandboxError> {
        let mut damage = None;
        let pattern = self.load_with(guid, source, |store, record, master| {
            let (open, found) = Instance::open_past_damage(store, record, master, now_ms)?;
            damage = found;
            Ok(open)
        })?;
        Ok((pattern, damage))
    }

    fn load_with(
        &self,
        guid: &str,
        source: &MasterKeySource,
        open: impl FnOnce(&Store, &Record, &MasterKey) -> Result<Instance, SandboxError>,
    ) -> Result<String, SandboxError> {
        let mut inner = self.lock();
        let Inner { store, slots } = &mut *inner;
        let slot = slots.get_mut(guid).ok_or_else(|| SandboxError::NoInstance { guid: guid.to_owned() })?;
        let master = match &slot.record.master {
            Some(kept) => MasterKey::again(source, kept)?,
            None => {
                let (master, kept) = MasterKey::first(source)?;
                let record = Record { master: Some(kept), ..slot.record.clone() };
                store.put_instance(&record)?;
                slot.record = record;
                master
            }
        };
        if slot.open.is_none() {
            slot.open = Some(open(store, &slot.record, &master)?);
        }
        Ok(master.pattern())
    }

    /// Takes the master key of an instance away: it answers 503 until the key is loaded again.
    pub(crate) fn unload(&self, guid: &str) -> Result<(), SandboxError> {
        let mut inner = self.lock();
        let slot =
            inner.slots.get_mut(guid).ok_or_else(|| SandboxError::NoInstance { guid: guid.to_owned() })?;
        slot.open = None;
        Ok(())
    }

    /// The CRN of an instance, or of a key in it.
    pub(crate) fn crn(&self, guid: &str, key: Option<&str>) -> Result<String, SandboxError> {
        let inner = self.lock();
        let slot = inner.slots.get(guid).ok_or_else(|| SandboxError::NoInstance { guid: guid.to_owned() })?;
        Ok(self.crn_of(slot.record.kind, guid, key))
    }

    fn crn_of(&self, kind: KmsKind, guid: &str, key: Option<&str>) -> String {
        let service = answer::service_name(kind);
        let tail = key.map_or_else(|| ":".to_owned(), |key| format!("key:{key}"));
        format!("crn:v1:bluemix:public:{service}:{}:a/{ACCOUNT}:{guid}:{tail}", self.region)
    }

    /// Whether the key that a CRN names is fit for use. `None`: the CRN names no instance of this service.
    pub(crate) fn is_usable(&self, crn: &str, now_ms: Millis) -> Option<bool> {
        let (head, id) = crn.rsplit_once(":key:")?;
        let guid = head.rsplit(':').next()?;
        let mut inner = self.lock();
        let Inner { store, slots } = &mut *inner;
        let slot = slots.get_mut(guid)?;
        let Some(open) = &mut slot.open else { return Some(false) };
        if settle(store, open, now_ms).is_err() {
            return Some(false);
        }
        Some(
            open.key(id).is_some_and(|key| {
                !key.extractable && matches!(key.state, State::Active | State::Deactivated)
            }),
        )
    }

    /// Carries out what time has brought in every instance.
    pub(crate) fn sweep(&self, now_ms: Millis) -> Result<(), SandboxError> {
        let mut inner = self.lock();
        let Inner { store, slots } = &mut *inner;
        for slot in slots.values_mut() {
            slot.settle_strangers(store, now_ms)?;
            let Some(open) = &mut slot.open else { continue };
            settle(store, open, now_ms)?;
        }
        Ok(())
    }

    /// Writes what is not in the audit log yet, before the service ends.
    pub(crate) fn end(&self, now_ms: Millis) -> Result<(), SandboxError> {
        let mut inner = self.lock();
        let Inner { store, slots } = &mut *inner;
        slots.values_mut().try_for_each(|slot| slot.write_strangers(store, now_ms))
    }

    /// Refuses a call whose caller is not known, and records that, though not each of many in an entry of its own.
    pub(crate) fn refuse(&self, guid: &str, correlation: &str, now_ms: Millis) -> Refusal {
        let mut inner = self.lock();
        let Inner { store, slots } = &mut *inner;
        let Some(slot) = slots.get_mut(guid) else { return Refusal::unauthorized() };
        slot.strangers.add(correlation);
        let settled = slot.settle_strangers(store, now_ms);
        settled.map_or_else(Refusal::internal, |()| Refusal::unauthorized())
    }

    /// Makes an RSA key. Only one is made at a time, whoever asks.
    fn new_rsa(&self) -> Result<(SecretBytes, Vec<u8>), crypto::Failed> {
        let _one = self.rsa.lock().unwrap_or_else(PoisonError::into_inner);
        crypto::new_rsa()
    }

    /// Answers a call.
    pub(crate) fn handle(&self, call: &Call<'_>) -> Reply {
        let mut inner = self.lock();
        let mut rsa = None;
        if inner.needs_rsa(call) {
            // It takes long to make: nobody else waits for it, and what was checked is checked again after it.
            drop(inner);
            rsa = Some(self.new_rsa());
            inner = self.lock();
        }
        let Inner { store, slots } = &mut *inner;
        let Some(slot) = slots.get_mut(call.guid) else {
            return Refusal::short(404, "The instance does not exist").answer("");
        };
        if let Err(error) = slot.settle_strangers(store, call.now_ms) {
            return Refusal::internal(error).answer("");
        }
        let mut entry = desk::entry(call.guid, call.identity, "kms.request", call.now_ms);
        entry.correlation.clone_from(&call.correlation);
        let Some(open) = &mut slot.open else {
            entry.status = 503;
            entry.code = Some("UNINITIALIZED".to_owned());
            let refusal = Refusal::short(503, "The crypto units of the instance have no master key");
            return match store.commit(call.guid, Vec::new(), entry, None) {
                Ok(()) => refusal.answer(""),
                Err(error) => Refusal::internal(error).answer(""),
            };
        };
        if let Err(error) = settle(store, open, call.now_ms) {
            return Refusal::internal(error).answer("");
        }
        let crn = self.crn_of(slot.record.kind, call.guid, None);
        let crn = crn.trim_end_matches(':');
        let done = route::serve(call, open, crn, rsa);
        entry.action = done.action.to_owned();
        entry.key = done.key;
        let (mut reply, is_refused) = match done.outcome {
            Ok(reply) => (reply, false),
            Err(refusal) => {
                entry.code = refusal.code.map(str::to_owned);
                (refusal.answer(done.what), true)
            }
        };
        entry.status = reply.status;
        if is_refused && let Err(error) = open.roll_back(store) {
            reply = Refusal::internal(error).answer(done.what);
        }
        if let Err(error) = open.commit(store, entry) {
            if open.roll_back(store).is_err() {
                // Memory and database may differ: the instance is shut until its key is loaded again.
                slot.open = None;
            }
            return Refusal::internal(error).answer(done.what);
        }
        reply
    }

    /// The names of the audit logs that were damaged and put aside.
    pub(crate) fn audits_aside(&self) -> Result<Vec<String>, SandboxError> {
        self.lock().store.all_aside()
    }

    /// Checks the audit log; see [`KmsServer::verify_audit`].
    pub(crate) fn verify_audit(
        &self,
        noted: Option<&AuditHead>,
        show: &mut dyn FnMut(&AuditEntry) -> Result<(), SandboxError>,
    ) -> Result<AuditHead, SandboxError> {
        self.lock().store.verify_audit(noted, show)
    }
}

/// Carries out what time has brought in an instance, and records that.
fn settle(store: &Store, open: &mut Instance, now_ms: Millis) -> Result<(), SandboxError> {
    open.settle(now_ms);
    if !open.has_changed() {
        return Ok(());
    }
    let entry = desk::entry(&open.guid, "key service", "kms.sweep", now_ms);
    open.commit(store, entry)
}

/// Material as a text of base64.
pub(crate) fn base64_of(bytes: &SecretBytes) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes.expose())
}
