use proptest::prelude::*;

use super::*;

fn path(bytes: &[u8]) -> EntryPath {
    EntryPath::new(bytes).unwrap()
}

fn check_fault(bytes: &[u8], expected: PathFault) {
    match EntryPath::new(bytes) {
        Err(CollectError::InvalidPath { fault, .. }) => assert_eq!(fault, expected, "{}", escape(bytes)),
        other => panic!("{} gave {other:?}", escape(bytes)),
    }
}

/// Reads back what `Display` printed.
fn unescape(shown: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), shown.as_bytes());
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, after) = match (first, tail.first()) {
            (b'\\', Some(b'\\')) => (b'\\', &tail[1..]),
            (b'\\', Some(b'x')) => {
                let digits = std::str::from_utf8(&tail[1..3]).unwrap();
                (u8::from_str_radix(digits, 16).unwrap(), &tail[3..])
            }
            _ => (first, tail),
        };
        bytes.push(byte);
        rest = after;
    }
    bytes
}

#[test]
fn refuses_what_is_not_normal() {
    check_fault(b"/", PathFault::Absolute);
    check_fault(b"/a", PathFault::Absolute);
    check_fault(b"a/", PathFault::EmptyComponent);
    check_fault(b"a//b", PathFault::EmptyComponent);
    check_fault(b".", PathFault::DotComponent);
    check_fault(b"..", PathFault::DotComponent);
    check_fault(b"a/../b", PathFault::DotComponent);
    check_fault(b"a/./b", PathFault::DotComponent);
    check_fault(b"../a", PathFault::DotComponent);
    check_fault(b"a/b\0c", PathFault::ForbiddenByte);
    check_fault(&[b'x'; COMPONENT_LEN_MAX + 1], PathFault::ComponentTooLong);
    check_fault(&b"ab/".repeat(30_000), PathFault::TooLong);
}

#[test]
fn takes_the_limits_themselves() {
    assert_eq!(path(&[b'x'; COMPONENT_LEN_MAX]).components().count(), 1);
    let mut long = b"abc/".repeat(PATH_LEN_MAX / 4);
    long.extend_from_slice(b"end");
    assert_eq!(long.len(), PATH_LEN_MAX);
    assert!(path(&long).join(b"x").is_err());
    assert_eq!(path(&long).file_name(), Some(&b"end"[..]));
    assert_eq!(path(b"...").as_bytes(), b"...");
}

#[test]
fn joins_and_takes_apart() {
    let root = EntryPath::root();
    assert!(root.is_root() && root.parent().is_none() && root.file_name().is_none());
    assert_eq!(root.components().count(), 0);
    let deep = root.join(b"a").unwrap().join(b"b c").unwrap();
    assert_eq!(deep, path(b"a/b c"));
    assert_eq!(deep.parent(), Some(path(b"a")));
    assert_eq!(deep.parent().unwrap().parent(), Some(root.clone()));
    assert_eq!(deep.file_name(), Some(&b"b c"[..]));
    for name in [&b".."[..], b".", b"", b"a/b", b"a\0", &[b'x'; COMPONENT_LEN_MAX + 1]] {
        assert!(deep.join(name).is_err(), "{}", escape(name));
    }
    assert!(deep.starts_with(&root) && deep.starts_with(&path(b"a")) && deep.starts_with(&deep));
    assert!(!path(b"ab").starts_with(&path(b"a")) && !path(b"a").starts_with(&deep));
}

#[test]
fn shows_odd_bytes_on_one_line() {
    assert_eq!(EntryPath::root().to_string(), ".");
    assert_eq!(path("a/\u{e9} b".as_bytes()).to_string(), "a/\u{e9} b");
    assert_eq!(path(b"a\n\x1b[2J\xff\\").to_string(), "a\\x0a\\x1b[2J\\xff\\\\");
    assert_eq!(path("x\u{202e}y".as_bytes()).to_string(), "x\\xe2\\x80\\xaey");
}

#[test]
fn orders_a_directory_before_its_children_before_longer_names() {
    let sorted = [&b""[..], b"a", b"a/b", b"a/b/c", b"a/b!", b"a!", b"a-", b"a0", b"ab"];
    let paths: Vec<EntryPath> = sorted.iter().map(|p| path(p)).collect();
    assert!(paths.is_sorted());
}

fn component() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'a'), Just(b'!'), Just(b'\\'), Just(0x01), Just(0xff), 1u8..=255];
    prop::collection::vec(byte, 1..5).prop_filter("one component", |c| check_component(c).is_ok())
}

fn components() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(component(), 0..5)
}

proptest! {
    #[test]
    fn order_is_that_of_components(a in components(), b in components()) {
        let (left, right) = (path(&a.join(&b'/')), path(&b.join(&b'/')));
        prop_assert_eq!(left.cmp(&right), a.cmp(&b));
        prop_assert_eq!(left == right, a == b);
    }

    #[test]
    fn display_is_lossless(a in components()) {
        let bytes = a.join(&b'/');
        if !bytes.is_empty() {
            let shown = path(&bytes).to_string();
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert_eq!(unescape(&shown), bytes);
        }
    }

    #[test]
    fn components_join_to_the_same(a in components()) {
        let joined = a.iter().try_fold(EntryPath::root(), |p, c| p.join(c)).unwrap();
        prop_assert_eq!(joined.components().map(<[u8]>::to_vec).collect::<Vec<_>>(), a);
    }
}
