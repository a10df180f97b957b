//! Compression at the lengths that frames may have, beside zstd itself.

use std::hint::black_box;

use anyhow::Result;
use coffer_benches::data::Kind;
use coffer_pipeline::compress::{Compression, Compressor};

use super::Bench;
use super::primitive::RawZstd;

const LEN: usize = 16 << 20;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    if !bench.wants("compress") {
        return Ok(());
    }
    for kind in Kind::ALL {
        let bytes = kind.bytes(2, LEN);
        Bench::heading(&format!("compress: {}; `auto` beside zstd of its level and window", kind.name()));
        for frame_len in [512 << 10, 1 << 20, 2 << 20, 4 << 20] {
            let mut compressor = Compressor::new(Compression::Auto)?;
            let mut raw = RawZstd::new()?;
            let mut out = Vec::new();
            let mut stored = 0;
            for frame in bytes.chunks(frame_len) {
                out.clear();
                compressor.append(frame, &mut out)?;
                stored += out.len();
            }
            let share = 100.0 * stored as f64 / LEN as f64;
            Bench::compare(
                &format!("frames of {} KiB, {share:.1} % stored", frame_len >> 10),
                LEN,
                Box::new(|| {
                    for frame in bytes.chunks(frame_len) {
                        out.clear();
                        let codec = compressor.append(frame, &mut out);
                        assert!(codec.is_ok(), "compression does not fail");
                        black_box(&out);
                    }
                }),
                vec![Box::new(|| {
                    for frame in bytes.chunks(frame_len) {
                        black_box(raw.compress(frame));
                    }
                })],
            );
        }
    }
    Ok(())
}
