//! What is backed up and how, and what tells one origin from another.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use coffer_collect::{Excludes, Identity, Stream};
use coffer_crypto::hash::Hasher;
use coffer_format::cbor::Encoder;
use coffer_format::limits::PATH_LEN_MAX;
use coffer_format::manifest::Manifest;
use coffer_pipeline::compress::Compression;

use crate::checkpoint::CHECKPOINT_INTERVAL;
use crate::error::EngineError;
use crate::vault::Snapshot;

/// What is backed up, and how.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Files and directories, as given. Of no meaning for a stream.
    pub sources: Vec<PathBuf>,
    /// The directory against which relative sources are resolved.
    pub working_directory: PathBuf,
    /// What is left out of the sources.
    pub excludes: Excludes,
    /// Directories that are not entered, such as the vault itself.
    pub skip: Vec<Identity>,
    /// Host recorded in the snapshot.
    pub host: String,
    /// User recorded in the snapshot.
    pub user: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Time recorded in the snapshot, in nanoseconds since 1970 UTC, instead of when the backup began and ended.
    pub time_ns: Option<i64>,
    /// Program and version recorded in the snapshot.
    pub program: String,
    /// The snapshot to compare with, instead of the newest one of the same host and sources.
    pub parent: Option<Snapshot>,
    /// Whether no parent is compared with, and every file read.
    pub force: bool,
    /// Whether device and inode number of a file may differ from the last time and the file still be unchanged.
    pub ignore_inode: bool,
    /// Whether the time of the last inode change may. With both, size and modification time decide.
    pub ignore_ctime: bool,
    /// Whether no snapshot is made if everything is as in the parent.
    pub skip_if_unchanged: bool,
    /// How frames are compressed.
    pub compression: Compression,
    /// Whether every frame is opened, decompressed and rehashed before it is stored.
    pub extra_verify: bool,
    /// Threads that compress and seal.
    pub worker_count: usize,
    /// No pack is longer, unless its only frame is.
    pub pack_len_target: u64,
    /// After how long a progress record names what was stored.
    pub progress_interval_ns: u64,
    /// After how many log records a checkpoint is added; 0: never.
    pub checkpoint_interval: u64,
    /// Where bytes of content are counted as they are read, for who shows how far the backup is.
    pub read_counter: Arc<AtomicU64>,
}

impl BackupOptions {
    /// Default length that packs have at most, unless a chunk is longer: 16 MiB.
    pub const PACK_LEN_TARGET: u64 = 16 << 20;
    /// Default interval of progress records: one minute.
    pub const PROGRESS_INTERVAL_NS: u64 = 60_000_000_000;

    /// A backup of these sources with nothing special about it, on one thread.
    #[must_use]
    pub fn new(sources: Vec<PathBuf>, working_directory: PathBuf, host: String) -> Self {
        Self {
            sources,
            working_directory,
            excludes: Excludes::default(),
            skip: Vec::new(),
            host,
            user: None,
            tags: Vec::new(),
            time_ns: None,
            program: concat!("coffer ", env!("CARGO_PKG_VERSION")).to_owned(),
            parent: None,
            force: false,
            ignore_inode: false,
            ignore_ctime: false,
            skip_if_unchanged: false,
            compression: Compression::Auto,
            extra_verify: true,
            worker_count: 1,
            pack_len_target: Self::PACK_LEN_TARGET,
            progress_interval_ns: Self::PROGRESS_INTERVAL_NS,
            checkpoint_interval: CHECKPOINT_INTERVAL,
            read_counter: Arc::default(),
        }
    }

    /// Refuses at the beginning what would not fit the manifest at the end.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        let refuse = |reason: String| Err(EngineError::invalid(reason));
        if self.sources.len() > SOURCE_COUNT_MAX {
            return refuse(format!(
                "more than {SOURCE_COUNT_MAX} sources in one backup; name a directory above them"
            ));
        }
        let lens = || self.sources.iter().map(|source| source.as_os_str().len());
        if lens().any(|len| len as u64 > PATH_LEN_MAX) {
            return refuse(format!("a source is longer than {PATH_LEN_MAX} bytes"));
        }
        let len: usize = lens().chain(self.tags.iter().map(String::len)).sum();
        if len > SOURCES_AND_TAGS_LEN_MAX {
            return refuse(format!(
                "sources and tags together are longer than {SOURCES_AND_TAGS_LEN_MAX} bytes; name a directory above the sources"
            ));
        }
        Ok(())
    }
}

/// Sources of one snapshot, as the format limits them.
const SOURCE_COUNT_MAX: usize = 65_536;
/// Half of what the body of a record can hold: the rest is for errors and what stands beside.
const SOURCES_AND_TAGS_LEN_MAX: usize = 2 << 20;

/// Where snapshots come from. Those of one origin follow each other.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) collector: String,
    pub(super) host: String,
    pub(super) sources: Vec<Vec<u8>>,
    /// The directory that relative sources are relative to, encoded.
    pub(super) facts: Option<Vec<u8>>,
}

impl PartialEq for Origin {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

/// A path without what changes nothing: slashes at its end, double ones, and components `.`.
fn plain(path: &[u8]) -> Vec<u8> {
    let components: Vec<_> =
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    let joined = components.join(&b'/');
    match (path.starts_with(b"/"), joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

impl Origin {
    /// The origin of files, or of a stream.
    pub(super) fn new(options: &BackupOptions, stream: Option<&Stream>) -> Self {
        let host = options.host.clone();
        if let Some(stream) = stream {
            let sources = vec![stream.path().as_bytes().to_vec()];
            return Self { collector: "stream".to_owned(), host, sources, facts: None };
        }
        let sources = options.sources.iter();
        let sources = sources.map(|source| plain(source.as_os_str().as_encoded_bytes())).collect();
        let facts = options.sources.iter().any(|source| source.is_relative()).then(|| {
            let mut encoder = Encoder::new();
            let directory = options.working_directory.as_os_str().as_encoded_bytes();
            encoder.map(|map| map.key(1).bytes(directory));
            encoder.finish()
        });
        Self { collector: "files".to_owned(), host, sources, facts }
    }

    /// The origin that a snapshot names.
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self {
            collector: manifest.collector.clone(),
            host: manifest.host.clone(),
            sources: manifest.sources.clone(),
            facts: manifest.facts.clone(),
        }
    }

    /// Whether its entries are found by a walk, so that the next one can be compared with it.
    pub(super) fn is_walked(&self) -> bool {
        self.collector == "files"
    }

    /// What tells origins apart in the local memory.
    pub(super) fn key(&self) -> [u8; 32] {
        let mut hasher = Hasher::new();
        let parts =
            [self.collector.as_bytes(), self.host.as_bytes(), self.facts.as_deref().unwrap_or_default()];
        // In whatever order and spelling they were given.
        let mut sources: Vec<_> = self.sources.iter().map(|source| plain(source)).collect();
        sources.sort_unstable();
        for part in parts.into_iter().chain(sources.iter().map(Vec::as_slice)) {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        hasher.finalize()
    }
}
