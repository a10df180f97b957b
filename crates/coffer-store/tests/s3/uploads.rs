//! Which checksum an upload brings, and what a refusal teaches.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use coffer_store::{
    ChecksumUse, Checksums, ChunkedUse, CloudStore, ObjectKey, ObjectStore, PutOutcome, Retention,
    RetentionMode, S3Store, StoreError, Trial, UploadFacts, UploadForm, UploadMemory, probe,
};

use crate::scripted::{Reply, Request, Scripted, reply, xml_error};
use crate::server::{Server, location, options};

const CRC: &str = "x-amz-checksum-crc32c";

/// Facts as text, by place.
#[derive(Debug, Default)]
struct Kept(Mutex<BTreeMap<String, String>>);

impl Kept {
    /// What is known beforehand of any store.
    fn knowing(text: &str) -> Arc<Self> {
        Arc::new(Self(Mutex::new([(String::new(), text.to_owned())].into())))
    }

    /// What was written since, the newest of each place.
    fn written(&self) -> Vec<String> {
        let kept = self.0.lock().expect("no panic");
        kept.iter().filter(|(place, _)| !place.is_empty()).map(|(_, text)| text.clone()).collect()
    }
}

impl UploadMemory for Kept {
    fn read(&self, place: &str) -> Option<UploadFacts> {
        let kept = self.0.lock().expect("no panic");
        kept.get(place).or_else(|| kept.get("")).map(|text| UploadFacts::parse(text))
    }

    fn write(&self, place: &str, facts: &UploadFacts) {
        self.0.lock().expect("no panic").insert(place.to_owned(), facts.to_string());
    }
}

fn store_at(server: &Scripted, memory: &Arc<Kept>) -> S3Store {
    let mut options = options(server.endpoint());
    options.part_len = 5 << 20;
    options.upload_memory = Some(Arc::clone(memory) as Arc<dyn UploadMemory>);
    S3Store::open(location("s3://bucket/x"), &options).expect("a store")
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).expect("a valid name")
}

fn done() -> Reply {
    reply("200 OK", &[("ETag", "\"e\"")], b"")
}

/// The form of an upload.
fn form(request: &Request) -> &'static str {
    match (request.header(CRC), request.header("content-md5")) {
        (None, None) => "plain",
        (Some(_), None) => "crc32c",
        (None, Some(_)) => "md5",
        (Some(_), Some(_)) => "both",
    }
}

fn forms(server: &Scripted) -> Vec<&'static str> {
    server.requests().iter().map(form).collect()
}

#[test]
fn what_is_known_decides_and_is_asked_for_once() {
    let server = Scripted::always(done());
    let memory = Kept::knowing("crc32c verified\n");
    let store = store_at(&server, &memory);
    assert_eq!(store.put_if_absent(&key("a"), b"123456789").expect("is made"), PutOutcome::Created);
    store.put_unconditional(&key("b"), b"", None).expect("is made");
    let requests = server.requests();
    // The check value of the catalogue of CRCs, E3069283.
    assert_eq!(requests[0].header(CRC), Some("4waSgw=="));
    assert_eq!(requests[1].header(CRC), Some("AAAAAA=="));
    for request in &requests {
        assert!(request.header("x-amz-trailer").is_none() && request.header("content-encoding").is_none());
        let signed = request.header("authorization").expect("a signature");
        assert!(signed.contains(CRC), "the checksum is signed: {signed}");
    }
    assert!(memory.written().is_empty(), "nothing new was learned");
}

#[test]
fn parts_bring_theirs_and_the_end_names_them() {
    let server = Scripted::start(|_, request, _| {
        let xml: &[u8] = if request.target.contains("?uploads") {
            b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>"
        } else if request.method == "POST" {
            b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
        } else {
            return done();
        };
        reply("200 OK", &[("Content-Type", "application/xml")], xml)
    });
    let store = store_at(&server, &Kept::knowing("crc32c-in-parts verified\n"));
    store.put_if_absent(&key("large"), &vec![7; 10 << 20]).expect("is made");
    store.put_if_absent(&key("small"), b"small").expect("is made");
    let requests = server.requests();
    assert_eq!(requests[0].header("x-amz-checksum-algorithm"), Some("CRC32C"));
    let sums: Vec<_> = requests[1..3].iter().map(|request| request.header(CRC).expect("a sum")).collect();
    assert_eq!(sums[0], sums[1], "of parts that are alike");
    let end = String::from_utf8(requests[3].body.clone()).expect("XML");
    let named = format!("<ChecksumCRC32C>{}</ChecksumCRC32C>", sums[0]);
    assert_eq!(end.matches(&named).count(), 2, "{end}");
    // Of whole objects nothing is known.
    assert_eq!(form(&requests[4]), "plain");
}

