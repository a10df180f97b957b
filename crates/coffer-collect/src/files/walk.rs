//! The walk: one pass over all sources, in the order of their paths.
//!
//! Cost: one `stat` for each entry and one open and listing for each directory; no call for extended attributes.
//! Memory is the names of the siblings along the current path. At most [`OPEN_DEPTH_MAX`] directories below each
//! other are open, however deep the tree is: the ones above are found again through `..`, and checked to be the
//! same. (Directories that the sources name stay open; those are as few as the components the caller spelled out.)
//!
//! The walk refuses to follow any symlink that a source does not spell out, and does not end at an error.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Stat;
use rustix::io::Errno;

use super::dir::{Children, Dir, LIST_BUFFER_LEN, Open, identity_of, kind_of};
use super::found::Found;
use super::sources::{NodeId, ROOT, Sources};
use crate::{Action, CollectError, EntryKind, EntryPath, Excludes, Identity};

/// How many directories below each other are kept open.
const OPEN_DEPTH_MAX: usize = 64;

/// What a walk leaves out.
#[derive(Clone, Debug, Default)]
pub struct WalkOptions {
    /// Directories that are neither entered nor entries themselves, such as the vault that is being written. They
    /// are told by identity, so that no other path leads around it.
    pub skip: Vec<Identity>,
    /// What is left out of the sources.
    pub excludes: Excludes,
}

/// The entries of some sources, in the order of [`EntryPath`]: a directory before its children, children by the
/// bytes of their names, each entry once however many sources reach it.
///
/// A relative source keeps its path; an absolute one, or one with `..` in it, is stored with its whole path,
/// without the leading slash. The directories above a source are entries as well, with their own metadata; a
/// symlink among them is followed and stored as the directory it leads to. A symlink that is itself a source is
/// an entry, and followed only when the source ends in a slash. The source `.` is the root entry, with the empty path.
///
/// An error concerns the entry that it names and, for a directory that cannot be read, all below it. The walk
/// goes on after it.
#[derive(Debug)]
pub struct Walk {
    sources: Sources,
    options: WalkOptions,
    skipped: Vec<EntryPath>,
    excluded_count: u64,
    frames: Vec<Frame>,
    /// The path of the last frame.
    current: EntryPath,
    /// The directory that was yielded last, to be entered by the next call.
    entering: Option<Entering>,
    errors: VecDeque<CollectError>,
    buffer: Vec<MaybeUninit<u8>>,
    started: bool,
}

/// A directory whose children are being yielded.
#[derive(Debug)]
struct Frame {
    /// The length of its path, which begins the path of every frame after it: a path for each would make the
    /// memory grow with the square of the depth.
    path_len: usize,
    /// `None` while it is too far above to be kept open, and for the root when it is no source itself.
    dir: Option<Arc<Dir>>,
    identity: Option<Identity>,
    children: Children,
    node: Option<NodeId>,
    /// All children are walked, not only those that sources name.
    full: bool,
    /// The device of the source that this is in.
    device: Option<u64>,
}

#[derive(Debug)]
struct Entering {
    path: EntryPath,
    dir: Arc<Dir>,
    identity: Identity,
    node: Option<NodeId>,
    full: bool,
    device: Option<u64>,
}

impl Walk {
    /// A walk over `sources`, the relative ones resolved against the directory `cwd`.
    ///
    /// # Errors
    /// [`CollectError::NoSources`]; [`CollectError::SourceConflict`] when two different places would have one path;
    /// [`CollectError::Source`] when `cwd` cannot be opened. A missing source is an error of the walk, not of this call.
    pub fn new(sources: &[PathBuf], cwd: &Path) -> Result<Self, CollectError> {
        Self::with_options(sources, cwd, WalkOptions::default())
    }

    /// As [`Walk::new`], leaving out what `options` name.
    ///
    /// # Errors
    /// As [`Walk::new`].
    pub fn with_options(sources: &[PathBuf], cwd: &Path, options: WalkOptions) -> Result<Self, CollectError> {
        let mut errors = VecDeque::new();
        let sources = Sources::new(sources, cwd, &mut errors)?;
        Ok(Self {
            sources,
            options,
            skipped: Vec::new(),
            excluded_count: 0,
            frames: Vec::new(),
            current: EntryPath::root(),
            entering: None,
            errors,
            buffer: vec![MaybeUninit::uninit(); LIST_BUFFER_LEN],
            started: false,
        })
    }

    /// The directories left out so far because [`WalkOptions::skip`] names them.
    #[must_use]
    pub fn skipped(&self) -> &[EntryPath] {
        &self.skipped
    }

    /// How much was left out so far because [`WalkOptions::excludes`] says so: entries, and directories of which the content was left out.
    /// What is in a directory that was not entered does not count.
    #[must_use]
    pub const fn excluded_count(&self) -> u64 {
        self.excluded_count
    }

    /// Leaves out everything below the directory that was yielded last. Does nothing after another entry.
    pub fn skip_children(&mut self) {
        self.entering = None;
    }

