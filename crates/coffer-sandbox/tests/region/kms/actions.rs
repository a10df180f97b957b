//! Wrap, unwrap, rewrap: versions, additional data, ciphertexts, instances.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_sandbox::{AadMode, KeyPart, KmsKind, MasterKeySource};
use serde_json::{Value, json};

use super::{Safe, body, plaintext, refused};

#[test]
fn a_ciphertext_has_the_shape_of_the_service() {
    let safe = Safe::new();
    let key = safe.root_key();
    let answer = safe.act(&key, "wrap", &json!({"plaintext": STANDARD.encode(b"data")})).expect(200);
    let wrapped = body(&answer);
    assert_eq!(wrapped["keyVersion"]["id"], key.as_str());
    assert!(wrapped.get("plaintext").is_none());
    let text = STANDARD.decode(wrapped["ciphertext"].as_str().unwrap()).unwrap();
    let inside: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&inside["version"], &inside["handle"]), (&json!("4.0.0"), &json!(key)));
    assert_eq!(STANDARD.decode(inside["iv"].as_str().unwrap()).unwrap().len(), 12);
    assert_eq!(STANDARD.decode(inside["ciphertext"].as_str().unwrap()).unwrap().len(), 4 + 16);
    assert_eq!(inside.as_object().unwrap().len(), 4);
}

#[test]
fn without_a_plaintext_the_service_makes_one() {
    let safe = Safe::new();
    let key = safe.root_key();
    for request in [Value::Null, json!({}), json!({"plaintext": null}), json!({"plaintext": ""})] {
        let answer = safe.act(&key, "wrap", &request).expect(200);
        let made = plaintext(&answer);
        assert_eq!(made.len(), 32);
        let ciphertext = body(&answer)["ciphertext"].as_str().unwrap().to_owned();
        assert_eq!(plaintext(&safe.unwrap(&key, &ciphertext, &[]).expect(200)), made);
    }
}

#[test]
fn additional_data_are_bound_in_their_order() {
    let safe = Safe::new();
    let key = safe.root_key();
    let ciphertext = safe.wrap(&key, b"data", &["ab", "c"]);
    assert_eq!(plaintext(&safe.unwrap(&key, &ciphertext, &["ab", "c"]).expect(200)), b"data");
    let wrong: [&[&str]; 6] = [&[], &["ab"], &["c", "ab"], &["a", "bc"], &["abc"], &["ab", "c", ""]];
    for aad in wrong {
        refused(safe.unwrap(&key, &ciphertext, aad), 422, "UNPROCESSABLE_CIPHERTEXT_ERR");
        refused(
            safe.act(&key, "rewrap", &json!({"ciphertext": ciphertext, "aad": aad})),
            422,
            "UNPROCESSABLE_CIPHERTEXT_ERR",
        );
    }
    // None and an empty list are the same.
    let bare = safe.wrap(&key, b"data", &[]);
    assert_eq!(plaintext(&safe.act(&key, "unwrap", &json!({"ciphertext": bare})).expect(200)), b"data");
    let long = "x".repeat(256);
    refused(safe.act(&key, "wrap", &json!({"aad": [long]})), 400, "INVALID_FIELD_ERR");
    refused(safe.act(&key, "wrap", &json!({"aad": vec!["x"; 256]})), 400, "INVALID_FIELD_ERR");
    refused(safe.act(&key, "wrap", &json!({"aad": "x"})), 400, "INVALID_FIELD_ERR");
}

#[test]
fn older_versions_open_and_are_rewrapped() {
    let mut safe = Safe::new();
    let key = safe.root_key();
    let old = safe.wrap(&key, b"data", &["a"]);
    safe.act(&key, "rotate", &Value::Null).expect(204);
    let newest = body(&safe.get(&format!("/keys/{key}/versions")))["resources"][0]["id"].clone();
    assert_ne!(newest, key.as_str());

    let answer = body(&safe.unwrap(&key, &old, &["a"]).expect(200));
    assert_eq!((&answer["keyVersion"]["id"], &answer["rewrappedKeyVersion"]["id"]), (&json!(key), &newest));
    let fresh = answer["ciphertext"].as_str().unwrap();
    let answer = body(&safe.unwrap(&key, fresh, &["a"]).expect(200));
    assert_eq!(answer["keyVersion"]["id"], newest);
    assert!(answer.get("rewrappedKeyVersion").is_none() && answer.get("ciphertext").is_none());

    let answer = body(&safe.act(&key, "rewrap", &json!({"ciphertext": old, "aad": ["a"]})).expect(200));
    assert_eq!((&answer["keyVersion"]["id"], &answer["rewrappedKeyVersion"]["id"]), (&json!(key), &newest));
    assert!(answer.get("plaintext").is_none());
    let moved = answer["ciphertext"].as_str().unwrap();
    safe.wait_s(3700);
    safe.act(&key, "rotate", &Value::Null).expect(204);
    for ciphertext in [&old, fresh, moved] {
        assert_eq!(plaintext(&safe.unwrap(&key, ciphertext, &["a"]).expect(200)), b"data");
    }
}

