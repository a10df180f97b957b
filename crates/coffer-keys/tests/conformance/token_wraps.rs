//! AES-KWP: the objects that it needs, tokens that refuse them, and tokens that mean something else by it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use coffer_crypto::rng::SeededRng;
use coffer_crypto::{Secret, hash};
use coffer_format::slot::{Slot, SlotKind};
use coffer_keys::pkcs11::{Pkcs11Key, TokenError, TokenMechanism, TokenSettings};
use coffer_keys::{KeyError, RootKey};
use coffer_testkit::softhsm::SoftHsm;
use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};
use cryptoki::session::Session;

use super::altered_module::module;
use super::rfc5649;
use super::token::{PIN, generate, make, session, settings, token_key};
use super::token_bytes::{CIPHER_KEY, put_keys};
use super::token_errors::token_error;

/// In the configuration: the token has no GCM.
pub(crate) const WITHOUT_GCM: &str = "slots.mechanisms = CKM_AES_KEY_GEN,CKM_AES_KEY_WRAP_PAD,CKM_AES_CBC_PAD,\
    CKM_AES_CBC,CKM_GENERIC_SECRET_KEY_GEN,CKM_SHA256_HMAC\n";
/// As a token answers in FIPS mode to a template that it does not like.
const TEMPLATE_INCONSISTENT: &str = "0xd1";

fn by(mechanism: TokenMechanism, module: &Path, key: &str) -> TokenSettings {
    TokenSettings { mechanism: Some(mechanism), ..settings(module, "hsm", key) }
}

fn mechanism_of(slot: &Slot) -> TokenMechanism {
    TokenMechanism::of_number(token_key(slot).mechanism).unwrap()
}

/// Secret keys of the token, or of sessions, of all that this process has open.
fn objects(session: &Session, on_token: bool) -> usize {
    let class = Attribute::Class(ObjectClass::SECRET_KEY);
    session.find_objects(&[class, Attribute::Token(on_token)]).unwrap().len()
}

/// Every object is destroyed, also where something is refused half-way.
#[test]
fn nothing_is_left_of_what_was_wrapped() {
    let dir = tempfile::tempdir().unwrap();
    let test = "token_wraps::nothing_is_left_of_what_was_wrapped";
    SoftHsm::in_child(dir.path(), "", test, |tokens| {
        let dir = tempfile::tempdir().unwrap();
        tokens.make_token("hsm", PIN);
        let beside = session(tokens.module(), "hsm", true);
        put_keys(&beside, "key");
        let log = dir.path().join("log");
        let log_definition = format!("LOG={:?}", log.to_str().unwrap());
        let logged = |name, more: &[&str]| {
            let definitions = [&[log_definition.as_str()], more].concat();
            Pkcs11Key::new(by(
                TokenMechanism::AesKwp,
                &module(dir.path(), tokens.module(), name, &definitions),
                "key",
            ))
        };
        let counted = || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            drop(fs::remove_file(&log));
            let count = |what| text.lines().filter(|line| *line == what).count();
            assert_eq!(objects(&beside, false), 0);
            (count("made"), count("destroyed"))
        };
        let root = logged("good", &[]);
        let slot = make(&root).unwrap();
        // A trial, and the slot with a look at it: each wraps one and unwraps one.
        assert_eq!(counted(), (4, 4));
        assert_eq!(root.unwrap(&slot).unwrap(), Secret::new([5; 32]));
        assert_eq!(counted(), (1, 1));

        let altered = |alter: &dyn Fn(&mut Slot)| {
            let mut slot = slot.clone();
            alter(&mut slot);
            assert!(matches!(root.unwrap(&slot), Err(KeyError::WrongKey { .. })));
            counted()
        };
        assert_eq!(altered(&|slot| slot.wrapped[20] ^= 1), (0, 0), "the token refuses it");
        assert_eq!(altered(&|slot| slot.label.push('2')), (1, 1), "the token does not know the context");
        let short = [7; 63];
        let wrapped = rfc5649::wrap(&CIPHER_KEY, rfc5649::head(63), &short);
        assert_eq!(altered(&|slot| slot.wrapped.clone_from(&wrapped)), (1, 1), "63 bytes");
        let by_kw = rfc5649::wrap(&CIPHER_KEY, [0xa6; 8], &[7; 64]);
        assert_eq!(altered(&|slot| slot.wrapped.clone_from(&by_kw)), (0, 0), "RFC 3394");

        let error = token_error(make(&logged("wraps_not", &["WRAP_RETURNS=0x69"])));
        assert!(error.to_string().ends_with("C_WrapKey returned KeyNotWrappable"), "{error}");
        assert_eq!(counted(), (1, 1));
        // The token unwraps, and then does not show what it has unwrapped.
        let error = token_error(logged("shows_not", &["GET_RETURNS=0x11"]).unwrap(&slot));
        assert!(matches!(error, TokenError::NotPermitted { .. }), "{error:?}");
        assert_eq!(counted(), (1, 1));
        let error = token_error(logged("fails", &["GET_RETURNS=0x30"]).unwrap(&slot));
        assert!(error.to_string().ends_with("C_GetAttributeValue returned DeviceError"), "{error}");
        assert_eq!(counted(), (1, 1));
        assert_eq!(objects(&beside, true), 2, "and the keys are still there");
    });
}

