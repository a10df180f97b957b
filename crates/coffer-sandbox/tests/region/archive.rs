//! Archive classes and lifecycle rules.

use std::time::Duration;

use super::client::{Answer, Desk, token};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn rule(inner: &str) -> String {
    format!(
        "<LifecycleConfiguration><Rule><ID>one</ID><Status>Enabled</Status>\
         <Filter><Prefix></Prefix></Filter>{inner}</Rule></LifecycleConfiguration>"
    )
}

fn transition(days: u32, class: &str) -> String {
    rule(&format!("<Transition><Days>{days}</Days><StorageClass>{class}</StorageClass></Transition>"))
}

fn ask(desk: &Desk, method: &str, target: &str, body: &str) -> Answer {
    desk.ask_as(&token(&desk.sandbox, desk.sandbox.api_key()), method, target, &[], body.as_bytes())
}

const RESTORE: &str = "<RestoreRequest><Days>2</Days><GlacierJobParameters><Tier>Bulk</Tier></GlacierJobParameters></RestoreRequest>";

#[test]
fn archived_objects_are_asked_back_before_they_are_read() {
    let desk = Desk::with_bucket("bucket");
    desk.put("/bucket?lifecycle", transition(1, "GLACIER").as_bytes()).expect(200);
    let shown = desk.get("/bucket?lifecycle").expect(200);
    assert_eq!(
        (shown.element("Days").unwrap(), shown.element("StorageClass").unwrap()),
        ("1".into(), "GLACIER".into())
    );
    desk.put("/bucket/a", b"cold").expect(200);
    let head = desk.ask("HEAD", "/bucket/a", &[], b"").expect(200);
    assert!(
        head.header("x-ibm-transition").contains("ARCHIVE")
            && !head.headers.contains_key("x-amz-storage-class")
    );
    ask(&desk, "POST", "/bucket/a?restore", RESTORE).refused(403, "InvalidObjectState");

    desk.sandbox.advance(DAY).unwrap();
    ask(&desk, "GET", "/bucket/a", "").refused(403, "InvalidObjectState");
    assert_eq!(ask(&desk, "GET", "/bucket", "").element("StorageClass").unwrap(), "GLACIER");
    ask(&desk, "POST", "/bucket/a?restore", RESTORE).expect(202);
    ask(&desk, "POST", "/bucket/a?restore", RESTORE).refused(409, "RestoreAlreadyInProgress");
    let head = ask(&desk, "HEAD", "/bucket/a", "").expect(200);
    assert_eq!(head.header("x-amz-restore"), "ongoing-request=\"true\"");
    assert_eq!(head.header("x-amz-storage-class"), "GLACIER");
    desk.sandbox.advance(11 * HOUR).unwrap();
    ask(&desk, "GET", "/bucket/a", "").refused(403, "InvalidObjectState");
    desk.sandbox.advance(HOUR + Duration::from_secs(5)).unwrap();
    let got = ask(&desk, "GET", "/bucket/a", "").expect(200);
    assert_eq!(got.text(), "cold");
    assert!(got.header("x-amz-restore").starts_with("ongoing-request=\"false\", expiry-date="));
    ask(&desk, "POST", "/bucket/a?restore", RESTORE).expect(200);
    desk.sandbox.advance(2 * DAY + HOUR).unwrap();
    ask(&desk, "GET", "/bucket/a", "").refused(403, "InvalidObjectState");
}

#[test]
fn accelerated_archives_come_back_sooner_and_a_switch_says_when() {
    let desk = Desk::with_bucket("bucket");
    desk.put("/bucket?lifecycle", transition(0, "ACCELERATED").as_bytes()).expect(200);
    desk.put("/bucket/a", b"cool").expect(200);
    desk.get("/bucket/a").refused(403, "InvalidObjectState");
    let copy = desk.ask("PUT", "/bucket/b", &[("x-amz-copy-source", "/bucket/a")], b"");
    copy.refused(403, "InvalidObjectState");
    ask(&desk, "POST", "/bucket/a?restore", RESTORE).expect(202);
    desk.sandbox.advance(2 * HOUR + Duration::from_secs(5)).unwrap();
    ask(&desk, "GET", "/bucket/a", "").expect(200);

    desk.sandbox.switch(|switches| switches.restore_delay_s = Some(0)).unwrap();
    ask(&desk, "PUT", "/bucket/c", "now").expect(200);
    ask(&desk, "POST", "/bucket/c?restore", RESTORE).expect(202);
    assert_eq!(ask(&desk, "GET", "/bucket/c", "").expect(200).text(), "now");
}

#[test]
fn rules_that_the_service_would_not_take_are_refused() {
    let desk = Desk::with_bucket("bucket");
    desk.get("/bucket?lifecycle").refused(404, "NoSuchLifecycleConfiguration");
    desk.put("/bucket?lifecycle", transition(1, "STANDARD_IA").as_bytes()).refused(400, "InvalidArgument");
    let prefixed = transition(1, "GLACIER").replace("<Prefix></Prefix>", "<Prefix>a/</Prefix>");
    desk.put("/bucket?lifecycle", prefixed.as_bytes()).refused(400, "InvalidArgument");
    desk.put("/bucket?lifecycle", transition(1, "GLACIER").as_bytes()).expect(200);
    desk.delete("/bucket?lifecycle").expect(204);
    desk.get("/bucket?lifecycle").refused(404, "NoSuchLifecycleConfiguration");
}

#[test]
fn rules_delete_what_has_expired_and_abort_what_was_left() {
    let desk = Desk::with_bucket("bucket");
    let rules = rule(
        "<Expiration><Days>3</Days></Expiration>\
         <AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
    );
    desk.put("/bucket?lifecycle", rules.as_bytes()).expect(200);
    desk.put("/bucket/old", b"x").expect(200);
    desk.ask("POST", "/bucket/left?uploads", &[], b"").expect(200);
    desk.sandbox.advance(2 * DAY).unwrap();
    assert!(ask(&desk, "GET", "/bucket?uploads", "").elements("UploadId").is_empty());
    ask(&desk, "PUT", "/bucket/new", "x").expect(200);
    desk.sandbox.advance(DAY + HOUR).unwrap();
    assert_eq!(ask(&desk, "GET", "/bucket", "").elements("Key"), ["new"]);
}
