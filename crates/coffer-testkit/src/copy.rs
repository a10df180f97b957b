//! Taking stores apart and building them, for damage tests.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use coffer_store::{ItemKind, ListItem, LocalStore, MemoryStore, ObjectKey, ObjectStore};

/// The content of a store: names and bytes.
pub type Objects = BTreeMap<String, Vec<u8>>;

/// Reads every object of `store`.
///
/// # Panics
/// When a call fails, or a foreign name is there: it would be lost in the copy.
#[must_use]
pub fn snapshot_of<S: ObjectStore + ?Sized>(store: &S) -> Objects {
    let mut objects = Objects::new();
    let read = &mut |item: ListItem| {
        assert_eq!(item.kind, ItemKind::Object, "{} is no object and cannot be copied", item.name);
        let key = ObjectKey::new(item.name.as_str()).expect("a listed object has a valid key");
        let mut bytes = Vec::new();
        store.read(&key, u64::MAX, &mut bytes).expect("a listed object can be read");
        objects.insert(item.name, bytes);
        ControlFlow::Continue(())
    };
    store.list("", None, read).expect("a store to be copied can be listed");
    objects
}

/// Makes a store of `objects`, whatever their names.
#[must_use]
pub fn store_from(objects: impl IntoIterator<Item = (String, Vec<u8>)>) -> MemoryStore {
    let store = MemoryStore::new();
    for (name, bytes) in objects {
        store.insert_raw(name, bytes);
    }
    store
}

/// Reads every object of the local store in `directory`.
///
/// # Panics
/// As [`snapshot_of`], and when there is no such directory.
#[must_use]
pub fn snapshot_of_dir(directory: impl AsRef<Path>) -> Objects {
    snapshot_of(&LocalStore::open(directory).expect("a store to be copied can be opened"))
}

/// Makes `directory` hold exactly `objects` as files. What was in it is removed.
///
/// # Panics
/// When a name is no valid key, or the file system fails.
pub fn write_dir(objects: &Objects, directory: impl AsRef<Path>) {
    let directory = directory.as_ref();
    if directory.exists() {
        std::fs::remove_dir_all(directory).expect("the old content can be removed");
    }
    std::fs::create_dir_all(directory).expect("the directory can be made");
    for (name, bytes) in objects {
        ObjectKey::new(name.as_str()).expect("only valid keys become files");
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().expect("it is below the directory"))
            .expect("the directory can be made");
        std::fs::write(path, bytes).expect("the file can be written");
    }
}
