//! Makes a vault whose index lists many chunks that nobody stored: `coffer-many-chunks VAULT KEY-FILE COUNT`.
//!
//! What a backup, a lookup and the local cache cost with a large index shows without the terabytes that a large index stands for:
//! each chunk is listed with the 1.5 MiB that are its mean length. The packs are not there, so the vault is good for nothing else.

#![expect(clippy::print_stdout, reason = "it is a command")]

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use coffer_crypto::{OsRng, rng};
use coffer_engine::{Access, Clock, InitOptions, Vault, init};
use coffer_format::header::{ChunkerSpec, StoreMode};
use coffer_format::id::{ChunkId, PackId};
use coffer_format::object::ObjectName;
use coffer_format::pack::{Directory, DirectoryFrame, FramePlace};
use coffer_format::record::{RecordKind, SegmentAdded};
use coffer_format::tree::ChunkRef;
use coffer_keys::{KeyFile, RootKey};
use coffer_pipeline::record::{BodySealer, seal_record};
use coffer_pipeline::segment::SegmentWriter;
use coffer_store::{LocalStore, ObjectKey};

const CHUNK_LEN: u32 = 1_572_864;
const CHUNKS_OF_PACK: u32 = 21;
const CHUNKS_OF_SEGMENT: u64 = 1 << 20;

#[derive(Debug)]
struct Now;

impl Clock for Now {
    fn now_ns(&self) -> i64 {
        1_800_000_000_000_000_000
    }

    fn monotonic_ns(&self) -> u64 {
        0
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [vault, key_file, count] = arguments.as_slice() else {
        anyhow::bail!("usage: coffer-many-chunks VAULT KEY-FILE COUNT");
    };
    let count: u64 = count.parse().context("COUNT is a number")?;
    let key = KeyFile::parse(&std::fs::read(key_file)?)?;
    let store = LocalStore::create(Path::new(vault))?;
    let stopped = AtomicBool::new(false);
    let access = Access { store: &store, clock: &Now, rng: &OsRng, cache: None, interrupt: &stopped };
    let chunker = ChunkerSpec::DEFAULT;
    let options = InitOptions { chunker, store_mode: StoreMode::ConditionalCreate };
    let root: &dyn RootKey = &key;
    init(&access, &[(root, String::new())], &options)?;
    let mut left = count;
    while left > 0 {
        let some = left.min(CHUNKS_OF_SEGMENT);
        add_segment(&access, &key, some)?;
        left -= some;
    }
    println!("{count} chunks are listed");
    Ok(())
}

/// Commits a progress record with a segment of `count` chunks.
fn add_segment(access: &Access<'_>, key: &KeyFile, count: u64) -> Result<()> {
    let mut vault = Vault::open(*access, key, None)?;
    let domain = vault.owner_domain();
    let keys = vault.domain_keys(&domain)?;
    let mut segment = SegmentWriter::default();
    let mut left = count;
    while left > 0 {
        let chunks = left.min(u64::from(CHUNKS_OF_PACK));
        let frame = |number: u64| -> Result<DirectoryFrame> {
            let offset = 1184 + u32::try_from(number)? * (CHUNK_LEN + 16);
            let place = FramePlace { offset, sealed_len: CHUNK_LEN + 16, plain_len: CHUNK_LEN };
            let id = ChunkId(rng::array(access.rng)?);
            Ok(DirectoryFrame { place, chunks: vec![ChunkRef { id, len: CHUNK_LEN }] })
        };
        let frames = (0..chunks).map(frame).collect::<Result<_>>()?;
        segment.add_pack(PackId(rng::array(access.rng)?), 40 << 20, &Directory { domain, frames })?;
        left -= chunks;
    }
    let segment = segment.finish(vault.id(), &keys, access.rng)?;
    let name = ObjectKey::new(ObjectName::Segment(segment.id).to_string())?;
    access.store.put_if_absent(&name, &segment.bytes)?;
    let added = SegmentAdded { id: segment.id, len: segment.bytes.len() as u64, domain };
    let (sealing_key, epoch) = vault.sealing_key()?;
    let sealer = BodySealer { sealing_key: &sealing_key, epoch, domain: &keys };
    let signing = vault.signing_key()?;
    let mut log = vault.log.clone();
    log.commit(access, &mut |state| {
        let mut public = state.next_public(RecordKind::Progress, *signing.verifying_key().as_bytes());
        public.segments_added = vec![added];
        Ok(seal_record(public, Some((&[0xa0], &sealer)), signing, access.rng)?)
    })?;
    vault.log = log;
    Ok(())
}
