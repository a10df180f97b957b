//! Test vectors for a second implementation: `tests/vectors/slots.json` of the workspace.
//!
//! The file is compared with what the code gives, and every vector in it is then checked by its text alone. With
//! `COFFER_WRITE_VECTORS=1` it is written anew instead of compared; a change in it is a change of the format.

mod check;
mod make;
#[path = "../common/rfc5649.rs"]
mod rfc5649;
mod soft_token;

use std::path::PathBuf;

use serde_json::{Value, json};

const ABOUT: &str = "Key slots, key files, recovery shares and writer credentials, section 7 of docs/format.md. Slots of kind 5 come with the keys that their token \
     would keep. Byte strings are lower-case hexadecimal. \
     `expect` is `ok` or how the vector is refused. What is refused may be refused at another step: a slot may be called \
     `malformed` where `wrong key` or `bad cost` stands, and the reverse; it never opens.";

fn path() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "tests", "vectors", "slots.json"].iter().collect()
}

#[test]
fn the_code_gives_the_stored_vectors() {
    let made = make::vectors();
    if std::env::var_os("COFFER_WRITE_VECTORS").is_some_and(|value| value == "1") {
        let file = json!({ "about": ABOUT, "vectors": made });
        let mut text = serde_json::to_string_pretty(&file).expect("JSON values can be written");
        text.push('\n');
        std::fs::write(path(), text).expect("the folder of the vectors can be written");
        return;
    }
    let text = std::fs::read_to_string(path()).expect("the vectors are part of the repository");
    let file: Value = serde_json::from_str(&text).expect("the vectors are JSON");
    let stored = file["vectors"].as_array().expect("the file has a list of vectors");
    assert_eq!(stored.len(), made.len(), "number of vectors");
    for (stored, made) in stored.iter().zip(&made) {
        assert_eq!(stored, made, "{}", made["name"]);
    }
}

#[test]
fn every_vector_ends_as_it_says() {
    for vector in make::vectors() {
        assert_eq!(check::outcome(&vector), vector["expect"], "{}", vector["name"]);
    }
}

#[test]
fn names_are_unique_and_refusals_outnumber_the_rest() {
    let vectors = make::vectors();
    let mut names: Vec<_> = vectors.iter().map(|vector| vector["name"].to_string()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), vectors.len());
    let accepted = vectors.iter().filter(|vector| vector["expect"] == "ok").count();
    assert!(vectors.len() - accepted > accepted, "{accepted} of {} are positive", vectors.len());
}
