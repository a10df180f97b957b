use coffer_crypto::CryptoError;
use coffer_crypto::rng::SeededRng;

use super::*;
use crate::pack_writer::FinishedPack;
use crate::testing::{World, random, text};

fn sample(world: &World, seed: u64) -> FinishedPack {
    let chunks = |name: &str| vec![random(name, 70), random(name, 50)];
    let frames = [
        (ChunkKind::Data, chunks("one")),
        (ChunkKind::Data, chunks("other")),
        (ChunkKind::Meta, vec![text(700), text(20)]),
    ];
    world.pack(&SeededRng::new(seed), &frames)
}

fn key_of(world: &World, bytes: &[u8]) -> Result<PackKey, PipelineError> {
    PackKey::open(world.vault, &world.pair, &world.keys, bytes.first_chunk().unwrap())
}

fn directory_of(world: &World, bytes: &[u8]) -> Result<Directory, PipelineError> {
    let key = key_of(world, bytes)?;
    let footer = key.footer(bytes.last_chunk().unwrap(), bytes.len() as u64)?;
    let start = usize::try_from(footer.directory_offset).unwrap();
    key.directory(&footer, bytes[start..bytes.len() - PACK_FOOTER_SIZE].to_vec())
}

/// The sealed bytes of a frame.
fn sealed(pack: &FinishedPack, number: usize) -> &[u8] {
    let place = pack.directory.frames[number].place;
    &pack.bytes[place.offset as usize..(place.offset + place.sealed_len) as usize]
}

/// A frame that opens leaves its bytes with the reader; one that does not must not leave any.
fn open(key: &PackKey, ordinal: u64, plain_len: u32, sealed: &[u8]) -> Result<Vec<u8>, PipelineError> {
    FrameReader::new().unwrap().open(key, ordinal, plain_len, sealed).map(|(_, plain)| plain.to_vec())
}

fn is_closed<T>(result: &Result<T, PipelineError>) -> bool {
    matches!(result, Err(PipelineError::Crypto(CryptoError::Open { .. })))
}

#[test]
fn each_byte_of_the_head_counts() {
    let world = World::new(1);
    let mut bytes = sample(&world, 2).bytes;
    for position in 0..PACK_HEAD_SIZE {
        bytes[position] ^= 1 << (position % 8);
        let refused = key_of(&world, &bytes).unwrap_err();
        // The KEM itself refuses an encapsulation whose numbers are not reduced; all else shows in the commitment.
        assert!(
            matches!(
                refused,
                PipelineError::Commitment { object: "pack" }
                    | PipelineError::Crypto(CryptoError::Decapsulate)
            ),
            "byte {position}: {refused}"
        );
        bytes[position] ^= 1 << (position % 8);
    }
    key_of(&world, &bytes).unwrap();
}

#[test]
fn each_byte_of_a_frame_counts() {
    let world = World::new(1);
    let pack = sample(&world, 2);
    let key = key_of(&world, &pack.bytes).unwrap();
    for number in 0..3 {
        let plain_len = pack.directory.frames[number].place.plain_len;
        let mut altered = sealed(&pack, number).to_vec();
        for position in 0..altered.len() {
            altered[position] ^= 1 << (position % 8);
            assert!(is_closed(&open(&key, number as u64, plain_len, &altered)), "byte {position}");
            altered[position] ^= 1 << (position % 8);
        }
        open(&key, number as u64, plain_len, &altered).unwrap();
        for len in 0..altered.len() {
            assert!(is_closed(&open(&key, number as u64, plain_len, &altered[..len])), "cut to {len} bytes");
        }
        altered.push(0);
        assert!(is_closed(&open(&key, number as u64, plain_len, &altered)));
    }
}

