//! Backup: what is left out, what is compared, what is only tried, streams, and sources that are hard to copy.

mod again;
mod compare;
mod dry_run;
mod excludes;
mod faithful;
mod large;
mod long_paths;
mod moving;
mod sparse;
mod streams;
mod unchanged;
mod vanish;

use std::fs;
use std::path::{Path, PathBuf};

use coffer_format::tree::TreeEntry;
use coffer_store::{MemoryStore, ObjectStore};
use tempfile::TempDir;

use super::support::{World, noise, scratch};

/// A source, a vault, and the cache of a host.
struct Site {
    place: TempDir,
    world: World,
    store: MemoryStore,
}

impl Site {
    /// The source has these files: a name, and what the bytes, `len` of them, are made from.
    fn new(files: &[(&str, u64)], len: usize) -> Self {
        let place = scratch();
        let world = World::with_cache(31, &place.path().join("cache"));
        let site = Self { place, world, store: MemoryStore::new() };
        fs::create_dir(site.source()).unwrap();
        for (name, seed) in files {
            fs::write(site.source().join(name), noise(*seed, len)).unwrap();
        }
        site.world.init(&site.store).unwrap();
        site
    }

    fn source(&self) -> PathBuf {
        self.place.path().join("src")
    }
}

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
