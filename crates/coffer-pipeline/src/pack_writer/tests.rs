use coffer_crypto::rng::SeededRng;
use coffer_crypto::{CryptoError, open_from_vault};
use coffer_format::id::ChunkId;
use coffer_format::pack::PACK_HEAD_SIZE;
use proptest::prelude::*;

use super::*;
use crate::compress::Compression;
use crate::pack_reader::PackKey;
use crate::testing::{World, random, text};

/// Frames of either kind, their chunks from noise to zeros.
fn frames() -> impl Strategy<Value = Vec<(ChunkKind, Vec<Vec<u8>>)>> {
    let kind = prop_oneof![Just(ChunkKind::Data), Just(ChunkKind::Meta)];
    let chunk = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..100),
        (1..5000_usize).prop_map(text),
        (1..200_000_usize, any::<u64>()).prop_map(|(len, seed)| random(&seed.to_string(), len)),
        (1..200_000_usize).prop_map(|len| vec![0; len]),
    ];
    prop::collection::vec((kind, prop::collection::vec(chunk, 1..6)), 0..6)
}

/// Section 10 in the words of the specification, with floating-point logarithms replaced by counting.
fn padded(len: u64) -> u64 {
    let log2 = |mut n: u64| {
        let mut log = 0;
        while n > 1 {
            n /= 2;
            log += 1;
        }
        log
    };
    let e = log2(len);
    let unit = 1 << (e - (log2(e) + 1));
    len.div_ceil(unit).saturating_mul(unit).max(65_536)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn frames_come_back(frames in frames(), seed in any::<u64>()) {
        let world = World::new(seed);
        let mut writer = PackWriter::begin(&world.sealer(), &SeededRng::new(!seed), vec![9; 100]).unwrap();
        let mut compressor = Compressor::new(Compression::Auto).unwrap();
        let (mut reader, mut room) = (FrameReader::new().unwrap(), vec![7; 5000]);
        for (kind, chunks) in &frames {
            let rows = chunks.iter().map(|bytes| world.chunk(*kind, bytes)).collect();
            let before = writer.stored_len();
            writer.add_frame(*kind, &chunks.concat(), rows, &mut compressor).unwrap();
            writer.verify_newest(&world.keys, &mut reader, &mut room).unwrap();
            prop_assert_eq!(reader.last(), None);
            prop_assert!(writer.stored_len() > before);
        }
        prop_assert_eq!(writer.is_empty(), frames.is_empty());
        let unpadded = writer.stored_len();
        let pack = writer.finish().unwrap();
        let len = pack.bytes.len() as u64;
        prop_assert_eq!(len, padded(unpadded));
        prop_assert_eq!(pack.id.0, *blake3::hash(&pack.bytes).as_bytes());
        prop_assert_eq!(pack.directory.domain, world.domain);

        let head: &[u8; PACK_HEAD_SIZE] = pack.bytes.first_chunk().unwrap();
        let key = PackKey::open(world.vault, &world.pair, &world.keys, head).unwrap();
        let footer = key.footer(pack.bytes.last_chunk().unwrap(), len).unwrap();
        let (start, end) = (footer.directory_offset, footer.directory_offset + footer.directory_sealed_len);
        prop_assert_eq!(end + PACK_FOOTER_LEN, len);
        let range = usize::try_from(start).unwrap()..usize::try_from(end).unwrap();
        prop_assert_eq!(&key.directory(&footer, pack.bytes[range].to_vec()).unwrap(), &pack.directory);

        prop_assert_eq!(pack.directory.frames.len(), frames.len());
        for (number, (frame, (kind, chunks))) in (0..).zip(pack.directory.frames.iter().zip(&frames)) {
            let range = frame.place.offset as usize..(frame.place.offset + frame.place.sealed_len) as usize;
            let (found, plain) = reader.open(&key, number, frame.place.plain_len, &pack.bytes[range]).unwrap();
            prop_assert_eq!((found, plain), (*kind, &chunks.concat()[..]));
            let rows: Vec<_> = chunks.iter().map(|bytes| world.chunk(*kind, bytes)).collect();
            prop_assert_eq!(&frame.chunks, &rows);
        }
    }
}

