//! What goes wrong with tokens, and what is said about it.

use std::fs;

use coffer_crypto::SecretBytes;
use coffer_crypto::rng::SeededRng;
use coffer_format::slot::SlotKind;
use coffer_keys::pkcs11::{PinState, Pkcs11Key, TokenError, TokenMechanism, TokenSettings};
use coffer_keys::{KeyError, RootKey};
use coffer_testkit::softhsm::SoftHsm;
use cryptoki::object::{Attribute, KeyType, ObjectClass};

use super::altered_module::module;
use super::token::{PIN, generate, make, session, settings};
use super::token_bytes::put_keys;

pub(crate) fn token_error(result: Result<impl Sized, KeyError>) -> TokenError {
    match result {
        Err(KeyError::Token(error)) => error,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("it worked"),
    }
}

#[test]
fn modules_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.so");
    fs::write(&text, "no library").unwrap();
    for path in [dir.path().join("absent.so"), text] {
        let error = token_error(make(&Pkcs11Key::new(settings(&path, "hsm", "key"))));
        assert!(matches!(error, TokenError::Module { .. }), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn tokens_and_keys_that_are_there_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let test = "token_errors::tokens_and_keys_that_are_there_are_named";
    SoftHsm::in_child(dir.path(), "", test, |tokens| {
        tokens.make_token("one", PIN);
        tokens.make_token("two", PIN);
        let module = tokens.module();
        let (root, made) = generate(settings(module, "one", "first"));
        let slot = make(&root).unwrap();

        let error = token_error(make(&Pkcs11Key::new(settings(module, "three", "first"))));
        let text = error.to_string();
        assert!(
            text.starts_with("there is no token three; there is ") && text.contains("one (serial "),
            "{text}"
        );
        let error = token_error(make(&Pkcs11Key::new(TokenSettings {
            token_label: None,
            ..settings(module, "", "first")
        })));
        assert!(matches!(&error, TokenError::ManyTokens { tokens } if tokens.len() == 2), "{error:?}");

        let error = token_error(make(&Pkcs11Key::new(settings(module, "one", "second"))));
        let text = error.to_string();
        assert!(text.contains(" has no AES key second; it has AES key first (id "), "{text}");
        let unnamed = TokenSettings { key_label: None, ..settings(module, "one", "") };
        assert!(
            matches!(token_error(make(&Pkcs11Key::new(unnamed))), TokenError::KeyNotNamed { keys, .. } if keys.len() == 1)
        );
        let elsewhere = Pkcs11Key::new(settings(module, "two", "first"));
        let error = token_error(elsewhere.unwrap(&slot));
        assert!(error.to_string().ends_with("it has no secret keys"), "{error}");

        // The key of the MAC is missing: the pair was made for another mechanism.
        let mechanism = Some(TokenMechanism::AesCbcHmac);
        let error = token_error(make(&Pkcs11Key::new(TokenSettings {
            mechanism,
            ..settings(module, "one", "first")
        })));
        assert!(error.to_string().contains(" has no generic secret key first"), "{error}");

        let again = Pkcs11Key::new(settings(module, "one", "first")).generate(&SeededRng::new(4));
        assert!(matches!(token_error(again), TokenError::KeyExists { label, .. } if label == "first"));
        // By its id alone.
        let by_id = TokenSettings { key_label: None, key_id: Some(made.id), ..settings(module, "one", "") };
        make(&Pkcs11Key::new(by_id)).unwrap();

        let session = session(module, "two", true);
        put_keys(&session, "twin");
        put_keys(&session, "twin");
        let error = token_error(make(&Pkcs11Key::new(settings(module, "two", "twin"))));
        assert!(matches!(error, TokenError::KeyAmbiguous { count: 2, .. }), "{error:?}");
    });
}

/// Tokens lock themselves after a few wrong PINs: one that was refused is not sent again, whatever is asked.
#[test]
fn a_wrong_pin_is_sent_once() {
    let dir = tempfile::tempdir().unwrap();
    SoftHsm::in_child(dir.path(), "", "token_errors::a_wrong_pin_is_sent_once", |tokens| {
        tokens.make_token("hsm", PIN);
        let module = tokens.module();
        let (right, _) = generate(settings(module, "hsm", "key"));
        let slot = make(&right).unwrap();
        let count_is_low = || {
            let module = cryptoki::context::Pkcs11::new(module).unwrap();
            let slot = module.get_slots_with_initialized_token().unwrap()[0];
            module.get_token_info(slot).unwrap().user_pin_count_low()
        };
        let pin = Some(SecretBytes::from("0000-wrong".to_owned()));
        let wrong = Pkcs11Key::new(TokenSettings { pin, ..settings(module, "hsm", "key") });
        let refused = |error: TokenError| {
            assert!(matches!(error, TokenError::Pin { state: PinState::Wrong, .. }), "{error:?}");
            assert!(
                error.to_string().starts_with("token hsm (serial ")
                    && error.to_string().ends_with("the PIN is wrong")
            );
        };
        assert!(!count_is_low());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| refused(token_error(wrong.unwrap(&slot))));
            }
        });
        assert!(count_is_low(), "the token has seen it");
        right.unwrap(&slot).unwrap();
        assert!(!count_is_low(), "the right one sets the count back");
        refused(token_error(wrong.unwrap(&slot)));
        refused(token_error(make(&wrong)));
        refused(token_error(wrong.generate(&SeededRng::new(1))));
        assert!(!count_is_low(), "the token has seen it again");

        let none = Pkcs11Key::new(TokenSettings { pin: None, ..settings(module, "hsm", "key") });
        let error = token_error(none.unwrap(&slot));
        assert!(matches!(error, TokenError::Pin { state: PinState::Missing, .. }), "{error:?}");
    });
}

