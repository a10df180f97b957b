//! Canonical states: replay goes on from each as from record 0, and nothing else decodes.

use super::*;
use crate::id::ChunkId;
use crate::log::{CheckpointBody, decode_manifests, encode_manifests};
use crate::tree::{ChunkRef, Content};

#[test]
fn replay_goes_on_from_every_state_as_from_record_0() {
    let mut resumed_count = 0;
    for log in scenarios::all(&FakeSign) {
        let mut state = start(&log);
        assert_eq!(state.encode(), None, "before record 0 there is nothing to encode");
        for (number, record) in log.records.iter().enumerate() {
            state.apply(stored(record), &check);
            let Some(bytes) = state.encode() else {
                assert!(!state.damaged.is_empty(), "{}", log.name);
                continue;
            };
            let mut resumed = LogState::decode(state.vault, &bytes).unwrap();
            let mut reference = state.clone();
            // A canonical state does not tell it.
            reference.named_slots = None;
            for (after, record) in log.records.iter().enumerate().skip(number + 1) {
                let stored = stored(record);
                let outcomes = (resumed.apply(stored, &check), reference.apply(stored, &check));
                assert_eq!(outcomes.0, outcomes.1, "{}, record {after} behind {number}", log.name);
            }
            assert_eq!(format!("{resumed:?}"), format!("{reference:?}"), "{}", log.name);
            resumed_count += 1;
        }
    }
    assert!(resumed_count > 100, "{resumed_count}");
}

#[test]
fn a_log_with_damage_has_no_canonical_state() {
    let logs = scenarios::all(&FakeSign);
    let damaged: Vec<_> = logs.iter().filter(|log| log.records.iter().any(Option::is_none)).collect();
    assert!(damaged.len() > 5);
    for log in damaged {
        let mut state = start(log);
        for record in &log.records {
            state.apply(stored(record), &check);
        }
        assert_eq!(state.encode().is_none(), !state.damaged.is_empty(), "{}", log.name);
    }
}

#[test]
fn no_other_bytes_decode() {
    for log in scenarios::all(&FakeSign) {
        let mut state = start(&log);
        let vault = state.vault;
        for record in &log.records {
            state.apply(stored(record), &check);
        }
        let Some(bytes) = state.encode() else { continue };
        for len in 0..bytes.len() {
            assert!(LogState::decode(vault, &bytes[..len]).is_err(), "{}, {len} bytes", log.name);
        }
        assert!(LogState::decode(vault, &[&bytes[..], &[0]].concat()).is_err());
        for position in 0..bytes.len() {
            let mut other = bytes.clone();
            other[position] ^= 0x20;
            // Whatever decodes is the canonical form of another state, never a second form of this one.
            if let Ok(decoded) = LogState::decode(vault, &other) {
                assert_eq!(decoded.encode().unwrap(), other, "{}, byte {position}", log.name);
            }
        }
    }
}

fn list(level: u8) -> Content {
    Content::List { level, rows: vec![ChunkRef { id: ChunkId([7; 32]), len: 9 }] }
}

#[test]
fn a_body_names_two_lists() {
    let body = CheckpointBody { state: list(0), manifests: list(1) };
    let bytes = body.encode().unwrap();
    assert_eq!(CheckpointBody::decode(&bytes).unwrap(), body);
    for len in 0..bytes.len() {
        assert!(CheckpointBody::decode(&bytes[..len]).is_err());
    }
    assert!(CheckpointBody::decode(&[&bytes[..], &[0]].concat()).is_err());
    let inline = CheckpointBody { state: list(0), manifests: Content::Inline(vec![1]) };
    assert!(inline.encode().is_err());
}

#[test]
fn manifests_come_back_in_order() {
    let manifests = vec![(SnapshotId([9; 32]), b"one".to_vec()), (SnapshotId([1; 32]), Vec::new())];
    let bytes = encode_manifests(&manifests);
    assert_eq!(decode_manifests(&bytes).unwrap(), manifests);
    for len in 0..bytes.len() {
        assert!(decode_manifests(&bytes[..len]).is_err());
    }
    let twice = [manifests[0].clone(), manifests[0].clone()];
    assert!(decode_manifests(&encode_manifests(&twice)).is_err());
}
