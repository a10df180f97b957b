use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::testing::{random, text};

fn compress(compression: Compression, plain: &[u8]) -> (Codec, Vec<u8>) {
    let mut out = Vec::new();
    let codec = Compressor::new(compression).unwrap().append(plain, &mut out).unwrap();
    (codec, out)
}

/// What `payload` yields as `plain_len` bytes; checks that nothing is left behind by a refusal.
fn decompress(payload: &[u8], plain_len: u32) -> Option<Vec<u8>> {
    let mut out = vec![0xee; 7];
    match Decompressor::new().unwrap().replace(payload, plain_len, &mut out) {
        Ok(()) => {
            assert_eq!(out.len(), plain_len as usize);
            Some(out)
        }
        Err(PipelineError::Decompress { plain_len: named }) => {
            assert_eq!(named, plain_len);
            assert!(out.is_empty());
            None
        }
        Err(other) => panic!("{other}"),
    }
}

fn len32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}

fn plains() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..4096),
        prop::collection::vec(0..3_u8, 0..4096),
        (prop::collection::vec(any::<u8>(), 1..64), 1..400_usize)
            .prop_map(|(unit, count)| unit.repeat(count)),
        (0..400_000_usize).prop_map(text),
        (0..400_000_usize).prop_map(|len| random("plain", len)),
    ]
}

