//! The sealed body of a record, and the padding inside it.
#![no_main]

use coffer_format::record::{SealedBody, pad_body, unpad_body};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match SealedBody::decode(data) {
        Ok(body) => {
            assert_eq!([&body.salt[..], body.enc, body.commitment, body.sealed].concat(), data);
        }
        Err(_) => assert!(data.len() < 1184),
    }
    // The plaintext in a body ends where its padding says, and in one way only.
    if let Ok(cbor) = unpad_body(data) {
        assert_eq!(pad_body(cbor).as_deref(), Ok(data));
    }
    let padded = pad_body(data).expect("an input is far below the limit");
    assert!(padded.len().is_multiple_of(512) && padded.len() - data.len() < 516);
    assert_eq!(unpad_body(&padded), Ok(data));
});
