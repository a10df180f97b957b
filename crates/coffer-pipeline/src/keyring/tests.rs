use coffer_crypto::CryptoError;
use coffer_format::record::EpochDetails;

use super::*;

const VAULT: VaultId = VaultId([0x55; 32]);

fn vault_key(number: u8) -> VaultKey {
    VaultKey::from_secret(Secret::new([number; 32]))
}

/// Section 9.10: a secret of 32 bytes under that of the new epoch.
fn seal(vault: VaultId, kek: &Secret<32>, purpose: Purpose, epoch: u32, secret: &[u8; 32]) -> [u8; 48] {
    let mut bytes = secret.to_vec();
    SealKey::new(kek, SealContext::new(vault.0, ObjectKind::EpochRecord, [0; 32]))
        .seal_in_place(purpose, epoch, &mut bytes, 0)
        .unwrap();
    bytes.try_into().unwrap()
}

/// Epochs with the vault keys 1, 2, 3 …
fn epochs(count: u8) -> Vec<Epoch> {
    (0..count)
        .map(|number| {
            let (key, epoch) = (vault_key(number + 1), u32::from(number));
            let (sealing_key, owner_key) = (
                Box::new(key.reader().sealing().public().to_bytes()),
                *key.signing().verifying_key().as_bytes(),
            );
            let details = (number > 0).then(|| {
                let old = vault_key(number);
                EpochDetails {
                    number: epoch,
                    sealing_key: sealing_key.clone(),
                    owner_key,
                    previous_vault_key: seal(
                        VAULT,
                        &key.previous_vault_key_kek(),
                        Purpose::PreviousVaultKey,
                        epoch,
                        old.expose(),
                    ),
                    previous_reader_secret: seal(
                        VAULT,
                        &key.reader().previous_reader_secret_kek(),
                        Purpose::PreviousReaderSecret,
                        epoch,
                        old.reader().expose(),
                    ),
                    new_domains: false,
                }
            });
            Epoch { sealing_key, owner_key, details }
        })
        .collect()
}

fn open(epochs: &[Epoch], epoch: u32, key: UnwrappedKey) -> Result<Keyring, PipelineError> {
    Keyring::open(VAULT, epochs, epoch, key)
}

fn reader(number: u8) -> UnwrappedKey {
    UnwrappedKey::Reader(vault_key(number).reader())
}

fn owner(number: u8) -> UnwrappedKey {
    UnwrappedKey::VaultKey(vault_key(number))
}

/// Checks that `keyring` holds the reading keys of the first `count` epochs and no others.
fn check_reads(keyring: &Keyring, count: u8) {
    assert_eq!(keyring.sealing_pairs().len(), usize::from(count));
    for number in 0..count {
        let epoch = u32::from(number);
        let expected = vault_key(number + 1).reader();
        let pair = keyring.sealing(epoch).unwrap();
        assert_eq!(pair.public(), expected.sealing().public());
        assert_eq!(keyring.sealing_pairs()[usize::from(number)].public(), pair.public());
        let mut domain = DomainId::owner(epoch);
        domain.0[9] = 77;
        let keys = keyring.domain_keys(&domain).unwrap();
        assert_eq!(keys.domain(), &domain.0);
        assert_eq!(keys.psk(), expected.domain_keys(&domain.0).psk());
    }
    for epoch in [u32::from(count), u32::MAX] {
        assert!(keyring.sealing(epoch).is_none());
        let refused = keyring.domain_keys(&DomainId::owner(epoch)).unwrap_err();
        let PipelineError::Format(FormatError::Malformed { object, .. }) = refused else {
            panic!("{refused}")
        };
        assert_eq!(object, "domain id");
    }
}

fn is_wrong(result: Result<Keyring, PipelineError>, epoch: u32) -> bool {
    matches!(result, Err(PipelineError::WrongKey { epoch: named }) if named == epoch)
}

#[test]
fn the_newest_key_opens_all_epochs() {
    for count in 1..=3 {
        let epochs = epochs(count);
        let newest = u32::from(count) - 1;
        let keyring = open(&epochs, newest, owner(count)).unwrap();
        check_reads(&keyring, count);
        let signing = keyring.signing().unwrap();
        assert_eq!(signing.verifying_key().as_bytes(), &epochs[usize::from(count) - 1].owner_key);
        assert_eq!(keyring.vault_key().unwrap().expose(), &[count; 32]);
    }
}

#[test]
fn a_reader_reads_all_and_signs_nothing() {
    for count in 1..=3 {
        let keyring = open(&epochs(count), u32::from(count) - 1, reader(count)).unwrap();
        check_reads(&keyring, count);
        assert!(keyring.signing().is_none() && keyring.vault_key().is_none());
    }
}

