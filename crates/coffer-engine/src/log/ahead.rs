//! Records read ahead of their turn, from a store that is far away.
//!
//! Records are immutable, so one that was read early is as good as one read in time. That one was absent counts for the reading in which it
//! was found so, and no longer: whoever looks for evidence of a loss asks again.

use std::collections::BTreeMap;

use coffer_format::limits::{LOG_NUMBER_MAX, RECORD_LEN_MAX};
use coffer_format::object::ObjectName;
use coffer_store::{ObjectStore, StoreError};

use crate::access::key_of;
use crate::error::EngineError;
use crate::parallel;

/// A longer record is read in its turn. A wave of them has at most 64 MiB.
const AHEAD_LEN_MAX: u64 = 256 << 10;
/// Records kept for their turn have at most this many bytes together, and one wave more.
const KEPT_LEN_MAX: usize = 32 << 20;

/// Reads records, several at once where that saves time.
pub(crate) struct Ahead<'s> {
    store: &'s dyn ObjectStore,
    in_flight: usize,
    /// As many of them are looked at together, back from the end of the log: no more, where most often the first few will do.
    look_count: usize,
    /// All records below this number are believed to be there, and are read with the one that is asked for.
    expected_end: u64,
    /// Beyond that, so many are: more with every time that all of them were there.
    run: u64,
    records: BTreeMap<u64, Vec<u8>>,
    kept_len: usize,
    /// The first number that was absent.
    absent: Option<u64>,
}

impl<'s> Ahead<'s> {
    /// A reader that believes in the records below `expected_end`.
    pub(crate) fn new(store: &'s dyn ObjectStore, expected_end: u64) -> Self {
        let in_flight = parallel::in_flight_many(store);
        let look_count = parallel::in_flight_small(store);
        let records = BTreeMap::new();
        Self { store, in_flight, look_count, expected_end, run: 1, records, kept_len: 0, absent: None }
    }

    pub(crate) const fn store(&self) -> &'s dyn ObjectStore {
        self.store
    }

    /// Reads a record whose turn has come into `buffer`.
    pub(crate) fn read(
        &mut self,
        number: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<Result<(), StoreError>, EngineError> {
        if let Some(bytes) = self.records.remove(&number) {
            self.kept_len -= bytes.len();
            *buffer = bytes;
            return Ok(Ok(()));
        }
        let key = key_of(ObjectName::Record(number))?;
        if self.absent.take_if(|absent| *absent == number).is_some() {
            return Ok(Err(StoreError::NotFound { name: key.to_string(), store: self.store.url() }));
        }
        let end = if number <= self.expected_end {
            self.expected_end
        } else {
            let end = number + self.run - 1;
            self.run = (2 * self.run).min(self.in_flight as u64);
            end
        };
        let end = end.min(number + self.in_flight as u64 - 1).min(LOG_NUMBER_MAX);
        if end > number {
            self.fetch(number..=end);
            if self.records.contains_key(&number) || self.absent == Some(number) {
                return self.read(number, buffer);
            }
        }
        Ok(self.store.read(&key, RECORD_LEN_MAX, buffer))
    }

    /// Copies a record into `buffer` without taking its turn; `false` if it cannot be read. Those before it come along.
    pub(crate) fn look(&mut self, number: u64, buffer: &mut Vec<u8>) -> bool {
        if !self.records.contains_key(&number) && self.in_flight > 1 {
            let from = (number + 1).saturating_sub(self.look_count as u64);
            // The end of the log is asked for as well.
            let end = if number + 1 == self.expected_end { number + 1 } else { number };
            self.fetch(from..=end);
        }
        if let Some(bytes) = self.records.get(&number) {
            buffer.clone_from(bytes);
            return true;
        }
        let Ok(key) = key_of(ObjectName::Record(number)) else { return false };
        self.store.read(&key, RECORD_LEN_MAX, buffer).is_ok()
    }

    /// Reads those of these records at once that are not there yet. What fails is left to its turn.
    pub(crate) fn fetch(&mut self, numbers: impl IntoIterator<Item = u64>) {
        let wanted: Vec<_> =
            numbers.into_iter().filter(|number| !self.records.contains_key(number)).collect();
        let store = self.store;
        let fetched = parallel::map(self.in_flight, wanted, |number| {
            let mut bytes = Vec::new();
            let read =
                key_of(ObjectName::Record(number)).map(|key| store.read(&key, AHEAD_LEN_MAX, &mut bytes));
            (number, read, bytes)
        });
        for (number, read, bytes) in fetched {
            match read {
                Ok(Ok(())) if self.kept_len < KEPT_LEN_MAX => {
                    self.kept_len += bytes.len();
                    self.records.insert(number, bytes);
                }
                Ok(Err(error)) if error.is_not_found() => {
                    self.absent = Some(self.absent.map_or(number, |absent| absent.min(number)));
                }
                _ => {}
            }
        }
    }
}

/// The number behind the last of those that are listed.
pub(crate) fn end_of(listed: &[u64]) -> u64 {
    listed.last().map_or(0, |last| last.saturating_add(1))
}
