//! Packs in an archive class are asked for, exactly those that are needed, and waited for or come back to.

use std::time::Duration;

use coffer_store::ObjectStore;

use super::desk::{BUCKET, Desk};

/// Puts the packs into an archive class, as a lifecycle rule does.
pub(super) fn archive_packs(desk: &Desk) -> usize {
    let bucket = desk.bucket();
    let packs = desk.names("packs/");
    for pack in &packs {
        let mut bytes = Vec::new();
        bucket.read(pack, 1 << 30, &mut bytes).unwrap();
        bucket.delete(pack).unwrap();
        let path = format!("/{BUCKET}/v/{pack}");
        desk.raw("PUT", &path, &[("x-amz-storage-class", "GLACIER")], &bytes);
    }
    packs.len()
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
