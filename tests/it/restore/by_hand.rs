//! A writer that puts into a vault whatever a test wants: packs, trees and records of an enrolled signer who may lie.

use std::rc::Rc;

use coffer_crypto::rng::SeededRng;
use coffer_crypto::{DomainKeys, Secret, SigningKey};
use coffer_engine::Vault;
use coffer_format::id::{DomainId, SnapshotId};
use coffer_format::log::LogState;
use coffer_format::manifest::Manifest;
use coffer_format::object::ObjectName;
use coffer_format::pack::ChunkKind;
use coffer_format::record::{Details, Public, RecordKind, Role, RoleAction, SegmentAdded};
use coffer_format::tree::{ChunkRef, Content, Kind, NodeChild, TreeEntry, TreeRoot, encode_items_head};
use coffer_pipeline::compress::{Compression, Compressor};
use coffer_pipeline::pack_reader::chunk_id;
use coffer_pipeline::pack_writer::{FinishedPack, PackSealer, PackWriter};
use coffer_pipeline::record::{BodySealer, seal_record};
use coffer_pipeline::segment::SegmentWriter;
use coffer_pipeline::tree_writer::{MetaSink, TreeWriter};
use coffer_store::{MemoryStore, ObjectKey, ObjectStore, PutOutcome};

/// An empty CBOR map: the body of records that have nothing to say in it.
pub(crate) const EMPTY_BODY: &[u8] = &[0xa0];

/// Stores an object that is not there yet.
pub(crate) fn put(store: &dyn ObjectStore, name: &str, bytes: &[u8]) {
    let put = store.put_if_absent(&ObjectKey::new(name).unwrap(), bytes).unwrap();
    assert_eq!(put, PutOutcome::Created, "{name} was there already");
}

/// A signing key that `seed` decides.
pub(crate) fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret::new([seed; 32]))
}

/// The domain number `number` of epoch 0.
pub(crate) fn domain(number: u8) -> DomainId {
    let mut id = DomainId::owner(0);
    id.0[15] = number;
    id
}

/// A record as the next one after `state`, sealed with `domain` and signed by `signing`.
pub(crate) fn record(
    vault: &Vault<'_>,
    state: &LogState,
    kind: RecordKind,
    signing: &SigningKey,
    body: Option<(&[u8], DomainId)>,
    edit: impl FnOnce(&mut Public),
) -> Vec<u8> {
    let mut public = state.next_public(kind, *signing.verifying_key().as_bytes());
    edit(&mut public);
    let (sealing_key, epoch) = vault.sealing_key().unwrap();
    let keys = vault.domain_keys(&body.map_or(DomainId::owner(0), |(_, domain)| domain)).unwrap();
    let sealer = BodySealer { sealing_key: &sealing_key, epoch, domain: &keys };
    seal_record(public, body.map(|(body, _)| (body, &sealer)), signing, vault.access.rng).unwrap()
}

/// Commits a record of the owner.
pub(crate) fn commit_by_owner(vault: &mut Vault<'_>, kind: RecordKind, details: &Details) {
    let domain = vault.owner_domain();
    let bytes = record(
        vault,
        vault.state(),
        kind,
        vault.signing_key().unwrap(),
        Some((EMPTY_BODY, domain)),
        |public| {
            public.details = details.encode();
        },
    );
    commit(vault, &bytes);
}

/// Commits a record object that has to take effect, and returns its chain value.
pub(crate) fn commit(vault: &mut Vault<'_>, bytes: &[u8]) -> SnapshotId {
    let access = vault.access;
    let head = vault.log.commit(&access, &mut |_| Ok(bytes.to_vec())).unwrap();
    SnapshotId(head.chain)
}

/// Enrols a `put` signer for one domain.
pub(crate) fn enrol(vault: &mut Vault<'_>, signing: &SigningKey, domain: DomainId) {
    let key = *signing.verifying_key().as_bytes();
    let action = RoleAction::Enrol { key, role: Role::Put, domains: vec![domain] };
    commit_by_owner(vault, RecordKind::Role, &Details::Role(action));
}

/// Stores the record under the next number, whatever it says.
pub(crate) fn store_as_next(store: &MemoryStore, state: &LogState, bytes: impl Into<Vec<u8>>) -> String {
    let name = ObjectName::Record(state.next).to_string();
    assert_eq!(store.raw(&name), None);
    store.insert_raw(name.clone(), bytes);
    name
}

/// Writes packs of one domain; each chunk is a frame.
pub(crate) struct Writer {
    sealer: PackSealer,
    tree_keys: Rc<DomainKeys>,
    domain: DomainId,
    rng: SeededRng,
    compressor: Compressor,
    open: Option<PackWriter>,
    done: Vec<FinishedPack>,
}

impl Writer {
    pub(crate) fn new(vault: &Vault<'_>, domain: DomainId, seed: u64) -> Self {
        let keys = || vault.domain_keys(&domain).unwrap();
        let (sealing_key, _) = vault.sealing_key().unwrap();
        Self {
            sealer: PackSealer { vault: vault.id(), sealing_key, domain: keys() },
            tree_keys: Rc::new(keys()),
            domain,
            rng: SeededRng::new(seed),
            compressor: Compressor::new(Compression::Auto).unwrap(),
            open: None,
            done: Vec::new(),
        }
    }

    pub(crate) fn put(&mut self, kind: ChunkKind, bytes: &[u8]) -> ChunkRef {
        self.put_as(kind, bytes, ChunkRef { id: chunk_id(&self.tree_keys, kind, bytes), len: len32(bytes) })
    }

