//! Every path against a reference written byte by byte from the rules, over every kind of split into reads.

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use proptest::prelude::*;

use super::{Algorithm, BITS_MAX, BITS_MIN, CHUNK_LEN_LIMIT, Chunker, ChunkerError, ChunkerParams, Path};

mod vectors;

const KEY: [u8; 16] = *b"a key of 16 byte";

// ---- the reference ----

fn hash(x: &[u8], i: usize) -> u32 {
    let le32 = |at: usize| (0..4).fold(0_u32, |word, k| word | u32::from(x[at + k]) << (8 * k));
    le32(i - 7).wrapping_mul(0x9E37_79B1) ^ le32(i - 3).wrapping_mul(0x85EB_CA77)
}

fn is_natural(x: &[u8], i: usize) -> bool {
    hash(x, i) < 1 << 27
}

fn tag(key: &[u8; 16], window: &[u8]) -> u64 {
    assert_eq!(window.len(), 64);
    let cipher = Aes128::new(key.into());
    let mut state = [0_u8; 16];
    for block in window.chunks(16) {
        for (byte, input) in state.iter_mut().zip(block) {
            *byte ^= input;
        }
        let mut block = state.into();
        cipher.encrypt_block(&mut block);
        state = block.into();
    }
    (0..8).fold(0, |tag, k| tag | u64::from(state[k]) << (8 * k))
}

/// The length of the first chunk of `x`, which is the whole rest of a stream.
fn reference_cut(x: &[u8], key: &[u8; 16], min: usize, bits: u8, max: usize) -> usize {
    if x.len() <= min {
        return x.len();
    }
    let mut start = min;
    loop {
        let mut i = start;
        loop {
            let len = i - start + 1;
            if len >= 32 && is_natural(x, i) || len == 256 || i + 1 == max || i + 1 == x.len() {
                break;
            }
            i += 1;
        }
        let u = u128::from(tag(key, &x[i - 63..=i]));
        let mut s = 1_u128 << 64;
        for j in 0..=i - start {
            s -= s >> bits;
            if u < (1 << 64) - s {
                return start + j + 1;
            }
        }
        if i + 1 == max || i + 1 == x.len() {
            return i + 1;
        }
        start = i + 1;
    }
}

fn reference(mut x: &[u8], key: &[u8; 16], algorithm: Algorithm) -> Vec<usize> {
    let mut lens = Vec::new();
    while !x.is_empty() {
        let len = match algorithm {
            Algorithm::Pcc { min, bits, max } => reference_cut(x, key, min as usize, bits, max as usize),
            Algorithm::Fixed { len } => x.len().min(len as usize),
        };
        lens.push(len);
        x = &x[len..];
    }
    lens
}

// ---- what is tested ----

fn chunker(algorithm: Algorithm, key: &[u8; 16], path: Path) -> Chunker {
    Chunker::with_path(ChunkerParams::new(algorithm).unwrap(), key, path).unwrap()
}

/// Splits `x`, of which more arrives only when the scanner asks: the lengths of `reads`, over and over.
fn cut(chunker: &Chunker, x: &[u8], reads: &[usize]) -> Vec<usize> {
    cut_with_end(chunker, x, reads, false)
}

/// As [`cut`]; the end is known with the last bytes, or, when `late`, only once the scanner has asked for more.
fn cut_with_end(chunker: &Chunker, x: &[u8], reads: &[usize], late: bool) -> Vec<usize> {
    let mut scanner = chunker.scanner();
    let mut reads = reads.iter().copied().cycle();
    let (mut start, mut end) = (0, 0);
    let mut end_of_stream = x.is_empty() && !late;
    let mut lens = Vec::new();
    loop {
        match scanner.scan(&x[start..end], end_of_stream) {
            Some(len) => {
                lens.push(len);
                start += len;
            }
            None if end_of_stream => {
                assert_eq!(start, x.len(), "a stream ends with a chunk");
                return lens;
            }
            None if end == x.len() => end_of_stream = true,
            None => {
                end = x.len().min(end + reads.next().unwrap());
                end_of_stream = end == x.len() && !late;
            }
        }
    }
}