    /// The root: an entry if it is a source, and the frame of the sources' first components.
    fn start(&mut self) -> Option<Found> {
        if self.sources.node(ROOT).full {
            let base = Arc::clone(self.sources.base_of(ROOT));
            return self.visit_directory(EntryPath::root(), c".", base, Some(ROOT), true);
        }
        let mut frame = Frame {
            path_len: 0,
            dir: None,
            identity: None,
            children: Children::default(),
            node: Some(ROOT),
            full: false,
            device: None,
        };
        self.add_named_children(&mut frame);
        self.frames.push(frame);
        None
    }

    /// Yields the entry `name` of the current frame, unless it is gone, left out or not one; errors are queued.
    fn visit(&mut self, name: &CStr, listed_directory: bool) -> Option<Found> {
        let frame = self.frames.last()?;
        let path = match self.current.join(name.to_bytes()) {
            Ok(path) => path,
            Err(error) => {
                self.errors.push_back(error);
                return None;
            }
        };
        let node = frame.node.and_then(|id| self.sources.node(id).children.get(name.to_bytes()).copied());
        let parent = match (node, &frame.dir) {
            (Some(id), _) if self.current.is_root() => Arc::clone(self.sources.base_of(id)),
            (_, Some(dir)) => Arc::clone(dir),
            (_, None) => return None, // leave() has discarded the children of a frame without a directory
        };
        let full = frame.full || node.is_some_and(|id| self.sources.node(id).full);
        let follow = node.is_some_and(|id| self.sources.node(id).follow);
        if listed_directory || follow {
            let full = self.admit_directory(&path, node, full)?;
            return self.visit_directory(path, name, parent, node, full);
        }
        match parent.stat_child(name) {
            Ok(stat) if is_directory(&stat) => {
                let full = self.admit_directory(&path, node, full)?;
                self.visit_directory(path, name, parent, node, full)
            }
            Ok(stat) if full && self.leaves_out(&path, &stat) => {
                self.excluded_count += 1;
                None
            }
            Ok(stat) => {
                let is_source = self.is_source(node);
                self.found(path, &stat, parent, None).map(|found| found.with_source(is_source))
            }
            Err(error) => {
                self.fail(Action::Stat, path, node, error);
                None
            }
        }
    }

    /// Whether something that is no directory is excluded.
    fn leaves_out(&self, path: &EntryPath, stat: &Stat) -> bool {
        let len = u64::try_from(stat.st_size).unwrap_or_default();
        let is_file = kind_of(stat) == Some(EntryKind::File);
        let excludes = &self.options.excludes;
        excludes.ignores(path, false) || (is_file && excludes.is_too_large(len))
    }

    /// Whether all of a directory is walked; `None` if it is excluded. One that is excluded and leads to a source is passed.
    fn admit_directory(&mut self, path: &EntryPath, node: Option<NodeId>, full: bool) -> Option<bool> {
        if !full || !self.options.excludes.ignores(path, true) {
            return Some(full);
        }
        self.excluded_count += 1;
        node.is_some_and(|id| !self.sources.node(id).children.is_empty()).then_some(false)
    }

