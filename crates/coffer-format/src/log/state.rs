//! The canonical state of a log, and what a checkpoint holds (specification section 9.19).

use std::collections::{BTreeMap, BTreeSet};

use super::{Epoch, LiveSegment, LogState, Signer, SnapshotState};
use crate::cbor::{Decoder, Encoder, MapDecoder, names};
use crate::error::{FormatError, check_len};
use crate::header::FORMAT_MINOR;
use crate::id::{DomainId, PackId, SegmentId, SlotId, SnapshotId, VaultId};
use crate::limits::{INDEX_LEN_MAX, RECORD_PART_LEN_MAX, SLOT_COUNT_MAX, STATE_LEN_MAX};
use crate::record::{BodySeal, EpochDetails, Role, read_orphans, write_orphans};
use crate::tree::{ChunkRef, Content};

const OBJECT: &str = "checkpoint state";
const MANIFESTS: &str = "manifests of a checkpoint";
const BODY: &str = "body of a checkpoint";

impl LogState {
    /// The canonical encoding of this state; `None` before record 0, and where a record is damaged or missing and the claim counts.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let last = self.next.checked_sub(1).filter(|_| self.damaged.is_empty())?;
        let chain = self.chain?;
        let mut encoder = Encoder::new();
        encoder.map(|map| {
            map.key(1).uint(last);
            map.key(2).bytes(&chain);
            map.key(3).uint(self.term);
            map.key(4).bytes(&self.home);
            map.key(5).uint(self.minor);
            write_epochs(map.key(6), &self.epochs);
            write_ids(map.key(7), self.slots.iter().map(|id| &id.0));
            write_signers(map.key(8), &self.signers);
            write_segments(map.key(9), &self.segments);
            write_segments(map.key(10), &self.removed);
            write_orphans(map.key(11), self.orphans.iter());
            write_ids(map.key(12), self.swept_segments.iter().map(|id| &id.0));
            write_ids(map.key(13), self.swept_packs.iter().map(|id| &id.0));
            write_snapshots(map.key(14), &self.snapshots);
            map.key(15).bool(self.previous_authentic);
            map.key(16).uint(self.last_prune_or_sweep.unwrap_or_default());
            map.key(17).uint(self.last_checkpoint.unwrap_or_default());
            if let Some(policy) = self.last_policy {
                map.key(18).uint(policy);
            }
        });
        Some(encoder.finish())
    }

    /// The state that `bytes` say, of the vault `vault`. Whether they are true is for the caller to know.
    ///
    /// # Errors
    /// [`FormatError`] when they are not the canonical encoding of a state.
    pub fn decode(vault: VaultId, bytes: &[u8]) -> Result<Self, FormatError> {
        check_len(OBJECT, bytes.len() as u64, STATE_LEN_MAX)?;
        let mut decoder = Decoder::new(OBJECT, bytes);
        let d = &mut decoder;
        let mut map = d.map()?;
        let last = at(&mut map, d, 1)?.uint()?;
        let chain = at(&mut map, d, 2)?.fixed()?;
        let term = at(&mut map, d, 3)?.uint()?;
        let home = at(&mut map, d, 4)?.fixed()?;
        let minor = at(&mut map, d, 5)?.uint()?;
        let epochs = read_epochs(at(&mut map, d, 6)?)?;
        let domain_epoch =
            epochs.iter().rposition(|epoch| epoch.details.as_ref().is_none_or(|details| details.new_domains));
        let slots = names(at(&mut map, d, 7)?, SLOT_COUNT_MAX)?.into_iter().map(SlotId).collect();
        let signers = read_signers(at(&mut map, d, 8)?)?;
        let segments = read_segments(at(&mut map, d, 9)?)?;
        let removed = read_segments(at(&mut map, d, 10)?)?;
        let orphans = read_orphans(at(&mut map, d, 11)?)?.into_iter().collect();
        let swept_segments = names(at(&mut map, d, 12)?, u64::MAX)?.into_iter().map(SegmentId).collect();
        let swept_packs = names(at(&mut map, d, 13)?, u64::MAX)?.into_iter().map(PackId).collect();
        let snapshots = read_snapshots(at(&mut map, d, 14)?)?;
        let previous_authentic = at(&mut map, d, 15)?.bool()?;
        let prune = at(&mut map, d, 16)?.uint()?;
        let checkpoint = at(&mut map, d, 17)?.uint()?;
        let policy = match map.next_key(d)? {
            None => None,
            Some(18) => Some(d.uint()?),
            Some(_) => return Err(d.fail("a state has no other keys")),
        };
        if policy.is_some() && map.next_key(d)?.is_some() {
            return Err(d.fail("a state has no other keys"));
        }
        decoder.finish()?;
        let next =
            last.checked_add(1).ok_or_else(|| FormatError::rule(OBJECT, "its record has no number"))?;
        let state = Self {
            vault,
            minor,
            term,
            home,
            domain_epoch: u32::try_from(domain_epoch.unwrap_or_default()).unwrap_or(u32::MAX),
            epochs,
            slots,
            named_slots: None,
            signers,
            segments,
            removed,
            orphans,
            swept_segments,
            swept_packs,
            snapshots,
            damaged: Vec::new(),
            claims: BTreeMap::new(),
            next,
            needs_minor: (minor > FORMAT_MINOR).then_some(minor),
            last_checkpoint: (checkpoint > 0).then_some(checkpoint),
            last_policy: policy,
            chain: Some(chain),
            previous_authentic,
            last_prune_or_sweep: (prune > 0).then_some(prune),
        };
        if state.encode().as_deref() == Some(bytes) {
            Ok(state)
        } else {
            Err(FormatError::rule(OBJECT, "it is not in its canonical form"))
        }
    }
}

