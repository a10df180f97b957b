use std::cell::RefCell;

use coffer_format::cbor::Encoder;
use coffer_format::id::{ChunkId, DomainId};
use coffer_format::record::BodySeal;
use coffer_format::tree::{ChunkRef, TreeRoot};
use coffer_store::StoreError;

use super::*;

const HOUR_NS: i64 = 3_600_000_000_000;

/// One snapshot as the log has it: host, sources, tags, hour, and whether its manifest can be read.
struct Known {
    id: u8,
    host: &'static str,
    source: &'static str,
    tags: &'static [&'static str],
    hour: i64,
    readable: bool,
}

const fn known(id: u8, host: &'static str, source: &'static str, hour: i64) -> Known {
    Known { id, host, source, tags: &[], hour, readable: true }
}

fn state(position: usize, known: &Known) -> SnapshotState {
    let mut id = [known.id; 32];
    id[31] = u8::try_from(position).expect("few");
    SnapshotState {
        id: SnapshotId(id),
        number: position as u64 + 1,
        time_s: 0,
        signer: [0; 32],
        body: BodySeal { hash: [0; 32], domain: DomainId::owner(0), epoch: 0 },
        forgotten: false,
        held: false,
    }
}

fn manifest(known: &Known) -> Manifest {
    let root = TreeRoot { chunk: ChunkRef { id: ChunkId([0; 32]), len: 1 }, height: 0 };
    let mut manifest = Manifest::new("files", root);
    manifest.host = known.host.to_owned();
    manifest.sources = vec![known.source.as_bytes().to_vec()];
    manifest.tags = known.tags.iter().map(|tag| (*tag).to_owned()).collect();
    manifest.end_ns = known.hour * HOUR_NS;
    if !known.source.starts_with('/') {
        let mut encoder = Encoder::new();
        encoder.map(|map| map.key(1).bytes(b"/home/u"));
        manifest.facts = Some(encoder.finish());
    }
    manifest
}

/// What is chosen, as its position, or the error; and how many manifests were loaded.
fn run(log: &[Known], selector: &str, filter: &SnapshotFilter) -> (Result<usize, String>, usize) {
    let states: Vec<_> = log.iter().enumerate().map(|(position, known)| state(position, known)).collect();
    let loads = RefCell::new(0);
    let chosen = selector.parse().and_then(|selector: Selector| {
        choose(&states, &selector, filter, &mut |state| {
            *loads.borrow_mut() += 1;
            let known = &log[usize::try_from(state.number).expect("small") - 1];
            if !known.readable {
                return Err(EngineError::invalid("unreadable"));
            }
            Ok(Snapshot { state: *state, manifest: manifest(known), is_degraded: false })
        })
    });
    let position =
        |selection: Selection| usize::try_from(selection.snapshot.state.number).expect("small") - 1;
    (chosen.map(position).map_err(|error| error.to_string()), loads.into_inner())
}

#[track_caller]
fn check(log: &[Known], selector: &str, filter: &SnapshotFilter, expected: Result<usize, &str>) {
    let (found, _) = run(log, selector, filter);
    assert_eq!(found, expected.map_err(str::to_owned), "{selector} {filter:?}");
}

fn log() -> Vec<Known> {
    vec![
        known(0xa1, "one", "/home", 1),
        Known { tags: &["nightly", "kept"], ..known(0xa2, "two", "/srv", 2) },
        known(0xb3, "one", "/home", 3),
        Known { tags: &["nightly"], ..known(0xb4, "one", "docs", 4) },
    ]
}

#[test]
fn latest_counts_back_in_log_order() {
    let all = SnapshotFilter::default();
    for back in 0..4 {
        check(&log(), &format!("latest~{back}"), &all, Ok(3 - back));
    }
    check(&log(), "latest", &all, Ok(3));
    check(&log(), "latest~4", &all, Err("no snapshot is \"latest~4\""));
    check(&[], "latest", &all, Err("no snapshot is \"latest\""));
    assert_eq!(run(&log(), "latest", &all).1, 1, "one manifest is loaded");
    assert_eq!(run(&log(), "latest~2", &all).1, 3, "and those that are counted");
}

#[test]
fn the_beginning_of_an_id_must_name_one_snapshot() {
    let all = SnapshotFilter::default();
    check(&log(), "a1", &all, Ok(0));
    check(&log(), "A1", &all, Ok(0));
    check(&log(), "b4b4", &all, Ok(3));
    check(&log(), "a", &all, Err("\"a\" is the beginning of 2 snapshot ids"));
    check(&log(), "c", &all, Err("no snapshot is \"c\""));
    for wrong in ["", "latest~", "latest~x", "latest1", "Latest", "zz", "a1 "] {
        let forms = "it is \"latest\", \"latest~N\" or the beginning of an id";
        check(&log(), wrong, &all, Err(&format!("{wrong:?} names no snapshot: {forms}")));
    }
    let narrow = SnapshotFilter { hosts: vec!["two".to_owned()], ..all };
    check(&log(), "a2", &narrow, Ok(1));
    check(&log(), "a1", &narrow, Err("no snapshot is \"a1 of host two\""));
}

