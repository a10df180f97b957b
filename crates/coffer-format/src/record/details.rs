//! Public details of each record kind (specification section 9).

use super::RecordKind;
use crate::cbor::{Decoder, Encoder, names, write_names};
use crate::error::FormatError;
use crate::id::{DomainId, PackId, SegmentId, SnapshotId};
use crate::limits::{HEADER_LEN_MAX, RECORD_LEN_MAX};

const OBJECT: &str = "details of a log record";

/// What a signer may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Owner,
    /// Prune, sweep, locks.
    Maintainer,
    /// Adds snapshots in its own domains.
    Put,
    /// Signs nothing.
    Read,
}

impl Role {
    /// Number of the role.
    #[must_use]
    pub const fn number(self) -> u64 {
        match self {
            Self::Owner => 1,
            Self::Maintainer => 2,
            Self::Put => 3,
            Self::Read => 4,
        }
    }

    /// The role with this number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        [Self::Owner, Self::Maintainer, Self::Put, Self::Read]
            .into_iter()
            .find(|role| role.number() == number)
    }

    /// Whether section 9 lets the role sign this kind.
    #[must_use]
    pub const fn may_sign(self, kind: RecordKind) -> bool {
        use RecordKind as K;
        match self {
            Self::Owner => true,
            Self::Maintainer => matches!(
                kind,
                K::Forget
                    | K::Unforget
                    | K::Hold
                    | K::Tag
                    | K::Prune
                    | K::Sweep
                    | K::Approval
                    | K::Locks
                    | K::Evidence
                    | K::Checkpoint
            ),
            Self::Put => matches!(kind, K::Snapshot | K::Progress | K::Evidence),
            Self::Read => false,
        }
    }
}

/// What a role record does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleAction {
    /// Enrols a key.
    Enrol {
        /// The key.
        key: [u8; 32],
        /// Its role.
        role: Role,
        /// Domains it may write, for role `put`.
        domains: Vec<DomainId>,
    },
    /// Revokes a key.
    Revoke {
        /// The key.
        key: [u8; 32],
    },
}

/// Details of an epoch record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochDetails {
    /// Number of the epoch.
    pub number: u32,
    /// Its sealing public key.
    pub sealing_key: Box<[u8; 1216]>,
    /// Its owner's verifying key.
    pub owner_key: [u8; 32],
    /// The previous vault key, sealed under the new one.
    pub previous_vault_key: [u8; 48],
    /// The previous reader secret, sealed under the new one.
    pub previous_reader_secret: [u8; 48],
    /// Whether new domains are made in this epoch from here on.
    pub new_domains: bool,
}

/// An object that no record knew, condemned by a prune.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrphanName {
    /// A pack.
    Pack(PackId),
    /// An index segment.
    Segment(SegmentId),
}

/// Public details of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "section 9 of the specification describes each field")]
pub enum Details {
    None,
    Snapshots { ids: Vec<SnapshotId> },
    Hold { ids: Vec<SnapshotId>, held: bool },
    Prune { base: u64, orphans: Vec<OrphanName> },
    Sweep { base: u64, segments: Vec<SegmentId>, packs: Vec<PackId> },
    Genesis { header: Vec<u8> },
    Epoch(EpochDetails),
    Role(RoleAction),
    Policy { minor: Option<u64> },
    Approval { hash: [u8; 32], approved: bool },
    Handover { home: [u8; 16] },
    Promote { home: [u8; 16], last: u64, chain: [u8; 32] },
    Reconcile { records: Vec<Vec<u8>> },
    Locks { until_s: i64, object_count: u64 },
    Evidence { hash: [u8; 32] },
    Checkpoint { number: u64, state_hash: [u8; 32] },
}

/// Values of a details map by key; each kind picks what it needs and rejects the rest as unknown keys to skip.
struct Fields<'a> {
    fields: Vec<(u64, &'a [u8])>,
}

impl<'a> Fields<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut d = Decoder::new(OBJECT, bytes);
        let mut map = d.map()?;
        let mut fields = Vec::new();
        while let Some(key) = map.next_key(&mut d)? {
            fields.push((key, d.raw_within(1)?));
        }
        d.finish()?;
        Ok(Self { fields })
    }

    fn optional(&self, key: u64) -> Option<Decoder<'a>> {
        self.fields.iter().find(|field| field.0 == key).map(|field| Decoder::new(OBJECT, field.1))
    }

    fn required(&self, key: u64) -> Result<Decoder<'a>, FormatError> {
        self.optional(key).ok_or_else(|| FormatError::rule(OBJECT, "a key is absent"))
    }
}

