//! Writers: hosts that back up with a credential which reads nothing.

use std::fs;
use std::path::{Path, PathBuf};

use coffer_crypto::rng::SeededRng;
use coffer_engine::{
    BackupObserver, BackupOptions, BackupReport, EngineError, EntryChange, Vault, WriterOptions, backup,
};
use coffer_keys::WriterCredential;
use coffer_store::{MemoryStore, ObjectStore};
use tempfile::TempDir;

use super::support::{World, backup_options, noise, scratch};

mod crash;
mod credential;
mod hostile;
mod keys;
mod races;
mod settings;
mod state;

/// Enrols a writer as the owner of `world` does.
pub(crate) fn grant(
    world: &World,
    store: &dyn ObjectStore,
    name: &str,
    group: Option<&str>,
) -> WriterCredential {
    let mut vault = world.open(store).unwrap();
    let options = WriterOptions { name: name.to_owned(), group: group.map(str::to_owned) };
    let credential = vault.new_writer(&options).unwrap();
    vault.enrol_writer(&credential, Some("host")).unwrap();
    credential
}

/// A vault with its owner.
fn owned(seed: u64) -> (World, MemoryStore) {
    let (owner, store) = (World::new(seed), MemoryStore::new());
    owner.init(&store).unwrap();
    (owner, store)
}

/// Hears why every file is read.
#[derive(Default)]
pub(crate) struct Heard {
    reasons: Vec<&'static str>,
    errors: Vec<String>,
}

impl BackupObserver for Heard {
    fn reads_all(&mut self, reason: &'static str) {
        self.reasons.push(reason);
    }

    fn entry(&mut self, _path: &[u8], _size: u64, _: EntryChange) {}

    fn error(&mut self, _path: &[u8], message: &str) {
        self.errors.push(message.to_owned());
    }
}

/// A machine with sources, a credential, and what it remembers. It has no key of the vault.
pub(crate) struct Host {
    place: TempDir,
    pub(crate) credential: WriterCredential,
    pub(crate) world: World,
}

impl Host {
    pub(crate) fn new(credential: WriterCredential, seed: u64) -> Self {
        let place = scratch();
        fs::create_dir(place.path().join("src")).unwrap();
        let world =
            World { rng: SeededRng::new(seed), ..World::with_cache(seed, &place.path().join("cache")) };
        Self { place, credential, world }
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.place.path().join("src")
    }

    fn cache(&self) -> PathBuf {
        self.place.path().join("cache")
    }

    /// The machine after it has lost what it remembered, or before it had any of it.
    fn without_cache(&self) -> World {
        World { cache: None, ..World::new(fresh_seed()) }
    }

    pub(crate) fn backup(&self, store: &dyn ObjectStore) -> Result<BackupReport, EngineError> {
        let (report, heard) = self.backup_with(store, &self.options())?;
        assert_eq!(heard.errors, Vec::<String>::new());
        Ok(report)
    }

    fn options(&self) -> BackupOptions {
        backup_options(&self.source())
    }

    fn backup_with(
        &self,
        store: &dyn ObjectStore,
        options: &BackupOptions,
    ) -> Result<(BackupReport, Heard), EngineError> {
        backup_in(&self.world, &self.credential, store, options)
    }

    /// The files in which it keeps the state of its backups.
    fn state_files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for vault in fs::read_dir(self.cache().join("vaults")).unwrap() {
            for file in fs::read_dir(vault.unwrap().path()).unwrap() {
                let file = file.unwrap();
                let name = file.file_name().to_string_lossy().into_owned();
                assert!(!name.contains("tmp"), "{name} was left");
                if name.starts_with("writer-") {
                    found.push(file.path());
                }
            }
        }
        found
    }
}

fn backup_in(
    world: &World,
    credential: &WriterCredential,
    store: &dyn ObjectStore,
    options: &BackupOptions,
) -> Result<(BackupReport, Heard), EngineError> {
    let mut vault = Vault::open_as_writer(world.access(store), credential, None)?;
    let mut heard = Heard::default();
    let report = backup(&mut vault, options, &mut heard)?;
    Ok((report, heard))
}

fn fresh_seed() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1 << 40);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Files of every kind of content: none, some in the entry, one chunk, many chunks; links, and directories with many entries.
fn grow(source: &Path) {
    for (folder, count) in [("a", 90_u64), ("b/deep", 300)] {
        let folder = source.join(folder);
        fs::create_dir_all(&folder).unwrap();
        for number in 0..count {
            let len = [0, 1, 127, 128, 129, 700, 3000][usize::try_from(number % 7).unwrap()];
            fs::write(folder.join(format!("file-{number:04}")), noise(number * 31 + len as u64, len))
                .unwrap();
        }
    }
    fs::write(source.join("large"), noise(77, 600_000)).unwrap();
    fs::hard_link(source.join("large"), source.join("a/other name")).unwrap();
    fs::hard_link(source.join("a/file-0001"), source.join("b/tiny link")).unwrap();
    std::os::unix::fs::symlink("large", source.join("link")).unwrap();
    let sparse = fs::File::create(source.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &noise(3, 5000), 1 << 20).unwrap();
}

/// How many bytes of the source stand in entries: they are read in every backup.
fn inline_bytes(source: &Path) -> u64 {
    let mut sum = 0;
    let mut open = vec![source.to_path_buf()];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(folder) = open.pop() {
        for child in fs::read_dir(folder).unwrap() {
            use std::os::unix::fs::MetadataExt;
            let child = child.unwrap();
            let stat = fs::symlink_metadata(child.path()).unwrap();
            if stat.is_dir() {
                open.push(child.path());
            } else if stat.is_file() && stat.len() <= 128 && seen.insert(stat.ino()) {
                sum += stat.len();
            }
        }
    }
    sum
}
