//! An instance whose master key is loaded: its rows in memory, and which of them have changed.
//!
//! Memory never runs ahead of the database: what a call changed is written before it is answered, and if it cannot be written, or the
//! call is refused half way, the rows are read again.

use std::collections::{BTreeMap, BTreeSet};

use coffer_crypto::{Secret, SecretBytes};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::audit::{AuditEntry, AuditHead};
use super::crypto::{self, Failed};
use super::desk;
use super::master::MasterKey;
use super::model::{Adapter, ImportToken, Key, KeyVersion, Kind, Ring, Sealed, Settings, State};
use super::store::{Change, Record, Store};
use crate::clock::{DAY_MS, Millis};
use crate::error::SandboxError;
use crate::random;

/// A deleted key goes for good after this long.
pub(super) const PURGE_AFTER_MS: Millis = 90 * DAY_MS;
/// The first authorization to delete holds for this long.
pub(super) const AUTHORIZATION_MS: Millis = 7 * DAY_MS;

/// A kind of row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Key,
    Ring,
    Adapter,
    Settings,
}

impl Row {
    const ALL: [Self; 4] = [Self::Key, Self::Ring, Self::Adapter, Self::Settings];

    const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Ring => "ring",
            Self::Adapter => "adapter",
            Self::Settings => "settings",
        }
    }
}

const AUDIT_HEAD: &str = "audit-head";

pub(super) struct Instance {
    pub(super) guid: String,
    pub(super) kind: Kind,
    storage: Secret<32>,
    keys: BTreeMap<String, Key>,
    rings: BTreeMap<String, Ring>,
    adapters: BTreeMap<String, Adapter>,
    settings: Settings,
    changed: BTreeSet<(Row, String)>,
}

fn damaged(what: impl std::fmt::Display) -> SandboxError {
    SandboxError::Records { what: format!("the key service cannot read its own row: {what}") }
}

impl Instance {
    /// Opens the rows of an instance, and checks that the audit log still holds what was last sealed of it.
    pub(super) fn open(store: &Store, record: &Record, master: &MasterKey) -> Result<Self, SandboxError> {
        let instance = Self::read(store, record, master)?;
        instance.check_audit(store)?;
        Ok(instance)
    }

    /// The same, but a damaged audit log is put aside. The first entry of a new one says what is wrong with it, which is also given.
    pub(super) fn open_past_damage(
        store: &Store,
        record: &Record,
        master: &MasterKey,
        now_ms: Millis,
    ) -> Result<(Self, Option<String>), SandboxError> {
        let instance = Self::read(store, record, master)?;
        let (number, what, whole) = match instance.check_audit(store) {
            Ok(()) => return Ok((instance, None)),
            Err(SandboxError::Audit { number, what, whole }) => (number, what, whole),
            Err(other) => return Err(other),
        };
        let sealed = store.row(&record.guid, AUDIT_HEAD, "")?;
        let sealed = sealed.and_then(|sealed| instance.unsealed::<AuditHead>(AUDIT_HEAD, "", &sealed).ok());
        let sealed = sealed.map_or_else(|| "none that can be read".to_owned(), |head| head.to_string());
        let aside = store.aside()?;
        let note = format!(
            "damaged at entry {number}: {what}; last good entry {whole}; last sealed entry {sealed}; put aside as {aside}"
        );
        let mut entry = desk::entry(&record.guid, "key service", "kms.audit.restart", now_ms);
        entry.code = Some("AUDIT_LOG_DAMAGED".to_owned());
        entry.note = Some(note.clone());
        store.restart_audit(&aside, &record.guid, entry, &|head| instance.sealed(AUDIT_HEAD, "", head))?;
        Ok((instance, Some(note)))
    }

    fn read(store: &Store, record: &Record, master: &MasterKey) -> Result<Self, SandboxError> {
        let mut instance = Self {
            guid: record.guid.clone(),
            kind: record.kind,
            storage: master.storage(&record.guid),
            keys: BTreeMap::new(),
            rings: BTreeMap::new(),
            adapters: BTreeMap::new(),
            settings: Settings::default(),
            changed: BTreeSet::new(),
        };
        for (kind, id, sealed) in store.rows(&record.guid)? {
            if let Some(row) = Row::ALL.into_iter().find(|row| row.name() == kind) {
                instance.take(row, &id, &sealed)?;
            }
        }
        Ok(instance)
    }

    /// Checks that the audit log still holds what was last sealed of it.
    fn check_audit(&self, store: &Store) -> Result<(), SandboxError> {
        let what = match store.row(&self.guid, AUDIT_HEAD, "")? {
            Some(sealed) => match self.unsealed(AUDIT_HEAD, "", &sealed) {
                Ok(head) => return store.verify_audit(Some(&head), &mut |_| Ok(())).map(drop),
                Err(_) => "the sealed number and hash of the newest entry do not open",
            },
            // What is here was written together with it.
            None if !self.keys.is_empty() || !self.rings.is_empty() || !self.adapters.is_empty() => {
                "the sealed number and hash of the newest entry are missing"
            }
            None => return Ok(()),
        };
        let whole = store.verify_audit(None, &mut |_| Ok(()))?;
        Err(SandboxError::Audit { number: whole.number, what: what.to_owned(), whole })
    }

