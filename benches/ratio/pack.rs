//! Whole packs, written with extra verification and read, beside the sum of what that takes.

use std::cell::RefCell;
use std::hint::black_box;

use anyhow::{Context, Result};
use coffer_benches::data::Kind;
use coffer_benches::stopwatch::Work;
use coffer_benches::world::Keys;
use coffer_format::pack::{ChunkKind, PACK_HEAD_SIZE};
use coffer_format::tree::ChunkRef;
use coffer_pipeline::compress::{Compression, Compressor};
use coffer_pipeline::pack_reader::{FrameReader, PackKey};
use coffer_pipeline::pack_writer::{FinishedPack, PackWriter};

use super::Bench;
use super::primitive::{RawGcm, RawZstd};

const LEN: usize = 16 << 20;
const FRAME_LEN: usize = 4 << 20;
/// About the mean length of a source file.
const CHUNK_LEN: usize = 16 << 10;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    if !bench.wants("pack") {
        return Ok(());
    }
    Bench::heading("pack: 16 MiB in frames of 4 MiB with chunks of 16 KiB");
    for kind in Kind::ALL {
        of_kind(kind)?;
    }
    Ok(())
}

/// What the primitives work on: each frame as it is, compressed (or as it is, if that does not help), and sealed.
pub(crate) struct Frames {
    pub(crate) plain: Vec<Vec<u8>>,
    pub(crate) payload: Vec<Vec<u8>>,
    pub(crate) sealed: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) is_compressed: bool,
}

impl Frames {
    pub(crate) fn of(bytes: &[u8], kind: Kind) -> Result<Self> {
        let (mut zstd, gcm) = (RawZstd::new()?, RawGcm::new()?);
        let is_compressed = kind != Kind::Random;
        let plain: Vec<Vec<u8>> = bytes.chunks(FRAME_LEN).map(<[u8]>::to_vec).collect();
        let payload: Vec<Vec<u8>> = plain
            .iter()
            .map(|frame| if is_compressed { zstd.compress(frame).to_vec() } else { frame.clone() })
            .collect();
        let sealed = payload.iter().cloned().map(|mut payload| {
            let tag = gcm.seal(&mut payload);
            (payload, tag)
        });
        Ok(Self { sealed: sealed.collect(), plain, payload, is_compressed })
    }

    /// Primitives that turn plain frames into sealed ones, and name the pack.
    pub(crate) fn writing(&self) -> Result<Vec<Work<'_>>> {
        Ok(vec![self.compressing()?, self.sealing()?, self.pack_naming()])
    }

    /// Primitives that turn sealed frames into plain ones.
    pub(crate) fn reading(&self) -> Result<Vec<Work<'_>>> {
        Ok([Some(self.opening()?), self.decompressing()?].into_iter().flatten().collect())
    }

    /// zstd; a copy where it does not help, as what is stored as it is has to get into the pack all the same.
    pub(crate) fn compressing(&self) -> Result<Work<'_>> {
        if !self.is_compressed {
            return Ok(self.copying());
        }
        let mut zstd = RawZstd::new()?;
        Ok(Box::new(move || {
            for frame in &self.plain {
                black_box(zstd.compress(frame));
            }
        }))
    }

    /// Each frame into the same memory.
    pub(crate) fn copying(&self) -> Work<'_> {
        let mut out = vec![0; self.plain.iter().map(Vec::len).max().unwrap_or_default()];
        Box::new(move || {
            self.plain.iter().for_each(|frame| black_box(&mut out[..frame.len()]).copy_from_slice(frame))
        })
    }

    pub(crate) fn sealing(&self) -> Result<Work<'_>> {
        let gcm = RawGcm::new()?;
        let mut scratch = self.payload.clone();
        Ok(Box::new(move || scratch.iter_mut().for_each(|payload| drop(black_box(gcm.seal(payload))))))
    }

    /// The hash that a pack is named by.
    pub(crate) fn pack_naming(&self) -> Work<'_> {
        Box::new(|| {
            self.payload.iter().for_each(|payload| {
                black_box(blake3::hash(payload));
            })
        })
    }

    pub(crate) fn opening(&self) -> Result<Work<'_>> {
        let gcm = RawGcm::new()?;
        let mut out = vec![0; FRAME_LEN];
        Ok(Box::new(move || {
            for (sealed, tag) in &self.sealed {
                gcm.open(sealed, tag, &mut out[..sealed.len()]);
                black_box(&out);
            }
        }))
    }

    /// `None` for what is stored as it is.
    pub(crate) fn decompressing(&self) -> Result<Option<Work<'_>>> {
        if !self.is_compressed {
            return Ok(None);
        }
        let mut zstd = RawZstd::new()?;
        let mut out = vec![0; FRAME_LEN];
        Ok(Some(Box::new(move || {
            for (payload, plain) in self.payload.iter().zip(&self.plain) {
                zstd.decompress(payload, &mut out[..plain.len()]);
                black_box(&out);
            }
        })))
    }

    /// The primitive that names chunks of about `chunk_len` bytes.
    pub(crate) fn naming(&self, chunk_len: usize) -> Work<'_> {
        let chunks = move || self.plain.iter().flat_map(move |frame| frame.chunks(chunk_len));
        Box::new(move || {
            chunks().for_each(|chunk| {
                black_box(blake3::keyed_hash(&[5; 32], chunk));
            })
        })
    }
}