/// The decoder at the value of `key`, which must come next.
fn at<'d, 'b>(
    map: &mut MapDecoder,
    d: &'d mut Decoder<'b>,
    key: u64,
) -> Result<&'d mut Decoder<'b>, FormatError> {
    if map.next_key(d)? == Some(key) { Ok(d) } else { Err(d.fail("a state leaves no key out")) }
}

/// The head of an array of exactly `count` items.
fn tuple(d: &mut Decoder<'_>, count: usize) -> Result<(), FormatError> {
    if d.array(count as u64)? == count {
        Ok(())
    } else {
        Err(d.fail("an item has the wrong number of fields"))
    }
}

fn write_ids<'i>(encoder: &mut Encoder, ids: impl ExactSizeIterator<Item = &'i [u8; 32]>) {
    encoder.array(ids.len());
    ids.for_each(|id| encoder.bytes(id));
}

fn write_epochs(encoder: &mut Encoder, epochs: &[Epoch]) {
    encoder.array(epochs.len());
    for (number, epoch) in epochs.iter().enumerate() {
        encoder.array(6);
        encoder.uint(number as u64);
        encoder.bytes(&epoch.sealing_key[..]);
        encoder.bytes(&epoch.owner_key);
        match &epoch.details {
            Some(details) => {
                encoder.bytes(&details.previous_vault_key);
                encoder.bytes(&details.previous_reader_secret);
                encoder.bool(details.new_domains);
            }
            None => {
                encoder.bytes(&[]);
                encoder.bytes(&[]);
                encoder.bool(true);
            }
        }
    }
}

fn read_epochs(d: &mut Decoder<'_>) -> Result<Vec<Epoch>, FormatError> {
    let count = d.array(u64::from(u32::MAX))?;
    let mut epochs = Vec::new();
    for expected in 0..count {
        tuple(d, 6)?;
        let number = d.uint32()?;
        if number as usize != expected {
            return Err(d.fail("epochs are not numbered one after the other"));
        }
        let sealing_key: Box<[u8; 1216]> = Box::new(d.fixed()?);
        let owner_key = d.fixed()?;
        let details = if number == 0 {
            tuple_of_epoch_0(d)?;
            None
        } else {
            Some(EpochDetails {
                number,
                sealing_key: sealing_key.clone(),
                owner_key,
                previous_vault_key: d.fixed()?,
                previous_reader_secret: d.fixed()?,
                new_domains: d.bool()?,
            })
        };
        epochs.push(Epoch { sealing_key, owner_key, details });
    }
    if epochs.is_empty() { Err(d.fail("there is no epoch")) } else { Ok(epochs) }
}

fn tuple_of_epoch_0(d: &mut Decoder<'_>) -> Result<(), FormatError> {
    let empty = d.bytes(0)?.is_empty() && d.bytes(0)?.is_empty();
    if empty && d.bool()? { Ok(()) } else { Err(d.fail("epoch 0 makes new domains")) }
}

fn write_signers(encoder: &mut Encoder, signers: &BTreeMap<[u8; 32], Signer>) {
    encoder.array(signers.len());
    for (key, signer) in signers {
        encoder.array(4);
        encoder.bytes(key);
        encoder.uint(signer.role.number());
        encoder.array(signer.domains.len());
        signer.domains.iter().for_each(|domain| encoder.bytes(&domain.0));
        encoder.bool(signer.revoked);
    }
}

fn read_signers(d: &mut Decoder<'_>) -> Result<BTreeMap<[u8; 32], Signer>, FormatError> {
    let mut signers = BTreeMap::new();
    for _ in 0..d.array(u64::MAX)? {
        tuple(d, 4)?;
        let key = d.fixed()?;
        let role = Role::from_number(d.uint()?).ok_or_else(|| d.fail("the role is not known"))?;
        let domains = (0..d.array(65_536)?).map(|_| d.fixed().map(DomainId)).collect::<Result<_, _>>()?;
        signers.insert(key, Signer { role, domains, revoked: d.bool()? });
    }
    Ok(signers)
}