#[test]
fn the_same_material_elsewhere_opens_what_was_wrapped_here() {
    let safe = Safe::new();
    for len in [16, 24, 32] {
        let material = vec![u8::try_from(len).unwrap(); len];
        let here = safe.imported(&material);
        let ciphertext = safe.wrap(&here, b"data", &["a"]);
        let guid = safe.sandbox.create_kms_instance("elsewhere", KmsKind::KeyProtect).unwrap();
        let there = safe.sandbox.create_kms_root_key(&guid, "same", Some(&material)).unwrap();
        let path = format!("/keys/{there}/actions/unwrap");
        let request = json!({"ciphertext": ciphertext, "aad": ["a"]});
        let answer = safe.ask_as(&safe.token, &guid, "POST", &path, &request, &[]).expect(200);
        assert_eq!(plaintext(&answer), b"data");
        let stranger = safe.sandbox.create_kms_root_key(&guid, "other", Some(&[9; 32])).unwrap();
        let path = format!("/keys/{stranger}/actions/unwrap");
        let answer = safe.ask_as(&safe.token, &guid, "POST", &path, &request, &[]);
        refused(answer, 422, "UNPROCESSABLE_CIPHERTEXT_ERR");
    }
}

/// A key that was rotated to new material still opens, in another instance, what the first material wrapped.
#[test]
fn every_version_is_tried() {
    let safe = Safe::new();
    let (first, second) = ([1; 32], [2; 32]);
    let here = safe.imported(&first);
    let ciphertext = safe.wrap(&here, b"data", &[]);
    let there = safe.imported(&first);
    refused(safe.act(&there, "rotate", &Value::Null), 400, "KEY_PAYLOAD_REQ_ERR");
    safe.act(&there, "rotate", &json!({"payload": STANDARD.encode(second)})).expect(204);
    let answer = safe.unwrap(&there, &ciphertext, &[]).expect(200);
    assert_eq!(plaintext(&answer), b"data");
    assert_eq!(body(&answer)["keyVersion"]["id"], there.as_str());
}

#[test]
fn what_is_no_ciphertext_is_refused() {
    let safe = Safe::new();
    let (key, other) = (safe.root_key(), safe.root_key());
    let good = safe.wrap(&other, b"data", &[]);
    for wrong in [&good, "x", "e30=", &STANDARD.encode("[]")] {
        refused(safe.unwrap(&key, wrong, &[]), 422, "UNPROCESSABLE_CIPHERTEXT_ERR");
    }
    refused(safe.act(&key, "unwrap", &json!({})), 400, "INVALID_FIELD_ERR");
    refused(safe.act(&key, "wrap", &json!({"plaintext": "%"})), 400, "INVALID_FIELD_ERR");
    refused(safe.act(&key, "wrap", &json!([])), 400, "BAD_BODY_ERR");
    let long = STANDARD.encode(vec![0; 65_537]);
    refused(safe.act(&key, "wrap", &json!({"plaintext": long})), 400, "INVALID_FIELD_ERR");
    let whole = STANDARD.encode(vec![0; 65_536]);
    safe.act(&key, "wrap", &json!({"plaintext": whole})).expect(200);
    let standard = safe.key(&json!({"name": "standard", "extractable": true}));
    for action in ["wrap", "rotate", "disable", "enable"] {
        refused(safe.act(&standard, action, &json!({})), 400, "KEY_ROOT_REQ_ERR");
    }
}

#[test]
fn the_deprecated_form_and_aliases_do_the_same() {
    let safe = Safe::new();
    let key = safe.key(&json!({"name": "root", "extractable": false, "aliases": ["by-name"]}));
    let answer = safe.post("/keys/by-name?action=wrap", &json!({"plaintext": "ZGF0YQ=="})).expect(200);
    let ciphertext = body(&answer)["ciphertext"].clone();
    let answer =
        safe.post(&format!("/keys/{key}?action=unwrap"), &json!({"ciphertext": ciphertext})).expect(200);
    assert_eq!(plaintext(&answer), b"data");
    safe.post("/keys/by-name?action=rotate", &Value::Null).expect(204);
    safe.post("/keys/by-name?action=eat", &Value::Null).expect(404);
}

#[test]
fn hpcs_does_with_additional_data_as_it_is_switched() {
    let safe = Safe::new();
    let guid = safe.sandbox.create_kms_instance("hpcs", KmsKind::Hpcs).unwrap();
    let parts = MasterKeySource::Parts(vec![KeyPart::generate(), KeyPart::generate()]);
    safe.sandbox.load_kms_master_key(&guid, &parts).unwrap();
    let key = safe.sandbox.create_kms_root_key(&guid, "root", None).unwrap();
    let ask = |action: &str, request: &Value| {
        let path = format!("/keys/{key}/actions/{action}");
        safe.ask_as(&safe.token, &guid, "POST", &path, request, &[])
    };
    let wrap = json!({"plaintext": "ZGF0YQ==", "aad": ["a"]});
    let bound = body(&ask("wrap", &wrap).expect(200))["ciphertext"].clone();
    refused(ask("unwrap", &json!({"ciphertext": bound})), 422, "UNPROCESSABLE_CIPHERTEXT_ERR");

    safe.sandbox.switch(|switches| switches.kms_aad = AadMode::Ignored).unwrap();
    let loose = body(&ask("wrap", &wrap).expect(200))["ciphertext"].clone();
    assert_eq!(plaintext(&ask("unwrap", &json!({"ciphertext": loose, "aad": ["b"]})).expect(200)), b"data");

    safe.sandbox.switch(|switches| switches.kms_aad = AadMode::Rejected).unwrap();
    refused(ask("wrap", &wrap), 400, "BAD_BODY_ERR");
    ask("wrap", &json!({})).expect(200);
    // Key Protect is not HPCS.
    let here = safe.root_key();
    let ciphertext = safe.wrap(&here, b"data", &["a"]);
    refused(safe.unwrap(&here, &ciphertext, &["b"]), 422, "UNPROCESSABLE_CIPHERTEXT_ERR");
}
