//! Packs in an archive class are asked for, exactly those that are needed, and waited for or come back to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use coffer_sandbox::Policy;
use coffer_store::{ObjectKey, ObjectStore};

use super::desk::{BUCKET, Desk};

/// Puts the packs into an archive class, as a lifecycle rule does.
pub(super) fn archive_packs(desk: &Desk) -> usize {
    let packs = desk.names("packs/");
    archive(desk, BUCKET, &packs);
    packs.len()
}

/// Puts objects of a bucket into an archive class.
fn archive(desk: &Desk, name: &str, objects: &[ObjectKey]) {
    let bucket = desk.bucket_named(name);
    for object in objects {
        let mut bytes = Vec::new();
        bucket.read(object, 1 << 30, &mut bytes).unwrap();
        bucket.delete(object).unwrap();
        let path = format!("/{name}/v/{object}");
        desk.raw("PUT", &path, &[("x-amz-storage-class", "GLACIER")], &bytes);
    }
}

/// Makes a slot for the new key file `../other` and puts its object into an archive class; returns those that were there before.
fn add_archived_slot(desk: &Desk) -> Vec<ObjectKey> {
    let first = desk.names("slots/");
    desk.run("keys new-file ../other").expect(0);
    desk.run("keys add --new-key-file ../other").expect(0);
    let second: Vec<_> = desk.names("slots/").into_iter().filter(|name| !first.contains(name)).collect();
    assert_eq!(second.len(), 1);
    archive(desk, BUCKET, &second);
    first
}

#[test]
fn what_is_archived_is_asked_for_and_restored_later() {
    let desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    desk.run("backup src").expect(0);
    let pack_count = archive_packs(&desk);
    assert!(pack_count > 0);
    let refused = desk.run("restore latest --target ../out").expect(25);
    assert!(refused.err.contains("--request-archived"), "{refused:?}");
    // What is archived is as it should be.
    assert!(!refused.out.contains("damaged") && !refused.err.contains("damaged"), "{refused:?}");
    desk.run("cat latest:/src/d/large").expect(25).says("--request-archived");
    let refused = desk.run("--json restore latest --target ../out").expect(25).value();
    assert_eq!(refused["degraded"], false, "{refused}");
    let mut asked = 0;
    for round in 0.. {
        let ran = desk.run("--json restore latest --target ../out --request-archived --tier bulk");
        if ran.code == 0 {
            break;
        }
        assert!(ran.code == 25 && round < 5, "{ran:?}");
        let value = ran.value();
        asked += value["requested"].as_u64().unwrap();
        // They are on their way: nothing is asked for twice.
        let again = desk.run("--json restore latest --target ../out --request-archived").expect(25).value();
        assert_eq!(again["requested"], 0, "{again}");
        desk.sandbox.advance(Duration::from_secs(13 * 3600)).unwrap();
    }
    assert_eq!(asked, pack_count as u64, "each pack was asked for once");
    desk.assert_restores("", "out2");
}

#[test]
fn a_restore_waits_if_it_is_told_to() {
    let desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    desk.run("backup src").expect(0);
    archive_packs(&desk);
    desk.sandbox.switch(|switches| switches.restore_delay_s = Some(1)).unwrap();
    desk.assert_restores("--request-archived --wait --poll 1 --tier expedited", "out");
}

/// What is archived is as it should be, and is not called damaged by those who cannot read it.
#[test]
fn what_is_archived_is_not_corrupt() {
    let desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    desk.run("backup src").expect(0);
    let pack_count = archive_packs(&desk);
    for line in ["verify", "verify --deep"] {
        let verified = desk.run(&format!("--json {line}")).expect(25).value();
        let findings = verified["findings"].as_array().unwrap();
        assert_eq!(findings.len(), pack_count, "{verified}");
        assert!(findings.iter().all(|finding| finding["class"] == "archived"), "{verified}");
        assert_eq!(verified["hashed_packs"], 0, "{verified}");
        desk.run(line).expect(25).says("--request-archived");
    }
    for line in
        ["ls latest", "find a", "cat latest:/src/a", "diff latest latest:/src", "restore latest -t ../out"]
    {
        let ran = desk.run(&format!("{line} --no-cache")).expect(25).says("is archived");
        assert!(!ran.err.contains("damaged"), "{line}: {ran:?}");
    }
    // Damage beside it is what counts.
    let slot = desk.names("index/").pop().unwrap();
    desk.bucket().delete(&slot).unwrap();
    desk.run("verify").expect(21);
}

