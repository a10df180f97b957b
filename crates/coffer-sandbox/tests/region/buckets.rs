//! Buckets: making, listing, locations, root keys, versions.

use coffer_sandbox::{NewBucket, SandboxOptions, WrongLocation};

use super::client::Desk;

const CRN: &str = "crn:v1:bluemix:public:kms:eu-de:a/1:2:key:3";

fn configuration(constraint: &str) -> String {
    format!(
        "<CreateBucketConfiguration><LocationConstraint>{constraint}</LocationConstraint></CreateBucketConfiguration>"
    )
}

#[test]
fn a_bearer_names_the_service_instance() {
    let desk = Desk::new();
    let guid = desk.sandbox.instance_id().to_owned();
    let crn = format!("crn:v1:bluemix:public:cloud-object-storage:global:a/1:{guid}::");
    desk.put("/bucket", b"").refused(400, "InvalidArgument");
    desk.get("/").refused(400, "InvalidArgument");
    desk.ask("PUT", "/bucket", &[("ibm-service-instance-id", "other")], b"").refused(403, "AccessDenied");
    desk.ask("PUT", "/bucket", &[("ibm-service-instance-id", &crn)], b"").expect(200);
    desk.ask("PUT", "/bucket", &[("ibm-service-instance-id", &guid)], b"")
        .refused(409, "BucketAlreadyOwnedByYou");
    let listed = desk.ask("GET", "/", &[("ibm-service-instance-id", &guid)], b"").expect(200);
    assert_eq!(listed.elements("Name"), ["bucket"]);
    desk.ask("PUT", "/cosv1-bucket", &[("ibm-service-instance-id", &guid)], b"")
        .refused(400, "InvalidBucketName");

    desk.put("/bucket/a", b"x").expect(200);
    desk.delete("/bucket").refused(409, "BucketNotEmpty");
    desk.delete("/bucket/a").expect(204);
    desk.delete("/bucket").expect(204);
    desk.ask("HEAD", "/bucket", &[], b"").expect(404);
}

#[test]
fn buckets_are_in_a_location_and_only_there() {
    let mut options = SandboxOptions::default();
    options.more_locations = vec!["eu".to_owned()];
    let desk = Desk::with(&options);
    let guid = desk.sandbox.instance_id().to_owned();
    let make = |name: &str, constraint: &str| {
        let body = configuration(constraint);
        desk.ask("PUT", &format!("/{name}"), &[("ibm-service-instance-id", &guid)], body.as_bytes())
    };
    make("bad", "us-south-standard").refused(400, "InvalidLocationConstraint");
    make("bad", "eu-de-golden").refused(400, "InvalidLocationConstraint");
    make("cool", "eu-de-cold").expect(200);
    assert!(desk.get("/cool?location").text().contains("eu-de-cold"));
    let mut elsewhere = NewBucket::named("wide");
    elsewhere.location_constraint = "eu-smart".to_owned();
    desk.sandbox.create_bucket(&elsewhere).unwrap();

    let listed = desk.ask("GET", "/?extended", &[("ibm-service-instance-id", &guid)], b"").expect(200);
    assert_eq!(listed.elements("Name"), ["cool", "wide"]);
    assert_eq!(listed.elements("LocationConstraint"), ["eu-de-cold", "eu-smart"]);
    let first =
        desk.ask("GET", "/?extended&max-keys=1", &[("ibm-service-instance-id", &guid)], b"").expect(200);
    assert_eq!((first.elements("Name").len(), first.element("IsTruncated").unwrap()), (1, "true".to_owned()));
    let next = format!("/?extended&marker={}", first.element("NextMarker").unwrap());
    let second = desk.ask("GET", &next, &[("ibm-service-instance-id", &guid)], b"").expect(200);
    assert_eq!(second.elements("Name"), ["wide"]);

    desk.put("/wide/a", b"x").refused(404, "NoSuchBucket");
    desk.sandbox.switch(|switches| switches.wrong_location = WrongLocation::Redirect).unwrap();
    desk.put("/wide/a", b"x").expect(301);
    let token = super::client::token(&desk.sandbox, desk.sandbox.api_key());
    let bearer = format!("Bearer {token}");
    let there = desk.sandbox.endpoint_of("eu").unwrap();
    super::client::send(there, "PUT", "/wide/a", &[("Authorization", &bearer)], b"x").expect(200);
}