fn write_segments(encoder: &mut Encoder, segments: &BTreeMap<SegmentId, LiveSegment>) {
    encoder.array(segments.len());
    for (id, segment) in segments {
        encoder.array(4);
        encoder.bytes(&id.0);
        encoder.uint(segment.len);
        encoder.bytes(&segment.domain.0);
        encoder.uint(segment.added_by);
    }
}

fn read_segments(d: &mut Decoder<'_>) -> Result<BTreeMap<SegmentId, LiveSegment>, FormatError> {
    let mut segments = BTreeMap::new();
    for _ in 0..d.array(u64::MAX)? {
        tuple(d, 4)?;
        let id = SegmentId(d.fixed()?);
        let len = d.uint()?;
        if len > INDEX_LEN_MAX {
            return Err(d.fail("an index segment is over its limit"));
        }
        segments.insert(id, LiveSegment { len, domain: DomainId(d.fixed()?), added_by: d.uint()? });
    }
    Ok(segments)
}

fn write_snapshots(encoder: &mut Encoder, snapshots: &[SnapshotState]) {
    encoder.array(snapshots.len());
    for snapshot in snapshots {
        encoder.array(9);
        encoder.bytes(&snapshot.id.0);
        encoder.uint(snapshot.number);
        encoder.int(snapshot.time_s);
        encoder.bytes(&snapshot.signer);
        encoder.bytes(&snapshot.body.hash);
        encoder.bytes(&snapshot.body.domain.0);
        encoder.uint(u64::from(snapshot.body.epoch));
        encoder.bool(snapshot.forgotten);
        encoder.bool(snapshot.held);
    }
}

fn read_snapshots(d: &mut Decoder<'_>) -> Result<Vec<SnapshotState>, FormatError> {
    let mut snapshots = Vec::new();
    for _ in 0..d.array(u64::MAX)? {
        tuple(d, 9)?;
        snapshots.push(SnapshotState {
            id: SnapshotId(d.fixed()?),
            number: d.uint()?,
            time_s: d.int()?,
            signer: d.fixed()?,
            body: BodySeal { hash: d.fixed()?, domain: DomainId(d.fixed()?), epoch: d.uint32()? },
            forgotten: d.bool()?,
            held: d.bool()?,
        });
    }
    Ok(snapshots)
}

/// The body of a checkpoint record: where the canonical state and the manifests are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointBody {
    /// Content list of the state.
    pub state: Content,
    /// Content list of the manifests.
    pub manifests: Content,
}

impl CheckpointBody {
    /// The CBOR of the body.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when one of them is not a list of chunks.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let list = |content: &Content| match content {
            Content::List { level, rows } => Ok((*level, rows.clone())),
            Content::Empty | Content::Inline(_) => Err(FormatError::rule(BODY, "it names chunks")),
        };
        let lists: [(u8, Vec<ChunkRef>); 2] = [list(&self.state)?, list(&self.manifests)?];
        let mut encoder = Encoder::new();
        encoder.map(|map| {
            Content::write_list(map.key(1), lists[0].0, &lists[0].1);
            Content::write_list(map.key(2), lists[1].0, &lists[1].1);
        });
        Ok(encoder.finish())
    }

    /// Reads the CBOR of the body.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut decoder = Decoder::new(BODY, bytes);
        let mut map = decoder.map()?;
        let state = Content::read_list(at(&mut map, &mut decoder, 1)?)?;
        let manifests = Content::read_list(at(&mut map, &mut decoder, 2)?)?;
        while map.next_key(&mut decoder)?.is_some() {
            decoder.raw()?;
        }
        decoder.finish()?;
        Ok(Self { state, manifests })
    }
}

/// The manifests of a checkpoint, from snapshot ids and the bytes of their manifests in log order.
#[must_use]
pub fn encode_manifests(manifests: &[(SnapshotId, Vec<u8>)]) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.array(manifests.len());
    for (id, manifest) in manifests {
        encoder.array(2);
        encoder.bytes(&id.0);
        encoder.bytes(manifest);
    }
    encoder.finish()
}

/// Reads the manifests of a checkpoint.
///
/// # Errors
/// [`FormatError`] when they are malformed, or a snapshot comes twice.
pub fn decode_manifests(bytes: &[u8]) -> Result<Vec<(SnapshotId, Vec<u8>)>, FormatError> {
    check_len(MANIFESTS, bytes.len() as u64, STATE_LEN_MAX)?;
    let mut decoder = Decoder::new(MANIFESTS, bytes);
    let d = &mut decoder;
    let mut seen = BTreeSet::new();
    let mut manifests = Vec::new();
    for _ in 0..d.array(u64::MAX)? {
        tuple(d, 2)?;
        let id = SnapshotId(d.fixed()?);
        if !seen.insert(id) {
            return Err(d.fail("a snapshot comes twice"));
        }
        manifests.push((id, d.bytes(RECORD_PART_LEN_MAX)?.to_vec()));
    }
    decoder.finish()?;
    Ok(manifests)
}
