//! Writers: enrolled and revoked by the owner, listed, and a vault opened with a writer's credential.
//!
//! Signers of any other role but the owner's are listed and revoked as well, though nothing here enrols them: whoever once had the vault key
//! may have, and what was enrolled stays enrolled under the next one.
//!
//! A vault that a credential opened has no key that reads. It backs up, from what this machine remembers; whatever else needs a key ends in
//! [`EngineError::NotAllowed`], in [`signing_key_for`], [`Vault::check_reads`] or where slots are made.

use std::collections::BTreeMap;

use coffer_crypto::{SigningKey, rng};
use coffer_format::cbor::{Decoder, Encoder};
use coffer_format::id::{DomainId, Head, SlotId, VaultId, hex};
use coffer_format::limits::{RECORD_LEN_MAX, TEXT_LEN_MAX};
use coffer_format::log::{LogState, Signer};
use coffer_format::object::ObjectName;
use coffer_format::record::{Details, Record, RecordKind, Role, RoleAction};
use coffer_keys::WriterCredential;
use coffer_pipeline::keyring::Keyring;
use coffer_pipeline::record::open_body;

use crate::access::Access;
use crate::error::EngineError;
use crate::log::{Beginning, Log, of_owner};
use crate::parallel;
use crate::parts::Parts;
use crate::vault::Vault;

/// What a new writer is to be.
#[derive(Debug, Clone, Default)]
pub struct WriterOptions {
    /// Its name: no other writer that is enrolled may have it.
    pub name: String,
    /// The writer whose dedup domain it shares; without one it gets a domain of its own.
    pub group: Option<String>,
}

/// A writer that the log knows, or another signer that is not the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// Its name; `None` if the record that says it is lost, or does not open with the vault's keys.
    pub name: Option<String>,
    /// What it may sign.
    pub role: Role,
    /// The host it was meant for, if that was said.
    pub host: Option<String>,
    /// The key it signs with.
    pub key: [u8; 32],
    /// The domains it may write into.
    pub domains: Vec<DomainId>,
    /// Number of the record that enrolled it, and its time in seconds since 1970.
    pub enrolled: Option<(u64, i64)>,
    /// Whether it was revoked.
    pub is_revoked: bool,
    /// Number of the record that revoked it, and its time.
    pub revoked: Option<(u64, i64)>,
}

impl Writer {
    /// Whether it is one as [`Vault::enrol_writer`] makes them: it only backs up, and its record says who it is. Any other was enrolled by
    /// another program that had the vault key, or by a thief of it.
    #[must_use]
    pub const fn is_ordinary(&self) -> bool {
        matches!(self.role, Role::Put) && self.name.is_some()
    }
}

impl<'a> Vault<'a> {
    /// Opens the vault with a writer's credential: no slot is opened, and no root key asked. `expected` is the vault's id where that is known
    /// from elsewhere than the credential.
    ///
    /// # Errors
    /// [`EngineError::WriterRevoked`] and [`EngineError::WriterUnknown`]; [`EngineError::OtherVault`]; and what reading a log meets.
    pub fn open_as_writer(
        access: Access<'a>,
        credential: &WriterCredential,
        expected: Option<VaultId>,
    ) -> Result<Self, EngineError> {
        let actual = credential.vault();
        if let Some(expected) = expected.filter(|expected| *expected != actual) {
            return Err(EngineError::CredentialOfOther { credential: actual, vault: expected });
        }
        let (signing, domain) = credential.keys();
        let key = credential.verifying_key();
        let mut kept_number = None;
        let log =
            Log::read_from(&access, Some(actual), Some(&key), &mut |vault, beginning, _| match beginning {
                Beginning::Kept(kept) => {
                    let state = kept.open_of_writer(vault, &signing);
                    kept_number = state.as_ref().map(|_| kept.number);
                    state
                }
                // Only the vault key tells who may have made a checkpoint.
                Beginning::Listed(_) => None,
            })
            .map_err(|error| match error {
                // Where nothing says that this vault is the right one, the credential may be the wrong one as well.
                EngineError::OtherVault { actual: vault, expected: credential } if expected.is_none() => {
                    EngineError::CredentialOfOther { credential, vault }
                }
                error => error,
            })?;
        let is_kept = kept_number.is_some() && kept_number == log.head().map(|head| head.number);
        check_enrolled(&log.state, &key, credential.name())?;
        let signer = log.state.signer(&key);
        if !signer
            .is_some_and(|signer| signer.role == Role::Put && signer.domains.contains(&credential.domain()))
        {
            return Err(EngineError::WriterUnknown { name: credential.name().to_owned() });
        }
        let keyring = Keyring::of_writer(signing, domain);
        let mut vault = Self::with(access, log, keyring, SlotId([0; 32]));
        vault.writer = Some(credential.name().to_owned());
        vault.log.remember(&access);
        if !is_kept {
            vault.keep_state();
        }
        Ok(vault)
    }

