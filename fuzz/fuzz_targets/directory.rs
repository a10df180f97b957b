//! The directory of a pack: `u64` offset of the directory, then its plaintext without zeros. Also heads of frames.
#![no_main]

use coffer_format::pack::{Directory, FrameHead};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok((head, payload)) = FrameHead::decode(data) {
        assert_eq!([&head.encode()[..], payload].concat(), data);
    }
    let Some((offset, bytes)) = data.split_first_chunk() else { return };
    if let Ok(directory) = Directory::decode(bytes, u64::from_le_bytes(*offset)) {
        let mut again = Vec::new();
        assert_eq!(directory.encode(&mut again), Ok(()));
        assert_eq!(again, bytes);
        let chunk_count = directory.frames.iter().map(|frame| frame.chunks.len()).sum();
        assert_eq!(Directory::plain_len(directory.frames.len(), chunk_count), bytes.len());
    }
});
