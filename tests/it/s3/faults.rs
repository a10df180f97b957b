//! Every kind of fault at every request of a backup and of an init, and the sweep by which other tests do the same.
//!
//! Either the command fails without acknowledging anything, or what it acknowledged restores and verifies for a client that has never
//! seen the vault. What was acknowledged before stays. A second attempt succeeds.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use coffer_engine::EngineError;
use coffer_store::{ObjectStore, RetryStore, S3Store};
use coffer_testkit::copy::{Objects, snapshot_of};
use coffer_testkit::proxy::{NetworkFault, Proxy};
use tempfile::TempDir;

use super::cloud::{Cloud, STALL_TIMEOUT, world};
use crate::support::{
    Tree, assert_clean, assert_restores, backup_options, clone_of, keyless, noise, scratch, tree_of,
};

/// Cases that run at once. Most of their time they wait.
const WORKER_COUNT: usize = 8;

const STALL: Duration = Duration::from_secs(3);
const _: () = assert!(STALL.as_millis() > STALL_TIMEOUT.as_millis());

/// How long one case may take before it counts as hanging.
const HANG: Duration = Duration::from_secs(300);

/// How many requests in a row meet the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    Once,
    /// Fewer than a call is tried.
    Burst,
    /// All from there on.
    Forever,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    /// Which of several clouds it happens to.
    pub(super) at: usize,
    index: u64,
    fault: NetworkFault,
    span: Span,
}

impl Case {
    /// Whether the command has to get over it: the store was not gone for good, refused nobody and hid nothing.
    pub(super) fn must_succeed(&self) -> bool {
        let is_final = matches!(self.fault, NetworkFault::ExpiredToken { .. } | NetworkFault::StaleList);
        self.span != Span::Forever && !is_final
    }

    /// A client that waits no longer than it must for this fault.
    pub(super) fn client(
        case: Option<&Self>,
        cloud: &Cloud,
        proxy: &Proxy,
        prefix: &str,
    ) -> RetryStore<S3Store> {
        match case.map(|case| case.fault) {
            Some(NetworkFault::StallRequest(_) | NetworkFault::StallAnswer(_)) => {
                cloud.impatient_store_behind(proxy, prefix)
            }
            _ => cloud.store_behind(proxy, prefix),
        }
    }

    fn arm(&self, proxy: &Proxy) {
        let Self { index, fault, span, .. } = *self;
        proxy.set_plan(move |request| {
            let past = request.index.checked_sub(index)?;
            let is_met = match span {
                Span::Once => past == 0,
                Span::Burst => past < 3,
                Span::Forever => true,
            };
            is_met.then_some(fault)
        });
    }
}

/// A fault, and how often it is met.
pub(super) type Mishap = (NetworkFault, Span);

/// One of each kind that loses, breaks or refuses something, for sweeps over more than one store or mode.
pub(super) const MISHAPS: [Mishap; 5] = [
    (NetworkFault::SlowDown { retry_after_s: None }, Span::Forever),
    (NetworkFault::ResetRequest, Span::Once),
    (NetworkFault::TruncateAnswer, Span::Forever),
    (NetworkFault::LoseReply, Span::Once),
    (NetworkFault::LoseReply, Span::Forever),
];

/// So many of them happen at each request.
pub(super) const MISHAPS_AT_ONE: usize = 3;

/// What happens at each request, one after the other.
const FAULTS: [Mishap; 16] = [
    (NetworkFault::SlowDown { retry_after_s: None }, Span::Burst),
    (NetworkFault::SlowDown { retry_after_s: Some(30) }, Span::Burst),
    (NetworkFault::SlowDown { retry_after_s: None }, Span::Forever),
    (NetworkFault::ResetRequest, Span::Once),
    (NetworkFault::ResetRequest, Span::Forever),
    (NetworkFault::ResetAnswer, Span::Once),
    (NetworkFault::TruncateAnswer, Span::Once),
    (NetworkFault::TruncateAnswer, Span::Forever),
    (NetworkFault::LoseReply, Span::Once),
    (NetworkFault::LoseReply, Span::Forever),
    (NetworkFault::StaleList, Span::Once),
    (NetworkFault::StaleList, Span::Forever),
    (NetworkFault::ExpiredToken { status: 401 }, Span::Once),
    (NetworkFault::ExpiredToken { status: 403 }, Span::Once),
    (NetworkFault::StallRequest(STALL), Span::Once),
    (NetworkFault::StallAnswer(STALL), Span::Once),
];

