use coffer_crypto::rng::SeededRng;
use coffer_format::id::{SlotId, VaultId};
use coffer_format::slot::SlotPurpose;

use super::*;
use crate::{make_slot, try_slots};

const VAULT: VaultId = VaultId([7; 32]);

fn new(text: &str, cost: impl Into<PassphraseCost>) -> Passphrase {
    Passphrase::new(SecretBytes::from(text.to_owned()), cost).unwrap()
}

fn slot(root: &Passphrase, epoch: u32) -> (SlotId, Slot) {
    let (rng, key) = (SeededRng::new(epoch.into()), Secret::new([1; 32]));
    let made = make_slot(root, VAULT, epoch, SlotPurpose::VaultKey, "", 0, &key, &rng);
    let (id, _, slot) = made.unwrap();
    (id, slot)
}

/// A slot that says it takes so much work.
fn costly(epoch: u32, memory_kib: u32, passes: u32) -> (SlotId, Slot) {
    let (_, mut slot) = slot(&new("a", Argon2Params::FLOOR), epoch);
    slot.kind = SlotKind::Passphrase { memory_kib, passes, lanes: 16, salt: [9; 16] };
    (SlotId([9; 32]), slot)
}

#[test]
fn a_slot_that_takes_too_long_is_given_up_and_the_next_one_opens() {
    let good = slot(&new("a", Argon2Params::FLOOR), 1);
    // The first is forty times the work of the second. A busy machine needs more time for both.
    let slots = [costly(2, 1 << 19, 16), good];
    let opened = [2, 8, 32].into_iter().find_map(|limit_s| {
        let root = new("a", Argon2Params::FLOOR).with_limit(Duration::from_secs(limit_s));
        try_slots(&slots, VAULT, &root).ok()
    });
    assert_eq!(opened.map(|(id, ..)| id), Some(slots[1].0));

    let root = new("a", Argon2Params::FLOOR).with_limit(Duration::from_millis(1));
    let told = try_slots(&[costly(1, 1 << 16, 4)], VAULT, &root).unwrap_err().to_string();
    let wanted =
        "; slot 09090909 (passphrase): argon2id with 64 MiB, 4 passes and 16 lanes was not done within 0 s";
    assert!(told.ends_with(wanted), "{told}");
}

#[test]
fn work_that_was_given_up_and_new_work_share_the_memory_of_one() {
    let (_, slot) = costly(1, Argon2Params::MEMORY_KIB_MAX, 3);
    let held = MemoryShare::take(1).unwrap();
    let error = new("a", Argon2Params::FLOOR).unwrap(&slot).unwrap_err();
    assert!(matches!(error, KeyError::PassphraseBusy { .. }), "{error}");
    assert!(error.may_pass());
    drop(held);
}

#[test]
fn a_new_slot_takes_the_cost_that_was_measured_and_opens() {
    let root = new("a", PassphraseCost::Calibrated);
    let made = slot(&root, 1).1;
    let SlotKind::Passphrase { memory_kib, passes, lanes, .. } = made.kind else { panic!("{:?}", made.kind) };
    let (least, most) = (Argon2Params::FLOOR, Argon2Params::CALIBRATED_MAX);
    assert!((least.memory_kib..=most.memory_kib).contains(&memory_kib), "{memory_kib}");
    assert!((least.passes..=most.passes).contains(&passes) && lanes == 4, "{passes} {lanes}");
    // It is measured once: whatever the machine does meanwhile, slots of one process cost the same.
    assert_eq!(PassphraseCost::Calibrated.params(), Argon2Params { memory_kib, passes, lanes });
    assert!(new("a", Argon2Params::FLOOR).unwrap(&made).is_ok());
}
