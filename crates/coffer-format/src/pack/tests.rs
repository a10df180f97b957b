use proptest::prelude::*;

use super::*;
use crate::support::cases_data;
use crate::testing::{check, rule};

#[test]
fn every_case_of_directories() {
    check(&cases_data::directory(), |case, bytes| {
        Directory::decode(bytes, case.parameter("directory_offset")).map(drop)
    });
    for case in cases_data::directory().all.iter().filter(|case| case.fault.is_none()) {
        let directory = Directory::decode(&case.bytes, case.parameter("directory_offset")).unwrap();
        let mut out = b"before".to_vec();
        directory.encode(&mut out).unwrap();
        assert_eq!(out, [b"before", &case.bytes[..]].concat());
        let chunk_count = directory.frames.iter().map(|frame| frame.chunks.len()).sum();
        assert_eq!(Directory::plain_len(directory.frames.len(), chunk_count), case.bytes.len());
    }
}

#[test]
fn every_case_of_footers() {
    check(&cases_data::footer(), |case, bytes| Footer::decode(bytes, case.parameter("pack_len")).map(drop));
    for case in cases_data::footer().all.iter().filter(|case| case.fault.is_none()) {
        assert_eq!(Footer::decode(&case.bytes, case.parameter("pack_len")).unwrap().encode()[..], case.bytes);
    }
}

#[test]
fn every_case_of_frame_heads() {
    check(&cases_data::frame_head(), |_, bytes| FrameHead::decode(bytes).map(drop));
    for case in cases_data::frame_head().all.iter().filter(|case| case.fault.is_none()) {
        let (head, payload) = FrameHead::decode(&case.bytes).unwrap();
        assert_eq!([&head.encode()[..], payload].concat(), case.bytes);
    }
}

#[test]
fn a_directory_keeps_to_its_limits() {
    let place = FramePlace { offset: 1184, sealed_len: 25, plain_len: 1 };
    let frame = DirectoryFrame { place, chunks: Vec::new() };
    let directory = Directory { domain: DomainId([0; 16]), frames: vec![frame; 65_537] };
    assert_eq!(rule(&directory.encode(&mut Vec::new()).unwrap_err()), "over the limit");
}

#[test]
fn places_of_frames() {
    let place = |offset, sealed_len, plain_len| FramePlace { offset, sealed_len, plain_len };
    assert!(place(1184, 25, 1).check(1209).is_ok());
    assert!(place(1184, 25, 1).check(1208).is_err());
    assert!(place(1183, 25, 1).check(9999).is_err());
    assert!(place(1184, 24, 1).check(9999).is_err());
    assert!(place(1184, 25, 0).check(9999).is_err());
    assert!(place(1184, 25, 16_777_216).check(9999).is_ok());
    assert!(place(1184, 25, 16_777_217).check(9999).is_err());
    assert!(place(134_217_728 - 25, 25, 1).check(u64::MAX).is_ok());
    assert!(place(134_217_728 - 24, 25, 1).check(u64::MAX).is_err());
    assert!(place(u32::MAX, u32::MAX, 1).check(u64::MAX).is_err());
}

/// Worked out by hand: 2^(E − S) is the unit.
#[test]
fn examples_of_padding() {
    for (len, padded) in [
        (0, 65_536),
        (1, 65_536),
        (65_535, 65_536),
        (65_536, 65_536),
        (65_537, 67_584), // E = 16, S = 5, unit 2048
        (67_584, 67_584),
        (67_585, 69_632),
        (131_071, 131_072),
        (131_073, 135_168),       // E = 17, S = 5, unit 4096
        (8_388_609, 8_650_752),   // E = 23, S = 5, unit 262144
        (16_777_217, 17_301_504), // E = 24, S = 5, unit 524288
        (134_217_727, 134_217_728),
        (134_217_728, 134_217_728),
    ] {
        assert_eq!(padded_len(len), padded, "{len}");
    }
}

fn any_directory() -> impl Strategy<Value = Directory> {
    let chunk = (any::<[u8; 32]>(), 1..100_000_u32).prop_map(|(id, len)| ChunkRef { id: ChunkId(id), len });
    let frame = (25..100_000_u32, proptest::collection::vec(chunk, 1..5));
    (any::<[u8; 16]>(), proptest::collection::vec(frame, 0..5)).prop_map(|(domain, frames)| {
        let mut offset = u32::try_from(PACK_HEAD_LEN).unwrap();
        let frames = frames.into_iter().map(|(sealed_len, chunks)| {
            let plain_len = chunks.iter().map(|chunk| chunk.len).sum();
            let place = FramePlace { offset, sealed_len, plain_len };
            offset += sealed_len;
            DirectoryFrame { place, chunks }
        });
        Directory { frames: frames.collect(), domain: DomainId(domain) }
    })
}

fn end(directory: &Directory) -> u64 {
    PACK_HEAD_LEN + directory.frames.iter().map(|frame| u64::from(frame.place.sealed_len)).sum::<u64>()
}

proptest! {
    #[test]
    fn padding_grows_and_costs_little(len in 0..=PACK_LEN_MAX, more in 0..5_000_u64) {
        let padded = padded_len(len);
        prop_assert!(padded >= len.max(PACK_LEN_MIN));
        prop_assert!(padded <= PACK_LEN_MAX);
        prop_assert!(len <= PACK_LEN_MIN || (padded - len) * 100 <= len * 12);
        prop_assert!(padded_len(len + more) >= padded);
        prop_assert_eq!(padded_len(padded), padded);
    }

    #[test]
    fn directories_round_trip(directory in any_directory()) {
        let mut out = Vec::new();
        directory.encode(&mut out).unwrap();
        prop_assert_eq!(Directory::decode(&out, end(&directory)).unwrap(), directory.clone());
        prop_assert!(Directory::decode(&out, end(&directory) + 1).is_err());
    }

    #[test]
    fn whatever_is_accepted_is_written_alike(directory in any_directory(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = Vec::new();
        directory.encode(&mut bytes).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(other) = Directory::decode(&bytes, end(&directory)) {
            let mut again = Vec::new();
            other.encode(&mut again).unwrap();
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), at in any::<u64>()) {
        let _ = Directory::decode(&bytes, at);
        let _ = FrameHead::decode(&bytes);
        let _ = Footer::decode(&bytes, at);
        if let Some(bytes) = bytes.first_chunk::<32>() && let Ok(footer) = Footer::decode(bytes, at) {
            prop_assert_eq!(&footer.encode(), bytes);
        }
    }

    #[test]
    fn footers_round_trip(offset in 1184..60_000_u64, plain in 0..4_000_u64, frame_count in any::<u32>()) {
        let directory_sealed_len = 65_536 - 48 - offset;
        let footer = Footer { directory_offset: offset, directory_sealed_len, directory_plain_len: plain, frame_count };
        prop_assert_eq!(Footer::decode(&footer.encode(), 65_536).unwrap(), footer);
    }
}