    fn unsealed<T: DeserializeOwned>(&self, kind: &str, id: &str, sealed: &[u8]) -> Result<T, SandboxError> {
        let text = crypto::open(&self.storage, &["row", kind, id], sealed)
            .map_err(|Failed| damaged(format!("{kind} {id} does not open")))?;
        serde_json::from_slice(text.expose()).map_err(damaged)
    }

    fn take(&mut self, row: Row, id: &str, sealed: &[u8]) -> Result<(), SandboxError> {
        let name = row.name();
        match row {
            Row::Key => drop(self.keys.insert(id.to_owned(), self.unsealed(name, id, sealed)?)),
            Row::Ring => drop(self.rings.insert(id.to_owned(), self.unsealed(name, id, sealed)?)),
            Row::Adapter => drop(self.adapters.insert(id.to_owned(), self.unsealed(name, id, sealed)?)),
            Row::Settings => self.settings = self.unsealed(name, id, sealed)?,
        }
        Ok(())
    }

    fn sealed<T: Serialize>(&self, kind: &'static str, id: &str, value: &T) -> Change {
        let text = SecretBytes::new(serde_json::to_vec(value).unwrap_or_default());
        let sealed = crypto::seal(&self.storage, &["row", kind, id], text.expose());
        Change { kind, id: id.to_owned(), sealed: Some(sealed) }
    }

    fn change(&self, row: Row, id: &str) -> Change {
        let name = row.name();
        let gone = || Change { kind: name, id: id.to_owned(), sealed: None };
        match row {
            Row::Key => self.keys.get(id).map_or_else(gone, |key| self.sealed(name, id, key)),
            Row::Ring => self.rings.get(id).map_or_else(gone, |ring| self.sealed(name, id, ring)),
            Row::Adapter => self.adapters.get(id).map_or_else(gone, |one| self.sealed(name, id, one)),
            Row::Settings => self.sealed(name, id, &self.settings),
        }
    }

    /// Writes what has changed with an entry of the audit log.
    pub(super) fn commit(&mut self, store: &Store, entry: AuditEntry) -> Result<(), SandboxError> {
        let changes = self.changed.iter().map(|(row, id)| self.change(*row, id)).collect();
        store.commit(&self.guid, changes, entry, Some(&|head| self.sealed(AUDIT_HEAD, "", head)))?;
        self.changed.clear();
        Ok(())
    }

    /// Whether anything is to be written.
    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Forgets what has changed since the last commit.
    pub(super) fn roll_back(&mut self, store: &Store) -> Result<(), SandboxError> {
        for (row, id) in std::mem::take(&mut self.changed) {
            match store.row(&self.guid, row.name(), &id)? {
                Some(sealed) => self.take(row, &id, &sealed)?,
                None => match row {
                    Row::Key => drop(self.keys.remove(&id)),
                    Row::Ring => drop(self.rings.remove(&id)),
                    Row::Adapter => drop(self.adapters.remove(&id)),
                    Row::Settings => self.settings = Settings::default(),
                },
            }
        }
        Ok(())
    }

    pub(super) fn keys(&self) -> &BTreeMap<String, Key> {
        &self.keys
    }

    pub(super) fn key(&self, id: &str) -> Option<&Key> {
        self.keys.get(id)
    }

    /// The key of this id or alias.
    pub(super) fn find(&self, name: &str) -> Option<&Key> {
        self.keys
            .get(name)
            .or_else(|| self.keys.values().find(|key| key.aliases.iter().any(|alias| alias.name == name)))
    }

    /// A key, to be changed.
    pub(super) fn key_mut(&mut self, id: &str) -> Option<&mut Key> {
        let key = self.keys.get_mut(id)?;
        self.changed.insert((Row::Key, id.to_owned()));
        Some(key)
    }

    pub(super) fn add_key(&mut self, key: Key) {
        self.changed.insert((Row::Key, key.id.clone()));
        self.keys.insert(key.id.clone(), key);
    }

    pub(super) fn remove_key(&mut self, id: &str) -> Option<Key> {
        self.changed.insert((Row::Key, id.to_owned()));
        self.keys.remove(id)
    }

    pub(super) fn rings(&self) -> &BTreeMap<String, Ring> {
        &self.rings
    }

    pub(super) fn add_ring(&mut self, id: &str, ring: Ring) {
        self.changed.insert((Row::Ring, id.to_owned()));
        self.rings.insert(id.to_owned(), ring);
    }

    pub(super) fn remove_ring(&mut self, id: &str) {
        self.changed.insert((Row::Ring, id.to_owned()));
        self.rings.remove(id);
    }

    pub(super) fn adapters(&self) -> &BTreeMap<String, Adapter> {
        &self.adapters
    }

    pub(super) fn adapter_mut(&mut self, id: &str) -> Option<&mut Adapter> {
        let adapter = self.adapters.get_mut(id)?;
        self.changed.insert((Row::Adapter, id.to_owned()));
        Some(adapter)
    }

