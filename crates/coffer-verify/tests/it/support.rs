//! A writer of tiny vaults, from the encoding parts of the pipeline, and short ways to verify them.

use coffer_crypto::rng::SeededRng;
use coffer_crypto::{
    DomainKeys, ObjectKind, Purpose, SealContext, SealKey, SealingPublicKey, Secret, VaultKey, hash,
};
use coffer_format::header::{ChunkerSpec, Header, StoreMode};
use coffer_format::id::{ChunkId, DomainId, Head, SegmentId, SlotId, SnapshotId, VaultId};
use coffer_format::log::{LogState, Outcome, StoredRecord};
use coffer_format::manifest::Manifest;
use coffer_format::object::ObjectName;
use coffer_format::pack::{ChunkKind, Directory};
use coffer_format::record::{Details, EpochDetails, Public, RecordKind, SegmentAdded, chain_value};
use coffer_format::slot::{Slot, SlotKind, SlotPurpose};
use coffer_format::store::{FIRST_STORE, encode_store};
use coffer_format::tree::{
    Blob, ChunkRef, Content, Hole, Kind, TreeEntry, TreeRoot, encode_holes, encode_xattrs,
};
use coffer_pipeline::compress::{Compression, Compressor};
use coffer_pipeline::keyring::UnwrappedKey;
use coffer_pipeline::pack_reader::chunk_id;
use coffer_pipeline::pack_writer::{FinishedPack, PackSealer, PackWriter};
use coffer_pipeline::record::{BodySealer, seal_record, signature_is_good};
use coffer_pipeline::segment::SegmentWriter;
use coffer_pipeline::tree_writer::{MetaSink, TreeWriter};
use coffer_store::{MemoryStore, ObjectStore};
use coffer_testkit::copy::{Objects, snapshot_of, store_from};
use coffer_verify::{Class, Counts, Finding, Options, Report, Silent, verify, verify_deep};

/// A vault and all that is needed to write it on.
pub(crate) struct Vault {
    pub(crate) store: MemoryStore,
    pub(crate) log: LogState,
    /// Vault keys by epoch.
    pub(crate) keys: Vec<[u8; 32]>,
    pub(crate) rng: SeededRng,
    pack_seed: u64,
}

impl Vault {
    /// A vault with one key slot and record 0. Different seeds give different vaults.
    pub(crate) fn new(seed: u64) -> Self {
        let key_bytes = hash::hash(&seed.to_le_bytes());
        let key = VaultKey::from_secret(Secret::new(key_bytes));
        let header = Header {
            minor: 0,
            chunker: ChunkerSpec::Fixed { len: 4096 },
            store_mode: StoreMode::ConditionalCreate,
            sealing_key: Box::new(key.reader().sealing().public().to_bytes()),
            owner_key: *key.signing().verifying_key().as_bytes(),
            random: key_bytes,
        };
        let header_bytes = header.encode();
        let log = LogState::new(Header::vault_id(&header_bytes), &header);
        let mut vault = Self {
            store: MemoryStore::new(),
            log,
            keys: vec![key_bytes],
            rng: SeededRng::new(seed),
            pack_seed: seed * 1000,
        };
        vault.store.insert_raw("store", encode_store(&FIRST_STORE));
        vault.store.insert_raw("vault", header_bytes.clone());
        let slot = vault.put_slot(0, "first");
        let details = Details::Genesis { header: header_bytes };
        vault.commit(RecordKind::Slots, details, None, |public| public.slots = Some(vec![slot]));
        vault
    }

    pub(crate) fn id(&self) -> VaultId {
        self.log.vault
    }

    pub(crate) fn head(&self) -> Head {
        self.log.head().expect("a vault has record 0")
    }

    pub(crate) fn domain(&self) -> DomainKeys {
        self.domain_keys(DomainId::owner(0))
    }

    pub(crate) fn domain_keys(&self, domain: DomainId) -> DomainKeys {
        self.vault_key(domain.epoch() as usize).reader().domain_keys(&domain.0)
    }

    fn vault_key(&self, epoch: usize) -> VaultKey {
        VaultKey::from_secret(Secret::new(self.keys[epoch]))
    }

