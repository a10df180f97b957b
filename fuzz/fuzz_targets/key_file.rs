//! A key file; `@` stands for a key, whose checksum would not be found by trying.
#![no_main]

use coffer_keys::KeyFile;
use libfuzzer_sys::fuzz_target;

const KEY: &[u8] = b"COFFER-KEY-1-1a0d12016999e47689dae5744d2b8c1903faf7ca2886a658150083100ef2c8eee7b3e911";

fuzz_target!(|data: &[u8]| {
    let data = data.split(|byte| *byte == b'@').collect::<Vec<_>>().join(KEY);
    let Ok(key) = KeyFile::parse(&data) else { return };
    assert!(data.len() <= 4096);
    // The same key, with comments or without, is the same file.
    let text = key.to_text();
    let again = KeyFile::parse(text.expose()).expect("what is written can be read");
    assert_eq!(again.key_id(), key.key_id());
    assert_eq!(again.to_text(), text);
    let line = text.expose().split(|byte| *byte == b'\n').find(|line| line.starts_with(b"COFFER-KEY-1-"));
    let line = line.expect("the file has its key");
    assert!(
        data.windows(line.len()).any(|window| window == line),
        "the key stands in the input as it is written"
    );
    let spaced = [b"\r\n# \xff\n  ", line, b"\t \r"].concat();
    assert_eq!(KeyFile::parse(&spaced).expect("white space is ignored").key_id(), key.key_id());
    assert!(KeyFile::parse(&[line, b"\n", line].concat()).is_err(), "two keys");
});
