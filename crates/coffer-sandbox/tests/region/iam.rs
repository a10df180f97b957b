//! Tokens and policies.

use std::time::Duration;

use coffer_sandbox::{NewBucket, Policy, Role, TokenRefusal};

use super::client::{Desk, ask_iam, json, send, token};

#[test]
fn an_api_key_gives_a_token_with_the_fields_that_clients_read() {
    let desk = Desk::new();
    for path in ["/identity/token", "/oidc/token"] {
        let form = format!(
            "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey={}",
            desk.sandbox.api_key()
        );
        let answer = json(&ask_iam(&desk.sandbox, path, &form).expect(200));
        assert_eq!(answer["token_type"], "Bearer");
        assert_eq!(answer["expires_in"], 3600);
        let expires_s = answer["expiration"].as_u64().unwrap();
        assert!(expires_s.abs_diff(desk.sandbox.now_ms() / 1000 + 3600) <= 5);
        assert_eq!(answer["access_token"].as_str().unwrap().split('.').count(), 3);
        let form =
            format!("grant_type=refresh_token&refresh_token={}", answer["refresh_token"].as_str().unwrap());
        let refreshed = json(&ask_iam(&desk.sandbox, path, &form).expect(200));
        assert_ne!(refreshed["access_token"], answer["access_token"]);
    }
}

#[test]
fn wrong_grants_are_refused_as_ibm_does() {
    let desk = Desk::new();
    let refused = |form: &str| json(&ask_iam(&desk.sandbox, "/identity/token", form).expect(400));
    let answer = refused("grant_type=urn:ibm:params:oauth:grant-type:apikey&apikey=none");
    assert_eq!(answer["errorCode"], "BXNIM0415E");
    assert!(answer["errorMessage"].is_string() && answer["context"]["requestId"].is_string());
    assert_eq!(refused("grant_type=refresh_token&refresh_token=x")["errorCode"], "BXNIM0407E");
    assert_eq!(refused("grant_type=urn:ibm:params:oauth:grant-type:apikey")["errorCode"], "BXNIM0106E");
    assert_eq!(refused("grant_type=unheard-of")["errorCode"], "BXNIM0106E");
    send(desk.sandbox.iam_endpoint(), "GET", "/identity/token", &[], b"").expect(405);
    desk.sandbox.switch(|switches| switches.iam_unavailable_count = 1).unwrap();
    ask_iam(&desk.sandbox, "/identity/token", "grant_type=refresh_token&refresh_token=x").expect(503);
    refused("grant_type=refresh_token&refresh_token=x");
    desk.sandbox
        .switch(|switches| (switches.iam_unavailable_skip, switches.iam_unavailable_count) = (1, 2))
        .unwrap();
    let ask = || ask_iam(&desk.sandbox, "/identity/token", "grant_type=unheard-of").status;
    assert_eq!([ask(), ask(), ask(), ask()], [400, 503, 503, 400]);
}

#[test]
fn a_trusted_profile_is_taken_on_with_a_compute_resource_token() {
    let desk = Desk::with_bucket("bucket");
    let id = desk.sandbox.create_service_id("job", &[Policy::role(Role::Reader)]).unwrap();
    let profile = desk.sandbox.create_profile("nightly", "cr-secret", &id).unwrap();
    let grant = "grant_type=urn:ibm:params:oauth:grant-type:cr-token";
    for how in [format!("profile_id={profile}"), "profile_name=nightly".to_owned()] {
        let form = format!("{grant}&cr_token=cr-secret&{how}");
        let answer = json(&ask_iam(&desk.sandbox, "/identity/token", &form).expect(200));
        let token = answer["access_token"].as_str().unwrap();
        desk.ask_as(token, "GET", "/bucket", &[], b"").expect(200);
        desk.ask_as(token, "PUT", "/bucket/a", &[], b"x").refused(403, "AccessDenied");
        ask_iam(&desk.sandbox, "/identity/token", &form.replace("cr-secret", "other")).expect(400);
    }
}

#[test]
fn tokens_end_on_the_clock_of_the_region_and_at_a_word() {
    let desk = Desk::with_bucket("bucket");
    desk.get("/bucket").expect(200);
    desk.sandbox.advance(Duration::from_secs(3599 - 600)).unwrap();
    desk.get("/bucket").expect(200);
    desk.sandbox.advance(Duration::from_secs(602)).unwrap();
    desk.get("/bucket").refused(401, "AccessDenied");
    desk.sandbox.switch(|switches| switches.token_refusal = TokenRefusal::Forbidden).unwrap();
    desk.get("/bucket").refused(403, "AccessDenied");

    let fresh = token(&desk.sandbox, desk.sandbox.api_key());
    desk.ask_as(&fresh, "GET", "/bucket", &[], b"").expect(200);
    desk.sandbox.expire_tokens(false).unwrap();
    desk.ask_as(&fresh, "GET", "/bucket", &[], b"").refused(403, "AccessDenied");
}

