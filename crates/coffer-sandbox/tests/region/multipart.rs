//! Uploads in parts.

use std::collections::BTreeMap;

use super::client::{Answer, Desk};

const MIB: usize = 1 << 20;

fn begin(desk: &Desk, key: &str) -> String {
    desk.ask("POST", &format!("/bucket/{key}?uploads"), &[], b"").expect(200).element("UploadId").unwrap()
}

fn part(desk: &Desk, key: &str, id: &str, number: u32, body: &[u8]) -> String {
    let target = format!("/bucket/{key}?partNumber={number}&uploadId={id}");
    desk.put(&target, body).expect(200).header("etag").to_owned()
}

fn complete(desk: &Desk, key: &str, id: &str, parts: &[(u32, &str)], headers: &[(&str, &str)]) -> Answer {
    let parts: String = parts
        .iter()
        .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
        .collect();
    let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
    desk.ask("POST", &format!("/bucket/{key}?uploadId={id}"), headers, body.as_bytes())
}

#[test]
fn parts_become_one_object_when_completed() {
    let desk = Desk::with_bucket("bucket");
    let id = begin(&desk, "big");
    let (one, two) = (vec![b'1'; 5 * MIB], b"the end".to_vec());
    let second = part(&desk, "big", &id, 7, &two);
    part(&desk, "big", &id, 2, b"to be replaced");
    let first = part(&desk, "big", &id, 2, &one);
    desk.get("/bucket/big").refused(404, "NoSuchKey");
    let listed = desk.get(&format!("/bucket/big?uploadId={id}")).expect(200);
    assert_eq!(listed.elements("PartNumber"), ["2", "7"]);
    assert_eq!(listed.elements("Size"), [(5 * MIB).to_string(), "7".to_owned()]);
    let page = desk.get(&format!("/bucket/big?uploadId={id}&max-parts=1")).expect(200);
    assert_eq!(page.element("NextPartNumberMarker").unwrap(), "2");
    assert_eq!(desk.get("/bucket?uploads").expect(200).elements("UploadId"), [&*id]);

    complete(&desk, "big", &id, &[(7, &second), (2, &first)], &[]).refused(400, "InvalidPartOrder");
    complete(&desk, "big", &id, &[(2, &second), (7, &second)], &[]).refused(400, "InvalidPart");
    let done = complete(&desk, "big", &id, &[(2, &first), (7, &second)], &[]).expect(200);
    assert!(
        done.element("ETag").unwrap().replace("&quot;", "").trim_matches('"').ends_with("-2"),
        "{}",
        done.text()
    );
    let got = desk.get("/bucket/big").expect(200);
    assert_eq!(got.body, [one, two].concat());
    let across = [("Range", &*format!("bytes={}-{}", 5 * MIB - 2, 5 * MIB + 2))];
    assert_eq!(desk.ask("GET", "/bucket/big", &across, b"").expect(206).text(), "11the");
    complete(&desk, "big", &id, &[(2, &first), (7, &second)], &[]).refused(404, "NoSuchUpload");
    assert!(desk.get("/bucket?uploads").elements("UploadId").is_empty());
}

#[test]
fn a_completion_can_be_conditional() {
    let desk = Desk::with_bucket("bucket");
    let ids: Vec<_> = (0..8).map(|_| begin(&desk, "slot")).collect();
    let etags: BTreeMap<_, _> = ids
        .iter()
        .enumerate()
        .map(|(number, id)| (id, part(&desk, "slot", id, 1, number.to_string().as_bytes())))
        .collect();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let racers: Vec<_> = ids
            .iter()
            .map(|id| {
                let (desk, etag) = (&desk, &etags[id]);
                scope
                    .spawn(move || complete(desk, "slot", id, &[(1, etag)], &[("If-None-Match", "*")]).status)
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 7, "{statuses:?}");
    // Those that lost are still there, and can be aborted.
    assert_eq!(desk.get("/bucket?uploads").elements("UploadId").len(), 7);
}

#[test]
fn aborted_uploads_leave_nothing() {
    let desk = Desk::with_bucket("bucket");
    let id = begin(&desk, "a");
    let etag = part(&desk, "a", &id, 1, &vec![0; MIB]);
    part(&desk, "a", &id, 2, &vec![0; MIB]);
    complete(&desk, "a", &id, &[(1, &etag), (2, &etag)], &[]).refused(400, "EntityTooSmall");
    desk.delete("/bucket").refused(409, "BucketNotEmpty");
    desk.delete(&format!("/bucket/a?uploadId={id}")).expect(204);
    desk.delete(&format!("/bucket/a?uploadId={id}")).refused(404, "NoSuchUpload");
    let target = format!("/bucket/a?partNumber=1&uploadId={id}");
    desk.put(&target, b"x").refused(404, "NoSuchUpload");
    let files = std::fs::read_dir(desk.sandbox.directory().join("bodies")).unwrap();
    let left: usize = files.map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap().count()).sum();
    assert_eq!(left, 0);
    desk.delete("/bucket").expect(204);
}

#[test]
fn parts_can_be_copied() {
    let desk = Desk::with_bucket("bucket");
    desk.put("/bucket/source", b"0123456789").expect(200);
    let id = begin(&desk, "copy");
    let headers = [("x-amz-copy-source", "/bucket/source"), ("x-amz-copy-source-range", "bytes=2-5")];
    let copied =
        desk.ask("PUT", &format!("/bucket/copy?partNumber=1&uploadId={id}"), &headers, b"").expect(200);
    let etag = copied.element("ETag").unwrap().replace("&quot;", "\"");
    complete(&desk, "copy", &id, &[(1, &etag)], &[]).expect(200);
    assert_eq!(desk.get("/bucket/copy").text(), "2345");
}
