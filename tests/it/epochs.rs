//! A new vault key, and slots that come and go: what opens the vault is what should open it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;

use coffer_crypto::rng::SeededRng;
use coffer_crypto::{Rng, Secret, VaultKey, hash};
use coffer_engine::{EngineError, Vault};
use coffer_format::id::SlotId;
use coffer_format::record::{Details, Record, RecordKind};
use coffer_format::slot::{KeyServiceKind, ServiceKey, Slot, SlotKind, SlotPurpose};
use coffer_keys::{
    KeyError, KeyFile, RecoveryShares, RootKey, Share, WriterCredential, make_slot, open_slot,
};
use coffer_pipeline::keyring::{Keyring, UnwrappedKey};
use coffer_pipeline::record::open_body;
use coffer_store::{MemoryStore, ObjectKey, ObjectStore};
use coffer_testkit::RecordingStore;
use proptest::prelude::*;

use super::restore::by_hand::{EMPTY_BODY, record, store_as_next};
use super::rounds::logs::add_snapshots;
use super::support::{World, assert_clean, assert_restores, clone_of, deep, keyless, scratch, tree_of};
use super::writers::grant;

/// A key service with one root key that has versions, all of which unwrap.
struct FakeService {
    name: String,
    /// The newest version; `None` if the key is lost.
    version: Mutex<Option<u8>>,
}

impl FakeService {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), version: Mutex::new(Some(0)) }
    }

    fn version(&self) -> Option<u8> {
        *self.version.lock().unwrap()
    }

    fn seal(version: u8, bytes: &[u8]) -> Vec<u8> {
        std::iter::once(version).chain(bytes.iter().map(|byte| byte ^ version ^ 0x5a)).collect()
    }

    /// The slot under the newest version.
    fn rewrap(&self, slot: &Slot) -> Slot {
        let plain: Vec<u8> = slot.wrapped[1..].iter().map(|byte| byte ^ slot.wrapped[0] ^ 0x5a).collect();
        let mut rewrapped = slot.clone();
        rewrapped.wrapped = Self::seal(self.version().unwrap(), &plain);
        rewrapped
    }
}

impl RootKey for FakeService {
    fn kind_name(&self) -> &'static str {
        "service"
    }

    fn may_open(&self, slot: &Slot) -> bool {
        matches!(&slot.kind, SlotKind::Service(key) if key.key == self.name)
    }

    fn new_kind(&self, _: &dyn Rng) -> Result<SlotKind, KeyError> {
        Ok(SlotKind::Service(ServiceKey {
            service: KeyServiceKind::KeyProtect,
            endpoint: "https://kms.example".into(),
            instance: "i".into(),
            key: self.name.clone(),
            crn: None,
            version: None,
            region: None,
            ring: None,
        }))
    }

    fn wrap(&self, mut slot: Slot, key: &Secret<32>, _: &dyn Rng) -> Result<Slot, KeyError> {
        let version = self.version().ok_or(KeyError::WrongKey { root: "service" })?;
        let bound = [key.expose().as_slice(), &hash::hash(&slot.context())].concat();
        slot.wrapped = Self::seal(version, &bound);
        Ok(slot)
    }

    fn unwrap(&self, slot: &Slot) -> Result<Secret<32>, KeyError> {
        let wrong = KeyError::WrongKey { root: "service" };
        if self.version().is_none_or(|newest| slot.wrapped[0] > newest) {
            return Err(wrong);
        }
        let plain: Vec<u8> = slot.wrapped[1..].iter().map(|byte| byte ^ slot.wrapped[0] ^ 0x5a).collect();
        if plain[32..] != hash::hash(&slot.context()) {
            return Err(wrong);
        }
        Secret::from_slice(&plain[..32]).map_err(KeyError::from)
    }
}

