use proptest::prelude::*;

use super::*;

#[test]
fn names_round_trip() {
    let id = *blake3::hash(b"x").as_bytes();
    for name in [
        ObjectName::Header,
        ObjectName::Store,
        ObjectName::Slot(SlotId(id)),
        ObjectName::Record(0),
        ObjectName::Record(LOG_NUMBER_MAX),
        ObjectName::Pack(PackId(id)),
        ObjectName::Segment(SegmentId(id)),
    ] {
        assert_eq!(ObjectName::parse(&name.to_string()), Some(name));
    }
    assert_eq!(ObjectName::Record(7).to_string(), "log/000000000007");
    let hex = hex(&id);
    assert_eq!(ObjectName::Pack(PackId(id)).to_string(), format!("packs/{}/{hex}", &hex[..2]));
}

#[test]
fn other_names_are_nothing() {
    let hex = hex(blake3::hash(b"x").as_bytes());
    let wrong_folder = if hex.starts_with("00") { "01" } else { "00" };
    for name in [
        String::new(),
        "vault/".to_owned(),
        "Vault".to_owned(),
        "log/".to_owned(),
        "log/00000000000".to_owned(),
        "log/0000000000000".to_owned(),
        "log/00000000000a".to_owned(),
        "log/+00000000001".to_owned(),
        format!("slots/{}", &hex[1..]),
        format!("slots/{}", hex.to_uppercase()),
        format!("index/{hex}/"),
        format!("packs/{hex}"),
        format!("packs/{wrong_folder}/{hex}"),
        format!("packs/{}/{}", &hex[..2], &hex[..62]),
        "packs/é/é".to_owned(),
        "probe/x".to_owned(),
        format!("tmp/{hex}"),
    ] {
        assert_eq!(ObjectName::parse(&name), None, "{name}");
    }
}

proptest! {
    #[test]
    fn what_is_parsed_is_written_alike(name in "(vault|log/|slots/|index/|packs/)?[0-9a-f/é]{0,70}") {
        if let Some(parsed) = ObjectName::parse(&name) {
            prop_assert_eq!(parsed.to_string(), name);
        }
    }
}