/// What the vault is opened with can be archived too, where a rule is for the whole bucket.
#[test]
fn key_slots_that_are_archived_are_no_wrong_key() {
    let desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    desk.run("backup src").expect(0);
    let first = add_archived_slot(&desk);
    // One slot opens, and the other one is not called lost.
    let listed = desk.run("keys list --no-cache").expect(25).says("archived");
    assert!(!listed.out.contains("missing"), "{listed:?}");
    desk.run("backup src --no-cache").expect(0);
    archive(&desk, BUCKET, &first);
    let lines =
        ["backup src", "keys list", "snapshots", "ls latest", "verify --deep", "restore latest -t ../out"];
    for line in lines {
        let ran = desk.run(&format!("{line} --no-cache")).expect(25).says("slots/").says("is archived");
        assert!(ran.err.contains("--request-archived"), "{line}: {ran:?}");
    }
    // A key that fits neither cannot be told from one that fits.
    desk.run("keys new-file ../stranger").expect(0);
    desk.run("--key-file ../stranger snapshots --no-cache").expect(25);
    let line = "--json restore latest --target ../out --request-archived --no-cache";
    let asked = desk.run(line).expect(25).value();
    assert_eq!((&asked["requested"], &asked["more_to_come"]), (&2.into(), &true.into()), "{asked}");
    assert!(asked["snapshot_id"].is_null(), "{asked}");
    let again = desk.run(line).expect(25).value();
    assert_eq!((&again["requested"], &again["coming"]), (&0.into(), &2.into()), "{again}");
    desk.sandbox.advance(Duration::from_secs(13 * 3600)).unwrap();
    desk.run("keys list --no-cache").expect(0);
    desk.run("--key-file ../stranger snapshots --no-cache").expect(12);
    desk.assert_restores("--request-archived --no-cache", "out");
}

/// Index segments tell where chunks are: archived ones are no damage, and are asked for where nothing else tells it.
#[test]
fn index_segments_that_are_archived_are_asked_for() {
    let desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    desk.run("backup src").expect(0);
    let segments = desk.names("index/");
    archive(&desk, BUCKET, &segments);
    // The packs are at hand, and tell themselves what they hold.
    let ran = desk.run("restore latest -t ../by-packs --no-cache").expect(0);
    assert!(!ran.out.contains("damaged") && !ran.err.contains("damaged"), "{ran:?}");
    let packs = archive_packs(&desk);
    for line in ["restore latest -t ../out", "ls latest", "cat latest:/src/a", "dump latest:/src"] {
        let ran = desk.run(&format!("{line} --no-cache")).expect(25).says("index/").says("is archived");
        assert!(!ran.out.contains("damaged") && !ran.err.contains("damaged"), "{line}: {ran:?}");
    }
    let line = "--json restore latest -t ../out --request-archived --no-cache";
    let mut asked = 0;
    for round in 0.. {
        let ran = desk.run(line);
        if ran.code == 0 {
            break;
        }
        assert!(ran.code == 25 && round < 6, "{ran:?}");
        let value = ran.value();
        asked += value["requested"].as_u64().unwrap();
        if round == 0 {
            assert_eq!((asked, &value["more_to_come"]), (segments.len() as u64, &true.into()), "{value}");
        }
        desk.sandbox.advance(Duration::from_secs(13 * 3600)).unwrap();
    }
    assert_eq!(asked, (segments.len() + packs) as u64, "each object was asked for once");
    desk.assert_restores("--no-cache", "out2");
}