    fn newest(&self) -> VaultKey {
        self.vault_key(self.keys.len() - 1)
    }

    /// Stores a key slot that nobody can open.
    pub(crate) fn put_slot(&self, epoch: u32, label: &str) -> SlotId {
        let kind = SlotKind::KeyFile { key_id: [1; 8] };
        let mut slot =
            Slot::unwrapped(self.log.vault, epoch, SlotPurpose::VaultKey, kind, label.to_owned(), 0);
        slot.salt = Some([2; 32]);
        slot.commitment = Some([3; 32]);
        slot.wrapped = vec![4; 80];
        let bytes = slot.encode();
        let id = Slot::id(&bytes);
        self.store.insert_raw(ObjectName::Slot(id).to_string(), bytes);
        id
    }

    /// The next record, sealed and signed by the owner, but not stored.
    pub(crate) fn record(
        &self,
        kind: RecordKind,
        details: &Details,
        body: Option<&[u8]>,
        edit: impl FnOnce(&mut Public),
    ) -> Vec<u8> {
        let signing = self.newest().signing();
        let mut public = self.log.next_public(kind, *signing.verifying_key().as_bytes());
        public.details = details.encode();
        edit(&mut public);
        let sealing_key = self.sealing_key();
        let domain = self.domain();
        let sealer = BodySealer { sealing_key: &sealing_key, epoch: self.log.epoch(), domain: &domain };
        seal_record(public, body.map(|body| (body, &sealer)), &signing, &self.rng).unwrap()
    }

    fn sealing_key(&self) -> SealingPublicKey {
        SealingPublicKey::from_bytes(&self.newest().reader().sealing().public().to_bytes()).unwrap()
    }

    /// Stores a record object as the next one and applies it.
    pub(crate) fn store_record(&mut self, bytes: &[u8]) -> Outcome {
        self.store.insert_raw(ObjectName::Record(self.log.next).to_string(), bytes);
        self.log.apply(StoredRecord::Whole(bytes), &signature_is_good)
    }

    /// Commits a record, which must take effect, and returns its chain value.
    pub(crate) fn commit(
        &mut self,
        kind: RecordKind,
        details: Details,
        body: Option<&[u8]>,
        edit: impl FnOnce(&mut Public),
    ) -> [u8; 32] {
        let bytes = self.record(kind, &details, body, edit);
        assert_eq!(self.store_record(&bytes), Outcome::Effective);
        chain_value(&bytes)
    }

    /// Begins packs of the owner's domain.
    pub(crate) fn packs(&mut self) -> Packs {
        self.pack_seed += 1;
        let sealer =
            PackSealer { vault: self.log.vault, sealing_key: self.sealing_key(), domain: self.domain() };
        Packs {
            sealer,
            rng: SeededRng::new(self.pack_seed),
            compressor: Compressor::new(Compression::Auto).unwrap(),
            writer: None,
            done: Vec::new(),
        }
    }

    /// Stores packs, and a segment that lists them with directories that `edit` may make lie.
    pub(crate) fn store_packs(
        &mut self,
        mut packs: Packs,
        edit: impl Fn(&mut Directory),
    ) -> (Vec<String>, SegmentAdded) {
        packs.end_pack();
        let mut names = Vec::new();
        for pack in &packs.done {
            names.push(ObjectName::Pack(pack.id).to_string());
            self.store.insert_raw(names[names.len() - 1].clone(), pack.bytes.clone());
        }
        (names, self.list_packs(&packs.done, edit))
    }

    /// Stores a segment that lists `packs`.
    pub(crate) fn list_packs(&self, packs: &[FinishedPack], edit: impl Fn(&mut Directory)) -> SegmentAdded {
        let mut writer = SegmentWriter::default();
        for pack in packs {
            let mut directory = pack.directory.clone();
            edit(&mut directory);
            writer.add_pack(pack.id, pack.bytes.len() as u64, &directory).unwrap();
        }
        let segment = writer.finish(self.log.vault, &self.domain(), &self.rng).unwrap();
        self.store.insert_raw(ObjectName::Segment(segment.id).to_string(), segment.bytes.clone());
        let domain = DomainId(*self.domain().domain());
        SegmentAdded { id: segment.id, len: segment.bytes.len() as u64, domain }
    }

