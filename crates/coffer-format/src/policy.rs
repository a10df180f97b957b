//! The body of a policy record: settings by name (specification section 9.12).

use std::collections::BTreeMap;

use crate::cbor::{Decoder, Encoder};
use crate::error::FormatError;
use crate::limits::RECORD_PART_LEN_MAX;

const OBJECT: &str = "body of a policy";

/// Most settings in a policy.
pub const SETTING_COUNT_MAX: u64 = 1024;

/// The CBOR of a policy with these settings.
#[must_use]
pub fn encode_policy(settings: &BTreeMap<String, String>) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.map(|map| {
        let list = map.key(1);
        list.array(settings.len());
        for (name, value) in settings {
            list.array(2);
            list.text(name);
            list.text(value);
        }
    });
    encoder.finish()
}

/// Reads the CBOR of a policy. Of one name the last value counts.
///
/// # Errors
/// [`FormatError`].
pub fn decode_policy(bytes: &[u8]) -> Result<BTreeMap<String, String>, FormatError> {
    let mut decoder = Decoder::new(OBJECT, bytes);
    let d = &mut decoder;
    let mut map = d.map()?;
    let mut settings = BTreeMap::new();
    let mut is_there = false;
    while let Some(key) = map.next_key(d)? {
        if key != 1 {
            d.raw()?;
            continue;
        }
        is_there = true;
        for _ in 0..d.array(SETTING_COUNT_MAX)? {
            if d.array(2)? != 2 {
                return Err(d.fail("a setting has a name and a value"));
            }
            let name = d.text(RECORD_PART_LEN_MAX)?.to_owned();
            settings.insert(name, d.text(RECORD_PART_LEN_MAX)?.to_owned());
        }
    }
    decoder.finish()?;
    if is_there { Ok(settings) } else { Err(FormatError::rule(OBJECT, "it has no settings")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_and_nothing_else_is_taken_for_them() {
        let settings = BTreeMap::from([
            ("lock.days".to_owned(), "30".to_owned()),
            ("lock.mode".to_owned(), "compliance".to_owned()),
        ]);
        let bytes = encode_policy(&settings);
        assert_eq!(decode_policy(&bytes).expect("settings"), settings);
        let later_wins =
            [&[0xa1, 1, 0x82][..], &[0x82, 0x61, b'a', 0x61, b'1'], &[0x82, 0x61, b'a', 0x61, b'2']].concat();
        assert_eq!(decode_policy(&later_wins).expect("settings")["a"], "2");
        for wrong in [
            &bytes[..bytes.len() - 1],
            &[0xa0],
            &[0xa1, 1, 0x81, 0x81, 0x61, b'a'],
            &[0xa1, 1, 0x81, 0x82, 1, 2],
            b"",
        ] {
            decode_policy(wrong).expect_err("no settings");
        }
    }
}