/// The vault key in the slot that opened a vault.
fn vault_key(world: &World, store: &dyn ObjectStore, root: &dyn RootKey) -> VaultKey {
    let vault = Vault::open(world.access(store), root, None).unwrap();
    let slot = vault.slots().unwrap().into_iter().find(|slot| slot.opened_by).unwrap().slot.unwrap();
    VaultKey::from_secret(open_slot(&slot, vault.id(), root).unwrap())
}

fn rotate(world: &World, store: &dyn ObjectStore, roots: &[&dyn RootKey], dedup: bool) -> u32 {
    let mut vault = world.open(store).unwrap();
    let plan = vault.plan_rotation(roots).unwrap();
    vault.rotate(roots, &plan, dedup, "a drill").unwrap().epoch
}

fn names(store: &MemoryStore, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    store
        .list(prefix, None, &mut |item| {
            names.push(item.name);
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    names
}

#[test]
fn a_leaked_key_opens_nothing_that_comes_after() {
    let (world, store, place) = (World::new(90), MemoryStore::new(), scratch());
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("before"), vec![1; 5000]).unwrap();
    let vault_id = world.init(&store).unwrap();
    world.backup(&store, &source).unwrap();
    let leaked = vault_key(&world, &store, &world.key);
    let old_slots = names(&store, "slots");

    assert_eq!(rotate(&world, &store, &[&world.key], false), 1);
    fs::write(source.join("after"), vec![2; 5000]).unwrap();
    world.backup(&store, &source).unwrap();

    // Whoever has the old key, and all that is in the store, reads the first snapshot and not the second.
    let vault = world.open(&store).unwrap();
    let (epochs, snapshots) = (&vault.state().epochs, &vault.state().snapshots);
    let copy = || VaultKey::from_secret(Secret::new(*leaked.expose()));
    let thief = Keyring::open(vault_id, epochs, 0, UnwrappedKey::VaultKey(copy())).unwrap();
    assert!(thief.signing().is_none() && thief.sealing(1).is_none());
    let domain = thief.domain_keys(&snapshots[0].body.domain).unwrap();
    for (snapshot, expected) in snapshots.iter().zip([true, false]) {
        let mut bytes = Vec::new();
        let name = ObjectKey::new(format!("log/{:012}", snapshot.number)).unwrap();
        store.read(&name, 1 << 20, &mut bytes).unwrap();
        let record = Record::decode(&bytes).unwrap();
        let opened = open_body(&record, thief.sealing(0).unwrap(), &domain);
        assert_eq!(opened.is_ok(), expected, "snapshot {}", snapshot.number);
    }
    assert!(Keyring::open(vault_id, epochs, 1, UnwrappedKey::VaultKey(copy())).is_err());
    // The old slots are still there; none of them is current.
    assert!(old_slots.iter().all(|name| names(&store, "slots").contains(name)));
    assert!(vault.state().slots.iter().all(|slot| !old_slots.contains(&format!("slots/{slot}"))));
    drop(vault);
    assert_restores(&world, &store, "latest", &tree_of(&source), "after the rotation");
    assert_clean(&world, &store, "after the rotation");
}

#[test]
fn a_new_key_keeps_deduplication_unless_it_is_given_up() {
    for dedup in [false, true] {
        let (world, store, place) = (World::new(91), MemoryStore::new(), scratch());
        let source = place.path().join("src");
        fs::create_dir(&source).unwrap();
        for name in 0..20u8 {
            fs::write(source.join(name.to_string()), vec![name; 3000]).unwrap();
        }
        world.init(&store).unwrap();
        world.backup(&store, &source).unwrap();
        let before = names(&store, "packs");
        rotate(&world, &store, &[&world.key], dedup);
        assert_eq!(names(&store, "packs"), before, "rotation writes no data");
        world.backup(&store, &source).unwrap();
        assert_eq!(names(&store, "packs") == before, !dedup);
        assert_eq!(rotate(&world, &store, &[&world.key], false), 2);
        world.backup(&store, &source).unwrap();
        for selector in ["latest", "latest~1", "latest~2"] {
            assert_restores(&world, &store, selector, &tree_of(&source), selector);
        }
        assert_clean(&world, &store, "after two rotations");
    }
}

#[test]
fn a_vault_as_it_was_before_a_slot_was_revoked_is_refused() {
    let place = scratch();
    let world = World::with_cache(92, &place.path().join("cache"));
    let store = MemoryStore::new();
    world.init(&store).unwrap();
    let second = KeyFile::generate(&world.rng).unwrap();
    let (slot, _) = world.open(&store).unwrap().add_slot(&second, "second").unwrap();
    let old = clone_of(&store);
    world.open(&store).unwrap().revoke_slot(slot).unwrap();
    assert!(matches!(Vault::open(world.access(&store), &second, None), Err(EngineError::Key(_))));
    let opened = Vault::open(world.access(&old), &second, None);
    assert!(matches!(opened, Err(EngineError::Rollback { .. })), "{opened:?}");
    let opened = world.open(&old);
    assert!(matches!(opened, Err(EngineError::Rollback { .. })), "{opened:?}");
}

#[test]
fn a_revoked_slot_opens_nothing_whatever_lies_in_the_log() {
    let (world, store) = (World::new(98), MemoryStore::new());
    let vault_id = world.init(&store).unwrap();
    let writer = grant(&world, &store, "hostile", None);
    let rng = SeededRng::new(2);
    let [revoked, never] = [(), ()].map(|()| KeyFile::generate(&rng).unwrap());
    let (slot, _) = world.open(&store).unwrap().add_slot(&revoked, "revoked").unwrap();
    world.open(&store).unwrap().revoke_slot(slot).unwrap();
    // A slot that was stored, and never named by a record.
    let key = vault_key(&world, &store, &world.key);
    let key = Secret::new(*key.expose());
    let (id, bytes, _) =
        make_slot(&never, vault_id, 0, SlotPurpose::VaultKey, "", 0, &key, &world.rng).unwrap();
    store.put_if_absent(&ObjectKey::new(format!("slots/{id}")).unwrap(), &bytes).unwrap();
    let open = |root: &KeyFile| Vault::open(world.access(&store), root, None).map(|vault| vault.log.warnings);
    let is_refused = |opened: Result<_, EngineError>| matches!(opened, Err(EngineError::Key(_)));

    let vault = world.open(&store).unwrap();
    store_as_next(&store, vault.state(), b"junk");
    drop(vault);
    assert!(is_refused(open(&revoked)) && is_refused(open(&never)), "a void record is no damage");
    assert_eq!(open(&world.key).unwrap(), Vec::<String>::new());

    // Where the log is damaged, as anybody enrolled says, its list may lack a slot. It does not lack one that was revoked.
    lie(&world, &store, &writer);
    assert!(!world.open(&store).unwrap().state().damaged.is_empty());
    assert!(is_refused(open(&revoked)), "damage brings back nothing that was revoked");
    let warnings = open(&never).unwrap();
    assert!(warnings.iter().any(|warning| warning.contains(&id.to_string())), "{warnings:?}");
    assert_eq!(open(&world.key).unwrap(), Vec::<String>::new());
    world.open(&store).unwrap().revoke_writer("hostile").unwrap();
    assert!(is_refused(open(&revoked)) && is_refused(open(&never)), "the damage was made up");
}

/// Junk as the next record, and a writer's record behind it that says that it was something else.
fn lie(world: &World, store: &MemoryStore, writer: &WriterCredential) {
    let vault = world.open(store).unwrap();
    store_as_next(store, vault.state(), b"junk that a writer put there");
    drop(vault);
    let vault = world.open(store).unwrap();
    let (body, (signing, _)) = (Some((EMPTY_BODY, writer.domain())), writer.keys());
    let bytes = record(&vault, vault.state(), RecordKind::Evidence, &signing, body, |public| {
        public.details = Details::Evidence { hash: [1; 32] }.encode();
        public.previous = [9; 32];
    });
    store_as_next(store, vault.state(), bytes);
}

#[test]
fn rewrapping_writes_slots_and_a_record_and_nothing_else() {
    let (world, store, place) = (World::new(93), MemoryStore::new(), scratch());
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), vec![1; 5000]).unwrap();
    world.init(&store).unwrap();
    let service = FakeService::new("root");
    let (old, _) = world.open(&store).unwrap().add_slot(&service, "service").unwrap();
    world.backup(&store, &source).unwrap();
    let count = |prefix| names(&store, prefix).len();
    let before = ["packs", "index", "slots", "log"].map(count);
    *service.version.lock().unwrap() = Some(1);
    let mut vault = world.open(&store).unwrap();
    let slot = vault.slots().unwrap().into_iter().find(|slot| slot.id == old).unwrap().slot.unwrap();
    let (new, _) = vault.replace_slots(&[(old, service.rewrap(&slot))], &service).unwrap();
    assert_eq!(
        ["packs", "index", "slots", "log"].map(count),
        [before[0], before[1], before[2] + 1, before[3] + 1]
    );
    assert!(vault.state().slots.contains(&new[0]) && !vault.state().slots.contains(&old));
    let mut wrong = slot;
    wrong.wrapped = FakeService::seal(1, &[0; 64]);
    assert!(vault.replace_slots(&[(new[0], wrong)], &service).is_err());
    assert_eq!(Vault::open(world.access(&store), &service, None).unwrap().opened_by, new[0]);
}

