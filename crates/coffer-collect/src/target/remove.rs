//! Removing what is not in the snapshot.
//!
//! Every call names one component below an open directory, no symlink is followed, and what lies on another file system
//! than the directory it is mounted in is left alone. The depth of what is removed is bounded by the length of a path alone:
//! directories along the way are found again as everywhere in a target.

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::DirectoryTarget;
use crate::files::identity_of;
use crate::{Action, CollectError, EntryPath, Identity};

/// What a removal asks and tells.
pub trait Removal {
    /// Nothing is removed, and everything is told as if it were.
    fn is_dry_run(&self) -> bool;
    /// Whether the entry may go. One that may not stays, and with it the directories above.
    fn is_chosen(&self, path: &EntryPath, is_directory: bool) -> bool;
    /// Whether this directory stays in any case, with everything below it.
    fn is_kept(&self, directory: Identity) -> bool;
    /// An entry is gone, or could not be removed.
    fn removed(&mut self, path: &EntryPath, outcome: Result<(), CollectError>);
}

/// A directory that is being emptied.
struct Emptied {
    path: EntryPath,
    names: std::vec::IntoIter<Vec<u8>>,
    /// Something in it stays.
    kept: bool,
}

enum Met {
    Gone,
    Kept,
    Directory(Vec<Vec<u8>>),
}

/// A directory of the target that was there before, and what is in it.
#[derive(Debug)]
pub struct Listing {
    /// Which directory it is, and which ones lie above it in the target.
    pub identities: Vec<Identity>,
    /// Whether it is on another file system than the directory above it in the target.
    pub is_mounted: bool,
    /// The names in it, without `.` and `..`, ascending.
    pub names: Vec<Vec<u8>>,
}

impl DirectoryTarget {
    /// What is in the directory `path`; `None` if there is no such directory, or if this run made it.
    ///
    /// # Errors
    /// [`CollectError::Io`] when it cannot be listed.
    pub fn listing(&mut self, path: &EntryPath) -> Result<Option<Listing>, CollectError> {
        match self.enter(path, false) {
            Ok(place) if place.traits.fresh => Ok(None),
            Ok(_) => {
                let identities: Vec<_> = self.identities().collect();
                let is_mounted = identities.get(1).is_some_and(|above| above.dev != identities[0].dev);
                Ok(Some(Listing { identities, is_mounted, names: self.list_current()? }))
            }
            Err(CollectError::NotADirectory { .. }) => Ok(None),
            Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes what stands at `path`, with everything below it, as far as `removal` allows.
    pub fn remove(&mut self, path: &EntryPath, removal: &mut dyn Removal) {
        let mut open: Vec<Emptied> = Vec::new();
        let mut next = Some(path.clone());
        loop {
            if let Some(path) = next.take() {
                match self.remove_one(&path, removal) {
                    Met::Gone => {}
                    Met::Kept => open.iter_mut().for_each(|directory| directory.kept = true),
                    Met::Directory(names) => {
                        open.push(Emptied { path, names: names.into_iter(), kept: false });
                    }
                }
            }
            let Some(top) = open.last_mut() else { return };
            if let Some(name) = top.names.next() {
                match top.path.join(&name) {
                    Ok(path) => next = Some(path),
                    Err(error) => {
                        removal.removed(&top.path, Err(error));
                        open.iter_mut().for_each(|directory| directory.kept = true);
                    }
                }
            } else if let Some(done) = open.pop()
                && !(self.remove_emptied(&done, removal))
            {
                open.iter_mut().for_each(|directory| directory.kept = true);
            }
        }
    }

    /// Removes an entry that is no directory; lists one that is.
    fn remove_one(&mut self, path: &EntryPath, removal: &mut dyn Removal) -> Met {
        let mut attempt = || -> Result<Met, CollectError> {
            let place = self.enter(&path.parent().unwrap_or_default(), false)?;
            if self.identities().any(|directory| removal.is_kept(directory)) {
                return Ok(Met::Kept);
            }
            let name = path.file_name().unwrap_or_default();
            let failed = |error| CollectError::io(Action::Remove, path, error);
            let stat = match rustix::fs::statat(&*place, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(Met::Gone),
                stat => stat.map_err(failed)?,
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                if removal.is_kept(identity_of(&stat)) {
                    return Ok(Met::Kept);
                }
                if identity_of(&stat).dev != self.current_identity().dev {
                    let reason = "another file system is mounted there, and it is not in the snapshot";
                    return Err(CollectError::Unfit { path: path.clone(), reason });
                }
                self.enter(path, false)?;
                return self.list_current().map(Met::Directory);
            }
            if !removal.is_chosen(path, false) {
                return Ok(Met::Kept);
            }
            if !removal.is_dry_run() {
                rustix::fs::unlinkat(&*place, name, AtFlags::empty()).map_err(failed)?;
            }
            removal.removed(path, Ok(()));
            Ok(Met::Gone)
        };
        attempt().unwrap_or_else(|error| {
            removal.removed(path, Err(error));
            Met::Kept
        })
    }

    /// Removes a directory of which nothing stayed, and says whether it is gone.
    fn remove_emptied(&mut self, done: &Emptied, removal: &mut dyn Removal) -> bool {
        if done.kept || !removal.is_chosen(&done.path, true) {
            return false;
        }
        let outcome = self.enter(&done.path.parent().unwrap_or_default(), false).and_then(|place| {
            if removal.is_dry_run() {
                return Ok(());
            }
            let name = done.path.file_name().unwrap_or_default();
            rustix::fs::unlinkat(&*place, name, AtFlags::REMOVEDIR)
                .map_err(|error| CollectError::io(Action::Remove, &done.path, error))
        });
        let gone = outcome.is_ok();
        removal.removed(&done.path, outcome);
        gone
    }

    fn list_current(&self) -> Result<Vec<Vec<u8>>, CollectError> {
        let failed = |error| CollectError::io(Action::ReadDirectory, self.current(), error);
        let mut names = Vec::new();
        for record in Dir::read_from(&*self.top_place()).map_err(failed)? {
            let name = record.map_err(failed)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}
