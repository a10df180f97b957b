//! Which names are keys.

use coffer_store::{COMPONENT_LEN_MAX, KEY_LEN_MAX, ObjectKey, StoreError};
use proptest::prelude::*;

#[track_caller]
fn check(name: &str, expected: bool) {
    match ObjectKey::new(name) {
        Ok(key) => {
            assert!(expected, "{name:?} is accepted");
            assert_eq!(key.as_str(), name);
            assert_eq!(key.to_string(), name);
            assert_eq!(name.parse::<ObjectKey>().expect("parse"), key);
        }
        Err(StoreError::InvalidKey { name: shown, reason }) => {
            assert!(!expected, "{name:?} is refused: {reason}");
            assert!(shown.is_ascii() && !shown.contains('\n'), "{shown:?} is not fit for a message");
            assert!(shown.len() <= KEY_LEN_MAX * 10, "{} bytes in a message", shown.len());
        }
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn names_of_a_vault_are_keys() {
    let hex = "0123456789abcdef".repeat(4);
    check("vault", true);
    check("log/00000000000000000000", true);
    check(&format!("slots/{hex}"), true);
    check(&format!("packs/ab/{hex}"), true);
    check("a..b/.c/...", true);
    check("a/tmp/b", true);
    check("tmpx", true);
    check(&"a".repeat(COMPONENT_LEN_MAX), true);
    check(&format!("{}/{}a", "b".repeat(COMPONENT_LEN_MAX), "a/".repeat(127)), true);
}

#[test]
fn names_that_could_do_harm_are_not() {
    for name in [
        "", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "a/..", "../a", "a/../b", "A", "a b", "a\\b",
        "a\0", "ä", "a\n", "a:b", "a%41", "~", "*", "tmp", "tmp/a", "\u{202e}",
    ] {
        check(name, false);
    }
    check(&"a".repeat(COMPONENT_LEN_MAX + 1), false);
    check(&format!("{}/{}/a", "b".repeat(COMPONENT_LEN_MAX), "c".repeat(COMPONENT_LEN_MAX)), false);
    check(&"\n".repeat(1 << 20), false);
}

proptest! {
    #[test]
    fn keys_are_exactly_what_the_rules_say(name in "([a-z0-9._/-]{0,20}|[ -~]{0,8}|\\PC{0,8}|(\\.|/|tmp|a){0,6})") {
        let is_key = !name.is_empty()
            && name.split('/').all(|component| {
                !["", ".", ".."].contains(&component)
                    && component.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
            })
            && name.split('/').next() != Some("tmp");
        check(&name, is_key);
    }

    #[test]
    fn a_key_stays_below_where_it_is_joined(name in "(\\.|/|a|tmp|-){1,9}") {
        prop_assume!(ObjectKey::new(name.as_str()).is_ok());
        let root = std::path::Path::new("/root");
        let joined = root.join(&name);
        prop_assert!(joined.starts_with(root) && joined != root);
        prop_assert!(joined.components().all(|part| part != std::path::Component::ParentDir));
        prop_assert_eq!(joined.strip_prefix(root).expect("below").to_str(), Some(name.as_str()));
    }
}