/// Whoever has the key of an epoch that is over could sign a checkpoint with it. Where the store has a slot of a newer epoch, the records tell.
#[test]
fn no_checkpoint_is_believed_where_a_newer_epoch_may_have_begun() {
    let (world, store, place) = (World::new(97), MemoryStore::new(), scratch());
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    let vault_id = world.init(&store).unwrap();
    add_snapshots(&world, &store, &source, 80, 40);
    let reads = || {
        let counted = RecordingStore::new(&store);
        world.open(&counted).unwrap();
        counted.snapshot().read_count
    };
    assert!(reads() < 70, "it begins at the checkpoint");
    let (key, purpose) = (Secret::new([7; 32]), SlotPurpose::VaultKey);
    let someone = KeyFile::generate(&world.rng).unwrap();
    let (id, bytes, _) = make_slot(&someone, vault_id, 1, purpose, "", 0, &key, &world.rng).unwrap();
    store.put_if_absent(&ObjectKey::new(format!("slots/{id}")).unwrap(), &bytes).unwrap();
    assert!(reads() > 80, "every record is read");
}

#[test]
fn as_many_shares_as_are_needed_make_their_slot_anew() {
    let (world, store) = (World::new(95), MemoryStore::new());
    world.init(&store).unwrap();
    let set = RecoveryShares::generate(2, 4, &world.rng).unwrap();
    world.open(&store).unwrap().add_slot(&set, "board").unwrap();
    let some = |numbers: &[usize]| {
        let lines = numbers.iter().map(|at| Share::parse(set.shares()[*at].to_line().expose()).unwrap());
        RecoveryShares::collect(lines.collect()).unwrap()
    };
    let met = some(&[0, 3]);
    assert_eq!(rotate(&world, &store, &[&world.key, &met], false), 1);
    // The others open it as well.
    Vault::open(world.access(&store), &some(&[1, 2]), None).unwrap();
    assert_eq!(world.open(&store).unwrap().state().slots.len(), 2);
}

