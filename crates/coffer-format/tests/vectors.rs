//! The vector files in `tests/vectors/` at the root of the workspace: `format.json` for the decoders, `replay.json` for the
//! log. Each test makes the vectors anew, compares them with the file, and runs the file's bytes through the decoders.
//!
//! `COFFER_WRITE_VECTORS=1 cargo test -p coffer-format --test vectors` writes the files instead.

#[path = "vectors/decode.rs"]
mod decode;
mod support;

use std::path::PathBuf;

use coffer_format::header::Header;
use coffer_format::id::{VaultId, hex};
use coffer_format::log::{LogState, Outcome, StoredRecord};
use coffer_format::record::OrphanName;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde_json::{Value, json};
use support::log::{Log, Sign};
use support::{Cases, cases, cases_data, id, scenarios};

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors").join(name)
}

/// Writes the vectors if that was asked for, else compares them with the file; returns what the file holds.
fn settle(name: &str, vectors: &[Value]) -> Vec<Value> {
    let text = serde_json::to_string_pretty(vectors).unwrap() + "\n";
    if std::env::var_os("COFFER_WRITE_VECTORS").is_some_and(|value| value == "1") {
        std::fs::write(file(name), &text).unwrap();
    }
    let stored = std::fs::read_to_string(file(name)).unwrap();
    let stored: Vec<Value> = serde_json::from_str(&stored).unwrap();
    for (stored, made) in stored.iter().zip(vectors) {
        assert_eq!(stored, made, "{name}: a vector is not what the tests make");
    }
    assert_eq!(stored.len(), vectors.len(), "{name}: another number of vectors");
    stored
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn format_cases() -> Vec<(&'static str, Cases)> {
    vec![
        ("cbor", cases::cbor()),
        ("header", cases::header()),
        ("slot", cases::slot()),
        ("record", cases::record()),
        ("details", cases::details()),
        ("body_plain", cases::body_plain()),
        ("path", cases_data::path()),
        ("leaf", cases_data::leaf()),
        ("node", cases_data::node()),
        ("content_rows", cases_data::content_rows()),
        ("holes", cases_data::holes()),
        ("xattrs", cases_data::xattrs()),
        ("manifest", cases_data::manifest()),
        ("frame_head", cases_data::frame_head()),
        ("directory", cases_data::directory()),
        ("footer", cases_data::footer()),
        ("segment_head", cases_data::segment_head()),
        ("pack_table", cases_data::pack_table()),
        ("padded_len", cases_data::padded_len()),
    ]
}

#[test]
fn format_vectors() {
    let mut vectors = Vec::new();
    for (what, cases) in format_cases() {
        for case in &cases.all {
            let mut vector = json!({ "name": case.name, "what": what, "hex": hex(&case.bytes) });
            for (parameter, value) in &case.parameters {
                vector[*parameter] = json!(value);
            }
            match case.fault {
                Some(rule) => (vector["expect"], vector["rule"]) = (json!("error"), json!(rule)),
                None => {
                    vector["expect"] = json!("ok");
                    vector["value"] = decode::decode(&vector, &case.bytes).expect(&case.name);
                }
            }
            vectors.push(vector);
        }
    }
    let stored = settle("format.json", &vectors);
    let (mut sound, mut broken) = (0, 0);
    for vector in &stored {
        let found = decode::decode(vector, &unhex(vector["hex"].as_str().unwrap()));
        match vector["expect"].as_str().unwrap() {
            "ok" => {
                assert_eq!(found.as_ref(), Ok(&vector["value"]), "{}", vector["name"]);
                sound += 1;
            }
            _ => {
                assert_eq!(found.unwrap_err(), vector["rule"], "{}", vector["name"]);
                broken += 1;
            }
        }
    }
    assert!(broken > 2 * sound, "{sound} sound and {broken} broken vectors");
}

/// Names of vectors are what a failure is reported by.
#[test]
fn names_are_distinct() {
    for (what, cases) in format_cases() {
        let mut names: Vec<_> = cases.all.iter().map(|case| &case.name).collect();
        names.sort_unstable();
        names.windows(2).for_each(|pair| assert_ne!(pair[0], pair[1], "{what}"));
    }
}

/// Ed25519 keys from fixed seeds.
struct Ed25519;

impl Ed25519 {
    fn key_of(name: &str) -> SigningKey {
        SigningKey::from_bytes(&id(&format!("coffer test signer {name}")))
    }
}

fn message(public: &[u8]) -> Vec<u8> {
    [b"coffer/1 log record\0", public].concat()
}

impl Sign for Ed25519 {
    fn key(&self, name: &str) -> [u8; 32] {
        Self::key_of(name).verifying_key().to_bytes()
    }

    fn sign(&self, name: &str, public: &[u8]) -> [u8; 64] {
        Self::key_of(name).sign(&message(public)).to_bytes()
    }
}

fn check(key: &[u8; 32], public: &[u8], signature: &[u8; 64]) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(&message(public), &signature).is_ok())
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Effective => "effective",
        Outcome::Missing => "missing",
        Outcome::Void(reason) => reason.name(),
    }
}

