//! Private files that are made before the commit that gives them a meaning: kept once it is made, and gone if it is not.
//!
//! They have to be there first, for what is committed must not be lost with this process. An interrupt ends the process at any point, so
//! what is pending is known to its handler too. Where nobody knows whether the commit was made, the files stay, and it is said aloud.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use coffer_engine::EngineError;
use coffer_store::StoreError;

use crate::output::Output;
use crate::private_file;

/// What is pending in this process.
static PENDING: Mutex<Pending> =
    Mutex::new(Pending { paths: Vec::new(), directory: None, is_committing: false, advice: String::new() });

struct Pending {
    paths: Vec<PathBuf>,
    /// The directory of the files, if it was made for them.
    directory: Option<PathBuf>,
    /// The commit may have been made.
    is_committing: bool,
    /// What to do where nobody knows whether it was.
    advice: String,
}

impl Pending {
    /// The files stay, whatever comes.
    fn release(&mut self) -> Vec<PathBuf> {
        self.directory = None;
        std::mem::take(&mut self.paths)
    }

    fn remove(&mut self) {
        for path in self.paths.drain(..) {
            // Why they are of no use is being told already.
            drop(fs::remove_file(path));
        }
        if let Some(directory) = self.directory.take() {
            drop(fs::remove_dir(directory));
        }
    }
}

fn pending() -> MutexGuard<'static, Pending> {
    PENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The files of one commit; a process makes one such commit. They are removed again unless they are kept.
#[must_use]
pub(crate) struct PendingFiles(());

impl PendingFiles {
    /// No files yet; `advice` is the next step where it is not known whether the commit was made.
    pub(crate) fn new(advice: String) -> Self {
        *pending() = Pending { paths: Vec::new(), directory: None, is_committing: false, advice };
        Self(())
    }

    /// Makes the directory for the files, if it is not there.
    pub(crate) fn make_directory(&self, directory: &Path) -> io::Result<()> {
        let mut pending = pending();
        let is_new = !directory.exists();
        fs::create_dir_all(directory)?;
        pending.directory = is_new.then(|| directory.to_path_buf());
        Ok(())
    }

    /// Makes one of the files, for its owner alone; an existing one is an error.
    pub(crate) fn create(&self, path: &Path) -> io::Result<File> {
        let mut pending = pending();
        let file = private_file::create_private(path)?;
        pending.paths.push(path.to_path_buf());
        Ok(file)
    }

    /// From now on the commit may have been made. Does not return where an interrupt is ending the process, which has removed the files.
    pub(crate) fn begin_commit(&self) {
        pending().is_committing = true;
    }

    /// Keeps the files if the commit was made, and gives their paths; removes them if it was not. Where that is not known, they are
    /// kept and it is said.
    pub(crate) fn settle<T>(
        self,
        committed: Result<T, EngineError>,
        output: Output,
    ) -> Result<(T, Vec<PathBuf>), EngineError> {
        let error = match committed {
            Ok(made) => return Ok((made, pending().release())),
            Err(error) => error,
        };
        let advice = {
            let mut pending = pending();
            (pending.is_committing && is_open(&error)).then(|| {
                pending.release();
                pending.advice.clone()
            })
        };
        if let Some(advice) = advice {
            output.warn(&advice);
        }
        Err(error)
    }
}

impl Drop for PendingFiles {
    fn drop(&mut self) {
        pending().remove();
    }
}

/// Whether a commit may have been made, or be made yet, though this came of it.
fn is_open(error: &EngineError) -> bool {
    let EngineError::Store(error) = error else { return false };
    matches!(
        error,
        StoreError::Unavailable { .. }
            | StoreError::Unreachable { .. }
            | StoreError::NoToken { .. }
            | StoreError::SyncFailed { .. }
            | StoreError::Io { .. }
    )
}

/// The process ends now: removes what is pending, or gives the next step where it is not known whether the commit was made. Nothing is
/// made or committed behind this.
pub(crate) fn end() -> Option<String> {
    let mut pending = pending();
    let advice = (pending.is_committing && !pending.paths.is_empty()).then(|| pending.advice.clone());
    if advice.is_none() {
        pending.remove();
    }
    // Whoever wants to commit waits for this until the process is gone.
    std::mem::forget(pending);
    advice
}
