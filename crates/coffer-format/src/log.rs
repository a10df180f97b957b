//! Replay of the log: from records to the state of the vault (specification section 8.2).
//!
//! Pure: it sees bytes and a signature check, no store and no key. Void is decided from public parts alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::header::{FORMAT_MINOR, Header};
use crate::id::{DomainId, Head, PackId, SegmentId, SlotId, SnapshotId, VaultId};
use crate::limits::{GAP_LEN_MAX, RECORD_LEN_MAX, WRITER_GAP_LEN_MAX};
use crate::record::{
    BodySeal, Details, EpochDetails, OrphanName, Public, Record, RecordKind, Role, RoleAction, SegmentAdded,
    chain_value, chain_value_oversize,
};

/// Checks an Ed25519 signature: verifying key, signed bytes (the public part), signature.
pub type SignatureCheck<'a> = &'a dyn Fn(&[u8; 32], &[u8], &[u8; 64]) -> bool;

/// Why a record is void. The order is the order of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "section 8.2 of the specification describes each")]
pub enum VoidReason {
    Malformed,
    Foreign,
    Body,
    Version,
    Signer,
    Signature,
    Chain,
    Home,
    Term,
    Kind,
    Role,
    Domain,
    Segment,
    Details,
}

impl VoidReason {
    /// The word the specification uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Foreign => "foreign",
            Self::Body => "body",
            Self::Version => "version",
            Self::Signer => "signer",
            Self::Signature => "signature",
            Self::Chain => "chain",
            Self::Home => "home",
            Self::Term => "term",
            Self::Kind => "kind",
            Self::Role => "role",
            Self::Domain => "domain",
            Self::Segment => "segment",
            Self::Details => "details",
        }
    }

    /// Whether an enrolled signer is proved to have written the record (it passed rules 1 to 6).
    #[must_use]
    pub const fn is_authentic(self) -> bool {
        !matches!(
            self,
            Self::Malformed | Self::Foreign | Self::Body | Self::Version | Self::Signer | Self::Signature
        )
    }
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It took effect.
    Effective,
    /// It changes nothing.
    Void(VoidReason),
    /// It is absent although later records exist.
    Missing,
}

/// What stands in the store under the name of a record.
#[derive(Debug, Clone, Copy)]
pub enum StoredRecord<'a> {
    /// The whole object, of at most [`RECORD_LEN_MAX`] bytes.
    Whole(&'a [u8]),
    /// The first [`RECORD_LEN_MAX`] bytes of a longer object, and its length.
    Oversize(&'a [u8], u64),
    /// Nothing, although a later authentic record exists.
    Missing,
}

/// An enrolled or revoked signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// Its role.
    pub role: Role,
    /// Domains it may write, for role `put`.
    pub domains: Vec<DomainId>,
    /// Whether it was revoked.
    pub revoked: bool,
}

impl Signer {
    /// Whether what it says of damage counts for good. What a writer says counts while it is enrolled: it may have made it up.
    const fn is_trusted(&self) -> bool {
        matches!(self.role, Role::Owner | Role::Maintainer)
    }

    /// How far before it a record that it signed shows that others were there.
    const fn reach(&self) -> u64 {
        if self.is_trusted() { GAP_LEN_MAX } else { WRITER_GAP_LEN_MAX }
    }
}

/// A live index segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveSegment {
    /// Length of the object in bytes.
    pub len: u64,
    /// Its dedup domain.
    pub domain: DomainId,
    /// Number of the record that added it.
    pub added_by: u64,
}

/// A snapshot the log knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotState {
    /// Its id.
    pub id: SnapshotId,
    /// Number of the record that made it effective.
    pub number: u64,
    /// Time by the signer's clock, seconds since 1970 UTC.
    pub time_s: i64,
    /// Who signed it.
    pub signer: [u8; 32],
    /// How its manifest is sealed.
    pub body: BodySeal,
    /// Whether it was forgotten.
    pub forgotten: bool,
    /// Whether it is held.
    pub held: bool,
}

