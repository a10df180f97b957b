//! What a restore is asked to do, and what it reports.

use std::fmt;
use std::io;

use crate::EntryPath;
use crate::path::escape;

/// What a target applies of the metadata it is given. The default is what is safe for whoever runs it.
#[derive(Clone, Debug, Default)]
pub struct TargetOptions {
    /// Whether owner and group are applied.
    pub owner: OwnerRule,
    /// Owner and group are taken by their numbers, even where this system knows the recorded names.
    pub numeric_owner: bool,
    /// Set-user-id and set-group-id bits of files and file capabilities are applied, provided that the file has the
    /// recorded owner and group. (The set-group-id bit of a directory grants nothing and is always applied.)
    pub privileged_files: bool,
    /// Character and block devices are made.
    pub devices: bool,
    /// Runs of zeros in files become holes.
    pub sparse: bool,
}

/// Whether owner and group are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OwnerRule {
    /// When the effective user is root.
    #[default]
    IfRoot,
    /// Always; each entry for which it is not allowed gives a warning.
    Always,
    /// Never: everything belongs to whoever runs the restore.
    Never,
}

/// A part of an entry's metadata that was not applied. The entry itself is restored.
#[derive(Debug)]
pub struct Warning {
    /// The entry.
    pub path: EntryPath,
    /// What it lacks.
    pub lost: Lost,
    /// Why, where the system said so; without it, the options say so.
    pub cause: Option<io::Error>,
}

/// What an entry lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lost {
    /// Owner and group.
    Owner,
    /// Permission bits.
    Mode,
    /// Set-user-id and set-group-id bits alone; the other permission bits are applied.
    SetIdBits,
    /// The time of the last change.
    Time,
    /// The extended attribute of this name; a file capability is `security.capability`.
    Xattr(Vec<u8>),
    /// That an attribute of this name, inherited or from before, is not there.
    XattrRemoval(Vec<u8>),
    /// All metadata of a directory, which could not be found again at the end.
    DirectoryMetadata,
}

/// What became of a special file.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpecialOutcome {
    /// It was made; the warnings say what of its metadata it lacks.
    Created(Vec<Warning>),
    /// It was not made, and what stood at its path was left alone.
    Skipped(SkipReason),
}

/// Why a special file was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SkipReason {
    /// [`TargetOptions::devices`] does not ask for devices.
    DevicesNotAsked,
    /// The system does not let this user make it.
    NotPermitted,
}

/// Reads as one line without the cause, which whoever prints adds.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} not applied", self.path, self.lost)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner => f.write_str("owner and group"),
            Self::Mode => f.write_str("permissions"),
            Self::SetIdBits => f.write_str("set-id bits (they need --privileged and the recorded owner)"),
            Self::Time => f.write_str("modification time"),
            Self::Xattr(name) => write!(f, "extended attribute {}", escape(name)),
            Self::XattrRemoval(name) => write!(f, "removal of extended attribute {}", escape(name)),
            Self::DirectoryMetadata => f.write_str("metadata of the directory"),
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DevicesNotAsked => "devices are restored only on request (--devices)",
            Self::NotPermitted => "this user may not make it",
        })
    }
}
