//! Reading the log to its head, and committing to it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use coffer_format::header::{Header, StoreMode};
use coffer_format::id::{Head, VaultId};
use coffer_format::limits::{HEADER_LEN_MAX, RECORD_LEN_MAX};
use coffer_format::log::{LogState, Outcome, StoredRecord, VoidReason};
use coffer_format::object::{INDEX_PREFIX, LOG_PREFIX, ObjectName, PACKS_PREFIX};
use coffer_format::record::{Details, Record, RecordKind, chain_value, chain_value_oversize};
use coffer_pipeline::record::{LastSignature, signature_is_good};
use coffer_store::{ListItem, ObjectStore, PutOutcome, StoreError, VersionRule};

use crate::access::{Access, key_of};
use crate::cache::KeptState;
use crate::error::EngineError;
use crate::parallel::{self, both, is_far};

mod ahead;
mod listed;
mod single;

pub(crate) use ahead::Ahead;
use ahead::end_of;
use listed::Listed;
pub(crate) use listed::listed_numbers;
pub(crate) use single::{of_owner, of_signer};

/// How often a commit tries the next number before it gives up.
const COMMIT_ATTEMPT_COUNT_MAX: usize = 1000;
/// After so many lost races a writer does not wait longer than before.
const STEP_COUNT_MAX: usize = 16;
/// The longest wait after a lost race: a second.
const STEP_NS_MAX: u64 = 1_000_000_000;
/// How many objects beyond a gap are looked at for evidence that the log once went on: those with the lowest numbers.
const EVIDENCE_COUNT_MAX: usize = 4096;

/// Breaks of the chain that are looked into.
const BREAK_COUNT_MAX: usize = 16;

/// The header and the log of a vault, read up to a head.
#[derive(Debug, Clone)]
pub struct Log {
    /// The vault id.
    pub vault: VaultId,
    /// The header.
    pub header: Header,
    /// Whether the object `vault` was lost and the header comes from record 0.
    pub header_recovered: bool,
    /// The state after the records read.
    pub state: LogState,
    /// Records that did not take effect, and why.
    pub ineffective: Vec<(u64, Outcome)>,
    /// Why this machine could not remember, or recall, what it saw; nothing else suffers from that.
    pub memory_warning: Option<String>,
    /// What else is not as it should be, and kept nothing from being read.
    pub warnings: Vec<String>,
    /// The first record that was read: 0, or that of a checkpoint.
    pub(crate) begins_at: u64,
    /// The last policy that took effect, if it is among the records that were read.
    policy: Option<Head>,
    /// The number whose chain value is compared with the one remembered, and that value once it was met.
    watched: (Option<u64>, Option<[u8; 32]>),
}

