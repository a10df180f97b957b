//! Keys on tokens: the suite by every mechanism, and what is particular to tokens.

use std::path::Path;

use coffer_crypto::rng::SeededRng;
use coffer_crypto::{Secret, SecretBytes};
use coffer_format::id::VaultId;
use coffer_format::slot::{Slot, SlotKind, SlotPurpose, TokenKey};
use coffer_keys::pkcs11::{NewTokenKey, Pkcs11Key, TokenMechanism, TokenSettings};
use coffer_keys::{KeyError, RootKey, make_slot};
use coffer_testkit::conformance::RootKeySuite;
use coffer_testkit::softhsm::SoftHsm;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use cryptoki::session::{Session, UserType};

use super::token_wraps::WITHOUT_GCM;

pub(crate) const PIN: &str = "4711-0815";
pub(crate) const VAULT: VaultId = VaultId([7; 32]);

/// Settings for a key on a token, with the right PIN.
pub(crate) fn settings(module: &Path, token: &str, key: &str) -> TokenSettings {
    TokenSettings {
        module: module.to_owned(),
        token_label: Some(token.to_owned()),
        key_label: Some(key.to_owned()),
        pin: Some(SecretBytes::from(PIN.to_owned())),
        ..TokenSettings::default()
    }
}

/// A new key on a token.
pub(crate) fn generate(settings: TokenSettings) -> (Pkcs11Key, NewTokenKey) {
    let root = Pkcs11Key::new(settings);
    let made = root.generate(&SeededRng::new(1)).unwrap();
    (root, made)
}

pub(crate) fn make(root: &dyn RootKey) -> Result<Slot, KeyError> {
    let (key, rng) = (Secret::new([5; 32]), SeededRng::new(3));
    Ok(make_slot(root, VAULT, 0, SlotPurpose::VaultKey, "", 0, &key, &rng)?.2)
}

pub(crate) fn token_key(slot: &Slot) -> &TokenKey {
    let SlotKind::Token(key) = &slot.kind else { panic!("a token's slot") };
    key
}

/// A session beside those of the root key, to look at the token and to change it.
pub(crate) fn session(module: &Path, token: &str, log_in: bool) -> Session {
    let module = Pkcs11::new(module).unwrap();
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => panic!("{error}"),
    }
    let slots = module.get_slots_with_initialized_token().unwrap();
    let slot = slots.into_iter().find(|slot| module.get_token_info(*slot).unwrap().label() == token);
    let session = module.open_rw_session(slot.expect("the token")).unwrap();
    if log_in {
        session.login(UserType::User, Some(&PIN.to_owned().into())).unwrap();
    }
    session
}

fn conforms(tokens: &SoftHsm, mechanism: Option<TokenMechanism>, expected: TokenMechanism) {
    tokens.make_token("hsm", PIN);
    tokens.make_token("imposter", PIN);
    let settings = |key: &str| TokenSettings { mechanism, ..settings(tokens.module(), "hsm", key) };
    let (root, made) = generate(settings("first"));
    let (other, _) = generate(settings("second"));
    assert_eq!((made.mechanism, made.label.as_str()), (expected, "first"));
    let slot = make(&root).unwrap();
    assert_eq!(token_key(&slot).mechanism, expected.number());
    let key = token_key(&slot);
    assert_eq!(key.iv.is_some(), expected != TokenMechanism::AesKwp);
    assert_eq!(key.salt.is_some(), expected == TokenMechanism::AesKwp);
    assert_eq!(key.mac.is_some(), expected == TokenMechanism::AesCbcHmac);
    let suite = |other| {
        let secrets = vec![PIN.as_bytes().to_vec()];
        RootKeySuite {
            root: &root,
            other,
            debug: format!("{root:?}"),
            secrets,
            has_many_forms: false,
            tries_max: 1000,
        }
        .run();
    };
    suite(&other);
    // A key of the same name in another token: it is tried, and does not open.
    let same_name = TokenSettings { token_label: Some("imposter".to_owned()), ..settings("first") };
    suite(&generate(same_name).0);
}

#[test]
fn gcm_conforms() {
    let dir = tempfile::tempdir().unwrap();
    SoftHsm::in_child(dir.path(), "", "token::gcm_conforms", |tokens| {
        conforms(tokens, None, TokenMechanism::AesGcm);
    });
}

#[test]
fn cbc_with_a_mac_conforms() {
    let dir = tempfile::tempdir().unwrap();
    SoftHsm::in_child(dir.path(), "", "token::cbc_with_a_mac_conforms", |tokens| {
        let mechanism = TokenMechanism::AesCbcHmac;
        conforms(tokens, Some(mechanism), mechanism);
    });
}

