//! Listings of many pages, some of which fail.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;

use coffer_store::{CloudStore, CountingStore, ObjectStore, RetryPolicy, RetryStore, S3Store};

use crate::scripted::{Reply, Request, Scripted, reply, xml_error};
use crate::server::{location, options};

const PAGE_COUNT: usize = 8;

/// Attempts that a page fails before it comes: all but the last that it has.
const FAILURE_COUNT: u32 = 2;

/// Of which page a request is: what the one before it said that goes on with.
fn page_of(request: &Request) -> usize {
    let query = request.target.split_once('?').expect("a query").1;
    let marker = query.split('&').find_map(|pair| {
        pair.strip_prefix("continuation-token=").or_else(|| pair.strip_prefix("version-id-marker="))
    });
    marker.map_or(0, |marker| marker.parse().expect("a number"))
}

fn page(number: usize, is_of_versions: bool) -> Reply {
    let is_truncated = number + 1 < PAGE_COUNT;
    let next = number + 1;
    let body = if is_of_versions {
        // Of one name, so that what is shown goes over all pages.
        format!(
            "<ListVersionsResult><IsTruncated>{is_truncated}</IsTruncated><NextKeyMarker>x/log/1</NextKeyMarker>\
             <NextVersionIdMarker>{next}</NextVersionIdMarker><Version><Key>x/log/1</Key><VersionId>v{number}</VersionId>\
             <IsLatest>{}</IsLatest><Size>1</Size></Version></ListVersionsResult>",
            number == 0
        )
    } else {
        format!(
            "<ListBucketResult><IsTruncated>{is_truncated}</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>\
             <Contents><Key>x/log/{number}</Key><Size>1</Size></Contents></ListBucketResult>"
        )
    };
    reply("200 OK", &[("Content-Type", "application/xml")], body.as_bytes())
}

/// A server of which each page fails as often as it may.
fn failing() -> Scripted {
    let asked: Mutex<BTreeMap<usize, u32>> = Mutex::default();
    Scripted::start(move |_, request, _| {
        let number = page_of(request);
        let mut asked = asked.lock().expect("no panic");
        let count = asked.entry(number).or_default();
        *count += 1;
        if *count <= FAILURE_COUNT {
            return xml_error("503 Slow Down", "SlowDown", "later");
        }
        page(number, request.target.contains("versions"))
    })
}

fn store_at(server: &Scripted) -> RetryStore<CountingStore<S3Store>> {
    let store = S3Store::open(location("cos://eu-de/bucket/x"), &options(server.endpoint()));
    let policy = RetryPolicy { attempts_max: FAILURE_COUNT + 1, ..RetryPolicy::default() };
    RetryStore::with_sleeper(CountingStore::new(store.expect("a store")), policy, 1, |_| ())
}

/// How often each page was asked for.
#[track_caller]
fn check_asked(server: &Scripted, store: &RetryStore<CountingStore<S3Store>>) {
    let mut asked = [0; PAGE_COUNT];
    server.requests().iter().for_each(|request| asked[page_of(request)] += 1);
    assert_eq!(asked, [FAILURE_COUNT + 1; PAGE_COUNT]);
    let counted = store.inner().counter().counts().list_count;
    assert_eq!(counted, server.requests().len() as u64);
}

#[test]
fn each_page_has_the_patience_of_a_whole_call_and_none_is_asked_for_again() {
    let server = failing();
    let store = store_at(&server);
    let mut names = Vec::new();
    store
        .list("log/", None, &mut |item| {
            names.push(item.name);
            ControlFlow::Continue(())
        })
        .expect("is listed");
    assert_eq!(names, (0..PAGE_COUNT).map(|number| format!("log/{number}")).collect::<Vec<_>>());
    check_asked(&server, &store);
}

#[test]
fn so_have_the_pages_of_versions() {
    let server = failing();
    let store = store_at(&server);
    let mut ids = Vec::new();
    store
        .versions("log/", &mut |item| {
            ids.push(item.version_id);
            ControlFlow::Continue(())
        })
        .expect("is listed");
    assert_eq!(ids, (0..PAGE_COUNT).map(|number| format!("v{number}")).collect::<Vec<_>>());
    check_asked(&server, &store);
}

#[test]
fn a_page_that_always_fails_ends_the_listing() {
    let server = Scripted::start(|_, request, _| match page_of(request) {
        3 => xml_error("503 Slow Down", "SlowDown", "later"),
        number => page(number, false),
    });
    let store = store_at(&server);
    let error = store.list("", None, &mut |_| ControlFlow::Continue(())).expect_err("one page is missing");
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(server.requests().len() as u64, u64::from(3 + FAILURE_COUNT + 1));
}
