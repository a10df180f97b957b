//! A vault that was opened with a key.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use coffer_crypto::{DomainKeys, SealingPublicKey, SigningKey};
use coffer_format::id::{DomainId, Head, SlotId, SnapshotId, VaultId};
use coffer_format::limits::RECORD_LEN_MAX;
use coffer_format::log::{LogState, SnapshotState};
use coffer_format::manifest::Manifest;
use coffer_format::object::{ObjectName, SLOTS_PREFIX};
use coffer_format::record::{Details, Record, RecordKind};
use coffer_format::slot::{Slot, SlotPurpose};
use coffer_keys::{KeyError, LostSlot, RootKey, try_slots};
use coffer_pipeline::keyring::{Keyring, UnwrappedKey};
use coffer_pipeline::record::{BodySealer, open_body, seal_record};
use coffer_store::ListItem;

use crate::access::{Access, key_of};
use crate::checkpoint::{EarlyKey, is_cheap, kept_state, read_slot, read_slots, short_cut};
use crate::error::{EngineError, is_archived};
use crate::log::{Beginning, Log, header_copy, of_signer};
use crate::parallel::{self, is_far};
use crate::parts::Parts;
use crate::select::SnapshotFilter;
use crate::writer::{check_enrolled, signing_key_for};

/// A vault opened with a key: its log as far as it was read, and the keys to read it.
#[derive(Debug)]
pub struct Vault<'a> {
    /// The world.
    pub access: Access<'a>,
    /// Header and log.
    pub log: Log,
    /// The reading keys.
    pub keyring: Arc<Keyring>,
    /// The slot that opened it; 32 zero bytes where a writer credential did.
    pub opened_by: SlotId,
    /// The name of the writer whose credential opened it.
    pub(crate) writer: Option<String>,
    /// Manifests that the last checkpoint holds, once they were asked for.
    manifests: OnceLock<BTreeMap<SnapshotId, Vec<u8>>>,
}

/// A snapshot with its manifest.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// What the log says of it.
    pub state: SnapshotState,
    /// What its record says.
    pub manifest: Manifest,
    /// Whether the record is damaged or lost, and the manifest comes from a checkpoint.
    pub is_degraded: bool,
}

impl Snapshot {
    /// Its id.
    #[must_use]
    pub const fn id(&self) -> SnapshotId {
        self.state.id
    }
}

impl<'a> Vault<'a> {
    /// Opens the vault with a root key; `expected` is its id where that is known from elsewhere.
    ///
    /// # Errors
    /// [`EngineError::NoVault`], [`EngineError::Rollback`], [`EngineError::Key`] when no slot opens, and others.
    pub fn open(
        access: Access<'a>,
        root: &dyn RootKey,
        expected: Option<VaultId>,
    ) -> Result<Self, EngineError> {
        let place = access.store.place();
        let known = expected.is_some()
            || access.cache.is_some_and(|cache| !matches!(cache.remembered(&place), Ok(None)));
        let mut early = None;
        let mut kept_number = None;
        let log = Log::read_from(&access, expected, None, &mut |vault, beginning, ahead| match beginning {
            Beginning::Kept(kept) => {
                let state = kept_state(&access, vault, root, kept, &mut early);
                kept_number = state.as_ref().map(|_| kept.number);
                state
            }
            Beginning::Listed(listed) => short_cut(&access, vault, root, (listed, ahead), &mut early),
        })?;
        let is_kept = kept_number.is_some() && kept_number == log.head().map(|head| head.number);
        // A key from a slot that is not current says nothing about the state that it vouched for.
        let log = match &early {
            Some(key) if log.begins_at > 0 && !log.state.slots.contains(&key.slot) => {
                Log::read(&access, expected)?
            }
            _ => log,
        };
        let read = log.vault;
        // A damaged header may still read as one, of a vault that is not there. Where nothing else tells which vault is meant, the copy
        // in record 0 is tried, and the key decides.
        let mut vault = match Self::unlock(access, log, root, early) {
            Err(failure @ EngineError::Key(_)) if !known => match header_copy(access.store) {
                Some((copy, _)) if copy != read => {
                    let again = Log::read(&access, Some(copy));
                    again.and_then(|log| Self::unlock(access, log, root, None)).map_err(
                        |error| match error {
                            EngineError::WrongVersions { .. } | EngineError::WrongMode { .. } => error,
                            _ => failure,
                        },
                    )?
                }
                _ => return Err(failure),
            },
            opened => opened?,
        };
        vault.log.remember(&access);
        if !is_kept || vault.log.begins_at == 0 {
            vault.keep_state();
        }
        Ok(vault)
    }

