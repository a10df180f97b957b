//! Large objects, rates, tokens, and what goes over the wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use coffer_store::{
    BearerSource, BearerToken, CloudStore, Credentials, Location, ObjectKey, ObjectStore, PutOutcome,
    RateLimit, Retention, RetentionMode, S3Options, S3Store, StoreError, TokenError,
};

use crate::scripted::{Request, Scripted, reply, xml_error};
use crate::server::{Server, location, options};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).expect("a valid name")
}

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 31 + at / 251) % 256).expect("less than 256")).collect()
}

#[test]
fn large_objects_go_in_parts_and_come_in_ranges() {
    let server = Server::start();
    let mut options = server.options();
    options.part_len = 5 << 20;
    let store = S3Store::open(location("s3://bucket/large"), &options).expect("a store");
    let body = body((23 << 20) + 17);
    assert_eq!(store.put_if_absent(&key("pack"), &body).expect("is made"), PutOutcome::Created);
    assert_eq!(store.put_if_absent(&key("pack"), &body[1..]).expect("is there"), PutOutcome::AlreadyExists);
    assert_eq!(server.objects().upload_count(), 0, "an upload was left behind");
    assert_eq!(store.stat(&key("pack")).expect("is there").len, body.len() as u64);
    let mut out = Vec::new();
    store.read(&key("pack"), u64::MAX, &mut out).expect("is read");
    assert!(out == body, "other bytes came back");
    let mut range = vec![0; 20 << 20];
    store.read_range(&key("pack"), 1 << 20, &mut range).expect("is read");
    assert!(range == body[1 << 20..21 << 20], "other bytes came back");
    match store.read_range(&key("pack"), 4 << 20, &mut range) {
        Err(StoreError::Truncated { offset, range_len, actual_len, .. }) => {
            assert_eq!((offset, range_len, actual_len), (4 << 20, 20 << 20, body.len() as u64));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn sixteen_writers_in_parts_make_one_object() {
    let server = Server::start();
    let mut options = server.options();
    options.part_len = 5 << 20;
    let store = S3Store::open(location("s3://bucket/race"), &options).expect("a store");
    let bodies: Vec<Vec<u8>> = (0..16u8).map(|writer| vec![writer; 10 << 20]).collect();
    let won: Vec<u8> = std::thread::scope(|scope| {
        let threads: Vec<_> = bodies
            .iter()
            .map(|body| scope.spawn(|| (body[0], store.put_if_absent(&key("pack"), body))))
            .collect();
        let results = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        results
            .filter_map(|(writer, result)| match result {
                Ok(PutOutcome::Created) => Some(writer),
                Ok(PutOutcome::AlreadyExists) => None,
                Err(error) => panic!("{error:?}"),
            })
            .collect()
    });
    let mut out = Vec::new();
    store.read(&key("pack"), u64::MAX, &mut out).expect("is read");
    assert!(out.iter().all(|byte| *byte == out[0]), "the object is mixed");
    assert_eq!(won, [out[0]]);
}

#[test]
fn an_upload_that_fails_is_taken_back() {
    let server = Scripted::start(|_, request: &Request, _| {
        if request.target.contains("uploads") {
            let xml =
                b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>";
            return reply("200 OK", &[("Content-Type", "application/xml")], xml);
        }
        match request.method.as_str() {
            "PUT" if request.target.contains("partNumber=2") => {
                xml_error("503 Slow Down", "SlowDown", "too fast")
            }
            "PUT" => reply("200 OK", &[("ETag", "\"e\"")], b""),
            _ => reply("204 No Content", &[], b""),
        }
    });
    let mut options = options(server.endpoint());
    options.part_len = 5 << 20;
    let store = S3Store::open(location("s3://bucket/x"), &options).expect("a store");
    let error = store.put_if_absent(&key("pack"), &body(15 << 20)).expect_err("a part was refused");
    assert!(error.is_retryable(), "{error:?}");
    let requests = server.requests();
    let aborted = |request: &Request| request.method == "DELETE" && request.target.contains("uploadId=u1");
    assert!(requests.iter().any(aborted), "{:?}", requests.iter().map(|r| &r.target).collect::<Vec<_>>());
    assert!(!requests.iter().any(|request| request.method == "POST" && request.target.contains("uploadId")));
}

#[test]
fn plain_requests_are_signed_whole_and_carry_no_checksum_that_nobody_demands() {
    let server = Scripted::start(|_, _, _| reply("200 OK", &[("ETag", "\"e\"")], b""));
    let store = S3Store::open(location("s3://bucket/x"), &options(server.endpoint())).expect("a store");
    store.put_if_absent(&key("a"), b"body").expect("is made");
    let retention = Retention { mode: RetentionMode::Compliance, until_s: 1_900_000_000 };
    store.put_if_absent_retained(&key("b"), b"body", &retention).expect("is made");
    let retention = Retention { mode: RetentionMode::Policy, until_s: 1_900_000_000 };
    store.put_if_absent_retained(&key("c"), b"body", &retention).expect("is made");
    let requests = server.requests();
    let plain = &requests[0];
    assert_eq!((plain.method.as_str(), plain.body.as_slice()), ("PUT", b"body".as_slice()));
    assert!(plain.target.starts_with("/bucket/x/a"), "{}", plain.target);
    assert_eq!(plain.header("if-none-match"), Some("*"));
    let sha256 = "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5";
    assert_eq!(plain.header("x-amz-content-sha256"), Some(sha256));
    for absent in ["x-amz-trailer", "x-amz-sdk-checksum-algorithm", "x-amz-checksum-crc32", "content-md5"] {
        assert_eq!(plain.header(absent), None, "{absent}");
    }
    assert_ne!(plain.header("content-encoding"), Some("aws-chunked"));
    assert_eq!(requests[1].header("x-amz-object-lock-mode"), Some("COMPLIANCE"));
    assert_eq!(requests[1].header("x-amz-object-lock-retain-until-date"), Some("2030-03-17T17:46:40Z"));
    assert_eq!(requests[1].header("content-md5"), Some("hBotaJrYa9FhFEdFPCLG/A=="));
    assert_eq!(requests[2].header("retention-expiration-date"), Some("2030-03-17T17:46:40Z"));
    assert!(requests[2].header("content-md5").is_some());
}

/// As a bucket does that retains everything by itself.
#[test]
fn a_bucket_that_demands_checksums_refuses_one_write_and_gets_them_from_then_on() {
    let server = Scripted::start(|_, request: &Request, _| {
        if request.target.contains("?uploads") {
            let xml =
                b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>";
            return reply("200 OK", &[("Content-Type", "application/xml")], xml);
        }
        if request.method == "POST" && request.header("content-md5").is_some() {
            let xml = b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>";
            return reply("200 OK", &[("Content-Type", "application/xml")], xml);
        }
        if request.header("content-md5").is_some() {
            return reply("200 OK", &[("ETag", "\"e\"")], b"");
        }
        xml_error("400 Bad Request", "InvalidRequest", "Content-MD5 is required")
    });
    let mut options = options(server.endpoint());
    options.part_len = 5 << 20;
    let store = S3Store::open(location("s3://bucket/x"), &options).expect("a store");
    assert_eq!(store.put_if_absent(&key("a"), b"body").expect("is made"), PutOutcome::Created);
    assert_eq!(store.put_if_absent(&key("b"), b"other").expect("is made"), PutOutcome::Created);
    assert_eq!(store.put_if_absent(&key("c"), &body(10 << 20)).expect("is made"), PutOutcome::Created);
    let requests = server.requests();
    let plain: Vec<_> = requests
        .iter()
        .take(3)
        .map(|request| (request.body.as_slice(), request.header("content-md5")))
        .collect();
    let sum = Some("hBotaJrYa9FhFEdFPCLG/A==");
    assert_eq!(plain[..2], [(b"body".as_slice(), None), (b"body".as_slice(), sum)]);
    assert!(plain[2].0 == b"other" && plain[2].1.is_some(), "{plain:?}");
    let rest: Vec<_> = requests[3..].iter().filter(|request| !request.target.contains("?uploads")).collect();
    assert_eq!(rest.len(), 3, "two parts and the end of it");
    assert!(rest.iter().all(|request| request.header("content-md5").is_some()));
    assert!(requests.iter().all(|request| request.method == "PUT" && request.target.contains("partNumber")
        || request.target.contains("?uploads")
        || request.header("if-none-match") == Some("*")));
}

#[test]
fn a_write_that_is_refused_with_a_checksum_too_fails() {
    let server = Scripted::start(|_, _, _| xml_error("400 Bad Request", "InvalidRequest", "no"));
    let store = S3Store::open(location("s3://bucket/x"), &options(server.endpoint())).expect("a store");
    let error = store.put_if_absent(&key("a"), b"body").expect_err("is refused");
    assert!(matches!(error, StoreError::Rejected { .. }), "{error:?}");
    assert_eq!(server.requests().len(), 2);
    store.put_if_absent(&key("a"), b"body").expect_err("is refused");
    let sums: Vec<_> =
        server.requests().iter().map(|request| request.header("content-md5").is_some()).collect();
    assert_eq!(sums, [false, true, false, true], "it was not for want of a checksum");
}

/// Gives tokens by number.
#[derive(Default)]
struct Tokens {
    number: AtomicUsize,
}

impl BearerSource for Tokens {
    fn token(&self) -> Result<BearerToken, TokenError> {
        Ok(BearerToken::new(format!("token-{}", self.number.load(Ordering::SeqCst))))
    }

    fn refused(&self, token: &BearerToken) {
        assert_eq!(token.expose(), format!("token-{}", self.number.load(Ordering::SeqCst)));
        self.number.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_token_that_is_refused_is_replaced_once() {
    let check = |good: Option<&'static str>, expected: &[&str]| {
        let server = Scripted::start(move |_, request: &Request, _| {
            if request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) == good {
                reply("200 OK", &[("ETag", "\"e\"")], b"")
            } else {
                xml_error("401 Unauthorized", "AccessDenied", "who are you")
            }
        });
        let result = store_with_tokens(&server).put_if_absent(&key("a"), b"body");
        let sent = server.requests();
        assert!(sent.iter().all(|request| request.body == b"body"));
        let sent: Vec<_> = sent.iter().filter_map(|request| request.header("authorization")).collect();
        assert_eq!(sent, expected);
        result
    };
    check(Some("token-0"), &["Bearer token-0"]).expect("is made");
    check(Some("token-1"), &["Bearer token-0", "Bearer token-1"]).expect("is made");
    let error = check(None, &["Bearer token-0", "Bearer token-1"]).expect_err("no token is good");
    assert!(matches!(error, StoreError::CredentialsRefused { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("token-"), "{error:?}");
}

fn store_with_tokens(server: &Scripted) -> S3Store {
    let mut options = S3Options::new(Credentials::Bearer(Arc::new(Tokens::default())));
    options.endpoint = Some(server.endpoint());
    options.use_proxies = false;
    S3Store::open(location("cos://eu-de/bucket/x"), &options).expect("a store")
}

#[test]
fn a_token_that_is_over_is_replaced_where_that_looks_like_missing_rights() {
    let server = Scripted::start(|_, request: &Request, _| match request.header("authorization") {
        Some("Bearer token-1") if request.target.contains("/x/a?") => {
            reply("200 OK", &[("ETag", "\"e\"")], b"")
        }
        _ => xml_error("403 Forbidden", "AccessDenied", "Access Denied"),
    });
    let store = store_with_tokens(&server);
    store.put_if_absent(&key("a"), b"body").expect("is made with the second token");
    // What is denied to a fresh token is denied, and no token is fetched for each such answer.
    for _ in 0..3 {
        let error = store.put_if_absent(&key("b"), b"body").expect_err("is denied");
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    }
    let sent = server.requests();
    let sent: Vec<_> = sent.iter().filter_map(|request| request.header("authorization")).collect();
    assert_eq!(
        sent,
        ["Bearer token-0", "Bearer token-1", "Bearer token-1", "Bearer token-1", "Bearer token-1"]
    );
}

#[test]
fn a_token_never_goes_over_plain_http_to_another_machine() {
    let mut options = S3Options::new(Credentials::Bearer(Arc::new(Tokens::default())));
    options.endpoint = Some("http://store.example".to_owned());
    S3Store::open(location("cos://eu-de/bucket/x"), &options).expect_err("plain http");
    options.endpoint = Some("https://store.example".to_owned());
    S3Store::open(location("cos://eu-de/bucket/x"), &options).expect("https");
    assert!(matches!(Location::parse("cos://eu-de/bucket"), Ok(Location::S3(_))));
}

#[test]
fn rates_hold_for_all_that_is_under_way_together() {
    let server = Server::start();
    let mut options = server.options();
    options.upload_rate = Some(RateLimit::new(400 << 10));
    options.download_rate = Some(RateLimit::new(400 << 10));
    let store = S3Store::open(location("s3://bucket/slow"), &options).expect("a store");
    // `work` gets the number of the attempt and that of the thread.
    let check = |what: &str, work: &(dyn Fn(usize, usize) + Sync)| {
        let mut times = Vec::new();
        // Never faster; and not much slower, unless the machine has no time for it.
        for attempt in 0..10 {
            let start = Instant::now();
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    scope.spawn(move || work(attempt, thread));
                }
            });
            let took = start.elapsed();
            assert!(took >= Duration::from_millis(850), "{what} in {took:?}");
            times.push(took);
            if took < Duration::from_secs(4) {
                return;
            }
        }
        panic!("{what} in {times:?}");
    };
    let body = body(100 << 10);
    check("sent", &|attempt, thread| {
        store.put_if_absent(&key(&format!("pack{attempt}{thread}")), &body).expect("is made");
    });
    check("came", &|_, thread| {
        let mut out = Vec::new();
        store.read(&key(&format!("pack0{thread}")), u64::MAX, &mut out).expect("is read");
        assert!(out == body, "other bytes came back");
    });
}

#[test]
fn a_slow_rate_is_no_stall() {
    let server = Server::start();
    let mut options = server.options();
    options.upload_rate = Some(RateLimit::new(20 << 10));
    options.download_rate = Some(RateLimit::new(20 << 10));
    // Twenty times what a piece takes, and half of what all of it does.
    options.stall_timeout = Duration::from_secs(2);
    let store = S3Store::open(location("s3://bucket/slow"), &options).expect("a store");
    let body = body(80 << 10);
    // Who waits sees it move meanwhile.
    let watch = |what: &str, work: &(dyn Fn() + Sync)| {
        let before = store.moved_bytes();
        let mut seen = std::collections::BTreeSet::new();
        std::thread::scope(|scope| {
            let worker = scope.spawn(work);
            while !worker.is_finished() {
                seen.insert(store.moved_bytes() - before);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        assert!(seen.len() >= 5, "{what}: {seen:?}");
        assert!(store.moved_bytes() - before >= body.len() as u64, "{what}: {seen:?}");
    };
    watch("sent", &|| {
        store.put_if_absent(&key("pack"), &body).expect("is made");
    });
    watch("came", &|| {
        let mut out = Vec::new();
        store.read(&key("pack"), u64::MAX, &mut out).expect("is read");
        assert!(out == body, "other bytes came back");
    });
}