fn compressions() -> impl Strategy<Value = Compression> {
    prop_oneof![
        Just(Compression::Auto),
        Just(Compression::Off),
        (1..=6_u8).prop_map(Compression::Level),
        Just(Compression::Level(19)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// One compressor after the other, as a backup uses them: no frame depends on what came before.
    #[test]
    fn what_is_compressed_comes_back(
        compression in compressions(),
        plains in prop::collection::vec(plains(), 1..4),
        before in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut compressor = Compressor::new(compression).unwrap();
        let mut decompressor = Decompressor::new().unwrap();
        let mut plain_again = Vec::new();
        for plain in plains {
            let mut out = before.clone();
            let codec = compressor.append(&plain, &mut out).unwrap();
            prop_assert_eq!(&out[..before.len()], &before[..]);
            let payload = &out[before.len()..];
            match codec {
                Codec::Stored => prop_assert_eq!(payload, &plain[..]),
                Codec::Zstd => {
                    prop_assert!(payload.len() < plain.len());
                    prop_assert_ne!(compression, Compression::Off);
                    decompressor.replace(payload, len32(&plain), &mut plain_again).unwrap();
                    prop_assert_eq!(&plain_again, &plain);
                }
            }
        }
    }

    /// Whatever stands where a payload should be: an error, or as many bytes as were promised.
    #[test]
    fn damage_is_an_error_or_other_bytes(
        len in 500..20_000_usize,
        position in any::<prop::sample::Index>(),
        mask in 1..=255_u8,
        cut in any::<prop::sample::Index>(),
    ) {
        let plain = text(len);
        let (codec, payload) = compress(Compression::Level(3), &plain);
        prop_assert_eq!(codec, Codec::Zstd);
        let mut altered = payload.clone();
        altered[position.index(payload.len())] ^= mask;
        decompress(&altered, len32(&plain));
        prop_assert_eq!(decompress(&payload[..cut.index(payload.len())], len32(&plain)), None);
    }

    #[test]
    fn anything_is_an_error_or_as_long_as_promised(
        start in prop_oneof![Just(&b""[..]), Just(&b"\x28\xb5\x2f\xfd"[..])],
        rest in prop::collection::vec(any::<u8>(), 0..200),
        plain_len in 0..70_000_u32,
    ) {
        decompress(&[start, &rest].concat(), plain_len);
    }
}

#[test]
fn auto_compresses_text_and_stores_noise() {
    let long = Compression::SAMPLE_FROM_LEN;
    for len in [1000, long - 1, long, long + 1, 3 << 20] {
        assert_eq!(compress(Compression::Auto, &text(len)).0, Codec::Zstd, "{len}");
        let noise = random("noise", len);
        assert_eq!(compress(Compression::Auto, &noise), (Codec::Stored, noise), "{len}");
    }
    assert_eq!(compress(Compression::Auto, &[]), (Codec::Stored, vec![]));
    assert_eq!(compress(Compression::Auto, &[7]), (Codec::Stored, vec![7]));
}

/// The sample is taken from all over: noise at the start does not hide the text behind it, and the other way round.
#[test]
fn auto_looks_beyond_the_start() {
    let half = 1 << 20;
    let mixed = [random("noise", half), text(half)].concat();
    assert_eq!(compress(Compression::Auto, &mixed).0, Codec::Zstd);
    let mixed = [text(half), random("noise", half)].concat();
    assert_eq!(compress(Compression::Auto, &mixed).0, Codec::Zstd);
}

#[test]
fn off_compresses_nothing() {
    let plain = vec![0; 100_000];
    assert_eq!(compress(Compression::Off, &plain), (Codec::Stored, plain));
}

#[test]
fn levels_are_1_to_19() {
    let plain = text(50_000);
    let mut lens = Vec::new();
    for level in 1..=19 {
        let (codec, payload) = compress(Compression::Level(level), &plain);
        assert_eq!((codec, decompress(&payload, 50_000)), (Codec::Zstd, Some(plain.clone())), "{level}");
        lens.push(payload.len());
    }
    assert!(lens.iter().any(|len| *len != lens[0]), "the level makes a difference: {lens:?}");
    for level in [0, 20, 22, 255] {
        let refused = Compressor::new(Compression::Level(level)).unwrap_err();
        assert!(matches!(refused, PipelineError::CompressionLevel { level: named } if named == level));
    }
}

#[test]
fn a_payload_is_one_frame_and_nothing_else() {
    const SKIPPABLE: &[u8] = &[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let plain = text(3000);
    let (_, payload) = compress(Compression::Level(3), &plain);
    assert_eq!(decompress(&payload, 3000), Some(plain.clone()));
    for plain_len in [0, 1, 2999, 3001, 1 << 24, (1 << 24) + 1, u32::MAX] {
        assert_eq!(decompress(&payload, plain_len), None, "{plain_len}");
    }
    let empty = zstd::bulk::compress(&[], 3).unwrap();
    assert_eq!(decompress(&empty, 0), None, "a frame of nothing");
    for (what, payload, plain_len) in [
        ("no bytes", vec![], 0),
        ("no bytes for some", vec![], 1),
        ("two frames", payload.repeat(2), 6000),
        ("two frames, taken for one", payload.repeat(2), 3000),
        ("an empty frame behind", [&payload[..], &empty].concat(), 3000),
        ("an empty frame before", [&empty[..], &payload].concat(), 3000),
        ("a skippable frame before", [SKIPPABLE, &payload].concat(), 3000),
        ("a skippable frame behind", [&payload[..], SKIPPABLE].concat(), 3000),
        ("a skippable frame alone", SKIPPABLE.to_vec(), 0),
        ("a skippable frame for its bytes", SKIPPABLE.to_vec(), 3),
        ("a zero behind", [&payload[..], &[0]].concat(), 3000),
        ("its last byte missing", payload[..payload.len() - 1].to_vec(), 3000),
        ("the plain bytes", plain.clone(), 3000),
    ] {
        assert_eq!(decompress(&payload, plain_len), None, "{what}");
    }
}

/// The writer makes none of these, but the format allows the first two.
#[test]
fn frames_of_other_encoders() {
    let plain = text(300_000);
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 5).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(&plain).unwrap();
    let mut summed = encoder.finish().unwrap();
    assert!(matches!(zstd_safe::get_frame_content_size(&summed), Ok(None)), "the size is not in the frame");
    assert_eq!(decompress(&summed, 300_000), Some(plain.clone()));
    assert_eq!(decompress(&summed, 299_999), None, "more than promised");
    assert_eq!(decompress(&summed, 300_001), None, "less than promised");
    *summed.last_mut().unwrap() ^= 1;
    assert_eq!(decompress(&summed, 300_000), None, "the checksum of the frame");

    let dictionary = random("dictionary", 10_000);
    let plain = dictionary[1000..9000].to_vec();
    let mut encoder = zstd::bulk::Compressor::with_dictionary(3, &dictionary).unwrap();
    let payload = encoder.compress(&plain).unwrap();
    assert!(payload.len() < 1000, "the dictionary was used");
    assert_eq!(decompress(&payload, 8000), None, "a dictionary");
}