    /// Keeps the state of the log of a vault that is far away, so that the next one to open it reads what is new. Without it the log is read
    /// again, and nothing else suffers.
    pub(crate) fn keep_state(&self) {
        if let Some(cache) = self.access.cache.filter(|_| is_far(self.access.store))
            && let Some(key) = self.keyring.signing()
        {
            let slot = self.writer.is_none().then_some(&self.opened_by);
            drop(cache.keep_state(&self.id(), slot, self.state(), key));
        }
    }

    fn unlock(
        access: Access<'a>,
        log: Log,
        root: &dyn RootKey,
        early: Option<EarlyKey>,
    ) -> Result<Self, EngineError> {
        if let Some(EarlyKey { slot, epoch, key }) =
            early.filter(|early| log.state.slots.contains(&early.slot))
            && let Ok(keyring) =
                Keyring::open(log.vault, &log.state.epochs, epoch, UnwrappedKey::VaultKey(key))
        {
            return Ok(Self::with(access, log, keyring, slot));
        }
        let slots = current_slots(&access, &log)?;
        let mut failure = match open_one(&log, &slots, root) {
            Ok((opened_by, keyring)) => return Ok(Self::with(access, log, keyring, opened_by)),
            Err(failure) => failure,
        };
        // Where the log is damaged its list of slots may be lost. The key decides whether another one is the vault's.
        for slot in unlisted_slots(&access, &log)? {
            if let Ok((opened_by, keyring)) = open_one(&log, &[slot], root) {
                let mut vault = Self::with(access, log, keyring, opened_by);
                vault.log.warnings.push(format!(
                    "the log is damaged, and slot {opened_by}, which opened the vault, is none that it lists: it may have been lost from \
                     the list, or never have been in it; run `coffer verify`, and change nothing before it is clear which"
                ));
                return Ok(vault);
            }
        }
        // Where a service or a token said why, that is what there is to act on.
        let is_plain = match &failure {
            EngineError::Key(KeyError::NoSlot { answers, .. }) => {
                answers.iter().all(|answer| matches!(answer.error, KeyError::WrongKey { .. }))
            }
            _ => false,
        };
        let (lost_slots, unread) = unread_slots(&access, &log, &slots);
        if let EngineError::Key(KeyError::NoSlot { lost, .. }) = &mut failure {
            *lost = lost_slots.into();
        }
        Err(unread.filter(|_| is_plain).unwrap_or(failure))
    }

    pub(crate) fn with(access: Access<'a>, log: Log, keyring: Keyring, opened_by: SlotId) -> Self {
        let (keyring, manifests) = (Arc::new(keyring), OnceLock::new());
        Self { access, log, keyring, opened_by, writer: None, manifests }
    }

    /// The vault id.
    #[must_use]
    pub const fn id(&self) -> VaultId {
        self.log.vault
    }

    /// The state of the log as far as it was read.
    #[must_use]
    pub const fn state(&self) -> &LogState {
        &self.log.state
    }

    /// The owner's signing key, or that of the writer whose credential opened the vault.
    ///
    /// # Errors
    /// [`EngineError::NotAllowed`] when the vault was opened with a key that only reads.
    pub fn signing_key(&self) -> Result<&SigningKey, EngineError> {
        self.keyring.signing().ok_or(EngineError::NotAllowed { action: "sign records" })
    }

    /// The dedup domain that the owner writes into.
    #[must_use]
    pub fn owner_domain(&self) -> DomainId {
        DomainId::owner(self.log.state.domain_epoch)
    }

    /// The dedup domain that the key which opened the vault writes into.
    #[must_use]
    pub fn write_domain(&self) -> DomainId {
        self.keyring.writer_domain().unwrap_or_else(|| self.owner_domain())
    }

    /// Refuses what needs to open packs or record bodies to who has no key for that.
    pub(crate) fn check_reads(&self, action: &'static str) -> Result<(), EngineError> {
        if self.keyring.sealing_pairs().is_empty() { Err(EngineError::NotAllowed { action }) } else { Ok(()) }
    }

    /// Keys of a dedup domain.
    ///
    /// # Errors
    /// When the domain is of an epoch that the key does not reach, or another one than a writer's own.
    pub fn domain_keys(&self, domain: &DomainId) -> Result<DomainKeys, EngineError> {
        Ok(self.keyring.domain_keys(domain)?)
    }

    /// The sealing public key of the newest epoch, and its number.
    ///
    /// # Errors
    /// When the log holds a key that is none.
    pub fn sealing_key(&self) -> Result<(SealingPublicKey, u32), EngineError> {
        let epoch = self.log.state.epoch();
        let newest = self.log.state.epochs.last().ok_or(EngineError::WorkerGone)?;
        Ok((SealingPublicKey::from_bytes(&newest.sealing_key)?, epoch))
    }

