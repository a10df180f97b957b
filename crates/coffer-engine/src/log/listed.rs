//! Which records a listing shows: all of them, or those about the end of a log that is known.
//!
//! A listing costs a request for every thousand names, and not every store can begin one behind a given name. So where the end of the
//! log is known, one thousand of numbers is listed and no more, however long the log is: it holds what came since, and the evidence that a
//! record after the end was lost. What is further away than that is seen when the end has come nearer, and by whoever lists all.

use std::ops::ControlFlow;

use coffer_format::limits::LOG_NUMBER_MAX;
use coffer_format::object::{LOG_PREFIX, ObjectName};
use coffer_store::{ListItem, ObjectStore};

use crate::access::key_of;
use crate::error::EngineError;
use crate::parallel;

/// Digits of a number that the names of a block do not share.
const BLOCK_DIGIT_COUNT: usize = 3;
/// Numbers in a block: as many names as a store shows in one answer.
const BLOCK_LEN: u64 = 1000;
/// So many numbers behind the end are looked for at least. Near the end of a block that is the next one, and the few before it are asked
/// for one by one.
const LOOKED_FOR_COUNT: u64 = 4;

/// What a listing showed of the log.
#[derive(Debug)]
pub(super) struct Listed {
    /// Numbers, ascending.
    pub(super) numbers: Vec<u64>,
    /// Records from here on were not listed.
    end: u64,
}

impl Listed {
    /// Lists the whole log.
    pub(super) fn all(store: &dyn ObjectStore) -> Result<Self, EngineError> {
        Ok(Self { numbers: listed_numbers(store)?, end: u64::MAX })
    }

    /// Lists the records from `next` on, which is the end of the log as far as it is known.
    pub(super) fn from(store: &dyn ObjectStore, next: u64) -> Result<Self, EngineError> {
        let looked_for = next.saturating_add(LOOKED_FOR_COUNT - 1).min(LOG_NUMBER_MAX);
        let block = looked_for - looked_for % BLOCK_LEN;
        let mut numbers = below(store, next..block)?;
        if !numbers.is_empty() {
            // The log went on: all of it counts.
            numbers = in_block(store, block - BLOCK_LEN)?;
        }
        numbers.extend(in_block(store, block)?);
        numbers.retain(|number| *number >= next);
        numbers.sort_unstable();
        Ok(Self { numbers, end: block.saturating_add(BLOCK_LEN) })
    }

    /// Whether what may be evidence behind the record before `next` was looked for.
    pub(super) fn reaches(&self, next: u64) -> bool {
        next.saturating_add(LOOKED_FOR_COUNT) <= self.end || self.end > LOG_NUMBER_MAX
    }
}

/// Numbers of all records that a listing shows, ascending.
pub(crate) fn listed_numbers(store: &dyn ObjectStore) -> Result<Vec<u64>, EngineError> {
    let mut numbers = numbers_under(store, LOG_PREFIX)?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// Those in the block that begins with this number.
fn in_block(store: &dyn ObjectStore, first: u64) -> Result<Vec<u64>, EngineError> {
    let name = ObjectName::Record(first).to_string();
    numbers_under(store, &name[..name.len() - BLOCK_DIGIT_COUNT])
}

fn numbers_under(store: &dyn ObjectStore, prefix: &str) -> Result<Vec<u64>, EngineError> {
    let mut numbers = Vec::new();
    store.list(prefix, None, &mut |item: ListItem| {
        if let Some(ObjectName::Record(number)) = ObjectName::parse(&item.name) {
            numbers.push(number);
        }
        ControlFlow::Continue(())
    })?;
    Ok(numbers)
}

/// Those of these few that are there.
fn below(store: &dyn ObjectStore, numbers: std::ops::Range<u64>) -> Result<Vec<u64>, EngineError> {
    let asked = parallel::map(parallel::in_flight_small(store), numbers, |number| {
        // Its beginning, and not its length, for which another right may be needed.
        match store.read_range(&key_of(ObjectName::Record(number))?, 0, &mut [0]) {
            Ok(()) => Ok(Some(number)),
            Err(error) if error.is_not_found() => Ok(None),
            // Something is there.
            Err(error) if !error.is_of_store() => Ok(Some(number)),
            Err(error) => Err(EngineError::from(error)),
        }
    });
    asked.into_iter().filter_map(Result::transpose).collect()
}