    /// Yields what the caller believes to be a directory, and prepares to enter it.
    fn visit_directory(
        &mut self,
        path: EntryPath,
        name: &CStr,
        parent: Arc<Dir>,
        node: Option<NodeId>,
        full: bool,
    ) -> Option<Found> {
        let follow = node.is_some_and(|id| self.sources.node(id).follow);
        let how = match (follow, full) {
            (true, true) => Open::ListFollowing,
            (true, false) => Open::PassFollowing,
            (false, _) => Open::List,
        };
        let opened = Dir::open(&parent, name, how).and_then(|dir| dir.stat().map(|stat| (dir, stat)));
        let (dir, stat) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.unopened(error, path, name, parent, node),
        };
        let identity = identity_of(&stat);
        if self.options.skip.contains(&identity) {
            self.skipped.push(path);
            return None;
        }
        let is_source = self.is_source(node);
        // One that is excluded is only passed on the way to others.
        let is_taken = is_source && full;
        let of_source = self.frames.last().and_then(|frame| frame.device).filter(|_| !is_source);
        let device = full.then(|| of_source.unwrap_or(identity.dev));
        let elsewhere = device.is_some_and(|device| device != identity.dev);
        let mut full = full;
        if elsewhere && self.options.excludes.one_file_system {
            self.excluded_count += 1;
            full = false;
        }
        let dir = Arc::new(dir);
        self.entering =
            Some(Entering { path: path.clone(), dir: Arc::clone(&dir), identity, node, full, device });
        self.found(path, &stat, parent, Some(dir)).map(|found| found.with_source(is_taken))
    }

    /// A directory that cannot be opened is still an entry, followed by the error. What turned out to be no
    /// directory is an entry like any other, unless a source needs it to be one.
    fn unopened(
        &mut self,
        error: Errno,
        path: EntryPath,
        name: &CStr,
        parent: Arc<Dir>,
        node: Option<NodeId>,
    ) -> Option<Found> {
        let follow = node.is_some_and(|id| self.sources.node(id).follow);
        let stat = match (error, parent.stat_child(name)) {
            (Errno::NOENT, _) | (_, Err(_)) => {
                self.fail(Action::ReadDirectory, path, node, error);
                return None;
            }
            (_, Ok(stat)) => stat,
        };
        if is_directory(&stat) {
            if self.options.skip.contains(&identity_of(&stat)) {
                self.skipped.push(path);
                return None;
            }
            self.fail(Action::ReadDirectory, path.clone(), node, error);
        } else if follow {
            self.fail(Action::ReadDirectory, path, node, error);
            return None;
        }
        let is_source = self.is_source(node) && !is_directory(&stat);
        self.found(path, &stat, parent, None).map(|found| found.with_source(is_source))
    }

    fn is_source(&self, node: Option<NodeId>) -> bool {
        node.is_some_and(|id| self.sources.node(id).full)
    }

    fn found(
        &mut self,
        path: EntryPath,
        stat: &Stat,
        parent: Arc<Dir>,
        own: Option<Arc<Dir>>,
    ) -> Option<Found> {
        match kind_of(stat) {
            Some(kind) => Some(Found::new(path, kind, stat, parent, own)),
            None => {
                self.errors.push_back(CollectError::Unfit { path, reason: "its file type is not known" });
                None
            }
        }
    }

    /// Queues the error for the entry, or for each source that is lost with it.
    fn fail(&mut self, action: Action, path: EntryPath, node: Option<NodeId>, error: Errno) {
        match node {
            Some(id) => {
                let lost = self.sources.given_below(id).into_iter();
                self.errors.extend(lost.map(|given| CollectError::Source { given, source: error.into() }));
            }
            None if error == Errno::NOENT => self.errors.push_back(CollectError::Vanished { path }),
            None => self.errors.push_back(CollectError::io(action, &path, error)),
        }
    }

    /// Lists the directory that was yielded last and makes it the current one.
    fn enter(&mut self, entering: Entering) {
        let Entering { path, dir, identity, node, mut full, device } = entering;
        let mut children = Children::default();
        if full && let Err(error) = dir.list(&mut children, &mut self.buffer) {
            self.errors.push_back(CollectError::io(Action::ReadDirectory, &path, error));
        }
        let markers = self.options.excludes.marks(&dir, &children);
        if !markers.is_empty() {
            self.excluded_count += 1;
            children.keep_only(&markers);
            full = false;
        }
        self.current = path;
        let path_len = self.current.as_bytes().len();
        let mut frame =
            Frame { path_len, dir: Some(dir), identity: Some(identity), children, node, full, device };
        self.add_named_children(&mut frame);
        self.frames.push(frame);
        if let Some(far) = self.frames.len().checked_sub(OPEN_DEPTH_MAX + 1) {
            let frame = &mut self.frames[far];
            // Through a symlink `..` leads elsewhere, and only sources lead through symlinks.
            if frame.node.is_none() {
                frame.dir = None;
            }
        }
    }

    /// Adds the children that sources name, and puts all in order.
    fn add_named_children(&mut self, frame: &mut Frame) {
        if let Some(id) = frame.node {
            for name in self.sources.node(id).children.keys() {
                let name = CString::new(name.clone()).expect("a path holds no NUL");
                if frame.children.push(&name, false).is_err() {
                    self.errors.push_back(CollectError::io(
                        Action::ReadDirectory,
                        &self.current,
                        Errno::OVERFLOW,
                    ));
                }
            }
        }
        frame.children.sort();
    }

    /// Goes back to the directory above, which may have to be opened again.
    fn leave(&mut self) {
        let Some(left) = self.frames.pop() else { return };
        let Some(frame) = self.frames.last_mut() else { return };
        self.current.truncate(frame.path_len);
        if frame.dir.is_some() || frame.identity.is_none() {
            return;
        }
        let reopened = left.dir.and_then(|below| {
            let dir = Dir::open(&below, c"..", Open::PassFollowing).ok()?;
            (Some(identity_of(&dir.stat().ok()?)) == frame.identity).then(|| Arc::new(dir))
        });
        frame.dir = reopened;
        if frame.dir.is_none() {
            frame.children.discard_rest();
            self.errors.push_back(CollectError::Changed { path: self.current.clone() });
        }
    }
}

impl Iterator for Walk {
    type Item = Result<Found, CollectError>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.started {
            self.started = true;
            if let Some(found) = self.start() {
                return Some(Ok(found));
            }
        }
        loop {
            if let Some(error) = self.errors.pop_front() {
                return Some(Err(error));
            }
            if let Some(entering) = self.entering.take() {
                self.enter(entering);
                continue;
            }
            let frame = self.frames.last_mut()?;
            let Some((position, listed_directory)) = frame.children.take_next() else {
                self.leave();
                continue;
            };
            // The names are lent out for the call, which may not touch the frame's own list.
            let children = std::mem::take(&mut frame.children);
            let current = self.frames.len() - 1;
            let found = self.visit(children.name(position), listed_directory);
            self.frames[current].children = children;
            if let Some(found) = found {
                return Some(Ok(found));
            }
        }
    }
}

fn is_directory(stat: &Stat) -> bool {
    kind_of(stat) == Some(EntryKind::Directory)
}
