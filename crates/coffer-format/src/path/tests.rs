use proptest::prelude::*;

use super::*;
use crate::support::cases_data;
use crate::testing::check;

#[test]
fn every_case() {
    check(&cases_data::path(), |_, bytes| check_path(bytes));
}

#[test]
fn is_within_a_folder() {
    for (path, folder, within) in [
        ("a/b", "a", true),
        ("a", "a", true),
        ("a", "", true),
        ("", "", true),
        ("ab", "a", false),
        ("a", "a/b", false),
        ("b/a", "a", false),
        ("", "a", false),
    ] {
        assert_eq!(is_within(path.as_bytes(), folder.as_bytes()), within, "{path} in {folder}");
    }
}

#[test]
fn shown_to_people() {
    assert_eq!(display_path("ä/b".as_bytes()), "ä/b");
    assert_eq!(display_path(b"a\\b\n\x1b\xff"), r"a\\b\x0a\x1b\xff");
    assert_eq!(display_path("\u{85}".as_bytes()), r"\xc2\x85");
}

/// Bytes of which many are separators or close to them.
fn any_path() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'/'), Just(b'.'), Just(b'-'), Just(b'a'), Just(0), any::<u8>()];
    proptest::collection::vec(byte, 0..12)
}

fn components(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').collect()
}

proptest! {
    #[test]
    fn comparison_is_that_of_components(a in any_path(), b in any_path()) {
        prop_assert_eq!(compare_paths(&a, &b), components(&a).cmp(&components(&b)));
    }

    #[test]
    fn comparison_with_a_common_beginning(a in any_path(), b in any_path(), c in any_path()) {
        let (b, c) = ([&a[..], &b].concat(), [&a[..], &c].concat());
        prop_assert_eq!(compare_paths(&b, &c), components(&b).cmp(&components(&c)));
    }

    #[test]
    fn a_path_is_one_that_its_components_allow(path in any_path()) {
        let sound = path.is_empty() || components(&path).iter().all(|part| {
            !part.is_empty() && *part != b"." && *part != b".." && !part.contains(&0)
        });
        prop_assert_eq!(check_path(&path).is_ok(), sound);
    }

    #[test]
    fn what_is_shown_has_no_control_characters(path in any_path()) {
        prop_assert!(!display_path(&path).chars().any(char::is_control));
    }
}
