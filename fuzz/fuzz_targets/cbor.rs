//! Any value of the CBOR profile: what is accepted has one encoding.
#![no_main]

use coffer_format::cbor::{Decoder, Encoder};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut d = Decoder::new("fuzz", data);
    if d.raw().is_ok() && d.finish().is_ok() {
        let mut e = Encoder::new();
        copy(&mut Decoder::new("fuzz", data), &mut e);
        assert_eq!(e.finish(), data);
    }
});

/// Writes again, through the typed methods, the sound value that stands at the decoder.
fn copy(d: &mut Decoder<'_>, e: &mut Encoder) {
    if d.at_array() {
        let count = d.array(u64::MAX).expect("an array");
        e.array(count);
        return (0..count).for_each(|_| copy(d, e));
    }
    if d.clone().map().is_ok() {
        let mut map = d.map().expect("a map");
        return e.map(|out| {
            while let Some(key) = map.next_key(d).expect("a key") {
                copy(d, out.key(key));
            }
        });
    }
    let one = d.clone();
    d.raw().expect("a value");
    if let Ok(value) = one.clone().uint() {
        e.uint(value);
    } else if let Ok(value) = one.clone().int() {
        e.int(value);
    } else if let Ok(value) = one.clone().bytes(u64::MAX) {
        e.bytes(value);
    } else if let Ok(value) = one.clone().text(u64::MAX) {
        e.text(value);
    } else {
        e.bool(one.clone().bool().expect("a truth value"));
    }
}