#[test]
fn nobody_gets_in_without_a_name() {
    let desk = Desk::with_bucket("bucket");
    send(desk.sandbox.endpoint(), "GET", "/bucket", &[], b"").refused(403, "AccessDenied");
    send(desk.sandbox.endpoint(), "GET", "/bucket?protection", &[], b"").refused(403, "AccessDenied");
    desk.ask_as("made.up.token", "GET", "/bucket", &[], b"").refused(401, "AccessDenied");
}

/// What each role may do with one object and its bucket: list, read, write, delete, set a retention policy.
#[test]
fn roles_hold_what_the_table_of_ibm_says() {
    let desk = Desk::with_bucket("bucket");
    desk.put("/bucket/there", b"x").expect(200);
    let table = [
        (Role::Manager, [true, true, true, true, true]),
        (Role::Writer, [true, true, true, true, false]),
        (Role::Reader, [true, true, false, false, false]),
        (Role::ContentReader, [true, true, false, false, false]),
        (Role::ObjectReader, [false, true, false, false, false]),
        (Role::ObjectWriter, [false, false, true, false, false]),
    ];
    for (role, allowed) in table {
        let id = desk.sandbox.create_service_id("one", &[Policy::role(role).on_bucket("bucket")]).unwrap();
        let token = token(&desk.sandbox, &desk.sandbox.create_api_key(&id).unwrap());
        let may = |method: &str, target: &str| {
            let answer = desk.ask_as(&token, method, target, &[], b"");
            assert!(answer.status < 500, "{}", answer.text());
            answer.status != 403
        };
        let found = [
            may("GET", "/bucket"),
            may("GET", "/bucket/there"),
            may("PUT", "/bucket/new"),
            may("DELETE", "/bucket/new"),
            may("PUT", "/bucket?protection"),
        ];
        assert_eq!(found, allowed, "{role:?}");
        assert!(!may("GET", "/other"), "{role:?} is for one bucket");
    }
}

#[test]
fn single_actions_are_enough_and_nothing_else_is_allowed() {
    let desk = Desk::with_bucket("bucket");
    desk.sandbox.create_bucket(&NewBucket::named("other")).unwrap();
    let actions = ["cloud-object-storage.object.put", "cloud-object-storage.object.head"];
    let id = desk.sandbox.create_service_id("one", &[Policy::actions(actions).on_bucket("bucket")]).unwrap();
    let token = token(&desk.sandbox, &desk.sandbox.create_api_key(&id).unwrap());
    desk.ask_as(&token, "PUT", "/bucket/a", &[], b"x").expect(200);
    desk.ask_as(&token, "HEAD", "/bucket/a", &[], b"").expect(200);
    desk.ask_as(&token, "GET", "/bucket/a", &[], b"").refused(403, "AccessDenied");
    desk.ask_as(&token, "PUT", "/other/a", &[], b"x").refused(403, "AccessDenied");
    desk.ask_as(&token, "PUT", "/bucket/b", &[("x-amz-copy-source", "/bucket/a")], b"")
        .refused(403, "AccessDenied");
    let used = desk.sandbox.actions();
    assert_eq!(used["cloud-object-storage.object.put"], 1);
    assert_eq!(used["cloud-object-storage.object.get (refused)"], 1);

    desk.sandbox.set_policies(&id, &[]).unwrap();
    desk.ask_as(&token, "HEAD", "/bucket/a", &[], b"").expect(403);
    let unknown = Policy::actions(["cloud-object-storage.object.eat"]);
    assert!(desk.sandbox.set_policies(&id, &[unknown]).is_err());
}

#[test]
fn a_policy_can_be_for_one_service_instance() {
    let desk = Desk::with_bucket("bucket");
    let guid = desk.sandbox.instance_id().to_owned();
    let token_for = |instance: &str| {
        let policy = Policy::role(Role::Writer).in_instance(instance);
        let id = desk.sandbox.create_service_id("one", &[policy]).unwrap();
        token(&desk.sandbox, &desk.sandbox.create_api_key(&id).unwrap())
    };
    let (here, elsewhere) = (token_for(&guid), token_for("another"));
    let named = [("ibm-service-instance-id", &*guid)];
    desk.ask_as(&here, "PUT", "/new-bucket", &named, b"").expect(200);
    desk.ask_as(&here, "GET", "/bucket", &[], b"").expect(200);
    desk.ask_as(&elsewhere, "PUT", "/newer-bucket", &named, b"").refused(403, "AccessDenied");
    desk.ask_as(&elsewhere, "GET", "/bucket", &[], b"").refused(403, "AccessDenied");
}