    pub(super) fn add_adapter(&mut self, adapter: Adapter) {
        self.changed.insert((Row::Adapter, adapter.stamp.id.clone()));
        self.adapters.insert(adapter.stamp.id.clone(), adapter);
    }

    pub(super) fn remove_adapter(&mut self, id: &str) {
        self.changed.insert((Row::Adapter, id.to_owned()));
        self.adapters.remove(id);
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn settings_mut(&mut self) -> &mut Settings {
        self.changed.insert((Row::Settings, String::new()));
        &mut self.settings
    }

    /// A new version of a key, with its material sealed.
    pub(super) fn version(
        &self,
        key_id: &str,
        id: &str,
        now_ms: Millis,
        material: &SecretBytes,
    ) -> KeyVersion {
        let sealed = self.seal_material(key_id, id, material);
        KeyVersion { id: id.to_owned(), created_ms: now_ms, material: sealed }
    }

    /// Seals secret bytes of this instance for a place.
    pub(super) fn seal_material(&self, owner: &str, id: &str, material: &SecretBytes) -> Sealed {
        Sealed(crypto::seal(&self.storage, &["material", owner, id], material.expose()))
    }

    /// Opens what [`Self::seal_material`] sealed.
    pub(super) fn open_material(
        &self,
        owner: &str,
        id: &str,
        sealed: &Sealed,
    ) -> Result<SecretBytes, SandboxError> {
        crypto::open(&self.storage, &["material", owner, id], &sealed.0)
            .map_err(|Failed| damaged("key material does not open"))
    }

    /// Carries out what time has brought: keys expire, authorizations lapse, deleted keys go, rotation policies rotate.
    pub(super) fn settle(&mut self, now_ms: Millis) {
        let ids: Vec<String> =
            self.keys.values().filter(|key| is_due(key, now_ms)).map(|key| key.id.clone()).collect();
        for id in ids {
            self.settle_key(&id, now_ms);
        }
        let is_dead = |token: &ImportToken| token.expires_ms <= now_ms && !token.private.0.is_empty();
        let has_dead_token = self.settings.import_token.as_ref().is_some_and(is_dead);
        if has_dead_token {
            // Its private key is of no more use to anybody.
            if let Some(token) = &mut self.settings_mut().import_token {
                token.private.0.clear();
            }
        }
    }

    fn settle_key(&mut self, id: &str, now_ms: Millis) {
        let Some(key) = self.key_mut(id) else { return };
        if key.deleted.as_ref().is_some_and(|deleted| deleted.at_ms.saturating_add(PURGE_AFTER_MS) <= now_ms)
        {
            drop(self.remove_key(id));
            return;
        }
        if key
            .deletion_asked
            .as_ref()
            .is_some_and(|mark| mark.at_ms.saturating_add(AUTHORIZATION_MS) <= now_ms)
        {
            key.deletion_asked = None;
        }
        if rotates_from_the_future(key, now_ms) {
            key.restart_rotation(now_ms);
        }
        // Versions that should have come before the key expired still come.
        while let Some(due_ms) = self.keys.get(id).and_then(|key| rotation_at(key, now_ms)) {
            self.rotate(id, due_ms, &crypto::random_material());
        }
        if let Some(key) = self.key_mut(id).filter(|key| expires(key, now_ms)) {
            key.state = State::Deactivated;
            key.updated_ms = key.expires_ms.unwrap_or(now_ms);
        }
    }

    /// Adds a version to a key.
    pub(super) fn rotate(&mut self, id: &str, at_ms: Millis, material: &SecretBytes) {
        let version = self.version(id, &random::uuid(), at_ms, material);
        if let Some(key) = self.key_mut(id) {
            key.versions.push(version);
            key.rotated_ms = Some(at_ms);
            key.updated_ms = at_ms;
        }
    }
}

fn expires(key: &Key, now_ms: Millis) -> bool {
    key.state == State::Active && key.has_expired(now_ms)
}

/// When a rotation policy is to be carried out that is due by now.
fn rotation_at(key: &Key, now_ms: Millis) -> Option<Millis> {
    let due_ms = key.rotation_due_ms().filter(|due_ms| *due_ms <= now_ms)?;
    (key.state == State::Active && !key.has_expired(due_ms)).then_some(due_ms)
}

/// Whether the months of a rotation policy count from a time that is still to come, because the clock was set back.
fn rotates_from_the_future(key: &Key, now_ms: Millis) -> bool {
    key.state == State::Active && key.rotation_since_ms().is_some_and(|since_ms| since_ms > now_ms)
}

fn is_due(key: &Key, now_ms: Millis) -> bool {
    let since = |mark: &super::model::Mark, after: Millis| mark.at_ms.saturating_add(after) <= now_ms;
    key.deleted.as_ref().is_some_and(|mark| since(mark, PURGE_AFTER_MS))
        || key.deletion_asked.as_ref().is_some_and(|mark| since(mark, AUTHORIZATION_MS))
        || rotation_at(key, now_ms).is_some()
        || rotates_from_the_future(key, now_ms)
        || expires(key, now_ms)
}
