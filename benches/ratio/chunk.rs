//! Copying, naming and cutting.

use std::hint::black_box;

use anyhow::Result;
use coffer_benches::data::Kind;
use coffer_benches::world::Keys;
use coffer_pipeline::chunker::{Chunker, ChunkerParams, Path};

use super::Bench;

const LEN: usize = 32 << 20;
const FRAME_LEN: usize = 4 << 20;
/// How much the engine reads of a large file at a time.
const READ_LEN: usize = 1 << 20;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    if !bench.wants("chunk") {
        return Ok(());
    }
    let keys = Keys::new(1)?;
    let bytes = Kind::Random.bytes(1, LEN);
    let mut copy = vec![0_u8; LEN];

    Bench::heading("chunk: copying, naming, cutting");
    for chunk_len in [1 << 20, 16 << 10, 900] {
        let mut frame = Vec::with_capacity(FRAME_LEN);
        Bench::compare(
            &format!("gather chunks of {chunk_len} bytes into frames : memcpy"),
            LEN,
            Box::new(|| gather(&bytes, chunk_len, &mut frame)),
            vec![Box::new(|| black_box(&mut copy).copy_from_slice(black_box(&bytes)))],
        );
    }
    for chunk_len in [1 << 20, 16 << 10, 900] {
        let key = [5; 32];
        let id = |part: &[u8]| {
            black_box(keys.domain.data_id(part));
        };
        let raw = |part: &[u8]| {
            black_box(blake3::keyed_hash(&key, part));
        };
        Bench::compare(
            &format!("id of chunks of {chunk_len} bytes : keyed BLAKE3"),
            LEN,
            Box::new(|| bytes.chunks(chunk_len).for_each(id)),
            vec![Box::new(|| bytes.chunks(chunk_len).for_each(raw))],
        );
    }
    for path in Path::available() {
        let chunker = Chunker::with_path(ChunkerParams::default(), &[6; 16], path)?;
        Bench::rate(
            &format!("pcc over a slice, {path}"),
            LEN,
            Box::new(|| {
                black_box(cut_slice(&chunker, &bytes));
            }),
        );
    }
    let chunker = Chunker::new(ChunkerParams::default(), &[6; 16]);
    let (mut buffer, mut read) = (Vec::new(), vec![0_u8; READ_LEN]);
    Bench::compare(
        "cut a stream read 1 MiB at a time : pcc, memcpy",
        LEN,
        Box::new(|| {
            black_box(cut_stream(&chunker, &bytes, &mut buffer));
        }),
        vec![
            Box::new(|| {
                black_box(cut_slice(&chunker, &bytes));
            }),
            Box::new(|| {
                bytes
                    .chunks(READ_LEN)
                    .for_each(|part| black_box(&mut read[..part.len()]).copy_from_slice(part));
            }),
        ],
    );
    Ok(())
}

/// Chunks one behind the other into a frame that is used again when it is full.
fn gather(bytes: &[u8], chunk_len: usize, frame: &mut Vec<u8>) {
    for chunk in bytes.chunks(chunk_len) {
        if frame.len() + chunk.len() > FRAME_LEN {
            black_box(&frame);
            frame.clear();
        }
        frame.extend_from_slice(chunk);
    }
}

/// The raw loop: all bytes are there already.
pub(crate) fn cut_slice(chunker: &Chunker, mut bytes: &[u8]) -> usize {
    let (mut scanner, mut count) = (chunker.scanner(), 0);
    while let Some(len) = scanner.scan(bytes, true) {
        bytes = &bytes[len..];
        count += 1;
    }
    count
}

/// As the engine does it: what is left of a chunk moves to the front of the buffer, and as much as is read at a time comes behind it.
fn cut_stream(chunker: &Chunker, mut bytes: &[u8], buffer: &mut Vec<u8>) -> usize {
    let (mut scanner, mut count) = (chunker.scanner(), 0);
    let (mut filled, mut consumed, mut ended) = (0, 0, false);
    loop {
        while let Some(len) = scanner.scan(&buffer[consumed..filled], ended) {
            consumed += len;
            count += 1;
        }
        if ended {
            return count;
        }
        buffer.copy_within(consumed..filled, 0);
        filled -= consumed;
        consumed = 0;
        if buffer.len() < filled + READ_LEN {
            buffer.resize(filled + READ_LEN, 0);
        }
        let (read, rest) = bytes.split_at(READ_LEN.min(bytes.len()));
        buffer[filled..filled + read.len()].copy_from_slice(read);
        filled += read.len();
        bytes = rest;
        ended = rest.is_empty();
    }
}