/// A stranger with the key of the token and RFC 5649 has the vault key.
#[test]
fn it_is_as_the_format_says() {
    let dir = tempfile::tempdir().unwrap();
    SoftHsm::in_child(dir.path(), "", "token_wraps::it_is_as_the_format_says", |tokens| {
        tokens.make_token("hsm", PIN);
        put_keys(&session(tokens.module(), "hsm", true), "key");
        let slot = make(&Pkcs11Key::new(by(TokenMechanism::AesKwp, tokens.module(), "key"))).unwrap();
        let key = token_key(&slot);
        let salt = key.salt.unwrap();
        assert_eq!((&key.iv, key.mac, slot.wrapped.len()), (&None, None, 72));
        // The map without key 10 is what the slot is bound to, the salt with it.
        let mut context = slot.encode();
        let tail = [&[0x0a, 0x58, 72], slot.wrapped.as_slice()].concat();
        assert!(context.ends_with(&tail));
        context.truncate(context.len() - tail.len());
        context[0] -= 1;
        let at = [&[0x05, 0x19, 0x21, 0x0b, 0x08, 0x50], salt.as_slice()].concat();
        assert!(context.windows(at.len()).any(|window| window == at), "mechanism and salt");
        let plain = [[5; 32], hash::hash(&context)].concat();
        assert_eq!(rfc5649::unwrap(&CIPHER_KEY, &slot.wrapped), (rfc5649::head(64), plain));
    });
}

#[test]
fn a_new_key_that_wraps_does_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let test = "token_wraps::a_new_key_that_wraps_does_nothing_else";
    SoftHsm::in_child(dir.path(), WITHOUT_GCM, test, |tokens| {
        tokens.make_token("hsm", PIN);
        let (_, made) = generate(settings(tokens.module(), "hsm", "key"));
        assert_eq!(made.mechanism, TokenMechanism::AesKwp);
        let session = session(tokens.module(), "hsm", true);
        let keys = session.find_objects(&[Attribute::Class(ObjectClass::SECRET_KEY)]).unwrap();
        let uses =
            [AttributeType::Encrypt, AttributeType::Decrypt, AttributeType::Wrap, AttributeType::Unwrap];
        let expected = [
            Attribute::Encrypt(false),
            Attribute::Decrypt(false),
            Attribute::Wrap(true),
            Attribute::Unwrap(true),
        ];
        assert_eq!(keys.len(), 1);
        assert_eq!(session.get_attributes(keys[0], &uses).unwrap(), expected);
    });
}

