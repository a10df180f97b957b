use coffer_crypto::Argon2Params;

use super::*;

const fn passphrase(memory_kib: u32, passes: u32) -> SlotKind {
    SlotKind::Passphrase { memory_kib, passes, lanes: 4, salt: [0; 16] }
}

#[test]
fn what_calibration_gives_is_cheap_and_what_takes_minutes_is_not() {
    let most = Argon2Params::CALIBRATED_MAX;
    assert!(is_cheap(&passphrase(most.memory_kib, most.passes)));
    assert!(is_cheap(&passphrase(1 << 20, 4)) && is_cheap(&passphrase(1 << 18, 16)));
    assert!(!is_cheap(&passphrase(1 << 20, 5)) && !is_cheap(&passphrase((1 << 20) + 1, 3)));
    assert!(!is_cheap(&passphrase(1 << 19, 9)) && !is_cheap(&passphrase(u32::MAX, u32::MAX)));
}

#[test]
fn of_many_slots_of_passphrases_the_newest_are_tried_and_of_key_files_all() {
    let slot = |number: u8, kind: SlotKind, epoch: u32| {
        let vault = VaultId([1; 32]);
        let slot =
            Slot::unwrapped(vault, epoch, SlotPurpose::VaultKey, kind, String::new(), i64::from(number));
        (SlotId([number; 32]), slot)
    };
    let key_file = SlotKind::KeyFile { key_id: [0; 8] };
    // One of a newer epoch, though made before the others.
    let mut slots = vec![slot(0, passphrase(65_536, 3), 1)];
    slots.extend((1..=30).map(|number| slot(number, passphrase(65_536, 3), 0)));
    slots.extend((31..=60).map(|number| slot(number, key_file.clone(), 0)));
    keep_newest_passphrases(&mut slots);
    let (phrases, files): (Vec<_>, Vec<_>) = slots.into_iter().partition(|(_, slot)| slot.kind != key_file);
    let phrases: Vec<u8> = phrases.into_iter().map(|(id, _)| id.0[0]).collect();
    let newest: Vec<u8> = std::iter::once(0).chain((16..=30).rev()).collect();
    assert_eq!(phrases, newest);
    assert_eq!(files.len(), 30);
}
