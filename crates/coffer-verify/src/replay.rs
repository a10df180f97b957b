//! Header and log: from the objects to the state of the vault (specification sections 6 and 8).
//!
//! Records are asked for by number. Only where one is absent does the listing hint at what may lie behind the gap, and
//! only a record that an enrolled signer signed for its place proves that there is a gap at all.

use std::collections::{BTreeMap, BTreeSet};

use coffer_crypto::hash::hash;
use coffer_format::FormatError;
use coffer_format::header::Header;
use coffer_format::id::{SlotId, SnapshotId, VaultId, hex};
use coffer_format::limits::{HEADER_LEN_MAX, LOG_NUMBER_MAX, RECORD_LEN_MAX};
use coffer_format::log::{LiveSegment, LogState, Outcome, StoredRecord, VoidReason};
use coffer_format::object::ObjectName;
use coffer_format::record::{Details, Record, RecordKind, Role};
use coffer_pipeline::record::{LastSignature, signature_is_good};

use crate::error::VerifyError;
use crate::listing::Listing;
use crate::options::Options;
use crate::parallel;
use crate::progress::{Progress, Stage};
use crate::report::{Class, Counts, Findings};
use crate::source::{Fetched, ReadFault, Source};

/// Most listed records that are read in search of one that proves a gap.
const EVIDENCE_COUNT_MAX: usize = 4_096;
/// Records read at once, for each thread.
const WINDOW_COUNT: u64 = 4;
/// What they have together, unless one alone is longer.
const WINDOW_LEN_MAX: u64 = 32 << 20;
/// A record that is not listed is not read before its turn if it is longer than this.
const UNLISTED_LEN_MAX: u64 = 256 << 10;

/// The state of a vault, and what its log tells beyond that.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) header_bytes: Vec<u8>,
    pub(crate) header: Header,
    pub(crate) log: LogState,
    pub(crate) fresh_proved: bool,
    /// Every slot that an effective record named.
    pub(crate) known_slots: BTreeSet<SlotId>,
    /// Records that are there and could not be read.
    pub(crate) unreadable: BTreeSet<u64>,
    /// Those of them that are archived: nothing is known to be wrong with them, and what they say is not known.
    pub(crate) archived: BTreeSet<u64>,
    /// Effective records whose segments may serve snapshots older than themselves.
    relisting: BTreeSet<u64>,
}

impl Replayed {
    /// The snapshots that may need a segment: those of its domain that came with it or later; all of its domain if it
    /// was added to list anew what older ones need.
    pub(crate) fn may_need(&self, segment: &LiveSegment) -> impl Iterator<Item = SnapshotId> {
        let first = if self.relisting.contains(&segment.added_by) { 0 } else { segment.added_by };
        let snapshots = self.log.snapshots.iter().filter(|snapshot| !snapshot.forgotten);
        let domain = segment.domain;
        snapshots
            .filter(move |snapshot| snapshot.body.domain == domain && snapshot.number >= first)
            .map(|snapshot| snapshot.id)
    }
}

