//! What every store promises, and what object storage has besides.

use std::cell::Cell;
use std::ops::ControlFlow;

use coffer_store::{
    CountingStore, Fact, ItemKind, ObjectKey, ObjectStore, PutOutcome, RetryPolicy, RetryStore, Versioning,
    probe,
};
use coffer_testkit::conformance::store_conformance;

use crate::server::Server;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).expect("a valid name")
}

#[test]
fn the_store_keeps_every_promise_below_a_prefix_and_at_the_top() {
    let server = Server::start();
    let number = Cell::new(0);
    store_conformance(|| {
        number.set(number.get() + 1);
        server.store(&format!("conformance/{}", number.get()))
    });
    let server = Server::start();
    let store = server.store("");
    assert_eq!(store.put_if_absent(&key("vault"), b"top").expect("is made"), PutOutcome::Created);
    assert_eq!(server.objects().by_key["vault"], b"top".as_slice());
}

#[test]
fn the_probe_trusts_it() {
    let server = Server::start();
    let store = RetryStore::new(server.store("probed"), RetryPolicy::default(), 7);
    let report = probe(&store, &[7; 32]);
    assert!(report.is_passed() && report.can_trust_conditional_create(), "{report:?}");
    assert!(report.leftovers.is_empty());
}

#[test]
fn what_else_lies_in_the_bucket_is_foreign_or_outside() {
    let server = Server::start();
    let store = server.store("a b/vault");
    for (name, len) in
        [("a b/vault/log/1", 1), ("a b/vault/Foreign +é%41", 2), ("a b/vault2", 3), ("other", 4)]
    {
        server.objects().by_key.insert(name.to_owned(), vec![0; len].into());
    }
    let mut seen = Vec::new();
    store
        .list("", None, &mut |item| {
            seen.push((item.name, item.len, item.kind));
            ControlFlow::Continue(())
        })
        .expect("is listed");
    seen.sort_by(|one, other| one.0.cmp(&other.0));
    let expected =
        [("Foreign +é%41".to_owned(), 2, ItemKind::Foreign), ("log/1".to_owned(), 1, ItemKind::Object)];
    assert_eq!(seen, expected);
}

#[test]
fn listings_have_many_pages() {
    let server = Server::start();
    let store = server.store("pages");
    for number in 0..2500 {
        server.objects().by_key.insert(format!("pages/log/{number:05}"), b"x".as_slice().into());
    }
    let mut names = Vec::new();
    let mut visit = |item: coffer_store::ListItem| {
        names.push(item.name);
        ControlFlow::Continue(())
    };
    store.list("log/", Some("log/00009"), &mut visit).expect("is listed");
    names.sort();
    let expected: Vec<_> = (10..2500).map(|number| format!("log/{number:05}")).collect();
    assert!(names == expected, "{} names", names.len());
}

#[test]
fn wrappers_hand_on_what_object_storage_has() {
    let server = Server::start();
    let store = RetryStore::new(CountingStore::new(server.store("x")), RetryPolicy::default(), 1);
    let store: &dyn ObjectStore = &store;
    let cloud = store.cloud().expect("it is object storage");
    let facts = cloud.bucket_facts().expect("facts");
    assert_eq!(facts.versioning, Fact::Known(Versioning::Off), "{facts:?}");
    // What the server does not know is told as such.
    assert!(matches!(&facts.object_lock, Fact::Unknown(why) if why.contains("does not offer")), "{facts:?}");
    assert!(coffer_store::MemoryStore::new().cloud().is_none());
}
