//! A writer credential. A `@` in the input stands for the content behind it with a right check, which would not be found by trying.
#![no_main]

use coffer_crypto::wrap::writer_checksum;
use coffer_format::id::hex;
use coffer_keys::WriterCredential;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let data = match data.iter().position(|byte| *byte == b'@') {
        Some(at) => {
            let (before, content) = (&data[..at], &data[at + 1..]);
            let line = format!("COFFER-WRITER-1-{}{}", hex(content), hex(&writer_checksum(content)));
            [before, line.as_bytes()].concat()
        }
        None => data.to_vec(),
    };
    let Ok(credential) = WriterCredential::parse(&data) else { return };
    assert!(data.len() <= 4096);
    let text = credential.to_text();
    let again = WriterCredential::parse(text.expose()).expect("what is written can be read");
    assert_eq!(again.verifying_key(), credential.verifying_key());
    assert_eq!((again.name(), again.vault()), (credential.name(), credential.vault()));
    assert_eq!(again.to_text(), text);
    assert!(!credential.name().is_empty() && !credential.name().chars().any(char::is_control));
});
