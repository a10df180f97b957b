//! Every state × every action, and the times between.

use serde_json::{Value, json};

use super::{Safe, body, collection, refused, resource_of};
use crate::client::Answer;

/// What is done to a key.
const ACTIONS: [&str; 20] = [
    "get",
    "metadata",
    "versions",
    "wrap",
    "unwrap",
    "rewrap",
    "rotate",
    "enable",
    "disable",
    "setKeyForDeletion",
    "unsetKeyForDeletion",
    "sync",
    "move",
    "alias",
    "unalias",
    "policies",
    "dual authorization",
    "delete",
    "restore",
    "purge",
];

const ACTIVE: u64 = 1;
const SUSPENDED: u64 = 2;
const DEACTIVATED: u64 = 3;
const DESTROYED: u64 = 5;

/// A root key in a state, long enough in it for every least time, and a ciphertext of it.
fn key_in(safe: &mut Safe, state: u64) -> (String, String) {
    let soon = safe.sandbox.now_ms() / 1000 + 100;
    let date = time::OffsetDateTime::from_unix_timestamp(i64::try_from(soon).unwrap()).unwrap();
    let date = date.format(&time::format_description::well_known::Rfc3339).unwrap();
    let mut resource = json!({"name": "root", "extractable": false});
    if state == DEACTIVATED {
        resource["expirationDate"] = date.into();
    }
    let key = safe.key(&resource);
    let ciphertext = safe.wrap(&key, b"data", &[]);
    safe.post(&format!("/keys/{key}/aliases/old-alias"), &Value::Null).expect(201);
    match state {
        SUSPENDED => drop(safe.act(&key, "disable", &Value::Null).expect(204)),
        DESTROYED => drop(safe.ask("DELETE", &format!("/keys/{key}"), &Value::Null).expect(204)),
        _ => {}
    }
    safe.wait_s(5 * 3600);
    assert_eq!(resource_of(&safe.get(&format!("/keys/{key}/metadata")))["state"], state);
    (key, ciphertext)
}

/// Frees the aliases for the next key; whether they are still there does not matter.
fn forget_aliases(safe: &Safe, key: &str) {
    for alias in ["an-alias", "old-alias"] {
        safe.ask("DELETE", &format!("/keys/{key}/aliases/{alias}"), &Value::Null);
    }
}

fn perform(safe: &Safe, key: &str, ciphertext: &str, action: &str) -> Answer {
    let path = |tail: &str| format!("/keys/{key}{tail}");
    match action {
        "get" => safe.get(&path("")),
        "metadata" => safe.get(&path("/metadata")),
        "versions" => safe.get(&path("/versions")),
        "wrap" => safe.act(key, "wrap", &json!({"plaintext": "ZGF0YQ=="})),
        "unwrap" | "rewrap" => safe.act(key, action, &json!({"ciphertext": ciphertext})),
        "rotate" | "enable" | "disable" | "setKeyForDeletion" | "unsetKeyForDeletion" | "sync" => {
            safe.act(key, action, &Value::Null)
        }
        "move" => safe.ask("PATCH", &path(""), &json!({"keyRingID": "default"})),
        "alias" => safe.post(&path("/aliases/an-alias"), &Value::Null),
        "unalias" => safe.ask("DELETE", &path("/aliases/old-alias"), &Value::Null),
        "dual authorization" => {
            let policy = json!({"dualAuthDelete": {"enabled": true}});
            safe.ask("PUT", &path("/policies"), &collection(&[&policy]))
        }
        "policies" => {
            let policy = json!({"rotation": {"enabled": true, "interval_month": 1}});
            safe.ask("PUT", &path("/policies"), &collection(&[&policy]))
        }
        "delete" => safe.ask("DELETE", &path(""), &Value::Null),
        "restore" => safe.post(&path("/restore"), &Value::Null),
        "purge" => safe.ask("DELETE", &path("/purge"), &Value::Null),
        other => panic!("{other}"),
    }
}