/// Section 10 byte by byte, without the reader.
#[test]
fn the_layout_is_that_of_the_specification() {
    let world = World::new(1);
    let noise = random("noise", 300);
    let data = vec![noise[..100].to_vec(), noise[100..].to_vec()];
    let meta = vec![text(5000)];
    let pack =
        world.pack(&SeededRng::new(2), &[(ChunkKind::Data, data.clone()), (ChunkKind::Meta, meta.clone())]);
    let bytes = &pack.bytes;
    assert_eq!(bytes.len(), 65_536);

    let salt: [u8; 32] = bytes[..32].try_into().unwrap();
    let psk = world.keys.psk().expose();
    let enc = bytes[32..1152].try_into().unwrap();
    let (key, commitment) =
        open_from_vault(&world.pair, psk, &[0; 16], SealedAs::Pack, &world.vault.0, &salt, enc).unwrap();
    assert_eq!(bytes[1152..1184], commitment);
    let key = SealKey::new(&key, SealContext::new(world.vault.0, ObjectKind::Pack, salt));
    let open = |purpose, ordinal, sealed: &[u8]| {
        let mut out = Vec::new();
        key.open_to(purpose, ordinal, sealed, &mut out).unwrap();
        out
    };

    // Frame 0 is noise and stored: 8 bytes of head, 300 bytes, 16 of tag.
    let stored = open(Purpose::Frame, 0, &bytes[1184..1508]);
    assert_eq!(stored, [&[0, 1, 0, 0, 44, 1, 0, 0][..], &noise].concat());

    let footer = open(Purpose::PackFooter, 0, &bytes[65_488..]);
    let long = |at: usize| u64::from_le_bytes(footer[at..at + 8].try_into().unwrap());
    let start = usize::try_from(long(0)).unwrap();
    assert_eq!(start as u64 + long(8), 65_488);
    assert_eq!(long(16), 24 + 2 * 16 + 3 * 36);
    assert_eq!(footer[24..], [2, 0, 0, 0, 0, 0, 0, 0]);

    let compressed = open(Purpose::Frame, 1, &bytes[1508..start]);
    assert_eq!(compressed[..8], [1, 2, 0, 0, 0x88, 0x13, 0, 0]);
    assert_eq!(zstd::bulk::decompress(&compressed[8..], 5000).unwrap(), meta[0]);

    let directory = open(Purpose::PackDirectory, 0, &bytes[start..65_488]);
    let (rows, zeros) = directory.split_at(24 + 2 * 16 + 3 * 36);
    assert!(zeros.iter().all(|byte| *byte == 0));
    let second_len = u32::try_from(start - 1508).unwrap();
    let numbers = |numbers: &[u32]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_le_bytes()).collect() };
    let mut expected = numbers(&[2, 3]);
    expected.extend([0; 16]);
    expected.extend(numbers(&[1184, 324, 300, 2, 1508, second_len, 5000, 1]));
    for (id, len) in [
        (world.keys.data_id(&data[0]), 100_u32),
        (world.keys.data_id(&data[1]), 200),
        (world.keys.meta_id(&meta[0]), 5000),
    ] {
        expected.extend(id);
        expected.extend(len.to_le_bytes());
    }
    assert_eq!(rows, expected);
}

#[test]
fn a_pack_of_nothing_is_a_pack() {
    let world = World::new(1);
    let pack = world.pack(&SeededRng::new(2), &[]);
    assert_eq!(pack.bytes.len(), 65_536);
    let key =
        PackKey::open(world.vault, &world.pair, &world.keys, pack.bytes.first_chunk().unwrap()).unwrap();
    let footer = key.footer(pack.bytes.last_chunk().unwrap(), 65_536).unwrap();
    assert_eq!((footer.directory_offset, footer.frame_count), (1184, 0));
    assert_eq!(key.directory(&footer, pack.bytes[1184..65_488].to_vec()).unwrap(), pack.directory);
}

/// Salt and key are fresh each time, so what is sealed twice does not look alike.
#[test]
fn packs_of_the_same_frames_share_no_bytes() {
    let world = World::new(1);
    let frames = [(ChunkKind::Data, vec![random("noise", 100_000)])];
    let rng = SeededRng::new(3);
    let (one, other) = (world.pack(&rng, &frames), world.pack(&rng, &frames));
    assert_eq!(one.directory, other.directory);
    assert_ne!(one.id, other.id);
    let same = one.bytes.chunks(16).zip(other.bytes.chunks(16)).filter(|pair| pair.0 == pair.1).count();
    assert_eq!(same, 0);
}

struct NoRandomness;

