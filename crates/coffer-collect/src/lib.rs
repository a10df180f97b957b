//! Collectors and targets: files in, files out.
//!
//! [`Walk`] lists what is to be saved, in the order of [`EntryPath`], and opens each file for reading.
//! [`DirectoryTarget`] writes the same entries back under one directory. Between the two stands nothing but
//! plain values: this crate knows nothing of encryption, of storage or of how a snapshot is laid out.
//!
//! What holds throughout:
//! - Paths are bytes, relative and free of `..`; a path that is not so cannot be made into an [`EntryPath`].
//! - Every system call names one component below an open directory, so a path may be longer than the system's
//!   limit for one call, and a symlink in the tree is never followed (only where a caller spelled it out in a source).
//! - One bad entry is one reported error. It does not end a walk, and metadata that cannot be applied during a
//!   restore is a [`Warning`].
//!
//! Linux is the first platform; the walk and the target are compiled there only.

#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "what only the walk and the target call"))]

mod archive;
mod entry;
mod error;
mod path;

#[cfg(target_os = "linux")]
mod exclude;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod names;
#[cfg(target_os = "linux")]
mod patterns;
#[cfg(target_os = "linux")]
mod stream;
#[cfg(target_os = "linux")]
mod target;
#[cfg(target_os = "linux")]
mod xattr;

pub use archive::{ArchiveHole, ArchiveWriter, Archived, TarArchive, ZipArchive};
pub use entry::{EntryKind, Identity, Metadata, StatFingerprint, Xattr};
pub use error::{Action, CollectError};
#[cfg(target_os = "linux")]
pub use exclude::{Excludes, Marker};
#[cfg(target_os = "linux")]
pub use files::{Found, Walk, WalkOptions, next_data};
#[cfg(target_os = "linux")]
pub use names::Names;
pub use path::{COMPONENT_LEN_MAX, EntryPath, PATH_LEN_MAX, PathFault};
#[cfg(target_os = "linux")]
pub use patterns::{Patterns, PatternsBuilder, Verdict};
#[cfg(target_os = "linux")]
pub use stream::Stream;
#[cfg(target_os = "linux")]
pub use target::{
    DirectoryTarget, Existing, FilePlace, FileWriter, Listing, Lost, OldFile, OwnerRule, Removal, SkipReason,
    SpecialOutcome, TargetOptions, Warning,
};
