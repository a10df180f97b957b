use proptest::prelude::*;

use super::*;
use crate::support::{cases, with};
use crate::testing::{check, check_cut, rule};

fn decode(bytes: &[u8]) -> Result<(), FormatError> {
    let mut d = Decoder::new("test", bytes);
    d.raw()?;
    d.finish()
}

/// Writes again what stands at the decoder, through the typed methods.
fn copy(d: &mut Decoder<'_>, e: &mut Encoder) {
    match d.peek_major().unwrap() {
        UINT => e.uint(d.uint().unwrap()),
        NEGATIVE => e.int(d.int().unwrap()),
        BYTES => e.bytes(d.bytes(u64::MAX).unwrap()),
        TEXT => e.text(d.text(u64::MAX).unwrap()),
        ARRAY => {
            let count = d.array(u64::MAX).unwrap();
            e.array(count);
            (0..count).for_each(|_| copy(d, e));
        }
        MAP => {
            let mut map = d.map().unwrap();
            e.map(|out| {
                while let Some(key) = map.next_key(d).unwrap() {
                    copy(d, out.key(key));
                }
            });
        }
        _ => e.bool(d.bool().unwrap()),
    }
}

#[test]
fn every_rule_of_the_profile() {
    check(&cases::cbor(), |_, bytes| decode(bytes));
    check_cut(&cases::cbor(), |_, bytes| decode(bytes));
}

#[test]
fn heads_are_shortest_at_every_boundary() {
    for (value, len) in [
        (0, 1),
        (23, 1),
        (24, 2),
        (0xff, 2),
        (0x100, 3),
        (0xffff, 3),
        (0x1_0000, 5),
        (0xffff_ffff, 5),
        (0x1_0000_0000, 9),
        (u64::MAX, 9),
    ] {
        let mut e = Encoder::new();
        e.uint(value);
        let bytes = e.finish();
        assert_eq!((bytes.len(), Decoder::new("test", &bytes).uint().unwrap()), (len, value));
        assert_eq!(bytes, crate::support::uint(value));
    }
}

#[test]
fn a_type_is_not_taken_for_another() {
    let of = |bytes: &'static [u8]| Decoder::new("test", bytes);
    assert_eq!(rule(&of(b"\x20").uint().unwrap_err()), "an unsigned integer is expected");
    assert_eq!(rule(&of(b"\x41a").text(9).unwrap_err()), "a text string is expected");
    assert_eq!(rule(&of(b"\x61a").bytes(9).unwrap_err()), "a byte string is expected");
    assert_eq!(rule(&of(b"\xa0").array(9).unwrap_err()), "an array is expected");
    assert_eq!(rule(&of(b"\x80").map().unwrap_err()), "a map is expected");
    assert_eq!(rule(&of(b"\x01").bool().unwrap_err()), "a truth value is expected");
    assert_eq!(rule(&of(b"\x40").int().unwrap_err()), "an integer is expected");
    assert_eq!(rule(&of(b"").int().unwrap_err()), "an integer is expected");
}

#[test]
fn limits_of_the_caller_hold() {
    let of = |bytes: &'static [u8]| Decoder::new("test", bytes);
    assert_eq!(of(b"\x42ab").bytes(2).unwrap(), b"ab");
    assert!(of(b"\x42ab").bytes(1).is_err());
    assert!(of(b"\x62ab").text(1).is_err());
    assert_eq!(of(b"\x82\x00\x00").array(2).unwrap(), 2);
    assert!(of(b"\x82\x00\x00").array(1).is_err());
    assert_eq!(of(b"\x42ab").fixed::<2>().unwrap(), *b"ab");
    assert!(of(b"\x42ab").fixed::<1>().is_err());
    assert!(of(b"\x42ab").fixed::<3>().is_err());
    assert_eq!(of(b"\x1a\xff\xff\xff\xff").uint32().unwrap(), u32::MAX);
    assert!(of(b"\x1b\x00\x00\x00\x01\x00\x00\x00\x00").uint32().is_err());
}