#[test]
fn kwp_conforms() {
    let dir = tempfile::tempdir().unwrap();
    SoftHsm::in_child(dir.path(), "", "token::kwp_conforms", |tokens| {
        let mechanism = TokenMechanism::AesKwp;
        conforms(tokens, Some(mechanism), mechanism);
    });
}

#[test]
fn a_token_without_gcm_wraps_by_kwp() {
    let dir = tempfile::tempdir().unwrap();
    SoftHsm::in_child(dir.path(), WITHOUT_GCM, "token::a_token_without_gcm_wraps_by_kwp", |tokens| {
        conforms(tokens, None, TokenMechanism::AesKwp);
    });
}

/// A token as HPCS has: without GCM, and without wrapping.
#[test]
fn a_token_without_gcm_and_kwp_gets_a_mac() {
    let dir = tempfile::tempdir().unwrap();
    let more = "slots.mechanisms = \
        CKM_AES_KEY_GEN,CKM_AES_CBC_PAD,CKM_AES_CBC,CKM_GENERIC_SECRET_KEY_GEN,CKM_SHA256_HMAC\n";
    SoftHsm::in_child(dir.path(), more, "token::a_token_without_gcm_and_kwp_gets_a_mac", |tokens| {
        conforms(tokens, None, TokenMechanism::AesCbcHmac);
    });
}

#[test]
fn generated_keys_stay_on_the_token() {
    let dir = tempfile::tempdir().unwrap();
    SoftHsm::in_child(dir.path(), "", "token::generated_keys_stay_on_the_token", |tokens| {
        tokens.make_token("hsm", PIN);
        let mechanism = Some(TokenMechanism::AesCbcHmac);
        generate(TokenSettings { mechanism, ..settings(tokens.module(), "hsm", "key") });
        let session = session(tokens.module(), "hsm", true);
        let keys = session.find_objects(&[Attribute::Class(ObjectClass::SECRET_KEY)]).unwrap();
        assert_eq!(keys.len(), 2);
        for key in keys {
            let types = [
                AttributeType::Sensitive,
                AttributeType::AlwaysSensitive,
                AttributeType::NeverExtractable,
                AttributeType::Private,
                AttributeType::Extractable,
                AttributeType::Wrap,
                AttributeType::Unwrap,
                AttributeType::Value,
            ];
            let found = session.get_attributes(key, &types).unwrap();
            let expected = vec![
                Attribute::Sensitive(true),
                Attribute::AlwaysSensitive(true),
                Attribute::NeverExtractable(true),
                Attribute::Private(true),
                Attribute::Extractable(false),
            ];
            assert_eq!(found[..5], expected, "and so its value is not shown");
            assert!(!found.iter().any(|attribute| matches!(attribute, Attribute::Value(_))));
        }
    });
}

/// What the owner says of the token wins over what the slot remembers, so that a copy of the key elsewhere opens it.
#[test]
fn a_slot_opens_by_a_copy_of_its_key_in_another_token() {
    let dir = tempfile::tempdir().unwrap();
    let test = "token::a_slot_opens_by_a_copy_of_its_key_in_another_token";
    SoftHsm::in_child(dir.path(), "", test, |tokens| {
        tokens.make_token("old", PIN);
        tokens.make_token("new", PIN);
        for token in ["old", "new"] {
            super::token_bytes::put_keys(&session(tokens.module(), token, true), "key");
        }
        let slot = make(&Pkcs11Key::new(settings(tokens.module(), "old", "key"))).unwrap();
        assert_eq!(token_key(&slot).token_label, "old");
        let there = Pkcs11Key::new(settings(tokens.module(), "new", "key"));
        assert!(there.may_open(&slot));
        assert_eq!(there.unwrap(&slot).unwrap(), Secret::new([5; 32]));
        // With nothing but the module and the PIN, the slot says which token and which key.
        let pin = Some(SecretBytes::from(PIN.to_owned()));
        let module = tokens.module().to_owned();
        let by_hint = Pkcs11Key::new(TokenSettings { module, pin, ..TokenSettings::default() });
        assert_eq!(by_hint.unwrap(&slot).unwrap(), Secret::new([5; 32]));
    });
}

/// Others in the process may have logged in, and stay logged in.
#[test]
fn a_login_of_others_is_used_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let test = "token::a_login_of_others_is_used_and_left_alone";
    SoftHsm::in_child(dir.path(), "", test, |tokens| {
        tokens.make_token("hsm", PIN);
        let (root, _) = generate(settings(tokens.module(), "hsm", "key"));
        let session = session(tokens.module(), "hsm", true);
        let slot = make(&root).unwrap();
        let without_pin = TokenSettings { pin: None, ..settings(tokens.module(), "hsm", "key") };
        assert_eq!(Pkcs11Key::new(without_pin).unwrap(&slot).unwrap(), Secret::new([5; 32]));
        let private = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Private(true)];
        assert_eq!(session.find_objects(&private).unwrap().len(), 1, "still logged in");
    });
}
