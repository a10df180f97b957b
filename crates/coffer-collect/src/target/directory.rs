//! Restoring into one directory.
//!
//! Nothing outside the directory is touched, whatever stands in it before and whatever others do to it meanwhile.
//! Every call names a single component below an open directory, no symlink is followed, and metadata goes through
//! the descriptor of what was made. The directories along the current path are open; beyond [`OPEN_DEPTH_MAX`] of
//! them the ones above are found again through `..`, and checked to be the same.
//!
//! Directories are made with mode 0700. Their own mode, owner, times and attributes come last, deepest first, so that
//! a read-only directory can be filled and its time stays.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::apply::{Handle, Surplus, apply, set_mode};
use super::options::{Lost, TargetOptions, Warning};
use super::place::{Place, Shared, Traits};
use super::writer::{FilePlace, FileWriter};
use crate::files::identity_of;
use crate::xattr::proc_path;
use crate::{Action, CollectError, EntryKind, EntryPath, Identity, Metadata};

/// How many directories below each other are kept open.
const OPEN_DEPTH_MAX: usize = 64;

/// The mode of a directory while it is filled.
const FILLING_MODE: u32 = 0o700;

/// The mode of a directory that had to be made and for which no metadata came.
const DEFAULT_MODE: u32 = 0o700;

/// Writes entries below one directory.
///
/// Entries come from one thread, a directory before what is in it; the order of [`EntryPath`] is the fastest. The
/// content of files may be written by other threads, and each [`FileWriter`] must be finished or dropped before
/// [`DirectoryTarget::finish`]. Dropped unfinished, the target leaves its directories with mode 0700.
#[derive(Debug)]
pub struct DirectoryTarget {
    root: Level,
    pub(super) shared: Arc<Shared>,
    /// The directories along `current`, without the root.
    levels: Vec<Level>,
    current: EntryPath,
    pending: Vec<Pending>,
    /// Where the last hard link led: a group of links often has its first names in one directory.
    linked: Option<(EntryPath, Arc<Place>)>,
}

#[derive(Debug)]
pub(super) struct Level {
    /// `None` while it is too far above to be kept open; never for the root.
    place: Option<Arc<Place>>,
    traits: Traits,
    identity: Identity,
}

/// A directory that is to get its metadata at the end.
#[derive(Debug)]
struct Pending {
    path: EntryPath,
    identity: Identity,
    surplus: Surplus,
    /// `None` for a directory that was made because something is in it.
    metadata: Option<Metadata>,
}