#[test]
fn a_checksum_that_is_rejected_is_left_out_and_not_tried_again() {
    for refusal in [
        xml_error("501 Not Implemented", "NotImplemented", "a header"),
        xml_error("400 Bad Request", "InvalidArgument", "a header"),
    ] {
        let server = Scripted::start(move |_, request, _| match form(request) {
            "plain" => done(),
            _ => refusal.clone(),
        });
        let memory = Kept::knowing("crc32c verified\nwithout-checksum taken\n");
        let store = store_at(&server, &memory);
        store.put_if_absent(&key("a"), b"body").expect("is made");
        store.put_if_absent(&key("b"), b"body").expect("is made");
        assert_eq!(memory.written(), ["crc32c rejected\nwithout-checksum taken\n"]);
        // So does the next process.
        store_at(&server, &memory).put_if_absent(&key("c"), b"body").expect("is made");
        assert_eq!(forms(&server), ["crc32c", "plain", "plain", "plain"]);
    }
}

#[test]
fn what_is_refused_in_each_form_teaches_nothing() {
    let server = Scripted::always(xml_error("400 Bad Request", "InvalidRequest", "no"));
    let memory = Kept::knowing("crc32c verified\n");
    let store = store_at(&server, &memory);
    let error = store.put_if_absent(&key("a"), b"body").expect_err("is refused");
    assert!(matches!(error, StoreError::Rejected { .. }), "{error:?}");
    assert_eq!(forms(&server), ["crc32c", "plain", "md5"]);
    assert!(memory.written().is_empty());
    // What is demanded is not left out on the way.
    let memory = Kept::knowing("crc32c verified\nwithout-checksum rejected\n");
    let other = Scripted::always(xml_error("400 Bad Request", "InvalidRequest", "no"));
    store_at(&other, &memory).put_if_absent(&key("a"), b"body").expect_err("is refused");
    assert_eq!(forms(&other), ["crc32c", "md5"]);
}

/// Else what was damaged on the way would be sent again without what shows the damage.
#[test]
fn a_body_that_arrived_damaged_is_sent_again_as_it_was() {
    for code in ["BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"] {
        let server = Scripted::always(xml_error("400 Bad Request", code, "it differs"));
        let memory = Kept::knowing("crc32c verified\n");
        let error = store_at(&server, &memory).put_if_absent(&key("a"), b"body").expect_err("is refused");
        assert!(error.is_retryable(), "{code}: {error:?}");
        assert_eq!(forms(&server), ["crc32c"], "{code}");
        assert!(memory.written().is_empty(), "{code}");
        // Nor is a lock to blame for it.
        let retention = Retention { mode: RetentionMode::Compliance, until_s: 1_900_000_000 };
        let store = store_at(&server, &memory);
        let error = store.put_if_absent_retained(&key("a"), b"body", &retention).expect_err("is refused");
        assert!(error.is_retryable(), "{code}: {error:?}");
        assert_eq!(forms(&server), ["crc32c", "crc32c"], "{code}");
    }
}

/// The end of an upload in parts is answered before it is known how it ends: what then comes is in the body.
#[test]
fn the_end_of_an_upload_in_parts_may_be_refused_after_it_began_with_success() {
    for (code, is_there) in [("PreconditionFailed", true), ("ConditionalRequestConflict", false)] {
        let server = Scripted::start(move |_, request, _| {
            if request.target.contains("?uploads") {
                let xml =
                    b"<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>";
                reply("200 OK", &[("Content-Type", "application/xml")], xml)
            } else if request.method == "POST" {
                xml_error("200 OK", code, "at the end")
            } else {
                done()
            }
        });
        let store = store_at(&server, &Kept::knowing(""));
        let put = store.put_if_absent(&key("large"), &vec![7; 10 << 20]);
        if is_there {
            assert_eq!(put.expect("an answer"), PutOutcome::AlreadyExists);
        } else {
            assert!(put.as_ref().is_err_and(StoreError::is_retryable), "{put:?}");
        }
        let last = server.requests().pop().expect("requests");
        assert_eq!(last.method, "DELETE", "the parts are given up: {}", last.target);
    }
}