/// Reads header and log. Gives nothing when no header can be trusted; a finding then says so.
pub(crate) fn replay(
    source: &Source<'_>,
    listing: &Listing,
    options: &Options,
    progress: &dyn Progress,
    findings: &mut Findings,
    counts: &mut Counts,
) -> Result<Option<Replayed>, VerifyError> {
    let Some(header_bytes) = header_bytes(source, listing, options, findings)? else { return Ok(None) };
    let header = match Header::decode(&header_bytes) {
        Ok(header) => header,
        Err(FormatError::Version { major, minor, .. }) => {
            return Err(VerifyError::NeedsNewer { major, minor });
        }
        Err(error) => {
            findings.add(Class::Corrupt, ObjectName::Header, error.to_string());
            return Ok(None);
        }
    };
    let log = LogState::new(Header::vault_id(&header_bytes), &header);
    let mut replay = Replay {
        source,
        listing,
        options,
        log,
        gap_end: 0,
        missing: Vec::new(),
        unreadable: BTreeMap::new(),
        void: BTreeMap::new(),
        known_slots: BTreeSet::new(),
        relisting: BTreeSet::new(),
        chain_at_head: None,
        claimed_at_head: None,
        words: Vec::new(),
    };
    progress.begin(Stage::Log, listing.records.len() as u64);
    replay.run(progress, findings)?;
    replay.report(findings);
    let fresh_proved = replay.compare_head(findings);
    counts.records = replay.log.next;
    counts.void_records = replay.void.len() as u64;
    let archived = replay.archived();
    counts.damaged_records =
        replay.log.damaged.iter().filter(|number| !archived.contains(number)).count() as u64;
    let forgotten = replay.log.snapshots.iter().filter(|snapshot| snapshot.forgotten).count() as u64;
    counts.forgotten_snapshots = forgotten;
    counts.snapshots = replay.log.snapshots.len() as u64 - forgotten;
    counts.segments = replay.log.segments.len() as u64;
    let Replay { log, known_slots, relisting, unreadable, .. } = replay;
    let unreadable = unreadable.into_keys().collect();
    Ok(Some(Replayed {
        header_bytes,
        header,
        log,
        fresh_proved,
        known_slots,
        unreadable,
        archived,
        relisting,
    }))
}

/// The header to go by: the object `vault`, or the copy in record 0 where that is lost or not the one meant.
fn header_bytes(
    source: &Source<'_>,
    listing: &Listing,
    options: &Options,
    findings: &mut Findings,
) -> Result<Option<Vec<u8>>, VerifyError> {
    let read = || -> Result<Fetched<Vec<u8>>, VerifyError> {
        let mut stored = Vec::new();
        Ok(source.read(ObjectName::Header, HEADER_LEN_MAX, &mut stored)?.map(|()| stored))
    };
    let mut stored = read()?;
    let copy = copied_header(source)?;
    let is_wrong = |stored: &[u8]| match options.vault_id {
        Some(_) => !fits(stored, options.vault_id),
        None => copy.as_ref().is_some_and(|copy| copy != stored),
    };
    if stored.as_ref().is_ok_and(|stored| is_wrong(stored)) && source.distrust(ObjectName::Header) {
        stored = read()?;
    }
    if matches!(stored, Err(ReadFault::Absent))
        && copy.is_none()
        && options.vault_id.is_none()
        && listing.is_empty()
    {
        return Err(VerifyError::NotAVault { url: source.url() });
    }
    let stored = match stored {
        Ok(bytes) => bytes,
        Err(fault) => {
            findings.add(fault.class(), ObjectName::Header, fault.what());
            return Ok(copy.filter(|bytes| fits(bytes, options.vault_id)));
        }
    };
    let id = Header::vault_id(&stored);
    let what = match (options.vault_id, Header::decode(&stored)) {
        (Some(expected), _) if id == expected => return Ok(Some(stored)),
        (Some(_), _) => format!("it is the header of another vault or damaged: its id is {id}"),
        (None, Err(error @ FormatError::Malformed { .. })) => error.to_string(),
        (None, _) if copy.as_ref().is_none_or(|copy| *copy == stored) => return Ok(Some(stored)),
        (None, _) => format!("it is not the header that record 0 carries: its id is {id}"),
    };
    findings.add(Class::Corrupt, ObjectName::Header, what);
    Ok(copy.filter(|bytes| fits(bytes, options.vault_id)))
}

fn fits(header: &[u8], expected: Option<VaultId>) -> bool {
    expected.is_none_or(|expected| Header::vault_id(header) == expected)
}

/// The header in record 0, if that record is consistent with it in itself: made for that vault and signed by its owner.
fn copied_header(source: &Source<'_>) -> Result<Option<Vec<u8>>, VerifyError> {
    match header_in_record(source)? {
        None if source.distrust(ObjectName::Record(0)) => header_in_record(source),
        copy => Ok(copy),
    }
}