#[track_caller]
fn check(algorithm: Algorithm, key: &[u8; 16], x: &[u8], reads: &[usize]) {
    let expected = reference(x, key, algorithm);
    for path in Path::available() {
        let chunker = chunker(algorithm, key, path);
        for late in [false, true] {
            let lens = cut_with_end(&chunker, x, reads, late);
            assert_eq!(lens, expected, "{path}, reads of {reads:?}, end known late: {late}");
        }
    }
}

fn small(bits: u8) -> Algorithm {
    Algorithm::Pcc { min: 64, bits, max: 1024 }
}

fn random(seed: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn contents() -> impl Strategy<Value = Vec<u8>> {
    let random = (any::<u64>(), 0..20_000_usize).prop_map(|(seed, len)| random(&seed.to_string(), len));
    // Few values give long stretches without, and others full of, natural positions.
    let low_entropy = (any::<u64>(), 0..20_000_usize, 1..8_u8).prop_map(|(seed, len, values)| {
        self::random(&seed.to_string(), len).into_iter().map(|byte| byte % values).collect()
    });
    let periodic = (prop::collection::vec(any::<u8>(), 1..100), 0..20_000_usize)
        .prop_map(|(period, len)| period.into_iter().cycle().take(len).collect());
    let mixed =
        prop::collection::vec((any::<u64>(), 1..2_000_usize, any::<bool>()), 0..12).prop_map(|parts| {
            parts.into_iter().fold(Vec::new(), |mut bytes, (seed, len, constant)| {
                let part = self::random(&seed.to_string(), len);
                let first = part[0];
                bytes.extend(part.into_iter().map(|byte| if constant { first } else { byte }));
                bytes
            })
        });
    prop_oneof![4 => random, 2 => low_entropy, 1 => periodic, 3 => mixed]
}

fn algorithms() -> impl Strategy<Value = Algorithm> {
    prop_oneof![
        4 => (6..=8_u8).prop_map(small),
        4 => (64..400_u32, 6..=12_u8, 256..6_000_u32)
            .prop_map(|(min, bits, room)| Algorithm::Pcc { min, bits, max: min + room }),
        1 => (1..3_000_u32).prop_map(|len| Algorithm::Fixed { len }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 400 }))]

    #[test]
    fn every_path_and_split_agrees_with_the_reference(
        algorithm in algorithms(),
        key: [u8; 16],
        x in contents(),
        reads in prop::collection::vec(prop_oneof![1..4_usize, 1..300_usize, 1..9_000_usize], 1..12),
    ) {
        check(algorithm, &key, &x, &reads);
    }

    #[test]
    fn every_path_finds_the_natural_positions(
        x in prop::collection::vec(any::<u8>(), 7 + 64..7 + 64 * 4),
    ) {
        let mask_count = (x.len() - 7) / 64;
        for path in Path::available() {
            // Starts and ends the slice at the edges of an allocation, where a load outside would be seen by tools.
            let window = x[..7 + 64 * mask_count].to_vec();
            let mut masks = vec![0; mask_count];
            super::simd::Kernel::new(path).unwrap().fill(&window, &mut masks);
            for p in 0..64 * mask_count {
                prop_assert_eq!(masks[p / 64] >> (p % 64) & 1 == 1, is_natural(&x, p + 7), "{} at {}", path, p);
            }
        }
    }
}

#[test]
fn lengths_around_the_limits_of_a_chunk() {
    let x = random("lengths", 2_400);
    let zeros = [0; 2_400];
    for len in (0..=600).chain(1_000..=1_060).chain(2_040..=2_400) {
        for bits in [6, 8, 16] {
            check(small(bits), &KEY, &x[..len], &[97, 1_500]);
            check(small(bits), &KEY, &zeros[..len], &[64]);
        }
    }
}

#[test]
fn reads_of_every_size() {
    let x = random("reads", 5_000);
    for read_len in 1..=400 {
        check(small(7), &KEY, &x, &[read_len]);
    }
}

#[test]
fn an_empty_stream_has_no_chunk() {
    for algorithm in [small(6), Algorithm::Fixed { len: 10 }] {
        check(algorithm, &KEY, &[], &[1]);
    }
}

