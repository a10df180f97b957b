use coffer_crypto::rng::SeededRng;
use coffer_format::id::VaultId;
use coffer_format::slot::SlotPurpose;
use proptest::prelude::*;

use super::*;
use crate::{make_slot, open_slot};

const VAULT: VaultId = VaultId([1; 32]);

fn set(threshold: u8, count: u8, seed: u64) -> RecoveryShares {
    RecoveryShares::generate(threshold, count, &SeededRng::new(seed)).unwrap()
}

fn copy(share: &Share) -> Share {
    Share::parse(share.to_line().expose()).unwrap()
}

fn some(set: &RecoveryShares, numbers: &[u8]) -> Result<RecoveryShares, KeyError> {
    RecoveryShares::collect(
        numbers.iter().map(|number| copy(&set.shares[usize::from(*number) - 1])).collect(),
    )
}

fn slot_of(set: &RecoveryShares) -> Slot {
    let key = Secret::from_slice(&[9; 32]).unwrap();
    make_slot(set, VAULT, 0, SlotPurpose::VaultKey, "", 5, &key, &SeededRng::new(3)).unwrap().2
}

fn opens(slot: &Slot, root: &RecoveryShares) -> Result<bool, KeyError> {
    open_slot(slot, VAULT, root).map(|key| key.expose() == &[9; 32])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_as_many_as_are_needed_open(
        threshold in 2u8..5, more in 0u8..4, seed: u64, order in Just((1..=8u8).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let whole = set(threshold, threshold + more, seed);
        let slot = slot_of(&whole);
        let numbers: Vec<u8> = order.into_iter().filter(|number| *number <= threshold + more).collect();
        for len in 1..=numbers.len() {
            let enough = len >= usize::from(threshold);
            match some(&whole, &numbers[..len]) {
                Ok(root) => prop_assert!(enough && opens(&slot, &root).unwrap()),
                Err(KeyError::SharesMissing { given_count, needed, .. }) => {
                    prop_assert!(!enough && given_count == len && needed == threshold);
                }
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
    }

    #[test]
    fn one_wrong_digit_is_noticed(seed: u64, at in 0usize..94, other in 1u8..16) {
        let line = set(2, 3, seed).shares[1].to_line();
        let mut text = line.expose().to_vec();
        let digits: Vec<usize> = (PREFIX.len()..text.len()).filter(|at| text[*at] != b'-').collect();
        let place = digits[at];
        let value = char::from(text[place]).to_digit(16).unwrap() ^ u32::from(other);
        text[place] = u8::try_from(char::from_digit(value, 16).unwrap()).unwrap();
        let refused = Share::parse(&text).unwrap_err().to_string();
        prop_assert_eq!(refused, "line 1 of the share has digits that do not fit each other: at least one is wrong");
    }
}

#[test]
fn a_share_may_be_typed_as_people_type() {
    let share = set(2, 3, 1).shares.remove(2);
    let line = String::from_utf8(share.to_line().expose().to_vec()).unwrap();
    assert!(line.starts_with("COFFER-SHARE-1-") && line.len() == 15 + 94 + 11, "{line}");
    let typed = format!("# kept by Ada\r\n\r\n  {}  \r\n# end", line.to_lowercase().replacen('-', " ", 0));
    let spaced = format!("{PREFIX}{}", line[PREFIX.len()..].replace('-', "  "));
    for text in [typed, spaced] {
        let found = Share::parse(text.as_bytes()).unwrap();
        assert_eq!((found.number, found.threshold, found.count), (3, 2, 3), "{text}");
        assert_eq!(found.part.expose(), share.part.expose());
    }
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let message = Share::parse(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(message, expected);
}

#[test]
fn what_is_no_share_is_refused_with_its_line() {
    let line = String::from_utf8(set(2, 3, 1).shares[0].to_line().expose().to_vec()).unwrap();
    refused("", "line 1 of the share begins a text that holds no share");
    refused("\n# a\nx", "line 3 of the share does not start with COFFER-SHARE-1- and is no comment");
    refused(
        "COFFER-SHARE-2-00",
        "line 1 of the share holds a share of a version that this program does not know",
    );
    refused(&format!("{line}\n{line}"), "line 2 of the share holds a second share");
    refused(&line[..line.len() - 1], "line 1 of the share has fewer than 94 digits behind COFFER-SHARE-1-");
    refused(&format!("{line}0"), "line 1 of the share has more than 94 digits behind COFFER-SHARE-1-");
    refused(&format!("{PREFIX}G"), "line 1 of the share has a character that is not one of 0123456789ABCDEF");
    refused(&"# \n".repeat(8000), "line 1 of the share begins a text that is too long for a share");
}

/// A share whose checksum is right and whose content is another.
fn altered(share: &Share, change: impl Fn(&mut [u8])) -> Result<Share, KeyError> {
    let line = share.to_line();
    let digits: Vec<u8> =
        line.expose()[PREFIX.len()..].iter().copied().filter(|byte| *byte != b'-').collect();
    let value = |digit: u8| u8::try_from(char::from(digit).to_digit(16).unwrap()).unwrap();
    let mut bytes: Vec<u8> = digits.chunks(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect();
    change(&mut bytes);
    let checksum = share_checksum(&bytes[..43]);
    bytes[43..].copy_from_slice(&checksum);
    Share::parse(format!("{PREFIX}{}", hex(&bytes)).as_bytes())
}

#[test]
fn a_set_that_cannot_be_is_refused() {
    let whole = set(2, 3, 1);
    for (at, value, what) in
        [(8, 1, "a set"), (8, 4, "a set"), (9, 65, "a set"), (10, 0, "a share with"), (10, 4, "a share with")]
    {
        let message = altered(&whole.shares[0], |bytes| bytes[at] = value).unwrap_err().to_string();
        assert!(message.contains(what), "{at} {value}: {message}");
    }
    for (threshold, count) in [(0, 3), (1, 3), (4, 3), (2, 65)] {
        let made = RecoveryShares::generate(threshold, count, &SeededRng::new(1));
        assert!(matches!(made, Err(KeyError::ShareCounts { .. })), "{threshold} of {count}");
    }
}

#[test]
fn a_false_share_is_left_out_and_named() {
    let whole = set(2, 4, 1);
    let slot = slot_of(&whole);
    let forged = || altered(&whole.shares[2], |bytes| bytes[20] ^= 1).unwrap();
    let with = |numbers: &[u8]| {
        let mut shares: Vec<Share> =
            numbers.iter().map(|number| copy(&whole.shares[usize::from(*number) - 1])).collect();
        shares.insert(0, forged());
        RecoveryShares::collect(shares)
    };
    assert!(opens(&slot, &with(&[1, 4]).unwrap()).unwrap());
    let refused = opens(&slot, &with(&[1]).unwrap()).unwrap_err();
    assert!(
        matches!(&refused, KeyError::SharesMissing { given_count: 1, needed: 2, false_numbers } if *false_numbers == [3]),
        "{refused:?}"
    );
    assert_eq!(refused.to_string(), "1 share is good and 2 are needed; share 3 is false");
    assert!(matches!(with(&[1, 3]), Err(KeyError::ShareTwice { number: 3 })));
}

#[test]
fn shares_of_different_sets_do_not_mix() {
    let (one, other) = (set(2, 3, 1), set(2, 3, 2));
    let mixed = RecoveryShares::collect(vec![copy(&one.shares[0]), copy(&other.shares[1])]);
    assert!(matches!(mixed, Err(KeyError::ShareSets { numbers: [1, 2] })));
    assert!(!other.may_open(&slot_of(&one)));
    assert!(matches!(opens(&slot_of(&one), &other), Err(KeyError::WrongKey { .. })));
}

#[test]
fn nothing_shows_a_share() {
    let whole = set(2, 3, 1);
    let shown = format!("{whole:?} {:?}", whole.shares[0]).to_lowercase();
    let secret = hex(whole.shares[0].part.expose());
    assert!(!shown.contains(&secret[..8]), "{shown}");
}