impl DirectoryTarget {
    /// Opens the directory `path`, and makes it and what is missing above it if need be.
    ///
    /// # Errors
    /// [`CollectError::Target`] when it cannot be made or opened.
    pub fn open(path: &Path, options: TargetOptions) -> Result<Self, CollectError> {
        let failed = |source: io::Error| CollectError::Target { path: path.to_owned(), source };
        if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
            fs::create_dir_all(above).map_err(failed)?;
        }
        let made = match fs::DirBuilder::new().mode(FILLING_MODE).create(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(failed(error)),
        };
        let fd = open_root(path).map_err(failed)?;
        let empty = made || is_empty(&fd).map_err(|error| failed(error.into()))?;
        let mut target = Self::at(fd, options, empty).map_err(failed)?;
        if made {
            let (path, identity) = (EntryPath::root(), target.root.identity);
            target.pending.push(Pending { path, identity, surplus: Surplus::None, metadata: None });
        }
        Ok(target)
    }

    /// Opens the directory `path` to look at it; `None` if it is not there. Only calls that change nothing may follow.
    ///
    /// # Errors
    /// [`CollectError::Target`] when it cannot be opened.
    pub fn open_to_look(path: &Path, options: TargetOptions) -> Result<Option<Self>, CollectError> {
        match open_root(path).and_then(|fd| Self::at(fd, options, false)) {
            Ok(target) => Ok(Some(target)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CollectError::Target { path: path.to_owned(), source }),
        }
    }

    fn at(fd: OwnedFd, options: TargetOptions, is_fresh: bool) -> io::Result<Self> {
        let identity = identity_of(&rustix::fs::fstat(&fd)?);
        let shared = Arc::new(Shared::new(options));
        let mut place = Place::reused(fd, Arc::clone(&shared));
        place.traits.fresh = is_fresh;
        let root = Level { traits: place.traits, identity, place: Some(Arc::new(place)) };
        let (levels, current, pending) = (Vec::new(), EntryPath::root(), Vec::new());
        Ok(Self { root, shared, levels, current, pending, linked: None })
    }

    /// From now on nothing counts as made by this run, so that [`DirectoryTarget::look`] shows what was restored.
    ///
    /// # Errors
    /// [`CollectError::Io`] when the target itself cannot be opened again.
    pub fn revisit(&mut self) -> Result<(), CollectError> {
        let fd = self.root_place().open_directory(c".");
        let fd = fd.map_err(|error| CollectError::io(Action::ReadDirectory, &EntryPath::root(), error))?;
        let place = Place::reused(fd, Arc::clone(&self.shared));
        (self.root.traits, self.root.place) = (place.traits, Some(Arc::new(place)));
        self.levels.clear();
        self.current = EntryPath::root();
        Ok(())
    }

    /// Whether the target is the root directory of the system.
    #[must_use]
    pub fn is_file_system_root(&self) -> bool {
        rustix::fs::stat("/").is_ok_and(|stat| identity_of(&stat) == self.root.identity)
    }

    /// Makes the directory `path`, or takes the one that is there; `metadata` is applied by
    /// [`DirectoryTarget::finish`]. What stands at `path` and is no directory is removed.
    ///
    /// # Errors
    /// [`CollectError::NotADirectory`] when a component above is no directory; [`CollectError::Io`].
    pub fn directory(&mut self, path: &EntryPath, metadata: &Metadata) -> Result<(), CollectError> {
        let (identity, surplus) = match path.parent() {
            None => (self.root.identity, Surplus::Previous),
            Some(parent) => {
                let parent = self.enter(&parent, true)?;
                let surplus = self.make_directory(&parent, path)?;
                (self.top().identity, surplus)
            }
        };
        self.pending.push(Pending {
            path: path.clone(),
            identity,
            surplus,
            metadata: Some(metadata.clone()),
        });
        Ok(())
    }

    /// Begins the file `path`.
    ///
    /// # Errors
    /// [`CollectError::NotADirectory`] when a component above is no directory; [`CollectError::Unfit`] for the empty
    /// path; [`CollectError::Io`].
    pub fn file(&mut self, path: &EntryPath) -> Result<FileWriter, CollectError> {
        let place = self.enter_parent(path)?;
        FileWriter::create(place, path)
    }

    /// Keeps the place of the file `path`, to be begun by another thread. It holds the directory open, not the file.
    ///
    /// # Errors
    /// As [`DirectoryTarget::file`].
    pub fn file_later(&mut self, path: &EntryPath) -> Result<FilePlace, CollectError> {
        let place = self.enter_parent(path)?;
        Ok(FilePlace::new(place, path))
    }

    /// Applies the metadata of all directories, deepest first, and returns what could not be applied.
    #[must_use = "the warnings say which directories lack metadata"]
    pub fn finish(mut self) -> Vec<Warning> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.sort_by(|a, b| a.path.cmp(&b.path));
        let mut warnings = Vec::new();
        let mut done: Option<EntryPath> = None;
        for directory in pending.into_iter().rev() {
            // The last word on a directory counts: the sort is stable and this goes from the end.
            if done.as_ref() == Some(&directory.path) {
                continue;
            }
            match self.enter(&directory.path, false) {
                Ok(place) if self.top().identity == directory.identity => {
                    warnings.extend(directory.apply(&place));
                }
                Ok(_) => {
                    let changed = CollectError::Changed { path: directory.path.clone() };
                    warnings.push(directory.lost(changed));
                }
                Err(error) => warnings.push(directory.lost(error)),
            }
            done = Some(directory.path);
        }
        warnings
    }

    pub(super) fn top(&self) -> &Level {
        self.levels.last().unwrap_or(&self.root)
    }

    pub(super) fn current(&self) -> &EntryPath {
        &self.current
    }

    pub(super) fn current_path(&self) -> &[u8] {
        self.current.as_bytes()
    }

    /// Whether the current directory was made by this run.
    pub(super) fn is_in_fresh(&self) -> bool {
        self.top().traits.fresh
    }

    pub(super) fn current_identity(&self) -> Identity {
        self.top().identity
    }

    /// The current directory and those above it, up to the target itself.
    pub(super) fn identities(&self) -> impl Iterator<Item = Identity> + '_ {
        self.levels.iter().rev().chain([&self.root]).map(|level| level.identity)
    }

    fn root_place(&self) -> Arc<Place> {
        Arc::clone(self.root.place.as_ref().expect("the root is open"))
    }

    pub(super) fn top_place(&self) -> Arc<Place> {
        Arc::clone(self.top().place.as_ref().expect("the top and the root are open"))
    }

    pub(super) fn enter_parent(&mut self, path: &EntryPath) -> Result<Arc<Place>, CollectError> {
        let Some(parent) = path.parent_bytes() else {
            let reason = "only a directory can be the root";
            return Err(CollectError::Unfit { path: path.clone(), reason });
        };
        if parent == self.current.as_bytes() {
            return Ok(self.top_place());
        }
        let parent = path.parent().unwrap_or_default();
        self.enter(&parent, true)
    }

    /// Makes `path` the current directory; with `create`, makes what is missing of it.
    pub(super) fn enter(&mut self, path: &EntryPath, create: bool) -> Result<Arc<Place>, CollectError> {
        while !path.starts_with(&self.current) {
            self.leave();
        }
        let known = self.current.components().count();
        for name in path.components().skip(known) {
            let place = self.top_place();
            let child = self.current.join(name)?;
            match place.open_directory(name) {
                Ok(fd) => {
                    let place = Place::reused(fd, Arc::clone(&self.shared));
                    self.push(child, place)?;
                }
                Err(Errno::NOENT) if create => {
                    let surplus = self.make_directory(&place, &child)?;
                    let identity = self.top().identity;
                    self.pending.push(Pending { path: child, identity, surplus, metadata: None });
                }
                Err(error) => return Err(enter_error(error, &child)),
            }
        }
        Ok(self.top_place())
    }

    /// Makes the directory `path` in `parent`, or takes the one that is there, and makes it the current one. Returns
    /// which attributes it may have that it should not have.
    fn make_directory(&mut self, parent: &Place, path: &EntryPath) -> Result<Surplus, CollectError> {
        let name = path.file_name().unwrap_or_default();
        let create = || rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(FILLING_MODE));
        let failed = |error| CollectError::io(Action::Create, path, error);
        let mut fresh = match create() {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(failed(error)),
        };
        let fd = match open_to_fill(parent, name) {
            Err(Errno::LOOP | Errno::NOTDIR) if !fresh => {
                rustix::fs::unlinkat(parent, name, AtFlags::empty())
                    .map_err(|error| CollectError::io(Action::Remove, path, error))?;
                create().map_err(failed)?;
                fresh = true;
                open_to_fill(parent, name)
            }
            opened => opened,
        };
        let fd = fd.map_err(|error| enter_error(error, path))?;
        let (place, surplus) = if fresh {
            let place = Place::fresh(fd, parent);
            let surplus = place.surplus();
            (place, surplus)
        } else {
            (Place::reused(fd, Arc::clone(&self.shared)), Surplus::Previous)
        };
        self.push(path.clone(), place)?;
        Ok(surplus)
    }

    fn push(&mut self, path: EntryPath, place: Place) -> Result<(), CollectError> {
        let stat = rustix::fs::fstat(&place).map_err(|error| CollectError::io(Action::Stat, &path, error))?;
        let traits = place.traits;
        self.levels.push(Level { place: Some(Arc::new(place)), traits, identity: identity_of(&stat) });
        self.current = path;
        if let Some(far) = self.levels.len().checked_sub(OPEN_DEPTH_MAX + 1) {
            self.levels[far].place = None;
        }
        Ok(())
    }

    /// Goes to the directory above. Where that has to be opened again and is not found, begins again at the root.
    fn leave(&mut self) {
        let left = self.levels.pop().and_then(|level| level.place);
        self.current = self.current.parent().unwrap_or_default();
        let Some(level) = self.levels.last_mut() else { return };
        if level.place.is_some() {
            return;
        }
        let reopened = left.and_then(|below| {
            let fd = below.open_directory(c"..").ok()?;
            let same = identity_of(&rustix::fs::fstat(&fd).ok()?) == level.identity;
            same.then(|| Arc::new(Place::new(fd, level.traits, Arc::clone(&self.shared))))
        });
        match reopened {
            Some(place) => level.place = Some(place),
            None => {
                self.levels.clear();
                self.current = EntryPath::root();
            }
        }
    }

    /// Opens the directory `path`, which is there, without leaving the current one.
    pub(super) fn find(&mut self, path: &EntryPath) -> Result<Arc<Place>, CollectError> {
        if *path == self.current {
            return Ok(self.top_place());
        }
        if let Some((linked, place)) = &self.linked
            && linked == path
        {
            return Ok(Arc::clone(place));
        }
        let shared_depth = self
            .current
            .components()
            .zip(path.components())
            .take_while(|(ours, theirs)| ours == theirs)
            .count();
        let open =
            (0..shared_depth).rev().find_map(|depth| Some((depth + 1, self.levels[depth].place.as_ref()?)));
        let (depth, mut place) = match open {
            Some((depth, place)) => (depth, Arc::clone(place)),
            None => (0, self.root_place()),
        };
        let mut reached = EntryPath::new(path.components().take(depth).collect::<Vec<_>>().join(&b'/'))?;
        for name in path.components().skip(depth) {
            reached = reached.join(name)?;
            let fd = place.open_directory(name).map_err(|error| enter_error(error, &reached))?;
            let traits = Traits { fresh: false, inherits_acl: false };
            place = Arc::new(Place::new(fd, traits, Arc::clone(&self.shared)));
        }
        self.linked = Some((path.clone(), Arc::clone(&place)));
        Ok(place)
    }
}