/// The token lists it, and says no when it comes to it: to the object, to wrapping, or to giving back what was unwrapped.
#[test]
fn what_a_token_refuses_is_passed_over_for_what_is_new() {
    let dir = tempfile::tempdir().unwrap();
    let test = "token_wraps::what_a_token_refuses_is_passed_over_for_what_is_new";
    SoftHsm::in_child(dir.path(), WITHOUT_GCM, test, |tokens| {
        let dir = tempfile::tempdir().unwrap();
        tokens.make_token("hsm", PIN);
        let beside = session(tokens.module(), "hsm", true);
        put_keys(&beside, "both");
        let slot = make(&Pkcs11Key::new(settings(tokens.module(), "hsm", "both"))).unwrap();
        assert_eq!(mechanism_of(&slot), TokenMechanism::AesKwp);
        let refusing = [
            ("create", format!("CREATE_RETURNS={TEMPLATE_INCONSISTENT}"), true),
            ("wrap", format!("WRAP_RETURNS={TEMPLATE_INCONSISTENT}"), true),
            ("wrap_general", "WRAP_RETURNS=0x5".to_owned(), true),
            ("wrap_absent", "WRAP_RETURNS=0x54".to_owned(), true),
            ("unwrap", format!("UNWRAP_RETURNS={TEMPLATE_INCONSISTENT}"), false),
            ("show", "GET_RETURNS=0x11".to_owned(), false),
        ];
        for (name, definition, opens) in refusing {
            let module = module(dir.path(), tokens.module(), name, &[&definition]);
            let before = objects(&beside, true);
            let (root, made) = generate(settings(&module, "hsm", name));
            assert_eq!(made.mechanism, TokenMechanism::AesCbcHmac, "{name}");
            assert_eq!(
                objects(&beside, true),
                before + 2,
                "{name}: no key is left of the one that was no use"
            );
            let by_pair = make(&root).unwrap();
            assert_eq!(mechanism_of(&by_pair), TokenMechanism::AesCbcHmac, "{name}");
            // A key that was there before.
            let root = Pkcs11Key::new(settings(&module, "hsm", "both"));
            assert_eq!(mechanism_of(&make(&root).unwrap()), TokenMechanism::AesCbcHmac, "{name}");
            // The slot says by what it was made; nothing else is tried.
            if opens {
                assert_eq!(root.unwrap(&slot).unwrap(), Secret::new([5; 32]), "{name}");
            } else {
                let error = token_error(root.unwrap(&slot));
                assert!(matches!(error, TokenError::NotPermitted { .. }), "{name}: {error:?}");
            }
            // Who asks for this mechanism gets no other, and no key.
            let before = objects(&beside, true);
            let wanted = Pkcs11Key::new(by(TokenMechanism::AesKwp, &module, "both"));
            token_error(make(&wanted));
            let new_key = format!("{name} 2");
            let wanted = Pkcs11Key::new(by(TokenMechanism::AesKwp, &module, &new_key));
            token_error(wanted.generate(&SeededRng::new(1)));
            assert_eq!(objects(&beside, true), before, "{name}");
        }
    });
}

/// Keys that were made before, for encrypting alone.
#[test]
fn a_key_that_may_not_wrap_is_used_in_another_way() {
    let dir = tempfile::tempdir().unwrap();
    let test = "token_wraps::a_key_that_may_not_wrap_is_used_in_another_way";
    SoftHsm::in_child(dir.path(), WITHOUT_GCM, test, |tokens| {
        tokens.make_token("hsm", PIN);
        let module = tokens.module();
        generate(by(TokenMechanism::AesCbcHmac, module, "old"));
        let slot = make(&Pkcs11Key::new(settings(module, "hsm", "old"))).unwrap();
        assert_eq!(mechanism_of(&slot), TokenMechanism::AesCbcHmac);
        // One that may wrap, but is told by the token's own list what for.
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(true),
            Attribute::Label(b"listed".to_vec()),
            Attribute::Value(vec![7; 32]),
            Attribute::Wrap(true),
            Attribute::Unwrap(true),
            Attribute::AllowedMechanisms(vec![MechanismType::AES_CBC_PAD]),
        ];
        session(module, "hsm", true).create_object(&template).unwrap();
        let error = token_error(make(&Pkcs11Key::new(settings(module, "hsm", "listed"))));
        assert!(matches!(error, TokenError::NotPermitted { .. }), "{error:?}");
        // Who asks for a MAC with a key that was made for wrapping hears what is missing.
        generate(by(TokenMechanism::AesKwp, module, "wraps"));
        let error = token_error(make(&Pkcs11Key::new(by(TokenMechanism::AesCbcHmac, module, "wraps"))));
        assert!(error.to_string().contains(" has no generic secret key wraps"), "{error}");
    });
}