impl Details {
    /// The details as CBOR; `None` where there are none.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut e = Encoder::new();
        match self {
            Self::None => return None,
            Self::Snapshots { ids } => e.map(|map| write_ids(map.key(1), ids)),
            Self::Hold { ids, held } => e.map(|map| {
                write_ids(map.key(1), ids);
                map.key(2).bool(*held);
            }),
            Self::Prune { base, orphans } => e.map(|map| {
                map.key(1).uint(*base);
                write_orphans(map.key(2), orphans.iter());
            }),
            Self::Sweep { base, segments, packs } => e.map(|map| {
                map.key(1).uint(*base);
                write_names(map.key(2), &segments.iter().map(|id| id.0).collect::<Vec<_>>());
                write_names(map.key(3), &packs.iter().map(|id| id.0).collect::<Vec<_>>());
            }),
            Self::Genesis { header } => e.map(|map| map.key(1).bytes(header)),
            Self::Epoch(epoch) => e.map(|map| {
                map.key(1).uint(u64::from(epoch.number));
                map.key(2).bytes(&epoch.sealing_key[..]);
                map.key(3).bytes(&epoch.owner_key);
                map.key(4).bytes(&epoch.previous_vault_key);
                map.key(5).bytes(&epoch.previous_reader_secret);
                map.key(6).bool(epoch.new_domains);
            }),
            Self::Role(RoleAction::Enrol { key, role, domains }) => e.map(|map| {
                map.key(1).uint(1);
                map.key(2).bytes(key);
                map.key(3).uint(role.number());
                write_names(map.key(4), &domains.iter().map(|id| id.0).collect::<Vec<_>>());
            }),
            Self::Role(RoleAction::Revoke { key }) => e.map(|map| {
                map.key(1).uint(2);
                map.key(2).bytes(key);
            }),
            Self::Policy { minor } => e.map(|map| {
                if let Some(minor) = minor {
                    map.key(1).uint(*minor);
                }
            }),
            Self::Approval { hash, approved } => e.map(|map| {
                map.key(1).bytes(hash);
                map.key(2).bool(*approved);
            }),
            Self::Handover { home } => e.map(|map| map.key(1).bytes(home)),
            Self::Promote { home, last, chain } => e.map(|map| {
                map.key(1).bytes(home);
                map.key(2).uint(*last);
                map.key(3).bytes(chain);
            }),
            Self::Reconcile { records } => e.map(|map| {
                let value = map.key(1);
                value.array(records.len());
                records.iter().for_each(|record| value.bytes(record));
            }),
            Self::Locks { until_s, object_count } => e.map(|map| {
                map.key(1).int(*until_s);
                map.key(2).uint(*object_count);
            }),
            Self::Evidence { hash } => e.map(|map| map.key(1).bytes(hash)),
            Self::Checkpoint { number, state_hash } => e.map(|map| {
                map.key(1).uint(*number);
                map.key(2).bytes(state_hash);
            }),
        }
        Some(e.finish())
    }

    /// Reads the details of a record of `kind`; `first` says whether it is record 0.
    ///
    /// # Errors
    /// When a key is absent, wrong, or the kind has no details.
    pub fn decode(kind: RecordKind, first: bool, bytes: Option<&[u8]>) -> Result<Self, FormatError> {
        use RecordKind as K;
        let wanted = match kind {
            K::Snapshot | K::Progress => false,
            K::Slots => first,
            _ => true,
        };
        let Some(bytes) = bytes else {
            let missing = FormatError::rule(OBJECT, "they are absent");
            return if wanted { Err(missing) } else { Ok(Self::None) };
        };
        if !wanted {
            return Err(FormatError::rule(OBJECT, "this kind has none"));
        }
        let f = Fields::read(bytes)?;
        Ok(match kind {
            K::Snapshot | K::Progress => Self::None,
            K::Forget | K::Unforget | K::Tag => Self::Snapshots { ids: read_ids(&f)? },
            K::Hold => Self::Hold { ids: read_ids(&f)?, held: f.required(2)?.bool()? },
            K::Prune => {
                Self::Prune { base: f.required(1)?.uint()?, orphans: read_orphans(&mut f.required(2)?)? }
            }
            K::Sweep => Self::Sweep {
                base: f.required(1)?.uint()?,
                segments: names(&mut f.required(2)?, u64::MAX)?.into_iter().map(SegmentId).collect(),
                packs: names(&mut f.required(3)?, u64::MAX)?.into_iter().map(PackId).collect(),
            },
            K::Slots => Self::Genesis { header: f.required(1)?.bytes(HEADER_LEN_MAX)?.to_vec() },
            K::Epoch => Self::Epoch(EpochDetails {
                number: f.required(1)?.uint32()?,
                sealing_key: Box::new(f.required(2)?.fixed()?),
                owner_key: f.required(3)?.fixed()?,
                previous_vault_key: f.required(4)?.fixed()?,
                previous_reader_secret: f.required(5)?.fixed()?,
                new_domains: f.required(6)?.bool()?,
            }),
            K::Role => Self::Role(read_role(&f)?),
            K::Policy => Self::Policy { minor: f.optional(1).map(|mut d| d.uint()).transpose()? },
            K::Approval => Self::Approval { hash: f.required(1)?.fixed()?, approved: f.required(2)?.bool()? },
            K::Handover => Self::Handover { home: read_home(&f)? },
            K::Promote => Self::Promote {
                home: read_home(&f)?,
                last: f.required(2)?.uint()?,
                chain: f.required(3)?.fixed()?,
            },
            K::Reconcile => {
                let mut d = f.required(1)?;
                let count = d.array(u64::MAX)?;
                let records = (0..count).map(|_| Ok(d.bytes(RECORD_LEN_MAX)?.to_vec()));
                Self::Reconcile { records: records.collect::<Result<_, FormatError>>()? }
            }
            K::Locks => Self::Locks { until_s: f.required(1)?.int()?, object_count: f.required(2)?.uint()? },
            K::Evidence => Self::Evidence { hash: f.required(1)?.fixed()? },
            K::Checkpoint => {
                Self::Checkpoint { number: f.required(1)?.uint()?, state_hash: f.required(2)?.fixed()? }
            }
        })
    }
}