    /// Commits a record that the owner or a writer signs, made of public additions and a body.
    ///
    /// `fill` puts what the record says into the public part, for the state before it.
    pub(crate) fn commit(
        &mut self,
        kind: RecordKind,
        body: Option<&[u8]>,
        fill: &mut dyn FnMut(&LogState, &mut coffer_format::record::Public) -> Result<(), EngineError>,
    ) -> Result<Head, EngineError> {
        self.commit_in(kind, self.write_domain(), body, fill)
    }

    /// As [`Self::commit`], with the body sealed for `domain`.
    pub(crate) fn commit_in(
        &mut self,
        kind: RecordKind,
        domain: DomainId,
        body: Option<&[u8]>,
        fill: &mut dyn FnMut(&LogState, &mut coffer_format::record::Public) -> Result<(), EngineError>,
    ) -> Result<Head, EngineError> {
        let (keyring, writer) = (Arc::clone(&self.keyring), self.writer.clone());
        let signing = signing_key_for(&keyring, kind)?;
        let (sealing_key, epoch) = self.sealing_key()?;
        let domain = self.domain_keys(&domain)?;
        let sealer = BodySealer { sealing_key: &sealing_key, epoch, domain: &domain };
        let access = self.access;
        let parts = Parts::new(access.store, self.id(), access.cache);
        let mut made = Vec::new();
        let committed = self.log.commit(&access, &mut |state| {
            if state.epoch() != epoch {
                let reason = "the vault's key was rotated meanwhile; run the command again".to_owned();
                return Err(EngineError::CannotCommit { reason });
            }
            if let Some(name) = &writer {
                check_enrolled(state, signing.verifying_key().as_bytes(), name)?;
            }
            let mut public = state.next_public(kind, *signing.verifying_key().as_bytes());
            public.time_s = access.now_s();
            fill(state, &mut public)?;
            let record = seal_record(public, body.map(|body| (body, &sealer)), signing, access.rng)?;
            if parts.has_memory() {
                made.clone_from(&record);
            }
            Ok(record)
        })?;
        // The next backup compares with this one.
        parts.keep_whole(ObjectName::Record(committed.number), &made);
        self.keep_state();
        Ok(committed)
    }

    /// Who signed the record with this number.
    pub(crate) fn signer_of(&self, number: u64) -> Result<[u8; 32], EngineError> {
        let name = ObjectName::Record(number);
        Parts::new(self.access.store, self.id(), None).whole(name, RECORD_LEN_MAX, &mut |bytes| {
            let record = of_signer(self.state(), number, bytes);
            let signer = record.map(|record| record.public.signer);
            signer.ok_or_else(|| {
                EngineError::damaged(name, EngineError::invalid("nobody who is enrolled signed it"))
            })
        })
    }

    /// The manifest of a snapshot.
    ///
    /// # Errors
    /// [`EngineError::Damaged`] when its record cannot be read or opened.
    pub fn snapshot(&self, state: &SnapshotState) -> Result<Snapshot, EngineError> {
        self.check_reads("read snapshots")?;
        let name = ObjectName::Record(state.number);
        let parts = Parts::new(self.access.store, self.id(), self.access.cache);
        let read = parts.whole(name, RECORD_LEN_MAX, &mut |bytes| {
            self.open_manifest(bytes, state).map_err(|error| EngineError::of_object(name, error))
        });
        // A record that was lost or damaged may live on in a checkpoint.
        match read {
            Ok(manifest) => Ok(Snapshot { state: *state, manifest, is_degraded: false }),
            Err(error) => {
                let is_degraded = !is_archived(&error);
                let manifest = self.checkpointed(&state.id).ok_or(error)?;
                Ok(Snapshot { state: *state, manifest, is_degraded })
            }
        }
    }

    /// Manifests that the last checkpoint holds.
    pub(crate) fn known_manifests(&self) -> &BTreeMap<SnapshotId, Vec<u8>> {
        self.manifests.get_or_init(|| self.checkpoint_manifests())
    }

    /// The manifest that the last checkpoint has of a snapshot.
    fn checkpointed(&self, id: &SnapshotId) -> Option<Manifest> {
        self.known_manifests().get(id).and_then(|bytes| Manifest::decode(bytes).ok())
    }

    fn open_manifest(&self, bytes: &[u8], state: &SnapshotState) -> Result<Manifest, EngineError> {
        let outer = Record::decode(bytes)?;
        let quoted;
        let mut record = outer;
        if SnapshotId(coffer_format::record::chain_value(bytes)) != state.id {
            // The snapshot was taken over from another home: its record is quoted in this one.
            let details = Details::decode(RecordKind::Reconcile, false, record.public.details.as_deref())?;
            let Details::Reconcile { records } = details else {
                return Err(EngineError::invalid("the record is not that of the snapshot"));
            };
            quoted = records;
            let found = quoted.iter().find(|bytes| coffer_format::record::chain_value(bytes) == state.id.0);
            record = Record::decode(
                found.ok_or_else(|| EngineError::invalid("the record does not quote the snapshot"))?,
            )?;
        }
        let pair = self.keyring.sealing(state.body.epoch);
        let pair = pair.ok_or(EngineError::NotAllowed { action: "read this epoch" })?;
        let domain = self.domain_keys(&state.body.domain)?;
        Ok(Manifest::decode(&open_body(&record, pair, &domain)?)?)
    }

