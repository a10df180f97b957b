//! What is in a snapshot.

use coffer_format::path::is_within;
use coffer_format::tree::TreeEntry;

use crate::error::EngineError;
use crate::read::ChunkReader;
use crate::tree_reader::{LostSubtree, TreeReader, path_text};
use crate::vault::{Snapshot, Vault};

/// An entry of a listing, or a part of the tree that cannot be read.
pub type ListedEntry = Result<TreeEntry, LostSubtree>;

/// Shows the entries at and below `within` (everything for the empty path), in path order.
///
/// # Errors
/// [`EngineError::NoPath`] when there are none; what `visit` returns.
pub fn list(
    vault: &Vault<'_>,
    snapshot: &Snapshot,
    within: &[u8],
    visit: &mut dyn FnMut(ListedEntry) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let mut chunks = ChunkReader::new(vault, &snapshot.state.body.domain)?;
    let mut tree = TreeReader::within(&snapshot.manifest.root, within.to_vec());
    let mut found = within.is_empty();
    while let Some(leaf) = tree.next_leaf(&mut chunks) {
        vault.access.check_interrupt()?;
        match leaf {
            Ok(leaf) => {
                for entry in leaf.entries.into_iter().filter(|entry| is_within(&entry.path, within)) {
                    found = true;
                    visit(Ok(entry))?;
                }
            }
            Err(lost) => {
                found = true;
                visit(Err(lost))?;
            }
        }
    }
    if found { Ok(()) } else { Err(EngineError::NoPath { path: path_text(within) }) }
}