/// A source, and the vault as it is before each case.
struct Site {
    _place: TempDir,
    source: PathBuf,
    /// The vault with one snapshot.
    objects: Objects,
    /// What that snapshot holds.
    old: Tree,
    /// What the source holds.
    new: Tree,
}

impl Site {
    fn new(cloud: &Cloud) -> Self {
        let place = scratch();
        let source = place.path().join("src");
        fs::create_dir_all(source.join("dir")).unwrap();
        for file in 0..4_u64 {
            fs::write(source.join("dir").join(format!("file-{file}")), noise(file, 3000)).unwrap();
        }
        let store = cloud.store("site");
        world().init(&store).unwrap();
        let old = tree_of(&source);
        world().backup(&store, &source).unwrap();
        let objects = snapshot_of(&store);
        fs::write(source.join("dir").join("file-2"), noise(50, 4000)).unwrap();
        fs::write(source.join("large"), noise(51, 150_000)).unwrap();
        let new = tree_of(&source);
        Self { _place: place, source, objects, old, new }
    }
}

/// Runs all cases on several threads, each with proxies of its own, one before each cloud. `run` gets a prefix that nothing else uses; it
/// tells whether the command succeeded and checks what it left.
pub(super) fn sweep(
    clouds: &[Cloud],
    (mishaps, count_at_one): (&[Mishap], usize),
    name: &str,
    run: impl Fn(&[Proxy], &str, Option<&Case>, &str) -> bool + Sync,
) {
    let fair: Vec<_> = clouds.iter().map(Cloud::proxy).collect();
    assert!(run(&fair, &format!("{name}/fair"), None, name), "{name} without faults");
    let mut cases = Vec::new();
    for (at, proxy) in fair.iter().enumerate() {
        let request_count = proxy.request_count();
        assert!(request_count > 3, "{name}: {request_count} requests of cloud {at}");
        for index in 0..request_count {
            // Each request meets some, and its neighbours the others.
            let first = usize::try_from(index).unwrap() % mishaps.len();
            let chosen = mishaps.iter().cycle().skip(first).take(count_at_one);
            cases.extend(chosen.map(|(fault, span)| Case { at, index, fault: *fault, span: *span }));
        }
    }
    let request_count = cases.len() / count_at_one;
    let (next, met_count, done_count) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..WORKER_COUNT {
            scope.spawn(|| {
                let proxies: Vec<_> = clouds.iter().map(Cloud::proxy).collect();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(number) else { break };
                    let context = format!("{name}, {case:?}");
                    let begun = Instant::now();
                    proxies.iter().for_each(Proxy::set_fair);
                    case.arm(&proxies[case.at]);
                    let is_done = run(&proxies, &format!("{name}/{number}"), Some(case), &context);
                    assert!(begun.elapsed() < HANG, "{context} took {:?}", begun.elapsed());
                    let is_met = proxies[case.at].fault_count() > 0;
                    assert!(is_done || is_met, "{context}: it failed without a fault");
                    assert!(is_done || !case.must_succeed(), "{context}: it gave up");
                    met_count.fetch_add(usize::from(is_met), Ordering::Relaxed);
                    done_count.fetch_add(usize::from(is_done), Ordering::Relaxed);
                }
            });
        }
    });
    let (met_count, done_count) = (met_count.into_inner(), done_count.into_inner());
    println!(
        "{name}: {request_count} requests, {} cases, {met_count} met their fault, {done_count} succeeded, {:?}",
        cases.len(),
        begun.elapsed()
    );
    // Stale listings happen to listings alone, and workers may make a request less now and then.
    assert!(met_count * 10 >= cases.len() * 7, "{name}: {met_count} of {} met the fault", cases.len());
    assert!(done_count < cases.len(), "{name}: nothing ever failed");
}

