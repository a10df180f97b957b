//! What a writer remembers of its last backup, as it cannot read it back: the entries of the snapshot with what their stat fields amount to.
//!
//! A file in the local memory, one for each writer and origin, written as the backup goes and put in its place after the commit. It holds
//! paths, metadata and chunk ids, and no content: of content that stands in an entry, the id it would have as a chunk. Such files, of
//! at most 128 bytes, are therefore read in every backup.
//!
//! It is believed as far as the snapshot it is of is in the log and not forgotten: then all that it refers to is in live segments. Its hash
//! tells what a disk has garbled. Whoever can write to it can make a backup miss changes, as with fingerprints.
//!
//! ```text
//! magic (8) || entries || 0 u32 || manifest length u32 || manifest || snapshot (32) || writer's key (32) || origin (32) || H of it all (32)
//! entry = length u32 || fingerprint u64 || content u8 (1: an id stands for it) || CBOR
//! ```

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use coffer_crypto::DomainKeys;
use coffer_crypto::hash::Hasher;
use coffer_format::id::{SnapshotId, hex};
use coffer_format::limits::{RECORD_PART_LEN_MAX, TREE_LEN_MAX};
use coffer_format::manifest::Manifest;
use coffer_format::pack::ChunkKind;
use coffer_format::path::compare_paths;
use coffer_format::tree::{ChunkRef, Content, TreeEntry, decode_leaf, encode_items_head};
use coffer_pipeline::pack_reader::chunk_id;

use super::ahead::Unchanged;
use super::options::Origin;
use super::run::NO_FINGERPRINT;
use crate::cache::Recording;
use crate::error::EngineError;
use crate::vault::{Snapshot, Vault};

const MAGIC: &[u8; 8] = b"coffwst1";

/// Whose state of which origin a file is.
#[derive(Debug, Clone, Copy)]
struct Owner {
    writer: [u8; 32],
    origin: [u8; 32],
}

impl Owner {
    /// `None` if no writer opened the vault.
    fn of(vault: &Vault<'_>, origin: &Origin) -> Option<Self> {
        let signing = vault.keyring.signing().filter(|_| vault.writer.is_some())?;
        Some(Self { writer: *signing.verifying_key().as_bytes(), origin: origin.key() })
    }

    fn file_name(&self) -> String {
        format!("writer-{}-{}", hex(&self.writer[..16]), hex(&self.origin[..16]))
    }
}

/// The state of a backup that is under way.
pub(super) struct Memory {
    /// Or what went wrong with it: the backup goes on without.
    recording: Result<Recording, EngineError>,
    keys: DomainKeys,
    owner: Owner,
}

impl Memory {
    /// Begins one, where a writer opened the vault and this machine may remember.
    pub(super) fn begin(vault: &Vault<'_>, origin: &Origin) -> Result<Option<Self>, EngineError> {
        let Some((owner, cache)) = Owner::of(vault, origin).zip(vault.access.cache) else { return Ok(None) };
        let keys = vault.domain_keys(&vault.write_domain())?;
        let recording = cache.record(&vault.id(), &owner.file_name()).and_then(|mut recording| {
            recording.write(MAGIC)?;
            Ok(recording)
        });
        Ok(Some(Self { recording, keys, owner }))
    }

    pub(super) fn add(&mut self, entry: &TreeEntry, fingerprint: u64) {
        let Ok(recording) = &mut self.recording else { return };
        let withheld = without_content(entry, &self.keys);
        let cbor = withheld.as_ref().unwrap_or(entry).encode();
        let len = u32::try_from(cbor.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(13 + cbor.len());
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&fingerprint.to_le_bytes());
        bytes.push(u8::from(withheld.is_some()));
        bytes.extend_from_slice(&cbor);
        if let Err(error) = recording.write(&bytes) {
            self.recording = Err(error);
        }
    }

    /// The snapshot is committed: this is what the next backup compares with.
    pub(super) fn finish(self, snapshot: &SnapshotId, manifest: &Manifest) -> Result<(), EngineError> {
        let mut recording = self.recording?;
        let manifest = manifest.encode();
        recording.write(&0_u32.to_le_bytes())?;
        recording.write(&u32::try_from(manifest.len()).unwrap_or(u32::MAX).to_le_bytes())?;
        recording.write(&manifest)?;
        for part in [&snapshot.0, &self.owner.writer, &self.owner.origin] {
            recording.write(part)?;
        }
        recording.finish()
    }
}

/// The entry with an id in the place of content that stands in it; `None` if there is none.
fn without_content(entry: &TreeEntry, keys: &DomainKeys) -> Option<TreeEntry> {
    let Content::Inline(bytes) = &entry.content else { return None };
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let row = ChunkRef { id: chunk_id(keys, ChunkKind::Data, bytes), len };
    let mut withheld = entry.clone();
    withheld.content = Content::List { level: 0, rows: vec![row] };
    Some(withheld)
}

/// The entries of the last backup, in path order.
pub(super) struct Recalled {
    file: BufReader<File>,
    keys: DomainKeys,
    unchanged: Unchanged,
    current: Option<Held>,
}

struct Held {
    entry: TreeEntry,
    fingerprint: u64,
    is_withheld: bool,
}

