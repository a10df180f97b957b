//! Every object deleted, cut short, altered, swapped with a sibling, or replaced by an older one.

use coffer_store::MemoryStore;
use coffer_testkit::copy::store_from;
use coffer_verify::{Class, Report, Silent, verify_deep};

use crate::support::{Standard, found};

/// Last record of the standard vault: its loss shows against the given head alone.
const LAST: &str = "log/000000000005";

/// Both kinds of verification of a damaged copy.
fn reports(standard: &Standard, store: &MemoryStore) -> [Report; 2] {
    [standard.vault.verify_store(store), standard.vault.verify_store_deep(store)]
}

#[track_caller]
fn check(report: &Report, class: Class, object: &str) {
    assert!(found(report).contains(&(class, object)), "{class:?} {object}: {:#?}", report.findings);
    assert!(!report.is_intact());
}

#[test]
fn every_object_deleted_is_missing() {
    let standard = Standard::new();
    for name in standard.vault.store.names() {
        let class = if name == LAST { Class::Rollback } else { Class::Missing };
        for report in reports(&standard, &standard.vault.without(&name)) {
            check(&report, class, &name);
        }
    }
}

#[test]
fn every_object_cut_short_is_corrupt() {
    let standard = Standard::new();
    for (name, bytes) in standard.vault.objects() {
        for len in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            let store = standard.vault.changed(&name, |bytes| bytes.truncate(len));
            let report = standard.vault.verify_store(&store);
            check(&report, Class::Corrupt, &name);
        }
        let store = standard.vault.changed(&name, |bytes| bytes.truncate(bytes.len() - 1));
        check(&standard.vault.verify_store_deep(&store), Class::Corrupt, &name);
    }
}

#[test]
fn every_object_grown_is_corrupt() {
    let standard = Standard::new();
    for name in standard.vault.store.names() {
        let store = standard.vault.changed(&name, |bytes| bytes.push(0));
        for report in reports(&standard, &store) {
            check(&report, Class::Corrupt, &name);
        }
    }
}

#[test]
fn every_object_altered_anywhere_is_corrupt() {
    let standard = Standard::new();
    for (name, bytes) in standard.vault.objects() {
        let len = bytes.len();
        let places = [0, 9, 40, 100, 120, len / 3, len / 2, len.saturating_sub(70), len - 20, len - 1];
        for place in places.into_iter().filter(|place| *place < len) {
            let store = standard.vault.changed(&name, |bytes| bytes[place] ^= 0x10);
            check(&standard.vault.verify_store(&store), Class::Corrupt, &name);
        }
    }
}

#[test]
fn deep_also_finds_every_object_altered() {
    let standard = Standard::new();
    for (name, bytes) in standard.vault.objects() {
        for place in [8, bytes.len() / 2] {
            let store = standard.vault.changed(&name, |bytes| bytes[place] ^= 1);
            check(&standard.vault.verify_store_deep(&store), Class::Corrupt, &name);
        }
    }
}

#[test]
fn siblings_swapped_are_found_both() {
    let standard = Standard::new();
    let objects = standard.vault.objects();
    for folder in ["packs/", "index/"] {
        let names: Vec<_> = objects.keys().filter(|name| name.starts_with(folder)).collect();
        for pair in names.windows(2) {
            let mut swapped = objects.clone();
            swapped.insert(pair[0].clone(), objects[pair[1]].clone());
            swapped.insert(pair[1].clone(), objects[pair[0]].clone());
            for report in reports(&standard, &store_from(swapped)) {
                check(&report, Class::Corrupt, pair[0]);
                check(&report, Class::Corrupt, pair[1]);
            }
        }
    }
}

#[test]
fn records_swapped_or_replayed_are_found() {
    let standard = Standard::new();
    let objects = standard.vault.objects();
    let name = |number: usize| format!("log/{number:012}");
    for number in 1..4 {
        let mut swapped = objects.clone();
        swapped.insert(name(number), objects[&name(number + 1)].clone());
        swapped.insert(name(number + 1), objects[&name(number)].clone());
        check(&standard.vault.verify_store(&store_from(swapped)), Class::Corrupt, &name(number + 1));
    }
    for number in 1..6 {
        let mut replayed = objects.clone();
        replayed.insert(name(number), objects[&name(number - 1)].clone());
        check(&standard.vault.verify_store(&store_from(replayed)), Class::Corrupt, &name(number));
    }
}

#[test]
fn a_header_and_slots_of_another_vault_are_found() {
    let standard = Standard::new();
    let other = crate::support::Vault::new(2).objects();
    for (name, bytes) in &other {
        if name == "vault" || name.starts_with("log/") {
            let store = standard.vault.changed(name, |mine| mine.clone_from(bytes));
            check(&standard.vault.verify_store(&store), Class::Corrupt, name);
        }
    }
}

#[test]
fn several_faults_are_all_found() {
    let standard = Standard::new();
    let mut objects = standard.vault.objects();
    objects.remove(&standard.a.packs[0]);
    objects.remove(&standard.b.segment);
    objects.get_mut(&standard.c.packs[0]).unwrap()[1500] ^= 1;
    objects.get_mut("vault").unwrap()[50] ^= 1;
    objects.retain(|name, _| !name.starts_with("slots/"));
    let store = store_from(objects);
    let (key, options) = (standard.vault.key(), standard.vault.options());
    let reports = [standard.vault.verify_store(&store), verify_deep(&store, key, &options, &Silent).unwrap()];
    for report in reports {
        check(&report, Class::Missing, &standard.a.packs[0]);
        check(&report, Class::Missing, &standard.b.segment);
        check(&report, Class::Corrupt, &standard.c.packs[0]);
        check(&report, Class::Corrupt, "vault");
        assert_eq!(report.findings.len(), 5, "{:#?}", report.findings);
    }
}
