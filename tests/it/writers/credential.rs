//! Whoever has the whole credential and the whole bucket reads nothing.

use coffer_crypto::{SealedAs, SealingKeyPair, Secret, commitment_matches, open_from_vault};
use coffer_format::id::unhex;
use coffer_format::index::SegmentHead;
use coffer_format::record::{Record, SealedBody};
use coffer_keys::{KeyFile, WriterCredential};
use coffer_pipeline::segment::{SegmentReader, SegmentTable};
use coffer_testkit::copy::snapshot_of;

use super::{Host, grant, grow, owned};
use crate::support::{noise, scratch};

/// Every run of 32 bytes in the credential: each key of it, and whatever else could be taken for one.
fn secrets_of(credential: &WriterCredential) -> Vec<[u8; 32]> {
    let text = credential.to_text();
    let line = text.expose().split(|byte| *byte == b'\n').find(|line| line.starts_with(b"COFFER-WRITER-1-"));
    let digits = std::str::from_utf8(line.unwrap()).unwrap().strip_prefix("COFFER-WRITER-1-").unwrap();
    let bytes: Vec<u8> =
        (0..digits.len() / 2).map(|at| unhex::<1>(&digits[2 * at..2 * at + 2]).unwrap()[0]).collect();
    // The fields begin at multiples of 16.
    bytes.windows(32).step_by(16).map(|window| window.try_into().unwrap()).collect()
}

#[test]
fn the_credential_and_the_bucket_open_nothing() {
    let (owner, store) = owned(50);
    let host = Host::new(grant(&owner, &store, "web-1", None), 51);
    let other = Host::new(grant(&owner, &store, "web-2", None), 52);
    for machine in [&host, &other] {
        grow(&machine.source());
        machine.backup(&store).unwrap();
    }
    let place = scratch();
    std::fs::create_dir(place.path().join("src")).unwrap();
    std::fs::write(place.path().join("src/own"), noise(1, 5000)).unwrap();
    owner.backup(&store, &place.path().join("src")).unwrap();

    let secrets = secrets_of(&host.credential);
    assert!(secrets.len() > 14);
    let vault = host.credential.vault();
    let (_, domain) = host.credential.keys();
    let domains = [domain.domain().to_owned(), other.credential.domain().0, [0; 16]];
    let (mut packs, mut bodies, mut segments, mut own_segments) = (0, 0, 0, 0);
    for (name, bytes) in snapshot_of(&store) {
        let opens = |salt: &[u8; 32], enc: &[u8; 1120], commitment: &[u8; 32], sealed_as| {
            secrets.iter().any(|secret| {
                let pair = SealingKeyPair::from_seed(&Secret::new(*secret));
                secrets.iter().chain([domain.psk().expose()]).any(|psk| {
                    domains.iter().any(|domain| {
                        open_from_vault(&pair, psk, domain, sealed_as, &vault.0, salt, enc)
                            .is_ok_and(|(_, expected)| commitment_matches(&expected, commitment))
                    })
                })
            })
        };
        if name.starts_with("packs/") {
            let (salt, enc, commitment) = (&bytes[..32], &bytes[32..1152], &bytes[1152..1184]);
            let sealed = (salt.try_into().unwrap(), enc.try_into().unwrap(), commitment.try_into().unwrap());
            if packs < 3 {
                assert!(!opens(sealed.0, sealed.1, sealed.2, SealedAs::Pack), "{name}");
            }
            packs += 1;
        } else if name.starts_with("log/") {
            let record = Record::decode(&bytes).unwrap();
            if record.public.body.is_none() {
                continue;
            }
            let body = SealedBody::decode(record.body).unwrap();
            if bodies < 4 {
                assert!(!opens(body.salt, body.enc, body.commitment, SealedAs::Record), "{name}");
            }
            bodies += 1;
        } else if name.starts_with("index/") {
            let head = SegmentHead::decode(&bytes[..104], bytes.len() as u64).unwrap();
            let is_own = head.domain == host.credential.domain();
            let opened = SegmentReader::open(vault, &domain, head).is_ok_and(|reader| {
                let (offset, len) = reader.head().chunk_table().page(0);
                let from = usize::try_from(offset).unwrap();
                let page = &bytes[from..from + usize::try_from(len).unwrap()];
                reader.page(SegmentTable::Chunks, 0, page, &mut Vec::new()).is_ok()
            });
            assert_eq!(opened, is_own, "{name}: its own index, to know what is there, and no other");
            segments += 1;
            own_segments += u32::from(is_own);
        } else if name.starts_with("slots/") {
            let slot = coffer_format::slot::Slot::decode(&bytes).unwrap();
            for secret in &secrets {
                let (kek, commitment) =
                    coffer_crypto::wrap::slot_keys(&Secret::new(*secret), &slot.salt.unwrap(), &vault.0);
                assert_ne!(Some(commitment), slot.commitment);
                assert!(coffer_crypto::wrap::unwrap(&kek, &slot.context(), &slot.wrapped).is_err());
            }
        }
    }
    assert!(packs >= 3 && bodies >= 4 && own_segments >= 1 && segments > own_segments);
    // Nothing from which more would follow is in the file.
    let owned_by = owner.open(&store).unwrap();
    let key = owned_by.keyring.vault_key().unwrap();
    for secret in &secrets {
        assert!(secret != key.expose() && secret != key.reader().expose());
        assert_ne!(secret, key.signing().expose_seed());
    }
}

#[test]
fn a_credential_is_no_key_file_and_a_key_file_no_credential() {
    let (owner, store) = owned(53);
    let credential = grant(&owner, &store, "web-1", None);
    assert!(KeyFile::parse(credential.to_text().expose()).is_err());
    assert!(WriterCredential::parse(owner.key.to_text().expose()).is_err());
    let again = WriterCredential::parse(credential.to_text().expose()).unwrap();
    assert_eq!(again.verifying_key(), credential.verifying_key());
}
