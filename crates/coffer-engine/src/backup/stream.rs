//! A stream made into the only entry of a snapshot.

use std::time::Duration;

use coffer_collect::Stream;
use coffer_format::tree::{Kind, TreeEntry, TreeRoot};

use super::entries::{Lost, Parts};
use super::files::Source;
use super::options::BackupOptions;
use super::parent::{Known, Parent};
use super::report::EntryChange;
use super::run::NO_FINGERPRINT;
use crate::error::EngineError;

/// How long a stream is waited for before it is looked whether the user wants to stop.
const PATIENCE: Duration = Duration::from_millis(100);

impl Source for Stream {
    fn fill(
        &mut self,
        buffer: &mut [u8],
        check: &mut dyn FnMut() -> Result<(), EngineError>,
    ) -> Result<usize, Lost> {
        let mut filled = 0;
        while filled < buffer.len() {
            let read = self.read(&mut buffer[filled..], PATIENCE);
            match read.map_err(|error| Lost::Backup(error.into()))? {
                Some(0) => break,
                Some(len) => filled += len,
                None => check()?,
            }
        }
        Ok(filled)
    }
}

impl Parts<'_, '_, '_, '_, '_, '_> {
    /// Takes the stream to its end, and returns the root of the tree. Whatever is wrong with the stream ends the backup.
    pub(super) fn take_stream(
        &mut self,
        stream: &mut Stream,
        options: &BackupOptions,
    ) -> Result<TreeRoot, EngineError> {
        self.uploads.goes_on_without_index();
        let mut entry = TreeEntry::new(stream.path().as_bytes().to_vec(), Kind::File);
        let taken = self.files.take_source(stream, &mut self.uploads).map_err(whole)?;
        // An interrupt may have ended the command too, and is the better reason.
        self.uploads.check()?;
        stream.finish()?;
        (entry.content, entry.size) = taken;
        self.run.statistics.read_bytes = entry.size;
        let metadata = stream.metadata(options.time_ns.unwrap_or(self.run.start_ns));
        self.set_metadata(&mut entry, metadata).map_err(whole)?;
        let change = self.compare(&mut entry, options.skip_if_unchanged)?;
        self.run.count(&entry, change);
        self.run.remember(&entry, NO_FINGERPRINT);
        self.tree.push(&entry, &mut self.uploads)?;
        self.tree.take().finish(&mut self.uploads)
    }

    /// Holds the entry against the parent's. A stream has no time of its own: with `keep_time`, if it brought what the parent has, the
    /// parent's time remains, so that both are equal.
    fn compare(&mut self, entry: &mut TreeEntry, keep_time: bool) -> Result<EntryChange, EngineError> {
        let Some(parent) = &mut self.parent else { return Ok(EntryChange::New) };
        let known = parent.seek(&entry.path, &mut self.tree, &mut self.uploads)?;
        let Some(old) = Parent::entry(parent).filter(|_| known != Known::Nothing) else {
            return Ok(EntryChange::New);
        };
        if !parent.has_content_of(entry) || old.size != entry.size {
            return Ok(EntryChange::Modified);
        }
        if keep_time {
            entry.mtime_ns = old.mtime_ns;
        }
        Ok(EntryChange::Unchanged)
    }
}

fn whole(lost: Lost) -> EngineError {
    match lost {
        Lost::Entry(error) | Lost::Backup(error) => error,
    }
}
