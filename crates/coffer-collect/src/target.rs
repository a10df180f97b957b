//! Where a restore writes.

mod apply;
mod directory;
mod options;
mod place;
mod writer;

pub use directory::DirectoryTarget;
pub use options::{Lost, OwnerRule, SkipReason, SpecialOutcome, TargetOptions, Warning};
pub use writer::{FilePlace, FileWriter};
