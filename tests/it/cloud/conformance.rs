//! The region keeps what coffer asks of every store: the suite that all stores run, over plain buckets and such as keep versions, with the
//! keys of HMAC and with tokens of IAM.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use coffer_ibm::{HttpClient, HttpOptions, Iam, IamCredential};
use coffer_sandbox::{NewBucket, Sandbox, SandboxOptions};
use coffer_store::{ApiKey, AwsKeys, Credentials, Location, S3Options, S3Store};
use coffer_testkit::conformance::store_conformance;

fn hmac(sandbox: &Sandbox) -> Credentials {
    let hmac = sandbox.hmac();
    Credentials::Keys(AwsKeys::new(hmac.access_key_id.clone(), hmac.secret_access_key.clone(), None))
}

fn iam(sandbox: &Sandbox) -> Credentials {
    let http = HttpClient::new(&HttpOptions::default()).unwrap();
    let key = IamCredential::ApiKey(ApiKey::new(sandbox.api_key().to_owned()));
    Credentials::Bearer(Arc::new(Iam::new(http, sandbox.iam_endpoint(), key).unwrap()))
}

/// Runs the suite, each check under a prefix of its own.
fn check(change: impl Fn(&mut NewBucket), credentials: impl Fn(&Sandbox) -> Credentials) {
    let sandbox = Sandbox::start(&SandboxOptions::default()).unwrap();
    let mut bucket = NewBucket::named("suite");
    change(&mut bucket);
    sandbox.create_bucket(&bucket).unwrap();
    let credentials = credentials(&sandbox);
    let count = AtomicU32::new(0);
    store_conformance(|| {
        let prefix = count.fetch_add(1, Ordering::Relaxed);
        let Location::S3(location) = Location::parse(format!("s3://suite/{prefix}")).unwrap() else {
            panic!("a bucket")
        };
        let endpoint = Some(sandbox.endpoint().to_owned());
        let options = S3Options { endpoint, use_proxies: false, ..S3Options::new(credentials.clone()) };
        S3Store::open(location, &options).unwrap()
    });
    assert!(count.into_inner() > 10, "the checks of the suite were run");
}

#[test]
fn a_plain_bucket_with_keys() {
    check(|_| {}, hmac);
}

#[test]
fn a_plain_bucket_with_tokens() {
    check(|_| {}, iam);
}

#[test]
fn a_bucket_that_keeps_versions_with_keys() {
    check(|bucket| bucket.versioning = true, hmac);
}

#[test]
fn a_bucket_that_keeps_versions_with_tokens() {
    check(|bucket| bucket.versioning = true, iam);
}