#[test]
fn keys_and_mechanisms_that_are_of_no_use_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let test = "token_errors::keys_and_mechanisms_that_are_of_no_use_are_refused";
    SoftHsm::in_child(dir.path(), "", test, |tokens| {
        tokens.make_token("hsm", PIN);
        let module = tokens.module();
        let (root, _) = generate(settings(module, "hsm", "key"));
        let mut slot = make(&root).unwrap();
        if let SlotKind::Token(key) = &mut slot.kind {
            key.mechanism = 0x2109;
        }
        let error = token_error(root.unwrap(&slot));
        assert_eq!(error, TokenError::MechanismUnknown { mechanism: 0x2109 });

        let only_decrypts = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(true),
            Attribute::Label(b"half".to_vec()),
            Attribute::Value(vec![7; 32]),
            Attribute::Encrypt(false),
            Attribute::Decrypt(true),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
        ];
        session(module, "hsm", true).create_object(&only_decrypts).unwrap();
        let error = token_error(make(&Pkcs11Key::new(settings(module, "hsm", "half"))));
        assert!(matches!(error, TokenError::NotPermitted { .. }), "{error:?}");
        assert!(error.to_string().ends_with("C_EncryptInit returned KeyFunctionNotPermitted"), "{error}");
    });
}

/// The standard has no limit for labels, but tokens may.
#[test]
fn a_label_that_is_too_long_for_the_token_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let test = "token_errors::a_label_that_is_too_long_for_the_token_is_named";
    SoftHsm::in_child(dir.path(), "", test, |tokens| {
        let dir = tempfile::tempdir().unwrap();
        tokens.make_token("hsm", PIN);
        let module = module(dir.path(), tokens.module(), "short", &["LABEL_MAX=16"]);
        generate(settings(&module, "hsm", "sixteen letters."));
        let long = "longer than it may be";
        let error = token_error(Pkcs11Key::new(settings(&module, "hsm", long)).generate(&SeededRng::new(1)));
        assert!(matches!(&error, TokenError::NameRefused { label, .. } if label == long), "{error:?}");
        let text =
            "makes no key with the label longer than it may be: C_GenerateKey returned AttributeValueInvalid";
        assert!(error.to_string().ends_with(text), "{error}");
    });
}

#[test]
fn a_token_without_mechanisms_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let more = "slots.mechanisms = CKM_SHA256,CKM_AES_KEY_GEN\n";
    let test = "token_errors::a_token_without_mechanisms_is_told";
    SoftHsm::in_child(dir.path(), more, test, |tokens| {
        tokens.make_token("hsm", PIN);
        let error =
            token_error(Pkcs11Key::new(settings(tokens.module(), "hsm", "key")).generate(&SeededRng::new(1)));
        assert!(matches!(error, TokenError::NoMechanism { .. }), "{error:?}");
    });
}
