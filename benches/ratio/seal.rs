//! Sealing and opening frames, beside AES-256-GCM itself.

use std::hint::black_box;

use anyhow::Result;
use coffer_benches::data::Kind;
use coffer_crypto::{ObjectKind, PortableSealKey, Purpose, SealContext, SealKey, Secret};

use super::Bench;
use super::primitive::RawGcm;

const LEN: usize = 16 << 20;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    if !bench.wants("seal") {
        return Ok(());
    }
    let bytes = Kind::Random.bytes(3, LEN);
    let context = SealContext::new([1; 32], ObjectKind::Pack, [2; 32]);
    let key = SealKey::new(&Secret::new([3; 32]), context);
    let raw = RawGcm::new()?;

    Bench::heading("seal: beside AES-256-GCM of AWS-LC");
    for frame_len in [16 << 10, 512 << 10, 4 << 20] {
        let name = |what: &str| format!("{what} frames of {} KiB", frame_len >> 10);
        let mut own = Vec::with_capacity(frame_len + 16);
        let mut other = Vec::with_capacity(frame_len);
        Bench::compare(
            &name("seal"),
            LEN,
            Box::new(|| {
                for (number, frame) in (0..).zip(bytes.chunks(frame_len)) {
                    own.clear();
                    own.extend_from_slice(frame);
                    let sealed = key.seal_in_place(Purpose::Frame, number, &mut own, 0);
                    assert!(sealed.is_ok(), "sealing does not fail");
                    black_box(&own);
                }
            }),
            vec![Box::new(|| {
                for frame in bytes.chunks(frame_len) {
                    other.clear();
                    other.extend_from_slice(frame);
                    black_box(raw.seal(&mut other));
                }
            })],
        );
        let mut sealed = bytes[..frame_len].to_vec();
        sealed.reserve(16);
        key.seal_in_place(Purpose::Frame, 0, &mut sealed, 0)?;
        let mut raw_sealed = bytes[..frame_len].to_vec();
        let tag = raw.seal(&mut raw_sealed);
        let (mut out, mut raw_out) = (Vec::new(), vec![0; frame_len]);
        let times = LEN / frame_len;
        Bench::compare(
            &name("open"),
            LEN,
            Box::new(|| {
                for _ in 0..times {
                    let opened = key.open_to(Purpose::Frame, 0, &sealed, &mut out);
                    assert!(opened.is_ok(), "what was sealed opens");
                    black_box(&out);
                }
            }),
            vec![Box::new(|| {
                for _ in 0..times {
                    raw.open(&raw_sealed, &tag, &mut raw_out);
                    black_box(&raw_out);
                }
            })],
        );
    }
    let portable = PortableSealKey::new(&Secret::new([3; 32]), context);
    let mut frame = bytes[..2 << 20].to_vec();
    Bench::rate(
        "seal a frame of 2048 KiB on the portable path",
        2 << 20,
        Box::new(|| {
            let sealed = portable.seal_in_place(Purpose::Frame, 0, &mut frame, 0);
            assert!(sealed.is_ok(), "sealing does not fail");
            frame.truncate(2 << 20);
        }),
    );
    Ok(())
}