impl Pending {
    fn apply(&self, place: &Place) -> Vec<Warning> {
        let Some(metadata) = &self.metadata else {
            return match set_mode(place.as_fd(), DEFAULT_MODE) {
                Ok(()) => Vec::new(),
                Err(error) => {
                    vec![Warning { path: self.path.clone(), lost: Lost::Mode, cause: Some(error.into()) }]
                }
            };
        };
        let handle = Handle::Fd(place.as_fd());
        apply(&place.shared, &self.path, EntryKind::Directory, handle, self.surplus, metadata)
    }

    fn lost(&self, error: CollectError) -> Warning {
        Warning {
            path: self.path.clone(),
            lost: Lost::DirectoryMetadata,
            cause: Some(io::Error::other(error)),
        }
    }
}

/// Opens the directory `name` and sees to it that its owner, if that is us, can fill it.
fn open_to_fill(parent: &Place, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let (fd, stat) = match parent.open_directory(name) {
        Err(Errno::ACCESS) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            let mode = Mode::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode & 0o7777 | FILLING_MODE);
            rustix::fs::chmodat(CWD, proc_path(fd.as_fd()).as_c_str(), mode, AtFlags::empty())
                .map_err(|_| Errno::ACCESS)?;
            return parent.open_directory(name);
        }
        opened => {
            let fd = opened?;
            let stat = rustix::fs::fstat(&fd)?;
            (fd, stat)
        }
    };
    // Root needs no permission, and others may only change what is theirs.
    let lacking = !parent.shared.is_root && stat.st_mode & FILLING_MODE != FILLING_MODE;
    if lacking && stat.st_uid == rustix::process::geteuid().as_raw() {
        set_mode(fd.as_fd(), stat.st_mode & 0o7777 | FILLING_MODE)?;
    }
    Ok(fd)
}

/// Others spell out the path of the target itself, so that a symlink in it is theirs to follow.
fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}

fn is_empty(fd: &OwnedFd) -> rustix::io::Result<bool> {
    for record in rustix::fs::Dir::read_from(fd)? {
        if !matches!(record?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn enter_error(error: Errno, path: &EntryPath) -> CollectError {
    match error {
        Errno::LOOP | Errno::NOTDIR => CollectError::NotADirectory { path: path.clone() },
        _ => CollectError::io(Action::ReadDirectory, path, error),
    }
}