#[test]
fn a_backup_meets_every_fault_at_every_request() {
    let clouds = [Cloud::start()];
    let cloud = &clouds[0];
    let site = Site::new(cloud);
    sweep(&clouds, (&FAULTS, FAULTS.len()), "backup", |proxies, prefix, case, context| {
        cloud.fill(prefix, &site.objects);
        let outcome = world().backup(&Case::client(case, cloud, &proxies[0], prefix), &site.source);
        // From here on nothing goes wrong, and nobody has a memory of the vault.
        let store = cloud.store(prefix);
        let left = clone_of(&store);
        let report = keyless(&left);
        assert!(report.is_clean(), "{context}: {:?}", report.findings);
        let snapshots = world().open(&left).unwrap().state().snapshots.clone();
        assert_restores(&world(), &left, &snapshots[0].id.to_string(), &site.old, context);
        let is_done = outcome.is_ok();
        match outcome {
            Ok(report) => {
                assert_eq!(report.errors, [], "{context}");
                assert_eq!(snapshots.len(), 2, "{context}");
                assert_restores(&world(), &store, &report.snapshot.to_string(), &site.new, context);
            }
            // It may have been committed after all, with nobody told.
            Err(_) => assert!(snapshots.len() <= 2, "{context}"),
        }
        let second = world().backup(&store, &site.source).unwrap();
        assert_eq!(second.errors, [], "{context}");
        let left = clone_of(&store);
        assert_restores(&world(), &left, "latest", &site.new, context);
        assert_clean(&world(), &left, context);
        is_done
    });
}

#[test]
fn an_init_meets_every_fault_at_every_request() {
    let clouds = [Cloud::start()];
    let cloud = &clouds[0];
    let site = Site::new(cloud);
    sweep(&clouds, (&FAULTS, FAULTS.len()), "init", |proxies, prefix, case, context| {
        let outcome = world().init(&Case::client(case, cloud, &proxies[0], prefix));
        let store = cloud.store(prefix);
        let is_whole = world().open(&store).is_ok();
        let is_done = outcome.is_ok();
        assert!(is_whole || !is_done, "{context}: acknowledged and not there");
        match world().init(&store) {
            Ok(_) => assert!(!is_whole, "{context}"),
            Err(EngineError::VaultExists { .. }) => assert!(is_whole, "{context}"),
            Err(error) => panic!("{context}: {error}"),
        }
        world().backup(&store, &site.source).unwrap();
        let left = clone_of(&store);
        let report = keyless(&left);
        assert!(report.is_intact(), "{context}: {:?}", report.findings);
        assert_restores(&world(), &left, "latest", &site.new, context);
        is_done
    });
}

/// The answers of a store that is gone for a while come late, and what it was asked takes place late: nothing of it counts twice.
#[test]
fn a_commit_that_takes_place_late_makes_one_snapshot() {
    let cloud = Cloud::start();
    let site = Site::new(&cloud);
    cloud.fill("late", &site.objects);
    let proxy = cloud.proxy();
    proxy.set_plan(|request| {
        let is_commit = request.method == "PUT" && request.path.contains("/log/");
        is_commit.then_some(NetworkFault::StallRequest(STALL))
    });
    let outcome = world().backup(&cloud.impatient_store_behind(&proxy, "late"), &site.source);
    assert!(outcome.is_err(), "no answer to a commit ever came in time");
    assert!(proxy.fault_count() > 1);
    // Until the last of them has taken place.
    drop(proxy.exchanges());
    let store = cloud.store("late");
    let count = world().open(&store).unwrap().state().snapshots.len();
    assert!(count <= 2, "{count} snapshots");
    world().backup_with(&store, &backup_options(&site.source)).unwrap();
    assert_restores(&world(), &store as &dyn ObjectStore, "latest", &site.new, "after late commits");
    assert_clean(&world(), &store, "after late commits");
}
