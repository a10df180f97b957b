//! What goes wrong, and what a caller is told.

use std::error::Error;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use coffer_store::{
    BearerSource, BearerToken, CloudStore, CredentialFault, Credentials, ObjectKey, ObjectStore, PutOutcome,
    RetryPolicy, RetryStore, S3Options, S3Store, StoreError, TokenError, TokenFault,
};

use crate::scripted::{Reply, Scripted, reply, xml_error};
use crate::server::{SECRET_KEY, Server, location, options};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).expect("a valid name")
}

fn store_at(endpoint: String) -> S3Store {
    impatient_store_at(endpoint, Duration::from_secs(120))
}

fn impatient_store_at(endpoint: String, stall_timeout: Duration) -> S3Store {
    let mut options = options(endpoint);
    // Else another region would be followed.
    options.is_region_fixed = true;
    options.stall_timeout = stall_timeout;
    S3Store::open(location("s3://bucket/x"), &options).expect("a store")
}

fn read(store: &dyn ObjectStore) -> Result<Vec<u8>, StoreError> {
    let mut out = Vec::new();
    store.read(&key("vault"), 1 << 20, &mut out).map(|()| out)
}

#[track_caller]
fn check(reply: Reply, expected: &str, is_retryable: bool) -> StoreError {
    let server = Scripted::always(reply);
    let error = read(&store_at(server.endpoint())).expect_err(expected);
    assert!(format!("{error:?}").starts_with(expected), "{error:?} is not {expected}");
    assert_eq!(error.is_retryable(), is_retryable, "{error:?}");
    assert_eq!(server.requests().len(), 1, "the backend tried again by itself");
    assert!(!format!("{error:?}").contains(SECRET_KEY));
    error
}

#[test]
fn answers_are_sorted_by_what_to_do() {
    check(xml_error("404 Not Found", "NoSuchKey", "no"), "NotFound", false);
    check(xml_error("404 Not Found", "NoSuchBucket", "no"), "NoBucket", false);
    check(xml_error("403 Forbidden", "AccessDenied", "no"), "Denied", false);
    check(xml_error("403 Forbidden", "RequestTimeTooSkewed", "no"), "ClockSkew", false);
    check(xml_error("403 Forbidden", "InvalidObjectState", "no"), "Archived", false);
    check(xml_error("400 Bad Request", "InvalidArgument", "no"), "Rejected", false);
    check(xml_error("501 Not Implemented", "NotImplemented", "no"), "Unsupported", false);
    check(xml_error("409 Conflict", "ConditionalRequestConflict", "no"), "Unavailable", true);
    for (status, code) in [
        ("500 Oops", "InternalError"),
        ("502 Bad Gateway", "Any"),
        ("503 Slow Down", "SlowDown"),
        ("504 Late", "Any"),
        ("429 Too Many", "Any"),
        ("400 Bad Request", "RequestTimeout"),
    ] {
        check(xml_error(status, code, "later"), "Unavailable", true);
    }
    check(reply("502 Bad Gateway", &[("Content-Type", "text/html")], b"<html>"), "Unavailable", true);
}