    /// Commits a snapshot of the tree with this root; returns it and the names of its packs in their order.
    pub(crate) fn snapshot(&mut self, packs: Packs, root: TreeRoot) -> Taken {
        let (packs, segment) = self.store_packs(packs, |_| {});
        self.commit_snapshot(packs, segment, root)
    }

    pub(crate) fn commit_snapshot(
        &mut self,
        packs: Vec<String>,
        segment: SegmentAdded,
        root: TreeRoot,
    ) -> Taken {
        let body = Manifest::new("files", root).encode();
        let number = self.log.next;
        let edit = |public: &mut Public| public.segments_added = vec![segment];
        let chain = self.commit(RecordKind::Snapshot, Details::None, Some(&body), edit);
        let record = ObjectName::Record(number).to_string();
        Taken { id: SnapshotId(chain), record, segment: segment_name(segment.id), packs }
    }

    /// A snapshot of `entries` as they are, in one more pack.
    pub(crate) fn take(&mut self, mut packs: Packs, entries: &[TreeEntry]) -> Taken {
        packs.end_pack();
        let root = tree(&self.domain(), &mut packs, entries);
        self.snapshot(packs, root)
    }

    /// Begins a new epoch with a new key; dedup domains stay.
    pub(crate) fn rotate(&mut self) {
        let key_bytes = hash::hash(&self.keys[self.keys.len() - 1]);
        let new = VaultKey::from_secret(Secret::new(key_bytes));
        let number = self.log.epoch() + 1;
        let seal = |kek: &Secret<32>, purpose, secret: &[u8; 32]| -> [u8; 48] {
            let context = SealContext::new(self.log.vault.0, ObjectKind::EpochRecord, [0; 32]);
            let mut bytes = secret.to_vec();
            SealKey::new(kek, context).seal_in_place(purpose, number, &mut bytes, 0).unwrap();
            bytes.try_into().unwrap()
        };
        let old = self.newest();
        let (old_reader, new_reader) = (old.reader(), new.reader());
        let details = EpochDetails {
            number,
            sealing_key: Box::new(new_reader.sealing().public().to_bytes()),
            owner_key: *new.signing().verifying_key().as_bytes(),
            previous_vault_key: seal(&new.previous_vault_key_kek(), Purpose::PreviousVaultKey, old.expose()),
            previous_reader_secret: seal(
                &new_reader.previous_reader_secret_kek(),
                Purpose::PreviousReaderSecret,
                old_reader.expose(),
            ),
            new_domains: false,
        };
        let slot = self.put_slot(number, "new epoch");
        self.commit(RecordKind::Epoch, Details::Epoch(details), None, |public| {
            public.slots = Some(vec![slot])
        });
        self.keys.push(key_bytes);
    }

    pub(crate) fn forget(&mut self, snapshot: &Taken) {
        let details = Details::Snapshots { ids: vec![snapshot.id] };
        self.commit(RecordKind::Forget, details, Some(EMPTY_BODY), |_| {});
    }

    pub(crate) fn objects(&self) -> Objects {
        snapshot_of(&self.store)
    }

    /// Options that know vault id and head.
    pub(crate) fn options(&self) -> Options {
        Options { vault_id: Some(self.id()), head: Some(self.head()), threads: 2, ..Options::default() }
    }

    pub(crate) fn key(&self) -> (u32, UnwrappedKey) {
        (self.log.epoch(), UnwrappedKey::VaultKey(self.newest()))
    }

    pub(crate) fn verify(&self) -> Report {
        self.verify_store(&self.store)
    }

    pub(crate) fn verify_deep(&self) -> Report {
        self.verify_store_deep(&self.store)
    }

    pub(crate) fn verify_store(&self, store: &dyn ObjectStore) -> Report {
        verify(store, &self.options(), &Silent).unwrap()
    }

