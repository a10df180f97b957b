//! Log records: the object, its public part, and the details of each kind (specification sections 8.1 and 9).

use crate::cbor::{Decoder, Encoder, Unknown, names, write_names};
use crate::error::{FormatError, check_len};
use crate::id::{DomainId, SegmentId, SlotId, VaultId};
use crate::limits::{INDEX_LEN_MAX, LOG_NUMBER_MAX, RECORD_LEN_MAX, RECORD_PART_LEN_MAX, SLOT_COUNT_MAX};

mod details;
pub use details::{Details, EpochDetails, OrphanName, Role, RoleAction};
pub(crate) use details::{read_orphans, write_orphans};

const OBJECT: &str = "log record";
const MAGIC: &[u8; 8] = b"cofflog1";
const FIXED_LEN: usize = 16;
const SIGNATURE_LEN: usize = 64;

/// Kind of a record; the discriminant is its number in the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "section 9 of the specification describes each")]
pub enum RecordKind {
    Snapshot = 1,
    Progress,
    Forget,
    Unforget,
    Hold,
    Tag,
    Prune,
    Sweep,
    Slots,
    Epoch,
    Role,
    Policy,
    Approval,
    Handover,
    Promote,
    Reconcile,
    Locks,
    Evidence,
    Checkpoint,
}

impl RecordKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 19] = [
        Self::Snapshot,
        Self::Progress,
        Self::Forget,
        Self::Unforget,
        Self::Hold,
        Self::Tag,
        Self::Prune,
        Self::Sweep,
        Self::Slots,
        Self::Epoch,
        Self::Role,
        Self::Policy,
        Self::Approval,
        Self::Handover,
        Self::Promote,
        Self::Reconcile,
        Self::Locks,
        Self::Evidence,
        Self::Checkpoint,
    ];

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The number of the kind.
    #[must_use]
    pub const fn number(self) -> u64 {
        self as u64
    }

    /// The name of the kind.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Progress => "progress",
            Self::Forget => "forget",
            Self::Unforget => "unforget",
            Self::Hold => "hold",
            Self::Tag => "tag",
            Self::Prune => "prune",
            Self::Sweep => "sweep",
            Self::Slots => "slots",
            Self::Epoch => "epoch",
            Self::Role => "role",
            Self::Policy => "policy",
            Self::Approval => "approval",
            Self::Handover => "handover",
            Self::Promote => "promote",
            Self::Reconcile => "reconcile",
            Self::Locks => "locks",
            Self::Evidence => "evidence",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// An index segment that a record adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentAdded {
    /// Its name.
    pub id: SegmentId,
    /// Length of the object in bytes.
    pub len: u64,
    /// The dedup domain it belongs to.
    pub domain: DomainId,
}

/// Which keys the body of a record is sealed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodySeal {
    /// `H` of the sealed body.
    pub hash: [u8; 32],
    /// Domain whose PSK is used.
    pub domain: DomainId,
    /// Epoch to whose sealing key it is sealed.
    pub epoch: u32,
}

/// The public part of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Public {
    /// The vault.
    pub vault: VaultId,
    /// The record's number.
    pub number: u64,
    /// The term of the log.
    pub term: u64,
    /// Chain value of the record before.
    pub previous: [u8; 32],
    /// Verifying key of the signer.
    pub signer: [u8; 32],
    /// Number of the kind; see [`RecordKind::from_number`].
    pub kind: u64,
    /// Minor version needed to understand the record.
    pub minor: u64,
    /// Time by the signer's clock, seconds since 1970 UTC; a label only.
    pub time_s: i64,
    /// How the body is sealed, if there is one.
    pub body: Option<BodySeal>,
    /// Index segments added, ascending by name.
    pub segments_added: Vec<SegmentAdded>,
    /// Index segments removed, ascending.
    pub segments_removed: Vec<SegmentId>,
    /// All key slots current from here on.
    pub slots: Option<Vec<SlotId>>,
    /// Home of the log the record is meant for.
    pub home: [u8; 16],
    /// Details by kind, as CBOR.
    pub details: Option<Vec<u8>>,
    unknown: Unknown,
}

