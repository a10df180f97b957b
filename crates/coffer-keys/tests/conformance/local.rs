//! Root keys that this process holds.

use std::sync::Arc;

use coffer_crypto::rng::SeededRng;
use coffer_crypto::{Argon2Params, SecretBytes};
use coffer_keys::{AnyOf, KeyFile, Passphrase, RecoveryShares, Share};
use coffer_testkit::conformance::RootKeySuite;

fn key_file(seed: u64) -> KeyFile {
    KeyFile::generate(&SeededRng::new(seed)).unwrap()
}

#[test]
fn key_file_conforms() {
    let (root, other) = (key_file(1), key_file(2));
    let text = String::from_utf8(root.to_text().expose().to_vec()).unwrap();
    let line = text.lines().last().unwrap().strip_prefix("COFFER-KEY-1-").unwrap();
    let secrets = vec![line.as_bytes()[..64].to_vec()];
    RootKeySuite {
        root: &root,
        other: &other,
        debug: format!("{root:?}"),
        secrets,
        has_many_forms: false,
        tries_max: 1000,
    }
    .run();
}

#[test]
fn passphrase_conforms() {
    let passphrase =
        |text: &str| Passphrase::new(SecretBytes::from(text.to_owned()), Argon2Params::FLOOR).unwrap();
    let (root, other) = (passphrase("correct horse"), passphrase("correct horse "));
    let secrets = vec![b"correct horse".to_vec()];
    RootKeySuite {
        root: &root,
        other: &other,
        debug: format!("{root:?}"),
        secrets,
        has_many_forms: false,
        tries_max: 12,
    }
    .run();
}

fn shares(seed: u64) -> RecoveryShares {
    RecoveryShares::generate(2, 3, &SeededRng::new(seed)).unwrap()
}

#[test]
fn recovery_shares_conform() {
    let (root, other) = (shares(1), shares(2));
    let secrets = root.shares().iter().map(|share| share.to_line().expose().to_vec()).collect();
    RootKeySuite {
        root: &root,
        other: &other,
        debug: format!("{root:?}"),
        secrets,
        has_many_forms: false,
        tries_max: 1000,
    }
    .run();
}

/// Enough shares open what all of them sealed.
#[test]
fn a_part_of_the_shares_opens() {
    use coffer_crypto::Secret;
    use coffer_format::id::VaultId;
    use coffer_format::slot::SlotPurpose;
    use coffer_keys::{make_slot, open_slot};
    let (whole, vault, key) = (shares(1), VaultId([7; 32]), Secret::new([5; 32]));
    let rng = SeededRng::new(3);
    let made = make_slot(&whole, vault, 0, SlotPurpose::VaultKey, "", 0, &key, &rng);
    let slot = made.unwrap().2;
    let copies = whole.shares()[1..].iter().map(|share| Share::parse(share.to_line().expose()).unwrap());
    let part = RecoveryShares::collect(copies.collect()).unwrap();
    let both = AnyOf::new(vec![Arc::new(key_file(4)), Arc::new(part)]);
    assert_eq!(open_slot(&slot, vault, &both).unwrap(), key);
}
