//! A file of the local memory that is written over a long time: in the place of the old one when it is complete, and gone if it never is.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use coffer_crypto::hash::Hasher;
use coffer_format::id::VaultId;

use super::{Cache, fail, make_private};
use crate::error::EngineError;

/// Whoever writes in small pieces writes through a buffer of this length.
const BUFFER_LEN: usize = 64 << 10;

/// The file, under a name of its own until it is complete. Only its owner may read it.
pub(crate) struct Recording {
    /// Locked: what a process that was killed has left is known by having no lock.
    out: BufWriter<File>,
    hasher: Hasher,
    temp: PathBuf,
    path: PathBuf,
}

impl Cache {
    /// Begins a file of a vault, and removes what others have begun under the same name and never ended.
    pub(crate) fn record(&self, vault: &VaultId, name: &str) -> Result<Recording, EngineError> {
        let path = self.vault_path(vault, name);
        let folder = path.parent().unwrap_or(&self.root);
        make_private(folder).map_err(|source| fail("create", folder, source))?;
        let beginning = format!(".{name}.tmp-");
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry.file_name().to_string_lossy().starts_with(&beginning) {
                continue;
            }
            // It goes while it is locked, so that whoever has just made it and waits for the lock sees it gone.
            if let Ok(file) = File::open(entry.path())
                && file.try_lock().is_ok()
            {
                drop(fs::remove_file(entry.path()));
            }
        }
        let number = self.unique.fetch_add(1, Ordering::Relaxed);
        let temp = folder.join(format!("{beginning}{}-{number}", std::process::id()));
        let begin = || loop {
            let file = create_private(&temp)?;
            file.lock()?;
            // Another process may have taken it for one that nobody writes, before it was locked.
            if temp.try_exists()? {
                break Ok(file);
            }
        };
        let file = begin().map_err(|source| fail("create a file in", folder, source))?;
        let out = BufWriter::with_capacity(BUFFER_LEN, file);
        Ok(Recording { out, hasher: Hasher::new(), temp, path })
    }
}

impl Recording {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        self.hasher.update(bytes);
        self.out.write_all(bytes).map_err(|source| fail("write", &self.path, source))
    }

    /// Ends the file as [`Self::finish`] does, under another name of the same vault.
    pub(crate) fn finish_as(mut self, name: &str) -> Result<(), EngineError> {
        self.path.set_file_name(name);
        self.finish()
    }

    /// Ends the file with the hash of all that is in it, and puts it in the place of the old one.
    pub(crate) fn finish(mut self) -> Result<(), EngineError> {
        let hash = self.hasher.finalize();
        let mut end = || {
            self.out.write_all(&hash)?;
            self.out.flush()?;
            self.out.get_ref().sync_data()?;
            fs::rename(&self.temp, &self.path)
        };
        end().map_err(|source| fail("write", &self.path, source))
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        // It has another name by now if it is complete.
        drop(fs::remove_file(&self.temp));
    }
}

#[cfg(unix)]
fn create_private(path: &std::path::Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create_private(path: &std::path::Path) -> io::Result<File> {
    File::options().write(true).create_new(true).open(path)
}