    /// All snapshots that are not forgotten, in log order; those that cannot be read come as errors.
    pub fn snapshots(&self) -> Vec<(SnapshotState, Result<Snapshot, EngineError>)> {
        let live = self.log.state.snapshots.iter().filter(|snapshot| !snapshot.forgotten);
        self.known_manifests();
        // Opening a record takes longer than reading it from a disk.
        let thread_count = parallel::in_flight_many(self.access.store).max(parallel::processor_count());
        parallel::map(thread_count, live, |state| match self.checkpointed(&state.id) {
            Some(manifest) => (*state, Ok(Snapshot { state: *state, manifest, is_degraded: false })),
            None => (*state, self.snapshot(state)),
        })
    }

    /// The snapshot that `selector` names: `latest`, `latest~N`, or the beginning of an id.
    ///
    /// # Errors
    /// [`EngineError::NoSnapshot`], [`EngineError::AmbiguousSnapshot`].
    pub fn select(&self, selector: &str) -> Result<Snapshot, EngineError> {
        let selection = self.select_with(&selector.parse()?, &SnapshotFilter::default())?;
        Ok(selection.snapshot)
    }
}

/// Slots beyond the list of the log that are tried where the log is damaged.
const UNLISTED_SLOT_COUNT_MAX: usize = 16;

/// Opens the first of these slots that `root` opens, and the older epochs from there.
fn open_one(
    log: &Log,
    slots: &[(SlotId, Slot)],
    root: &dyn RootKey,
) -> Result<(SlotId, Keyring), EngineError> {
    let (opened_by, slot, key) = try_slots(slots, log.vault, root)?;
    let key = match slot.purpose {
        SlotPurpose::VaultKey => UnwrappedKey::VaultKey(coffer_crypto::VaultKey::from_secret(key)),
        SlotPurpose::ReaderSecret => UnwrappedKey::Reader(coffer_crypto::ReaderSecret::from_secret(key)),
    };
    Ok((opened_by, Keyring::open(log.vault, &log.state.epochs, slot.epoch, key)?))
}

/// The current slots, as far as they can be read.
pub(crate) fn current_slots(access: &Access<'_>, log: &Log) -> Result<Vec<(SlotId, Slot)>, EngineError> {
    Ok(read_slots(access.store, log.state.slots.clone()))
}

/// Of the current slots those that are not among `read`: which are lost or damaged, and what keeps another one from being read, which a key that
/// fits none of the others may fit.
fn unread_slots(
    access: &Access<'_>,
    log: &Log,
    read: &[(SlotId, Slot)],
) -> (Vec<LostSlot>, Option<EngineError>) {
    let (mut lost, mut unread) = (Vec::new(), None);
    for id in log.state.slots.iter().filter(|id| !read.iter().any(|(known, _)| known == *id)) {
        match read_slot(access.store, *id) {
            Ok(None) => {
                let found = key_of(ObjectName::Slot(*id)).map(|key| access.store.stat(&key));
                let is_missing = matches!(found, Ok(Err(error)) if error.is_not_found());
                lost.push(LostSlot { slot: *id, is_missing });
            }
            Err(EngineError::Store(source)) if unread.is_none() => {
                unread = Some(EngineError::SlotUnread { source });
            }
            _ => {}
        }
    }
    (lost, unread)
}

/// Slots in the store that the log has never named, if its list is lost or it is damaged. Anybody who can write to the store may have put them
/// there: no service is asked because of one, and none may cost much. A slot that the log has named and does not list any more was revoked.
fn unlisted_slots(access: &Access<'_>, log: &Log) -> Result<Vec<(SlotId, Slot)>, EngineError> {
    let mut ids = Vec::new();
    let may_lack = log.state.slots.is_empty() || !log.state.damaged.is_empty();
    // Behind a checkpoint it is not known which slots were revoked.
    if let Some(named) = log.state.named_slots.as_ref().filter(|_| may_lack) {
        access.store.list(SLOTS_PREFIX, None, &mut |item: ListItem| {
            if let Some(ObjectName::Slot(id)) = ObjectName::parse(&item.name)
                && !named.contains(&id)
            {
                ids.push(id);
            }
            let enough = ids.len() >= UNLISTED_SLOT_COUNT_MAX;
            if enough { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
        })?;
    }
    let mut slots = read_slots(access.store, ids);
    slots.retain(|(_, slot)| is_cheap(&slot.kind));
    Ok(slots)
}