impl Recalled {
    /// The state of the last backup of `origin`, and its snapshot; else why there is none, if there were backups before.
    pub(super) fn open(vault: &Vault<'_>, origin: &Origin) -> Result<(Snapshot, Self), Option<&'static str>> {
        let owner = Owner::of(vault, origin).ok_or(None)?;
        let domain = vault.write_domain();
        let is_own = |signer: &[u8; 32]| *signer == owner.writer;
        if !vault.state().snapshots.iter().any(|state| is_own(&state.signer)) {
            return Err(None);
        }
        let cache = vault.access.cache.ok_or(Some("this machine has no local memory"))?;
        let file = cache.open_file(&vault.id(), &owner.file_name());
        let file = file.ok_or(Some("this machine remembers no backup of these sources"))?;
        let damaged = Some("what this machine remembers of the last backup is damaged");
        let keys = vault.domain_keys(&domain).map_err(|_| damaged)?;
        let (id, manifest, state) = Self::check(file, keys, &owner).map_err(|_| damaged)?;
        let state_of =
            vault.state().snapshot(&id).filter(|state| !state.forgotten && state.body.domain == domain);
        let known =
            state_of.ok_or(Some("the snapshot that this machine remembers is not in the vault any more"))?;
        Ok((Snapshot { state: *known, manifest, is_degraded: false }, state))
    }

    /// Reads the whole file once, before anything in it is believed.
    fn check(file: File, keys: DomainKeys, owner: &Owner) -> io::Result<(SnapshotId, Manifest, Self)> {
        let mut file = Hashing { file: BufReader::new(file), hasher: Hasher::new() };
        require(file.fixed::<8>()? == *MAGIC)?;
        let mut unchanged = Unchanged::default();
        let mut bytes = Vec::new();
        while let Some((fingerprint, is_withheld)) = next(&mut file, &mut bytes)? {
            if !is_withheld && fingerprint != NO_FINGERPRINT {
                unchanged.push(fingerprint);
            }
        }
        let len = u32::from_le_bytes(file.fixed()?);
        require(u64::from(len) <= RECORD_PART_LEN_MAX)?;
        bytes.resize(len as usize, 0);
        file.read_exact(&mut bytes)?;
        let manifest = Manifest::decode(&bytes).map_err(io::Error::other)?;
        let snapshot = SnapshotId(file.fixed()?);
        require(file.fixed()? == owner.writer)?;
        require(file.fixed()? == owner.origin)?;
        let Hashing { mut file, hasher } = file;
        let mut hash = [0; 32];
        file.read_exact(&mut hash)?;
        require(hash == hasher.finalize())?;
        require(file.read(&mut [0])? == 0)?;
        file.seek(SeekFrom::Start(MAGIC.len() as u64))?;
        let mut state = Self { file, keys, unchanged, current: None };
        state.pass();
        Ok((snapshot, manifest, state))
    }

    /// Fingerprints of entries whose content is known. They are given away.
    pub(super) fn take_unchanged(&mut self) -> Unchanged {
        std::mem::take(&mut self.unchanged)
    }

    pub(super) fn entry(&self) -> Option<&TreeEntry> {
        self.current.as_ref().map(|held| &held.entry)
    }

    pub(super) fn has_content(&self) -> bool {
        self.current.as_ref().is_some_and(|held| !held.is_withheld)
    }

    pub(super) fn has(&self, entry: &TreeEntry) -> bool {
        let Some(held) = &self.current else { return false };
        match without_content(entry, &self.keys) {
            Some(entry) => held.is_withheld && held.entry == entry,
            None => !held.is_withheld && held.entry == *entry,
        }
    }

    pub(super) fn has_content_of(&self, entry: &TreeEntry) -> bool {
        let Some(held) = &self.current else { return false };
        let withheld = without_content(entry, &self.keys);
        held.is_withheld == withheld.is_some()
            && held.entry.content == withheld.as_ref().unwrap_or(entry).content
    }

    /// Passes entries before `path`; the fingerprint of the one at `path`, if there is one.
    pub(super) fn seek(&mut self, path: &[u8]) -> Option<u64> {
        loop {
            let held = self.current.as_ref()?;
            match compare_paths(&held.entry.path, path) {
                std::cmp::Ordering::Less => self.pass(),
                std::cmp::Ordering::Equal => return Some(held.fingerprint),
                std::cmp::Ordering::Greater => return None,
            }
        }
    }

    /// Goes on to the next entry. What cannot be read any more is not known.
    pub(super) fn pass(&mut self) {
        let mut cbor = Vec::new();
        let head = next(&mut self.file, &mut cbor).ok().flatten();
        self.current = head.and_then(|(fingerprint, is_withheld)| {
            // As a leaf that holds it alone.
            let mut entries = decode_leaf(&[encode_items_head(1), cbor].concat()).ok()?;
            Some(Held { entry: entries.pop()?, fingerprint, is_withheld })
        });
    }
}

/// Reads the next entry into `cbor`: its fingerprint, and whether an id stands for its content. `None` behind the last one.
fn next(file: &mut impl Read, cbor: &mut Vec<u8>) -> io::Result<Option<(u64, bool)>> {
    let mut len = [0; 4];
    file.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len);
    if len == 0 {
        return Ok(None);
    }
    require(u64::from(len) <= TREE_LEN_MAX)?;
    let mut head = [0; 9];
    file.read_exact(&mut head)?;
    let [fingerprint @ .., content] = head;
    cbor.resize(len as usize, 0);
    file.read_exact(cbor)?;
    Ok(Some((u64::from_le_bytes(fingerprint), content != 0)))
}

fn require(holds: bool) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Hashes what it reads.
struct Hashing {
    file: BufReader<File>,
    hasher: Hasher,
}

impl Hashing {
    fn fixed<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