#[test]
fn each_byte_of_directory_and_footer_counts() {
    let world = World::new(1);
    let pack = sample(&world, 2);
    let key = key_of(&world, &pack.bytes).unwrap();
    let footer_bytes: &[u8; PACK_FOOTER_SIZE] = pack.bytes.last_chunk().unwrap();
    let footer = key.footer(footer_bytes, 65_536).unwrap();
    for position in 0..PACK_FOOTER_SIZE {
        let mut altered = *footer_bytes;
        altered[position] ^= 1 << (position % 8);
        assert!(is_closed(&key.footer(&altered, 65_536)), "byte {position} of the footer");
    }
    let start = usize::try_from(footer.directory_offset).unwrap();
    let directory = &pack.bytes[start..65_536 - PACK_FOOTER_SIZE];
    let rows_len = usize::try_from(footer.directory_plain_len).unwrap();
    // Every byte of the rows and of the tag, and some of the zeros between them.
    let zeros = (rows_len..directory.len() - 16).step_by(61);
    for position in (0..rows_len).chain(zeros).chain(directory.len() - 16..directory.len()) {
        let mut altered = directory.to_vec();
        altered[position] ^= 1 << (position % 8);
        assert!(is_closed(&key.directory(&footer, altered)), "byte {position} of the directory");
    }
    assert!(is_closed(&key.directory(&footer, directory[1..].to_vec())));
    assert!(is_closed(&key.directory(&footer, directory[..directory.len() - 1].to_vec())));
    assert!(is_closed(&key.directory(&footer, vec![])));
    assert_eq!(key.directory(&footer, directory.to_vec()).unwrap(), pack.directory);
}

/// The footer is bound to the length of its object, whatever else stands in it.
#[test]
fn a_footer_fits_one_length() {
    let world = World::new(1);
    let pack = sample(&world, 2);
    let key = key_of(&world, &pack.bytes).unwrap();
    let footer = pack.bytes.last_chunk().unwrap();
    for pack_len in [65_537, 131_072, PACK_LEN_MAX] {
        assert!(matches!(
            key.footer(footer, pack_len),
            Err(PipelineError::Format(FormatError::Malformed { .. }))
        ));
    }
    for pack_len in [0, 48, 65_535] {
        let refused = key.footer(footer, pack_len).unwrap_err();
        assert_eq!(refused.to_string(), "malformed pack at byte 0: it ends too early");
    }
    for actual in [PACK_LEN_MAX + 1, u64::MAX] {
        let expected = FormatError::TooLong { object: "pack", actual, limit: PACK_LEN_MAX };
        assert!(matches!(key.footer(footer, actual), Err(PipelineError::Format(found)) if found == expected));
    }
}

#[test]
fn a_frame_opens_in_its_place_alone() {
    let world = World::new(1);
    let (pack, other) = (sample(&world, 2), sample(&world, 3));
    let key = key_of(&world, &pack.bytes).unwrap();
    let other_key = key_of(&world, &other.bytes).unwrap();
    open(&key, 0, 120, sealed(&pack, 0)).unwrap();
    for ordinal in [1, 2, 3, u64::from(u32::MAX)] {
        assert!(is_closed(&open(&key, ordinal, 120, sealed(&pack, 0))), "frame 0 as frame {ordinal}");
    }
    for ordinal in [1 << 32, u64::MAX] {
        let refused = open(&key, ordinal, 120, sealed(&pack, 0)).unwrap_err();
        assert!(matches!(refused, PipelineError::Format(FormatError::Malformed { object: "frame", .. })));
    }
    assert!(is_closed(&open(&key, 0, 120, sealed(&pack, 1))), "frame 1 as frame 0");
    assert!(is_closed(&open(&key, 0, 120, sealed(&other, 0))), "the frame of another pack");
    assert!(is_closed(&open(&other_key, 0, 120, sealed(&pack, 0))), "the key of another pack");

    // Neither do the parts stand in for each other.
    let footer_bytes: &[u8; PACK_FOOTER_SIZE] = pack.bytes.last_chunk().unwrap();
    let footer = key.footer(footer_bytes, 65_536).unwrap();
    assert!(is_closed(&open(&key, 0, 32, footer_bytes)), "the footer as a frame");
    assert!(is_closed(&key.directory(&footer, footer_bytes.to_vec())), "the footer as directory");
    assert!(is_closed(&key.directory(&footer, sealed(&pack, 0).to_vec())), "a frame as directory");
    assert!(is_closed(&key.footer(other.bytes.last_chunk().unwrap(), 65_536)), "the footer of another pack");
}

