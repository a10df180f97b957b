//! Files as a source of entries.

mod dir;
mod found;
mod sources;
mod walk;

pub(crate) use dir::{identity_of, kind_of};
pub use found::Found;
pub use walk::{Walk, WalkOptions};
