//! Requests with HMAC keys, signed here by hand.

use std::time::{SystemTime, UNIX_EPOCH};

use coffer_sandbox::HmacKeys;
use s3s::crypto::{Checksum, Sha256};

use super::client::{Answer, Desk, send};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    Sha256::checksum(bytes).as_ref().to_vec()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |with: u8| block.map(|byte| byte ^ with).to_vec();
    let inner = sha256(&[pad(0x36), text.as_bytes().to_vec()].concat());
    sha256(&[pad(0x5c), inner].concat())
}

/// `20260102T030405Z`, so many seconds from now.
#[expect(clippy::disallowed_methods, reason = "signatures are of the time of the machine")]
fn stamp(offset_s: i64) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 + offset_s;
    let at = time::OffsetDateTime::from_unix_timestamp(now_s).unwrap();
    let (date, time) = (at.date(), at.time());
    let (hour, minute, second) = time.as_hms();
    format!("{}{:02}{:02}T{hour:02}{minute:02}{second:02}Z", date.year(), date.month() as u8, date.day())
}

/// A request and what it is signed with.
struct Signed<'a> {
    keys: HmacKeys,
    region: &'a str,
    offset_s: i64,
    method: &'a str,
    path: &'a str,
    body: &'a [u8],
}

impl<'a> Signed<'a> {
    fn new(desk: &Desk, method: &'a str, path: &'a str) -> Self {
        Self { keys: desk.sandbox.hmac().clone(), region: "eu-de", offset_s: 0, method, path, body: b"" }
    }

    /// Sends a body with the signature, the signed one or another.
    fn send_with(&self, desk: &Desk, body: &[u8]) -> Answer {
        let base = desk.sandbox.endpoint();
        let host = base.strip_prefix("http://").unwrap();
        let (stamp, sum) = (stamp(self.offset_s), hex(&sha256(self.body)));
        let names = "host;x-amz-content-sha256;x-amz-date";
        let canonical = format!(
            "{}\n{}\n\nhost:{host}\nx-amz-content-sha256:{sum}\nx-amz-date:{stamp}\n\n{names}\n{sum}",
            self.method, self.path
        );
        let scope = format!("{}/{}/s3/aws4_request", &stamp[..8], self.region);
        let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex(&sha256(canonical.as_bytes())));
        let mut key = format!("AWS4{}", self.keys.secret_access_key).into_bytes();
        for part in scope.split('/') {
            key = hmac(&key, part);
        }
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            self.keys.access_key_id,
            hex(&hmac(&key, &text))
        );
        let headers =
            [("x-amz-content-sha256", &*sum), ("x-amz-date", &*stamp), ("Authorization", &*authorization)];
        send(base, self.method, self.path, &headers, body)
    }
}

fn ask(
    desk: &Desk,
    keys: &HmacKeys,
    region: &str,
    offset_s: i64,
    method: &str,
    path: &str,
    body: &[u8],
) -> Answer {
    Signed { keys: keys.clone(), region, offset_s, method, path, body }.send_with(desk, body)
}

#[test]
fn signed_requests_work_in_any_region_of_the_scope() {
    let desk = Desk::new();
    let keys = desk.sandbox.hmac().clone();
    ask(&desk, &keys, "us-standard", 0, "PUT", "/bucket", b"").expect(200);
    ask(&desk, &keys, "eu-de", 0, "PUT", "/bucket/a", b"signed").expect(200);
    assert_eq!(ask(&desk, &keys, "anything", 0, "GET", "/bucket/a", b"").expect(200).text(), "signed");
    assert_eq!(ask(&desk, &keys, "eu-de", 0, "GET", "/", b"").expect(200).elements("Name"), ["bucket"]);
    // The same bucket for bearers.
    assert_eq!(desk.get("/bucket/a").text(), "signed");
}

#[test]
fn wrong_keys_and_clocks_are_told_apart() {
    let desk = Desk::with_bucket("bucket");
    let keys = desk.sandbox.hmac().clone();
    let wrong = HmacKeys { secret_access_key: "0".repeat(48), ..keys.clone() };
    ask(&desk, &wrong, "eu-de", 0, "GET", "/bucket", b"").refused(403, "SignatureDoesNotMatch");
    let unknown = HmacKeys { access_key_id: "0".repeat(32), ..keys.clone() };
    ask(&desk, &unknown, "eu-de", 0, "GET", "/bucket", b"").refused(403, "InvalidAccessKeyId");
    ask(&desk, &keys, "eu-de", -1000, "GET", "/bucket", b"").refused(403, "RequestTimeTooSkewed");
    ask(&desk, &keys, "eu-de", 1000, "GET", "/bucket", b"").refused(403, "RequestTimeTooSkewed");
    ask(&desk, &keys, "eu-de", -600, "GET", "/bucket", b"").expect(200);
    desk.sandbox.switch(|switches| switches.signature_skew_s = 3600).unwrap();
    ask(&desk, &keys, "eu-de", 0, "GET", "/bucket", b"").refused(403, "RequestTimeTooSkewed");
}

#[test]
fn a_body_that_is_not_the_signed_one_is_refused() {
    let desk = Desk::with_bucket("bucket");
    let request = Signed { body: b"right", ..Signed::new(&desk, "PUT", "/bucket/a") };
    let answer = request.send_with(&desk, b"wrong");
    assert!(answer.status >= 400, "{}", answer.text());
    desk.get("/bucket/a").refused(404, "NoSuchKey");
    request.send_with(&desk, b"right").expect(200);
}

#[test]
fn policies_hold_for_hmac_keys_too() {
    let desk = Desk::with_bucket("bucket");
    let action = coffer_sandbox::Policy::actions(["cloud-object-storage.bucket.get"]);
    let id = desk.sandbox.create_service_id("lister", &[action]).unwrap();
    let keys = desk.sandbox.create_hmac(&id).unwrap();
    ask(&desk, &keys, "eu-de", 0, "GET", "/bucket", b"").expect(200);
    ask(&desk, &keys, "eu-de", 0, "PUT", "/bucket/a", b"x").refused(403, "AccessDenied");
}
