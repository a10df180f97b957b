//! The footer of a pack: `u64` length of the pack, then its plaintext.
#![no_main]

use coffer_format::pack::{Footer, PACK_FOOTER_LEN, PACK_HEAD_LEN};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((pack_len, bytes)) = data.split_first_chunk() else { return };
    let pack_len = u64::from_le_bytes(*pack_len);
    if let Ok(footer) = Footer::decode(bytes, pack_len) {
        assert_eq!(footer.encode()[..], *bytes);
        assert!(footer.directory_offset >= PACK_HEAD_LEN);
        assert_eq!(footer.directory_offset + footer.directory_sealed_len + PACK_FOOTER_LEN, pack_len);
        assert!(footer.directory_plain_len < footer.directory_sealed_len);
    }
});