#[test]
fn filters_narrow_what_is_latest() {
    let hosts = |hosts: &[&str]| SnapshotFilter {
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        ..SnapshotFilter::default()
    };
    check(&log(), "latest", &hosts(&["two"]), Ok(1));
    check(&log(), "latest", &hosts(&["two", "one"]), Ok(3));
    check(&log(), "latest~1", &hosts(&["one"]), Ok(2));
    check(&log(), "latest", &hosts(&["three"]), Err("no snapshot is \"latest of host three\""));
    assert_eq!(run(&log(), "latest", &hosts(&["one"])).1, 1, "no more are loaded than needed");

    let tags = |tags: &[&str]| SnapshotFilter {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..SnapshotFilter::default()
    };
    check(&log(), "latest", &tags(&["nightly"]), Ok(3));
    check(&log(), "latest", &tags(&["nightly,kept"]), Ok(1));
    check(&log(), "latest", &tags(&["none", "kept"]), Ok(1));
    check(&log(), "latest", &tags(&[""]), Ok(2));
    check(&log(), "latest", &tags(&["none"]), Err("no snapshot is \"latest with tag none\""));
    let comma = [Known { tags: &["a,b"], ..known(1, "one", "/home", 1) }];
    check(&comma, "latest", &tags(&["a,b"]), Ok(0));
    check(&comma, "latest", &tags(&["a"]), Err("no snapshot is \"latest with tag a\""));

    let paths = |paths: &[&str]| SnapshotFilter {
        paths: paths.iter().map(|path| path.as_bytes().to_vec()).collect(),
        ..SnapshotFilter::default()
    };
    check(&log(), "latest", &paths(&["/home/"]), Ok(2));
    check(&log(), "latest", &paths(&["docs"]), Ok(3));
    check(&log(), "latest", &paths(&["./docs"]), Ok(3));
    check(&log(), "latest", &paths(&["/home/u//docs"]), Ok(3));
    check(&log(), "latest", &paths(&["/docs"]), Err("no snapshot is \"latest of path /docs\""));
    check(
        &log(),
        "latest",
        &paths(&["/home", "/srv"]),
        Err("no snapshot is \"latest of path /home or /srv\""),
    );
}

#[test]
fn as_of_a_time_there_must_be_one_origin() {
    let at = |hour: i64| SnapshotFilter { at_ns: Some(hour * HOUR_NS), ..SnapshotFilter::default() };
    check(&log(), "latest", &at(1), Ok(0));
    check(&log(), "latest", &at(0), Err("no snapshot is \"latest at that time\""));
    let both = "snapshots of 2 origins fit:\n  one:/home\n  two:/srv";
    check(&log(), "latest", &at(2), Err(both));
    check(&log(), "latest", &at(3), Err(both));
    let narrow = |hour| SnapshotFilter { hosts: vec!["one".to_owned()], ..at(hour) };
    check(&log(), "latest", &narrow(2), Ok(0));
    check(&log(), "latest", &narrow(3), Ok(2));
    check(&log(), "latest~1", &narrow(3), Ok(0));
    let three = "snapshots of 2 origins fit:\n  one:/home\n  one:/home/u/docs";
    check(&log(), "latest", &narrow(9), Err(three));
    let path = SnapshotFilter { paths: vec![b"docs".to_vec()], ..narrow(9) };
    check(&log(), "latest", &path, Ok(3));

    // The clock was set back: what counts is the time that `snapshots` shows.
    let back = [known(1, "one", "/home", 5), known(2, "one", "/home", 4), known(3, "one", "/home", 4)];
    check(&back, "latest", &at(5), Ok(0));
    check(&back, "latest", &at(4), Ok(2));
}

#[test]
fn a_snapshot_that_cannot_be_read_is_named_and_not_taken() {
    let mut log = log();
    log[3].readable = false;
    let all = SnapshotFilter::default();
    check(&log, "latest", &all, Ok(2));
    check(&log, "latest~1", &all, Ok(1));
    check(&log, "latest~3", &all, Err("unreadable"));
    check(&log, "b4", &all, Err("unreadable"));
    let states: Vec<_> = log.iter().enumerate().map(|(position, known)| state(position, known)).collect();
    let filter = SnapshotFilter { hosts: vec!["one".to_owned()], ..SnapshotFilter::default() };
    let selection = choose(&states, &Selector::Latest { back: 0 }, &filter, &mut |state| {
        let known = &log[usize::try_from(state.number).expect("small") - 1];
        if known.readable {
            Ok(Snapshot { state: *state, manifest: manifest(known), is_degraded: false })
        } else {
            Err(EngineError::invalid("unreadable"))
        }
    })
    .expect("the one before");
    assert_eq!(selection.snapshot.id(), states[2].id);
    assert_eq!(selection.unread.len(), 1);
    assert_eq!(selection.unread[0].0, states[3].id);
}

#[test]
fn a_store_that_fails_makes_no_other_snapshot_the_latest() {
    let states: Vec<_> = log().iter().enumerate().map(|(position, known)| state(position, known)).collect();
    let filters =
        [SnapshotFilter::default(), SnapshotFilter { hosts: vec!["one".to_owned()], ..Default::default() }];
    for filter in filters {
        let chosen = choose(&states, &Selector::Latest { back: 0 }, &filter, &mut |_| {
            Err(EngineError::Store(StoreError::NotFound {
                name: "log/4".to_owned(),
                store: "far".to_owned(),
            }))
        });
        assert!(matches!(chosen, Err(EngineError::Store(_))), "{chosen:?}");
    }
}