#[test]
fn a_choice_goes_before_what_is_known() {
    for (choice, known, expected) in [
        (Checksums::Never, "crc32c verified\n", "plain"),
        (Checksums::Always, "crc32c ignored\n", "crc32c"),
        (Checksums::Always, "", "crc32c"),
        (Checksums::Always, "crc32c rejected\n", "md5"),
    ] {
        let server = Scripted::always(done());
        let mut options = options(server.endpoint());
        options.checksums = choice;
        options.upload_memory = Some(Kept::knowing(known) as Arc<dyn UploadMemory>);
        let store = S3Store::open(location("s3://bucket/x"), &options).expect("a store");
        store.put_if_absent(&key("a"), b"body").expect("is made");
        assert_eq!(forms(&server), [expected], "{choice:?} {known}");
    }
}

#[test]
fn forms_that_are_tried_go_out_as_they_are_meant() {
    let server = Scripted::always(done());
    let store = store_at(&server, &Kept::knowing(""));
    for form in [UploadForm::Plain, UploadForm::Summed, UploadForm::WronglySummed, UploadForm::Chunked] {
        assert_eq!(store.try_upload(&key("a"), b"123456789", form, true).expect("is tried"), Trial::Taken);
    }
    let requests = server.requests();
    assert_eq!(forms(&server), ["plain", "crc32c", "crc32c", "plain"]);
    assert_eq!(requests[1].header(CRC), Some("4waSgw=="));
    assert_ne!(requests[2].header(CRC), Some("4waSgw=="));
    let chunked = &requests[3];
    assert_eq!(chunked.header("content-encoding"), Some("aws-chunked"));
    assert!(
        chunked.header("x-amz-trailer").is_some_and(|name| name.starts_with("x-amz-checksum-")),
        "{chunked:?}"
    );
    assert!(
        chunked.body.len() > 9 && chunked.body.starts_with(b"9"),
        "{:?}",
        String::from_utf8_lossy(&chunked.body)
    );
    // A store that cannot be asked says nothing.
    for status in ["503 Slow Down", "500 Oops"] {
        let busy = Scripted::always(xml_error(status, "InternalError", "later"));
        let store = store_at(&busy, &Kept::knowing(""));
        store.try_upload(&key("a"), b"body", UploadForm::Summed, true).expect_err("it is busy");
    }
    let refusing = Scripted::always(xml_error("403 Forbidden", "AccessDenied", "not like that"));
    let store = store_at(&refusing, &Kept::knowing(""));
    match store.try_upload(&key("a"), b"body", UploadForm::Plain, true).expect("is tried") {
        Trial::Refused(reason) => assert!(reason.contains("not like that"), "{reason}"),
        Trial::Taken => panic!("it was refused"),
    }
}

/// The server on loopback looks at no checksum.
#[test]
fn a_probe_tells_what_is_ignored_and_what_is_mangled() {
    let server = Server::start();
    let store = server.store("x");
    let report = probe(&store, &[9; 32]);
    let expected = UploadFacts {
        whole: Some(ChecksumUse::Ignored),
        in_parts: Some(ChecksumUse::Ignored),
        is_demanded: Some(false),
        chunked: Some(ChunkedUse::Taken),
    };
    assert_eq!(report.uploads, expected, "{report:#?}");
    server.objects().mangles_chunks = true;
    let report = probe(&store, &[10; 32]);
    assert_eq!(report.uploads, UploadFacts { chunked: Some(ChunkedUse::Mangled), ..expected }, "{report:#?}");
    let told = report.facts.iter().find(|fact| fact.name == "chunked uploads").expect("a fact");
    assert!(told.consequence.contains("when_required"), "{told:?}");
    assert!(report.leftovers.is_empty(), "{:?}", report.leftovers);
    assert!(server.objects().by_key.is_empty() && server.objects().upload_count() == 0);
}
