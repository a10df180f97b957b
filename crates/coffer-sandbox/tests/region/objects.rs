//! Put, get, head, delete, copy; conditions, ranges, checksums.

use coffer_sandbox::{ChecksumMode, NewBucket, Switches};

use super::client::{Desk, md5};

#[test]
fn an_object_comes_back_with_what_was_said_about_it() {
    let desk = Desk::with_bucket("bucket");
    let headers = [
        ("Content-Type", "text/plain"),
        ("x-amz-meta-Colour", "blue"),
        ("Cache-Control", "no-store"),
        ("Content-MD5", &md5(b"hello")),
    ];
    let put = desk.ask("PUT", "/bucket/a/b%20c", &headers, b"hello").expect(200);
    assert_eq!(put.header("etag"), "\"5d41402abc4b2a76b9719d911017c592\"");
    assert!(put.headers.contains_key("x-clv-request-id") && put.header("server").starts_with("Cleversafe/"));
    let got = desk.get("/bucket/a/b%20c").expect(200);
    assert_eq!(got.body, b"hello");
    assert_eq!(got.header("content-type"), "text/plain");
    assert_eq!(got.header("x-amz-meta-colour"), "blue");
    assert_eq!(got.header("cache-control"), "no-store");
    let head = desk.ask("HEAD", "/bucket/a/b%20c", &[], b"").expect(200);
    assert_eq!(head.header("content-length"), "5");
    assert_eq!(head.header("last-modified"), got.header("last-modified"));

    desk.put("/bucket/a/b%20c", b"").expect(200);
    assert_eq!(desk.get("/bucket/a/b%20c").expect(200).body, b"");
    desk.delete("/bucket/a/b%20c").expect(204);
    desk.delete("/bucket/a/b%20c").expect(204);
    desk.get("/bucket/a/b%20c").refused(404, "NoSuchKey");
    desk.get("/nowhere/a").refused(404, "NoSuchBucket");
    desk.put("/nowhere/a", b"x").refused(404, "NoSuchBucket");
}

#[test]
fn ranges_and_conditions_of_reads() {
    let desk = Desk::with_bucket("bucket");
    let etag = desk.put("/bucket/a", b"0123456789").expect(200).header("etag").to_owned();
    let with = |name: &str, value: &str| desk.ask("GET", "/bucket/a", &[(name, value)], b"");
    for (range, body, shown) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-2", "89", "bytes 8-9/10"),
        ("bytes=5-100", "56789", "bytes 5-9/10"),
    ] {
        let got = with("Range", range).expect(206);
        assert_eq!((&*got.text(), got.header("content-range")), (body, shown));
    }
    with("Range", "bytes=10-").refused(416, "InvalidRange");
    with("If-Match", &etag).expect(200);
    with("If-Match", "\"other\"").refused(412, "PreconditionFailed");
    assert_eq!(with("If-None-Match", &etag).expect(304).header("etag"), etag);
    with("If-None-Match", "\"other\"").expect(200);
    with("If-Modified-Since", "Mon, 01 Jan 2035 00:00:00 GMT").expect(304);
    with("If-Modified-Since", "Mon, 01 Jan 2018 00:00:00 GMT").expect(200);
    with("If-Unmodified-Since", "Mon, 01 Jan 2018 00:00:00 GMT").refused(412, "PreconditionFailed");
}

#[test]
fn conditions_of_writes() {
    let desk = Desk::with_bucket("bucket");
    let put = |header: (&str, &str), body: &[u8]| desk.ask("PUT", "/bucket/a", &[header], body);
    put(("If-Match", "\"x\""), b"one").refused(404, "NoSuchKey");
    let etag = put(("If-None-Match", "*"), b"one").expect(200).header("etag").to_owned();
    put(("If-None-Match", "*"), b"two").refused(412, "PreconditionFailed");
    put(("If-None-Match", &etag), b"two").refused(412, "PreconditionFailed");
    put(("If-Match", "\"x\""), b"two").refused(412, "PreconditionFailed");
    assert_eq!(desk.get("/bucket/a").text(), "one");
    put(("If-Match", &etag), b"two").expect(200);
    assert_eq!(desk.get("/bucket/a").text(), "two");
}

