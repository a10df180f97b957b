//! What a vault holds is created and never overwritten or deleted, as the network sees it. Only a probe does otherwise, with
//! objects of its own.

use std::collections::HashSet;
use std::fs;
use std::sync::Mutex;

use coffer_testkit::proxy::{NetworkFault, Proxy, RequestKind};

use super::cloud::{Cloud, coffer, world};
use crate::support::{backup_options, noise, scratch};

/// Goes through all that was asked for; gives how many objects of the vault were written, in one request and in parts.
#[track_caller]
fn assert_appending(proxy: &Proxy, what: &str) -> (usize, usize) {
    let (mut whole_count, mut parts_count) = (0, 0);
    for made in proxy.exchanges() {
        let request = &made.request;
        if request.path.contains("/vault/probe/") {
            continue;
        }
        match request.kind {
            RequestKind::Put => {
                assert!(request.is_if_absent, "{what}: would overwrite: {request:?}");
                whole_count += 1;
            }
            RequestKind::CompleteParts => {
                assert!(request.is_if_absent, "{what}: would overwrite: {request:?}");
                parts_count += 1;
            }
            RequestKind::BeginParts | RequestKind::Part | RequestKind::AbortParts => {}
            _ => assert!(
                matches!(request.method.as_str(), "GET" | "HEAD"),
                "{what}: neither reads nor creates: {request:?}"
            ),
        }
    }
    (whole_count, parts_count)
}

#[test]
fn commands_that_write_overwrite_and_delete_nothing() {
    let cloud = Cloud::start();
    let proxy = cloud.proxy();
    let place = scratch();
    fs::create_dir(place.path().join("src")).unwrap();
    fs::write(place.path().join("src/a"), noise(1, 300_000)).unwrap();
    coffer(&cloud, &proxy, place.path(), "keys new-file key");
    let run = |line: &str| {
        proxy.set_fair();
        coffer(&cloud, &proxy, place.path(), line);
        let (whole_count, _) = assert_appending(&proxy, line);
        assert!(whole_count > 0, "{line}: wrote nothing");
        proxy.totals()
    };
    let probed = run("init --single-slot");
    assert!(probed[&RequestKind::Delete].request_count > 0, "what is deleted is seen: {probed:?}");
    run("backup src");
    fs::write(place.path().join("src/a"), noise(2, 300_000)).unwrap();
    fs::write(place.path().join("src/b"), noise(3, 300_000)).unwrap();
    let again = run("backup src");
    assert!(!again.contains_key(&RequestKind::Delete), "{again:?}");
    // Nothing changed: what is written all the same is new, too.
    run("backup src --force");
}

/// Where replies are lost, what was written is written again.
#[test]
fn large_packs_and_lost_replies_overwrite_and_delete_nothing() {
    let cloud = Cloud::start();
    let proxy = cloud.proxy();
    let place = scratch();
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("large"), noise(4, 26 << 20)).unwrap();
    let store = cloud.store_behind(&proxy, "vault");
    let mut options = backup_options(&source);
    options.pack_len_target = 12 << 20;
    world().init(&store).unwrap();
    world().backup_with(&store, &options).unwrap();
    let (_, parts_count) = assert_appending(&proxy, "fair");
    assert!(parts_count > 0, "no pack went in parts: {:?}", proxy.totals());
    fs::write(source.join("large"), noise(5, 26 << 20)).unwrap();
    // The reply to the first attempt at each name.
    let met = Mutex::new(HashSet::new());
    proxy.set_plan(move |request| {
        let ends = matches!(request.kind, RequestKind::Put | RequestKind::CompleteParts);
        (ends && met.lock().unwrap().insert(request.path.clone())).then_some(NetworkFault::LoseReply)
    });
    world().backup_with(&store, &options).unwrap();
    assert_appending(&proxy, "lost replies");
    assert!(proxy.fault_count() > 0, "{:?}", proxy.totals());
}