/// Whether a vault without record 0 had more than that: what an init writes before it lies elsewhere.
///
/// # Errors
/// When the store does not list its objects.
pub(crate) fn is_lost(store: &dyn ObjectStore) -> Result<bool, EngineError> {
    for prefix in [LOG_PREFIX, PACKS_PREFIX, INDEX_PREFIX] {
        let mut is_there = false;
        store.list(prefix, None, &mut |_: ListItem| {
            is_there = true;
            ControlFlow::Break(())
        })?;
        if is_there {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a client may know of a log before it reads it.
pub(crate) enum Beginning<'k> {
    /// A state that this machine kept.
    Kept(&'k KeptState),
    /// Which records a listing shows.
    Listed(&'k [u64]),
}

/// Says up to which record the state is known, and what it is.
pub(crate) type Begin<'b> = dyn FnMut(VaultId, Beginning<'_>, &mut Ahead<'_>) -> Option<LogState> + 'b;

impl Log {
    /// Reads header and log, and checks them against the vault id that is known from elsewhere and against what this machine saw before.
    /// What was read is not remembered before a key has proved that it is the vault meant.
    pub fn read(access: &Access<'_>, expected: Option<VaultId>) -> Result<Self, EngineError> {
        Self::read_with(access, expected, None)
    }

    /// As [`Self::read`], beginning behind the record up to which `begin` knows the state of the vault, if it does.
    ///
    /// What this machine kept is that of the writer with the key `writer`, or of who opens slots.
    pub(crate) fn read_from(
        access: &Access<'_>,
        expected: Option<VaultId>,
        writer: Option<&[u8; 32]>,
        begin: &mut Begin<'_>,
    ) -> Result<Self, EngineError> {
        Self::read_with(access, expected, Some((writer, begin)))
    }

    /// The log of one store on its own, up to its head; held against nothing that was seen before. `None` if it names no owner.
    pub(crate) fn of_store(store: &dyn ObjectStore) -> Result<Option<Self>, EngineError> {
        let mut bytes = Vec::new();
        let header = match store.read(&key_of(ObjectName::Header)?, HEADER_LEN_MAX, &mut bytes) {
            Ok(()) => Header::decode(&bytes).ok().map(|header| (Header::vault_id(&bytes), header)),
            Err(StoreError::NotFound { .. } | StoreError::TooLong { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        // The copy in record 0 is signed by the owner whom it names; which vault is meant is for the caller to know.
        let Some((vault, header)) = header_copy(store).or(header) else { return Ok(None) };
        let listed = Listed::all(store)?;
        let state = LogState::new(vault, &header);
        let mut log = Self::begin(vault, header, state);
        log.extend(&mut Ahead::new(store, end_of(&listed.numbers)))?;
        log.look_behind(store, listed)?;
        Ok(Some(log))
    }

    /// A log of which nothing was read beyond `state`.
    const fn begin(vault: VaultId, header: Header, state: LogState) -> Self {
        Self {
            vault,
            header,
            header_recovered: false,
            begins_at: state.next,
            state,
            policy: None,
            ineffective: Vec::new(),
            memory_warning: None,
            warnings: Vec::new(),
            watched: (None, None),
        }
    }

    fn read_with(
        access: &Access<'_>,
        expected: Option<VaultId>,
        begin: Option<(Option<&[u8; 32]>, &mut Begin<'_>)>,
    ) -> Result<Self, EngineError> {
        let (writer, begin) = begin.map_or((None, None), |(writer, begin)| (writer, Some(begin)));
        let store = access.store;
        let mut memory_warning = None;
        // The memory is read first: a head that another process of this machine adds meanwhile is no rollback.
        let mut recall = |read: Result<Option<(VaultId, Option<Head>)>, EngineError>| {
            read.unwrap_or_else(|error| {
                memory_warning =
                    Some(format!("a rollback of this vault would not be noticed: {}", explain(&error)));
                None
            })
        };
        let at_location = access.cache.and_then(|cache| recall(cache.remembered(&store.place())));
        let expected = expected.or(at_location.map(|(vault, _)| vault));
        let kept = access.cache.zip(expected).filter(|_| begin.is_some() && is_far(store));
        let kept = kept.and_then(|(cache, vault)| cache.kept_state(&vault, writer));
        // Of a log whose state is known, only what came since is listed.
        let list = || match &kept {
            Some(kept) => Listed::from(store, kept.number.saturating_add(1)),
            None => Listed::all(store),
        };
        let (header, listed) = both(store, || read_header(store, expected), list);
        let (vault, header, header_recovered) = header?;
        let mut listed = listed?;
        let remembered =
            access.cache.and_then(|cache| recall(cache.head(&vault).map(|head| Some((vault, head)))));
        let mut remembered = remembered.and_then(|(_, head)| head);
        let mut ahead = Ahead::new(store, end_of(&listed.numbers));
        let (mut state, mut is_kept) = (None, false);
        if let Some(begin) = begin {
            if let Some(kept) = &kept {
                state = begin(vault, Beginning::Kept(kept), &mut ahead);
                match &state {
                    // Somebody else's memory of the head may be gone; this one is as good.
                    Some(state) => (remembered, is_kept) = (remembered.or(state.head()), true),
                    None => listed = Listed::all(store)?,
                }
            }
            if state.is_none() {
                ahead = Ahead::new(store, end_of(&listed.numbers));
                state = begin(vault, Beginning::Listed(&listed.numbers), &mut ahead);
            }
        }
        let kept = state.as_ref().filter(|_| is_kept).and_then(|state| Some((state.head()?, state.term)));
        let state = state.unwrap_or_else(|| LogState::new(vault, &header));
        let from = state.next;
        let mut log = Self::begin(vault, header, state);
        log.header_recovered = header_recovered;
        log.watched.0 = remembered.map(|head| head.number);
        let before = remembered.filter(|head| head.number < from);
        if is_far(store) {
            let known: BTreeSet<u64> =
                before.into_iter().chain(kept.map(|(head, _)| head)).map(|head| head.number).collect();
            // The end of the log is asked for as well.
            let end = known.last().map(|_| from);
            ahead.fetch(known.into_iter().chain(end));
        }
        if let Some((head, term)) = kept {
            let chain = chain_of_seen(&mut ahead, &head)?;
            if chain != Some(head.chain) {
                return Self::read_over(access, expected, remembered.unwrap_or(head), term);
            }
            log.watched.1 = chain.filter(|_| before.is_some_and(|before| before.number == head.number));
        }
        if let Some(before) = before
            && log.watched.1.is_none()
        {
            log.watched.1 = chain_of_seen(&mut ahead, &before)?;
        }
        log.extend(&mut ahead)?;
        log.look_behind(store, listed)?;
        if log.finds_another_line(store)? {
            // With the copies that are believed now.
            return Self::read_with(access, expected, None);
        }
        if store.settle_rule(rule_of(log.header.store_mode)) {
            // What was read so far were the newest versions.
            return Self::read_with(access, expected, None);
        }
        check_versions(store, &log)?;
        if log.state.next == 0 {
            return Err(match remembered {
                Some(remembered) => EngineError::Rollback { store: store.url(), remembered },
                None if is_lost(store)? => EngineError::LogLost { store: store.url() },
                None => EngineError::Unfinished { store: store.url(), source: None },
            });
        }
        if let Some(minor) = log.state.needs_minor {
            return Err(EngineError::NeedsNewer { minor });
        }
        log.memory_warning = memory_warning;
        if let Some(remembered) = remembered
            && log.watched.1 != Some(remembered.chain)
        {
            // The owner's record of a promotion says that what another store had behind it is void.
            if access.cache.is_none_or(|cache| cache.term(&vault) >= log.state.term) {
                return Err(EngineError::Rollback { store: store.url(), remembered });
            }
            let number = remembered.number;
            log.memory_warning = Some(format!(
                "another store was promoted since this machine saw record {number}, which is not in the log any more"
            ));
        }
        Ok(log)
    }

    /// Reads a log from record 0 whose `record` is not the one that a state kept in `term` goes on from. Only a promotion explains that.
    fn read_over(
        access: &Access<'_>,
        expected: Option<VaultId>,
        record: Head,
        term: u64,
    ) -> Result<Self, EngineError> {
        match Self::read_with(access, expected, None) {
            Ok(log) if log.state.term > term => Ok(log),
            Ok(_) | Err(EngineError::LogLost { .. } | EngineError::Unfinished { .. }) => {
                Err(EngineError::Rollback { store: access.store.url(), remembered: record })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether another copy of a record is read from now on, because an enrolled signer said that something else stands before his.
    fn finds_another_line(&self, store: &dyn ObjectStore) -> Result<bool, EngineError> {
        let breaks = self.ineffective.iter().filter_map(|(number, outcome)| {
            (*outcome == Outcome::Void(VoidReason::Chain)).then(|| number.checked_sub(1)).flatten()
        });
        let (mut bytes, mut after) = (Vec::new(), Vec::new());
        for number in breaks.take(BREAK_COUNT_MAX) {
            let key = key_of(ObjectName::Record(number))?;
            let next = key_of(ObjectName::Record(number + 1))?;
            let chain = |bytes: &mut Vec<u8>| {
                store.read(&key, RECORD_LEN_MAX, bytes).ok().map(|()| chain_value(bytes))
            };
            let before = chain(&mut bytes);
            if before.is_some()
                && store.distrust(&key)
                && store.read(&next, RECORD_LEN_MAX, &mut after).is_ok()
            {
                let previous = Record::decode(&after).ok().map(|record| record.public.previous);
                let now = chain(&mut bytes);
                if now != before && now == previous {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether these bytes can be the policy that the record with this number was when the log was read.
    pub(crate) fn is_policy(&self, number: u64, bytes: &[u8]) -> bool {
        of_owner(&self.state, number, RecordKind::Policy, bytes).is_some()
            && self.policy.is_none_or(|read| read.number != number || read.chain == chain_value(bytes))
    }

    /// Notes what the record that was applied last is looked for by later on.
    fn note_policy(&mut self) {
        if self.state.last_policy.is_some_and(|number| number + 1 == self.state.next) {
            self.policy = self.state.head();
        }
    }

    /// What became of record `number`, which was read.
    pub(crate) fn outcome(&self, number: u64) -> Outcome {
        let at = self.ineffective.binary_search_by_key(&number, |(number, _)| *number);
        at.map_or(Outcome::Effective, |at| self.ineffective[at].1)
    }

    /// The head as far as the log was read.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.state.head()
    }

    /// Reads the records that follow, up to the first number that is absent.
    fn extend(&mut self, ahead: &mut Ahead<'_>) -> Result<(), EngineError> {
        let mut buffer = Vec::new();
        while self.read_next(ahead, &mut buffer)? {}
        Ok(())
    }

    /// Applies the record with the next number; `false` if there is none.
    fn read_next(&mut self, ahead: &mut Ahead<'_>, buffer: &mut Vec<u8>) -> Result<bool, EngineError> {
        let number = self.state.next;
        let mut read = ahead.read(number, buffer)?;
        // Where something was laid over a record, another store, or one that keeps versions, still has it: what no enrolled signer
        // signed for this number.
        let check = LastSignature::default();
        let is_foreign = match &read {
            Ok(()) => {
                !self.state.is_evidence(number, buffer, &|key, bytes, sig| check.is_good(key, bytes, sig))
            }
            Err(error) => matches!(error, StoreError::TooLong { .. }),
        };
        if is_foreign && ahead.store().distrust(&key_of(ObjectName::Record(number))?) {
            read = ahead.store().read(&key_of(ObjectName::Record(number))?, RECORD_LEN_MAX, buffer);
        }
        let outcome = match read {
            Ok(()) => self
                .state
                .apply(StoredRecord::Whole(buffer), &|key, bytes, sig| check.is_good(key, bytes, sig)),
            Err(error) if error.is_not_found() => return Ok(false),
            Err(StoreError::TooLong { len, .. }) => {
                let first = beginning_of(ahead.store(), number)?;
                self.state.apply(StoredRecord::Oversize(&first, len), &signature_is_good)
            }
            Err(error) => return Err(error.into()),
        };
        if outcome != Outcome::Effective {
            self.ineffective.push((number, outcome));
        }
        self.note_policy();
        if self.watched.0 == Some(number) {
            self.watched.1 = self.state.head().map(|head| head.chain);
        }
        Ok(true)
    }

    /// Looks for evidence behind the head, in what was listed and then about where the head turned out to be.
    fn look_behind(&mut self, store: &dyn ObjectStore, mut listed: Listed) -> Result<(), EngineError> {
        loop {
            self.look_at(store, &listed.numbers)?;
            if listed.reaches(self.state.next) {
                return Ok(());
            }
            listed = Listed::from(store, self.state.next)?;
            if !listed.numbers.is_empty() {
                self.extend(&mut Ahead::new(store, end_of(&listed.numbers)))?;
            }
        }
    }

    /// Where a record is absent, looks for later ones that an enrolled signer signed: then the absent one was lost. `listed` are records
    /// that a listing shows, in ascending order. Anybody who can write to the store may have put them there, so not all are looked at.
    fn look_at(&mut self, store: &dyn ObjectStore, listed: &[u64]) -> Result<(), EngineError> {
        let beyond = &listed[listed.partition_point(|number| *number < self.state.next)..];
        let mut looked_count = 0;
        let mut buffer = Vec::new();
        for wave in beyond.chunks(parallel::in_flight_small(store)) {
            let mut found = Ahead::new(store, 0);
            if is_far(store) {
                let is_new = |number: &u64| *number >= self.state.next;
                found.fetch(wave.iter().copied().filter(is_new));
            }
            for &number in wave.iter() {
                if number < self.state.next {
                    continue;
                }
                if looked_count == EVIDENCE_COUNT_MAX {
                    self.warn_of_surplus();
                    return Ok(());
                }
                looked_count += 1;
                if self.is_proof(&mut found, number, &mut buffer)? {
                    self.cross_gap(store, number, &mut buffer)?;
                    looked_count = 0;
                }
            }
        }
        Ok(())
    }

    fn warn_of_surplus(&mut self) {
        let warning = format!(
            "more than {EVIDENCE_COUNT_MAX} objects lie in the log beyond its head, and not all were looked at; `coffer verify` names what \
             is foreign"
        );
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Whether the object with this number proves that the log went on up to it.
    fn is_proof(
        &self,
        found: &mut Ahead<'_>,
        number: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<bool, EngineError> {
        match found.read(number, buffer)? {
            Ok(()) => {}
            // Neither proves anything.
            Err(
                StoreError::TooLong { .. } | StoreError::NotFound { .. } | StoreError::NotAnObject { .. },
            ) => {
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        let proves = |bytes: &[u8]| self.state.proves_gap(number, bytes, &signature_is_good);
        if proves(buffer) {
            return Ok(true);
        }
        // Something may have been laid over what does.
        let (store, key) = (found.store(), key_of(ObjectName::Record(number))?);
        Ok(store.distrust(&key) && store.read(&key, RECORD_LEN_MAX, buffer).is_ok() && proves(buffer))
    }

    /// Reads on to the record with this number, which proves that those before it that are absent were lost, and to the head behind it.
    fn cross_gap(
        &mut self,
        store: &dyn ObjectStore,
        number: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<(), EngineError> {
        // What was absent before the evidence was seen is asked for again: it may have come since.
        let mut ahead = Ahead::new(store, number);
        while self.state.next < number {
            let lost = self.state.next;
            if !self.read_next(&mut ahead, buffer)? {
                self.state.apply(StoredRecord::Missing, &signature_is_good);
                self.ineffective.push((lost, Outcome::Missing));
            }
        }
        self.extend(&mut ahead)
    }

    /// Remembers the head. That this cannot be done spoils no operation.
    pub(crate) fn remember(&mut self, access: &Access<'_>) {
        let (Some(cache), Some(head)) = (access.cache, self.head()) else { return };
        let done = cache
            .set_location(&access.store.place(), &self.vault)
            .and_then(|()| cache.set_head(&self.vault, &head, self.state.epoch(), self.state.term));
        if let Err(error) = done {
            self.memory_warning = Some(format!("the head cannot be remembered: {}", explain(&error)));
        }
    }

    /// Commits one record: creates the next number with what `make` gives for the state before it, reading on and trying again as
    /// long as others are faster. Returns number and chain value.
    ///
    /// `make` is called again after every record that came in between, and may refuse.
    pub fn commit(
        &mut self,
        access: &Access<'_>,
        make: &mut dyn FnMut(&LogState) -> Result<Vec<u8>, EngineError>,
    ) -> Result<Head, EngineError> {
        let refuse = |reason: String| EngineError::CannotCommit { reason };
        let store = access.store;
        let mut taken_end = 0;
        for lost_count in 0..COMMIT_ATTEMPT_COUNT_MAX {
            let begin_ns = access.clock.monotonic_ns();
            // A record that was lost leaves a gap, which must not be filled: what lies behind the end is listed.
            let next = self.state.next;
            let list = || Listed::from(store, next);
            let listed = if lost_count == 0 {
                // Whether the next number is free, its creation tells: it is read only where something is there.
                let listed = list()?;
                if !listed.numbers.is_empty() {
                    self.extend(&mut Ahead::new(store, end_of(&listed.numbers)))?;
                }
                listed
            } else {
                let mut ahead = Ahead::new(store, taken_end);
                let (extended, listed) = both(store, || self.extend(&mut ahead), list);
                extended?;
                listed?
            };
            self.look_behind(store, listed)?;
            if let Some(minor) = self.state.needs_minor {
                return Err(EngineError::NeedsNewer { minor });
            }
            let bytes = make(&self.state)?;
            let head = Head { number: self.state.next, chain: chain_value(&bytes) };
            let mut after = self.state.clone();
            if let Outcome::Void(reason) = after.apply(StoredRecord::Whole(&bytes), &signature_is_good) {
                return Err(refuse(format!(
                    "it would be void ({}): the key or what it asks for is not allowed any more",
                    reason.name()
                )));
            }
            let key = key_of(ObjectName::Record(head.number))?;
            match store.put_if_absent(&key, &bytes) {
                Ok(PutOutcome::Created) => {}
                Ok(PutOutcome::AlreadyExists) => {
                    taken_end = head.number + 1;
                    step_back(access, begin_ns, lost_count);
                    continue;
                }
                // Of what was refused, or what does not stay, reading back says nothing.
                Err(error) if !is_unknown(&error) => return Err(error.into()),
                // The effect is unknown: what stands there decides, once the store says that it is durable.
                Err(error) => match chain_value_of(&mut Ahead::new(store, 0), head.number) {
                    Ok(Some(chain)) if chain == head.chain => {
                        store.put_if_absent(&key, &bytes)?;
                    }
                    Ok(Some(_)) => continue,
                    Ok(None) | Err(_) => return Err(error.into()),
                },
            }
            self.state = after;
            self.note_policy();
            self.remember(access);
            return Ok(head);
        }
        Err(refuse(format!("other writers took the next number {COMMIT_ATTEMPT_COUNT_MAX} times")))
    }
}

/// Whether a creation that failed so may have had its effect all the same, and for good. What a store does not make durable, or keeps in
/// another way than the vault needs, can be read back and does not stay; what it refuses, it refuses the second time as well.
const fn is_unknown(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { .. } | StoreError::Unreachable { .. } | StoreError::Io { .. })
}

/// Waits after a lost race, for a part of the time that the attempt took, at random; longer after each further one. Where many commit at
/// once, they ask for less in vain.
fn step_back(access: &Access<'_>, begin_ns: u64, lost_count: usize) {
    let took_ns = access.clock.monotonic_ns().saturating_sub(begin_ns);
    let share = lost_count.clamp(1, STEP_COUNT_MAX) as u64;
    let longest_ns = (took_ns.saturating_mul(share) / 2).min(STEP_NS_MAX);
    let mut random = [0; 8];
    if longest_ns == 0 || access.rng.fill(&mut random).is_err() {
        return;
    }
    std::thread::sleep(Duration::from_nanos(u64::from_le_bytes(random) % longest_ns));
}

/// An error with its causes, in one line.
pub(crate) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// As much of a record that is too long as counts.
fn beginning_of(store: &dyn ObjectStore, number: u64) -> Result<Vec<u8>, EngineError> {
    let mut first = vec![0; usize::try_from(RECORD_LEN_MAX).unwrap_or(usize::MAX)];
    store.read_range(&key_of(ObjectName::Record(number))?, 0, &mut first)?;
    Ok(first)
}

/// The chain value of a record that was seen before. If it is another one now, another copy of it is looked at.
fn chain_of_seen(ahead: &mut Ahead<'_>, seen: &Head) -> Result<Option<[u8; 32]>, EngineError> {
    let chain = chain_value_of(ahead, seen.number)?;
    let store = ahead.store();
    if chain != Some(seen.chain) && store.distrust(&key_of(ObjectName::Record(seen.number))?) {
        return chain_value_of(&mut Ahead::new(store, 0), seen.number);
    }
    Ok(chain)
}

/// The chain value of the record object with this number; `None` if it is absent.
pub(crate) fn chain_value_of(ahead: &mut Ahead<'_>, number: u64) -> Result<Option<[u8; 32]>, EngineError> {
    let mut bytes = Vec::new();
    match ahead.read(number, &mut bytes)? {
        Ok(()) => Ok(Some(chain_value(&bytes))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(StoreError::TooLong { len, .. }) => {
            Ok(Some(chain_value_oversize(&beginning_of(ahead.store(), number)?, len)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads the header; if it is lost or not the one expected, takes the copy in record 0 that has the expected id.
fn read_header(
    store: &dyn ObjectStore,
    expected: Option<VaultId>,
) -> Result<(VaultId, Header, bool), EngineError> {
    let mut bytes = Vec::new();
    let key = key_of(ObjectName::Header)?;
    let mut read = store.read(&key, HEADER_LEN_MAX, &mut bytes);
    let is_wrong = match &read {
        Ok(()) => {
            Header::decode(&bytes).is_err()
                || expected.is_some_and(|expected| expected != Header::vault_id(&bytes))
        }
        Err(error) => matches!(error, StoreError::TooLong { .. }),
    };
    // Where something was laid over it, another copy may be the one meant.
    if is_wrong && store.distrust(&key) {
        read = store.read(&key, HEADER_LEN_MAX, &mut bytes);
    }
    let failure = match read {
        Ok(()) => {
            let actual = Header::vault_id(&bytes);
            match (Header::decode(&bytes), expected) {
                (Ok(header), None) => return Ok((actual, header, false)),
                (Ok(header), Some(expected)) if expected == actual => return Ok((actual, header, false)),
                (Ok(_), Some(expected)) => EngineError::OtherVault { actual, expected },
                (Err(error), _) => EngineError::damaged(ObjectName::Header, error),
            }
        }
        Err(error) if error.is_not_found() => EngineError::NoVault { store: store.url() },
        // Who could not be asked has no copy of it either.
        Err(error) if error.is_of_store() => return Err(error.into()),
        Err(error) => EngineError::damaged(ObjectName::Header, error),
    };
    // Without an id from elsewhere a copy proves nothing, but neither did the header itself: the key decides later.
    match header_copy(store) {
        Some((vault, header)) if expected.is_none_or(|expected| expected == vault) => {
            Ok((vault, header, true))
        }
        _ => Err(failure),
    }
}

/// Which version of an object counts in a vault of this mode.
const fn rule_of(mode: StoreMode) -> VersionRule {
    match mode {
        StoreMode::ConditionalCreate => VersionRule::NewestElseOldest,
        StoreMode::OldestVersion => VersionRule::Oldest,
        StoreMode::SingleWriter => VersionRule::OneWriter,
    }
}

/// Whether every store in this one is read by those versions that the vault's header says. The stores themselves go by what stands
/// under the name of the header, which nobody vouches for.
fn check_versions(store: &dyn ObjectStore, log: &Log) -> Result<(), EngineError> {
    let mode = log.header.store_mode;
    let rules = store.version_rules();
    // Nothing told a store with versions the rule: it went by the newest.
    if rules.is_empty() && log.header_recovered && mode == StoreMode::OldestVersion && store.cloud().is_some()
    {
        return Err(EngineError::WrongVersions { store: store.url(), is_oldest: false });
    }
    for (store, rule) in rules {
        let is_oldest = matches!(rule, VersionRule::Oldest | VersionRule::OldestAsOf(_));
        if is_oldest != (mode == StoreMode::OldestVersion) {
            return Err(EngineError::WrongVersions { store, is_oldest });
        }
        // Of what is only read it does not matter.
        let is_other = match rule {
            VersionRule::NewestElseOldest => mode != StoreMode::ConditionalCreate,
            VersionRule::OneWriter => mode != StoreMode::SingleWriter,
            _ => false,
        };
        if is_other {
            return Err(EngineError::WrongMode { store });
        }
    }
    Ok(())
}

/// The header that record 0 carries, if that is well-formed and signed by the owner whom it names.
pub(crate) fn header_copy(store: &dyn ObjectStore) -> Option<(VaultId, Header)> {
    let first = key_of(ObjectName::Record(0)).ok()?;
    header_in_record(store).or_else(|| store.distrust(&first).then(|| header_in_record(store))?)
}

fn header_in_record(store: &dyn ObjectStore) -> Option<(VaultId, Header)> {
    let mut bytes = Vec::new();
    store.read(&key_of(ObjectName::Record(0)).ok()?, RECORD_LEN_MAX, &mut bytes).ok()?;
    let record = Record::decode(&bytes).ok()?;
    let details = Details::decode(RecordKind::Slots, true, record.public.details.as_deref()).ok()?;
    let Details::Genesis { header: copy } = details else { return None };
    let header = Header::decode(&copy).ok()?;
    let signed = record.public.signer == header.owner_key
        && signature_is_good(&record.public.signer, record.public_bytes, &record.signature);
    signed.then(|| (Header::vault_id(&copy), header))
}