fn header_in_record(source: &Source<'_>) -> Result<Option<Vec<u8>>, VerifyError> {
    let mut bytes = Vec::new();
    if source.read(ObjectName::Record(0), RECORD_LEN_MAX, &mut bytes)?.is_err() {
        return Ok(None);
    }
    let Ok(record) = Record::decode(&bytes) else { return Ok(None) };
    let public = &record.public;
    let details = Details::decode(RecordKind::Slots, true, public.details.as_deref());
    let Ok(Details::Genesis { header: copy }) = details else { return Ok(None) };
    let consistent = Header::decode(&copy).is_ok_and(|header| {
        public.vault == Header::vault_id(&copy)
            && public.number == 0
            && public.signer == header.owner_key
            && signature_is_good(&public.signer, record.public_bytes, &record.signature)
    });
    Ok(consistent.then_some(copy))
}

struct Replay<'a> {
    source: &'a Source<'a>,
    listing: &'a Listing,
    options: &'a Options,
    log: LogState,
    /// Below this number an absent record is missing: the record of this number is there and proves it.
    gap_end: u64,
    missing: Vec<u64>,
    unreadable: BTreeMap<u64, ReadFault>,
    void: BTreeMap<u64, VoidReason>,
    known_slots: BTreeSet<SlotId>,
    relisting: BTreeSet<u64>,
    /// Chain value found at the number of the given head.
    chain_at_head: Option<[u8; 32]>,
    /// Chain value that the record after it says it has, if an enrolled signer signed that.
    claimed_at_head: Option<[u8; 32]>,
    /// Of each record what it says of the one before it.
    words: Vec<Word>,
}

/// What a record says of the bytes of the one before it.
#[derive(Debug, Clone, Copy)]
enum Word {
    /// They are what it was chained to.
    Same,
    /// They were others, and an enrolled signer says so: what that means, the replay judges.
    OtherByEnrolled,
    /// They were others, says the signer with this key, which is not enrolled at this point: it may be that the one before did that.
    OtherBy([u8; 32]),
    /// Nothing, or nothing that anybody signed.
    Nothing,
}

