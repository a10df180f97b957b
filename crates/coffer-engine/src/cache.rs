//! What this machine remembers of vaults: the last head, which vault is where, and stat fingerprints of the last backup.
//!
//! Of a vault that is far away it also keeps the state of the log, and parts of objects as they are in the store.
//!
//! The directory can be deleted at any time: nothing but speed, and the memory that detects a rollback, is lost. It holds no
//! key, and no content but sealed. Of a writer's backups it holds paths, metadata and chunk ids (`backup/memory.rs`). Files are replaced whole through a rename.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use coffer_crypto::hash::hash;
use coffer_format::id::{Head, SlotId, VaultId, hex};

use crate::error::EngineError;

mod fingerprints;
mod kept;
mod recording;

pub(crate) use fingerprints::{KeptFingerprints, RecordedFingerprints};
pub(crate) use kept::KeptState;
pub(crate) use recording::Recording;

/// The local memory of vaults.
#[derive(Debug)]
pub struct Cache {
    root: PathBuf,
    unique: AtomicU64,
    /// Bytes of objects that were kept since it was last looked whether they are too many; `u64::MAX` before the first look.
    kept_bytes: AtomicU64,
}

impl Cache {
    /// The memory in `root`, which is made when something is first remembered.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), unique: AtomicU64::new(0), kept_bytes: AtomicU64::new(u64::MAX) }
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The vault that was last seen at a place, which is what [`ObjectStore::place`](coffer_store::ObjectStore::place) says, and its head.
    ///
    /// # Errors
    /// [`EngineError::Cache`] when a file is there and cannot be read.
    pub fn remembered(&self, place: &str) -> Result<Option<(VaultId, Option<Head>)>, EngineError> {
        let Some(vault) = self.location(place)? else { return Ok(None) };
        Ok(Some((vault, self.head(&vault)?)))
    }

    /// The vault that was last seen at a place.
    pub(crate) fn location(&self, place: &str) -> Result<Option<VaultId>, EngineError> {
        let text = self.read_text(&self.location_path(place))?;
        Ok(text.and_then(|text| text.lines().next().and_then(|line| line.parse().ok())))
    }

    pub(crate) fn set_location(&self, place: &str, vault: &VaultId) -> Result<(), EngineError> {
        if self.location(place)? == Some(*vault) {
            return Ok(());
        }
        self.replace(&self.location_path(place), format!("{vault}\n{place}\n").as_bytes())
    }

    /// The head that was last seen of a vault.
    pub(crate) fn head(&self, vault: &VaultId) -> Result<Option<Head>, EngineError> {
        let path = self.vault_path(vault, "head");
        let Some(text) = self.read_text(&path)? else { return Ok(None) };
        let parsed = text.lines().next().unwrap_or_default().trim().parse().map(Some);
        parsed.map_err(|error: coffer_format::FormatError| {
            fail("understand", &path, io::Error::new(io::ErrorKind::InvalidData, error))
        })
    }

    /// The epoch that the vault was in at that head; 0 if that is not known.
    pub(crate) fn epoch(&self, vault: &VaultId) -> u32 {
        let text = self.read_text(&self.vault_path(vault, "head")).ok().flatten().unwrap_or_default();
        text.lines().nth(1).and_then(|line| line.strip_prefix("epoch ")?.parse().ok()).unwrap_or_default()
    }

    /// The term that the log was in at that head; 0 if that is not known.
    pub(crate) fn term(&self, vault: &VaultId) -> u64 {
        let text = self.read_text(&self.vault_path(vault, "head")).ok().flatten().unwrap_or_default();
        text.lines().nth(2).and_then(|line| line.strip_prefix("term ")?.parse().ok()).unwrap_or_default()
    }

    pub(crate) fn set_head(
        &self,
        vault: &VaultId,
        head: &Head,
        epoch: u32,
        term: u64,
    ) -> Result<(), EngineError> {
        // Another process of this machine may have seen more. In a new term the log goes on from an earlier record.
        if let Ok(Some(known)) = self.head(vault)
            && (self.term(vault), known.number) >= (term, head.number)
        {
            return Ok(());
        }
        let text = format!("{head}\nepoch {epoch}\nterm {term}\n");
        self.replace(&self.vault_path(vault, "head"), text.as_bytes())
    }

    /// When key slots were last seen to give the vault's key, in seconds since 1970.
    #[must_use]
    pub fn tested(&self, vault: &VaultId) -> BTreeMap<SlotId, u64> {
        let text = self.read_text(&self.vault_path(vault, "slots-tested")).ok().flatten().unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let (slot, at) = line.split_once(' ')?;
                Some((slot.parse().ok()?, at.parse().ok()?))
            })
            .collect()
    }

    /// Remembers that these key slots gave the vault's key.
    ///
    /// # Errors
    /// [`EngineError::Cache`] when it cannot be written.
    pub fn set_tested(&self, vault: &VaultId, slots: &[SlotId], now_s: u64) -> Result<(), EngineError> {
        let mut tested = self.tested(vault);
        tested.extend(slots.iter().map(|slot| (*slot, now_s)));
        let text: String = tested.iter().map(|(slot, at)| format!("{slot} {at}\n")).collect();
        self.replace(&self.vault_path(vault, "slots-tested"), text.as_bytes())
    }

    /// A file that is remembered of a vault, if it can be read.
    pub(crate) fn open_file(&self, vault: &VaultId, name: &str) -> Option<fs::File> {
        fs::File::open(self.vault_path(vault, name)).ok()
    }

    /// Remembers a file of a vault, in the place of the one that was there.
    pub(crate) fn write_file(
        &self,
        vault: &VaultId,
        name: &str,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), EngineError> {
        self.replace_with(&self.vault_path(vault, name), true, write)
    }

    fn location_path(&self, place: &str) -> PathBuf {
        self.root.join("locations").join(hex(&hash(place.as_bytes())[..16]))
    }

    fn vault_path(&self, vault: &VaultId, name: &str) -> PathBuf {
        self.root.join("vaults").join(vault.to_string()).join(name)
    }

    fn read_text(&self, path: &Path) -> Result<Option<String>, EngineError> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(fail("read", path, source)),
        }
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), EngineError> {
        self.replace_with(path, true, &mut |out| out.write_all(bytes))
    }

    fn replace_with(
        &self,
        path: &Path,
        is_lasting: bool,
        write_to: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), EngineError> {
        let folder = path.parent().unwrap_or(&self.root);
        make_private(folder).map_err(|source| fail("create", folder, source))?;
        let (temp, mut file) =
            self.create_temp(folder).map_err(|source| fail("create a file in", folder, source))?;
        let mut write = || {
            write_to(&mut file)?;
            if is_lasting {
                file.sync_data()?;
            }
            fs::rename(&temp, path)
        };
        write().map_err(|source| {
            drop(fs::remove_file(&temp));
            fail("write", path, source)
        })
    }
}

impl Cache {
    /// A file that nobody else has, also not a process of the same number in another container.
    fn create_temp(&self, folder: &Path) -> io::Result<(PathBuf, fs::File)> {
        loop {
            let number = self.unique.fetch_add(1, Ordering::Relaxed);
            let temp = folder.join(format!(".tmp-{}-{number}", std::process::id()));
            match fs::OpenOptions::new().write(true).create_new(true).open(&temp) {
                Ok(file) => return Ok((temp, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(unix)]
fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

fn fail(action: &'static str, path: &Path, source: io::Error) -> EngineError {
    EngineError::Cache { action, path: path.display().to_string(), source }
}