#[test]
fn of_sixteen_that_create_at_once_one_wins() {
    let desk = Desk::with_bucket("bucket");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..16)
            .map(|number| {
                let desk = &desk;
                scope.spawn(move || {
                    let body = format!("racer {number}");
                    desk.ask("PUT", "/bucket/slot", &[("If-None-Match", "*")], body.as_bytes()).status
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 412].contains(status)), "{statuses:?}");
}

#[test]
fn sums_are_compared_and_given_back() {
    let desk = Desk::with_bucket("bucket");
    let put = |headers: &[(&str, &str)]| desk.ask("PUT", "/bucket/a", headers, b"123456789");
    put(&[("Content-MD5", &md5(b"other"))]).refused(400, "BadDigest");
    put(&[("Content-MD5", "short")]).refused(400, "InvalidDigest");
    put(&[("x-amz-checksum-crc32", "AAAAAA==")]).refused(400, "BadDigest");
    desk.get("/bucket/a").refused(404, "NoSuchKey");
    // The check value of CRC-32 is cbf43926, that of CRC-32C e3069283.
    put(&[("x-amz-checksum-crc32", "y/Q5Jg==")]).expect(200);
    let asked = [("x-amz-checksum-mode", "ENABLED")];
    let got = desk.ask("GET", "/bucket/a", &asked, b"").expect(200);
    assert_eq!(
        (got.header("x-amz-checksum-crc32"), got.header("x-amz-checksum-type")),
        ("y/Q5Jg==", "FULL_OBJECT")
    );
    assert!(!desk.get("/bucket/a").headers.contains_key("x-amz-checksum-crc32"));
    put(&[("x-amz-checksum-crc32c", "4waSgw==")]).expect(200);
    let head = desk.ask("HEAD", "/bucket/a", &asked, b"").expect(200);
    assert_eq!(head.header("x-amz-checksum-crc32c"), "4waSgw==");
}

#[test]
fn sums_may_be_ignored_rejected_or_demanded() {
    let desk = Desk::with_bucket("bucket");
    let put = |headers: &[(&str, &str)]| desk.ask("PUT", "/bucket/a", headers, b"123456789");
    let wrong = [("x-amz-checksum-crc32c", "AAAAAA==")];
    let switch = |mode, is_demanded| {
        let change = |switches: &mut Switches| {
            switches.checksum_mode = mode;
            switches.is_checksum_demanded = is_demanded;
        };
        desk.sandbox.switch(change).unwrap();
    };
    switch(ChecksumMode::Ignored, false);
    put(&wrong).expect(200);
    let asked = [("x-amz-checksum-mode", "ENABLED")];
    let got = desk.ask("GET", "/bucket/a", &asked, b"").expect(200);
    assert!(!got.headers.contains_key("x-amz-checksum-crc32c"), "what is ignored is not kept");
    put(&[("Content-MD5", &md5(b"other"))]).refused(400, "BadDigest");
    switch(ChecksumMode::Rejected, false);
    put(&wrong).refused(501, "NotImplemented");
    put(&[("x-amz-sdk-checksum-algorithm", "CRC32")]).refused(501, "NotImplemented");
    put(&[("Content-MD5", &md5(b"123456789"))]).expect(200);
    desk.ask("GET", "/bucket/a", &asked, b"").expect(200);
    switch(ChecksumMode::Verified, true);
    put(&[]).refused(400, "InvalidRequest");
    put(&wrong).refused(400, "BadDigest");
    put(&[("Content-MD5", &md5(b"123456789"))]).expect(200);
    put(&[("x-amz-checksum-crc32c", "4waSgw==")]).expect(200);
    switch(ChecksumMode::Verified, false);
    desk.sandbox.switch(|switches| switches.is_chunked_rejected = true).unwrap();
    put(&[("Content-Encoding", "aws-chunked")]).refused(501, "NotImplemented");
    put(&[]).expect(200);
}

