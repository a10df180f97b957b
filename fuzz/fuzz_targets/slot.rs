//! A key slot: what is accepted has one encoding, and a context that is part of it.
#![no_main]

use coffer_format::slot::Slot;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(slot) = Slot::decode(data) {
        assert_eq!(slot.encode(), data);
        assert!(slot.context().len() < data.len());
    }
});