impl coffer_crypto::Rng for NoRandomness {
    fn fill(&self, _out: &mut [u8]) -> Result<(), CryptoError> {
        Err(CryptoError::Random { source: "none left".into() })
    }
}

#[test]
fn no_pack_without_randomness() {
    let refused = PackWriter::begin(&World::new(1).sealer(), &NoRandomness, Vec::new()).unwrap_err();
    assert!(matches!(refused, PipelineError::Crypto(CryptoError::Random { .. })));
}

/// Chunks whose lengths add up to `len`; nobody looks at the ids.
fn rows(len: usize) -> Vec<ChunkRef> {
    vec![ChunkRef { id: ChunkId([0; 32]), len: u32::try_from(len).unwrap() }]
}

fn is_full(result: Result<(), PipelineError>) -> bool {
    matches!(result, Err(PipelineError::Full { object: "pack", .. }))
}

#[test]
fn chunks_fill_their_frame() {
    let world = World::new(1);
    let mut writer = PackWriter::begin(&world.sealer(), &SeededRng::new(2), Vec::new()).unwrap();
    let mut compressor = Compressor::new(Compression::Auto).unwrap();
    for (chunks, chunks_len) in [(vec![], 0), (rows(99), 99), (rows(101), 101)] {
        let refused = writer.add_frame(ChunkKind::Data, &[7; 100], chunks, &mut compressor).unwrap_err();
        let PipelineError::Unfilled { plain_len: 100, chunks_len: actual } = refused else {
            panic!("{refused}")
        };
        assert_eq!(actual, chunks_len);
    }
    assert!(writer.is_empty());
    writer.add_frame(ChunkKind::Data, &[7; 100], rows(100), &mut compressor).unwrap();
}

#[test]
fn a_frame_is_1_byte_to_its_limit() {
    let world = World::new(1);
    let mut writer = PackWriter::begin(&world.sealer(), &SeededRng::new(2), Vec::new()).unwrap();
    let mut compressor = Compressor::new(Compression::Auto).unwrap();
    let zeros = vec![0; (1 << 24) + 1];
    assert!(is_full(writer.add_frame(ChunkKind::Data, &[], vec![], &mut compressor)));
    assert!(is_full(writer.add_frame(ChunkKind::Data, &zeros, rows(zeros.len()), &mut compressor)));
    assert!(writer.is_empty());
    writer.add_frame(ChunkKind::Data, &zeros[1..], rows(1 << 24), &mut compressor).unwrap();
    assert!(!writer.is_empty());
}

/// Up to the last byte that [`PackWriter::has_room`] grants, the pack stays within its limit, padding included.
#[test]
fn a_pack_is_filled_to_its_limit_and_no_further() {
    let world = World::new(1);
    let mut writer = PackWriter::begin(&world.sealer(), &SeededRng::new(2), Vec::new()).unwrap();
    let mut compressor = Compressor::new(Compression::Off).unwrap();
    let plain = vec![1; 1 << 24];
    for _ in 0..7 {
        writer.add_frame(ChunkKind::Data, &plain, rows(plain.len()), &mut compressor).unwrap();
    }
    assert!(!writer.has_room(plain.len(), 1));
    let most = (1..plain.len()).collect::<Vec<_>>().partition_point(|len| writer.has_room(*len, 1));
    assert!(writer.has_room(most, 1) && !writer.has_room(most + 1, 1) && !writer.has_room(most, 2));
    let before = writer.stored_len();
    assert!(is_full(writer.add_frame(ChunkKind::Data, &plain[..most + 1], rows(most + 1), &mut compressor)));
    assert_eq!(writer.stored_len(), before);
    writer.add_frame(ChunkKind::Data, &plain[..most], rows(most), &mut compressor).unwrap();
    let slack = PACK_LEN_MAX - writer.stored_len();
    assert!(slack <= 24, "{slack} bytes are left over");
    assert_eq!(writer.finish().unwrap().bytes.len() as u64, PACK_LEN_MAX);
}

