//! Backup: what is left out, what is compared, what is only tried, streams, and sources that are hard to copy.

mod again;
mod compare;
mod dry_run;
mod excludes;
mod faithful;
mod long_paths;
mod moving;
mod sparse;
mod streams;
mod unchanged;
mod vanish;

use std::path::Path;

use coffer_format::tree::TreeEntry;
use coffer_store::ObjectStore;

use super::support::World;

/// The entries of the newest snapshot.
fn entries(world: &World, store: &dyn ObjectStore) -> Vec<TreeEntry> {
    let vault = world.open(store).unwrap();
    let snapshot = vault.select("latest").unwrap();
    let mut entries = Vec::new();
    coffer_engine::list(&vault, &snapshot, b"", &mut |entry| {
        entries.push(entry.unwrap());
        Ok(())
    })
    .unwrap();
    entries
}

/// Their paths.
fn paths(world: &World, store: &dyn ObjectStore) -> Vec<String> {
    entries(world, store).iter().map(|entry| coffer_format::path::display_path(&entry.path)).collect()
}

/// Makes the modification time of a file the same as that of another one.
fn copy_mtime(from: &Path, to: &Path) {
    let time = std::fs::metadata(from).unwrap().modified().unwrap();
    std::fs::File::options().write(true).open(to).unwrap().set_modified(time).unwrap();
}