/// An epoch of the vault key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Its sealing public key.
    pub sealing_key: Box<[u8; 1216]>,
    /// Its owner's verifying key.
    pub owner_key: [u8; 32],
    /// The record's details; none for epoch 0.
    pub details: Option<EpochDetails>,
}

/// The state of a vault after some records.
#[derive(Debug, Clone)]
pub struct LogState {
    /// The vault.
    pub vault: VaultId,
    /// The minor version in force.
    pub minor: u64,
    /// The term in force.
    pub term: u64,
    /// The home in force.
    pub home: [u8; 16],
    /// Epochs by number.
    pub epochs: Vec<Epoch>,
    /// Epoch in which new domains are made.
    pub domain_epoch: u32,
    /// Current key slots, ascending.
    pub slots: Vec<SlotId>,
    /// Every slot that a record which took effect has named, current or not; `None` where that is not known, behind a checkpoint.
    pub named_slots: Option<BTreeSet<SlotId>>,
    /// Signers by verifying key.
    pub signers: BTreeMap<[u8; 32], Signer>,
    /// Live index segments.
    pub segments: BTreeMap<SegmentId, LiveSegment>,
    /// Removed index segments as they were when live; those released for deletion are not among them.
    pub removed: BTreeMap<SegmentId, LiveSegment>,
    /// Objects condemned as orphans and not released yet.
    pub orphans: BTreeSet<OrphanName>,
    /// Index segments released for deletion.
    pub swept_segments: BTreeSet<SegmentId>,
    /// Packs released for deletion.
    pub swept_packs: BTreeSet<PackId>,
    /// Snapshots in log order.
    pub snapshots: Vec<SnapshotState>,
    /// Records that are damaged or missing, as somebody says whose word counts; ascending.
    pub damaged: Vec<u64>,
    /// Who says so of each of them. Of a missing record nobody has, before the record that proves it is applied.
    pub claims: BTreeMap<u64, [u8; 32]>,
    /// The number of the next record.
    pub next: u64,
    /// Whether the policy in force needs a newer program; then nothing after it is understood.
    pub needs_minor: Option<u64>,
    /// Number of the last effective checkpoint.
    pub last_checkpoint: Option<u64>,
    /// Number of the last effective policy.
    pub last_policy: Option<u64>,
    chain: Option<[u8; 32]>,
    previous_authentic: bool,
    last_prune_or_sweep: Option<u64>,
}

impl LogState {
    /// The state before record 0 of the vault with this header.
    #[must_use]
    pub fn new(vault: VaultId, header: &Header) -> Self {
        let owner = Signer { role: Role::Owner, domains: Vec::new(), revoked: false };
        let epoch =
            Epoch { sealing_key: header.sealing_key.clone(), owner_key: header.owner_key, details: None };
        Self {
            vault,
            minor: header.minor,
            term: 0,
            home: [0; 16],
            epochs: vec![epoch],
            domain_epoch: 0,
            slots: Vec::new(),
            named_slots: Some(BTreeSet::new()),
            signers: BTreeMap::from([(header.owner_key, owner)]),
            segments: BTreeMap::new(),
            removed: BTreeMap::new(),
            orphans: BTreeSet::new(),
            swept_segments: BTreeSet::new(),
            swept_packs: BTreeSet::new(),
            snapshots: Vec::new(),
            damaged: Vec::new(),
            claims: BTreeMap::new(),
            next: 0,
            needs_minor: None,
            last_checkpoint: None,
            last_policy: None,
            chain: Some([0; 32]),
            previous_authentic: true,
            last_prune_or_sweep: None,
        }
    }