#[test]
fn a_pack_has_65536_frames_at_most() {
    let world = World::new(1);
    let mut writer = PackWriter::begin(&world.sealer(), &SeededRng::new(2), Vec::new()).unwrap();
    let mut compressor = Compressor::new(Compression::Off).unwrap();
    for frame in 0..65_536 {
        assert!(writer.has_room(1, 1), "{frame}");
        writer.add_frame(ChunkKind::Meta, &[1], rows(1), &mut compressor).unwrap();
    }
    assert!(!writer.has_room(1, 1));
    assert!(is_full(writer.add_frame(ChunkKind::Meta, &[1], rows(1), &mut compressor)));
    let pack = writer.finish().unwrap();
    let key =
        PackKey::open(world.vault, &world.pair, &world.keys, pack.bytes.first_chunk().unwrap()).unwrap();
    let footer = key.footer(pack.bytes.last_chunk().unwrap(), pack.bytes.len() as u64).unwrap();
    let range = usize::try_from(footer.directory_offset).unwrap()..pack.bytes.len() - PACK_FOOTER_SIZE;
    assert_eq!(key.directory(&footer, pack.bytes[range].to_vec()).unwrap().frames.len(), 65_536);
}

/// What the check after sealing finds in a pack of one frame whose chunks are said to be `rows`.
fn verify(world: &World, plain: &[u8], rows: Vec<ChunkRef>) -> Result<(), PipelineError> {
    let mut writer = PackWriter::begin(&world.sealer(), &SeededRng::new(2), Vec::new()).unwrap();
    let mut reader = FrameReader::new().unwrap();
    writer.verify_newest(&world.keys, &mut reader, &mut Vec::new()).expect("there is no frame yet");
    let mut compressor = Compressor::new(Compression::Auto).unwrap();
    writer.add_frame(ChunkKind::Data, plain, rows, &mut compressor).unwrap();
    writer.verify_newest(&world.keys, &mut reader, &mut Vec::new())
}

#[test]
fn the_check_after_sealing_finds_wrong_ids() {
    let world = World::new(1);
    let plain = text(1000);
    let row = |range: std::ops::Range<usize>| world.chunk(ChunkKind::Data, &plain[range]);
    verify(&world, &plain, vec![row(0..600), row(600..1000)]).unwrap();

    let mut wrong = row(600..1000);
    wrong.id.0[31] ^= 1;
    let of_kind = world.chunk(ChunkKind::Meta, &plain[600..]);
    let of_domain = ChunkRef { id: ChunkId(world.other_domain().data_id(&plain[600..])), len: 400 };
    for (what, rows, expected) in [
        ("a bit of an id", vec![row(0..600), wrong], wrong.id),
        ("the id of the other kind", vec![row(0..600), of_kind], of_kind.id),
        ("the id of another domain", vec![row(0..600), of_domain], of_domain.id),
        ("chunks in another order", vec![row(600..1000), row(0..600)], row(600..1000).id),
    ] {
        let Err(PipelineError::ExtraVerify { source }) = verify(&world, &plain, rows) else {
            panic!("{what} was not found");
        };
        assert!(
            matches!(&*source, PipelineError::ChunkId { expected: named } if *named == expected.to_string()),
            "{what}: {source}"
        );
    }
}

/// Faulty memory can hit the rows of the directory and the sealed frame as well as the plaintext.
#[test]
fn the_check_after_sealing_finds_what_memory_lost() {
    let world = World::new(1);
    let plain = text(1000);
    let add = || {
        let mut writer = PackWriter::begin(&world.sealer(), &SeededRng::new(2), Vec::new()).unwrap();
        let rows = vec![world.chunk(ChunkKind::Data, &plain)];
        let mut compressor = Compressor::new(Compression::Auto).unwrap();
        writer.add_frame(ChunkKind::Data, &plain, rows, &mut compressor).unwrap();
        writer
    };
    type Damage = fn(&mut PackWriter);
    let damages: [(&str, Damage); 5] = [
        ("a bit of the sealed frame", |writer| *writer.bytes.last_mut().unwrap() ^= 1),
        ("a chunk grew", |writer| writer.frames[0].chunks[0].len |= 1 << 20),
        ("a chunk shrank", |writer| writer.frames[0].chunks[0].len = 999),
        ("the chunks are gone", |writer| writer.frames[0].chunks.clear()),
        ("the length changed", |writer| writer.frames[0].place.plain_len += 1),
    ];
    for (what, damage) in damages {
        let mut writer = add();
        damage(&mut writer);
        let found = writer.verify_newest(&world.keys, &mut FrameReader::new().unwrap(), &mut Vec::new());
        assert!(matches!(found, Err(PipelineError::ExtraVerify { .. })), "{what}: {found:?}");
    }
}
