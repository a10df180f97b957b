//! Every object of a vault deleted, cut short, altered, swapped and replaced: what verification says, and what still restores.

use std::collections::BTreeSet;

use coffer_format::id::SnapshotId;
use coffer_format::object::ObjectName;
use coffer_store::MemoryStore;
use coffer_verify::{Class, Report};

use super::site::{Fate, KINDS, Site, fate_of};

/// A vault of which one object at a time is another.
struct Damaged<'s> {
    site: &'s Site,
    store: MemoryStore,
    case_count: usize,
}

impl<'s> Damaged<'s> {
    fn new(site: &'s Site) -> Self {
        Self { site, store: site.store(), case_count: 0 }
    }

    /// Calls `look` while `name` holds `bytes`, or nothing.
    fn with<R>(&mut self, name: &str, bytes: Option<&[u8]>, look: impl FnOnce(&MemoryStore) -> R) -> R {
        self.with_all(&[(name, bytes)], look)
    }

    fn with_all<R>(&mut self, changes: &[(&str, Option<&[u8]>)], look: impl FnOnce(&MemoryStore) -> R) -> R {
        self.case_count += 1;
        for (name, bytes) in changes {
            match bytes {
                Some(bytes) => self.store.insert_raw(*name, *bytes),
                None => drop(self.store.remove_raw(name)),
            }
        }
        let result = look(&self.store);
        for (name, _) in changes {
            self.store.insert_raw(*name, self.site.objects[*name].clone());
        }
        result
    }

    /// Verifies while `name` holds `bytes`; the report must call it corrupt.
    #[track_caller]
    fn is_corrupt(&mut self, name: &str, bytes: &[u8], how: &str) {
        let site = self.site;
        let report = self.with(name, Some(bytes), |store| site.verify(store));
        assert_found(site, &report, name, &format!("{name} {how}"));
    }
}

#[track_caller]
fn assert_found(site: &Site, report: &Report, name: &str, context: &str) {
    assert!(has(report, &[Class::Corrupt], name), "{context}: {:#?}", report.findings);
    assert!(!report.is_intact(), "{context}");
    // Without the record that enrolled it, a signer's own records mean nothing.
    let void = if name == site.role_record { &site.put_records[..] } else { &[] };
    for void in void {
        assert!(has(report, &[Class::Surplus], void), "{context}: {:#?}", report.findings);
    }
}

fn has(report: &Report, classes: &[Class], object: &str) -> bool {
    report.findings.iter().any(|finding| finding.object == object && classes.contains(&finding.class))
}

fn affected(report: &Report) -> BTreeSet<SnapshotId> {
    report.findings.iter().flat_map(|finding| finding.snapshots.iter().copied()).collect()
}

/// Places to flip a bit at: all of a small object; else all of its head and tail, where the fields are, and some between.
fn places(name: &str, len: usize) -> Vec<usize> {
    if len <= 512 {
        return (0..len).collect();
    }
    if name.starts_with("packs/") {
        // Salt, encapsulation, commitment, frames, directory, padding and footer.
        let ends = (0..32).step_by(3).chain([32, 600, 1151, 1152, 1170, 1183, 1184, 1185, 1200]);
        let between = (1..16).map(|part| len * part / 16);
        return ends.chain(between).chain((len - 70..len).step_by(3)).chain([len - 1]).collect();
    }
    let step = len / 60 + 1;
    (0..128).chain((128..len - 80).step_by(step)).chain(len - 80..len).collect()
}

#[test]
fn every_object_cut_short_or_grown_is_corrupt() {
    let site = Site::shared();
    let mut damaged = Damaged::new(site);
    for (name, bytes) in &site.objects {
        for len in [0, 1, bytes.len() / 2, bytes.len() - 1] {
            damaged.is_corrupt(name, &bytes[..len], &format!("cut to {len} bytes"));
        }
        damaged.is_corrupt(name, &[&bytes[..], b"\0"].concat(), "grown");
    }
    assert_eq!(damaged.case_count, 5 * site.objects.len());
}

#[test]
fn every_object_with_one_bit_flipped_is_corrupt() {
    let site = Site::shared();
    let mut damaged = Damaged::new(site);
    for (name, bytes) in &site.objects {
        let mut flipped = bytes.clone();
        for (turn, place) in places(name, bytes.len()).into_iter().enumerate() {
            flipped[place] ^= 1 << (turn % 8);
            damaged.is_corrupt(name, &flipped, &format!("flipped at {place} of {}", bytes.len()));
            flipped[place] = bytes[place];
        }
    }
    assert!(damaged.case_count > 3_000, "{} cases", damaged.case_count);
}