impl Public {
    /// A public part with nothing in it but where it belongs.
    #[must_use]
    pub fn new(vault: VaultId, number: u64, kind: RecordKind, signer: [u8; 32]) -> Self {
        Self {
            vault,
            number,
            term: 0,
            previous: [0; 32],
            signer,
            kind: kind.number(),
            minor: 0,
            time_s: 0,
            body: None,
            segments_added: Vec::new(),
            segments_removed: Vec::new(),
            slots: None,
            home: [0; 16],
            details: None,
            unknown: Unknown::default(),
        }
    }

    /// The bytes that are signed.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.map(|map| {
            self.unknown.write_low(map);
            map.key(1).bytes(&self.vault.0);
            map.key(2).uint(self.number);
            map.key(3).uint(self.term);
            map.key(4).bytes(&self.previous);
            map.key(5).bytes(&self.signer);
            map.key(6).uint(self.kind);
            map.key(7).uint(self.minor);
            map.key(8).int(self.time_s);
            if let Some(body) = &self.body {
                map.key(9).bytes(&body.hash);
            }
            if !self.segments_added.is_empty() {
                let value = map.key(10);
                value.array(self.segments_added.len());
                for segment in &self.segments_added {
                    value.array(3);
                    value.bytes(&segment.id.0);
                    value.uint(segment.len);
                    value.bytes(&segment.domain.0);
                }
            }
            if !self.segments_removed.is_empty() {
                write_names(map.key(11), &self.segments_removed.iter().map(|id| id.0).collect::<Vec<_>>());
            }
            if let Some(slots) = &self.slots {
                write_names(map.key(12), &slots.iter().map(|id| id.0).collect::<Vec<_>>());
            }
            if let Some(body) = &self.body {
                map.key(13).bytes(&body.domain.0);
                map.key(14).uint(u64::from(body.epoch));
            }
            if self.home != [0; 16] {
                map.key(15).bytes(&self.home);
            }
            if let Some(details) = &self.details {
                map.key(16).raw(details);
            }
            self.unknown.write(map);
        });
        encoder.finish()
    }

    /// Reads a public part.
    ///
    /// # Errors
    /// What is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut d = Decoder::new(OBJECT, bytes);
        let mut unknown = Unknown::default();
        let (mut vault, mut number, mut term, mut previous, mut signer) = (None, None, None, None, None);
        let (mut kind, mut minor, mut time_s, mut hash, mut domain, mut epoch) =
            (None, None, None, None, None, None);
        let (mut added, mut removed, mut slots, mut home, mut details) = (None, None, None, None, None);
        let mut map = d.map()?;
        while let Some(key) = map.next_key(&mut d)? {
            match key {
                1 => vault = Some(VaultId(d.fixed()?)),
                2 => number = Some(d.uint()?),
                3 => term = Some(d.uint()?),
                4 => previous = Some(d.fixed()?),
                5 => signer = Some(d.fixed()?),
                6 => kind = Some(d.uint()?),
                7 => minor = Some(d.uint()?),
                8 => time_s = Some(d.int()?),
                9 => hash = Some(d.fixed()?),
                10 => added = Some(decode_segments(&mut d)?),
                11 => removed = Some(some_names(&mut d, u64::MAX)?.into_iter().map(SegmentId).collect()),
                12 => slots = Some(some_names(&mut d, SLOT_COUNT_MAX)?.into_iter().map(SlotId).collect()),
                13 => domain = Some(DomainId(d.fixed()?)),
                14 => epoch = Some(d.uint32()?),
                15 => home = Some(d.fixed()?),
                16 => {
                    d.clone().map()?;
                    details = Some(d.raw_within(1)?.to_vec());
                }
                _ => unknown.keep(key, &mut d, 1)?,
            }
        }
        d.finish()?;
        let absent = || FormatError::rule(OBJECT, "a key is absent");
        let body = match (hash, domain, epoch) {
            (Some(hash), Some(domain), Some(epoch)) => Some(BodySeal { hash, domain, epoch }),
            (None, None, None) => None,
            _ => return Err(FormatError::rule(OBJECT, "keys 9, 13 and 14 stand together")),
        };
        if number.is_some_and(|number| number > LOG_NUMBER_MAX) {
            return Err(FormatError::rule(OBJECT, "its number is over the limit"));
        }
        if home == Some([0; 16]) {
            return Err(FormatError::rule(OBJECT, "the first home is written by leaving it out"));
        }
        Ok(Self {
            vault: vault.ok_or_else(absent)?,
            number: number.ok_or_else(absent)?,
            term: term.ok_or_else(absent)?,
            previous: previous.ok_or_else(absent)?,
            signer: signer.ok_or_else(absent)?,
            kind: kind.ok_or_else(absent)?,
            minor: minor.ok_or_else(absent)?,
            time_s: time_s.ok_or_else(absent)?,
            body,
            segments_added: added.unwrap_or_default(),
            segments_removed: removed.unwrap_or_default(),
            slots,
            home: home.unwrap_or_default(),
            details,
            unknown,
        })
    }
}