#[test]
fn without_its_root_key_a_bucket_is_shut() {
    let desk = Desk::new();
    let guid = desk.sandbox.instance_id().to_owned();
    let make = || {
        let headers = [
            ("ibm-service-instance-id", &*guid),
            ("ibm-sse-kp-encryption-algorithm", "AES256"),
            ("ibm-sse-kp-customer-root-key-crn", CRN),
        ];
        desk.ask("PUT", "/bucket", &headers, b"")
    };
    make().refused(400, "InvalidArgument");
    desk.sandbox.set_root_key(CRN, true).unwrap();
    make().expect(200);
    let head = desk.ask("HEAD", "/bucket", &[], b"").expect(200);
    assert_eq!((head.header("ibm-sse-kp-enabled"), head.header("ibm-sse-kp-crk-id")), ("True", CRN));
    desk.put("/bucket/a", b"x").expect(200);
    desk.sandbox.set_root_key(CRN, false).unwrap();
    desk.get("/bucket/a").refused(403, "AccessDenied");
    desk.put("/bucket/b", b"x").refused(403, "AccessDenied");
    desk.get("/bucket").expect(200);
    desk.sandbox.set_root_key(CRN, true).unwrap();
    assert_eq!(desk.get("/bucket/a").expect(200).text(), "x");
}

#[test]
fn versions_and_delete_markers() {
    let desk = Desk::with_bucket("bucket");
    assert!(desk.get("/bucket?versioning").expect(200).element("Status").is_none());
    desk.put("/bucket/a", b"zero").expect(200);
    let status = |status: &str| {
        format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>")
    };
    desk.put("/bucket?versioning", status("Enabled").as_bytes()).expect(200);
    assert_eq!(desk.get("/bucket?versioning").element("Status").unwrap(), "Enabled");
    let one = desk.put("/bucket/a", b"one").expect(200).header("x-amz-version-id").to_owned();
    let marker = desk.delete("/bucket/a").expect(204);
    assert_eq!(marker.header("x-amz-delete-marker"), "true");
    let marker_id = marker.header("x-amz-version-id").to_owned();
    let gone = desk.get("/bucket/a").refused(404, "NoSuchKey");
    assert_eq!(gone.header("x-amz-delete-marker"), "true");
    desk.get(&format!("/bucket/a?versionId={marker_id}")).refused(405, "MethodNotAllowed");
    assert_eq!(desk.get(&format!("/bucket/a?versionId={one}")).expect(200).text(), "one");
    assert_eq!(desk.get("/bucket/a?versionId=null").expect(200).text(), "zero");
    desk.get("/bucket/a?versionId=none").refused(404, "NoSuchVersion");
    assert!(desk.get("/bucket").elements("Key").is_empty());
    let listed = desk.get("/bucket?versions").expect(200);
    assert_eq!(listed.elements("VersionId").len(), 3);
    assert_eq!(listed.elements("IsLatest").iter().filter(|one| *one == "true").count(), 1);

    desk.delete(&format!("/bucket/a?versionId={marker_id}")).expect(204);
    assert_eq!(desk.get("/bucket/a").expect(200).text(), "one");
    desk.put("/bucket?versioning", status("Suspended").as_bytes()).expect(200);
    assert_eq!(desk.put("/bucket/a", b"two").expect(200).header("x-amz-version-id"), "null");
    assert_eq!(desk.get("/bucket?versions").elements("VersionId").len(), 2, "the null version was replaced");
    desk.delete(&format!("/bucket/a?versionId={one}")).expect(204);
    assert_eq!(desk.get("/bucket/a").text(), "two");
}