fn write_ids(encoder: &mut Encoder, ids: &[SnapshotId]) {
    write_names(encoder, &ids.iter().map(|id| id.0).collect::<Vec<_>>());
}

fn read_ids(f: &Fields<'_>) -> Result<Vec<SnapshotId>, FormatError> {
    Ok(names(&mut f.required(1)?, u64::MAX)?.into_iter().map(SnapshotId).collect())
}

fn read_home(f: &Fields<'_>) -> Result<[u8; 16], FormatError> {
    f.required(1)?.fixed()
}

/// Writes an array of orphans, which ascend.
pub(crate) fn write_orphans<'o>(
    encoder: &mut Encoder,
    orphans: impl ExactSizeIterator<Item = &'o OrphanName>,
) {
    encoder.array(orphans.len());
    for orphan in orphans {
        let (kind, id) = match orphan {
            OrphanName::Pack(id) => (1, &id.0),
            OrphanName::Segment(id) => (2, &id.0),
        };
        encoder.array(2);
        encoder.uint(kind);
        encoder.bytes(id);
    }
}

/// Reads an array of orphans, which ascend.
pub(crate) fn read_orphans(d: &mut Decoder<'_>) -> Result<Vec<OrphanName>, FormatError> {
    let count = d.array(u64::MAX)?;
    let mut orphans: Vec<OrphanName> = Vec::new();
    for _ in 0..count {
        let pair = d.array(2)? == 2;
        let orphan = match if pair { d.uint()? } else { 0 } {
            1 => OrphanName::Pack(PackId(d.fixed()?)),
            2 => OrphanName::Segment(SegmentId(d.fixed()?)),
            _ => return Err(d.fail("an orphan is a pack or an index segment")),
        };
        if orphans.last().is_some_and(|last| *last >= orphan) {
            return Err(d.fail("names are not ascending"));
        }
        orphans.push(orphan);
    }
    Ok(orphans)
}

fn read_role(f: &Fields<'_>) -> Result<RoleAction, FormatError> {
    let key = f.required(2)?.fixed()?;
    match f.required(1)?.uint()? {
        1 => {
            let role = Role::from_number(f.required(3)?.uint()?).filter(|role| *role != Role::Owner);
            let role = role.ok_or_else(|| FormatError::rule(OBJECT, "the role cannot be enrolled"))?;
            let mut d = f.required(4)?;
            let count = d.array(65_536)?;
            let mut domains: Vec<DomainId> = Vec::new();
            for _ in 0..count {
                let domain = DomainId(d.fixed()?);
                if domains.last().is_some_and(|last| *last >= domain) {
                    return Err(d.fail("domains are not ascending"));
                }
                // The owner trusts what is in it: no other signer may write there, in no epoch.
                if domain == DomainId::owner(domain.epoch()) {
                    return Err(d.fail("a domain of the owner cannot be enrolled"));
                }
                domains.push(domain);
            }
            Ok(RoleAction::Enrol { key, role, domains })
        }
        2 if f.optional(3).is_none() && f.optional(4).is_none() => Ok(RoleAction::Revoke { key }),
        _ => Err(FormatError::rule(OBJECT, "the action is not known")),
    }
}

#[cfg(test)]
mod tests;