fn summary(state: &LogState) -> Value {
    let live = state.segments.iter().map(|(id, segment)| {
        json!({ "name": id.to_string(), "len": segment.len, "domain": segment.domain.to_string(), "added_by": segment.added_by })
    });
    let signers = state.signers.iter().map(|(key, signer)| {
        let domains: Vec<_> = signer.domains.iter().map(ToString::to_string).collect();
        json!({ "key": hex(key), "role": signer.role.number(), "domains": domains, "revoked": signer.revoked })
    });
    let snapshots = state.snapshots.iter().map(|snapshot| {
        json!({ "id": snapshot.id.to_string(), "record": snapshot.number, "forgotten": snapshot.forgotten, "held": snapshot.held })
    });
    let removed = state.removed.keys().filter(|id| !state.swept_segments.contains(id));
    json!({
        "next": state.next,
        "head": state.head().map(|head| head.to_string()),
        "term": state.term,
        "home": hex(&state.home),
        "minor": state.minor,
        "needs_minor": state.needs_minor,
        "owner_keys": state.epochs.iter().map(|epoch| hex(&epoch.owner_key)).collect::<Vec<_>>(),
        "slots": state.slots.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "signers": signers.collect::<Vec<_>>(),
        "live": live.collect::<Vec<_>>(),
        "removed": removed.map(ToString::to_string).collect::<Vec<_>>(),
        "swept_segments": state.swept_segments.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "swept_packs": state.swept_packs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "snapshots": snapshots.collect::<Vec<_>>(),
        "damaged": state.damaged,
    })
}

/// Replays records and returns their outcomes and the final state.
fn replay(header: &[u8], records: &[Option<Vec<u8>>]) -> (Vec<&'static str>, LogState) {
    let mut state =
        LogState::new(VaultId(*blake3::hash(header).as_bytes()), &Header::decode(header).unwrap());
    let mut outcomes = Vec::new();
    for record in records {
        let stored = record.as_ref().map_or(StoredRecord::Missing, |bytes| StoredRecord::Whole(bytes));
        outcomes.push(outcome(state.apply(stored, &check)));
    }
    (outcomes, state)
}

fn replay_vector(log: &Log<'_>) -> Value {
    let (outcomes, state) = replay(&log.header, &log.records);
    assert_eq!(outcomes, log.outcomes, "{}", log.name);
    let records: Vec<_> = log
        .records
        .iter()
        .zip(&log.outcomes)
        .map(
            |(record, outcome)| json!({ "hex": record.as_ref().map(|bytes| hex(bytes)), "outcome": outcome }),
        )
        .collect();
    json!({
        "name": log.name,
        "about": log.about,
        "header": hex(&log.header),
        "vault_id": hex(&log.vault),
        "records": records,
        "state": summary(&state),
    })
}

#[test]
fn replay_vectors() {
    let vectors: Vec<_> = scenarios::all(&Ed25519).iter().map(replay_vector).collect();
    for vector in settle("replay.json", &vectors) {
        let records: Vec<_> = vector["records"].as_array().unwrap().iter().collect();
        let objects: Vec<_> = records.iter().map(|record| record["hex"].as_str().map(unhex)).collect();
        let (outcomes, state) = replay(&unhex(vector["header"].as_str().unwrap()), &objects);
        for (number, (record, outcome)) in records.iter().zip(outcomes).enumerate() {
            assert_eq!(record["outcome"], outcome, "{}: record {number}", vector["name"]);
        }
        assert_eq!(summary(&state), vector["state"], "{}", vector["name"]);
    }
}

/// A prune condemns what it names, though the vectors leave it out.
#[test]
fn orphans_are_condemned() {
    let logs = scenarios::all(&Ed25519);
    let log = logs.iter().find(|log| log.name == "prune and sweep").unwrap();
    let (_, state) = replay(&log.header, &log.records[..4]);
    assert!(matches!(state.orphans.first(), Some(OrphanName::Pack(pack)) if pack.0 == id("stray pack")));
    assert_eq!(state.orphans.len(), 2);
}
