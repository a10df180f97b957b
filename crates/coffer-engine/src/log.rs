//! Reading the log to its head, and committing to it.

use std::ops::ControlFlow;

use coffer_format::header::Header;
use coffer_format::id::{Head, VaultId};
use coffer_format::limits::{HEADER_LEN_MAX, RECORD_LEN_MAX};
use coffer_format::log::{LogState, Outcome, StoredRecord};
use coffer_format::object::{LOG_PREFIX, ObjectName};
use coffer_format::record::{Details, Record, RecordKind, chain_value, chain_value_oversize};
use coffer_pipeline::record::signature_is_good;
use coffer_store::{ListItem, ObjectStore, PutOutcome, StoreError};

use crate::access::{Access, key_of};
use crate::error::EngineError;

/// How often a commit tries the next number before it gives up.
const COMMIT_ATTEMPT_COUNT_MAX: usize = 1000;
/// How many objects beyond a gap are looked at for evidence that the log once went on.
const EVIDENCE_COUNT_MAX: usize = 4096;

/// A gap longer than this is not believed, whoever signed what lies behind it.
const GAP_COUNT_MAX: u64 = 1_000_000;

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
    /// The first record that was read: 0, or that of a checkpoint.
    pub(crate) begins_at: u64,
    /// The number whose chain value is compared with the one remembered, and that value once it was met.
    watched: (Option<u64>, Option<[u8; 32]>),
}

impl Log {
    /// Reads header and log, and checks them against the vault id that is known from elsewhere and against what this machine saw before.
    /// What was read is not remembered before a key has proved that it is the vault meant.
    pub fn read(access: &Access<'_>, expected: Option<VaultId>) -> Result<Self, EngineError> {
        Self::read_from(access, expected, &mut |_, _| None)
    }

    /// As [`Self::read`], beginning behind the record up to which `begin` knows the state of the vault, if it does. It is told which records
    /// a listing shows.
    pub(crate) fn read_from(
        access: &Access<'_>,
        expected: Option<VaultId>,
        begin: &mut dyn FnMut(VaultId, &[u64]) -> Option<LogState>,
    ) -> Result<Self, EngineError> {
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
        let at_location = access.cache.and_then(|cache| recall(cache.remembered(&store.url())));
        let expected = expected.or(at_location.map(|(vault, _)| vault));
        let (vault, header, header_recovered) = read_header(store, expected)?;
        let remembered =
            access.cache.and_then(|cache| recall(cache.head(&vault).map(|head| Some((vault, head)))));
        let remembered = remembered.and_then(|(_, head)| head);
        let listed = listed_numbers(store, None)?;
        let state = begin(vault, &listed).unwrap_or_else(|| LogState::new(vault, &header));
        let from = state.next;
        let watched = (remembered.map(|head| head.number), None);
        let ineffective = Vec::new();
        let mut log = Self {
            vault,
            header,
            header_recovered,
            state,
            ineffective,
            memory_warning: None,
            begins_at: from,
            watched,
        };
        log.extend(store)?;
        log.look_at(store, &listed)?;
        if log.state.next == 0 {
            return Err(EngineError::Unfinished { store: store.url() });
        }
        if let Some(minor) = log.state.needs_minor {
            return Err(EngineError::NeedsNewer { minor });
        }
        if let Some(remembered) = remembered.filter(|head| head.number < from) {
            log.watched.1 = chain_value_of(store, remembered.number)?;
        }
        if let Some(remembered) = remembered
            && log.watched.1 != Some(remembered.chain)
        {
            return Err(EngineError::Rollback { store: store.url(), remembered });
        }
        log.memory_warning = memory_warning;
        Ok(log)
    }

