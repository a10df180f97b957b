//! Retention policies of immutable object storage.

use std::time::Duration;

use super::client::{Answer, Desk, md5, token};

const DAY_S: u64 = 86_400;

fn policy(minimum: u32, default: u32, maximum: u32) -> String {
    format!(
        "<ProtectionConfiguration><Status>Retention</Status><MinimumRetention><Days>{minimum}</Days></MinimumRetention>\
         <DefaultRetention><Days>{default}</Days></DefaultRetention>\
         <MaximumRetention><Days>{maximum}</Days></MaximumRetention></ProtectionConfiguration>"
    )
}

fn desk() -> Desk {
    let desk = Desk::with_bucket("bucket");
    desk.put("/bucket?protection", policy(1, 10, 100).as_bytes()).expect(200);
    desk
}

fn put(desk: &Desk, key: &str, headers: &[(&str, &str)]) -> Answer {
    let sum = md5(b"x");
    let headers: Vec<_> = headers.iter().copied().chain([("Content-MD5", &*sum)]).collect();
    desk.ask("PUT", &format!("/bucket/{key}"), &headers, b"x")
}

fn retention_s(desk: &Desk, key: &str) -> u64 {
    desk.ask("HEAD", &format!("/bucket/{key}"), &[], b"")
        .expect(200)
        .header("retention-period")
        .parse()
        .unwrap()
}

#[test]
fn a_policy_protects_objects_until_their_time() {
    let desk = desk();
    let shown = desk.get("/bucket?protection").expect(200);
    assert_eq!(shown.elements("Days"), ["1", "10", "100"]);
    assert_eq!(shown.header("x-ibm-protection-management-state"), "Retention");
    desk.put("/bucket/a", b"x").refused(400, "InvalidRequest");
    put(&desk, "a", &[]).expect(200);
    assert_eq!(retention_s(&desk, "a"), 10 * DAY_S);
    desk.delete("/bucket/a").refused(403, "AccessDenied");
    put(&desk, "a", &[]).refused(403, "AccessDenied");
    let body = b"<Delete><Object><Key>a</Key></Object></Delete>";
    let answer = desk.ask("POST", "/bucket?delete", &[("Content-MD5", &md5(body))], body).expect(200);
    assert_eq!(answer.element("Code").unwrap(), "AccessDenied");

    desk.sandbox.advance(Duration::from_secs(10 * DAY_S + 5)).unwrap();
    let token = token(&desk.sandbox, desk.sandbox.api_key());
    desk.ask_as(&token, "DELETE", "/bucket/a", &[], b"").expect(204);
}

#[test]
fn headers_choose_within_the_policy() {
    let desk = desk();
    put(&desk, "a", &[("Retention-Period", "172800")]).expect(200);
    assert_eq!(retention_s(&desk, "a"), 2 * DAY_S);
    put(&desk, "b", &[("Retention-Period", "60")]).refused(400, "InvalidArgument");
    put(&desk, "b", &[("Retention-Period", "8640001")]).refused(400, "InvalidArgument");
    put(&desk, "b", &[("Retention-Period", "x")]).refused(400, "InvalidArgument");
    let both = [("Retention-Period", "172800"), ("Retention-Expiration-Date", "2090-01-01T00:00:00Z")];
    put(&desk, "b", &both).refused(400, "InvalidArgument");
    put(&desk, "b", &both[1..]).refused(400, "InvalidArgument");
    desk.get("/bucket/b").refused(404, "NoSuchKey");
}

#[test]
fn retention_only_grows() {
    let desk = desk();
    put(&desk, "a", &[]).expect(200);
    let extend = |headers: &[(&str, &str)]| desk.ask("POST", "/bucket/a?extendRetention", headers, b"");
    extend(&[("Additional-Retention-Period", "86400")]).expect(200);
    assert_eq!(retention_s(&desk, "a"), 11 * DAY_S);
    extend(&[("New-Retention-Period", "1036800")]).expect(200);
    assert_eq!(retention_s(&desk, "a"), 12 * DAY_S);
    extend(&[("Extend-Retention-From-Current-Time", "1296000")]).expect(200);
    assert!(retention_s(&desk, "a").abs_diff(15 * DAY_S) < 300);
    extend(&[("New-Retention-Period", "86400")]).refused(400, "InvalidArgument");
    extend(&[("New-Retention-Period", "8640001")]).refused(400, "InvalidArgument");
    extend(&[]).refused(400, "InvalidArgument");
    extend(&[("New-Retention-Period", "1"), ("Additional-Retention-Period", "1")])
        .refused(400, "InvalidArgument");
}

#[test]
fn legal_holds_have_ids() {
    let desk = desk();
    put(&desk, "a", &[("Retention-Legal-Hold-ID", "first")]).expect(200);
    let post = |query: &str| desk.ask("POST", &format!("/bucket/a?legalHold&{query}"), &[], b"");
    post("add=second").expect(200);
    post("add=second").refused(409, "OperationAborted");
    post(&format!("add={}", "x".repeat(65))).refused(400, "InvalidArgument");
    let head = desk.ask("HEAD", "/bucket/a", &[], b"").expect(200);
    assert_eq!(head.header("retention-legal-hold-count"), "2");
    assert_eq!(desk.get("/bucket/a?legalHold").expect(200).elements("ID"), ["first", "second"]);
    desk.sandbox.advance(Duration::from_secs(11 * DAY_S)).unwrap();
    let token = token(&desk.sandbox, desk.sandbox.api_key());
    let ask = |method: &str, target: &str| desk.ask_as(&token, method, target, &[], b"");
    ask("DELETE", "/bucket/a").refused(403, "AccessDenied");
    ask("POST", "/bucket/a?legalHold&remove=first").expect(200);
    ask("POST", "/bucket/a?legalHold&remove=first").refused(400, "InvalidArgument");
    ask("POST", "/bucket/a?legalHold&remove=second").expect(200);
    ask("DELETE", "/bucket/a").expect(204);
}

#[test]
fn a_policy_excludes_versions_and_cannot_be_taken_away() {
    let desk = desk();
    let enabled = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    desk.put("/bucket?versioning", enabled).refused(409, "InvalidBucketState");
    let off = b"<ProtectionConfiguration><Status>Disabled</Status></ProtectionConfiguration>";
    desk.put("/bucket?protection", off).refused(400, "InvalidArgument");
    desk.put("/bucket?protection", policy(5, 4, 6).as_bytes()).refused(400, "InvalidArgument");
    desk.put("/bucket?protection", policy(1, 20, 200).as_bytes()).expect(200);

    desk.sandbox.create_bucket(&coffer_sandbox::NewBucket::named("other")).unwrap();
    assert_eq!(desk.get("/other?protection").expect(200).element("Status").unwrap(), "Disabled");
    let hold = [("Retention-Legal-Hold-ID", "x")];
    desk.ask("PUT", "/other/a", &hold, b"x").refused(400, "InvalidRequest");
    desk.put("/other/a", b"x").expect(200);
    desk.put("/other?protection", policy(1, 2, 3).as_bytes()).refused(409, "InvalidBucketState");
    desk.delete("/other/a").expect(204);
    desk.put("/other?versioning", enabled).expect(200);
    desk.put("/other?protection", policy(1, 2, 3).as_bytes()).refused(409, "InvalidBucketState");
}
