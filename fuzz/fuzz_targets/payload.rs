//! The payload of a compressed frame: `u32` plain length, then the payload.
#![no_main]

use std::cell::RefCell;

use coffer_pipeline::compress::Decompressor;
use libfuzzer_sys::fuzz_target;

thread_local! {
    // Kept between inputs, as a reader keeps it between frames: no payload may leave anything behind for the next.
    static KEPT: RefCell<(Decompressor, Vec<u8>)> =
        RefCell::new((Decompressor::new().expect("memory for a context"), Vec::new()));
}

fuzz_target!(|data: &[u8]| {
    let Some((len, payload)) = data.split_first_chunk() else { return };
    let len = u32::from_le_bytes(*len);
    KEPT.with_borrow_mut(|(decompressor, out)| {
        let first = decompressor.replace(payload, len, out).is_ok();
        assert_eq!(out.len(), if first { len as usize } else { 0 });
        if first {
            assert!((1..=1 << 24).contains(&len));
            let plain = out.clone();
            // One frame of one length: no other length is taken, nor a byte more or less.
            assert!(decompressor.replace(payload, len + 1, out).is_err());
            assert!(decompressor.replace(payload, len - 1, out).is_err());
            assert!(decompressor.replace(&payload[..payload.len() - 1], len, out).is_err());
            assert!(decompressor.replace(&[payload, &[0]].concat(), len, out).is_err());
            assert!(decompressor.replace(payload, len, out).is_ok());
            assert_eq!(*out, plain);
        }
    });
});
