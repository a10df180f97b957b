//! Switches, in Rust and over the admin endpoint.

use coffer_sandbox::ConditionMode;
use serde_json::{Value, json};

use super::client::{Desk, json as parsed, send, token};

#[test]
fn conditions_are_honoured_ignored_or_rejected() {
    let desk = Desk::with_bucket("bucket");
    let create = || desk.ask("PUT", "/bucket/a", &[("If-None-Match", "*")], b"x");
    create().expect(200);
    create().refused(412, "PreconditionFailed");
    desk.sandbox.switch(|switches| switches.condition_mode = ConditionMode::Ignored).unwrap();
    create().expect(200);
    desk.sandbox.switch(|switches| switches.condition_mode = ConditionMode::Rejected).unwrap();
    create().refused(501, "NotImplemented");
    desk.put("/bucket/a", b"y").expect(200);
}

#[test]
fn bursts_of_refusals_pass() {
    let desk = Desk::with_bucket("bucket");
    desk.sandbox
        .switch(|switches| {
            switches.slow_down_count = 2;
            switches.retry_after_s = Some(3);
        })
        .unwrap();
    assert_eq!(desk.get("/bucket").refused(503, "SlowDown").header("retry-after"), "3");
    desk.put("/bucket/a", b"x").refused(503, "SlowDown");
    desk.put("/bucket/a", b"x").expect(200);
}

/// What is refused by its head alone gets an answer all the same, and the connection no reset.
#[test]
fn a_large_body_that_is_refused_is_answered() {
    let desk = Desk::with_bucket("bucket");
    let body = vec![b'x'; 8 << 20];
    for _ in 0..5 {
        desk.sandbox.switch(|switches| switches.slow_down_count = 1).unwrap();
        desk.put("/bucket/a", &body).refused(503, "SlowDown");
        desk.put("/bucket/a?partNumber=1&uploadId=none", &body).refused(404, "NoSuchUpload");
    }
    desk.put("/bucket/a", &body).expect(200);
}

#[test]
fn the_admin_endpoint_does_what_the_rust_interface_does() {
    let desk = Desk::new();
    let admin = |method: &str, path: &str, body: Value| {
        let answer = send(desk.sandbox.admin_endpoint(), method, path, &[], body.to_string().as_bytes());
        (answer.status, parsed(&answer))
    };
    assert_eq!(admin("POST", "/buckets", json!({"name": "bucket", "object_lock": true})).0, 200);
    assert_eq!(admin("POST", "/buckets", json!({"name": "bucket"})).0, 400);
    let (_, id) = admin("POST", "/service-ids", json!({"name": "n", "policies": [{"roles": ["Reader"]}]}));
    let (_, key) = admin("POST", "/api-keys", json!({"service_id": id["id"]}));
    let token = token(&desk.sandbox, key["api_key"].as_str().unwrap());
    desk.ask_as(&token, "GET", "/bucket", &[], b"").expect(200);
    let policies = format!("/service-ids/{}/policies", id["id"].as_str().unwrap());
    assert_eq!(admin("PUT", &policies, json!([])).0, 200);
    desk.ask_as(&token, "GET", "/bucket", &[], b"").refused(403, "AccessDenied");
    let (_, keys) = admin("POST", "/hmac", json!({"service_id": id["id"]}));
    assert!(keys["access_key_id"].is_string() && keys["secret_access_key"].is_string());

    let before = admin("GET", "/state", json!({})).1["now_ms"].as_u64().unwrap();
    let after = admin("POST", "/clock", json!({"advance_s": 1000})).1["now_ms"].as_u64().unwrap();
    assert!(after - before >= 1_000_000);
    let (status, switches) = admin("PUT", "/switches", json!({"condition_mode": "ignored"}));
    assert_eq!((status, &switches["condition_mode"]), (200, &json!("ignored")));
    assert_eq!(desk.sandbox.switches().condition_mode, ConditionMode::Ignored);
    assert!(desk.sandbox.switches().is_list_unsorted, "what was not named stays");
    assert_eq!(admin("PUT", "/switches", json!({"unheard_of": 1})).0, 400);
    assert_eq!(admin("PUT", "/root-keys", json!({"crn": "crn:k", "enabled": false})).0, 200);
    assert_eq!(admin("PUT", "/quotas", json!({"bucket": "bucket", "hard_quota": 1})).0, 200);
    assert_eq!(admin("POST", "/tokens/expire", json!({"refresh_too": true})).0, 200);
    desk.get("/bucket").refused(401, "AccessDenied");
    assert_eq!(admin("GET", "/nothing", json!({})).0, 404);
}