    /// The head as far as the log was read.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.state.head()
    }

    /// Reads the records that follow, up to the first number that is absent.
    fn extend(&mut self, store: &dyn ObjectStore) -> Result<(), EngineError> {
        let mut buffer = Vec::new();
        while self.read_next(store, &mut buffer)? {}
        Ok(())
    }

    /// Applies the record with the next number; `false` if there is none.
    fn read_next(&mut self, store: &dyn ObjectStore, buffer: &mut Vec<u8>) -> Result<bool, EngineError> {
        let number = self.state.next;
        let key = key_of(ObjectName::Record(number))?;
        let outcome = match store.read(&key, RECORD_LEN_MAX, buffer) {
            Ok(()) => self.state.apply(StoredRecord::Whole(buffer), &signature_is_good),
            Err(error) if error.is_not_found() => return Ok(false),
            Err(StoreError::TooLong { len, .. }) => {
                buffer.resize(usize::try_from(RECORD_LEN_MAX).unwrap_or(usize::MAX), 0);
                store.read_range(&key, 0, buffer)?;
                self.state.apply(StoredRecord::Oversize(buffer, len), &signature_is_good)
            }
            Err(error) => return Err(error.into()),
        };
        if outcome != Outcome::Effective {
            self.ineffective.push((number, outcome));
        }
        if self.watched.0 == Some(number) {
            self.watched.1 = self.state.head().map(|head| head.chain);
        }
        Ok(true)
    }

    /// Where a record is absent, looks for later ones that an enrolled signer signed: then the absent one was lost.
    fn look_beyond(&mut self, store: &dyn ObjectStore) -> Result<(), EngineError> {
        self.look_at(store, &listed_numbers(store, Some(self.state.next))?)
    }

    /// As [`Self::look_beyond`], at records that were listed, in ascending order.
    fn look_at(&mut self, store: &dyn ObjectStore, listed: &[u64]) -> Result<(), EngineError> {
        let numbers = &listed[listed.partition_point(|number| *number < self.state.next)..];
        if numbers.len() > EVIDENCE_COUNT_MAX {
            let reason = format!(
                "more than {EVIDENCE_COUNT_MAX} objects lie in the log beyond its head; remove what is foreign"
            );
            return Err(EngineError::invalid(reason));
        }
        let mut buffer = Vec::new();
        for &number in numbers {
            if number < self.state.next {
                continue;
            }
            match store.read(&key_of(ObjectName::Record(number))?, RECORD_LEN_MAX, &mut buffer) {
                Ok(()) => {}
                // Neither proves anything.
                Err(
                    StoreError::TooLong { .. } | StoreError::NotFound { .. } | StoreError::NotAnObject { .. },
                ) => continue,
                Err(error) => return Err(error.into()),
            }
            let believable = number - self.state.next <= GAP_COUNT_MAX;
            if !believable || !self.state.is_evidence(number, &buffer, &signature_is_good) {
                continue;
            }
            while self.state.next < number {
                let lost = self.state.next;
                if !self.read_next(store, &mut buffer)? {
                    self.state.apply(StoredRecord::Missing, &signature_is_good);
                    self.ineffective.push((lost, Outcome::Missing));
                }
            }
            self.extend(store)?;
        }
        Ok(())
    }

    /// Remembers the head. That this cannot be done spoils no operation.
    pub(crate) fn remember(&mut self, access: &Access<'_>) {
        let (Some(cache), Some(head)) = (access.cache, self.head()) else { return };
        let done = cache
            .set_location(&access.store.url(), &self.vault)
            .and_then(|()| cache.set_head(&self.vault, &head, self.state.epoch()));
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
        for _ in 0..COMMIT_ATTEMPT_COUNT_MAX {
            self.extend(access.store)?;
            // A record that was lost leaves a gap, which must not be filled.
            self.look_beyond(access.store)?;
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
            match access.store.put_if_absent(&key, &bytes) {
                Ok(PutOutcome::Created) => {}
                Ok(PutOutcome::AlreadyExists) => continue,
                Err(error @ StoreError::SyncFailed { .. }) => return Err(error.into()),
                // The effect is unknown: what stands there decides, once the store says that it is durable.
                Err(error) => match chain_value_of(access.store, head.number) {
                    Ok(Some(chain)) if chain == head.chain => {
                        access.store.put_if_absent(&key, &bytes)?;
                    }
                    Ok(Some(_)) => continue,
                    Ok(None) | Err(_) => return Err(error.into()),
                },
            }
            self.state = after;
            self.remember(access);
            return Ok(head);
        }
        Err(refuse(format!("other writers took the next number {COMMIT_ATTEMPT_COUNT_MAX} times")))
    }
}

/// An error with its causes, in one line.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Numbers of the records that a listing shows, behind `after`, ascending. It stops where more are there than are looked at.
fn listed_numbers(store: &dyn ObjectStore, after: Option<u64>) -> Result<Vec<u64>, EngineError> {
    let mut numbers = Vec::new();
    let behind = after.map(|number| ObjectName::Record(number).to_string());
    store.list(LOG_PREFIX, behind.as_deref(), &mut |item: ListItem| {
        if let Some(ObjectName::Record(number)) = ObjectName::parse(&item.name) {
            numbers.push(number);
        }
        let enough = after.is_some() && numbers.len() > EVIDENCE_COUNT_MAX;
        if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// The chain value of the record object with this number; `None` if it is absent.
fn chain_value_of(store: &dyn ObjectStore, number: u64) -> Result<Option<[u8; 32]>, EngineError> {
    let mut bytes = Vec::new();
    match store.read(&key_of(ObjectName::Record(number))?, RECORD_LEN_MAX, &mut bytes) {
        Ok(()) => Ok(Some(chain_value(&bytes))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(StoreError::TooLong { len, .. }) => {
            let mut first = vec![0; usize::try_from(RECORD_LEN_MAX).unwrap_or(usize::MAX)];
            store.read_range(&key_of(ObjectName::Record(number))?, 0, &mut first)?;
            Ok(Some(chain_value_oversize(&first, len)))
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
    let read = store.read(&key_of(ObjectName::Header)?, HEADER_LEN_MAX, &mut bytes);
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

/// The header that record 0 carries, if that is well-formed and signed by the owner whom it names.
pub(crate) fn header_copy(store: &dyn ObjectStore) -> Option<(VaultId, Header)> {
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
