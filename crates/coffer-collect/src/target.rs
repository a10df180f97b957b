//! Where a restore writes.

mod apply;
mod directory;
mod existing;
mod nodes;
mod options;
mod place;
mod remove;
mod writer;

pub use directory::DirectoryTarget;
pub use existing::{Existing, OldFile};
pub use options::{Lost, OwnerRule, SkipReason, SpecialOutcome, TargetOptions, Warning};
pub use remove::{Listing, Removal};
pub use writer::{FilePlace, FileWriter};