#[test]
fn an_older_key_opens_up_to_its_epoch_and_signs_nothing() {
    let epochs = epochs(3);
    for number in 1..=2 {
        for key in [owner(number), reader(number)] {
            let keyring = open(&epochs, u32::from(number) - 1, key).unwrap();
            check_reads(&keyring, number);
            assert!(keyring.signing().is_none() && keyring.vault_key().is_none());
        }
    }
}

#[test]
fn keys_of_another_epoch_are_refused() {
    let epochs = epochs(3);
    for epoch in 0..5 {
        for number in 0..5 {
            if u32::from(number) != epoch + 1 || epoch > 2 {
                assert!(is_wrong(open(&epochs, epoch, owner(number)), epoch), "{number} for {epoch}");
                assert!(is_wrong(open(&epochs, epoch, reader(number)), epoch), "{number} for {epoch}");
            }
        }
    }
    assert!(is_wrong(open(&[], 0, owner(1)), 0));
    assert!(is_wrong(open(&epochs, u32::MAX, owner(3)), u32::MAX));
}

/// Of a vault key, both the sealing and the verifying key are checked (section 7).
#[test]
fn both_public_keys_are_checked() {
    let mut forged = epochs(2);
    forged[1].owner_key = forged[0].owner_key;
    assert!(is_wrong(open(&forged, 1, owner(2)), 1));
    check_reads(&open(&forged, 1, reader(2)).unwrap(), 2);

    let mut forged = epochs(2);
    forged[1].sealing_key = forged[0].sealing_key.clone();
    assert!(is_wrong(open(&forged, 1, owner(2)), 1));
    assert!(is_wrong(open(&forged, 1, reader(2)), 1));

    // The key inside the epoch record opens, but is not that of the epoch before.
    let mut forged = epochs(2);
    forged[0].sealing_key = forged[1].sealing_key.clone();
    assert!(is_wrong(open(&forged, 1, reader(2)), 0));
    let mut forged = epochs(2);
    let kek = vault_key(2).reader().previous_reader_secret_kek();
    forged[1].details.as_mut().unwrap().previous_reader_secret =
        seal(VAULT, &kek, Purpose::PreviousReaderSecret, 1, &[9; 32]);
    assert!(is_wrong(open(&forged, 1, owner(2)), 0));
}

#[test]
fn an_older_secret_opens_in_its_place_alone() {
    let kek = vault_key(2).reader().previous_reader_secret_kek();
    let old = vault_key(1).reader();
    let sealed = |vault, purpose, epoch| seal(vault, &kek, purpose, epoch, old.expose());
    let sound = sealed(VAULT, Purpose::PreviousReaderSecret, 1);
    let mut changed = vec![
        sealed(VaultId([0x54; 32]), Purpose::PreviousReaderSecret, 1),
        sealed(VAULT, Purpose::PreviousVaultKey, 1),
        sealed(VAULT, Purpose::PreviousReaderSecret, 0),
        sealed(VAULT, Purpose::PreviousReaderSecret, 2),
    ];
    changed.extend((0..48).map(|position| {
        let mut altered = sound;
        altered[position] ^= 1 << (position % 8);
        altered
    }));
    let mut epochs = epochs(2);
    for bytes in changed {
        epochs[1].details.as_mut().unwrap().previous_reader_secret = bytes;
        for key in [owner(2), reader(2)] {
            let refused = open(&epochs, 1, key).unwrap_err();
            assert!(matches!(refused, PipelineError::Crypto(CryptoError::Open { .. })), "{refused}");
        }
        // The older key needs nothing of the newer epoch's record.
        check_reads(&open(&epochs, 0, owner(1)).unwrap(), 1);
    }
    epochs[1].details.as_mut().unwrap().previous_reader_secret = sound;
    check_reads(&open(&epochs, 1, owner(2)).unwrap(), 2);
}

#[test]
fn a_writer_has_its_own_domain_and_nothing_that_reads() {
    let reader = VaultKey::from_secret(Secret::new([1; 32])).reader();
    let mut own = DomainId::owner(0);
    own.0[15] = 7;
    let signing = SigningKey::from_seed(&Secret::new([2; 32]));
    let keyring = Keyring::of_writer(signing, reader.domain_keys(&own.0));
    assert_eq!(keyring.writer_domain(), Some(own));
    let keys = keyring.domain_keys(&own).unwrap();
    assert_eq!(keys.psk(), reader.domain_keys(&own.0).psk());
    assert_eq!(keys.data_id(b"x"), reader.domain_keys(&own.0).data_id(b"x"));
    for other in [DomainId::owner(0), DomainId::owner(1)] {
        assert!(matches!(keyring.domain_keys(&other), Err(PipelineError::OtherDomain)));
    }
    assert!(keyring.signing().is_some() && keyring.vault_key().is_none());
    assert!(keyring.sealing(0).is_none() && keyring.sealing_pairs().is_empty());
}
