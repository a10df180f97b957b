//! What a walk leaves out.
//!
//! Only what a source holds is left out, or a source itself: the directories that lead to a source are always passed. Nothing is left out
//! by default, hidden files neither.

use std::io::Read;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags};

use crate::files::{Children, Dir};
use crate::path::escape;
use crate::{CollectError, EntryKind, EntryPath, Patterns, Verdict};

/// What a walk leaves out of its sources.
#[derive(Clone, Debug, Default)]
pub struct Excludes {
    /// Entries whose path these ignore; such a directory is not entered.
    pub patterns: Patterns,
    /// A directory that holds one of these is an entry, the marker too, and nothing else in it.
    pub markers: Vec<Marker>,
    /// Regular files longer than this, in bytes.
    pub larger_than: Option<u64>,
    /// Whether directories on another device than that of the source are left empty.
    pub one_file_system: bool,
}

/// A file whose presence marks a directory as not worth a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    name: Vec<u8>,
    /// What the file has to begin with.
    header: Vec<u8>,
}

impl Marker {
    /// A file of this name, which begins with `header`.
    ///
    /// # Errors
    /// [`CollectError::Pattern`] when `name` is not the name of a file.
    pub fn new(name: &[u8], header: &[u8]) -> Result<Self, CollectError> {
        match EntryPath::root().join(name) {
            Ok(_) => Ok(Self { name: name.to_vec(), header: header.to_vec() }),
            Err(_) => Err(CollectError::Pattern {
                pattern: escape(name),
                reason: "it is not the name of a file".to_owned(),
            }),
        }
    }

    /// The tag of cache directories: a file `CACHEDIR.TAG` with the signature that the [convention](https://bford.info/cachedir/) names.
    #[must_use]
    pub fn cache_directory() -> Self {
        Self {
            name: b"CACHEDIR.TAG".to_vec(),
            header: b"Signature: 8a477f597d28d172789f06886806bc55".to_vec(),
        }
    }

    /// The place of the marker among the children of `dir`, if it is there. One that cannot be read marks nothing.
    fn find(&self, dir: &Dir, children: &Children) -> Option<usize> {
        let position = children.position_of(&self.name)?;
        let stat = dir.stat_child(self.name.as_slice()).ok()?;
        let kind = crate::files::kind_of(&stat)?;
        let marks = match kind {
            EntryKind::Directory => false,
            _ if self.header.is_empty() => true,
            EntryKind::File => self.begins_with_header(dir),
            _ => false,
        };
        marks.then_some(position)
    }

    fn begins_with_header(&self, dir: &Dir) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(dir.as_fd(), self.name.as_slice(), flags, Mode::empty());
        let mut begin = vec![0; self.header.len()];
        opened.is_ok_and(|fd| std::fs::File::from(fd).read_exact(&mut begin).is_ok() && begin == self.header)
    }
}

impl Excludes {
    /// Whether the patterns say that an entry is left out.
    pub(crate) fn ignores(&self, path: &EntryPath, is_dir: bool) -> bool {
        self.patterns.matches(path.as_bytes(), is_dir) == Verdict::Ignore
    }

    /// Whether a regular file of this length is left out.
    pub(crate) fn is_too_large(&self, len: u64) -> bool {
        self.larger_than.is_some_and(|limit| len > limit)
    }

    /// The places of the markers that a directory holds; none means that it is taken whole.
    pub(crate) fn marks(&self, dir: &Dir, children: &Children) -> Vec<usize> {
        self.markers.iter().filter_map(|marker| marker.find(dir, children)).collect()
    }
}
