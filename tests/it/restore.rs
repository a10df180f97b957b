//! Restore: parts of snapshots, targets with something in them, sparse files and attributes, and snapshots that mean harm.

pub(crate) mod by_hand;
mod hostile;
mod parts;
mod written;