fn of_kind(kind: Kind) -> Result<()> {
    let keys = Keys::new(4)?;
    let bytes = kind.bytes(4, LEN);
    let frames = Frames::of(&bytes, kind)?;
    let rows: Vec<Vec<ChunkRef>> =
        bytes.chunks(FRAME_LEN).map(|frame| keys.chunks(frame, CHUNK_LEN)).collect();
    let compressor = RefCell::new(Compressor::new(Compression::Auto)?);
    let reader = RefCell::new(FrameReader::new()?);
    let (buffer, room) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
    let write = |extra_verify: bool| -> Result<FinishedPack> {
        let mut pack = PackWriter::begin(&keys.sealer, &keys.rng, buffer.take())?;
        for (frame, rows) in frames.plain.iter().zip(&rows) {
            pack.add_frame(ChunkKind::Data, frame, rows.clone(), &mut compressor.borrow_mut())?;
            if extra_verify {
                pack.verify_newest(&keys.sealer.domain, &mut reader.borrow_mut(), &mut room.borrow_mut())?;
            }
        }
        Ok(pack.finish()?)
    };
    let write_and_forget = |extra_verify: bool| {
        let pack = write(extra_verify).expect("a pack is written");
        *buffer.borrow_mut() = pack.bytes;
    };
    let name = kind.name();
    Bench::compare(
        &format!("{name}: write : zstd, seal, name"),
        LEN,
        Box::new(|| write_and_forget(false)),
        frames.writing()?,
    );
    let mut parts = frames.writing()?;
    parts.extend(frames.reading()?);
    parts.push(frames.naming(CHUNK_LEN));
    Bench::compare(
        &format!("{name}: write, extra verify : + open, unzstd, rehash"),
        LEN,
        Box::new(|| write_and_forget(true)),
        parts,
    );

    let pack = write(false)?;
    let head: &[u8; PACK_HEAD_SIZE] = pack.bytes.first_chunk().context("a pack has a head")?;
    let key = PackKey::open(keys.vault, &keys.pair, &keys.domain, head)?;
    Bench::compare(
        &format!("{name}: open frames : open, unzstd"),
        LEN,
        Box::new(|| {
            let mut reader = reader.borrow_mut();
            for (ordinal, frame) in (0..).zip(&pack.directory.frames) {
                let from = frame.place.offset as usize;
                let sealed = &pack.bytes[from..from + frame.place.sealed_len as usize];
                let plain = reader.open(&key, ordinal, frame.place.plain_len, sealed);
                assert!(plain.is_ok(), "what was sealed opens");
            }
        }),
        frames.reading()?,
    );
    Ok(())
}
