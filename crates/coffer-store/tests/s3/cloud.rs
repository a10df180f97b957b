//! Versions, locks and archive classes, against canned answers: what is asked, and what is made of the answer.

use std::ops::ControlFlow;

use coffer_store::{
    Access, CloudStore, Fact, ObjectKey, ObjectLock, ObjectStore, Protection, RestoreTier, Retention,
    RetentionMode, S3Store, StoreError, VersionRule, VersionedStore, Versioning,
};

use crate::scripted::{Reply, Request, Scripted, reply, xml_error};
use crate::server::{location, options};

const UNTIL_S: u64 = 1_900_000_000;

fn key() -> ObjectKey {
    ObjectKey::new("packs/1").expect("a valid name")
}

fn xml(body: &str) -> Reply {
    reply("200 OK", &[("Content-Type", "application/xml")], body.as_bytes())
}

fn store(server: &Scripted) -> S3Store {
    S3Store::open(location("cos://eu-de/bucket/x"), &options(server.endpoint())).expect("a store")
}

#[track_caller]
fn check_signed(request: &Request) {
    let authorization = request.header("authorization").unwrap_or_default();
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{request:?}");
}

#[test]
fn facts_of_a_bucket() {
    let server = Scripted::start(|_, request, _| {
        let query = request.target.split('?').nth(1).unwrap_or_default();
        match query.split(['=', '&']).next().unwrap_or_default() {
            "versioning" => {
                xml("<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
            }
            "location" => xml("<LocationConstraint>eu-de-standard</LocationConstraint>"),
            "object-lock" => xml(
                "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                 <Mode>COMPLIANCE</Mode><Years>2</Years></DefaultRetention></Rule></ObjectLockConfiguration>",
            ),
            "protection" => {
                xml("<ProtectionConfiguration><Status>Retention</Status><MinimumRetention><Days>1</Days>\
                 </MinimumRetention><DefaultRetention><Days>7</Days></DefaultRetention>\
                 <MaximumRetention><Days>30</Days></MaximumRetention></ProtectionConfiguration>")
            }
            "" => reply(
                "200 OK",
                &[("ibm-sse-kp-enabled", "True"), ("ibm-sse-kp-crk-id", "crn:v1:bluemix:public:kms")],
                b"",
            ),
            other => panic!("{other} was asked for"),
        }
    });
    let facts = store(&server).bucket_facts().expect("facts");
    assert_eq!(facts.versioning, Fact::Known(Versioning::On));
    assert_eq!(facts.location, Fact::Known("eu-de-standard".to_owned()));
    let lock = ObjectLock { default: Some((RetentionMode::Compliance, 730)) };
    assert_eq!(facts.object_lock, Fact::Known(Some(lock)));
    let policy =
        Protection { minimum_days: 1, default_days: 7, maximum_days: 30, is_permanent_allowed: false };
    assert_eq!(facts.protection, Fact::Known(Some(policy)));
    assert_eq!(facts.root_key, Fact::Known(Some("crn:v1:bluemix:public:kms".to_owned())));
    server.requests().iter().for_each(check_signed);
}

#[test]
fn what_may_not_be_asked_is_unknown_and_a_missing_bucket_is_none() {
    let server = Scripted::always(xml_error("403 Forbidden", "AccessDenied", "no"));
    let facts = store(&server).bucket_facts().expect("facts");
    assert!(matches!(&facts.versioning, Fact::Unknown(why) if why.contains("AccessDenied")), "{facts:?}");
    assert!(matches!(facts.protection, Fact::Unknown(_)), "{facts:?}");
    let server = Scripted::always(xml_error("404 Not Found", "NoSuchBucket", "no"));
    let error = store(&server).bucket_facts().expect_err("no bucket");
    assert!(matches!(error, StoreError::NoBucket { .. }), "{error:?}");
}

#[test]
fn versions_come_newest_first_over_all_pages() {
    let server = Scripted::start(|number, request, _| match number {
        0 => xml("<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>x/log/2</NextKeyMarker>\
             <NextVersionIdMarker>b</NextVersionIdMarker>\
             <DeleteMarker><Key>x/log/1</Key><VersionId>m</VersionId><IsLatest>true</IsLatest>\
             <LastModified>2026-01-03T00:00:00.000Z</LastModified></DeleteMarker>\
             <Version><Key>x/log/2</Key><VersionId>b</VersionId><IsLatest>true</IsLatest>\
             <LastModified>2026-01-02T00:00:00.500Z</LastModified><Size>2</Size></Version>\
             <Version><Key>x/log/1</Key><VersionId>a2</VersionId><IsLatest>false</IsLatest>\
             <LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>3</Size></Version>\
             <Version><Key>x/log/1</Key><VersionId>a1</VersionId><IsLatest>false</IsLatest>\
             <LastModified>2026-01-01T00:00:00.000Z</LastModified><Size>1</Size></Version></ListVersionsResult>"),
        _ => {
            assert!(request.target.contains("key-marker=x%2Flog%2F2"), "{}", request.target);
            assert!(request.target.contains("version-id-marker=b"), "{}", request.target);
            xml("<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>")
        }
    });
    let mut seen = Vec::new();
    store(&server)
        .versions("log/", &mut |item| {
            seen.push((item.name, item.version_id, item.is_latest, item.is_delete_marker, item.len));
            assert!(item.modified_ms > 1_767_000_000_000, "{}", item.modified_ms);
            ControlFlow::Continue(())
        })
        .expect("is listed");
    let item = |name: &str, id: &str, is_latest, is_marker, len| {
        (format!("log/{name}"), id.to_owned(), is_latest, is_marker, len)
    };
    let expected = [
        item("1", "m", true, true, 0),
        item("1", "a2", false, false, 3),
        item("1", "a1", false, false, 1),
        item("2", "b", true, false, 2),
    ];
    assert_eq!(seen, expected);
    assert_eq!(server.requests().len(), 2);
}

/// The versions of one name lie on three pages, other names stand before it, and times tell nothing or lie.
#[test]
fn the_oldest_version_is_the_last_that_is_listed_whatever_the_times() {
    let version = |name: &str, id: &str, is_latest: bool, second: u32| {
        format!(
            "<Version><Key>x/log/{name}</Key><VersionId>{id}</VersionId><IsLatest>{is_latest}</IsLatest>\
             <LastModified>2026-01-01T00:00:{second:02}.000Z</LastModified><Size>3</Size></Version>"
        )
    };
    let page = |versions: &[String], next: Option<&str>| {
        let next = next.map_or_else(
            || "<IsTruncated>false</IsTruncated>".to_owned(),
            |id| {
                format!(
                    "<IsTruncated>true</IsTruncated><NextKeyMarker>x/log/1</NextKeyMarker>\
                     <NextVersionIdMarker>{id}</NextVersionIdMarker>"
                )
            },
        );
        xml(&format!("<ListVersionsResult>{next}{}</ListVersionsResult>", versions.concat()))
    };
    let server = Scripted::start(move |_, request, _| {
        if !request.target.contains("?versions") {
            assert!(request.target.contains("versionId=a"), "{}", request.target);
            return reply("200 OK", &[("ETag", "\"e\"")], b"old");
        }
        if request.target.contains("version-id-marker=c") {
            page(&[version("1", "b", false, 7)], Some("b"))
        } else if request.target.contains("version-id-marker=b") {
            page(&[version("1", "a", false, 9), version("0", "o", true, 1)], None)
        } else {
            page(
                &[version("7", "s", true, 1), version("1", "d", true, 5), version("1", "c", false, 5)],
                Some("c"),
            )
        }
    });
    let store = VersionedStore::new(store(&server), VersionRule::Oldest);
    let key = ObjectKey::new("log/1").expect("a valid name");
    let mut out = Vec::new();
    store.read(&key, 3, &mut out).expect("is read");
    let mut names = Vec::new();
    store
        .list("log/", None, &mut |item| {
            names.push(item.name);
            ControlFlow::Continue(())
        })
        .expect("is listed");
    assert_eq!(names, ["log/7", "log/1", "log/0"]);
    // As the listing has it.
    store.read(&key, 3, &mut out).expect("is read");
    assert_eq!(out, b"old");
}

#[test]
fn a_store_that_lists_the_newest_version_last_is_found_out() {
    let server = Scripted::always(xml("<ListVersionsResult><IsTruncated>false</IsTruncated>\
         <Version><Key>x/log/1</Key><VersionId>a</VersionId><IsLatest>false</IsLatest></Version>\
         <Version><Key>x/log/1</Key><VersionId>b</VersionId><IsLatest>true</IsLatest></Version></ListVersionsResult>"));
    let error = store(&server).versions("log/", &mut |_| ControlFlow::Continue(())).expect_err("refused");
    assert!(matches!(error, StoreError::Rejected { .. }), "{error:?}");
}

#[test]
fn listings_that_never_end_are_ended() {
    let server = Scripted::start(|_, request, _| {
        if request.target.contains("?versions") {
            xml("<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>x/log/1</NextKeyMarker>\
                 <NextVersionIdMarker>a</NextVersionIdMarker></ListVersionsResult>")
        } else {
            xml("<ListBucketResult><IsTruncated>true</IsTruncated>\
                 <NextContinuationToken>again</NextContinuationToken></ListBucketResult>")
        }
    });
    let store = store(&server);
    let check = |error: StoreError| {
        assert!(matches!(error, StoreError::Rejected { .. }) && !error.is_retryable(), "{error:?}");
        let source = std::error::Error::source(&error).expect("a cause").to_string();
        assert!(source.contains("in circles"), "{source}");
    };
    check(store.list("log/", None, &mut |_| ControlFlow::Continue(())).expect_err("it never ends"));
    check(store.versions("log/", &mut |_| ControlFlow::Continue(())).expect_err("it never ends"));
    assert!(server.requests().len() <= 6, "{}", server.requests().len());
}

/// Sends an answer that goes on for as long as somebody listens; gives how much was taken.
fn endless(status: &'static str) -> (Scripted, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    use std::io::Write;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let taken = std::sync::Arc::new(AtomicUsize::new(0));
    let sent = std::sync::Arc::clone(&taken);
    let server = Scripted::start(move |_, _, connection| {
        let head =
            format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: application/xml\r\n\r\n<Error>");
        let piece = vec![b' '; 1 << 16];
        let mut result = connection.write_all(head.as_bytes());
        // Half a gigabyte stands for no end.
        while result.is_ok() && sent.load(Ordering::SeqCst) < 512 << 20 {
            result = connection.write_all(&piece);
            sent.fetch_add(piece.len(), Ordering::SeqCst);
        }
        Vec::new()
    });
    (server, taken)
}

#[test]
fn answers_that_never_end_are_not_taken_into_memory() {
    for status in ["200 OK", "403 Forbidden", "503 Service Unavailable"] {
        let (server, taken) = endless(status);
        let store = store(&server);
        let error = store.list("log/", None, &mut |_| ControlFlow::Continue(())).expect_err("it never ends");
        assert!(matches!(error, StoreError::Rejected { .. }), "{status}: {error:?}");
        let source = std::error::Error::source(&error).expect("a cause").to_string();
        assert!(source.contains("longer than"), "{status}: {source}");
        assert!(taken.load(std::sync::atomic::Ordering::SeqCst) < 64 << 20, "{status}");
    }
    // Nor is what a read that fails brings.
    let (server, _) = endless("403 Forbidden");
    let error = store(&server).read(&key(), 100, &mut Vec::new()).expect_err("it never ends");
    assert!(matches!(error, StoreError::Rejected { .. }), "{error:?}");
    // The calls that the SDK does not know.
    let (server, _) = endless("200 OK");
    let error = store(&server).set_legal_hold(&key(), None, true).expect_err("it never ends");
    assert!(matches!(error, StoreError::Rejected { .. }), "{error:?}");
}

#[test]
fn a_version_is_read_and_removed_by_its_id() {
    let server = Scripted::start(|_, request, _| {
        assert!(request.target.contains("versionId=v1"), "{}", request.target);
        match request.method.as_str() {
            "GET" => reply("200 OK", &[("ETag", "\"e\"")], b"body"),
            _ => reply("204 No Content", &[], b""),
        }
    });
    let store = store(&server);
    let mut out = Vec::new();
    store.read_version(&key(), "v1", 10, &mut out).expect("is read");
    assert_eq!(out, b"body");
    store.delete_version(&key(), "v1").expect("is gone");
    let marker = Scripted::always(xml_error("405 Method Not Allowed", "MethodNotAllowed", "a marker"));
    let error = self::store(&marker).read_version(&key(), "v1", 10, &mut out).expect_err("a delete marker");
    assert!(error.is_not_found(), "{error:?}");
}

#[test]
fn an_unconditional_write_tells_its_version() {
    let server = Scripted::always(reply("200 OK", &[("ETag", "\"e\""), ("x-amz-version-id", "v9")], b""));
    let version = store(&server).put_unconditional(&key(), b"body", None).expect("is written");
    assert_eq!(version.as_deref(), Some("v9"));
    assert_eq!(server.requests()[0].header("if-none-match"), None);
}

#[test]
fn retention_under_an_object_lock_is_extended_and_never_shortened() {
    let server = Scripted::start(|_, request, _| match request.method.as_str() {
        "HEAD" => reply(
            "200 OK",
            &[
                ("x-amz-object-lock-mode", "GOVERNANCE"),
                ("x-amz-object-lock-retain-until-date", "2030-03-17T17:46:40Z"),
            ],
            b"",
        ),
        _ => reply("200 OK", &[], b""),
    });
    let store = store(&server);
    let governance = |until_s| Retention { mode: RetentionMode::Governance, until_s };
    assert_eq!(store.retention(&key(), None).expect("is told"), Some(governance(UNTIL_S)));
    store.extend_retention(&key(), None, &governance(UNTIL_S)).expect("it holds already");
    store.extend_retention(&key(), None, &governance(UNTIL_S - 1)).expect_err("shorter");
    assert!(server.requests().iter().all(|request| request.method == "HEAD"));
    store.extend_retention(&key(), None, &governance(UNTIL_S + 1)).expect("longer");
    let put = server.requests().pop().expect("a request");
    assert!(put.method == "PUT" && put.target.starts_with("/bucket/x/packs/1?retention"), "{}", put.target);
    let body = String::from_utf8(put.body.clone()).expect("XML");
    assert!(body.contains("<Mode>GOVERNANCE</Mode>") && body.contains("2030-03-17T17:46:41Z"), "{body}");
    assert!(put.header("content-md5").is_some());
    check_signed(&put);
}

#[test]
fn retention_and_holds_under_a_policy_go_their_own_way() {
    let server = Scripted::start(|_, request, _| {
        let query = request.target.split('?').nth(1).unwrap_or_default();
        match (request.method.as_str(), query) {
            ("HEAD", _) => reply(
                "200 OK",
                &[
                    ("Retention-Expiration-Date", "Sun, 17 Mar 2030 17:46:40 GMT"),
                    ("Retention-Legal-Hold-Count", "1"),
                ],
                b"",
            ),
            ("GET", "protection") => {
                xml("<ProtectionConfiguration><Status>Retention</Status><MinimumRetention><Days>1</Days>\
                 </MinimumRetention><DefaultRetention><Days>7</Days></DefaultRetention>\
                 <MaximumRetention><Days>30</Days></MaximumRetention></ProtectionConfiguration>")
            }
            ("GET", "legalHold") => xml(
                "<RetentionState><LegalHoldSet><LegalHold><ID>other</ID></LegalHold></LegalHoldSet></RetentionState>",
            ),
            ("POST", _) => reply("200 OK", &[], b""),
            other => panic!("{other:?} was asked for"),
        }
    });
    let store = store(&server);
    let policy = |until_s| Retention { mode: RetentionMode::Policy, until_s };
    assert_eq!(store.retention(&key(), None).expect("is told"), Some(policy(UNTIL_S)));
    store.extend_retention(&key(), None, &policy(UNTIL_S + 1)).expect("longer");
    assert!(store.legal_hold(&key(), None).expect("is told"));
    store.set_legal_hold(&key(), None, true).expect("is laid");
    store.set_legal_hold(&key(), None, false).expect("there is none of ours");
    let requests = server.requests();
    let posts: Vec<_> = requests.iter().filter(|request| request.method == "POST").collect();
    let targets: Vec<_> = posts.iter().map(|request| request.target.as_str()).collect();
    assert_eq!(targets, ["/bucket/x/packs/1?extendRetention", "/bucket/x/packs/1?legalHold&add=coffer"]);
    assert_eq!(posts[0].header("new-retention-expiration-date"), Some("2030-03-17T17:46:41Z"));
    requests.iter().for_each(check_signed);
}

/// S3 Intelligent-Tiering keeps its class whatever tier an object is in; out of an archive tier it comes back for good.
#[test]
fn objects_in_an_archive_tier_are_archived_and_asked_for_without_an_end() {
    let tier = |status| [("x-amz-storage-class", "INTELLIGENT_TIERING"), ("x-amz-archive-status", status)];
    let (ongoing, done) = ("ongoing-request=\"true\"", "ongoing-request=\"false\"");
    let check = |headers: &[(&str, &str)], access: Access| {
        let server = Scripted::always(reply("200 OK", headers, b""));
        let state = store(&server).storage_class(&key(), None).expect("is told");
        assert_eq!((state.class.as_str(), state.access), ("INTELLIGENT_TIERING", access), "{headers:?}");
    };
    for status in ["ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS"] {
        check(&tier(status), Access::Archived);
        check(&[&tier(status)[..], &[("x-amz-restore", ongoing)]].concat(), Access::Restoring);
        // It came back before, and has gone to sleep again.
        check(&[&tier(status)[..], &[("x-amz-restore", done)]].concat(), Access::Archived);
    }
    check(&tier("ARCHIVE_ACCESS")[..1], Access::Now);
    check(&[tier("ARCHIVE_ACCESS")[0], ("x-amz-restore", done)], Access::Now);

    // The class alone does not say it: of another one the end is named.
    for (headers, has_end) in
        [(&tier("ARCHIVE_ACCESS")[..], false), (&[("x-amz-storage-class", "GLACIER")][..], true)]
    {
        let head = reply("200 OK", headers, b"");
        let server = Scripted::start(move |_, request, _| match request.method.as_str() {
            "HEAD" => head.clone(),
            _ => reply("202 Accepted", &[], b""),
        });
        let store = S3Store::open(location("s3://bucket/x"), &options(server.endpoint())).expect("a store");
        store.request_restore(&key(), Some("v1"), 3, RestoreTier::Standard).expect("is asked for");
        let requests = server.requests();
        assert!(requests.iter().all(|request| request.target.contains("versionId=v1")), "{requests:?}");
        let body = String::from_utf8(requests.last().expect("a request").body.clone()).expect("XML");
        assert!(body.contains("<Tier>Standard</Tier>"), "{body}");
        assert_eq!(body.contains("<Days>3</Days>"), has_end, "{body}");
    }
}

#[test]
fn archived_objects_are_known_and_asked_for() {
    let check = |headers: &[(&str, &str)], class: &str, access: Access| {
        let server = Scripted::always(reply("200 OK", headers, b""));
        let state = store(&server).storage_class(&key(), None).expect("is told");
        assert_eq!((state.class.as_str(), state.access), (class, access));
    };
    let class = |class| ("x-amz-storage-class", class);
    check(&[], "STANDARD", Access::Now);
    check(&[class("GLACIER_IR")], "GLACIER_IR", Access::Now);
    check(&[class("GLACIER")], "GLACIER", Access::Archived);
    check(&[class("ACCELERATED")], "ACCELERATED", Access::Archived);
    check(&[class("GLACIER"), ("x-amz-restore", "ongoing-request=\"true\"")], "GLACIER", Access::Restoring);
    let restored = "ongoing-request=\"false\", expiry-date=\"Sun, 17 Mar 2030 17:46:40 GMT\"";
    check(&[class("GLACIER"), ("x-amz-restore", restored)], "GLACIER", Access::Restored(Some(UNTIL_S)));

    let server = Scripted::always(reply("202 Accepted", &[], b""));
    store(&server).request_restore(&key(), None, 3, RestoreTier::Expedited).expect("is asked for");
    let request = server.requests().pop().expect("a request");
    assert!(request.method == "POST" && request.target.contains("?restore"), "{}", request.target);
    let body = String::from_utf8(request.body).expect("XML");
    assert!(body.contains("<Days>3</Days>") && body.contains("<Tier>Accelerated</Tier>"), "{body}");
    let server = Scripted::always(xml_error("409 Conflict", "RestoreAlreadyInProgress", "wait"));
    store(&server).request_restore(&key(), None, 3, RestoreTier::Bulk).expect("is on its way");
}
