//! Replay of a log in which every signature verifies: a `u32` length and a header, then a `u32` length and bytes for each
//! record, the length `u32::MAX` for a missing one.
#![no_main]

use coffer_format::header::Header;
use coffer_format::log::{LogState, Outcome, StoredRecord};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    let Some(Some(header_bytes)) = next(&mut rest) else { return };
    let Ok(header) = Header::decode(header_bytes) else { return };
    let mut records = Vec::new();
    while let Some(record) = next(&mut rest) {
        records.push(record);
    }
    let start = LogState::new(Header::vault_id(header_bytes), &header);
    let first = replay(start.clone(), &records);
    let second = replay(start, &records);
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
});

/// Takes a length and that many bytes, or as many as there are.
fn next<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (len, after) = rest.split_first_chunk::<4>()?;
    let len = u32::from_le_bytes(*len);
    if len == u32::MAX {
        *rest = after;
        return Some(None);
    }
    let (bytes, after) = after.split_at(after.len().min(len as usize));
    *rest = after;
    Some(Some(bytes))
}

fn replay(mut state: LogState, records: &[Option<&[u8]>]) -> LogState {
    for (number, record) in (0..).zip(records) {
        assert_eq!(state.next, number);
        let (damage, before) = (state.damaged.len(), substance(&state));
        let stored = record.map_or(StoredRecord::Missing, StoredRecord::Whole);
        let outcome = state.apply(stored, &|_, _, _| true);
        assert!(outcome == Outcome::Effective || substance(&state) == before);
        assert_eq!(outcome == Outcome::Missing, record.is_none());
        assert!(state.damaged.len() <= damage + 1);
        assert!(state.damaged.is_sorted_by(|a, b| a < b));
        assert_eq!(state.head().is_some(), record.is_some());
        assert!(state.segments.keys().all(|segment| !state.removed.contains_key(segment)));
    }
    state
}

/// What a record without effect must leave alone.
fn substance(state: &LogState) -> impl PartialEq + use<> {
    let state = state.clone();
    (
        state.segments,
        state.removed,
        state.slots,
        state.signers,
        state.snapshots,
        state.term,
        state.home,
        state.minor,
    )
}