#[test]
fn a_pack_opens_with_its_own_keys_alone() {
    let (world, other) = (World::new(1), World::new(2));
    let pack = sample(&world, 2);
    let head = pack.bytes.first_chunk().unwrap();
    let refused = |what: &str, result: Result<PackKey, PipelineError>| {
        assert!(matches!(result, Err(PipelineError::Commitment { object: "pack" })), "{what}");
    };
    refused("vault", PackKey::open(other.vault, &world.pair, &world.keys, head));
    refused("sealing key", PackKey::open(world.vault, &other.pair, &world.keys, head));
    refused("domain root", PackKey::open(world.vault, &world.pair, &other.keys, head));
    refused("domain", PackKey::open(world.vault, &world.pair, &world.other_domain(), head));
    PackKey::open(world.vault, &world.pair, &world.keys, head).unwrap();

    // The head of one pack before the body of another.
    let mut mixed = sample(&world, 3).bytes;
    mixed[..PACK_HEAD_SIZE].copy_from_slice(head);
    assert!(is_closed(&directory_of(&world, &mixed)));
}

/// Whoever can seal to the vault can seal nonsense: it is met after the seal, by the rules of section 10.
#[test]
fn sealed_nonsense_in_frames() {
    let world = World::new(1);
    let zstd = |plain: &[u8]| zstd::bulk::compress(plain, 3).unwrap();
    let frame = |head: [u8; 4], plain_len: u32, payload: &[u8]| {
        [&head[..], &plain_len.to_le_bytes(), payload].concat()
    };
    let lines = text(1000);
    let (stored, packed) = (&lines[..100], zstd(&lines));
    let cases = [
        ("stored", frame([0, 1, 0, 0], 100, stored), true),
        ("compressed", frame([1, 2, 0, 0], 1000, &packed), true),
        ("compressed, but longer", frame([1, 1, 0, 0], 1, &zstd(&lines[..1])), true),
        ("unknown codec", frame([2, 1, 0, 0], 100, stored), false),
        ("unknown kind", frame([0, 3, 0, 0], 100, stored), false),
        ("no kind", frame([0, 0, 0, 0], 100, stored), false),
        ("byte 2 set", frame([0, 1, 1, 0], 100, stored), false),
        ("byte 3 set", frame([0, 1, 0, 1], 100, stored), false),
        ("stored, one byte less", frame([0, 1, 0, 0], 101, stored), false),
        ("stored, one byte more", frame([0, 1, 0, 0], 99, stored), false),
        ("compressed, one byte less", frame([1, 1, 0, 0], 1001, &packed), false),
        ("compressed, one byte more", frame([1, 1, 0, 0], 999, &packed), false),
        ("compressed, two frames", frame([1, 1, 0, 0], 2000, &packed.repeat(2)), false),
        ("compressed, a byte behind", frame([1, 1, 0, 0], 1000, &[&packed[..], &[0]].concat()), false),
        ("stored, said to be compressed", frame([1, 1, 0, 0], 1000, &lines), false),
        ("far more than said", frame([1, 1, 0, 0], 10, &zstd(&vec![0; 1 << 24])), false),
        ("nothing", frame([0, 1, 0, 0], 0, &[]), false),
        ("over the limit", frame([1, 1, 0, 0], (1 << 24) + 1, &zstd(&vec![0; (1 << 24) + 1])), false),
    ];
    let plains: Vec<_> = cases.iter().map(|case| case.1.clone()).collect();
    let bytes = world.crafted_pack(&plains, |_| {}, |_| {});
    let key = key_of(&world, &bytes).unwrap();
    let mut reader = FrameReader::new().unwrap();
    let mut offset = PACK_HEAD_SIZE;
    for (number, (name, plain, sound)) in (0..).zip(&cases) {
        let end = offset + plain.len() + 16;
        let plain_len = u32::from_le_bytes(plain[4..8].try_into().unwrap());
        let result = reader.open(&key, number, plain_len, &bytes[offset..end]);
        assert_eq!(result.is_ok(), *sound, "{name}: {result:?}");
        if *sound {
            // The index says another length than the frame.
            let result = reader.open(&key, number, plain_len + 1, &bytes[offset..end]);
            assert!(matches!(result, Err(PipelineError::Decompress { .. })), "{name}");
        }
        offset = end;
    }
}

