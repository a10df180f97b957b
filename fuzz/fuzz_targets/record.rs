//! A log record object, its public part, its sealed body, and the padding inside that.
#![no_main]

use coffer_format::record::{Public, Record, SealedBody, pad_body, unpad_body};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(public) = Public::decode(data) {
        assert_eq!(public.encode(), data);
    }
    if let Ok(cbor) = unpad_body(data) {
        assert_eq!(pad_body(cbor).as_deref(), Ok(data));
    }
    let Ok(record) = Record::decode(data) else { return };
    assert_eq!(record.public.encode(), record.public_bytes);
    assert_eq!(Record::assemble(record.public_bytes, record.body, &record.signature).as_deref(), Ok(data));
    if let Ok(body) = SealedBody::decode(record.body) {
        assert_eq!([&body.salt[..], body.enc, body.commitment, body.sealed].concat(), record.body);
    }
});