    /// The name of the writer whose credential opened the vault; `None` if a key slot did.
    #[must_use]
    pub fn writer(&self) -> Option<&str> {
        self.writer.as_deref()
    }

    /// Makes the credential of a new writer. It counts once [`Self::enrol_writer`] has committed it, and is to be stored before that.
    ///
    /// # Errors
    /// [`EngineError::NotAllowed`] without the vault key; [`EngineError::Invalid`] for a name that is taken, or a group that does not exist.
    pub fn new_writer(&self, options: &WriterOptions) -> Result<WriterCredential, EngineError> {
        self.check_owns()?;
        let writers = self.known_writers()?;
        let enrolled = |name: &str| {
            writers.iter().find(|writer| !writer.is_revoked && writer.name.as_deref() == Some(name))
        };
        if enrolled(&options.name).is_some() {
            let reason =
                format!("there is a writer {} already; `coffer keys writers` lists them", options.name);
            return Err(EngineError::invalid(reason));
        }
        let domain = match &options.group {
            None => self.new_domain()?,
            Some(group) => {
                let group_writer = enrolled(group).filter(|writer| writer.role == Role::Put);
                let shared = group_writer.and_then(|writer| writer.domains.first().copied());
                shared.ok_or_else(|| {
                    EngineError::invalid(format!(
                        "no writer {group} is enrolled, whose domain could be shared"
                    ))
                })?
            }
        };
        let keys = self.domain_keys(&domain)?;
        Ok(WriterCredential::generate(self.id(), &options.name, keys, self.access.rng)?)
    }

    /// Enrols the writer whose credential this is.
    ///
    /// # Errors
    /// [`EngineError::NotAllowed`] without the vault key; else as for any commit.
    pub fn enrol_writer(
        &mut self,
        credential: &WriterCredential,
        host: Option<&str>,
    ) -> Result<Head, EngineError> {
        self.enrol_writer_with(credential, host, &mut || {})
    }

    /// As [`Self::enrol_writer`]; `before_commit` is called before the record that enrols the writer is stored: until then nothing was
    /// done, and what of it may have happened afterwards only the result tells.
    ///
    /// # Errors
    /// As there.
    pub fn enrol_writer_with(
        &mut self,
        credential: &WriterCredential,
        host: Option<&str>,
        before_commit: &mut dyn FnMut(),
    ) -> Result<Head, EngineError> {
        let (key, domains) = (credential.verifying_key(), vec![credential.domain()]);
        let action = RoleAction::Enrol { key, role: Role::Put, domains };
        self.commit_role(&action, credential.name(), host, before_commit)
    }

    /// Revokes the writer, or other signer, with this name, or whose key begins with these digits. What it has committed stays.
    ///
    /// # Errors
    /// [`EngineError::NotAllowed`] without the vault key; [`EngineError::Invalid`] when no such writer is enrolled, or several are.
    pub fn revoke_writer(&mut self, name: &str) -> Result<(Writer, Head), EngineError> {
        self.check_owns()?;
        let mut enrolled = self.writers()?;
        enrolled.retain(|writer| !writer.is_revoked);
        let is_named = |writer: &&Writer| writer.name.as_deref() == Some(name);
        let has_key = |writer: &&Writer| name.len() >= 8 && hex(&writer.key).starts_with(name);
        let mut found: Vec<&Writer> = enrolled.iter().filter(is_named).collect();
        if found.is_empty() {
            found = enrolled.iter().filter(has_key).collect();
        }
        let writer = match found.as_slice() {
            [one] => (*one).clone(),
            [] => {
                let reason = format!("no writer {name} is enrolled; `coffer keys writers` lists them");
                return Err(EngineError::invalid(reason));
            }
            _ => {
                let reason = format!("several writers are named {name}; give the beginning of a key instead");
                return Err(EngineError::invalid(reason));
            }
        };
        let head = self.revoke_signer(&writer)?;
        Ok((writer, head))
    }

