//! `tests/vectors/chunker.json`: cuts that any implementation has to make.
//!
//! `cuts` lists streams with every chunk length; `accumulated` lists one hash over the cuts of many small streams.
//! Run the tests with `COFFER_WRITE_VECTORS=1` to write the file from the reference implementation, never from the code
//! under test; the file then belongs in the same commit as the change of rules that asked for it.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Algorithm, Path, chunker, cut, random, reference};

const ABOUT: &str = "Chunk lengths of the pcc chunker, docs/format.md. Inputs: `zeros` is input_len zero bytes; `repeat` \
    repeats `hex`; `blake3-xof` is the first input_len bytes of the BLAKE3 extended output of the UTF-8 `seed`, each \
    byte ANDed with the byte `and` where there is one. `accumulated`: stream n of `streams`, from 0, takes its parameters \
    from d, 32 bytes of the BLAKE3 extended output of the UTF-8 text `<seed> <n in decimal>`: key = d[0..16], min = 64 + \
    le16(d[16..18]) mod 512, bits = 6 + d[18] mod 8, max = min + 256 + le16(d[20..22]) mod 8192, input_len = le16(d[22..24]), \
    and = ff, 03, 01 or 80 for d[19] mod 4 = 0, 1, 2 or 3; its input is blake3-xof of the seed `<seed> <n> input` with that \
    `and`. `blake3` hashes the lengths of all chunks of all streams in order, each as 8 bytes little-endian.";

#[test]
fn vectors_hold_on_every_path() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/chunker.json");
    if std::env::var_os("COFFER_WRITE_VECTORS").is_some_and(|value| value == "1") {
        let text = serde_json::to_string_pretty(&generate()).unwrap() + "\n";
        std::fs::write(&path, text).unwrap();
    }
    let file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();

    let cuts = file["cuts"].as_array().unwrap();
    assert!(cuts.len() >= 12, "{} vectors", cuts.len());
    for vector in cuts {
        let (algorithm, key, input) = stream(vector);
        let expected: Vec<usize> = serde_json::from_value(vector["cuts"].clone()).unwrap();
        assert_eq!(expected.iter().sum::<usize>(), input.len(), "{}", vector["name"]);
        for path in Path::available() {
            assert_eq!(
                cut(&chunker(algorithm, &key, path), &input, &[65_536]),
                expected,
                "{}, {path}",
                vector["name"]
            );
        }
    }

    let accumulated = file["accumulated"].as_array().unwrap();
    assert!(!accumulated.is_empty());
    for vector in accumulated {
        for path in Path::available() {
            let hash = accumulate(vector, |algorithm, key, input| {
                cut(&chunker(algorithm, key, path), input, &[4_096, 1, 777])
            });
            assert_eq!(hash, vector["blake3"].as_str().unwrap(), "{}, {path}", vector["name"]);
        }
    }
}

fn generate() -> Value {
    let key = "000102030405060708090a0b0c0d0e0f";
    let xof = |seed: &str| json!({ "kind": "blake3-xof", "seed": seed });
    let masked = |seed: &str, and: &str| json!({ "kind": "blake3-xof", "seed": seed, "and": and });
    let repeat = |hex: &str| json!({ "kind": "repeat", "hex": hex });
    let zeros = || json!({ "kind": "zeros" });
    let rows = [
        ("empty stream", (64, 6, 1_024), zeros(), 0),
        ("one byte", (64, 6, 1_024), zeros(), 1),
        ("exactly the minimum", (64, 6, 1_024), xof("min"), 64),
        ("one byte past the minimum", (64, 6, 1_024), xof("min"), 65),
        ("smallest parameters", (64, 6, 320), xof("smallest"), 8_192),
        ("small", (64, 8, 1_024), xof("small"), 16_384),
        ("odd lengths", (333, 9, 2_777), xof("odd"), 50_001),
        ("cuts at the maximum only", (100, 30, 1_000), xof("forced"), 5_500),
        ("low entropy", (64, 8, 2_048), masked("low", "01"), 30_000),
        ("cells without natural positions", (64, 8, 2_048), repeat("ff"), 10_000),
        ("zeros", (64, 8, 2_048), zeros(), 10_000),
        ("period shorter than a window", (64, 7, 4_096), repeat("00010203040506"), 20_000),
        ("period longer than a window", (64, 7, 4_096), repeat(&"0123456789abcdef".repeat(12)), 20_000),
        ("default parameters", (1 << 19, 20, 1 << 23), xof("default"), 24 << 20),
        ("default parameters, zeros", (1 << 19, 20, 1 << 23), zeros(), (8 << 20) + 1),
    ];
    let cuts = rows.map(|(name, (min, bits, max), input, input_len)| {
        let mut vector = json!({
            "name": name, "key": key, "min": min, "bits": bits, "max": max, "input": input, "input_len": input_len,
        });
        let (algorithm, key, input) = stream(&vector);
        vector["cuts"] = json!(reference(&input, &key, algorithm));
        vector
    });
    let mut accumulated = json!({ "name": "many streams", "seed": "coffer chunker", "streams": 500 });
    accumulated["blake3"] =
        accumulate(&accumulated, |algorithm, key, input| reference(input, key, algorithm)).into();
    json!({ "about": ABOUT, "cuts": cuts, "accumulated": [accumulated] })
}

/// The parameters, key and bytes that a row of `cuts` describes.
fn stream(vector: &Value) -> (Algorithm, [u8; 16], Vec<u8>) {
    let number = |field: &str| u32::try_from(vector[field].as_u64().unwrap()).unwrap();
    let algorithm = Algorithm::Pcc {
        min: number("min"),
        bits: u8::try_from(number("bits")).unwrap(),
        max: number("max"),
    };
    let key = unhex(&vector["key"]).try_into().unwrap();
    let input_len = number("input_len") as usize;
    let input = &vector["input"];
    let bytes = match input["kind"].as_str().unwrap() {
        "zeros" => vec![0; input_len],
        "repeat" => unhex(&input["hex"]).into_iter().cycle().take(input_len).collect(),
        "blake3-xof" => {
            let and = input.get("and").map_or(0xff, |and| unhex(and)[0]);
            masked(input["seed"].as_str().unwrap(), input_len, and)
        }
        kind => panic!("unknown kind of input {kind}"),
    };
    (algorithm, key, bytes)
}

fn accumulate(vector: &Value, cut: impl Fn(Algorithm, &[u8; 16], &[u8]) -> Vec<usize>) -> String {
    let seed = vector["seed"].as_str().unwrap();
    let mut hasher = blake3::Hasher::new();
    for n in 0..vector["streams"].as_u64().unwrap() {
        let d = random(&format!("{seed} {n}"), 32);
        let le16 = |at: usize| u32::from(u16::from_le_bytes([d[at], d[at + 1]]));
        let min = 64 + le16(16) % 512;
        let algorithm = Algorithm::Pcc { min, bits: 6 + d[18] % 8, max: min + 256 + le16(20) % 8_192 };
        let and = [0xff, 0x03, 0x01, 0x80][usize::from(d[19] % 4)];
        let input = masked(&format!("{seed} {n} input"), le16(22) as usize, and);
        for len in cut(algorithm, d[..16].try_into().unwrap(), &input) {
            hasher.update(&u64::try_from(len).unwrap().to_le_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

fn masked(seed: &str, len: usize, and: u8) -> Vec<u8> {
    random(seed, len).into_iter().map(|byte| byte & and).collect()
}

fn unhex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap().as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
