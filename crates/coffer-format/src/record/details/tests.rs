use proptest::prelude::*;

use super::*;
use crate::support::{Case, cases};
use crate::testing::{check, check_cut, rule};

fn decode(case: &Case, bytes: &[u8]) -> Result<(), FormatError> {
    read(case.parameter("kind"), case.parameter("record_number") == 0, bytes).map(drop)
}

fn read(kind: u64, first: bool, bytes: &[u8]) -> Result<Details, FormatError> {
    Details::decode(RecordKind::from_number(kind).unwrap(), first, Some(bytes))
}

#[test]
fn every_case() {
    check(&cases::details(), decode);
    check_cut(&cases::details(), decode);
}

#[test]
fn what_is_read_is_written_alike() {
    for (kind, fields) in cases::details_fields() {
        let bytes = crate::support::map(&fields);
        assert_eq!(read(kind, false, &bytes).unwrap().encode().unwrap(), bytes, "kind {kind}");
    }
    let genesis = Details::Genesis { header: b"header".to_vec() };
    assert_eq!(read(9, true, &genesis.encode().unwrap()).unwrap(), genesis);
    let revoke = Details::Role(RoleAction::Revoke { key: [7; 32] });
    assert_eq!(read(11, false, &revoke.encode().unwrap()).unwrap(), revoke);
    assert_eq!(Details::None.encode(), None);
    assert_eq!(Details::Policy { minor: None }.encode().unwrap(), [0xa0]);
    assert_eq!(read(12, false, &[0xa0]).unwrap(), Details::Policy { minor: None });
}

#[test]
fn which_kinds_may_lack_them() {
    for kind in RecordKind::ALL {
        let none = Details::decode(kind, false, None);
        match kind {
            RecordKind::Snapshot | RecordKind::Progress | RecordKind::Slots => {
                assert_eq!(none, Ok(Details::None))
            }
            _ => assert_eq!(rule(&none.unwrap_err()), "they are absent", "{}", kind.name()),
        }
    }
    assert!(Details::decode(RecordKind::Slots, true, None).is_err());
}

#[test]
fn the_table_of_roles() {
    let signers = |kind: RecordKind| {
        [Role::Owner, Role::Maintainer, Role::Put, Role::Read].map(|role| role.may_sign(kind))
    };
    for kind in RecordKind::ALL {
        let expected = match kind.number() {
            1 | 2 => [true, false, true, false],
            18 => [true, true, true, false],
            3..=8 | 13 | 17 | 19 => [true, true, false, false],
            _ => [true, false, false, false],
        };
        assert_eq!(signers(kind), expected, "{}", kind.name());
    }
    assert_eq!([Role::Owner, Role::Maintainer, Role::Put, Role::Read].map(Role::number), [1, 2, 3, 4]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(kind in 1_u64..=19, first in any::<bool>(), bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = read(kind, first, &bytes);
    }

    #[test]
    fn a_changed_byte_does_not_panic(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let all = cases::details_fields();
        let (kind, fields) = &all[which.index(all.len())];
        let mut bytes = crate::support::map(fields);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(details) = read(*kind, false, &bytes) {
            let again = details.encode();
            prop_assert_eq!(Details::decode(RecordKind::from_number(*kind).unwrap(), false, again.as_deref()).unwrap(), details);
        }
    }
}

/// Found by the fuzzer: in record 0, kinds without details were read as if they had some.
#[test]
fn a_kind_without_details_has_none_in_record_0_either() {
    let empty = [0xa0];
    for kind in [1, 2] {
        for first in [false, true] {
            read(kind, first, &empty).unwrap_err();
            assert_eq!(
                Details::decode(RecordKind::from_number(kind).unwrap(), first, None),
                Ok(Details::None)
            );
        }
    }
}
