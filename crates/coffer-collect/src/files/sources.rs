//! Where a walk begins: the sources, merged into one tree of names.
//!
//! A source given relative keeps its path. One given absolute, or with a `..` in it, is stored with its whole
//! path. The tree holds the components of every source; a node at which a source ends is `full`, everything below
//! it is walked. Nodes above are entries of their own, of which only the named children are walked.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::dir::{Dir, Open, identity_of};
use crate::{CollectError, EntryPath};

/// The position of a node in [`Sources`].
pub(crate) type NodeId = usize;

/// The node of the empty path.
pub(crate) const ROOT: NodeId = 0;

/// The directory that a source is resolved against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    WorkingDirectory,
    FileSystemRoot,
}

#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) children: BTreeMap<Vec<u8>, NodeId>,
    /// A source ends here.
    pub(crate) full: bool,
    /// A symlink here is followed, because a source spells out what is below it or ends in a slash.
    pub(crate) follow: bool,
    /// Which base the first component is resolved against; of the root, what the root is. Unset while the root is
    /// not itself a source.
    base: Option<Base>,
    given: Option<PathBuf>,
}

/// All sources of a walk.
#[derive(Debug)]
pub(crate) struct Sources {
    nodes: Vec<Node>,
    working_directory: Arc<Dir>,
    file_system_root: Arc<Dir>,
    /// The working directory is the root of the file system.
    same_base: bool,
}

impl Sources {
    /// Merges `sources`, resolved against `cwd`. Sources that cannot be used are added to `errors`.
    pub(crate) fn new(
        sources: &[PathBuf],
        cwd: &Path,
        errors: &mut impl Extend<CollectError>,
    ) -> Result<Self, CollectError> {
        if sources.is_empty() {
            return Err(CollectError::NoSources);
        }
        let open = |path: &Path| {
            let dir = Dir::open(rustix::fs::CWD, path, Open::PassFollowing)?;
            let identity = identity_of(&dir.stat()?);
            Ok((Arc::new(dir), identity))
        };
        let open_base = |path: &Path| {
            open(path).map_err(|e: rustix::io::Errno| CollectError::Source {
                given: path.to_owned(),
                source: e.into(),
            })
        };
        let (working_directory, cwd_identity) = open_base(cwd)?;
        let (file_system_root, root_identity) = open_base(Path::new("/"))?;
        let mut merged = Self {
            nodes: vec![Node::default()],
            working_directory,
            file_system_root,
            same_base: cwd_identity == root_identity,
        };
        for given in sources {
            match Located::new(given, cwd) {
                Ok(located) => merged.insert(given, &located)?,
                Err(error) => errors.extend([error]),
            }
        }
        merged.refuse_shared_names()?;
        Ok(merged)
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// The directory that the node, the root or a child of the root, is found below.
    pub(crate) fn base_of(&self, id: NodeId) -> &Arc<Dir> {
        self.base_dir(self.nodes[id].base.unwrap_or(Base::WorkingDirectory))
    }

    /// The sources that end at `id` or below it, as they were given.
    pub(crate) fn given_below(&self, id: NodeId) -> Vec<PathBuf> {
        let (mut given, mut open) = (Vec::new(), vec![id]);
        while let Some(id) = open.pop() {
            let node = &self.nodes[id];
            given.extend(node.given.clone());
            open.extend(node.children.values().rev());
        }
        given
    }

    fn base_dir(&self, base: Base) -> &Arc<Dir> {
        match base {
            Base::WorkingDirectory => &self.working_directory,
            Base::FileSystemRoot => &self.file_system_root,
        }
    }

    fn insert(&mut self, given: &Path, located: &Located) -> Result<(), CollectError> {
        let base = if self.same_base { Base::FileSystemRoot } else { located.base };
        let mut id = ROOT;
        for (depth, component) in located.components.iter().enumerate() {
            self.nodes[id].follow = true;
            id = match self.nodes[id].children.get(component) {
                Some(&child) => child,
                None => {
                    self.nodes.push(Node::default());
                    let child = self.nodes.len() - 1;
                    self.nodes[id].children.insert(component.clone(), child);
                    child
                }
            };
            if depth == 0 {
                self.set_base(id, base, given, located)?;
            }
        }
        if located.components.is_empty() {
            self.set_base(ROOT, base, given, located)?;
        }
        let node = &mut self.nodes[id];
        node.full = true;
        node.follow |= located.follow;
        node.given.get_or_insert_with(|| given.to_owned());
        Ok(())
    }

    fn set_base(
        &mut self,
        id: NodeId,
        base: Base,
        given: &Path,
        located: &Located,
    ) -> Result<(), CollectError> {
        match self.nodes[id].base.replace(base) {
            Some(other) if other != base => {
                let first = located.components.first().map_or(&b""[..], Vec::as_slice);
                Err(CollectError::SourceConflict { given: given.to_owned(), path: EntryPath::new(first)? })
            }
            _ => Ok(()),
        }
    }

    /// Where the root is a source, refuses sources of the other base whose first name is also in the root.
    fn refuse_shared_names(&self) -> Result<(), CollectError> {
        let root = &self.nodes[ROOT];
        let (true, Some(base)) = (root.full, root.base) else { return Ok(()) };
        for (name, &id) in &root.children {
            let elsewhere = self.nodes[id].base != Some(base);
            if elsewhere && self.base_dir(base).stat_child(name.as_slice()).is_ok() {
                let given = self.given_below(id).into_iter().next().unwrap_or_default();
                return Err(CollectError::SourceConflict { given, path: EntryPath::new(name.clone())? });
            }
        }
        Ok(())
    }
}

/// A source taken apart.
struct Located {
    base: Base,
    components: Vec<Vec<u8>>,
    follow: bool,
}

impl Located {
    fn new(given: &Path, cwd: &Path) -> Result<Self, CollectError> {
        let failed = |source| CollectError::Source { given: given.to_owned(), source };
        let bytes = given.as_os_str().as_bytes();
        if bytes.is_empty() {
            return Err(failed(rustix::io::Errno::NOENT.into()));
        }
        let follow = bytes.ends_with(b"/") || bytes.ends_with(b"/.");
        let parts: Vec<Component<'_>> = given.components().collect();
        let climbs = parts.iter().rposition(|part| *part == Component::ParentDir);
        let (base, path) = match climbs {
            // What `..` means depends on the symlinks before it, so the system is asked.
            Some(last) => {
                let climbing: PathBuf = parts[..=last].iter().collect();
                let mut path = cwd.join(climbing).canonicalize().map_err(failed)?;
                path.extend(&parts[last + 1..]);
                (Base::FileSystemRoot, path)
            }
            None if given.is_absolute() => (Base::FileSystemRoot, given.to_owned()),
            None => (Base::WorkingDirectory, given.to_owned()),
        };
        let components: Vec<Vec<u8>> = path
            .components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(OsStr::as_bytes(name).to_vec()),
                _ => None,
            })
            .collect();
        EntryPath::new(components.join(&b'/'))?;
        Ok(Self { base, components, follow })
    }
}
