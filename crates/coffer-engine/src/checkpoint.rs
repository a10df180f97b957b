//! Checkpoints: the state of the log and the manifests of its snapshots, kept in the vault so that a client without memory need not
//! replay every record.
//!
//! A checkpoint proves nothing and is never needed: whoever cannot use one replays from record 0. Only a client that unwraps the vault
//! key begins at one, because only it can tell for sure who may sign.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use coffer_crypto::hash::hash;
use coffer_crypto::{Secret, SigningKey, VaultKey};
use coffer_format::id::{DomainId, Head, SlotId, SnapshotId, VaultId};
use coffer_format::limits::{
    CHUNK_LEN_MAX, CONTENT_ROW_COUNT_MAX, RECORD_LEN_MAX, SLOT_LEN_MAX, STATE_LEN_MAX,
};
use coffer_format::log::{CheckpointBody, LogState, decode_manifests, encode_manifests};
use coffer_format::object::{ObjectName, SLOTS_PREFIX};
use coffer_format::pack::ChunkKind;
use coffer_format::record::{Details, Record, RecordKind, SegmentAdded};
use coffer_format::slot::{Slot, SlotKind, SlotPurpose};
use coffer_format::tree::{ChunkRef, Content};
use coffer_keys::{RootKey, try_slots};
use coffer_pipeline::compress::{Compression, Compressor};
use coffer_pipeline::keyring::Keyring;
use coffer_pipeline::pack_reader::{FrameReader, chunk_id};
use coffer_pipeline::pack_writer::{PackSealer, PackWriter};
use coffer_pipeline::record::{open_body, signature_is_good};
use coffer_pipeline::segment::SegmentWriter;
use coffer_store::{ListItem, ObjectStore, StoreError};

use crate::access::{Access, key_of, put_new};
use crate::cache::KeptState;
use crate::error::EngineError;
use crate::log::Ahead;
use crate::parallel;
use crate::read::ChunkReader;
use crate::tree_reader::ContentReader;
use crate::vault::Vault;

/// After how many records a new checkpoint is due.
pub const CHECKPOINT_INTERVAL: u64 = 64;
/// A checkpoint that spares fewer records than this is not looked for: replaying them costs less.
const SPARED_COUNT_MIN: u64 = 32;
/// How far back from the end of the log a checkpoint is looked for.
const SEARCH_COUNT_MAX: usize = 1024;
/// Slots that are read before the log says which are current, if there is a checkpoint to begin at. Those that were revoked stay in the store, so a
/// vault of many years has more of them than are current.
const SLOT_READ_COUNT_MAX: usize = 256;
/// Of these, slots of passphrases that are tried, the newest ones: somebody may have put them there to be tried, and each takes a second or more.
const PASSPHRASE_TRY_COUNT_MAX: usize = 16;
/// Most memory of a passphrase's slot that is tried before the log names it. Four passes over so much, or more over less, is the most work; what
/// calibration gives is a quarter of that.
const CHEAP_MEMORY_KIB: u32 = 1 << 20;
/// Others may commit while a checkpoint is made; it is made again this often.
const ATTEMPT_COUNT_MAX: usize = 3;
/// Length of the chunks that state and manifests are cut into, unless that makes too many of them.
const CHUNK_LEN: usize = 4 << 20;

/// What opening a slot gave before the log was read.
pub(crate) struct EarlyKey {
    pub(crate) slot: SlotId,
    pub(crate) epoch: u32,
    pub(crate) key: VaultKey,
}

impl EarlyKey {
    /// Opens one of these slots, of those that may be tried before the log names them.
    fn open(mut slots: Vec<(SlotId, Slot)>, vault: VaultId, root: &dyn RootKey) -> Option<Self> {
        slots.retain(|(_, slot)| !asks_others(slot));
        let (id, slot, secret) = try_slots(&slots, vault, root).ok()?;
        let is_vault_key = slot.purpose == SlotPurpose::VaultKey;
        is_vault_key.then(|| Self { slot: id, epoch: slot.epoch, key: VaultKey::from_secret(secret) })
    }

    fn copy(&self) -> VaultKey {
        VaultKey::from_secret(Secret::new(*self.key.expose()))
    }

    /// Whoever knows of a newer epoch does not believe the key of an older one, which may have leaked.
    fn is_too_old(&self, access: &Access<'_>, vault: VaultId) -> bool {
        access.cache.is_some_and(|cache| cache.epoch(&vault) > self.epoch)
    }
}