#[test]
fn a_slot_that_only_reads_stays_one_when_it_is_replaced() {
    let (world, store) = (World::new(96), MemoryStore::new());
    world.init(&store).unwrap();
    let (old, new) = (FakeService::new("a"), FakeService::new("b"));
    let mut vault = world.open(&store).unwrap();
    let (slot, _) = vault.add_slot_for(&old, "auditor", SlotPurpose::ReaderSecret).unwrap();
    vault.replace_slot(slot, &new, "auditor").unwrap();
    assert!(Vault::open(world.access(&store), &old, None).is_err());
    let vault = Vault::open(world.access(&store), &new, None).unwrap();
    assert!(vault.signing_key().is_err());
}

#[derive(Debug, Clone)]
enum Step {
    Add(usize),
    AddReader(usize),
    Revoke(usize),
    /// A rotation with these root keys at hand.
    Rotate(u8, bool),
    /// The service's root key gets a new version, and the slots are moved to it.
    Rewrap(usize),
    /// A root key is gone for good.
    Lose(usize),
    Backup,
    /// Somebody puts bytes where the next record will be.
    Junk,
    /// As [`Self::Junk`], and a writer signs that they were other bytes.
    Lie,
}

const ROOT_COUNT: usize = 4;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let root = 0..ROOT_COUNT;
    let step = prop_oneof![
        3 => root.clone().prop_map(Step::Add),
        1 => root.clone().prop_map(Step::AddReader),
        2 => root.clone().prop_map(Step::Revoke),
        3 => (any::<u8>(), any::<bool>()).prop_map(|(at_hand, dedup)| Step::Rotate(at_hand, dedup)),
        2 => (2..ROOT_COUNT).prop_map(Step::Rewrap),
        1 => (1..ROOT_COUNT).prop_map(Step::Lose),
        1 => Just(Step::Backup),
        1 => Just(Step::Junk),
        1 => Just(Step::Lie),
    ];
    proptest::collection::vec(step, 1..14)
}