#[test]
fn chunked_bodies_of_a_bearer_are_read_with_their_trailers() {
    let desk = Desk::with_bucket("bucket");
    let put = |trailer: &str| {
        let body = format!("4\r\n1234\r\n5\r\n56789\r\n0\r\n{trailer}\r\n");
        let headers = [
            ("Content-Encoding", "aws-chunked"),
            ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
            ("x-amz-decoded-content-length", "9"),
            ("x-amz-trailer", "x-amz-checksum-crc32"),
        ];
        desk.ask("PUT", "/bucket/a", &headers, body.as_bytes())
    };
    put("x-amz-checksum-crc32:AAAAAA==\r\n").refused(400, "BadDigest");
    put("x-amz-checksum-crc32:y/Q5Jg==\r\n").expect(200);
    let got = desk.get("/bucket/a").expect(200);
    assert_eq!(got.text(), "123456789");
    assert!(!got.headers.contains_key("content-encoding"));
    let headers = [
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("x-amz-decoded-content-length", "9"),
    ];
    desk.ask("PUT", "/bucket/b", &headers, b"9\r\n1234").refused(400, "IncompleteBody");
    desk.get("/bucket/b").refused(404, "NoSuchKey");
}

#[test]
fn many_are_deleted_at_once() {
    let desk = Desk::with_bucket("bucket");
    for key in ["a", "b", "c"] {
        desk.put(&format!("/bucket/{key}"), b"x").expect(200);
    }
    let body = b"<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object><Object><Key>none</Key></Object></Delete>";
    desk.ask("POST", "/bucket?delete", &[], body).refused(400, "InvalidRequest");
    let answer = desk.ask("POST", "/bucket?delete", &[("Content-MD5", &md5(body))], body).expect(200);
    assert_eq!(answer.elements("Deleted").len(), 3);
    assert_eq!(desk.get("/bucket").elements("Key"), ["c"]);
}

#[test]
fn copies_within_and_between_buckets() {
    let desk = Desk::with_bucket("bucket");
    desk.sandbox.create_bucket(&NewBucket::named("other")).unwrap();
    desk.ask("PUT", "/bucket/a", &[("x-amz-meta-n", "1"), ("Content-Type", "text/x")], b"body").expect(200);
    let copy = |target: &str, headers: &[(&str, &str)]| {
        let headers: Vec<_> = headers.iter().copied().chain([("x-amz-copy-source", "/bucket/a")]).collect();
        desk.ask("PUT", target, &headers, b"")
    };
    copy("/other/b", &[]).expect(200);
    let got = desk.get("/other/b").expect(200);
    assert_eq!(
        (&*got.text(), got.header("x-amz-meta-n"), got.header("content-type")),
        ("body", "1", "text/x")
    );
    copy("/other/b", &[("x-amz-metadata-directive", "REPLACE"), ("x-amz-meta-m", "2")]).expect(200);
    let got = desk.get("/other/b").expect(200);
    assert_eq!(got.header("x-amz-meta-m"), "2");
    assert!(!got.headers.contains_key("x-amz-meta-n"));
    copy("/bucket/a", &[]).refused(400, "InvalidRequest");
    copy("/other/b", &[("x-amz-copy-source-if-match", "\"x\"")]).refused(412, "PreconditionFailed");
}

#[test]
fn a_hard_quota_is_not_exceeded() {
    let desk = Desk::with_bucket("bucket");
    desk.sandbox.set_quota("bucket", Some(10)).unwrap();
    desk.put("/bucket/a", b"123456").expect(200);
    desk.put("/bucket/b", b"12345").refused(403, "QuotaExceeded");
    desk.sandbox.set_quota("bucket", None).unwrap();
    desk.put("/bucket/b", b"12345").expect(200);
}
