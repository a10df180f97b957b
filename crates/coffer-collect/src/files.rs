//! Files as a source of entries.

mod dir;
mod found;
mod sources;
mod sparse;
mod walk;

pub(crate) use dir::{Children, Dir, fingerprint_of, identity_of, kind_of, open_noatime};
pub use found::Found;
pub use sparse::next_data;
pub use walk::{Walk, WalkOptions};
