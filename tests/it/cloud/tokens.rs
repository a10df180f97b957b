//! The service that gives tokens, when it is down, elsewhere, or gives none: who is named for it, and what to do.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::desk::{Desk, Ran};

/// A vault, and the command with an API key in place of keys of HMAC.
fn desk() -> Desk {
    let desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    fs::write(desk.path("api-key"), desk.sandbox.api_key()).unwrap();
    desk
}

/// Asks IAM at an endpoint for a token, to list snapshots with.
fn ask(desk: &Desk, endpoint: &str, line: &str) -> Ran {
    let begun = Instant::now();
    let line = format!("--iam-endpoint {endpoint} {line} snapshots --no-cache");
    let ran = desk.run(&line);
    assert!(begun.elapsed() < Duration::from_secs(40), "{line} took {:?}", begun.elapsed());
    ran
}

const KEY: &str = "--ibm-api-key-file ../api-key";

#[test]
fn an_identity_service_that_is_not_there_is_named_at_once() {
    let desk = desk();
    ask(&desk, desk.sandbox.iam_endpoint(), KEY).expect(0);
    // The port of a connection: nobody listens there, and nobody else gets it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let nobody = format!("http://{}", taken.local_addr().unwrap());
    for endpoint in [nobody.as_str(), "https://iam.no-such-host.invalid"] {
        ask(&desk, endpoint, KEY)
            .expect(31)
            .says("no token for s3://backups/v can be had from ")
            .says(&format!("hint: IAM was asked at {endpoint}: check --iam-endpoint"));
    }
    let told = ask(&desk, &nobody, &format!("--json {KEY}")).expect(31);
    assert!(told.err.contains("\"kind\":\"unreachable\""), "{told:?}");
    // Of a backup nothing is left behind, and none is made up.
    let line = format!("--iam-endpoint {nobody} {KEY} backup src");
    desk.run(&line).expect(31).says("check --iam-endpoint");
    desk.run("backup src").expect(0);
}

#[test]
fn what_is_no_identity_service_or_has_no_certificate_is_said_to() {
    let desk = desk();
    ask(&desk, desk.sandbox.endpoint(), KEY)
        .expect(32)
        .says(&format!("hint: {} is not IAM", desk.sandbox.endpoint()));
    let secure = desk.sandbox.iam_endpoint().replace("http:", "https:");
    ask(&desk, &secure, KEY).expect(31).says("no secure connection to IAM at 127.0.0.1:").says("--ca-cert");
}

#[test]
fn an_api_key_that_iam_does_not_know_and_a_profile_without_proof_are_refused() {
    let desk = desk();
    fs::write(desk.path("api-key"), "no-such-key-0123456789").unwrap();
    let iam = desk.sandbox.iam_endpoint();
    ask(&desk, iam, KEY).expect(30).says("BXNIM0415E").says("check the API key");
    ask(&desk, iam, "--ibm-trusted-profile nightly --ibm-cr-token-file ../none")
        .expect(30)
        .says("../none")
        .says("--ibm-cr-token-file");
}
