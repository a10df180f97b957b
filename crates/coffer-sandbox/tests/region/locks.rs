//! Object lock.

use std::time::Duration;

use coffer_sandbox::{NewBucket, Policy, Role};

use super::client::{Answer, Desk, token};

const DAY: Duration = Duration::from_secs(86_400);

fn desk() -> Desk {
    let desk = Desk::new();
    let mut bucket = NewBucket::named("bucket");
    bucket.object_lock = true;
    desk.sandbox.create_bucket(&bucket).unwrap();
    desk
}

/// An owner's token that lives on when the clock moves.
fn fresh(desk: &Desk) -> String {
    token(&desk.sandbox, desk.sandbox.api_key())
}

fn ask(desk: &Desk, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    desk.ask_as(&fresh(desk), method, target, headers, body.as_bytes())
}

fn configuration(rule: &str) -> String {
    format!(
        "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}</ObjectLockConfiguration>"
    )
}

fn retention(mode: &str, until: &str) -> String {
    format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>")
}

#[test]
fn a_default_rule_locks_new_versions() {
    let desk = desk();
    let rule = "<Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>30</Days></DefaultRetention></Rule>";
    desk.put("/bucket?object-lock", configuration(rule).as_bytes()).expect(200);
    assert_eq!(desk.get("/bucket?object-lock").expect(200).element("Days").unwrap(), "30");
    let id = desk.put("/bucket/a", b"x").expect(200).header("x-amz-version-id").to_owned();
    let head = desk.ask("HEAD", "/bucket/a", &[], b"").expect(200);
    assert_eq!(head.header("x-amz-object-lock-mode"), "COMPLIANCE");
    let target = format!("/bucket/a?versionId={id}");
    desk.delete(&target).refused(403, "AccessDenied");
    desk.ask("DELETE", &target, &[("x-amz-bypass-governance-retention", "true")], b"")
        .refused(403, "AccessDenied");
    desk.delete("/bucket/a").expect(204);
    desk.sandbox.advance(29 * DAY).unwrap();
    ask(&desk, "DELETE", &target, &[], "").refused(403, "AccessDenied");
    desk.sandbox.advance(DAY + Duration::from_secs(5)).unwrap();
    ask(&desk, "DELETE", &target, &[], "").expect(204);
}

#[test]
fn governance_yields_to_those_who_may_bypass_it() {
    let desk = desk();
    let headers = [
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-object-lock-retain-until-date", "2090-01-01T00:00:00Z"),
    ];
    let id = desk.ask("PUT", "/bucket/a", &headers, b"x").expect(200).header("x-amz-version-id").to_owned();
    let target = format!("/bucket/a?versionId={id}");
    let bypass = [("x-amz-bypass-governance-retention", "true")];
    let writer = desk.sandbox.create_service_id("writer", &[Policy::role(Role::Writer)]).unwrap();
    let writer = token(&desk.sandbox, &desk.sandbox.create_api_key(&writer).unwrap());
    desk.ask_as(&writer, "DELETE", &target, &bypass, b"").refused(403, "AccessDenied");

    let at = format!("/bucket/a?retention&versionId={id}");
    let sooner = retention("GOVERNANCE", "2089-01-01T00:00:00Z");
    desk.put(&at, sooner.as_bytes()).refused(403, "AccessDenied");
    desk.ask("PUT", &at, &bypass, sooner.as_bytes()).expect(200);
    desk.put(&at, retention("COMPLIANCE", "2091-01-01T00:00:00Z").as_bytes()).expect(200);
    assert_eq!(desk.get(&at).expect(200).element("Mode").unwrap(), "COMPLIANCE");
    desk.ask("PUT", &at, &bypass, sooner.as_bytes()).refused(403, "AccessDenied");
    desk.ask("DELETE", &target, &bypass, b"").refused(403, "AccessDenied");
}

#[test]
fn a_legal_hold_holds_until_it_is_lifted() {
    let desk = desk();
    let id = desk.put("/bucket/a", b"x").expect(200).header("x-amz-version-id").to_owned();
    let target = format!("/bucket/a?versionId={id}");
    desk.put("/bucket/a?legal-hold", b"<LegalHold><Status>ON</Status></LegalHold>").expect(200);
    assert_eq!(desk.get("/bucket/a?legal-hold").expect(200).element("Status").unwrap(), "ON");
    desk.delete(&target).refused(403, "AccessDenied");
    desk.put("/bucket/a?legal-hold", b"<LegalHold><Status>OFF</Status></LegalHold>").expect(200);
    desk.delete(&target).expect(204);
}

#[test]
fn locks_need_a_bucket_that_has_them() {
    let desk = Desk::with_bucket("plain");
    desk.get("/plain?object-lock").refused(404, "ObjectLockConfigurationNotFoundError");
    desk.put("/plain?object-lock", configuration("").as_bytes()).refused(409, "InvalidBucketState");
    let headers = [
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-object-lock-retain-until-date", "2090-01-01T00:00:00Z"),
    ];
    desk.ask("PUT", "/plain/a", &headers, b"x").refused(400, "InvalidRequest");
    desk.ask("PUT", "/plain/a", &headers[..1], b"x").refused(400, "InvalidArgument");
    let enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    desk.put("/plain?versioning", enabled).expect(200);
    desk.put("/plain?object-lock", configuration("").as_bytes()).expect(200);
    desk.ask("PUT", "/plain/a", &headers, b"x").expect(200);
    let suspended = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
    desk.put("/plain?versioning", suspended).refused(409, "InvalidBucketState");
}