    /// Revokes this one.
    ///
    /// # Errors
    /// [`EngineError::NotAllowed`] without the vault key; else as for any commit.
    pub fn revoke_signer(&mut self, writer: &Writer) -> Result<Head, EngineError> {
        let action = RoleAction::Revoke { key: writer.key };
        let name = writer.name.clone().unwrap_or_else(|| hex(&writer.key));
        self.commit_role(&action, &name, writer.host.as_deref(), &mut || {})
    }

    /// The keys of all that are enrolled and may sign, but the owner's.
    pub(crate) fn signer_keys(state: &LogState) -> Vec<[u8; 32]> {
        let enrolled =
            state.signers.iter().filter(|(_, signer)| signer.role != Role::Owner && !signer.revoked);
        enrolled.map(|(key, _)| *key).collect()
    }

    /// All writers, and other signers but owners, that were ever enrolled, in the order of their records. The whole log is read, and no checkpoint
    /// believed: whoever once had the vault key may have made one that leaves out whom they enrolled.
    ///
    /// # Errors
    /// [`EngineError::NotAllowed`] without a key that reads; when the store fails.
    pub fn writers(&mut self) -> Result<Vec<Writer>, EngineError> {
        self.check_reads("list writers")?;
        if self.log.begins_at > 0 {
            self.log = Log::read(&self.access, Some(self.id()))?;
        }
        self.known_writers()
    }

    /// As [`Self::writers`], by the state that there is.
    fn known_writers(&self) -> Result<Vec<Writer>, EngineError> {
        let state = self.state();
        let is_other = |(_, signer): &(&[u8; 32], &Signer)| signer.role != Role::Owner;
        let mut writers: BTreeMap<[u8; 32], Writer> = state
            .signers
            .iter()
            .filter(is_other)
            .map(|(key, signer)| {
                let (role, domains, is_revoked) = (signer.role, signer.domains.clone(), signer.revoked);
                let (name, host, enrolled, revoked) = (None, None, None, None);
                (*key, Writer { name, role, host, key: *key, domains, enrolled, is_revoked, revoked })
            })
            .collect();
        if writers.is_empty() {
            return Ok(Vec::new());
        }
        let parts = Parts::new(self.access.store, self.id(), self.access.cache);
        let numbers = (0..state.next).filter(|number| !self.log.ineffective.iter().any(|(n, _)| n == number));
        let read = parallel::map(parallel::in_flight(self.access.store), numbers, |number| {
            let name = ObjectName::Record(number);
            let role = parts.whole(name, RECORD_LEN_MAX, &mut |bytes| Ok(self.role_in(number, bytes)));
            match role {
                // What was lost of the log, `verify` tells.
                Err(error) if error.is_gone() => Ok(None),
                role => role,
            }
        });
        for role in read {
            let Some(RoleRecord { number, time_s, action, name, host }) = role? else { continue };
            match action {
                RoleAction::Enrol { key, .. } => {
                    // What enrols a key once more is void.
                    if let Some(writer) = writers.get_mut(&key).filter(|writer| writer.enrolled.is_none()) {
                        (writer.name, writer.host, writer.enrolled) = (name, host, Some((number, time_s)));
                    }
                }
                RoleAction::Revoke { key } => {
                    let is_first = |writer: &&mut Writer| writer.is_revoked && writer.revoked.is_none();
                    if let Some(writer) = writers.get_mut(&key).filter(is_first) {
                        writer.revoked = Some((number, time_s));
                    }
                }
            }
        }
        let mut writers: Vec<_> = writers.into_values().collect();
        writers.sort_by_key(|writer| (writer.enrolled, writer.key));
        Ok(writers)
    }