/// Under the same number some tokens pad by PKCS#7: nobody could unwrap that by RFC 5649. Others only ask for more room than they fill.
#[test]
fn what_is_not_rfc_5649_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let test = "token_wraps::what_is_not_rfc_5649_is_passed_over";
    SoftHsm::in_child(dir.path(), WITHOUT_GCM, test, |tokens| {
        let dir = tempfile::tempdir().unwrap();
        tokens.make_token("hsm", PIN);
        put_keys(&session(tokens.module(), "hsm", true), "key");
        let pads = module(dir.path(), tokens.module(), "pads", &["PADS"]);
        let slot = make(&Pkcs11Key::new(settings(&pads, "hsm", "key"))).unwrap();
        assert_eq!(mechanism_of(&slot), TokenMechanism::AesCbcHmac);
        let error = token_error(make(&Pkcs11Key::new(by(TokenMechanism::AesKwp, &pads, "key"))));
        let mechanism = TokenMechanism::AesKwp;
        assert!(
            matches!(&error, TokenError::NotReversible { mechanism: by, .. } if *by == mechanism),
            "{error:?}"
        );
        let roomy = module(dir.path(), tokens.module(), "roomy", &["ROOM_MORE=24"]);
        let root = Pkcs11Key::new(settings(&roomy, "hsm", "key"));
        let slot = make(&root).unwrap();
        assert_eq!((mechanism_of(&slot), slot.wrapped.len()), (mechanism, 72));
        assert_eq!(root.unwrap(&slot).unwrap(), Secret::new([5; 32]));
    });
}

#[test]
fn it_takes_no_longer_than_it_may() {
    let dir = tempfile::tempdir().unwrap();
    SoftHsm::in_child(dir.path(), "", "token_wraps::it_takes_no_longer_than_it_may", |tokens| {
        let dir = tempfile::tempdir().unwrap();
        tokens.make_token("hsm", PIN);
        put_keys(&session(tokens.module(), "hsm", true), "key");
        let slot = make(&Pkcs11Key::new(by(TokenMechanism::AesKwp, tokens.module(), "key"))).unwrap();
        assert!(matches!(&slot.kind, SlotKind::Token(key) if key.salt.is_some()));
        let hanging = |name, key: &str| {
            let module = module(dir.path(), tokens.module(), name, &[name]);
            let limit = Some(Duration::from_secs(1));
            Pkcs11Key::new(TokenSettings { limit, ..by(TokenMechanism::AesKwp, &module, key) })
        };
        let since = Instant::now();
        let late = TokenError::NoAnswer { token: "token hsm".to_owned(), limit_s: 1 };
        assert_eq!(token_error(make(&hanging("WRAP_HANGS", "key"))), late);
        assert_eq!(token_error(hanging("UNWRAP_HANGS", "key").unwrap(&slot)), late);
        let error = token_error(hanging("GENERATE_HANGS", "new").generate(&SeededRng::new(1)));
        let text = "token hsm did not answer within 1 s, and whether it has made the key new is not known";
        assert_eq!(error.to_string(), text);
        assert!(since.elapsed() < Duration::from_secs(60), "{:?}", since.elapsed());
    });
}