/// Who has another key needs another slot than the one that opens here.
#[test]
fn a_key_slot_that_is_archived_beside_one_that_opens_is_asked_for_and_not_waited_for() {
    let desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    desk.run("backup src").expect(0);
    add_archived_slot(&desk);
    desk.run("--key-file ../other snapshots --no-cache").expect(25).says("--request-archived");
    let line = "restore latest -t ../out --request-archived --no-cache";
    desk.run(line).expect(0).says("1 archived key slot(s) were asked for as well");
    let again = desk.run(line).expect(0);
    assert!(!again.err.contains("key slot(s)"), "it is on its way: {again:?}");
    desk.sandbox.advance(Duration::from_secs(13 * 3600)).unwrap();
    desk.run("--key-file ../other snapshots --no-cache").expect(0);
}

/// What a record says that is archived is not known, so nothing is missing for it.
#[test]
fn log_records_that_are_archived_are_said_to_be_that_and_nothing_else() {
    let desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    for name in ["one", "two", "three"] {
        std::fs::write(desk.path("work/src").join(name), name.repeat(100_000)).unwrap();
        desk.run("backup src").expect(0);
    }
    let mut records = desk.names("log/");
    records.sort_unstable_by_key(ToString::to_string);
    assert_eq!(records.len(), 4);
    // In the middle, and then at the end as well.
    for last in [2, 3] {
        archive(&desk, BUCKET, &records[last..=last]);
        let archived = &records[2..=last];
        for line in ["verify", "verify --deep"] {
            let verified = desk.run(&format!("--json {line}")).expect(25).value();
            let findings = verified["findings"].as_array().unwrap();
            let objects: Vec<_> =
                findings.iter().map(|finding| finding["object"].as_str().unwrap()).collect();
            let expected: Vec<_> = archived.iter().map(ToString::to_string).collect();
            assert_eq!(objects, expected, "{line}: {verified}");
            assert!(findings.iter().all(|finding| finding["class"] == "archived"), "{line}: {verified}");
            assert_eq!(
                (&verified["damaged_records"], &verified["residue_count"]),
                (&0.into(), &0.into()),
                "{verified}"
            );
        }
    }
    desk.run("snapshots --no-cache").expect(25).says("log/").says("--request-archived");
    desk.sandbox.switch(|switches| switches.restore_delay_s = Some(1)).unwrap();
    let line =
        "restore latest --target ../out --request-archived --wait --poll 1 --tier expedited --no-cache";
    desk.run(line).expect(0).says("that the vault is opened with");
    assert_eq!(std::fs::read(desk.path("out/src/two")).unwrap(), "two".repeat(100_000).into_bytes());
}

#[test]
fn a_dump_of_what_is_archived_ends_as_a_restore_of_it() {
    let desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    desk.run("backup src").expect(0);
    archive_packs(&desk);
    for line in
        ["dump latest", "dump latest:/src", "dump latest:/src/d/large", "dump latest:/src/a --archive tar"]
    {
        for output in ["", " --output ../out.tar"] {
            let ran = desk.run(&format!("{line}{output} --no-cache")).expect(25).says("--request-archived");
            assert!(!ran.err.contains("damaged"), "{line}: {ran:?}");
        }
    }
}

/// What the credentials may not read is no damage either.
#[test]
fn what_may_not_be_read_is_not_corrupt() {
    let mut desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    desk.run("backup src").expect(0);
    let id = desk.sandbox.create_service_id("job", &[]).unwrap();
    let hmac = desk.sandbox.create_hmac(&id).unwrap();
    desk.act_as(&hmac.access_key_id, &hmac.secret_access_key);
    let actions = ["cloud-object-storage.bucket.get", "cloud-object-storage.object.head"];
    desk.sandbox.set_policies(&id, &[Policy::actions(actions).on_bucket(BUCKET)]).unwrap();
    for line in ["verify", "verify --offline"] {
        desk.run(line).expect(30).says("denied");
    }
}