    /// The head after the records applied so far; `None` before record 0 or right after a missing one.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        let number = self.next.checked_sub(1)?;
        Some(Head { number, chain: self.chain? })
    }

    /// Whether a record signed by `signer` now would be by an enrolled signer.
    #[must_use]
    pub fn signer(&self, key: &[u8; 32]) -> Option<&Signer> {
        self.signers.get(key).filter(|signer| !signer.revoked)
    }

    /// Number of the newest epoch.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        u32::try_from(self.epochs.len() - 1).unwrap_or(u32::MAX)
    }

    /// The public part with which a record of `kind` by `signer` would come next.
    #[must_use]
    pub fn next_public(&self, kind: RecordKind, signer: [u8; 32]) -> Public {
        let mut public = Public::new(self.vault, self.next, kind, signer);
        public.term = self.term;
        public.home = self.home;
        public.minor = self.minor;
        public.previous = self.chain.unwrap_or_default();
        public
    }

    /// Whether an enrolled signer signed these bytes for this number.
    #[must_use]
    pub fn is_evidence(&self, number: u64, bytes: &[u8], check: SignatureCheck<'_>) -> bool {
        self.signer_of(number, bytes, check).is_some()
    }

    /// Whether bytes found beyond a gap, which begins at the next number, prove that the log once went on up to them.
    #[must_use]
    pub fn proves_gap(&self, number: u64, bytes: &[u8], check: SignatureCheck<'_>) -> bool {
        let signer = self.signer_of(number, bytes, check);
        signer.is_some_and(|(_, signer)| number.saturating_sub(self.next) <= signer.reach())
    }

    fn signer_of(&self, number: u64, bytes: &[u8], check: SignatureCheck<'_>) -> Option<([u8; 32], &Signer)> {
        let record = Record::decode(bytes).ok()?;
        let public = &record.public;
        let signer = self.signer(&public.signer).filter(|_| {
            public.vault == self.vault
                && public.number == number
                && check(&public.signer, record.public_bytes, &record.signature)
        })?;
        Some((public.signer, signer))
    }

    /// Whoever signed the next record, `bytes`, claims missing records before it, as far as nobody did.
    fn claim_missing(&mut self, bytes: &[u8], check: SignatureCheck<'_>) {
        if self.claims.len() == self.damaged.len() {
            return;
        }
        let Some((key, signer)) = self.signer_of(self.next, bytes, check) else { return };
        let (next, reach) = (self.next, signer.reach());
        for number in self.damaged.iter().rev().take_while(|number| next - **number <= reach) {
            self.claims.entry(*number).or_insert(key);
        }
    }

    /// Applies what stands in the store as record number `self.next`.
    pub fn apply(&mut self, stored: StoredRecord<'_>, check: SignatureCheck<'_>) -> Outcome {
        let (bytes, chain) = match stored {
            StoredRecord::Missing => {
                self.damaged.push(self.next);
                (None, None)
            }
            StoredRecord::Oversize(first, len) => (None, Some(chain_value_oversize(first, len))),
            StoredRecord::Whole(bytes) => {
                let max = usize::try_from(RECORD_LEN_MAX).unwrap_or(usize::MAX);
                match bytes.get(..max) {
                    Some(first) if first.len() < bytes.len() => {
                        (None, Some(chain_value_oversize(first, bytes.len() as u64)))
                    }
                    _ => (Some(bytes), Some(chain_value(bytes))),
                }
            }
        };
        if let Some(bytes) = bytes {
            self.claim_missing(bytes, check);
        }
        let outcome = match (bytes, stored) {
            (Some(bytes), _) => match self.judge(bytes, check) {
                Ok((record, kind, details)) => {
                    self.take_effect(&record.public, kind, details, SnapshotId(chain.unwrap_or_default()));
                    Outcome::Effective
                }
                Err(reason) => Outcome::Void(reason),
            },
            (None, StoredRecord::Missing) => Outcome::Missing,
            (None, _) => Outcome::Void(VoidReason::Malformed),
        };
        self.previous_authentic = match outcome {
            Outcome::Effective => true,
            Outcome::Void(reason) => reason.is_authentic(),
            Outcome::Missing => false,
        };
        self.chain = chain;
        self.next += 1;
        outcome
    }

    /// Decides whether the record is void, by the rules in their order.
    fn judge<'a>(
        &mut self,
        bytes: &'a [u8],
        check: SignatureCheck<'_>,
    ) -> Result<(Record<'a>, RecordKind, Details), VoidReason> {
        let record = Record::decode(bytes).map_err(|_| VoidReason::Malformed)?;
        let public = &record.public;
        let require = |holds: bool, reason| if holds { Ok(()) } else { Err(reason) };
        require(public.vault == self.vault && public.number == self.next, VoidReason::Foreign)?;
        let hash = (!record.body.is_empty()).then(|| chain_value(record.body));
        require(public.body.map(|body| body.hash) == hash, VoidReason::Body)?;
        require(public.minor <= self.minor, VoidReason::Version)?;
        let signer = self.signer(&public.signer).ok_or(VoidReason::Signer)?.clone();
        require(check(&public.signer, record.public_bytes, &record.signature), VoidReason::Signature)?;
        if self.chain != Some(public.previous) {
            if self.previous_authentic {
                return Err(VoidReason::Chain);
            }
            let before = self.next - 1;
            if self.damaged.last() != Some(&before) {
                self.damaged.push(before);
            }
            self.claims.entry(before).or_insert(public.signer);
        }
        require(public.home == self.home, VoidReason::Home)?;
        let promotes = public.kind == RecordKind::Promote.number();
        require(public.term == self.term + u64::from(promotes), VoidReason::Term)?;
        let kind = RecordKind::from_number(public.kind).ok_or(VoidReason::Kind)?;
        require(signer.role.may_sign(kind) && keys_fit(public, kind), VoidReason::Role)?;
        let body_domain = public.body.map(|body| body.domain);
        let mut domains = public.segments_added.iter().map(|segment| segment.domain).chain(body_domain);
        require(
            signer.role != Role::Put || domains.all(|domain| signer.domains.contains(&domain)),
            VoidReason::Domain,
        )?;
        require(self.segments_fit(&public.segments_added, &public.segments_removed), VoidReason::Segment)?;
        let details = Details::decode(kind, self.next == 0, public.details.as_deref());
        let details = details.map_err(|_| VoidReason::Details)?;
        require(self.details_fit(public, kind, &details, check), VoidReason::Details)?;
        Ok((record, kind, details))
    }

    fn segments_fit(&self, added: &[SegmentAdded], removed: &[SegmentId]) -> bool {
        let fresh = |id: &SegmentId| !self.segments.contains_key(id) && !self.removed.contains_key(id);
        added.iter().all(|segment| fresh(&segment.id) && !self.swept_segments.contains(&segment.id))
            && removed.iter().all(|id| self.segments.contains_key(id))
    }

    fn details_fit(
        &self,
        public: &Public,
        kind: RecordKind,
        details: &Details,
        check: SignatureCheck<'_>,
    ) -> bool {
        let known = |ids: &[SnapshotId]| ids.iter().all(|id| self.snapshot(id).is_some());
        let base_fits =
            |base: u64| base < self.next && self.last_prune_or_sweep.is_none_or(|last| last <= base);
        if (self.next == 0) != matches!(details, Details::Genesis { .. }) {
            return false;
        }
        match details {
            Details::None | Details::Approval { .. } | Details::Locks { .. } | Details::Evidence { .. } => {
                true
            }
            Details::Snapshots { ids } => {
                known(ids)
                    && (kind != RecordKind::Forget
                        || ids.iter().all(|id| self.snapshot(id).is_some_and(|snapshot| !snapshot.held)))
            }
            Details::Hold { ids, .. } => known(ids),
            Details::Prune { base, .. } => base_fits(*base),
            Details::Sweep { base, segments, .. } => {
                base_fits(*base) && segments.iter().all(|id| !self.segments.contains_key(id))
            }
            Details::Genesis { header } => Header::vault_id(header) == self.vault,
            Details::Epoch(epoch) => {
                epoch.number == self.epoch() + 1 && !self.signers.contains_key(&epoch.owner_key)
            }
            Details::Role(RoleAction::Enrol { key, .. }) => !self.signers.contains_key(key),
            Details::Role(RoleAction::Revoke { key }) => {
                self.signer(key).is_some_and(|signer| signer.role != Role::Owner)
            }
            Details::Policy { minor } => minor.is_none_or(|minor| minor >= self.minor),
            Details::Handover { home } => *home != self.home,
            Details::Promote { last, chain, .. } => {
                Some(*last) == self.next.checked_sub(1) && *chain == public.previous
            }
            Details::Reconcile { records } => {
                let (mut seen, mut ids) = (BTreeSet::new(), BTreeSet::new());
                records.iter().all(|bytes| {
                    self.quoted(bytes, &mut seen, check).is_some() && ids.insert(chain_value(bytes))
                })
            }
            Details::Checkpoint { number, .. } => Some(*number) == self.next.checked_sub(1),
        }
    }

    /// A record quoted by `reconcile`, if it may be taken over.
    fn quoted<'a>(
        &self,
        bytes: &'a [u8],
        seen: &mut BTreeSet<SegmentId>,
        check: SignatureCheck<'_>,
    ) -> Option<Record<'a>> {
        let record = Record::decode(bytes).ok()?;
        let public = &record.public;
        let kind = RecordKind::from_number(public.kind)?;
        let signer = self.signer(&public.signer)?;
        let body_domain = public.body.map(|body| body.domain);
        let mut domains = public.segments_added.iter().map(|segment| segment.domain).chain(body_domain);
        let fits = public.vault == self.vault
            && matches!(kind, RecordKind::Snapshot | RecordKind::Progress)
            && signer.role.may_sign(kind)
            && keys_fit(public, kind)
            && public.minor <= self.minor
            && public.body.map(|body| body.hash)
                == (!record.body.is_empty()).then(|| chain_value(record.body))
            && (signer.role != Role::Put || domains.all(|domain| signer.domains.contains(&domain)))
            && self.segments_fit(&public.segments_added, &[])
            && public.segments_added.iter().all(|segment| seen.insert(segment.id))
            && Details::decode(kind, false, public.details.as_deref()).is_ok()
            && self.snapshot(&SnapshotId(chain_value(bytes))).is_none()
            && check(&public.signer, record.public_bytes, &record.signature);
        fits.then_some(record)
    }

    /// The snapshot with this id.
    #[must_use]
    pub fn snapshot(&self, id: &SnapshotId) -> Option<&SnapshotState> {
        self.snapshots.iter().rev().find(|snapshot| snapshot.id == *id)
    }

    fn take_effect(&mut self, public: &Public, kind: RecordKind, details: Details, id: SnapshotId) {
        for segment in &public.segments_removed {
            if let Some(live) = self.segments.remove(segment) {
                self.removed.insert(*segment, live);
            }
        }
        self.add_segments(&public.segments_added);
        if let Some(slots) = &public.slots {
            self.slots.clone_from(slots);
            if let Some(named) = &mut self.named_slots {
                named.extend(slots);
            }
        }
        if kind == RecordKind::Snapshot {
            self.add_snapshot(public, id);
        }
        match kind {
            RecordKind::Prune | RecordKind::Sweep => self.last_prune_or_sweep = Some(self.next),
            RecordKind::Checkpoint => self.last_checkpoint = Some(self.next),
            RecordKind::Policy => self.last_policy = Some(self.next),
            _ => {}
        }
        match details {
            Details::Snapshots { ids } if kind != RecordKind::Tag => {
                let forgotten = kind == RecordKind::Forget;
                self.for_snapshots(&ids, |snapshot| snapshot.forgotten = forgotten);
            }
            Details::Hold { ids, held } => self.for_snapshots(&ids, |snapshot| snapshot.held = held),
            Details::Prune { orphans, .. } => self.orphans.extend(orphans),
            Details::Sweep { segments, packs, .. } => {
                for orphan in segments.iter().map(|id| OrphanName::Segment(*id)) {
                    self.orphans.remove(&orphan);
                }
                for orphan in packs.iter().map(|id| OrphanName::Pack(*id)) {
                    self.orphans.remove(&orphan);
                }
                self.removed.retain(|id, _| segments.binary_search(id).is_err());
                self.swept_segments.extend(segments);
                self.swept_packs.extend(packs);
            }
            Details::Epoch(epoch) => {
                let old = self.epochs.last().map(|epoch| epoch.owner_key);
                if let Some(signer) = old.and_then(|key| self.signers.get_mut(&key)) {
                    signer.revoked = true;
                }
                let owner = Signer { role: Role::Owner, domains: Vec::new(), revoked: false };
                self.signers.insert(epoch.owner_key, owner);
                if epoch.new_domains {
                    self.domain_epoch = epoch.number;
                }
                self.epochs.push(Epoch {
                    sealing_key: epoch.sealing_key.clone(),
                    owner_key: epoch.owner_key,
                    details: Some(epoch),
                });
            }
            Details::Role(RoleAction::Enrol { key, role, domains }) => {
                self.signers.insert(key, Signer { role, domains, revoked: false });
            }
            Details::Role(RoleAction::Revoke { key }) => {
                if let Some(signer) = self.signers.get_mut(&key) {
                    signer.revoked = true;
                    if !signer.is_trusted() {
                        self.damaged.retain(|number| self.claims.get(number) != Some(&key));
                        self.claims.retain(|_, claimant| *claimant != key);
                    }
                }
            }
            Details::Policy { minor: Some(minor) } => {
                self.minor = minor;
                if minor > FORMAT_MINOR {
                    self.needs_minor = Some(minor);
                }
            }
            Details::Handover { home } => self.home = home,
            Details::Promote { home, .. } => {
                self.home = home;
                self.term += 1;
            }
            Details::Reconcile { records } => {
                for bytes in &records {
                    if let Ok(record) = Record::decode(bytes) {
                        self.add_segments(&record.public.segments_added);
                        if record.public.kind == RecordKind::Snapshot.number() {
                            self.add_snapshot(&record.public, SnapshotId(chain_value(bytes)));
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn add_segments(&mut self, added: &[SegmentAdded]) {
        for segment in added {
            let live = LiveSegment { len: segment.len, domain: segment.domain, added_by: self.next };
            self.segments.insert(segment.id, live);
        }
    }

    fn add_snapshot(&mut self, public: &Public, id: SnapshotId) {
        if let Some(body) = public.body {
            let (time_s, signer) = (public.time_s, public.signer);
            let snapshot =
                SnapshotState { id, number: self.next, time_s, signer, body, forgotten: false, held: false };
            self.snapshots.push(snapshot);
        }
    }

    fn for_snapshots(&mut self, ids: &[SnapshotId], mut change: impl FnMut(&mut SnapshotState)) {
        let wanted: BTreeSet<_> = ids.iter().collect();
        self.snapshots.iter_mut().filter(|snapshot| wanted.contains(&snapshot.id)).for_each(&mut change);
    }
}

/// Whether keys 9 to 12 and 16 of a record are those that section 9 gives to its kind.
fn keys_fit(public: &Public, kind: RecordKind) -> bool {
    use RecordKind as K;
    let added = match kind {
        K::Progress => !public.segments_added.is_empty(),
        K::Snapshot | K::Unforget | K::Prune | K::Checkpoint => true,
        _ => public.segments_added.is_empty(),
    };
    let removed = kind == K::Prune || public.segments_removed.is_empty();
    let slots = matches!(kind, K::Slots | K::Epoch)
        == public.slots.as_ref().is_some_and(|slots| !slots.is_empty())
        && (matches!(kind, K::Slots | K::Epoch) || public.slots.is_none());
    let body = match kind {
        K::Slots | K::Epoch | K::Reconcile => true,
        K::Sweep | K::Locks => public.body.is_none(),
        _ => public.body.is_some(),
    };
    let details = match kind {
        K::Snapshot | K::Progress => public.details.is_none(),
        K::Slots => (public.number == 0) == public.details.is_some(),
        _ => public.details.is_some(),
    };
    added && removed && slots && body && details
}

mod state;
pub use state::{CheckpointBody, decode_manifests, encode_manifests};

#[cfg(test)]
mod tests;
