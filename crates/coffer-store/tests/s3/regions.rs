//! A bucket that is in another region than the one that is asked.

use coffer_store::{ObjectKey, ObjectStore, PutOutcome, S3Store, StoreError};

use crate::scripted::{Reply, Request, Scripted, reply};
use crate::server::{location, options};

const ELSEWHERE: (&str, &str) = ("x-amz-bucket-region", "eu-west-3");
const XML: (&str, &str) = ("Content-Type", "application/xml");

fn key() -> ObjectKey {
    ObjectKey::new("vault").expect("a valid name")
}

fn store_at(server: &Scripted, region: Option<&str>, is_fixed: bool) -> S3Store {
    let mut options = options(server.endpoint());
    options.region = region.map(str::to_owned);
    options.is_region_fixed = is_fixed;
    S3Store::open(location("s3://bucket/x"), &options).expect("a store")
}

/// The region that a request is signed for.
fn region(request: &Request) -> String {
    let signed = request.header("authorization").expect("a signature");
    signed.split('/').nth(2).expect("a scope").to_owned()
}

fn regions(server: &Scripted) -> Vec<String> {
    server.requests().iter().map(region).collect()
}

/// The bucket is in `eu-west-3`, which is said in one of the ways of AWS.
fn elsewhere(request: &Request, status: &str) -> Option<Reply> {
    if region(request) == "eu-west-3" {
        return None;
    }
    let xml: &[u8] = match (request.method.as_str(), status) {
        ("HEAD", _) => b"",
        (_, "301 Moved Permanently") => {
            b"<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>"
        }
        _ => b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>elsewhere</Message></Error>",
    };
    Some(reply(status, &[XML, ELSEWHERE], xml))
}

#[test]
fn the_region_that_the_store_names_is_followed_once() {
    for status in ["301 Moved Permanently", "400 Bad Request"] {
        let server = Scripted::start(move |_, request, _| {
            elsewhere(request, status).unwrap_or_else(|| match request.method.as_str() {
                "HEAD" => reply("200 OK", &[("ETag", "\"e\"")], b""),
                "GET" => reply("200 OK", &[("ETag", "\"e\"")], b"body"),
                _ => reply("200 OK", &[("ETag", "\"e\"")], b""),
            })
        });
        // In a region that was not chosen for this bucket, or in none.
        for (begin, region) in [("us-east-1", None), ("ap-south-1", Some("ap-south-1"))] {
            let before = server.requests().len();
            let store = store_at(&server, region, false);
            let mut out = Vec::new();
            store.read(&key(), 100, &mut out).expect("is read");
            assert_eq!(out, b"body");
            store.read(&key(), 100, &mut out).expect("is read");
            assert_eq!(regions(&server)[before..], [begin, "eu-west-3", "eu-west-3"], "{status}");
            // An answer without a body has the header alone.
            store_at(&server, region, false).stat(&key()).expect("is there");
            let store = store_at(&server, region, false);
            assert_eq!(store.put_if_absent(&key(), b"body").expect("is made"), PutOutcome::Created);
            let put = server.requests().pop().expect("a request");
            assert_eq!((put.method.as_str(), put.body.as_slice()), ("PUT", b"body".as_slice()));
            assert_eq!(server.requests().len() - before, 7);
        }
    }
}

#[track_caller]
fn check_named(server: &Scripted, store: &S3Store, requests_count: usize) {
    let before = server.requests().len();
    let error = store.read(&key(), 100, &mut Vec::new()).expect_err("it is elsewhere");
    match &error {
        StoreError::WrongRegion { region: Some(_), .. } => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(server.requests().len() - before, requests_count);
}

#[test]
fn a_region_that_was_chosen_is_kept_to() {
    let server =
        Scripted::start(|_, request, _| elsewhere(request, "301 Moved Permanently").expect("elsewhere"));
    let store = store_at(&server, Some("us-east-1"), true);
    check_named(&server, &store, 1);
    check_named(&server, &store, 1);
    assert!(matches!(store.stat(&key()), Err(StoreError::WrongRegion { region: Some(_), .. })));
}

#[test]
fn nobody_is_sent_round_in_circles() {
    // Wherever one asks, it is elsewhere.
    let server = Scripted::start(|number, _, _| {
        let region = if number % 2 == 0 { "eu-west-3" } else { "us-east-1" };
        let xml = b"<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>";
        reply("301 Moved Permanently", &[XML, ("x-amz-bucket-region", region)], xml)
    });
    let store = store_at(&server, None, false);
    check_named(&server, &store, 2);
    check_named(&server, &store, 2);
    // A name that is none is no part of a host or a signature.
    for region in ["evil.example/", "a b", "", "eu-west-3.evil.example"] {
        let xml = b"<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>";
        let server =
            Scripted::always(reply("301 Moved Permanently", &[XML, ("x-amz-bucket-region", region)], xml));
        let store = store_at(&server, None, false);
        check_named(&server, &store, 1);
    }
}