/// The status, and the code of a refusal.
fn expected(state: u64, action: &str) -> (u16, &'static str) {
    const WRONG_STATE: (u16, &str) = (409, "KEY_ACTION_INVALID_STATE_ERR");
    const DELETED: (u16, &str) = (410, "KEY_DELETED_ERR");
    const NO_CONTENT: (u16, &str) = (204, "");
    const OK: (u16, &str) = (200, "");
    match (action, state) {
        ("get" | "metadata", _) => OK,
        ("restore", DESTROYED) => (201, ""),
        ("purge", DESTROYED) => NO_CONTENT,
        ("restore" | "purge", _) => WRONG_STATE,
        // The name is free again, long before the key is purged.
        ("unalias", _) => NO_CONTENT,
        (_, DESTROYED) => DELETED,
        ("versions" | "wrap", ACTIVE) => OK,
        ("versions" | "wrap", _) => WRONG_STATE,
        ("unwrap" | "rewrap", ACTIVE | DEACTIVATED) => OK,
        ("rotate", ACTIVE | DEACTIVATED) => NO_CONTENT,
        ("enable", SUSPENDED) => NO_CONTENT,
        ("disable", ACTIVE) => NO_CONTENT,
        ("unwrap" | "rewrap" | "rotate" | "enable" | "disable", _) => WRONG_STATE,
        ("setKeyForDeletion" | "unsetKeyForDeletion", _) => (409, "NOT_DUAL_AUTH_ERR"),
        ("alias", _) => (201, ""),
        ("move" | "policies" | "dual authorization", _) => OK,
        ("delete" | "sync", _) => NO_CONTENT,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_action_in_every_state() {
    let mut safe = Safe::new();
    for state in [ACTIVE, SUSPENDED, DEACTIVATED, DESTROYED] {
        for action in ACTIONS {
            let (key, ciphertext) = key_in(&mut safe, state);
            let answer = perform(&safe, &key, &ciphertext, action);
            let (status, code) = expected(state, action);
            assert_eq!(answer.status, status, "{action} in state {state}: {}", answer.text());
            if status >= 400 {
                refused(answer, status, code);
            }
            forget_aliases(&safe, &key);
        }
    }
}

/// Each action moves a key to the state of the reference, and a refused one leaves it where it is.
#[test]
fn states_follow_each_other() {
    let mut safe = Safe::new();
    for state in [ACTIVE, SUSPENDED, DEACTIVATED, DESTROYED] {
        for action in ACTIONS {
            let (key, ciphertext) = key_in(&mut safe, state);
            perform(&safe, &key, &ciphertext, action);
            forget_aliases(&safe, &key);
            let answer = safe.get(&format!("/keys/{key}/metadata"));
            let after = match (action, state) {
                ("purge", DESTROYED) => {
                    refused(answer, 404, "KEY_NOT_FOUND_ERR");
                    continue;
                }
                ("restore", DESTROYED) | ("enable", SUSPENDED) => ACTIVE,
                ("disable", ACTIVE) => SUSPENDED,
                ("delete", _) => DESTROYED,
                _ => state,
            };
            assert_eq!(resource_of(&answer)["state"], after, "{action} in state {state}");
        }
    }
}

#[test]
fn a_deletion_is_asked_for_in_every_state_but_the_last() {
    let mut safe = Safe::new();
    for state in [ACTIVE, SUSPENDED, DEACTIVATED] {
        let (key, ciphertext) = key_in(&mut safe, state);
        perform(&safe, &key, &ciphertext, "dual authorization").expect(200);
        for (action, is_set) in [("setKeyForDeletion", true), ("unsetKeyForDeletion", false)] {
            perform(&safe, &key, &ciphertext, action).expect(204);
            let shown = resource_of(&safe.get(&format!("/keys/{key}/metadata")));
            assert_eq!(shown["state"], state);
            assert_eq!(shown["dualAuthDelete"]["keySetForDeletion"], is_set, "{action} in state {state}");
        }
        forget_aliases(&safe, &key);
    }
}

#[test]
fn a_disabled_key_rests_for_half_a_minute() {
    let mut safe = Safe::new();
    let key = safe.root_key();
    safe.act(&key, "disable", &Value::Null).expect(204);
    refused(safe.act(&key, "enable", &Value::Null), 409, "REQ_TOO_EARLY_ERR");
    safe.wait_s(28);
    refused(safe.act(&key, "enable", &Value::Null), 409, "REQ_TOO_EARLY_ERR");
    safe.wait_s(3);
    safe.act(&key, "enable", &Value::Null).expect(204);
}

#[test]
fn a_key_is_rotated_once_an_hour() {
    let mut safe = Safe::new();
    let key = safe.root_key();
    safe.act(&key, "rotate", &Value::Null).expect(204);
    refused(safe.act(&key, "rotate", &Value::Null), 409, "KEY_ROTATION_NOT_PERMITTED");
    safe.wait_s(3590);
    refused(safe.act(&key, "rotate", &Value::Null), 409, "KEY_ROTATION_NOT_PERMITTED");
    safe.wait_s(15);
    safe.act(&key, "rotate", &Value::Null).expect(204);
    let versions = body(&safe.get(&format!("/keys/{key}/versions?totalCount=true")));
    assert_eq!(versions["metadata"]["totalCount"], 3);
    assert_eq!(versions["resources"][2]["id"], key, "the first version has the id of the key");
    refused(
        safe.act(&key, "rotate", &json!({"payload": "AAAAAAAAAAAAAAAAAAAAAA=="})),
        409,
        "KEY_ROTATION_NOT_PERMITTED",
    );
}

#[test]
fn resources_are_synced_once_an_hour() {
    let mut safe = Safe::new();
    let key = safe.root_key();
    safe.act(&key, "sync", &Value::Null).expect(204);
    refused(safe.act(&key, "sync", &Value::Null), 409, "REQ_TOO_EARLY_ERR");
    safe.wait_s(3605);
    safe.act(&key, "sync", &Value::Null).expect(204);
}

#[test]
fn a_deleted_key_comes_back_within_thirty_days() {
    let mut safe = Safe::new();
    let key = safe.root_key();
    let ciphertext = safe.wrap(&key, b"data", &["a"]);
    let path = format!("/keys/{key}");
    let answer = safe.with("DELETE", &path, &Value::Null, &[("Prefer", "return=representation")]).expect(200);
    let shown = resource_of(&answer);
    assert_eq!((&shown["state"], &shown["deleted"]), (&json!(5), &json!(true)));
    assert_eq!((&shown["restoreAllowed"], &shown["purgeAllowed"]), (&json!(true), &json!(false)));
    refused(safe.post(&format!("{path}/restore"), &Value::Null), 409, "REQ_TOO_EARLY_ERR");
    safe.wait_days(29);
    let answer = safe.post(&format!("{path}/restore"), &Value::Null).expect(201);
    assert_eq!(resource_of(&answer)["state"], 1);
    assert_eq!(super::plaintext(&safe.unwrap(&key, &ciphertext, &["a"]).expect(200)), b"data");

    safe.ask("DELETE", &path, &Value::Null).expect(204);
    refused(safe.ask("DELETE", &path, &Value::Null), 410, "KEY_DELETED_ERR");
    safe.wait_days(31);
    refused(safe.post(&format!("{path}/restore"), &Value::Null), 400, "KEY_RESTORE_EXPIRED");
    assert_eq!(resource_of(&safe.get(&path))["restoreAllowed"], false);
    safe.wait_days(58);
    safe.get(&path).expect(200);
    safe.wait_days(2);
    refused(safe.get(&path), 404, "KEY_NOT_FOUND_ERR");
}

#[test]
fn a_deleted_key_is_purged_after_four_hours() {
    let mut safe = Safe::new();
    let key = safe.root_key();
    safe.ask("DELETE", &format!("/keys/{key}"), &Value::Null).expect(204);
    let purge = format!("/keys/{key}/purge");
    refused(safe.ask("DELETE", &purge, &Value::Null), 409, "REQ_TOO_EARLY_ERR");
    safe.wait_s(4 * 3600 + 5);
    let manager = safe.manager();
    super::refused_shortly(safe.ask_as(&manager, &safe.guid, "DELETE", &purge, &Value::Null, &[]), 401);
    let answer =
        safe.with("DELETE", &purge, &Value::Null, &[("Prefer", "return=representation")]).expect(200);
    assert_eq!(resource_of(&answer)["id"], key.as_str());
    refused(safe.get(&format!("/keys/{key}")), 404, "KEY_NOT_FOUND_ERR");
}

#[test]
fn an_expired_key_is_not_restored_and_not_made_active() {
    let mut safe = Safe::new();
    let (key, _) = key_in(&mut safe, DEACTIVATED);
    safe.ask("DELETE", &format!("/keys/{key}"), &Value::Null).expect(204);
    safe.wait_s(60);
    refused(safe.post(&format!("/keys/{key}/restore"), &Value::Null), 400, "KEY_EXPIRED_ERR");
    let past = json!({"name": "root", "extractable": false, "expirationDate": "2020-01-01T00:00:00Z"});
    refused(safe.post("/keys", &collection(&[&past])), 400, "INVALID_FIELD_ERR");
}