fn some_names(d: &mut Decoder<'_>, count_max: u64) -> Result<Vec<[u8; 32]>, FormatError> {
    let names = names(d, count_max)?;
    if names.is_empty() { Err(d.fail("an empty list is written by leaving it out")) } else { Ok(names) }
}

fn decode_segments(d: &mut Decoder<'_>) -> Result<Vec<SegmentAdded>, FormatError> {
    let count = d.array(u64::MAX)?;
    if count == 0 {
        return Err(d.fail("an empty list is written by leaving it out"));
    }
    let mut segments: Vec<SegmentAdded> = Vec::new();
    for _ in 0..count {
        if d.array(3)? != 3 {
            return Err(d.fail("a segment has name, length and domain"));
        }
        let segment =
            SegmentAdded { id: SegmentId(d.fixed()?), len: d.uint()?, domain: DomainId(d.fixed()?) };
        if segments.last().is_some_and(|last| last.id >= segment.id) {
            return Err(d.fail("names are not ascending"));
        }
        if segment.len > INDEX_LEN_MAX {
            return Err(d.fail("an index segment is over the limit"));
        }
        segments.push(segment);
    }
    Ok(segments)
}

/// A record object taken apart; nothing but its structure has been checked.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// The public part.
    pub public: Public,
    /// The bytes of the public part, which are signed.
    pub public_bytes: &'a [u8],
    /// The sealed body; empty if there is none.
    pub body: &'a [u8],
    /// The signature.
    pub signature: [u8; 64],
}

impl<'a> Record<'a> {
    /// Takes a record object apart.
    ///
    /// # Errors
    /// What is malformed or too long.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, FormatError> {
        check_len(OBJECT, bytes.len() as u64, RECORD_LEN_MAX)?;
        let fail = |rule| FormatError::rule(OBJECT, rule);
        let number = |at: usize| {
            let field: Option<[u8; 4]> = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
            field.map(u32::from_le_bytes).ok_or_else(|| fail("it ends too early"))
        };
        if !bytes.starts_with(MAGIC) {
            return Err(fail("it does not begin as a log record does"));
        }
        let (public_len, body_len) = (number(8)?, number(12)?);
        check_len("public part of a log record", u64::from(public_len), RECORD_PART_LEN_MAX)?;
        check_len("body of a log record", u64::from(body_len), RECORD_PART_LEN_MAX)?;
        let rest = &bytes[FIXED_LEN..];
        let (public_len, body_len) = (public_len as usize, body_len as usize);
        if rest.len() != public_len + body_len + SIGNATURE_LEN {
            return Err(fail("its length is not what its head says"));
        }
        let (public_bytes, rest) = rest.split_at(public_len);
        let (body, signature) = rest.split_at(body_len);
        let public = Public::decode(public_bytes)?;
        if public.body.is_some() == body.is_empty() {
            return Err(fail("body and keys 9, 13 and 14 go together"));
        }
        let signature = signature.try_into().map_err(|_| fail("its signature has another length"))?;
        Ok(Self { public, public_bytes, body, signature })
    }

    /// Puts a record object together.
    ///
    /// # Errors
    /// [`FormatError::TooLong`] when a part or the whole is over its limit.
    pub fn assemble(public_bytes: &[u8], body: &[u8], signature: &[u8; 64]) -> Result<Vec<u8>, FormatError> {
        let part = |object, len: usize| {
            check_len(object, len as u64, RECORD_PART_LEN_MAX)?;
            u32::try_from(len).map_err(|_| FormatError::rule(OBJECT, "a part is over the limit"))
        };
        let mut out = Vec::with_capacity(FIXED_LEN + public_bytes.len() + body.len() + SIGNATURE_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&part("public part of a log record", public_bytes.len())?.to_le_bytes());
        out.extend_from_slice(&part("body of a log record", body.len())?.to_le_bytes());
        out.extend_from_slice(public_bytes);
        out.extend_from_slice(body);
        out.extend_from_slice(signature);
        check_len(OBJECT, out.len() as u64, RECORD_LEN_MAX)?;
        Ok(out)
    }
}