    /// The report of a deep verification, which is the same where hardly a row of the index fits in memory, and on one thread or several.
    pub(crate) fn verify_store_deep(&self, store: &dyn ObjectStore) -> Report {
        let report = |threads, rows_in_memory| {
            let options = Options { threads, rows_in_memory, ..self.options() };
            verify_deep(store, self.key(), &options, &Silent).unwrap()
        };
        let expected = report(2, Options::default().rows_in_memory);
        for (threads, rows_in_memory) in [(1, u64::MAX), (3, 2)] {
            let other = report(threads, rows_in_memory);
            assert_eq!(other.findings, expected.findings, "{threads} threads, {rows_in_memory} rows");
            assert_eq!(other.residue, expected.residue);
            assert_eq!(Counts { read_bytes: expected.counts.read_bytes, ..other.counts }, expected.counts);
        }
        expected
    }

    /// A copy of the store in which one object was changed.
    pub(crate) fn changed(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> MemoryStore {
        let mut objects = self.objects();
        change(objects.get_mut(name).unwrap_or_else(|| panic!("{name} is in the vault")));
        store_from(objects)
    }

    /// A copy of the store in which one object is absent.
    pub(crate) fn without(&self, name: &str) -> MemoryStore {
        let mut objects = self.objects();
        assert!(objects.remove(name).is_some(), "{name} is in the vault");
        store_from(objects)
    }
}

/// An empty CBOR map.
pub(crate) const EMPTY_BODY: &[u8] = &[0xa0];

/// A snapshot, and the objects that came with it.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) id: SnapshotId,
    pub(crate) record: String,
    pub(crate) segment: String,
    pub(crate) packs: Vec<String>,
}

pub(crate) fn segment_name(id: SegmentId) -> String {
    ObjectName::Segment(id).to_string()
}

/// Packs being written; each chunk is a frame.
pub(crate) struct Packs {
    sealer: PackSealer,
    rng: SeededRng,
    compressor: Compressor,
    writer: Option<PackWriter>,
    pub(crate) done: Vec<FinishedPack>,
}

impl Packs {
    pub(crate) fn put(&mut self, kind: ChunkKind, bytes: &[u8]) -> ChunkRef {
        self.put_as(kind, bytes, chunk_id(&self.sealer.domain, kind, bytes))
    }

    /// Puts a chunk under whatever id is given.
    pub(crate) fn put_as(&mut self, kind: ChunkKind, bytes: &[u8], id: ChunkId) -> ChunkRef {
        let chunk = ChunkRef { id, len: u32::try_from(bytes.len()).unwrap() };
        let writer = self
            .writer
            .get_or_insert_with(|| PackWriter::begin(&self.sealer, &self.rng, Vec::new()).unwrap());
        writer.add_frame(kind, bytes, vec![chunk], &mut self.compressor).unwrap();
        chunk
    }

    /// A data chunk of `len` bytes that `seed` decides.
    pub(crate) fn data(&mut self, seed: u8, len: usize) -> ChunkRef {
        self.put(ChunkKind::Data, &content(seed, len))
    }

    pub(crate) fn meta(&mut self, bytes: &[u8]) -> ChunkRef {
        self.put(ChunkKind::Meta, bytes)
    }

    pub(crate) fn end_pack(&mut self) {
        if let Some(writer) = self.writer.take() {
            self.done.push(writer.finish().unwrap());
        }
    }
}

impl MetaSink for Packs {
    type Error = std::convert::Infallible;

    fn put(&mut self, bytes: &[u8]) -> Result<ChunkRef, Self::Error> {
        Ok(self.meta(bytes))
    }
}

/// Bytes that do not compress.
pub(crate) fn content(seed: u8, len: usize) -> Vec<u8> {
    (0_u64..).flat_map(|block| hash::keyed(&[seed; 32], &block.to_le_bytes())).take(len).collect()
}

pub(crate) fn tree(keys: &DomainKeys, packs: &mut Packs, entries: &[TreeEntry]) -> TreeRoot {
    let mut writer = TreeWriter::new(keys);
    for entry in entries {
        let Ok(()) = writer.push(entry, packs);
    }
    let Ok(root) = writer.finish(packs);
    root
}

pub(crate) fn entry(path: &str, kind: Kind) -> TreeEntry {
    TreeEntry::new(path.as_bytes().to_vec(), kind)
}

