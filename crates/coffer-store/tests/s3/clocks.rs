//! The clock of the store, as its answers tell it, and locks that are reckoned by that of this machine.

use aws_smithy_async::time::{SystemTimeSource, TimeSource};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use coffer_store::{
    ClockAhead, CloudStore, ObjectKey, ObjectStore, PutOutcome, Retention, RetentionMode, RetryPolicy,
    RetryStore, S3Store, StoreError,
};

use crate::scripted::{Scripted, reply};
use crate::server::{location, options};

/// A server that is ahead of this machine by so many seconds, and says so with each answer.
fn server_ahead_by(seconds: i64) -> Scripted {
    Scripted::start(move |_, _, _| {
        let date = DateTime::from(SystemTimeSource::new().now()).secs() + seconds;
        let date = DateTime::from_secs(date).fmt(Format::HttpDate).expect("a date");
        reply("200 OK", &[("ETag", "\"e\""), ("Date", date.as_str())], b"body")
    })
}

fn store_at(server: &Scripted) -> RetryStore<S3Store> {
    let store = S3Store::open(location("cos://eu-de/bucket/x"), &options(server.endpoint()));
    RetryStore::with_sleeper(store.expect("a store"), RetryPolicy::default(), 1, |_| ())
}

fn key() -> ObjectKey {
    ObjectKey::new("packs/1").expect("a valid name")
}

fn seen(store: &dyn ObjectStore) -> ClockAhead {
    store.cloud().expect("a bucket").clock_ahead().expect("an answer has told a time")
}

#[test]
fn locks_are_refused_while_the_clocks_are_too_far_apart() {
    let retention = Retention { mode: RetentionMode::Compliance, until_s: 1_900_000_000 };
    for (ahead_s, is_refused) in [(0, false), (-600, false), (3600, true), (-3600, true)] {
        let server = server_ahead_by(ahead_s);
        let store = store_at(&server);
        assert_eq!(store.clock_ahead(), None, "nothing was asked yet");
        store.read(&key(), 4, &mut Vec::new()).expect("is read");
        let ClockAhead(found_s) = seen(&store);
        // The test may be slow; it is not minutes.
        assert!((found_s + ahead_s).abs() < 120, "{ahead_s}: {found_s}");
        let asked = server.requests().len();
        let put = store.put_if_absent_retained(&key(), b"body", &retention);
        let extended = store.extend_retention(&key(), None, &retention);
        if is_refused {
            for refused in [put.expect_err("a lock"), extended.expect_err("a lock")] {
                let StoreError::ClockSkew { source, .. } = &refused else { panic!("{refused:?}") };
                assert!(source.to_string().contains("the clock of this machine is"), "{source}");
            }
            let requests = server.requests();
            assert!(requests[asked..].iter().all(|request| request.method == "HEAD"), "{requests:?}");
        } else {
            assert_eq!(put.expect("is made"), PutOutcome::Created);
            extended.expect("is prolonged");
        }
        // What has no lock has no end that could be wrong.
        assert_eq!(store.put_if_absent(&key(), b"body").expect("is made"), PutOutcome::Created);
    }
}
