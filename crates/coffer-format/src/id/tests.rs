use proptest::prelude::*;

use super::*;

#[test]
fn text_forms() {
    let id = PackId(*blake3::hash(b"x").as_bytes());
    assert_eq!(id.to_string().parse::<PackId>().unwrap(), id);
    assert_eq!(id.to_string().len(), 64);
    assert_eq!(id.short(), id.to_string()[..8]);
    assert_eq!(format!("{id:?}"), format!("PackId({})", id.short()));
    for text in [
        "",
        &id.to_string()[1..],
        &id.to_string().to_uppercase(),
        &format!("{id}0"),
        &"g".repeat(64),
        &"é".repeat(32),
    ] {
        assert!(text.parse::<PackId>().is_err(), "{text}");
    }
}

#[test]
fn heads() {
    let head = Head { number: 12, chain: [0xab; 32] };
    let text = format!("12:{}", "ab".repeat(32));
    assert_eq!((head.to_string(), text.parse::<Head>().unwrap()), (text.clone(), head));
    for text in [
        text.replace(':', ""),
        text.replace("12", "+12"),
        text.replace("12", ""),
        text.replace("12", "-1"),
        text[..60].to_owned(),
        text.to_uppercase(),
    ] {
        assert!(text.parse::<Head>().is_err(), "{text}");
    }
}

#[test]
fn domains_name_their_epoch() {
    let domain = DomainId::owner(0x0102);
    assert_eq!(
        (domain.epoch(), domain.0[..4].to_vec(), domain.0[4..].to_vec()),
        (0x0102, vec![2, 1, 0, 0], vec![0; 12])
    );
    assert_eq!(domain.to_string(), "02010000000000000000000000000000");
}

proptest! {
    #[test]
    fn hex_round_trip(bytes in any::<[u8; 32]>()) {
        prop_assert_eq!(unhex::<32>(&hex(&bytes)), Some(bytes));
    }

    #[test]
    fn unhex_takes_only_what_hex_writes(text in "[0-9a-fA-Fg]{0,10}") {
        if let Some(bytes) = unhex::<4>(&text) {
            prop_assert_eq!(hex(&bytes), text);
        }
    }
}