    /// Puts a chunk under whatever id `chunk` has.
    pub(crate) fn put_as(&mut self, kind: ChunkKind, bytes: &[u8], chunk: ChunkRef) -> ChunkRef {
        let open =
            self.open.get_or_insert_with(|| PackWriter::begin(&self.sealer, &self.rng, Vec::new()).unwrap());
        open.add_frame(kind, bytes, vec![chunk], &mut self.compressor).unwrap();
        chunk
    }

    pub(crate) fn data(&mut self, bytes: &[u8]) -> ChunkRef {
        self.put(ChunkKind::Data, bytes)
    }

    pub(crate) fn meta(&mut self, bytes: &[u8]) -> ChunkRef {
        self.put(ChunkKind::Meta, bytes)
    }

    pub(crate) fn end_pack(&mut self) {
        self.done.extend(self.open.take().map(|open| open.finish().unwrap()));
    }

    /// A tree of `entries` as they are.
    pub(crate) fn tree(&mut self, entries: &[TreeEntry]) -> TreeRoot {
        let keys = Rc::clone(&self.tree_keys);
        let mut tree = TreeWriter::new(&keys);
        for entry in entries {
            let Ok(()) = tree.push(entry, self);
        }
        let Ok(root) = tree.finish(self);
        root
    }

    /// A leaf of `entries` as they are.
    pub(crate) fn leaf(&mut self, entries: &[TreeEntry]) -> NodeChild {
        let mut bytes = encode_items_head(entries.len());
        entries.iter().for_each(|entry| bytes.extend(entry.encode()));
        NodeChild {
            last_path: entries.last().map(|entry| entry.path.clone()).unwrap_or_default(),
            chunk: self.meta(&bytes),
            entry_count: entries.len() as u64,
            content_bytes: entries.iter().fold(0, |sum, entry| sum.saturating_add(entry.size)),
        }
    }

    /// A node that says of its children what they say.
    pub(crate) fn node(&mut self, children: &[NodeChild]) -> ChunkRef {
        let mut bytes = encode_items_head(children.len());
        children.iter().for_each(|child| bytes.extend(child.encode()));
        self.meta(&bytes)
    }

    /// Stores the packs and a segment that lists them.
    pub(crate) fn store(mut self, vault: &Vault<'_>) -> (Vec<String>, SegmentAdded) {
        self.end_pack();
        let mut segment = SegmentWriter::default();
        let mut names = Vec::new();
        for pack in &self.done {
            names.push(ObjectName::Pack(pack.id).to_string());
            put(vault.access.store, &names[names.len() - 1], &pack.bytes);
            segment.add_pack(pack.id, pack.bytes.len() as u64, &pack.directory).unwrap();
        }
        let segment = segment.finish(vault.id(), &self.tree_keys, &self.rng).unwrap();
        put(vault.access.store, &ObjectName::Segment(segment.id).to_string(), &segment.bytes);
        let len = segment.bytes.len() as u64;
        (names, SegmentAdded { id: segment.id, len, domain: self.domain })
    }

    /// Stores everything and commits a snapshot of the tree.
    pub(crate) fn snapshot(self, vault: &mut Vault<'_>, signing: &SigningKey, root: TreeRoot) -> SnapshotId {
        self.snapshot_of(vault, signing, root, |_| {})
    }

    /// As [`Self::snapshot`], with a manifest that `change` has changed.
    pub(crate) fn snapshot_of(
        self,
        vault: &mut Vault<'_>,
        signing: &SigningKey,
        root: TreeRoot,
        change: impl FnOnce(&mut Manifest),
    ) -> SnapshotId {
        let domain = self.domain;
        let (_, segment) = self.store(vault);
        let mut manifest = Manifest::new("files", root);
        change(&mut manifest);
        let body = manifest.encode();
        let bytes =
            record(vault, vault.state(), RecordKind::Snapshot, signing, Some((&body, domain)), |public| {
                public.segments_added = vec![segment];
            });
        commit(vault, &bytes)
    }
}

impl MetaSink for Writer {
    type Error = std::convert::Infallible;

    fn put(&mut self, bytes: &[u8]) -> Result<ChunkRef, Self::Error> {
        Ok(self.meta(bytes))
    }
}

fn len32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap()
}

/// An entry that its owner may read, from 1970.
pub(crate) fn entry(path: &str, kind: Kind) -> TreeEntry {
    let mut entry = TreeEntry::new(path.as_bytes().to_vec(), kind);
    entry.mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
    (entry.uid, entry.gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    entry
}

/// A file of these chunks.
pub(crate) fn file(path: &str, rows: &[ChunkRef]) -> TreeEntry {
    let mut file = entry(path, Kind::File);
    file.size = rows.iter().map(|row| u64::from(row.len)).sum();
    file.content = Content::List { level: 0, rows: rows.to_vec() };
    file
}

/// A file with its content inside the entry.
pub(crate) fn inline(path: &str, bytes: &[u8]) -> TreeEntry {
    let mut file = entry(path, Kind::File);
    file.size = bytes.len() as u64;
    file.content = Content::Inline(bytes.to_vec());
    file
}

pub(crate) fn symlink(path: &str, target: &str) -> TreeEntry {
    let mut link = entry(path, Kind::Symlink);
    link.link_target = Some(target.as_bytes().to_vec());
    link
}
