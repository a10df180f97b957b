//! Lists: complete whatever their order.

use std::collections::BTreeSet;

use super::client::Desk;

fn filled() -> (Desk, BTreeSet<String>) {
    let desk = Desk::with_bucket("bucket");
    let keys: BTreeSet<String> = (0..25).map(|number| format!("log/{number:03}")).collect();
    for key in &keys {
        desk.put(&format!("/bucket/{key}"), b"x").expect(200);
    }
    desk.put("/bucket/top", b"x").expect(200);
    (desk, keys)
}

/// All pages of a list, with what asks for the next one.
fn all(desk: &Desk, first: &str, next: impl Fn(&super::client::Answer) -> String) -> Vec<String> {
    let mut found = Vec::new();
    let mut target = first.to_owned();
    loop {
        let page = desk.get(&target).expect(200);
        found.extend(page.elements("Key"));
        if page.element("IsTruncated").unwrap() == "false" {
            return found;
        }
        target = format!("{first}{}", next(&page));
    }
}

#[test]
fn pages_are_complete_and_not_in_the_order_of_names() {
    let (desk, keys) = filled();
    let second = all(&desk, "/bucket?list-type=2&prefix=log/&max-keys=4", |page| {
        format!("&continuation-token={}", page.element("NextContinuationToken").unwrap())
    });
    let first = all(&desk, "/bucket?prefix=log/&max-keys=4", |page| {
        format!("&marker={}", page.element("NextMarker").unwrap())
    });
    let versions = all(&desk, "/bucket?versions&prefix=log/&max-keys=4", |page| {
        let key = page.element("NextKeyMarker").unwrap();
        format!("&key-marker={key}&version-id-marker={}", page.element("NextVersionIdMarker").unwrap())
    });
    for found in [first, second, versions] {
        assert_eq!(found.len(), keys.len(), "nothing twice");
        assert!(!found.is_sorted(), "{found:?}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), keys);
    }
}

#[test]
fn sorted_lists_are_a_switch() {
    let (desk, keys) = filled();
    desk.sandbox.switch(|switches| switches.is_list_unsorted = false).unwrap();
    let found = all(&desk, "/bucket?list-type=2&prefix=log/&max-keys=7", |page| {
        format!("&continuation-token={}", page.element("NextContinuationToken").unwrap())
    });
    assert_eq!(found, keys.into_iter().collect::<Vec<_>>());
    let after = desk.get("/bucket?list-type=2&prefix=log/&start-after=log/022").expect(200);
    assert_eq!(after.elements("Key"), ["log/023", "log/024"]);
    assert_eq!(after.element("KeyCount").unwrap(), "2");
}

#[test]
fn delimiters_fold_keys_into_prefixes() {
    let (desk, _) = filled();
    for is_unsorted in [true, false] {
        desk.sandbox.switch(|switches| switches.is_list_unsorted = is_unsorted).unwrap();
        let page = desk.get("/bucket?list-type=2&delimiter=/").expect(200);
        assert_eq!(page.elements("Key"), ["top"]);
        assert_eq!(page.elements("CommonPrefixes"), ["<Prefix>log/</Prefix>"]);
        let one = desk.get("/bucket?list-type=2&delimiter=/&max-keys=1").expect(200);
        let token = one.element("NextContinuationToken").unwrap();
        let two = desk.get(&format!("/bucket?list-type=2&delimiter=/&max-keys=1&continuation-token={token}"));
        let count =
            |page: &super::client::Answer| page.elements("Key").len() + page.elements("CommonPrefixes").len();
        assert_eq!((count(&one), count(&two)), (1, 1));
        assert_ne!(one.elements("Key"), two.elements("Key"));
        assert_eq!(two.element("IsTruncated").unwrap(), "false");
    }
    let none = desk.get("/bucket?list-type=2&max-keys=0").expect(200);
    assert_eq!((none.elements("Key").len(), &*none.element("IsTruncated").unwrap()), (0, "false"));
}

#[test]
fn odd_keys_are_encoded_if_asked() {
    let desk = Desk::with_bucket("bucket");
    desk.put("/bucket/a%20%2B%26%C3%BC", b"x").expect(200);
    assert_eq!(desk.get("/bucket?list-type=2").elements("Key"), ["a +&amp;ü"]);
    let encoded = desk.get("/bucket?list-type=2&encoding-type=url");
    assert_eq!(encoded.elements("Key"), ["a%20%2B%26%C3%BC"]);
    assert_eq!(encoded.element("EncodingType").unwrap(), "url");
}