    /// What a record says of roles, if an owner of this vault signed it.
    fn role_in(&self, number: u64, bytes: &[u8]) -> Option<RoleRecord> {
        let record = of_owner(self.state(), number, RecordKind::Role, bytes)?;
        let public = &record.public;
        let details = Details::decode(RecordKind::Role, false, public.details.as_deref()).ok()?;
        let Details::Role(action) = details else { return None };
        // Whom a record concerns does not depend on whether its body opens.
        let (name, host) = self.names_in(&record).unwrap_or_default();
        Some(RoleRecord { number, time_s: public.time_s, action, name, host })
    }

    fn names_in(&self, record: &Record<'_>) -> Option<(Option<String>, Option<String>)> {
        let body = record.public.body?;
        let domain = self.domain_keys(&body.domain).ok()?;
        let cbor = open_body(record, self.keyring.sealing(body.epoch)?, &domain).ok()?;
        let mut decoder = Decoder::new("role", &cbor);
        let mut map = decoder.map().ok()?;
        let (mut name, mut host) = (None, None);
        while let Some(key) = map.next_key(&mut decoder).ok()? {
            match key {
                1 => name = Some(decoder.text(TEXT_LEN_MAX).ok()?.to_owned()),
                2 => host = Some(decoder.text(TEXT_LEN_MAX).ok()?.to_owned()),
                _ => drop(decoder.raw().ok()?),
            }
        }
        // Writers have a name; an empty one says no more than none.
        Some((name.filter(|name| !name.is_empty()), host))
    }

    fn commit_role(
        &mut self,
        action: &RoleAction,
        name: &str,
        host: Option<&str>,
        before_commit: &mut dyn FnMut(),
    ) -> Result<Head, EngineError> {
        self.check_owns()?;
        let mut body = Encoder::new();
        body.map(|map| {
            map.key(1).text(name);
            if let Some(host) = host {
                map.key(2).text(host);
            }
        });
        self.commit(RecordKind::Role, Some(&body.finish()), &mut |_, public| {
            public.details = Details::Role(action.clone()).encode();
            before_commit();
            Ok(())
        })
    }

    fn check_owns(&self) -> Result<(), EngineError> {
        let action = action_of(RecordKind::Role);
        self.keyring.vault_key().map(|_| ()).ok_or(EngineError::NotAllowed { action })
    }

    /// A dedup domain that nobody has, of the epoch in which new ones are made.
    fn new_domain(&self) -> Result<DomainId, EngineError> {
        let random: [u8; 12] = rng::array(self.access.rng)?;
        let mut domain = [0; 16];
        domain[..4].copy_from_slice(&self.state().domain_epoch.to_le_bytes());
        domain[4..].copy_from_slice(&random);
        Ok(DomainId(domain))
    }
}

struct RoleRecord {
    number: u64,
    time_s: i64,
    action: RoleAction,
    name: Option<String>,
    host: Option<String>,
}

/// The key to sign a record of this kind with. [`EngineError::NotAllowed`] for who only reads, and for a writer where the record is none of a
/// backup.
pub(crate) fn signing_key_for(keyring: &Keyring, kind: RecordKind) -> Result<&SigningKey, EngineError> {
    let is_of_backup = matches!(kind, RecordKind::Snapshot | RecordKind::Progress);
    let signing = keyring.signing().filter(|_| is_of_backup || keyring.writer_domain().is_none());
    signing.ok_or(EngineError::NotAllowed { action: action_of(kind) })
}

/// Refuses a writer that the log, as far as it was read, does not let sign.
pub(crate) fn check_enrolled(state: &LogState, key: &[u8; 32], name: &str) -> Result<(), EngineError> {
    match state.signers.get(key) {
        Some(signer) if signer.revoked => Err(EngineError::WriterRevoked { name: name.to_owned() }),
        Some(_) => Ok(()),
        None => Err(EngineError::WriterUnknown { name: name.to_owned() }),
    }
}

/// What who signs a record of a kind does.
const fn action_of(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Snapshot | RecordKind::Progress => "back up",
        RecordKind::Slots => "change key slots",
        RecordKind::Epoch => "rotate the vault key",
        RecordKind::Role => "enrol or revoke writers",
        RecordKind::Policy => "change the settings",
        RecordKind::Handover | RecordKind::Promote | RecordKind::Reconcile => "move the home of the log",
        RecordKind::Locks => "record locks",
        _ => "sign this kind of record",
    }
}
