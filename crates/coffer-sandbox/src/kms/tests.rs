//! What is decided before anything is written, on a clock that stands still.

use http::{HeaderMap, Method};

use super::*;
use crate::clock::{DAY_MS, SECOND_MS};
use crate::switches::AadMode;

const NOW_MS: Millis = 1_767_323_045_000;

fn service() -> (tempfile::TempDir, Kms, String) {
    let directory = tempfile::tempdir().unwrap();
    let kms = Kms::open(directory.path(), "local", false).unwrap();
    let guid = kms.create_instance("keys", KmsKind::KeyProtect, NOW_MS).unwrap();
    (directory, kms, guid)
}

fn entries(kms: &Kms) -> Vec<AuditEntry> {
    let mut found = Vec::new();
    let mut show = |entry: &AuditEntry| {
        found.push(entry.clone());
        Ok(())
    };
    kms.verify_audit(None, &mut show).unwrap();
    found
}

/// Makes a call that is let in, or not.
fn with_call<T>(
    guid: &str,
    is_let_in: bool,
    (method, path, body): (&Method, &str, &str),
    then: impl FnOnce(&Call<'_>) -> T,
) -> T {
    then(&Call {
        method,
        path,
        query: "",
        headers: &HeaderMap::new(),
        body: body.as_bytes(),
        guid,
        identity: "somebody",
        allows: &|_, _| is_let_in,
        correlation: "c".to_owned(),
        now_ms: NOW_MS,
        peer: None,
        is_private: true,
        private_port: None,
        aad: AadMode::Honoured,
        registrations: &[],
    })
}

#[test]
fn callers_that_are_not_known_cost_one_entry_a_minute() {
    let (_directory, kms, guid) = service();
    let refuse = |after_s: u64| {
        for _ in 0..100 {
            assert_eq!(kms.refuse(&guid, &format!("at-{after_s}"), NOW_MS + after_s * SECOND_MS).status, 401);
        }
    };
    let counts = || entries(&kms).iter().map(|entry| entry.count).collect::<Vec<_>>();
    refuse(0);
    assert_eq!(counts(), [1], "the first is there at once");
    refuse(59);
    kms.sweep(NOW_MS + 59 * SECOND_MS).unwrap();
    assert_eq!(counts(), [1]);
    kms.sweep(NOW_MS + 60 * SECOND_MS).unwrap();
    kms.sweep(NOW_MS + 600 * SECOND_MS).unwrap();
    assert_eq!(counts(), [1, 199], "those of the minute together, and nothing where nobody came");
    refuse(601);
    refuse(602);
    kms.end(NOW_MS + 603 * SECOND_MS).unwrap();
    kms.end(NOW_MS + 603 * SECOND_MS).unwrap();
    assert_eq!(counts(), [1, 199, 1, 199]);
    let last = &entries(&kms)[3];
    assert_eq!((&*last.identity, last.status, &*last.correlation), ("-", 401, "at-602"));

    // Somebody who is known comes later than a minute: what was counted stands before that.
    refuse(604);
    with_call(&guid, true, (&Method::GET, "/keys", ""), |call| {
        kms.handle(&Call { now_ms: NOW_MS + 700 * SECOND_MS, correlation: "known".to_owned(), ..*call })
    });
    assert_eq!(counts(), [1, 199, 1, 199, 100, 1]);

    // Who names an instance that is not there leaves nothing.
    kms.refuse("none", "c", NOW_MS + 1000 * SECOND_MS);
    assert_eq!(entries(&kms).len(), 6);
}

#[test]
fn a_key_of_an_import_token_is_made_for_those_who_may_have_one() {
    let (_directory, kms, guid) = service();
    let closed = kms.create_instance("closed", KmsKind::Hpcs, NOW_MS).unwrap();
    let needs = |guid: &str, is_let_in: bool, method: &Method, path: &str, body: &str| {
        with_call(guid, is_let_in, (method, path, body), |call| kms.lock().needs_rsa(call))
    };
    let post = &Method::POST;
    assert!(needs(&guid, true, post, "/import_token", ""));
    assert!(needs(&guid, true, post, "/%69mport_token/", "{\"expiration\": 300}"));
    assert!(!needs(&guid, false, post, "/import_token", ""), "not let in");
    assert!(!needs(&guid, true, post, "/import_token", "{\"expiration\": 1}"), "not asked for as it must be");
    assert!(!needs(&closed, true, post, "/import_token", ""), "no master key");
    assert!(!needs("none", true, post, "/import_token", ""), "no such instance");
    assert!(!needs(&guid, true, &Method::GET, "/import_token", ""));
    assert!(!needs(&guid, true, post, "/keys", ""));
}

#[test]
fn the_audit_log_takes_no_text_of_a_caller_for_a_key() {
    let (_directory, kms, guid) = service();
    let long = format!("/keys/{}", "a".repeat(91));
    let forged = "/keys/x%0A7%202026-01-01T00:00:00Z%20token-admin%20kms.secrets.purge";
    let paths = ["/keys/my-alias_1", forged, "/keys/%1b%5b2J", "/keys/a%20b", &long, "/keys/%C3%A9%C3%A9"];
    for path in paths {
        for is_let_in in [true, false] {
            with_call(&guid, is_let_in, (&Method::GET, path, ""), |call| kms.handle(call));
        }
    }
    let keys: Vec<_> = entries(&kms).into_iter().map(|entry| entry.key.unwrap()).collect();
    assert_eq!(keys[..2], ["my-alias_1", "my-alias_1"]);
    assert_eq!(keys[2..], ["-"; 10]);
}

/// Makes a call at a time, from an address; gives the status and the answer.
fn call(
    (kms, guid): (&Kms, &str),
    now_ms: u64,
    (peer, identity): (Option<&str>, &str),
    (method, path, body): (&Method, &str, &str),
) -> (u16, serde_json::Value) {
    with_call(guid, true, (method, path, body), |call| {
        let peer = peer.map(|peer| peer.parse().unwrap());
        let reply = kms.handle(&Call { now_ms, peer, identity, correlation: "c".to_owned(), ..*call });
        let text = reply.body.as_ref().map(ToString::to_string).unwrap_or_default();
        (reply.status, serde_json::from_str(&text).unwrap_or_default())
    })
}

/// A body with one resource.
fn one(resource: serde_json::Value) -> String {
    serde_json::json!({"metadata": {"collectionTotal": 1}, "resources": [resource]}).to_string()
}

#[test]
fn a_clock_that_is_set_back_holds_nothing_up() {
    let (_directory, kms, guid) = service();
    let ahead_ms = NOW_MS + 1000 * DAY_MS;
    let ask = |now_ms: u64, who: &str, method: &Method, path: &str, body: &str| {
        let (status, answer) = call((&kms, &guid), now_ms, (None, who), (method, path, body));
        assert!(status < 400, "{method} {path}: {answer}");
        answer["resources"][0].clone()
    };
    let (get, put, post, delete) = (&Method::GET, &Method::PUT, &Method::POST, &Method::DELETE);
    let root = one(serde_json::json!({"name": "root", "extractable": false}));
    let new_key = || {
        let key = ask(NOW_MS, "a", post, "/keys", &root);
        format!("/keys/{}", key["id"].as_str().unwrap())
    };

    let key = new_key();
    for action in ["rotate", "sync", "disable"] {
        ask(ahead_ms, "a", post, &format!("{key}/actions/{action}"), "");
    }
    for action in ["enable", "rotate", "sync"] {
        ask(NOW_MS, "a", post, &format!("{key}/actions/{action}"), "");
    }
    ask(ahead_ms, "a", delete, &key, "");
    ask(NOW_MS, "a", post, &format!("{key}/restore"), "");
    ask(ahead_ms, "a", delete, &key, "");
    assert_eq!(ask(NOW_MS, "a", get, &key, "")["purgeAllowed"], true);
    ask(NOW_MS, "a", delete, &format!("{key}/purge"), "");

    // Half an authorization is good for seven days, not for a thousand; the first of two may ask again.
    let key = new_key();
    let dual = one(serde_json::json!({"dualAuthDelete": {"enabled": true}}));
    ask(NOW_MS, "a", put, &format!("{key}/policies"), &dual);
    ask(ahead_ms, "a", post, &format!("{key}/actions/setKeyForDeletion"), "");
    assert_eq!(call((&kms, &guid), NOW_MS, (None, "b"), (delete, &key, "")).0, 409);
    ask(NOW_MS, "a", post, &format!("{key}/actions/setKeyForDeletion"), "");
    ask(NOW_MS, "b", delete, &key, "");

    // The months of a policy count from when the clock is right again.
    let key = new_key();
    let monthly = one(serde_json::json!({"rotation": {"enabled": true, "interval_month": 1}}));
    ask(ahead_ms, "a", put, &format!("{key}/policies"), &monthly);
    let version = |now_ms: u64| ask(now_ms, "a", get, &key, "")["keyVersion"]["id"].clone();
    let first = version(NOW_MS);
    assert_eq!(version(NOW_MS + 29 * DAY_MS), first);
    assert_ne!(version(NOW_MS + 31 * DAY_MS), first);
}

#[test]
fn callers_from_elsewhere_are_kept_out() {
    let (_directory, kms, guid) = service();
    let put = |from: &str, range: &str| {
        let data = serde_json::json!({"enabled": true, "attributes": {"allowed_ip": [range]}});
        let body = one(serde_json::json!({"policy_type": "allowedIP", "policy_data": data}));
        call((&kms, &guid), NOW_MS, (Some(from), "a"), (&Method::PUT, "/instance/policies", &body)).0
    };
    let list = |from: &str| call((&kms, &guid), NOW_MS, (Some(from), "a"), (&Method::GET, "/keys", "")).0;
    assert_eq!((put("10.0.0.1", "192.0.2.0/24"), list("10.0.0.1")), (400, 200));
    assert_eq!(put("10.0.0.1", "10.0.0.0/8"), 204);
    assert_eq!((list("10.2.3.4"), list("192.0.2.1"), list("::1")), (200, 401, 401));
}