/// A file whose content is these chunks.
pub(crate) fn file(path: &str, rows: &[ChunkRef]) -> TreeEntry {
    let mut file = entry(path, Kind::File);
    file.size = rows.iter().map(|row| u64::from(row.len)).sum();
    file.content = Content::List { level: 0, rows: rows.to_vec() };
    file
}

/// A vault with every kind of object in it: snapshots A, B, and C, which is forgotten.
pub(crate) struct Standard {
    pub(crate) vault: Vault,
    /// Packs: one chunk of `docs/big`; the other, and that of `docs/sparse`; the attributes of `docs/tagged`; the tree.
    pub(crate) a: Taken,
    /// Packs: `docs/new`; the tree. It shares `docs/big` with A.
    pub(crate) b: Taken,
    /// Packs: its file; the tree.
    pub(crate) c: Taken,
}

impl Standard {
    pub(crate) fn new() -> Self {
        let mut vault = Vault::new(1);
        let mut packs = vault.packs();
        let first = packs.data(1, 9000);
        packs.end_pack();
        let second = packs.data(2, 7000);
        let island = packs.data(3, 5000);
        packs.end_pack();
        let attributes = packs.meta(&encode_xattrs(&[(b"user.long".to_vec(), content(9, 5000))]));
        let big = file("docs/big", &[first, second]);
        let a = vault.take(packs, &entries_of_a(&big, island, attributes));

        let mut packs = vault.packs();
        let new = packs.data(4, 6000);
        packs.end_pack();
        let entries =
            [entry("", Kind::Directory), entry("docs", Kind::Directory), big, file("docs/new", &[new])];
        let b = vault.take(packs, &entries);

        let mut packs = vault.packs();
        let gone = packs.data(5, 3000);
        let c = vault.take(packs, &[file("gone", &[gone])]);
        vault.forget(&c);
        let details = Details::Hold { ids: vec![a.id], held: true };
        vault.commit(RecordKind::Hold, details, Some(EMPTY_BODY), |_| {});
        Self { vault, a, b, c }
    }
}

fn entries_of_a(big: &TreeEntry, island: ChunkRef, attributes: ChunkRef) -> Vec<TreeEntry> {
    let mut copy = entry("docs/copy", Kind::File);
    copy.size = big.size;
    copy.hard_link = Some(b"docs/big".to_vec());
    let mut link = entry("docs/link", Kind::Symlink);
    link.link_target = Some(b"big".to_vec());
    let mut small = entry("docs/small", Kind::File);
    small.size = 5;
    small.content = Content::Inline(b"hello".to_vec());
    small.xattrs = Some(Blob::Inline(encode_xattrs(&[(b"user.short".to_vec(), b"1".to_vec())])));
    let mut sparse = file("docs/sparse", &[island]);
    sparse.size += 100_000;
    sparse.holes = Some(Blob::Inline(encode_holes(&[Hole { offset: 5000, len: 100_000 }])));
    let mut tagged = entry("docs/tagged", Kind::File);
    tagged.xattrs = Some(Blob::Chunk(attributes));
    vec![
        entry("", Kind::Directory),
        entry("docs", Kind::Directory),
        big.clone(),
        copy,
        link,
        small,
        sparse,
        tagged,
    ]
}

/// Classes and objects of findings, sorted as in the report.
pub(crate) fn found(report: &Report) -> Vec<(Class, &str)> {
    report.findings.iter().map(|finding| (finding.class, finding.object.as_str())).collect()
}

/// The one finding about `object`.
#[track_caller]
pub(crate) fn only<'a>(report: &'a Report, class: Class, object: &str) -> &'a Finding {
    assert_eq!(found(report), [(class, object)], "{:#?}", report.findings);
    &report.findings[0]
}

/// Asserts that the report blames exactly `object`, and says who is affected.
#[track_caller]
pub(crate) fn check_affected(
    report: &Report,
    class: Class,
    object: &str,
    snapshots: &[&Taken],
    paths: &[&str],
) {
    let finding = only(report, class, object);
    let mut expected: Vec<_> = snapshots.iter().map(|taken| taken.id).collect();
    expected.sort_unstable();
    assert_eq!(finding.snapshots, expected, "{finding:#?}");
    assert_eq!(finding.paths, paths, "{finding:#?}");
}