#[test]
fn sealed_nonsense_in_directory_and_footer() {
    let world = World::new(1);
    let plain = [&[0, 1, 0, 0, 3, 0, 0, 0][..], b"abc"].concat();
    let frames = [plain];
    let directory = |directory: fn(&mut Vec<u8>), footer: fn(&mut Footer)| {
        let bytes = world.crafted_pack(&frames, directory, footer);
        directory_of(&world, &bytes)
    };
    let sound = directory(|_| {}, |_| {}).unwrap();
    assert_eq!(sound.frames.len(), 1);
    type Change = (&'static str, fn(&mut Vec<u8>), fn(&mut Footer));
    let changes: [Change; 9] = [
        ("the last zero is none", |plain| *plain.last_mut().unwrap() = 1, |_| {}),
        ("the first zero is none", |plain| plain[24 + 16 + 36] = 1, |_| {}),
        ("frame count of the directory", |plain| plain[0] = 2, |_| {}),
        ("chunk count", |plain| plain[4] = 0, |_| {}),
        ("offset of a frame", |plain| plain[24] ^= 1, |_| {}),
        ("length of a chunk", |plain| plain[24 + 16 + 32] = 2, |_| {}),
        ("frame count of the footer", |_| {}, |footer| footer.frame_count = 2),
        ("length, too short", |_| {}, |footer| footer.directory_plain_len -= 36),
        ("length, with zeros", |_| {}, |footer| footer.directory_plain_len += 36),
    ];
    for (what, change, footer) in changes {
        assert!(matches!(directory(change, footer), Err(PipelineError::Format(_))), "{what}");
    }
    let lengths: [fn(&mut Footer); 4] = [
        |footer| footer.directory_offset -= 1,
        |footer| footer.directory_sealed_len += 1,
        |footer| footer.directory_plain_len = footer.directory_sealed_len - 15,
        |footer| footer.directory_offset = u64::MAX,
    ];
    for change in lengths {
        let bytes = world.crafted_pack(&frames, |_| {}, change);
        let key = key_of(&world, &bytes).unwrap();
        let footer = key.footer(bytes.last_chunk().unwrap(), bytes.len() as u64);
        assert!(matches!(footer, Err(PipelineError::Format(_))), "{footer:?}");
    }
}

#[test]
fn a_refusal_leaves_nothing_of_the_frame_before() {
    let world = World::new(1);
    let pack = sample(&world, 2);
    let key = key_of(&world, &pack.bytes).unwrap();
    let mut reader = FrameReader::new().unwrap();
    reader.open(&key, 0, 120, sealed(&pack, 0)).unwrap();
    reader.open(&key, 1, 120, sealed(&pack, 0)).unwrap_err();
    assert!(reader.opened.is_empty());
    reader.open(&key, 2, 720, sealed(&pack, 2)).unwrap();
    reader.clear();
    assert!(reader.opened.is_empty() && reader.plain.is_empty());
}
