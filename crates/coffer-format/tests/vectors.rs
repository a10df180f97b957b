//! The vector files in `tests/vectors/` at the root of the workspace: `format.json` for the decoders, `replay.json` for the
//! log. Each test makes the vectors anew, compares them with the file, and runs the file's bytes through the decoders.
//!
//! `COFFER_WRITE_VECTORS=1 cargo test -p coffer-format --test vectors` writes the files instead;
//! `COFFER_WRITE_CORPUS=1` writes the same bytes as first inputs of the fuzz targets.

#![expect(clippy::unwrap_used, reason = "a vector that cannot be made or read fails its test")]

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

fn asked_for(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value == "1")
}

/// Writes the vectors if that was asked for, else compares them with the file; returns what the file holds under `list`.
fn settle(name: &str, about: &str, list: &str, vectors: &[Value]) -> Vec<Value> {
    if asked_for("COFFER_WRITE_VECTORS") {
        let text = serde_json::to_string_pretty(&json!({ "about": about, list: vectors })).unwrap() + "\n";
        std::fs::write(file(name), &text).unwrap();
    }
    let stored: Value = serde_json::from_str(&std::fs::read_to_string(file(name)).unwrap()).unwrap();
    assert_eq!(stored["about"], about, "{name}: it says something else of itself");
    let stored = stored[list].as_array().unwrap().clone();
    for (stored, made) in stored.iter().zip(vectors) {
        assert_eq!(stored, made, "{name}: a vector is not what the tests make");
    }
    assert_eq!(stored.len(), vectors.len(), "{name}: another number of vectors");
    stored
}

/// Writes an input for the fuzz target of this name, if there is one and that was asked for.
fn seed(target: &str, input: &[u8]) {
    let fuzz = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    if asked_for("COFFER_WRITE_CORPUS")
        && fuzz.join("fuzz_targets").join(target).with_extension("rs").exists()
    {
        let folder = fuzz.join("corpus").join(target);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(&hex(blake3::hash(input).as_bytes())[..16]), input).unwrap();
    }
}

/// Hexadecimal digits, with `(xx*n)` for n bytes xx where a byte stands often.
fn pack_hex(bytes: &[u8]) -> String {
    let runs = bytes.chunk_by(|a, b| a == b);
    runs.map(|run| if run.len() < 32 { hex(run) } else { format!("({}*{})", hex(&run[..1]), run.len()) })
        .collect()
}

fn unpack_hex(text: &str) -> Vec<u8> {
    let unhex = |digits: &str| -> Vec<u8> {
        assert!(digits.len().is_multiple_of(2));
        (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect()
    };
    let mut parts = text.split('(');
    let mut out = unhex(parts.next().unwrap());
    for part in parts {
        let (run, rest) = part.split_once(')').unwrap();
        let (byte, count) = run.split_once('*').unwrap();
        out.extend(unhex(byte).repeat(count.parse().unwrap()));
        out.extend(unhex(rest));
    }
    out
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
            let mut vector = json!({ "name": case.name, "what": what, "hex": pack_hex(&case.bytes) });
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
            let parameters = case.parameters.iter().flat_map(|parameter| parameter.1.to_le_bytes());
            seed(what, &[parameters.collect(), case.bytes.clone()].concat());
        }
    }
    let about = "Bytes and what a decoder must say of them, docs/format.md; README.md beside this file says how to read it.";
    let stored = settle("format.json", about, "vectors", &vectors);
    let (mut sound, mut broken) = (0, 0);
    for vector in &stored {
        let found = decode::decode(vector, &unpack_hex(vector["hex"].as_str().unwrap()));
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
    let orphans = state.orphans.iter().map(|orphan| match orphan {
        OrphanName::Pack(id) => json!([1, id.to_string()]),
        OrphanName::Segment(id) => json!([2, id.to_string()]),
    });
    let damaged = state.damaged.iter().map(
        |number| json!({ "record": number, "claimed_by": state.claims.get(number).map(|key| hex(key)) }),
    );
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
        "removed": state.removed.keys().map(ToString::to_string).collect::<Vec<_>>(),
        "orphans": orphans.collect::<Vec<_>>(),
        "swept_segments": state.swept_segments.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "swept_packs": state.swept_packs.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "snapshots": snapshots.collect::<Vec<_>>(),
        "damaged": damaged.collect::<Vec<_>>(),
        "canonical": state.encode().map(|bytes| pack_hex(&bytes)),
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
    if let Some(state) = state.encode() {
        seed("checkpoint", &state);
    }
    let records: Vec<_> = log
        .records
        .iter()
        .zip(&log.outcomes)
        .map(
            |(record, outcome)| json!({ "hex": record.as_ref().map(|bytes| pack_hex(bytes)), "outcome": outcome }),
        )
        .collect();
    json!({
        "name": log.name,
        "about": log.about,
        "header": pack_hex(&log.header),
        "vault_id": hex(&log.vault),
        "records": records,
        "state": summary(&state),
    })
}

#[test]
fn replay_vectors() {
    let vectors: Vec<_> = scenarios::all(&Ed25519).iter().map(replay_vector).collect();
    for log in scenarios::all(&Ed25519) {
        let objects = log.records.iter().map(|record| match record {
            Some(bytes) => [&u32::try_from(bytes.len()).unwrap().to_le_bytes(), &bytes[..]].concat(),
            None => u32::MAX.to_le_bytes().to_vec(),
        });
        let header = [&u32::try_from(log.header.len()).unwrap().to_le_bytes(), &log.header[..]].concat();
        seed("replay", &[header, objects.flatten().collect()].concat());
    }
    let about = "Logs and the state that follows from them, docs/format.md section 8.2; README.md says how to read it.";
    for vector in settle("replay.json", about, "scenarios", &vectors) {
        let records: Vec<_> = vector["records"].as_array().unwrap().iter().collect();
        let objects: Vec<_> = records.iter().map(|record| record["hex"].as_str().map(unpack_hex)).collect();
        let (outcomes, state) = replay(&unpack_hex(vector["header"].as_str().unwrap()), &objects);
        for (number, (record, outcome)) in records.iter().zip(outcomes).enumerate() {
            assert_eq!(record["outcome"], outcome, "{}: record {number}", vector["name"]);
        }
        assert_eq!(summary(&state), vector["state"], "{}", vector["name"]);
    }
}

/// A prune condemns what it names, until a sweep releases it.
#[test]
fn orphans_are_condemned() {
    let logs = scenarios::all(&Ed25519);
    let log = logs.iter().find(|log| log.name == "prune and sweep").unwrap();
    let (_, state) = replay(&log.header, &log.records[..4]);
    assert!(matches!(state.orphans.first(), Some(OrphanName::Pack(pack)) if pack.0 == id("stray pack")));
    assert_eq!(state.orphans.len(), 2);
    assert!(replay(&log.header, &log.records).1.orphans.is_empty());
}