#[test]
fn constant_data_cuts_in_the_first_cell_or_runs_to_max() {
    let zeros = [0; 1_024];
    let mut forced_count = 0;
    for first in 0..100 {
        let mut key = KEY;
        key[0] = first;
        for path in Path::available() {
            let len = chunker(small(6), &key, path).scanner().scan(&zeros, false).unwrap();
            assert!(len <= 64 + 32 || len == 1_024, "{len}");
            forced_count += usize::from(len == 1_024);
        }
    }
    // (1 - 1/64)^32 is 0.60.
    let run_count = 100 * Path::available().count();
    assert!(
        (run_count * 45..run_count * 75).contains(&(forced_count * 100)),
        "{forced_count} of {run_count}"
    );
}

#[test]
fn the_key_decides() {
    let x = random("key", 50_000);
    let other = KEY.map(|byte| byte ^ 1);
    let [lens, other_lens] =
        [KEY, other].map(|key| cut(&chunker(small(8), &key, Path::Portable), &x, &[x.len()]));
    assert_ne!(lens, other_lens);
}

#[test]
fn a_scanner_resumes_without_rescanning() {
    let algorithm = Algorithm::Pcc { min: 64, bits: 12, max: 100_000 };
    let x = random("resume", 100_000);
    let expected = reference(&x, &KEY, algorithm)[0];
    assert!(expected > 3_000, "the chunk is long enough to tell: {expected}");
    for path in Path::available() {
        let chunker = chunker(algorithm, &KEY, path);
        let mut scanner = chunker.scanner();
        let mut seen = Vec::new();
        let found = x.chunks(100).find_map(|read| {
            // What was seen, but for the cell in progress and a window before it, no longer matters.
            let past = seen.len().saturating_sub(256 + 64);
            seen[..past].fill(0xA5);
            seen.extend_from_slice(read);
            scanner.scan(&seen, false)
        });
        assert_eq!(found, Some(expected), "{path}");
    }
}

#[test]
fn a_cut_is_reported_as_soon_as_its_cell_is_there() {
    let x = random("prompt", 20_000);
    let algorithm = small(7);
    let expected = reference(&x, &KEY, algorithm);
    for path in Path::available() {
        let chunker = chunker(algorithm, &KEY, path);
        let mut scanner = chunker.scanner();
        let mut start = 0;
        for &len in expected.iter().take(60) {
            let known =
                (0..).find(|&more| scanner.scan(&x[start..start + len + more], false).is_some()).unwrap();
            assert!(known < 256, "{path}: {known} bytes past the cut");
            start += len;
        }
    }
}

#[test]
fn a_shorter_slice_is_a_new_chunk() {
    let (x, y) = (random("first", 1_000), random("second", 1_000));
    let algorithm = Algorithm::Pcc { min: 64, bits: 10, max: 4_096 };
    let chunker = chunker(algorithm, &KEY, Path::Portable);
    let mut scanner = chunker.scanner();
    assert_eq!(scanner.scan(&x, false), None);
    assert_eq!(scanner.scan(&y[..999], true), Some(reference(&y[..999], &KEY, algorithm)[0]));
}

#[test]
fn lengths_are_geometric_and_boundaries_are_not_public() {
    const TOTAL_LEN: usize = if cfg!(miri) { 1 << 12 } else { 64 << 20 };
    const MIN: u32 = 256;
    const MEAN: f64 = 256.0;
    let algorithm = Algorithm::Pcc { min: MIN, bits: 8, max: 16_384 };
    let x = random("lengths of 64 MiB", TOTAL_LEN);
    for path in Path::available() {
        let mut lens = cut(&chunker(algorithm, &KEY, path), &x, &[1 << 20]);
        lens.pop();
        let count = lens.len() as f64;
        let (mut sum, mut sum_of_squares, mut below_mean, mut natural, mut end) = (0.0, 0.0, 0.0, 0.0, 0);
        for len in lens {
            end += len;
            let past_min = (len - MIN as usize) as f64;
            sum += past_min;
            sum_of_squares += past_min * past_min;
            below_mean += f64::from(past_min <= MEAN);
            natural += f64::from(is_natural(&x, end - 1));
        }
        if cfg!(miri) {
            continue;
        }
        let near = |what: &str, actual: f64, expected: f64, tolerance: f64| {
            let off = (actual / expected - 1.0).abs();
            assert!(off < tolerance, "{path}: {what} is {actual}, expected {expected}");
        };
        let mean = sum / count;
        let below: f64 = 1.0 - (1.0 - 1.0 / MEAN).powf(MEAN);
        near("mean", mean, MEAN, 0.01);
        near("deviation", (sum_of_squares / count - mean * mean).sqrt(), MEAN, 0.02);
        near("share of lengths up to the mean", below_mean / count, below, 0.01);
        near("share of cuts at natural positions", natural / count, 1.0 / 32.0, 0.06);
    }
}

