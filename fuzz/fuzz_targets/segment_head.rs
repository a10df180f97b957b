//! The head of an index segment: `u64` length of the object, then its first bytes.
#![no_main]

use coffer_format::index::{SEGMENT_HEAD_LEN, SegmentHead};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((object_len, bytes)) = data.split_first_chunk() else { return };
    let object_len = u64::from_le_bytes(*object_len);
    if let Ok(head) = SegmentHead::decode(bytes, object_len) {
        assert_eq!(head.encode()[..], bytes[..104]);
        let mut at = SEGMENT_HEAD_LEN + head.pack_table_len();
        for table in [head.frame_table(), head.chunk_table()] {
            for page in 0..table.page_count() {
                let (offset, sealed_len) = table.page(page);
                assert_eq!(offset, at);
                at += sealed_len;
            }
        }
        assert_eq!(at, object_len);
    }
});
