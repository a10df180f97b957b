//! Restore: parts of snapshots, targets with something in them, every oddity of a tree, restores that are stopped, and snapshots that
//! mean harm.

pub(crate) mod by_hand;
mod deleting;
mod hostile;
mod in_place;
mod oddities;
mod over;
mod parts;
mod stopped;
mod stored;
mod swapped;
mod troubles;
mod typed;
mod written;