#[test]
fn an_edit_changes_the_chunks_around_it_only() {
    let mut x = random("edit", 400_000);
    let algorithm = Algorithm::Pcc { min: 64, bits: 8, max: 4_096 };
    let chunker = Chunker::new(ChunkerParams::new(algorithm).unwrap(), &KEY);
    let ends = |x: &[u8]| {
        let mut end = 0;
        cut(&chunker, x, &[x.len()]).into_iter().map(|len| (end += len, x.len() - end).1).collect::<Vec<_>>()
    };
    let before = ends(&x);
    x.splice(1_000..1_000, *b"inserted");
    // Counted from the end of the stream, boundaries return to where they were.
    let after = ends(&x);
    let common = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
    assert!(common > before.len() * 95 / 100, "{common} of {}", before.len());
}

#[test]
fn params_outside_their_range_are_refused() {
    let pcc = |min, bits, max| ChunkerParams::new(Algorithm::Pcc { min, bits, max }).map(drop);
    assert_eq!(pcc(63, 20, 1 << 20), Err(ChunkerError::MinTooShort { min: 63 }));
    for bits in [0, BITS_MIN - 1, BITS_MAX + 1, u8::MAX] {
        assert_eq!(pcc(64, bits, 1 << 20), Err(ChunkerError::BitsOutOfRange { bits }));
    }
    for (min, max) in
        [(64, 319), (64, 0), (1 << 20, 1 << 19), (64, CHUNK_LEN_LIMIT + 1), (u32::MAX, u32::MAX)]
    {
        assert_eq!(pcc(min, 20, max), Err(ChunkerError::MaxOutOfRange { min, max }));
    }
    assert_eq!(pcc(64, BITS_MIN, 320), Ok(()));
    assert_eq!(pcc(64, BITS_MAX, CHUNK_LEN_LIMIT), Ok(()));
    let fixed = |len| ChunkerParams::new(Algorithm::Fixed { len }).map(drop);
    for len in [0, CHUNK_LEN_LIMIT + 1] {
        assert_eq!(fixed(len), Err(ChunkerError::FixedLenOutOfRange { len }));
    }
    assert_eq!(fixed(1), Ok(()));
    let default = ChunkerParams::default();
    assert_eq!(ChunkerParams::new(default.algorithm()), Ok(default));
}

#[test]
fn debug_output_does_not_show_the_key() {
    let shown = |key| {
        let chunker = chunker(small(6), &key, Path::Portable);
        format!("{chunker:?} {:?}", chunker.scanner())
    };
    assert_eq!(shown(KEY), shown([0; 16]));
}

#[test]
fn a_chunker_is_shared_between_threads() {
    let x = random("threads", 100_000);
    let chunker = Chunker::new(ChunkerParams::new(small(7)).unwrap(), &KEY);
    let expected = cut(&chunker, &x, &[x.len()]);
    std::thread::scope(|scope| {
        for clone in [chunker.clone(), chunker.clone()] {
            let (x, expected, chunker) = (&x, &expected, &chunker);
            scope.spawn(move || assert_eq!(&cut(&clone, x, &[1_000]), expected));
            scope.spawn(move || assert_eq!(&cut(chunker, x, &[1_000]), expected));
        }
    });
}