/// Of two buckets with archived packs one is asked to bring them back, and none for what the other has at hand.
#[test]
fn packs_that_several_stores_have_archived_are_asked_for_once() {
    let desk = Desk::new(|_| {});
    desk.add_bucket("second", |_| {});
    let both = format!("--store s3://{BUCKET}/v --store s3://second/v");
    desk.run(&format!("{both} init --single-slot")).expect(0);
    desk.run(&format!("{both} backup src --ack all --no-cache")).expect(0);
    let packs = desk.names("packs/");
    archive(&desk, BUCKET, &packs);
    // What the other one has at hand needs no request.
    desk.assert_restores(both.as_str(), "warm");
    let ready = format!("--json {both} restore latest --target ../ready --request-archived");
    desk.run(&ready).expect(0);
    let estimate = format!("--json {both} restore latest --target ../out --estimate --no-cache");
    assert_eq!(desk.run(&estimate).expect(0).value()["archived_objects"], 0);
    archive(&desk, "second", &packs);
    desk.run(&format!("{both} restore latest --target ../out --no-cache"))
        .expect(25)
        .says("--request-archived");
    assert_ne!(desk.run(&estimate).expect(0).value()["archived_objects"], 0);
    let mut asked = 0;
    for round in 0.. {
        let ran =
            desk.run(&format!("--json {both} restore latest --target ../out --request-archived --no-cache"));
        if ran.code == 0 {
            break;
        }
        assert!(ran.code == 25 && round < 5, "{ran:?}");
        asked += ran.value()["requested"].as_u64().unwrap();
        desk.sandbox.advance(Duration::from_secs(13 * 3600)).unwrap();
    }
    assert_eq!(asked, packs.len() as u64, "each pack was asked for once");
    desk.assert_restores(&format!("{both} --no-cache"), "out2");
}

/// A way to the region on which no answer says that an object is of an archive class. The URL of it.
fn way_without_classes(desk: &Desk) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let region = desk.sandbox.endpoint().strip_prefix("http://").unwrap().to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(&region) else { return };
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || pass(from, to, |_| {}));
            std::thread::spawn(move || pass(server, client, forget_class));
        }
    });
    format!("http://{address}")
}

/// Passes bytes on until one side ends, each piece changed; the header of an answer comes in one piece.
fn pass(mut from: TcpStream, mut to: TcpStream, change: fn(&mut [u8])) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(len) = from.read(&mut buffer) {
        change(&mut buffer[..len]);
        if len == 0 || to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    // The other direction ends with it.
    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
}

fn forget_class(bytes: &mut [u8]) {
    let (told, other) = (b"x-amz-storage-class: GLACIER", b"x-amz-storage-class: UNKNOWN");
    let places: Vec<_> =
        bytes.windows(told.len()).enumerate().filter(|(_, found)| found == told).map(|(at, _)| at).collect();
    places.into_iter().for_each(|at| bytes[at..at + other.len()].copy_from_slice(other));
}

/// Nothing can be asked for then, and nothing waited for.
#[test]
fn a_store_that_calls_an_object_archived_and_readable_is_not_asked_for_ever() {
    let desk = Desk::new(|_| {});
    desk.run("init --single-slot").expect(0);
    desk.run("backup src").expect(0);
    archive_packs(&desk);
    let way = way_without_classes(&desk);
    let run = |line: &str| desk.run_at(&way, &format!("{line} --no-cache"));
    for line in [
        "restore latest --target ../out --request-archived",
        "restore latest --target ../out --request-archived --wait --poll 1",
    ] {
        let ran =
            run(line).expect(1).says("packs/").says("cannot be read: the store says that it is archived");
        assert!(!ran.out.contains("again"), "{ran:?}");
    }
    // The same of what the vault is opened with.
    let slots = desk.names("slots/");
    archive(&desk, BUCKET, &slots);
    run("restore latest --target ../out --request-archived --wait --poll 1")
        .expect(1)
        .says("slots/")
        .says("the store says of all that a vault is opened with that it can be read");
}