/// Slots in the store that may be tried, whether or not they are current, and the newest epoch that any slot of the vault in the store is of. No
/// service is asked: only the log says which of its slots to believe.
#[derive(Default)]
struct Found {
    cheap: Vec<(SlotId, Slot)>,
    newest_epoch: u32,
}

/// The slots of the vault that are in the store, current or not; none if there are more than `count_max`: somebody may have put them there to be read
/// and tried.
///
/// # Errors
/// When the store does not list them.
pub(crate) fn few_slots(
    store: &dyn ObjectStore,
    vault: VaultId,
    count_max: usize,
) -> Result<Vec<(SlotId, Slot)>, EngineError> {
    let mut ids = Vec::new();
    store.list(SLOTS_PREFIX, None, &mut |item: ListItem| {
        if let Some(ObjectName::Slot(id)) = ObjectName::parse(&item.name) {
            ids.push(id);
        }
        if ids.len() > count_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if ids.len() > count_max {
        return Ok(Vec::new());
    }
    let mut slots = read_slots(store, ids);
    slots.retain(|(_, slot)| slot.vault == vault);
    Ok(slots)
}

/// Reads no more slots than `spared_count`, the records that are spared at best.
fn slots_in(store: &dyn ObjectStore, vault: VaultId, spared_count: u64) -> Found {
    let count_max = usize::try_from(spared_count).unwrap_or(usize::MAX).min(SLOT_READ_COUNT_MAX);
    let mut slots = few_slots(store, vault, count_max).unwrap_or_default();
    let newest_epoch = slots.iter().map(|(_, slot)| slot.epoch).max().unwrap_or_default();
    slots.retain(|(_, slot)| is_cheap(&slot.kind));
    keep_newest_passphrases(&mut slots);
    Found { cheap: slots, newest_epoch }
}

/// Leaves of the slots of passphrases only as many as may be tried. The passphrase that is in use has one of the newest, unless somebody planted
/// newer ones; then the log is replayed.
fn keep_newest_passphrases(slots: &mut Vec<(SlotId, Slot)>) {
    slots.sort_by_key(|(_, slot)| Reverse((slot.epoch, slot.created_s)));
    let mut passphrase_count = 0;
    slots.retain(|(_, slot)| {
        let is_passphrase = matches!(slot.kind, SlotKind::Passphrase { .. });
        passphrase_count += usize::from(is_passphrase);
        !is_passphrase || passphrase_count <= PASSPHRASE_TRY_COUNT_MAX
    });
}

/// Whether trying a slot asks a service or a token that the slot names. Anybody who can write to the store may have put it there, to learn
/// what is asked, so this is done only once the log names the slot.
pub(crate) const fn asks_others(slot: &Slot) -> bool {
    !slot.kind.is_local()
}

/// Those of these slots that are there and intact. One that cannot be read does not keep the others from being tried.
pub(crate) fn read_slots(store: &dyn ObjectStore, ids: Vec<SlotId>) -> Vec<(SlotId, Slot)> {
    let read =
        parallel::map(parallel::in_flight_small(store), ids, |id| Some((id, read_slot(store, id).ok()??)));
    read.into_iter().flatten().collect()
}

/// A slot; `None` if it is lost or damaged.
///
/// # Errors
/// When the store fails.
pub(crate) fn read_slot(store: &dyn ObjectStore, id: SlotId) -> Result<Option<Slot>, EngineError> {
    let mut bytes = Vec::new();
    let key = key_of(ObjectName::Slot(id))?;
    let mut read = store.read(&key, SLOT_LEN_MAX, &mut bytes);
    let is_other = match &read {
        Ok(()) => Slot::id(&bytes) != id,
        Err(error) => matches!(error, StoreError::TooLong { .. }),
    };
    // Where something was laid over it, a store that keeps versions still has it.
    if is_other && store.distrust(&key) {
        read = store.read(&key, SLOT_LEN_MAX, &mut bytes);
    }
    match read {
        Ok(()) => Ok(Slot::decode(&bytes).ok().filter(|_| Slot::id(&bytes) == id)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(StoreError::TooLong { .. } | StoreError::NotAnObject { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a slot that the log has not confirmed is worth trying: anybody who can write to the store may have put it there.
pub(crate) const fn is_cheap(kind: &SlotKind) -> bool {
    match kind {
        SlotKind::KeyFile { .. } => true,
        SlotKind::Passphrase { memory_kib, passes, .. } => {
            *memory_kib <= CHEAP_MEMORY_KIB && memory_kib.saturating_mul(*passes) <= CHEAP_MEMORY_KIB * 4
        }
        _ => false,
    }
}

/// The state that this machine kept, if the key behind the slot that opened the vault then vouches for it. Where a service opened it, the log
/// is read first: whether the slot is still current, or was at all, the state tells only once it is proved.
pub(crate) fn kept_state(
    access: &Access<'_>,
    vault: VaultId,
    root: &dyn RootKey,
    kept: &KeptState,
    early: &mut Option<EarlyKey>,
) -> Option<LogState> {
    let opened = EarlyKey::open(read_slots(access.store, vec![kept.slot]), vault, root)?;
    let opened = early.insert(opened);
    if opened.is_too_old(access, vault) {
        return None;
    }
    kept.open(vault, &opened.key.signing())
}

/// The state that the newest usable checkpoint among the records listed gives; `early` keeps the key that was unwrapped to judge it. `None` where replaying the whole log is
/// the better way, or the only one.
pub(crate) fn short_cut(
    access: &Access<'_>,
    vault: VaultId,
    root: &dyn RootKey,
    (listed, ahead): (&[u64], &mut Ahead<'_>),
    early: &mut Option<EarlyKey>,
) -> Option<LogState> {
    let store = access.store;
    let candidates = || {
        let newest = listed.iter().copied().rev().take(SEARCH_COUNT_MAX);
        newest.take_while(|number| *number >= SPARED_COUNT_MIN)
    };
    let mut bytes = Vec::new();
    let mut slots = None;
    let spared_count = candidates().next()?;
    if parallel::is_far(store) {
        // What is looked at here is kept for the search below.
        let search = || candidates().any(|number| checkpoint_in(number, ahead, &mut bytes).is_some());
        let (read, _) = parallel::both(store, || slots_in(store, vault, spared_count), search);
        slots = Some(read);
    }
    for number in candidates() {
        let Some(record) = checkpoint_in(number, ahead, &mut bytes) else { continue };
        let found = slots.get_or_insert_with(|| slots_in(store, vault, spared_count));
        if early.is_none() {
            *early = Some(EarlyKey::open(std::mem::take(&mut found.cheap), vault, root)?);
        }
        let opened = early.as_ref()?;
        // Whoever has the key of an epoch that is over may have written this checkpoint, to bring that epoch back: the records tell. A slot
        // that somebody planted costs no more than to read them.
        if found.newest_epoch > opened.epoch {
            return None;
        }
        if opened.is_too_old(access, vault) {
            return None;
        }
        let keyring = Arc::new(Keyring::of_newest(opened.epoch, opened.copy()));
        if let Ok(state) = state_of(access, vault, number, &record, keyring) {
            return Some(state);
        }
    }
    None
}

/// The record with this number, if it is a checkpoint.
fn checkpoint_in<'b>(number: u64, ahead: &mut Ahead<'_>, bytes: &'b mut Vec<u8>) -> Option<Record<'b>> {
    if !ahead.look(number, bytes) {
        return None;
    }
    let record = Record::decode(bytes).ok();
    record.filter(|record| record.public.kind == RecordKind::Checkpoint.number())
}

/// The state after record `number` − 1, from the checkpoint in record `number`, if everything about it is as it must be.
fn state_of(
    access: &Access<'_>,
    vault: VaultId,
    number: u64,
    record: &Record<'_>,
    keyring: Arc<Keyring>,
) -> Result<LogState, EngineError> {
    let refuse = || EngineError::invalid("the checkpoint is not one to begin at");
    let details = Details::decode(RecordKind::Checkpoint, false, record.public.details.as_deref())?;
    let Details::Checkpoint { number: covered, state_hash } = details else { return Err(refuse()) };
    if record.public.number != number || covered.checked_add(1) != Some(number) {
        return Err(refuse());
    }
    let (body, mut chunks) = open_checkpoint(access, vault, record, Arc::clone(&keyring))?;
    let bytes = content(&body.state, &mut chunks)?;
    if hash(&bytes) != state_hash {
        return Err(refuse());
    }
    let state = LogState::decode(vault, &bytes)?;
    let owner = state.epochs.last().map(|epoch| epoch.owner_key);
    let mine = keyring.signing().map(|key| *key.verifying_key().as_bytes());
    let follows = state.next == number && state.head().map(|head| head.chain) == Some(record.public.previous);
    if follows && owner.is_some() && owner == mine { Ok(state) } else { Err(refuse()) }
}

/// The body of a checkpoint that the owner of `keyring` signed, and a reader of the chunks it names.
fn open_checkpoint<'a>(
    access: &Access<'a>,
    vault: VaultId,
    record: &Record<'_>,
    keyring: Arc<Keyring>,
) -> Result<(CheckpointBody, ChunkReader<'a>), EngineError> {
    let public = &record.public;
    let refuse = || EngineError::invalid("the checkpoint is not one to begin at");
    let signed =
        keyring.signing().is_some_and(|key: &SigningKey| *key.verifying_key().as_bytes() == public.signer)
            && signature_is_good(&public.signer, record.public_bytes, &record.signature);
    let seal = public.body.filter(|seal| signed && hash(record.body) == seal.hash).ok_or_else(refuse)?;
    if public.vault != vault {
        return Err(refuse());
    }
    let pair = keyring.sealing(seal.epoch).ok_or_else(refuse)?;
    let body = CheckpointBody::decode(&open_body(record, pair, &keyring.domain_keys(&seal.domain)?)?)?;
    let segments = public.segments_added.iter().filter(|segment| segment.domain == seal.domain);
    let segments: Vec<_> = segments.map(|segment| (segment.id, segment.len)).collect();
    let chunks = ChunkReader::of_segments(access.store, vault, keyring, &seal.domain, segments, None)?;
    Ok((body, chunks))
}

/// All bytes of a content list.
fn content(content: &Content, chunks: &mut ChunkReader<'_>) -> Result<Vec<u8>, EngineError> {
    let mut reader = ContentReader::new(content);
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next_chunk(chunks)? {
        bytes.extend_from_slice(&chunks.read(ChunkKind::Data, &chunk)?);
        if bytes.len() as u64 > STATE_LEN_MAX {
            return Err(EngineError::invalid("the checkpoint is over its limit"));
        }
    }
    Ok(bytes)
}

impl Vault<'_> {
    /// Manifests that the last checkpoint holds, as far as it can be read.
    pub(crate) fn checkpoint_manifests(&self) -> BTreeMap<SnapshotId, Vec<u8>> {
        let read = || -> Result<_, EngineError> {
            let Some(number) = self.state().last_checkpoint else { return Ok(Vec::new()) };
            let mut bytes = Vec::new();
            self.access.store.read(&key_of(ObjectName::Record(number))?, RECORD_LEN_MAX, &mut bytes)?;
            let record = Record::decode(&bytes)?;
            let (body, mut chunks) =
                open_checkpoint(&self.access, self.id(), &record, Arc::clone(&self.keyring))?;
            Ok(decode_manifests(&content(&body.manifests, &mut chunks)?)?)
        };
        // Without them each manifest is read from its own record.
        read().unwrap_or_default().into_iter().collect()
    }

    /// Writes a checkpoint if the last one is `interval` records back, and the log has no damage. Returns its place in the log.
    ///
    /// # Errors
    /// When it cannot be written. Nothing else suffers from that: the next one will be.
    pub fn checkpoint_if_due(&mut self, interval: u64) -> Result<Option<Head>, EngineError> {
        let state = self.state();
        let since = state.next.saturating_sub(state.last_checkpoint.unwrap_or_default());
        let is_due = interval > 0 && since >= interval && state.damaged.is_empty();
        // Only the owner has both halves: what it reads, and a signature that counts.
        if is_due && self.keyring.vault_key().is_some() { self.checkpoint() } else { Ok(None) }
    }

    fn checkpoint(&mut self) -> Result<Option<Head>, EngineError> {
        for _ in 0..ATTEMPT_COUNT_MAX {
            let state = self.state();
            let Some(bytes) = state.encode() else { return Ok(None) };
            let covered = state.next - 1;
            let known = self.known_manifests();
            let mut manifests = Vec::new();
            for snapshot in state.snapshots.iter().filter(|snapshot| !snapshot.forgotten) {
                let manifest = match known.get(&snapshot.id) {
                    Some(manifest) => manifest.clone(),
                    None => match self.snapshot(snapshot) {
                        Ok(read) => read.manifest.encode(),
                        Err(error @ EngineError::Store(_)) => return Err(error),
                        // What cannot be opened now is not worth a place, and keeps nothing else out.
                        Err(_) => continue,
                    },
                };
                manifests.push((snapshot.id, manifest));
            }
            let (segment, body) = self.store_checkpoint(&bytes, &encode_manifests(&manifests))?;
            let state_hash = hash(&bytes);
            let mut overtaken = false;
            let domain = segment.domain;
            let committed =
                self.commit_in(RecordKind::Checkpoint, domain, Some(&body), &mut |state, public| {
                    overtaken = state.next != covered + 1 || !state.damaged.is_empty();
                    if overtaken {
                        return Err(EngineError::CannotCommit { reason: "others were faster".to_owned() });
                    }
                    public.details = Details::Checkpoint { number: covered, state_hash }.encode();
                    public.segments_added = vec![segment];
                    Ok(())
                });
            match committed {
                Err(_) if overtaken => {}
                committed => return committed.map(Some),
            }
        }
        Ok(None)
    }

    /// Stores state and manifests in packs and a segment of their own, and returns the segment and the body that names them.
    fn store_checkpoint(
        &self,
        state: &[u8],
        manifests: &[u8],
    ) -> Result<(SegmentAdded, Vec<u8>), EngineError> {
        let access = self.access;
        let (sealing_key, epoch) = self.sealing_key()?;
        // Of the newest epoch whatever domain snapshots are in: whoever comes with a key of it alone can read this.
        let domain = DomainId::owner(epoch);
        let sealer = PackSealer { vault: self.id(), sealing_key, domain: self.domain_keys(&domain)? };
        let mut packs = Packing {
            access: &access,
            sealer: &sealer,
            segment: SegmentWriter::default(),
            pack: None,
            compressor: Compressor::new(Compression::Auto)?,
            reader: FrameReader::new()?,
        };
        let state = packs.content(state)?;
        let manifests = packs.content(manifests)?;
        packs.close()?;
        let segment = packs.segment.finish(self.id(), &sealer.domain, access.rng)?;
        put_new(access.store, ObjectName::Segment(segment.id), &segment.bytes)?;
        let added = SegmentAdded { id: segment.id, len: segment.bytes.len() as u64, domain };
        Ok((added, CheckpointBody { state, manifests }.encode()?))
    }
}

/// Chunks on their way into packs and one segment.
struct Packing<'p> {
    access: &'p Access<'p>,
    sealer: &'p PackSealer,
    segment: SegmentWriter,
    pack: Option<PackWriter>,
    compressor: Compressor,
    reader: FrameReader,
}

impl Packing<'_> {
    fn content(&mut self, bytes: &[u8]) -> Result<Content, EngineError> {
        if bytes.len() as u64 > STATE_LEN_MAX {
            return Err(EngineError::invalid("the log is too long for a checkpoint"));
        }
        let row_count_max = usize::try_from(CONTENT_ROW_COUNT_MAX).unwrap_or(usize::MAX);
        let chunk_len = CHUNK_LEN.max(bytes.len().div_ceil(row_count_max));
        debug_assert!(chunk_len as u64 <= CHUNK_LEN_MAX, "64 chunks hold the longest state");
        let rows = bytes.chunks(chunk_len).map(|chunk| self.chunk(chunk)).collect::<Result<_, _>>()?;
        Ok(Content::List { level: 0, rows })
    }

    fn chunk(&mut self, bytes: &[u8]) -> Result<ChunkRef, EngineError> {
        let id = chunk_id(&self.sealer.domain, ChunkKind::Data, bytes);
        let len = u32::try_from(bytes.len()).map_err(|_| EngineError::invalid("a chunk is too long"))?;
        let chunk = ChunkRef { id, len };
        if self.pack.as_ref().is_some_and(|pack| !pack.has_room(bytes.len(), 1)) {
            self.close()?;
        }
        let mut pack = match self.pack.take() {
            Some(pack) => pack,
            None => PackWriter::begin(self.sealer, self.access.rng, Vec::new())?,
        };
        pack.add_frame(ChunkKind::Data, bytes, vec![chunk], &mut self.compressor)?;
        pack.verify_newest(&self.sealer.domain, &mut self.reader, &mut Vec::new())?;
        self.pack = Some(pack);
        Ok(chunk)
    }

    /// Stores the pack that is open, and lists it.
    fn close(&mut self) -> Result<(), EngineError> {
        let Some(pack) = self.pack.take() else { return Ok(()) };
        let pack = pack.finish()?;
        put_new(self.access.store, ObjectName::Pack(pack.id), &pack.bytes)?;
        Ok(self.segment.add_pack(pack.id, pack.bytes.len() as u64, &pack.directory)?)
    }
}

#[cfg(test)]
mod tests;
