//! Many hosts that write into one vault at the same moment, far away from it.

use std::fs;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use coffer_testkit::proxy::{Link, RequestKind};

use super::cloud::{Cloud, world};
use crate::support::{assert_clean, clone_of, noise, scratch};

const WRITER_COUNT: u64 = 50;

#[test]
fn fifty_writers_commit_at_once_at_thirty_milliseconds() {
    let cloud = Cloud::start();
    world().init(&cloud.store("vault")).unwrap();
    let place = scratch();
    let proxy = cloud.proxy();
    proxy.set_link(Link { round_trip: Duration::from_millis(30), ..Link::default() });
    let barrier = Barrier::new(usize::try_from(WRITER_COUNT).unwrap());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for writer in 0..WRITER_COUNT {
            let (cloud, proxy, barrier) = (&cloud, &proxy, &barrier);
            let source = place.path().join(writer.to_string()).join("src");
            scope.spawn(move || {
                fs::create_dir_all(&source).unwrap();
                fs::write(source.join("file"), noise(writer, 2000)).unwrap();
                let store = cloud.store_behind(proxy, "vault");
                barrier.wait();
                let report = world().backup(&store, &source);
                let report = report.unwrap_or_else(|error| panic!("writer {writer}: {error}"));
                assert_eq!(report.errors, [], "writer {writer}");
            });
        }
    });
    let elapsed = begun.elapsed();
    let tried = proxy
        .exchanges()
        .iter()
        .filter(|exchange| {
            exchange.request.kind == RequestKind::Put && exchange.request.path.contains("/log/")
        })
        .count();
    println!(
        "{WRITER_COUNT} writers: {elapsed:?}, {:.0} round trips; {tried} records tried",
        elapsed.as_secs_f64() / 0.030
    );
    let left = clone_of(&cloud.store("vault"));
    assert_eq!(world().open(&left).unwrap().state().snapshots.len() as u64, WRITER_COUNT);
    assert_clean(&world(), &left, "fifty writers");
}
