//! Test vectors for a second implementation: `tests/vectors/objects.json` of the workspace.
//!
//! The objects in it are put together from the specification (`make`), without the writers of this crate, and opened with its
//! readers (`check`). The file is compared with what `make` gives; with `COFFER_WRITE_VECTORS=1` it is written anew instead,
//! and a change in it is a change of the format. `COFFER_WRITE_CORPUS=1` writes what is inside the objects as first inputs of
//! the targets in `fuzz/`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod check;
mod make;

use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::{Value, json};

const ABOUT: &str = "Whole objects, changes to them, and how a reader with keys must end, docs/format.md; README.md beside \
     this file says how to read it.";

fn stored() -> &'static Value {
    static FILE: LazyLock<Value> = LazyLock::new(load);
    &FILE
}

fn load() -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/objects.json");
    if std::env::var_os("COFFER_WRITE_VECTORS").is_some_and(|value| value == "1") {
        let mut file = make::file();
        file["about"] = json!(ABOUT);
        // What an object holds stands in the file as this crate reads it; `make` states each outcome.
        for vector in file["vectors"].as_array().unwrap().clone() {
            let (outcome, value) = check::run(&file, &vector);
            assert_eq!(outcome, vector["expect"], "{}", vector["name"]);
            let position = file["vectors"].as_array().unwrap().iter().position(|other| *other == vector);
            if let Some(value) = value {
                file["vectors"][position.unwrap()]["value"] = value;
            }
        }
        std::fs::write(&path, serde_json::to_string_pretty(&file).unwrap() + "\n").unwrap();
    }
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()
}

#[test]
fn every_vector_ends_as_it_says() {
    let file = stored();
    assert_eq!(file["about"], ABOUT);
    for vector in file["vectors"].as_array().unwrap() {
        let (outcome, value) = check::run(file, vector);
        assert_eq!(outcome, vector["expect"], "{}", vector["name"]);
        assert_eq!(value.as_ref(), vector.get("value"), "{}", vector["name"]);
    }
}

/// The objects in the file are those that the specification gives, and say what was put into them.
#[test]
fn the_objects_are_made_anew() {
    let (file, made) = (stored(), make::file());
    assert_eq!(file["keys"], made["keys"]);
    assert_eq!(file["objects"], made["objects"]);
    let vectors = |file: &Value| -> Vec<Value> {
        let mut vectors = file["vectors"].as_array().unwrap().clone();
        for vector in &mut vectors {
            vector.as_object_mut().unwrap().remove("value");
        }
        vectors
    };
    assert_eq!(vectors(file), vectors(&made));
    make::check_values(file);
}

/// What the objects hold is sound or faulty as their vectors say, so it is worth starting from.
#[test]
fn seeds_for_fuzzing() {
    let seeds = make::seeds();
    assert!(
        ["payload", "record_body", "chunk_page"].iter().all(|name| seeds.iter().any(|seed| seed.0 == *name))
    );
    if std::env::var_os("COFFER_WRITE_CORPUS").is_some_and(|value| value == "1") {
        for (target, input) in seeds {
            let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join(&blake3::hash(&input).to_hex()[..16]), input).unwrap();
        }
    }
}

#[test]
fn names_are_unique_and_refusals_outnumber_the_rest() {
    let file = stored();
    let vectors = file["vectors"].as_array().unwrap();
    let mut names: Vec<_> = vectors.iter().map(|vector| vector["name"].to_string()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), vectors.len());
    let accepted = vectors.iter().filter(|vector| vector["expect"] == "ok").count();
    assert!(vectors.len() > 3 * accepted, "{accepted} of {} are positive", vectors.len());
}
