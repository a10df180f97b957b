//! What can go wrong while files are read or written.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::path::{EntryPath, PathFault, escape};

/// A failure of one entry or, from a constructor, of the whole walk or target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectError {
    /// Bytes that cannot be the path of an entry.
    #[error("use '{path}' as a path: {fault}")]
    InvalidPath {
        /// The beginning of the bytes, escaped.
        path: String,
        /// The rule that they break.
        fault: PathFault,
    },
    /// A walk was asked for with nothing to walk.
    #[error("walk: no source is given")]
    NoSources,
    /// A source does not exist or cannot be reached.
    #[error("read source {given:?}")]
    Source {
        /// The source as it was given.
        given: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Two sources are different places on disk that would have the same path in a snapshot.
    #[error("store source {given:?} as {path}: a source relative to another directory has the same path")]
    SourceConflict {
        /// The source as it was given.
        given: PathBuf,
        /// The path that both would have.
        path: EntryPath,
    },
    /// The directory of a target cannot be made or opened.
    #[error("open target directory {path:?}")]
    Target {
        /// The directory as it was given.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A system call failed.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: Action,
        /// The entry it was tried on.
        path: EntryPath,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// An entry was there when its directory was listed, and is gone.
    #[error("read {path}: it was removed meanwhile")]
    Vanished {
        /// The entry.
        path: EntryPath,
    },
    /// Another file or directory stands where this one stood.
    #[error("use {path}: it was replaced meanwhile")]
    Changed {
        /// The entry.
        path: EntryPath,
    },
    /// A symlink, or something else that is no directory, stands where a directory is needed.
    #[error("enter {path}: it is not a directory")]
    NotADirectory {
        /// The path of what stands there.
        path: EntryPath,
    },
    /// A directory that has entries stands where something else is to be written.
    #[error("replace {path}: it is a directory and not empty")]
    DirectoryInTheWay {
        /// The directory.
        path: EntryPath,
    },
    /// Text that is no pattern.
    #[error("the pattern '{pattern}' is not valid: {reason}")]
    Pattern {
        /// The text, escaped.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A command whose output is to be stored cannot be started.
    #[error("start command {command:?}")]
    CommandStart {
        /// The program.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A command whose output is to be stored did not succeed, so the output may not be whole.
    #[error("take the output of command {command:?}: {outcome}")]
    CommandFailed {
        /// The program.
        command: String,
        /// How it ended.
        outcome: String,
    },
    /// A stream cannot be read to its end.
    #[error("read the stream")]
    Stream {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An archive cannot be written.
    #[error("write the archive")]
    Archive {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An operation does not fit the entry, or metadata lacks what its kind needs.
    #[error("use {path}: {reason}")]
    Unfit {
        /// The entry.
        path: EntryPath,
        /// What does not fit.
        reason: &'static str,
    },
}

impl CollectError {
    /// The kind of the failed system call, where one failed.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Source { source, .. }
            | Self::Target { source, .. }
            | Self::Io { source, .. }
            | Self::Archive { source } => Some(source.kind()),
            _ => None,
        }
    }

    pub(crate) fn invalid_path(bytes: &[u8], fault: PathFault) -> Self {
        const SHOWN_LEN_MAX: usize = 512;
        let path = if bytes.len() > SHOWN_LEN_MAX {
            format!("{}...", escape(&bytes[..SHOWN_LEN_MAX]))
        } else {
            escape(bytes)
        };
        Self::InvalidPath { path, fault }
    }

    pub(crate) fn io(action: Action, path: &EntryPath, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.clone(), source: source.into() }
    }
}

/// What was tried when a system call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Reading the stat fields of an entry.
    Stat,
    /// Opening a file to read it.
    OpenFile,
    /// Opening or listing a directory.
    ReadDirectory,
    /// Reading the target of a symlink.
    ReadLink,
    /// Reading extended attributes.
    ReadXattrs,
    /// Making a file, a directory, a symlink, a hard link or a special file.
    Create,
    /// Writing the content of a file.
    Write,
    /// Removing what stands in the way.
    Remove,
    /// Giving a finished entry its name.
    Rename,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stat => "stat",
            Self::OpenFile => "open",
            Self::ReadDirectory => "read directory",
            Self::ReadLink => "read symlink",
            Self::ReadXattrs => "read extended attributes of",
            Self::Create => "create",
            Self::Write => "write",
            Self::Remove => "remove what stands at",
            Self::Rename => "give the finished entry the name",
        })
    }
}