/// Chain value of a record object of at most [`RECORD_LEN_MAX`] bytes.
#[must_use]
pub fn chain_value(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// Chain value of a longer object, from its first [`RECORD_LEN_MAX`] bytes and its length.
#[must_use]
pub fn chain_value_oversize(first: &[u8], len: u64) -> [u8; 32] {
    *blake3::Hasher::new().update(first).update(&len.to_le_bytes()).finalize().as_bytes()
}

/// The sealed body of a record, taken apart.
#[derive(Debug, Clone, Copy)]
pub struct SealedBody<'a> {
    /// Salt.
    pub salt: &'a [u8; 32],
    /// HPKE encapsulation.
    pub enc: &'a [u8; 1120],
    /// Key commitment.
    pub commitment: &'a [u8; 32],
    /// Ciphertext with tag.
    pub sealed: &'a [u8],
}

impl<'a> SealedBody<'a> {
    /// Takes a sealed body apart.
    ///
    /// # Errors
    /// [`FormatError::Malformed`] when it is too short.
    pub fn decode(body: &'a [u8]) -> Result<Self, FormatError> {
        let short = FormatError::rule("record body", "it ends too early");
        let Some((salt, rest)) = body.split_first_chunk() else { return Err(short) };
        let Some((enc, rest)) = rest.split_first_chunk() else { return Err(short) };
        let Some((commitment, sealed)) = rest.split_first_chunk() else { return Err(short) };
        Ok(Self { salt, enc, commitment, sealed })
    }
}

const BODY_PAD: usize = 512;

/// Pads the CBOR of a body to the plaintext that is sealed.
///
/// # Errors
/// [`FormatError::TooLong`] when it would not fit a record.
pub fn pad_body(cbor: &[u8]) -> Result<Vec<u8>, FormatError> {
    check_len("record body", cbor.len() as u64, RECORD_PART_LEN_MAX - 2048)?;
    let len =
        u32::try_from(cbor.len()).map_err(|_| FormatError::rule("record body", "it is over the limit"))?;
    let mut out = Vec::with_capacity((cbor.len() + 4).next_multiple_of(BODY_PAD) + 16);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(cbor);
    out.resize(out.len().next_multiple_of(BODY_PAD), 0);
    Ok(out)
}

/// The CBOR inside a body's plaintext.
///
/// # Errors
/// [`FormatError::Malformed`] when length or padding are wrong.
pub fn unpad_body(plain: &[u8]) -> Result<&[u8], FormatError> {
    let fail = FormatError::rule("record body", "its padding is wrong");
    let Some((len, rest)) = plain.split_first_chunk::<4>() else { return Err(fail) };
    let len = u32::from_le_bytes(*len) as usize;
    match rest.split_at_checked(len) {
        Some((cbor, zeros))
            if plain.len().is_multiple_of(BODY_PAD)
                && zeros.len() < BODY_PAD
                && zeros.iter().all(|byte| *byte == 0) =>
        {
            Ok(cbor)
        }
        _ => Err(fail),
    }
}

#[cfg(test)]
mod tests;
