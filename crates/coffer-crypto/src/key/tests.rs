use super::*;
use crate::secret::SecretBytes;
use crate::{Encapsulation, PortableSealKey, SealKey};

/// Compiles only while none of the types can be cloned: with `Clone`, both implementations would apply.
macro_rules! assert_no_clone {
    ($($type:ty),* $(,)?) => {
        $(const _: fn() = || {
            trait Ambiguous<Marker> {
                fn item() {}
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            struct Cloneable;
            impl<T: ?Sized + Clone> Ambiguous<Cloneable> for T {}
            let _ = <$type as Ambiguous<_>>::item;
        };)*
    };
}

assert_no_clone!(
    Secret<16>,
    Secret<32>,
    Secret<64>,
    SecretBytes,
    VaultKey,
    ReaderSecret,
    DomainKeyParts,
    DomainKeys,
    SigningKey,
    SealingKeyPair,
    Encapsulation,
    SealKey,
    PortableSealKey,
);

const _: fn() = || {
    fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<DomainKeys>();
    shared_between_threads::<SealKey>();
    shared_between_threads::<PortableSealKey>();
    shared_between_threads::<SealingKeyPair>();
    shared_between_threads::<SigningKey>();
    shared_between_threads::<CryptoError>();
};

const _: fn() = || {
    fn wiped_on_drop<T: zeroize::ZeroizeOnDrop>() {}
    wiped_on_drop::<Secret<32>>();
    wiped_on_drop::<SecretBytes>();
    wiped_on_drop::<ed25519_dalek::SigningKey>();
    wiped_on_drop::<aes_gcm::Aes256Gcm>();
};

fn vault_key() -> VaultKey {
    VaultKey::from_secret(Secret::new([7; 32]))
}

/// The table of section 4, row by row.
#[test]
fn keys_follow_the_table() {
    let secret = Secret::new([7; 32]);
    let reader = kdf(&secret, "reader", b"");
    let root = kdf(&reader, "dedup domains", b"");
    let domain = [9; 16];

    let vault_key = vault_key();
    assert_eq!(vault_key.reader().expose(), reader.expose());
    assert_eq!(vault_key.signing().expose_seed(), kdf(&secret, "owner signing key", b"").expose());
    assert_eq!(vault_key.previous_vault_key_kek(), kdf(&secret, "previous vault key", b""));
    assert_eq!(vault_key.reader().previous_reader_secret_kek(), kdf(&reader, "previous reader secret", b""));
    let sealing = SealingKeyPair::from_seed(&kdf(&reader, "sealing key", b""));
    assert_eq!(vault_key.reader().sealing().public(), sealing.public());

    let keys = vault_key.reader().domain_keys(&domain);
    assert_eq!(keys.domain(), &domain);
    assert_eq!(keys.parts().data_id, kdf(&root, "data chunk id", &domain));
    assert_eq!(keys.parts().meta_id, kdf(&root, "meta chunk id", &domain));
    assert_eq!(keys.chunker_key().expose(), &kdf(&root, "chunker", &domain).expose()[..16]);
    assert_eq!(keys.parts().tree, kdf(&root, "tree", &domain));
    assert_eq!(keys.index_key(), &kdf(&root, "index", &domain));
    assert_eq!(keys.psk(), &kdf(&root, "psk", &domain));

    let (key, commitment) = keys.index_segment_key(&[1; 32], &[2; 32]);
    let context = [[1; 32], [2; 32]].concat();
    assert_eq!((key, commitment), kdf64(keys.index_key(), "index segment", &context));
}

#[test]
fn ids_use_their_own_keys() {
    let keys = vault_key().reader().domain_keys(&[0; 16]);
    assert_eq!(keys.data_id(b"chunk"), hash::keyed(keys.parts().data_id.expose(), b"chunk"));
    assert_eq!(keys.meta_id(b"chunk"), hash::keyed(keys.parts().meta_id.expose(), b"chunk"));
    assert_ne!(keys.data_id(b"chunk"), keys.meta_id(b"chunk"));
    let other = vault_key().reader().domain_keys(&[1; 16]);
    assert_ne!(keys.data_id(b"chunk"), other.data_id(b"chunk"));
}

#[test]
fn tree_hash_is_four_bytes_of_the_keyed_hash() {
    let keys = vault_key().reader().domain_keys(&[0; 16]);
    let whole = hash::keyed(keys.parts().tree.expose(), b"\x02home/a");
    let expected = u32::from_le_bytes(whole[..4].try_into().unwrap());
    assert_eq!(keys.tree_hash(2, b"home/a"), expected);
    assert_ne!(keys.tree_hash(0, b"home/a"), expected);
}

#[test]
fn a_credential_rebuilds_the_keys() {
    let keys = vault_key().reader().domain_keys(&[3; 16]);
    let parts = keys.parts();
    let copy = DomainKeys::from_parts(
        [3; 16],
        DomainKeyParts {
            data_id: Secret::new(*parts.data_id.expose()),
            meta_id: Secret::new(*parts.meta_id.expose()),
            chunker: Secret::new(*parts.chunker.expose()),
            tree: Secret::new(*parts.tree.expose()),
            index: Secret::new(*parts.index.expose()),
            psk: Secret::new(*parts.psk.expose()),
        },
    );
    assert_eq!(copy.data_id(b"x"), keys.data_id(b"x"));
    assert_eq!(copy.meta_id(b"x"), keys.meta_id(b"x"));
    assert_eq!(copy.tree_hash(1, b"x"), keys.tree_hash(1, b"x"));
    assert_eq!(copy.chunker_key(), keys.chunker_key());
    assert_eq!(copy.index_key(), keys.index_key());
    assert_eq!(copy.psk(), keys.psk());
}

#[test]
fn debug_shows_no_key() {
    let vault_key = vault_key();
    assert_eq!(format!("{vault_key:?}"), "VaultKey(Secret)");
    assert_eq!(format!("{:?}", vault_key.signing()), "SigningKey");
    assert_eq!(format!("{:?}", vault_key.reader().sealing()), "SealingKeyPair");
    let keys = format!("{:?}", vault_key.reader().domain_keys(&[0; 16]));
    assert!(keys.contains("psk: Secret") && !keys.contains("psk: Secret("), "{keys}");
}