#[test]
fn every_object_deleted_is_missing_and_its_snapshots_are_named() {
    let site = Site::shared();
    let mut damaged = Damaged::new(site);
    let (world, second) = (site.world(), site.world_with(1));
    let last = ObjectName::Record(site.head.number).to_string();
    let all: Vec<&String> = site.objects.keys().collect();
    for name in all {
        let world = if name == site.slot_of_key(0) { &second } else { &world };
        damaged.with(name, None, |store| {
            let report = site.verify(store);
            let class = if *name == last { Class::Rollback } else { Class::Missing };
            assert!(has(&report, &[class], name), "{name}: {:#?}", report.findings);
            assert!(!report.is_intact());
            let deep = site.verify_deep(store);
            assert!(!deep.is_clean(), "{name}");
            let (keyless_says, deep_says) = (affected(&report), affected(&deep));
            for taken in &site.snapshots {
                let fate = fate_of(world, store, taken, &format!("without {name}"));
                assert_ne!(fate, Fate::Closed, "without {name}");
                let needs = match () {
                    () if name.starts_with("packs/") || name.starts_with("index/") => fate != Fate::Whole,
                    // Nothing tells what a lost record said; deep shows which chunks lost their place by it.
                    () => false,
                };
                assert!(
                    !needs || keyless_says.contains(&taken.id),
                    "{name} is needed: {:#?}",
                    report.findings
                );
                assert!(!needs || deep_says.contains(&taken.id), "{name} is needed: {:#?}", deep.findings);
                let known_to_deep = deep_says.contains(&taken.id);
                let shows = matches!(fate, Fate::Degraded | Fate::Partial);
                assert!(!shows || known_to_deep, "{name}: {fate:?}, deep: {:#?}", deep.findings);
            }
        });
    }
}

#[test]
fn siblings_swapped_are_found_both() {
    let site = Site::shared();
    let mut damaged = Damaged::new(site);
    for kind in KINDS {
        let names = site.names(kind);
        for (position, one) in names.iter().enumerate() {
            for other in &names[position + 1..] {
                let (first, second) = (&site.objects[*one], &site.objects[*other]);
                let changes = [(one.as_str(), Some(&second[..])), (other.as_str(), Some(&first[..]))];
                let report = damaged.with_all(&changes, |store| site.verify(store));
                // A record that is void by itself may be anybody's: it is only surplus unless the next one tells.
                let classes: &[Class] =
                    if kind == "log/" { &[Class::Corrupt, Class::Surplus] } else { &[Class::Corrupt] };
                for name in [one, other] {
                    assert!(has(&report, classes, name), "{one} with {other}: {:#?}", report.findings);
                }
            }
        }
    }
    assert!(damaged.case_count > 90, "{} cases", damaged.case_count);
}

#[test]
fn every_object_replaced_by_one_of_its_kind_is_corrupt() {
    let site = Site::shared();
    let other = Site::new(2);
    let mut damaged = Damaged::new(site);
    // The store in which a vault is made has the same id in every vault.
    for kind in KINDS.into_iter().filter(|kind| *kind != "store") {
        let foreign = other.names(kind);
        for (name, position) in site.names(kind).into_iter().zip(0..) {
            let same_name = other.objects.get(name);
            let replacement = same_name.unwrap_or_else(|| &other.objects[foreign[position % foreign.len()]]);
            damaged.is_corrupt(name, replacement, "replaced by another vault's");
            for sibling in site.names(kind).into_iter().filter(|sibling| *sibling != name) {
                let bytes = &site.objects[sibling];
                damaged.is_corrupt(name, bytes, &format!("replaced by {sibling}"));
            }
        }
    }
    assert!(damaged.case_count > 200, "{} cases", damaged.case_count);
}

/// What snapshots may become when an object is damaged.
fn fates_allowed(site: &Site, name: &str, taken: &super::site::Taken) -> &'static [Fate] {
    let by_unknown_signer = name == site.role_record && taken.id == site.by_hand().id;
    if name == taken.record || by_unknown_signer {
        &[Fate::Gone]
    } else if name.starts_with("log/") || name.starts_with("index/") {
        // Chunks are found through the directories of packs.
        &[Fate::Whole, Fate::Degraded]
    } else if name.starts_with("packs/") {
        &[Fate::Whole, Fate::Degraded, Fate::Partial]
    } else {
        &[Fate::Whole]
    }
}

#[test]
fn what_does_not_need_the_damage_restores_byte_for_byte() {
    let site = Site::shared();
    let mut damaged = Damaged::new(site);
    let mut partial_count = 0;
    for (name, bytes) in &site.objects {
        let kind = KINDS.into_iter().find(|kind| name.starts_with(kind)).unwrap();
        let sibling = site.names(kind).into_iter().find(|sibling| *sibling != name);
        let flipped = |place: usize| {
            let mut flipped = bytes.clone();
            flipped[place] ^= 4;
            flipped
        };
        let mut cases = vec![
            ("deleted", None),
            ("cut", Some(bytes[..bytes.len() / 2].to_vec())),
            ("flipped early", Some(flipped(20))),
            ("flipped", Some(flipped(bytes.len() * 2 / 3))),
            ("flipped late", Some(flipped(bytes.len() - 1))),
        ];
        cases.extend(sibling.map(|sibling| ("swapped", Some(site.objects[sibling].clone()))));
        for (how, bytes) in cases {
            let context = format!("{name} {how}");
            damaged.with(name, bytes.as_deref(), |store| {
                for key in [0, 1] {
                    let world = site.world_with(key);
                    // Deleting a key slot locks out its own key and no other.
                    if name.starts_with("slots/") && world.open(store).is_err() {
                        assert_eq!(site.slot_of_key(key), *name, "{context}");
                        continue;
                    }
                    for taken in &site.snapshots {
                        let allowed = fates_allowed(site, name, taken);
                        let fate = fate_of(&world, store, taken, &context);
                        partial_count += usize::from(fate == Fate::Partial);
                        assert!(allowed.contains(&fate), "{context}, {}: {fate:?}", taken.record);
                        if key == 1 {
                            break;
                        }
                    }
                }
            });
        }
    }
    assert!(partial_count > 10, "packs that are damaged cost files");
}