/// The root keys of a test: two key files and two services. The world's own key is besides these, and always a slot.
struct Roots {
    files: [KeyFile; 2],
    services: [FakeService; 2],
    is_lost: [bool; ROOT_COUNT],
}

impl Roots {
    fn get(&self, at: usize) -> &dyn RootKey {
        match at {
            0 | 1 => &self.files[at],
            _ => &self.services[at - 2],
        }
    }
}

/// What should hold: the slots there are, each with its root key and purpose.
type Expected = BTreeMap<SlotId, (usize, SlotPurpose)>;

fn run_steps(steps: &[Step]) {
    let (world, store, place) = (World::new(94), MemoryStore::new(), scratch());
    let source = place.path().join("src");
    fs::create_dir(&source).unwrap();
    world.init(&store).unwrap();
    let rng = SeededRng::new(1);
    let mut roots = Roots {
        files: [KeyFile::generate(&rng).unwrap(), KeyFile::generate(&rng).unwrap()],
        services: [FakeService::new("a"), FakeService::new("b")],
        is_lost: [false; ROOT_COUNT],
    };
    let writer = grant(&world, &store, "hostile", None);
    let mut expected = Expected::new();
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Lie => lie(&world, &store, &writer),
            _ => apply(&world, &store, &mut roots, &mut expected, step, (number, &source)),
        }
        for at in 0..ROOT_COUNT {
            let should = !roots.is_lost[at] && expected.values().any(|(root, _)| *root == at);
            let opened = Vault::open(world.access(&store), roots.get(at), None);
            assert_eq!(opened.is_ok(), should, "root key {at} after {:?}", &steps[..=number]);
            if let Ok(vault) = opened {
                let purpose = expected[&vault.opened_by].1;
                assert_eq!(vault.signing_key().is_ok(), purpose == SlotPurpose::VaultKey);
            }
        }
        world.open(&store).unwrap();
    }
    world.open(&store).unwrap().revoke_writer("hostile").unwrap();
    let is_junk = steps.iter().any(|step| matches!(step, Step::Junk | Step::Lie));
    for report in [keyless(&store), deep(&world, &store)] {
        assert!(report.is_intact() && report.is_clean() != is_junk, "{:?}", report.findings);
    }
}