#[test]
fn credentials_that_are_refused_say_why() {
    for (status, code, expected) in [
        ("400 Bad Request", "ExpiredToken", CredentialFault::Expired),
        ("403 Forbidden", "InvalidAccessKeyId", CredentialFault::UnknownKey),
        ("403 Forbidden", "SignatureDoesNotMatch", CredentialFault::WrongSecret),
    ] {
        match check(xml_error(status, code, "no"), "CredentialsRefused", false) {
            StoreError::CredentialsRefused { reason, source, .. } => {
                assert_eq!(reason, expected);
                assert!(source.to_string().contains(code) && source.to_string().contains("r-1"), "{source}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn another_region_is_named() {
    let named = |error| match error {
        StoreError::WrongRegion { region, .. } => region,
        other => panic!("{other:?}"),
    };
    let xml = b"<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>";
    let headers = [("Content-Type", "application/xml"), ("x-amz-bucket-region", "eu-west-3")];
    let error = check(reply("301 Moved Permanently", &headers, xml), "WrongRegion", false);
    assert_eq!(named(error).as_deref(), Some("eu-west-3"));
    let message = "the region 'us-east-1' is wrong; expecting 'eu-central-1'";
    let error =
        check(xml_error("400 Bad Request", "AuthorizationHeaderMalformed", message), "WrongRegion", false);
    assert_eq!(named(error).as_deref(), Some("eu-central-1"));
}

#[test]
fn what_is_no_store_is_told_so() {
    let html = [("Content-Type", "text/html; charset=utf-8")];
    check(reply("404 Not Found", &html, b"<html>not here</html>"), "NotS3", false);
    check(reply("200 OK", &html, b"<html>welcome</html>"), "NotS3", false);
    check(reply("403 Forbidden", &[("Content-Type", "application/json")], b"{\"error\":1}"), "NotS3", false);
    let server = Scripted::always(reply("200 OK", &html, b"<html><body>welcome</body></html>"));
    let list = store_at(server.endpoint()).list("", None, &mut |_| ControlFlow::Continue(()));
    assert!(matches!(list, Err(StoreError::NotS3 { .. })), "{list:?}");
    let server = Scripted::always(reply("404 Not Found", &html, b""));
    let stat = store_at(server.endpoint()).stat(&key("vault"));
    assert!(matches!(stat, Err(StoreError::NotS3 { .. })), "{stat:?}");
}

#[test]
fn a_store_that_asks_for_time_gets_it() {
    let headers = [("Content-Type", "application/xml"), ("Retry-After", "7")];
    let error =
        check(reply("503 Slow Down", &headers, b"<Error><Code>SlowDown</Code></Error>"), "Unavailable", true);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));

    let server = Scripted::start(|number, _, _| match number {
        0 => reply("503 Slow Down", &[("Retry-After", "3")], b""),
        1 => xml_error("500 Oops", "InternalError", "no"),
        _ => reply("200 OK", &[("ETag", "\"e\"")], b"body"),
    });
    let waits = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&waits);
    let sleep = move |wait| seen.lock().expect("no panic").push(wait);
    let store = RetryStore::with_sleeper(store_at(server.endpoint()), RetryPolicy::default(), 1, sleep);
    assert_eq!(read(&store).expect("is read at last"), b"body");
    let waits = waits.lock().expect("no panic").clone();
    assert_eq!(waits.len(), 2);
    assert_eq!(waits[0], Duration::from_secs(3));
    assert!(waits[1] < Duration::from_secs(1), "{waits:?}");
}

#[test]
fn bodies_that_break_off_or_stall_may_be_asked_for_again() {
    let broken = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: \"e\"\r\n\r\nhalf".to_vec();
    check(broken, "Unavailable", true);
    check(Vec::new(), "Unavailable", true);
    for head in ["", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: \"e\"\r\n\r\nhalf"] {
        let server = Scripted::start(move |_, _, connection| {
            connection.write_all(head.as_bytes()).expect("is sent");
            std::thread::sleep(Duration::from_secs(120));
            Vec::new()
        });
        let start = Instant::now();
        let store = impatient_store_at(server.endpoint(), Duration::from_millis(300));
        let error = read(&store).expect_err("nothing more comes");
        assert!(error.is_retryable(), "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
        assert!(format!("{error:?}").contains("no byte came"), "{error:?}");
    }
}

#[test]
fn where_nobody_listens_is_final_until_somebody_did() {
    // The port of a connection: nobody listens there, and nobody else gets it.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = std::net::TcpStream::connect(listener.local_addr().expect("an address"));
    let address = taken.as_ref().expect("a connection").local_addr().expect("an address");
    let error = read(&store_at(format!("http://{address}"))).expect_err("nobody listens");
    assert!(matches!(error, StoreError::Unreachable { .. }) && !error.is_retryable(), "{error:?}");
    let error = read(&store_at("http://no-such-host.invalid".to_owned())).expect_err("no such host");
    assert!(matches!(error, StoreError::Unreachable { .. }) && !error.is_retryable(), "{error:?}");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let store = store_at(format!("http://{}", listener.local_addr().expect("an address")));
    let serve = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a connection");
        let mut buffer = [0; 4096];
        let _ = std::io::Read::read(&mut connection, &mut buffer).expect("a request");
        connection.write_all(&xml_error("404 Not Found", "NoSuchKey", "no")).expect("is sent");
    });
    assert!(read(&store).expect_err("not there").is_not_found());
    serve.join().expect("no panic");
    let error = read(&store).expect_err("nobody listens any more");
    assert!(matches!(error, StoreError::Unreachable { .. }) && error.is_retryable(), "{error:?}");
}

#[test]
fn real_signatures_are_checked() {
    let server = Server::start();
    for (id, secret, expected) in [
        ("AKIDOTHER", SECRET_KEY, CredentialFault::UnknownKey),
        (crate::server::ACCESS_KEY, "other", CredentialFault::WrongSecret),
    ] {
        let mut options = server.options();
        let keys = coffer_store::AwsKeys::new(id.to_owned(), secret.to_owned(), None);
        options.credentials = Credentials::Keys(keys);
        let store = S3Store::open(location("s3://bucket/x"), &options).expect("a store");
        match read(&store) {
            Err(StoreError::CredentialsRefused { reason, .. }) => assert_eq!(reason, expected),
            other => panic!("{other:?}"),
        }
    }
    let store = S3Store::open(location("s3://other-bucket/x"), &server.options()).expect("a store");
    let error = read(&store).expect_err("no such bucket");
    assert!(matches!(error, StoreError::NoBucket { .. }), "{error:?}");
}