impl Replay<'_> {
    fn run(&mut self, progress: &dyn Progress, findings: &mut Findings) -> Result<(), VerifyError> {
        loop {
            let threads = self.source.threads(self.options.threads);
            let window = self.window(threads);
            if window.is_empty() {
                return Ok(());
            }
            let read = |(): &mut (), (number, len_max)| read_record_within(self.source, number, len_max);
            let fetched = parallel::map(threads, window.iter().copied(), || Ok(()), read)?;
            for ((number, len_max), fetched) in window.into_iter().zip(fetched) {
                let fetched = match fetched {
                    // Longer than it was listed: its turn is now.
                    Err(ReadFault::TooLong { .. }) if len_max < RECORD_LEN_MAX => {
                        read_record(self.source, number)?
                    }
                    fetched => fetched,
                };
                if !self.take(number, fetched, findings)? {
                    return Ok(());
                }
                progress.advance(Stage::Log, 1);
            }
        }
    }

    /// The records that are read together, the next one first, and how much is read of each: what it is listed with, which the listing may be
    /// wrong about.
    fn window(&self, threads: usize) -> Vec<(u64, u64)> {
        let from = self.log.next;
        let listed = &self.listing.records;
        let count = (WINDOW_COUNT * self.options.threads.max(1) as u64).max(threads as u64);
        // Behind what is listed there is hardly anything, but that has to be seen.
        let listed_end = listed.last().map_or(0, |(last, _)| last.saturating_add(1));
        let end = (from + count).min(listed_end.max(from) + 1).min(LOG_NUMBER_MAX + 1);
        let (mut window, mut left) = (Vec::new(), WINDOW_LEN_MAX);
        for number in from..end {
            let at = listed.binary_search_by_key(&number, |(number, _)| *number);
            let len = at.map_or(UNLISTED_LEN_MAX, |at| listed[at].1.min(RECORD_LEN_MAX));
            match left.checked_sub(len) {
                Some(rest) => left = rest,
                None => break,
            }
            window.push((number, if number == from { RECORD_LEN_MAX } else { len }));
        }
        window
    }

    /// Applies what was fetched as the next record; false when the log has ended before it.
    fn take(
        &mut self,
        number: u64,
        fetched: Fetched<Vec<u8>>,
        findings: &mut Findings,
    ) -> Result<bool, VerifyError> {
        let last = LastSignature::default();
        match self.believable(number, fetched, &last)? {
            Ok(bytes) => {
                let lie = checkpoint_lies(&self.log, &bytes);
                let check = |signer: &[u8; 32], public: &[u8], signature: &[u8; 64]| {
                    last.is_good(signer, public, signature)
                };
                let before = self.log.head().map(|head| head.chain);
                let outcome = self.log.apply(StoredRecord::Whole(&bytes), &check);
                self.words.push(word_of(before, outcome, &bytes));
                self.note(number, outcome, &bytes);
                if lie && outcome == Outcome::Effective {
                    let what = "the state that this checkpoint states is not what the records before it give";
                    findings.add(Class::Corrupt, ObjectName::Record(number), what);
                }
            }
            Err(ReadFault::TooLong { len }) => {
                let mut first = vec![0; usize::try_from(RECORD_LEN_MAX).unwrap_or(usize::MAX)];
                match self.source.read_range(ObjectName::Record(number), 0, &mut first)? {
                    Ok(()) => {
                        let outcome = self.log.apply(StoredRecord::Oversize(&first, len), &signature_is_good);
                        self.words.push(Word::Nothing);
                        self.note(number, outcome, &[]);
                    }
                    Err(fault) => return self.take(number, Err(fault), findings),
                }
            }
            Err(fault) => {
                let known = number < self.gap_end || self.find_gap_end(number, findings)?;
                if fault != ReadFault::Absent {
                    self.unreadable.insert(number, fault);
                } else if known {
                    self.missing.push(number);
                }
                if !known {
                    return Ok(false);
                }
                let outcome = self.log.apply(StoredRecord::Missing, &signature_is_good);
                self.words.push(Word::Nothing);
                self.note(number, outcome, &[]);
            }
        }
        match self.log.needs_minor {
            Some(minor) => Err(VerifyError::NeedsNewer { major: 1, minor }),
            None => Ok(true),
        }
    }

    /// What was fetched, or, if nobody enrolled signed it for this number, what the store has beside it.
    fn believable(
        &self,
        number: u64,
        fetched: Fetched<Vec<u8>>,
        last: &LastSignature,
    ) -> Result<Fetched<Vec<u8>>, VerifyError> {
        let Ok(bytes) = &fetched else { return Ok(fetched) };
        if self
            .log
            .is_evidence(number, bytes, &|signer, public, signature| last.is_good(signer, public, signature))
            || !self.source.distrust(ObjectName::Record(number))
        {
            return Ok(fetched);
        }
        read_record(self.source, number)
    }

    fn note(&mut self, number: u64, outcome: Outcome, bytes: &[u8]) {
        let previous = Record::decode(bytes).ok().map(|record| record.public.previous);
        let at_head = self.options.head.map(|head| head.number);
        if at_head == Some(number) {
            self.chain_at_head = self.log.head().map(|head| head.chain);
        }
        let authentic = match outcome {
            Outcome::Effective => true,
            Outcome::Void(reason) => reason.is_authentic(),
            Outcome::Missing => false,
        };
        if authentic && at_head.is_some_and(|head| head + 1 == number) {
            self.claimed_at_head = previous;
        }
        match outcome {
            Outcome::Effective => {
                let Ok(record) = Record::decode(bytes) else { return };
                let public = record.public;
                self.known_slots.extend(public.slots.unwrap_or_default());
                let own = matches!(
                    RecordKind::from_number(public.kind),
                    Some(RecordKind::Snapshot | RecordKind::Progress | RecordKind::Reconcile)
                );
                if !own && !public.segments_added.is_empty() {
                    self.relisting.insert(number);
                }
            }
            Outcome::Void(reason) => drop(self.void.insert(number, reason)),
            Outcome::Missing => {}
        }
    }

    /// Looks for a listed record behind `number` that proves that `number` once existed.
    fn find_gap_end(&mut self, number: u64, findings: &mut Findings) -> Result<bool, VerifyError> {
        let from = self.listing.records.partition_point(|(listed, _)| *listed <= number);
        for (candidate, _) in self.listing.records[from..].iter().take(EVIDENCE_COUNT_MAX) {
            let bytes = match read_record(self.source, *candidate)? {
                Ok(bytes) => bytes,
                // It may prove it, and nobody can tell now.
                Err(fault @ ReadFault::Archived) => {
                    self.unreadable.insert(*candidate, fault);
                    continue;
                }
                Err(_) => continue,
            };
            if !self.log.is_evidence(*candidate, &bytes, &signature_is_good) {
                continue;
            }
            if !self.log.proves_gap(*candidate, &bytes, &signature_is_good) {
                let what = format!(
                    "an enrolled signer signed it, but {} records before it are absent, which is more than it can prove",
                    candidate - number
                );
                findings.add(Class::Surplus, ObjectName::Record(*candidate), what);
                continue;
            }
            self.gap_end = *candidate;
            return Ok(true);
        }
        Ok(false)
    }

    fn report(&self, findings: &mut Findings) {
        if self.log.next == 0 && self.unreadable.is_empty() {
            let what = "it is absent: the vault is unfinished, or its log is lost";
            findings.add(Class::Missing, ObjectName::Record(0), what);
        }
        for (number, fault) in &self.unreadable {
            findings.add(fault.class(), ObjectName::Record(*number), fault.what());
        }
        let claim = |number: &u64| self.log.claims.get(number);
        for run in self.missing.chunk_by(|a, b| a + 1 == *b && claim(a) == claim(b)) {
            let (first, last) = (run[0], run[run.len() - 1]);
            let (subject, later) = if first == last {
                ("it is".to_owned(), "a later record")
            } else {
                (format!("records {first} to {last} are"), "a later one")
            };
            let name = ObjectName::Record(first);
            if self.log.damaged.binary_search(&first).is_ok() {
                let what = format!(
                    "{subject} absent, though an enrolled signer signed {later}{}",
                    self.on_claim(first)
                );
                findings.add(Class::Missing, name, what);
            } else {
                let what = format!(
                    "{subject} absent; only a writer who was revoked since signed {later} and so says that anything was there"
                );
                findings.add(Class::Surplus, name, what);
            }
        }
        let damaged: BTreeSet<_> = self.log.damaged.iter().collect();
        let disproved = self.disproved_by_head();
        let first_archived = self.archived().first().copied();
        for (number, reason) in &self.void {
            let follows_archived = first_archived.is_some_and(|archived| archived < *number);
            if follows_archived && !damaged.contains(number) && !is_of_itself(*reason) {
                // With what the archived records say it may take effect.
                continue;
            }
            let name = ObjectName::Record(*number);
            if damaged.contains(number) {
                let what = format!(
                    "it was signed with other bytes, as the record after it proves; now it is void ({}){}",
                    reason.name(),
                    self.on_claim(*number)
                );
                findings.add(Class::Corrupt, name, what);
            } else if let Some((_, key)) = disproved.filter(|(disproved, _)| disproved == number) {
                let what = format!(
                    "the record after it, which the given head proves, was chained to other bytes; the key {} that signed that is not \
                     enrolled, unless by what was here; now it is void ({})",
                    hex(&key[..8]),
                    reason.name()
                );
                findings.add(Class::Corrupt, name, what);
            } else {
                findings.add(
                    Class::Surplus,
                    name,
                    format!("it is void ({}) and changes nothing", reason.name()),
                );
            }
        }
    }

    /// Records that are archived.
    fn archived(&self) -> BTreeSet<u64> {
        let archived = self.unreadable.iter().filter(|(_, fault)| **fault == ReadFault::Archived);
        archived.map(|(number, _)| *number).collect()
    }

    /// Who says that a record is damaged or missing, where it is a writer, who may have made it up.
    fn on_claim(&self, number: u64) -> String {
        let claim = self.log.claims.get(&number);
        let writer =
            claim.filter(|key| self.log.signers.get(*key).is_some_and(|signer| signer.role == Role::Put));
        writer.map_or_else(String::new, |key| {
            let key = hex(&key[..8]);
            format!("; the writer with the key {key} says so: if it is not trusted, `coffer keys revoke-writer {key}` ends that")
        })
    }

    /// The first record, going back from the given head, whose bytes are not those that its successor was chained to, and the key that signed
    /// the successor. The head proves the bytes of each record up to that one, and with them the word of who signed it; of what nobody signed,
    /// as anybody can put it there, the bytes say nothing of any other.
    fn disproved_by_head(&self) -> Option<(u64, [u8; 32])> {
        let head = self.options.head.filter(|head| self.chain_at_head == Some(head.chain))?;
        (0..head.number).rev().find_map(|number| {
            let next = usize::try_from(number + 1).ok().and_then(|next| self.words.get(next));
            match next? {
                Word::Same => None,
                Word::OtherBy(key) => Some(Some((number, *key))),
                // The replay has judged it, or what is chained to cannot be told: the proof ends.
                Word::OtherByEnrolled | Word::Nothing => Some(None),
            }
        })?
    }

    /// Whether the log contains the head that was given.
    fn compare_head(&self, findings: &mut Findings) -> bool {
        let Some(head) = self.options.head else { return false };
        let name = ObjectName::Record(head.number);
        if head.number >= self.log.next {
            if self.unreadable.contains_key(&self.log.next) {
                // Where the log ends is not known.
                return false;
            }
            let what = match self.log.next.checked_sub(1) {
                Some(last) => format!("the log ends at record {last}, and it had a record {}", head.number),
                None => format!("the log is empty, and it had a record {}", head.number),
            };
            findings.add(Class::Rollback, name, what);
            return false;
        }
        if self.chain_at_head == Some(head.chain) || self.claimed_at_head == Some(head.chain) {
            return true;
        }
        if self.chain_at_head.is_none() && self.claimed_at_head.is_none() {
            // The record is missing, which is reported, and nothing tells what it was.
            return false;
        }
        if self.void.get(&head.number).is_some_and(|reason| !reason.is_authentic()) {
            findings.add(Class::Corrupt, name, "it is not the record that stood here and no record at all");
        }
        findings.add(Class::Rollback, name, "another record stood here");
        false
    }
}

