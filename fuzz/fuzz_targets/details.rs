//! Details of a record: `u64` kind, `u64` number of the record, then the map.
#![no_main]

use coffer_format::record::{Details, RecordKind};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first_chunk() else { return };
    let Some((number, bytes)) = rest.split_first_chunk() else { return };
    let Some(kind) = RecordKind::from_number(u64::from_le_bytes(*kind)) else { return };
    let first = u64::from_le_bytes(*number) == 0;
    if let Ok(details) = Details::decode(kind, first, Some(bytes)) {
        let again = details.encode();
        assert!(again.as_ref().is_none_or(|again| again == bytes || again.len() < bytes.len()));
        assert_eq!(Details::decode(kind, first, again.as_deref()), Ok(details));
    }
});