fn failed(fault: TokenFault) -> TokenError {
    TokenError::Failed { endpoint: "https://iam.example".to_owned(), fault, source: "why".into() }
}

/// Has no token to give.
struct NoTokens {
    asked_count: AtomicUsize,
}

impl BearerSource for NoTokens {
    fn token(&self) -> Result<BearerToken, TokenError> {
        match self.asked_count.fetch_add(1, Ordering::SeqCst) {
            0 => Err(failed(TokenFault::Unavailable)),
            1 => Err(TokenError::Refused { source: "BXNIM0415E: no such key".into() }),
            2 => Err(failed(TokenFault::Unreachable)),
            _ => Err(TokenError::Unproven { source: "no file".into() }),
        }
    }

    fn refused(&self, _: &BearerToken) {}
}

#[test]
fn what_keeps_a_token_from_coming_is_told() {
    let server = Scripted::always(reply("200 OK", &[], b""));
    let mut options =
        S3Options::new(Credentials::Bearer(Arc::new(NoTokens { asked_count: AtomicUsize::new(0) })));
    options.endpoint = Some(server.endpoint());
    options.use_proxies = false;
    let store = S3Store::open(location("cos://eu-de/bucket/x"), &options).expect("a store");
    // Whoever gives tokens has asked for long enough.
    let error = read(&store).expect_err("busy");
    assert!(
        matches!(&error, StoreError::NoToken { fault: TokenFault::Unavailable, .. }) && !error.is_retryable(),
        "{error:?}"
    );
    let error = read(&store).expect_err("refused");
    assert!(
        matches!(error, StoreError::CredentialsRefused { reason: CredentialFault::IdentityRefused, .. }),
        "{error:?}"
    );
    assert!(error.source().expect("a cause").to_string().contains("BXNIM0415E"), "{error:?}");
    let error = read(&store).expect_err("nobody is there");
    assert!(
        matches!(&error, StoreError::NoToken { endpoint, fault: TokenFault::Unreachable, .. } if endpoint == "https://iam.example"),
        "{error:?}"
    );
    assert!(!error.is_retryable(), "{error:?}");
    let error = read(&store).expect_err("no proof");
    assert!(matches!(error, StoreError::Unproven { .. }) && !error.is_retryable(), "{error:?}");
    assert!(server.requests().is_empty());
}

#[test]
fn a_creation_whose_reply_was_lost_is_settled() {
    let server = Scripted::start(|number, request, _| match (number, request.method.as_str()) {
        // The effect took place, the reply is lost.
        (0, _) => Vec::new(),
        (1, _) => xml_error("412 Precondition Failed", "PreconditionFailed", "is there"),
        (_, "HEAD") => b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\n".to_vec(),
        _ => reply("206 Partial Content", &[("Content-Range", "bytes 0-3/4")], b"body"),
    });
    let store = RetryStore::with_sleeper(store_at(server.endpoint()), RetryPolicy::default(), 1, |_| ());
    assert_eq!(store.put_if_absent(&key("log/1"), b"body").expect("is ours"), PutOutcome::Created);
}

/// The answer to a question for the head of an object has no body, and so no code: the reason has to be asked for.
#[test]
fn a_question_for_the_head_that_is_refused_without_a_reason_is_asked_in_another_way() {
    let refusing = |get: Reply| {
        Scripted::start(move |_, request, _| match request.method.as_str() {
            "HEAD" => reply("400 Bad Request", &[("Content-Type", "application/xml")], b""),
            _ => get.clone(),
        })
    };
    let server = refusing(xml_error("400 Bad Request", "ExpiredToken", "it is over"));
    let store = store_at(server.endpoint());
    let errors = [
        store.stat(&key("vault")).expect_err("refused"),
        store.storage_class(&key("vault"), None).expect_err("refused"),
    ];
    for error in errors {
        assert!(
            matches!(error, StoreError::CredentialsRefused { reason: CredentialFault::Expired, .. }),
            "{error:?}"
        );
    }
    // It is not read whole for that.
    let ranges: Vec<_> =
        server.requests().iter().filter_map(|request| request.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, ["bytes=0-0", "bytes=0-0"]);
    // Where there is no other reason to be had, it stays what it was; above all, the object is not missing for it.
    for get in [reply("200 OK", &[("ETag", "\"e\"")], b"b"), xml_error("404 Not Found", "NoSuchKey", "no")] {
        let server = refusing(get);
        let error = store_at(server.endpoint()).stat(&key("vault")).expect_err("refused");
        assert!(matches!(error, StoreError::Rejected { .. }), "{error:?}");
    }
}
