//! What a checkpoint holds: the canonical state, the manifests, and the body that names them.
#![no_main]

use coffer_format::id::VaultId;
use coffer_format::log::{CheckpointBody, LogState, decode_manifests, encode_manifests};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(state) = LogState::decode(VaultId([7; 32]), data) {
        assert_eq!(state.encode().as_deref(), Some(data));
    }
    if let Ok(manifests) = decode_manifests(data) {
        assert_eq!(encode_manifests(&manifests), data);
    }
    if let Ok(body) = CheckpointBody::decode(data) {
        let again = body.encode().expect("it names chunks");
        assert_eq!(CheckpointBody::decode(&again).expect("what was encoded"), body);
    }
});