#[test]
fn nesting_counts_what_is_around_the_value() {
    let nested = |levels: usize| [vec![0x81; levels - 1], vec![0x80]].concat();
    assert!(Decoder::new("test", &nested(14)).raw_within(2).is_ok());
    assert!(Decoder::new("test", &nested(15)).raw_within(2).is_err());
    assert!(Decoder::new("test", b"\x00").raw_within(16).is_ok());
}

#[test]
fn names_must_ascend() {
    let list = |names: &[[u8; 32]]| {
        crate::support::array(&names.iter().map(|name| crate::support::bytes(name)).collect::<Vec<_>>())
    };
    assert_eq!(names(&mut Decoder::new("test", &list(&[[1; 32], [2; 32]])), 2).unwrap(), [[1; 32], [2; 32]]);
    assert!(names(&mut Decoder::new("test", &list(&[[1; 32], [2; 32]])), 1).is_err());
    assert!(names(&mut Decoder::new("test", &list(&[[1; 32], [1; 32]])), 2).is_err());
    assert!(names(&mut Decoder::new("test", &list(&[[2; 32], [1; 32]])), 2).is_err());
}

#[test]
fn unknown_keys_are_written_where_they_were() {
    let fields = with(&with(&[(5, vec![5])], 0, Some(vec![0x81, 1])), 9, Some(vec![0xf5]));
    let bytes = crate::support::map(&fields);
    let (mut d, mut unknown) = (Decoder::new("test", &bytes), Unknown::default());
    let mut map = d.map().unwrap();
    while let Some(key) = map.next_key(&mut d).unwrap() {
        if key == 5 { drop(d.uint()) } else { unknown.keep(key, &mut d, 1).unwrap() }
    }
    let mut e = Encoder::new();
    e.map(|map| {
        unknown.write_low(map);
        map.key(5).uint(5);
        unknown.write(map);
    });
    assert_eq!(e.finish(), bytes);
}

#[test]
#[should_panic(expected = "map keys ascend")]
fn a_writer_cannot_repeat_a_key() {
    Encoder::new().map(|map| {
        map.key(1).uint(0);
        map.key(1).uint(0);
    });
}

#[test]
#[should_panic(expected = "at most 23 keys")]
fn a_writer_cannot_write_24_keys() {
    Encoder::new().map(|map| (0..24).for_each(|key| map.key(key).uint(0)));
}

/// Any value of the profile, encoded.
pub(crate) fn any_value() -> impl Strategy<Value = Vec<u8>> {
    use crate::support::{array, boolean, bytes, int, map, text, uint};
    let leaf = prop_oneof![
        any::<u64>().prop_map(uint),
        (0..300_u64).prop_map(uint),
        any::<i64>().prop_map(int),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|value| bytes(&value)),
        ".{0,12}".prop_map(|value| text(&value)),
        any::<bool>().prop_map(boolean),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(|items| array(&items)),
            proptest::collection::btree_map(any::<u64>(), inner, 0..6)
                .prop_map(|fields| map(&fields.into_iter().collect::<Vec<_>>())),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_is_accepted_and_written_alike(bytes in any_value()) {
        prop_assert!(decode(&bytes).is_ok());
        let mut e = Encoder::new();
        copy(&mut Decoder::new("test", &bytes), &mut e);
        prop_assert_eq!(e.finish(), bytes);
    }

    #[test]
    fn whatever_is_accepted_is_written_alike(mut bytes in any_value(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if decode(&bytes).is_ok() {
            let mut e = Encoder::new();
            copy(&mut Decoder::new("test", &bytes), &mut e);
            prop_assert_eq!(e.finish(), bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if decode(&bytes).is_ok() {
            let mut e = Encoder::new();
            copy(&mut Decoder::new("test", &bytes), &mut e);
            prop_assert_eq!(e.finish(), bytes);
        }
    }

    #[test]
    fn integers_round_trip(value in any::<i64>()) {
        let mut e = Encoder::new();
        e.int(value);
        let bytes = e.finish();
        prop_assert_eq!(&bytes, &crate::support::int(value));
        prop_assert_eq!(Decoder::new("test", &bytes).int().unwrap(), value);
    }
}