/// Whether a record is void whatever the records before it say.
const fn is_of_itself(reason: VoidReason) -> bool {
    matches!(reason, VoidReason::Malformed | VoidReason::Foreign | VoidReason::Body)
}

/// What a record says of the one before it, whose chain value is `before`, if that is known.
fn word_of(before: Option<[u8; 32]>, outcome: Outcome, bytes: &[u8]) -> Word {
    let Ok(record) = Record::decode(bytes) else { return Word::Nothing };
    let public = &record.public;
    match outcome {
        _ if before == Some(public.previous) => Word::Same,
        Outcome::Effective => Word::OtherByEnrolled,
        Outcome::Void(reason) if reason.is_authentic() => Word::OtherByEnrolled,
        // It is whole and for this place, and nobody has looked at its signature yet.
        Outcome::Void(VoidReason::Version | VoidReason::Signer)
            if signature_is_good(&public.signer, record.public_bytes, &record.signature) =>
        {
            Word::OtherBy(public.signer)
        }
        Outcome::Void(_) | Outcome::Missing => Word::Nothing,
    }
}

fn read_record(source: &Source<'_>, number: u64) -> Result<Fetched<Vec<u8>>, VerifyError> {
    read_record_within(source, number, RECORD_LEN_MAX)
}

fn read_record_within(
    source: &Source<'_>,
    number: u64,
    len_max: u64,
) -> Result<Fetched<Vec<u8>>, VerifyError> {
    let mut bytes = Vec::new();
    Ok(source.read(ObjectName::Record(number), len_max, &mut bytes)?.map(|()| bytes))
}

/// Whether a record is a checkpoint of another state than `log`, which is the one before it. Where the log has damage, nothing is known.
fn checkpoint_lies(log: &LogState, bytes: &[u8]) -> bool {
    let Ok(record) = Record::decode(bytes) else { return false };
    if record.public.kind != RecordKind::Checkpoint.number() {
        return false;
    }
    let details = Details::decode(RecordKind::Checkpoint, false, record.public.details.as_deref());
    match (details, log.encode()) {
        (Ok(Details::Checkpoint { state_hash, .. }), Some(state)) => hash(&state) != state_hash,
        _ => false,
    }
}
