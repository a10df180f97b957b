//! Secure connections, and whom they trust.

use std::io::{Read, Write};
use std::sync::Arc;

use coffer_store::{ObjectKey, ObjectStore, PutOutcome, S3Store, StoreError};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::server::{Server, location, options};

fn check_tls(error: &StoreError) {
    assert!(matches!(error, StoreError::Tls { .. }) && !error.is_retryable(), "{error:?}");
}

#[test]
fn a_certificate_is_trusted_when_its_issuer_is_named_and_for_its_host_only() {
    let server = Server::start();
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .expect("a certificate");
    let port = server.add_tls(Arc::new(config)).port();
    let open = |host: &str, ca_cert: Option<Vec<u8>>| {
        let mut options = options(format!("https://{host}:{port}"));
        options.ca_cert = ca_cert;
        S3Store::open(location("s3://bucket/tls"), &options)
    };
    let name = ObjectKey::new("vault").expect("a valid name");
    let put = |store: &S3Store| store.put_if_absent(&name, b"body");
    let pem = Some(issued.cert.pem().into_bytes());

    check_tls(&put(&open("localhost", None).expect("a store")).expect_err("nobody vouches for it"));
    check_tls(&put(&open("127.0.0.1", pem.clone()).expect("a store")).expect_err("another host"));
    let store = open("localhost", pem).expect("a store");
    assert_eq!(put(&store).expect("is made"), PutOutcome::Created);
    // Parts of a body that is not signed come whole too.
    let long = ObjectKey::new("long").expect("a valid name");
    let body = vec![7; 40 << 20];
    assert_eq!(store.put_if_absent(&long, &body).expect("is made"), PutOutcome::Created);
    let mut out = Vec::new();
    store.read(&long, u64::MAX, &mut out).expect("is read");
    assert!(out == body, "other bytes came back");

    for bad in [b"".as_slice(), b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
    {
        let error = open("localhost", Some(bad.to_vec())).expect_err("no certificate");
        assert!(matches!(error, StoreError::InvalidSetting { .. }), "{error:?}");
    }
}

#[test]
fn plain_http_behind_https_is_a_failure_of_tls() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a connection");
        let mut hello = [0; 64];
        let _ = connection.read(&mut hello).expect("a hello");
        connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("is sent");
    });
    let store = S3Store::open(location("s3://bucket/x"), &options(format!("https://{address}")));
    let store = store.expect("a store");
    let name = ObjectKey::new("vault").expect("a valid name");
    check_tls(&store.stat(&name).expect_err("no TLS"));
    serve.join().expect("no panic");
}