fn apply(
    world: &World,
    store: &MemoryStore,
    roots: &mut Roots,
    expected: &mut Expected,
    step: &Step,
    (number, source): (usize, &std::path::Path),
) {
    match step {
        Step::Add(at) | Step::AddReader(at) => {
            let reads = matches!(step, Step::AddReader(_));
            let purpose = if reads { SlotPurpose::ReaderSecret } else { SlotPurpose::VaultKey };
            let other = |(root, found): &(usize, SlotPurpose)| root == at && *found != purpose;
            if !roots.is_lost[*at] && !expected.values().any(other) {
                let mut vault = world.open(store).unwrap();
                let (id, _) = vault.add_slot_for(roots.get(*at), "", purpose).unwrap();
                expected.insert(id, (*at, purpose));
            }
        }
        Step::Revoke(at) => {
            let found = expected.iter().find(|(_, (root, _))| root == at).map(|(id, _)| *id);
            if let Some(id) = found {
                world.open(store).unwrap().revoke_slot(id).unwrap();
                expected.remove(&id);
            }
        }
        Step::Rotate(at_hand, dedup) => {
            let at_hand: Vec<usize> =
                (0..ROOT_COUNT).filter(|at| at_hand & 1 << at != 0 && !roots.is_lost[*at]).collect();
            let mut given: Vec<&dyn RootKey> = vec![&world.key];
            given.extend(at_hand.iter().map(|at| roots.get(*at)));
            let mut vault = world.open(store).unwrap();
            let plan = vault.plan_rotation(&given).unwrap();
            let before: Vec<_> = expected.values().filter(|(at, _)| at_hand.contains(at)).copied().collect();
            assert_eq!(plan.kept.len(), before.len() + 1);
            vault.rotate(&given, &plan, *dedup, "").unwrap();
            let slots = vault.slots().unwrap();
            let root_of = |slot: &Slot| (0..ROOT_COUNT).find(|at| roots.get(*at).may_open(slot));
            *expected = slots
                .iter()
                .filter_map(|status| {
                    let slot = status.slot.as_ref().unwrap();
                    Some((status.id, (root_of(slot)?, slot.purpose)))
                })
                .collect();
            let mut after: Vec<_> = expected.values().map(|(at, purpose)| (*at, *purpose as u8)).collect();
            let mut wanted: Vec<_> = before.iter().map(|(at, purpose)| (*at, *purpose as u8)).collect();
            after.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(after, wanted);
        }
        Step::Rewrap(at) => {
            let service = &roots.services[at - 2];
            let Some(version) = service.version() else { return };
            *service.version.lock().unwrap() = Some(version + 1);
            let mut vault = world.open(store).unwrap();
            let mut swaps = Vec::new();
            for status in vault.slots().unwrap() {
                let slot = status.slot.unwrap();
                if service.may_open(&slot) {
                    swaps.push((status.id, service.rewrap(&slot)));
                }
            }
            if swaps.is_empty() {
                return;
            }
            let (new, _) = vault.replace_slots(&swaps, service).unwrap();
            for ((old, _), new) in swaps.iter().zip(new) {
                let kept = expected.remove(old).unwrap();
                expected.insert(new, kept);
            }
        }
        Step::Lose(at) => {
            roots.is_lost[*at] = true;
            match at {
                0 | 1 => roots.files[*at] = KeyFile::generate(&SeededRng::new(1000 + number as u64)).unwrap(),
                _ => *roots.services[at - 2].version.lock().unwrap() = None,
            }
        }
        Step::Junk | Step::Lie => {
            let vault = world.open(store).unwrap();
            store_as_next(store, vault.state(), b"junk");
        }
        Step::Backup => {
            fs::write(source.join(number.to_string()), vec![1; 2000]).unwrap();
            world.backup(store, source).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_vault_opens_to_the_slots_that_should_open_it(steps in steps()) {
        run_steps(&steps);
    }
}
