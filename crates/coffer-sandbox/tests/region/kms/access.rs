//! Who may do what, failures that are switched on, the audit log.

use coffer_sandbox::{KmsGone, KmsKind, Policy, Role, TokenRefusal};
use serde_json::{Value, json};

use super::{Safe, refused_shortly};
use crate::client::send;

#[test]
fn nobody_gets_in_without_a_token_and_an_instance() {
    let safe = Safe::new();
    let url = safe.sandbox.kms_endpoint();
    let instance = ("Bluemix-Instance", &*safe.guid);
    refused_shortly(send(url, "GET", "/api/v2/keys", &[instance], b""), 401);
    refused_shortly(
        send(url, "GET", "/api/v2/keys", &[instance, ("Authorization", "Bearer a.b.c")], b""),
        401,
    );
    refused_shortly(send(url, "GET", "/api/v2/keys", &[("Authorization", "Bearer a.b.c")], b""), 400);
    refused_shortly(safe.ask_as(&safe.token, "nowhere", "GET", "/keys", &Value::Null, &[]), 404);
    refused_shortly(send(url, "GET", "/keys", &[instance], b""), 404);
    refused_shortly(safe.get("/nothing"), 404);
    refused_shortly(safe.ask("PUT", "/keys", &json!({})), 404);
}

/// What each role may do: list, wrap, read a standard key, create, rotate, delete, policies, purge.
#[test]
fn roles_hold_what_the_table_of_ibm_says() {
    let safe = Safe::new();
    let table = [
        (Role::Reader, "yynnnnnn"),
        (Role::ReaderPlus, "yyynnnnn"),
        (Role::Writer, "yyyyynnn"),
        (Role::Manager, "yyyyyyyn"),
        (Role::KeyPurge, "nnnnnnny"),
    ];
    for (role, allowed) in table {
        let token = safe.other(&[Policy::role(role).in_instance(&safe.guid)]);
        let (root, standard) = (safe.root_key(), safe.key(&json!({"name": "standard", "extractable": true})));
        let calls = [
            ("GET", "/keys".to_owned(), Value::Null),
            ("POST", format!("/keys/{root}/actions/wrap"), Value::Null),
            ("GET", format!("/keys/{standard}"), Value::Null),
            ("POST", "/keys".to_owned(), super::collection(&[&json!({"name": "new"})])),
            ("POST", format!("/keys/{root}/actions/rotate"), Value::Null),
            ("DELETE", format!("/keys/{root}"), Value::Null),
            ("GET", "/instance/policies".to_owned(), Value::Null),
            ("DELETE", format!("/keys/{standard}/purge"), Value::Null),
        ];
        let found: String = calls
            .iter()
            .map(|(method, path, body)| {
                let answer = safe.ask_as(&token, &safe.guid, method, path, body, &[]);
                assert!(answer.status < 500, "{}", answer.text());
                if answer.status == 401 { 'n' } else { 'y' }
            })
            .collect();
        assert_eq!(found, allowed, "{role:?}");
        let elsewhere = safe.sandbox.create_kms_instance("elsewhere", KmsKind::KeyProtect).unwrap();
        refused_shortly(safe.ask_as(&token, &elsewhere, "GET", "/keys", &Value::Null, &[]), 401);
    }
}

#[test]
fn a_policy_can_be_for_one_key() {
    let safe = Safe::new();
    let (mine, other) =
        (safe.key(&json!({"name": "root", "extractable": false, "aliases": ["mine"]})), safe.root_key());
    let token = safe.other(&[Policy::role(Role::Reader).in_instance(&safe.guid).on_key(&mine)]);
    let wrap = |key: &str| {
        safe.ask_as(&token, &safe.guid, "POST", &format!("/keys/{key}/actions/wrap"), &Value::Null, &[])
    };
    wrap(&mine).expect(200);
    wrap("mine").expect(200);
    refused_shortly(wrap(&other), 401);
    refused_shortly(wrap("unheard-of"), 401);
    refused_shortly(safe.ask_as(&token, &safe.guid, "GET", "/keys", &Value::Null, &[]), 401);
    safe.sandbox.switch(|switches| switches.kms_denial = TokenRefusal::Forbidden).unwrap();
    refused_shortly(wrap(&other), 403);
}

#[test]
fn single_actions_are_enough() {
    let safe = Safe::new();
    let key = safe.root_key();
    let token = safe.other(&[Policy::actions(["kms.secrets.unwrap"]).in_instance(&safe.guid)]);
    let ciphertext = safe.wrap(&key, b"data", &[]);
    let ask = |action: &str| {
        let path = format!("/keys/{key}/actions/{action}");
        safe.ask_as(&token, &safe.guid, "POST", &path, &json!({"ciphertext": ciphertext}), &[])
    };
    ask("unwrap").expect(200);
    refused_shortly(ask("rewrap"), 401);
    assert_eq!(safe.sandbox.actions()["kms.secrets.unwrap"], 1);
    assert_eq!(safe.sandbox.actions()["kms.secrets.rewrap (refused)"], 1);
}

