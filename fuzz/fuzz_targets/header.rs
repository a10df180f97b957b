//! The object `vault`. Keys that this version skips are not kept, so only then the bytes may become fewer.
#![no_main]

use coffer_format::header::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(header) = Header::decode(data) {
        let again = header.encode();
        assert!(again == data || again.len() < data.len());
        assert_eq!(Header::decode(&again), Ok(header));
    }
});