#[test]
fn failures_are_switched_on() {
    let safe = Safe::new();
    let key = safe.root_key();
    let ciphertext = safe.wrap(&key, b"data", &[]);
    let switch = |change: fn(&mut coffer_sandbox::Switches)| safe.sandbox.switch(change).unwrap();
    switch(|switches| {
        switches.kms_too_many_count = 2;
        switches.retry_after_s = Some(7);
    });
    for _ in 0..2 {
        let answer = safe.get("/keys");
        assert_eq!(answer.header("retry-after"), "7");
        refused_shortly(answer, 429);
    }
    switch(|switches| {
        switches.kms_failure_skip = 1;
        switches.kms_failure_count = 2;
    });
    let statuses: Vec<u16> = (0..4).map(|_| safe.get("/keys").status).collect();
    assert_eq!(statuses, [200, 500, 500, 200]);
    switch(|switches| switches.is_unwrap_denied = true);
    refused_shortly(safe.unwrap(&key, &ciphertext, &[]), 401);
    safe.wrap(&key, b"data", &[]);
    switch(|switches| switches.is_unwrap_denied = false);
    for (gone, status) in [(KmsGone::NotFound, 404), (KmsGone::Gone, 410)] {
        let guid = safe.guid.clone();
        safe.sandbox.switch(|switches| switches.kms_gone.extend([(guid, gone)])).unwrap();
        refused_shortly(safe.get("/keys"), status);
    }
    switch(|switches| {
        switches.kms_gone.clear();
        switches.kms_delay_ms = 300;
    });
    let since = std::time::Instant::now();
    safe.unwrap(&key, &ciphertext, &[]).expect(200);
    assert!(since.elapsed().as_millis() >= 300);
    let guid = safe.guid.clone();
    safe.sandbox.delete_kms_instance(&guid).unwrap();
    refused_shortly(safe.get("/keys"), 404);
}

#[test]
fn every_call_is_in_the_audit_log_without_secrets() {
    let safe = Safe::new();
    let material = [0xa5; 32];
    let key = safe.imported(&material);
    let ciphertext = safe.wrap(&key, b"a secret of the caller", &["aad-text"]);
    safe.unwrap(&key, &ciphertext, &["aad-text"]).expect(200);
    safe.unwrap(&key, &ciphertext, &["wrong"]).expect(422);
    let stranger = safe.other(&[]);
    let path = format!("/keys/{key}/actions/unwrap");
    safe.ask_as(&stranger, &safe.guid, "POST", &path, &json!({"ciphertext": ciphertext}), &[]).expect(401);
    safe.with("GET", "/keys", &Value::Null, &[("Correlation-Id", "call-6")]).expect(200);
    safe.ask_as("nobody", &safe.guid, "GET", "/keys", &Value::Null, &[]).expect(401);
    let mut entries = Vec::new();
    let head = safe
        .sandbox
        .verify_kms_audit(None, &mut |entry| {
            entries.push(entry.clone());
            Ok(())
        })
        .unwrap();
    let found: Vec<_> = entries.iter().map(|entry| (entry.action.as_str(), entry.status)).collect();
    let expected = [
        ("kms.secrets.create", 201),
        ("kms.secrets.wrap", 200),
        ("kms.secrets.unwrap", 200),
        ("kms.secrets.unwrap", 422),
        ("kms.secrets.unwrap", 401),
        ("kms.secrets.list", 200),
        ("kms.request", 401),
    ];
    assert_eq!(found, expected);
    assert_eq!((head.number, entries[5].correlation.as_str()), (7, "call-6"));
    assert!(entries[1..5].iter().all(|entry| entry.key.as_deref() == Some(&*key)));
    assert_eq!(entries[3].code.as_deref(), Some("UNPROCESSABLE_CIPHERTEXT_ERR"));
    assert_ne!(entries[4].identity, entries[3].identity);
    let text = serde_json::to_string(&entries).unwrap();
    for secret in ["a secret", "YSBzZWNyZXQ", &ciphertext[..40], "aad-text", "paWlpaWl", &safe.token] {
        assert!(!text.contains(secret), "{secret}");
    }
    safe.sandbox.verify_kms_audit(Some(&head), &mut |_| Ok(())).unwrap();
}

/// Nothing of a key is readable in the files of the service: not its name, not its material.
#[test]
fn the_database_shows_nothing() {
    let safe = Safe::new();
    let material: Vec<u8> = (0..32).map(|byte| byte * 7 + 3).collect();
    let payload = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(&material)
    };
    safe.key(&json!({"name": "a-telling-name", "extractable": true, "payload": payload, "aliases": ["telling-alias"]}));
    let bytes = std::fs::read(safe.sandbox.directory().join("kms.redb")).unwrap();
    let has = |wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
    assert!(has(safe.guid.as_bytes()), "this is the database");
    for secret in [&material[..], payload.as_bytes(), b"a-telling-name", b"telling-alias"] {
        assert!(!has(secret));
    }
}
