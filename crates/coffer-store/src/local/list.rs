//! Listing a local store: a walk that holds one directory open per level and follows nothing.

use std::ops::ControlFlow;

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::io::Errno;

use super::{LocalStore, len_of};
use crate::key::{KEY_LEN_MAX, RESERVED_COMPONENT, is_component};
use crate::{ItemKind, ListItem, ObjectKey, StoreError};

/// A directory that the walk is in: its name below the root, with a trailing slash unless it is the root.
struct Level {
    name: String,
    entries: Dir,
}

impl LocalStore {
    /// Visits what [`ObjectStore::list`](crate::ObjectStore::list) promises. A directory that cannot hold an object, by
    /// its name, is one foreign item and is not entered; so the depth is bounded by the length of a key.
    pub(super) fn walk(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let is_wanted = |name: &str| name.starts_with(prefix) && start_after.is_none_or(|after| name > after);
        let may_hold_wanted = |directory: &str| {
            (directory.starts_with(prefix) || prefix.starts_with(directory))
                && start_after.is_none_or(|after| directory > after || after.starts_with(directory))
        };

        let mut levels = vec![self.enter(String::new(), self.open_dir(None)?)?];
        while let Some(level) = levels.last_mut() {
            let Some(entry) = level.entries.read() else {
                levels.pop();
                continue;
            };
            let entry = entry.map_err(|errno| self.io_error(&level.name, errno))?;
            let file_name = entry.file_name();
            if matches!(file_name.to_bytes(), b"." | b"..") {
                continue;
            }
            let text = file_name.to_string_lossy();
            let name = format!("{}{text}", level.name);
            let is_dir_hint = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
            if !is_wanted(&name) && !is_dir_hint {
                continue;
            }

            let parent = level.entries.fd().map_err(|errno| self.io_error(&level.name, errno))?;
            let stat = match rustix::fs::statat(parent, file_name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Deleted since the directory was read.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(self.io_error(&name, errno)),
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            let item = if kind == FileType::Directory {
                if name == RESERVED_COMPONENT {
                    continue;
                }
                let name = name + "/";
                if is_component(&text) && name.len() < KEY_LEN_MAX {
                    if !may_hold_wanted(&name) {
                        continue;
                    }
                    match self.open_child(parent, &text, &name) {
                        Ok(child) => levels.push(self.enter(name, child)?),
                        Err(error) if error.is_not_found() => {}
                        Err(error) => return Err(error),
                    }
                    continue;
                }
                ListItem { name, len: 0, kind: ItemKind::Foreign }
            } else {
                let is_object = kind == FileType::RegularFile && ObjectKey::new(name.as_str()).is_ok();
                ListItem {
                    len: if kind == FileType::RegularFile { len_of(&stat) } else { 0 },
                    kind: if is_object { ItemKind::Object } else { ItemKind::Foreign },
                    name,
                }
            };
            if is_wanted(&item.name) && visit(item).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn enter(&self, name: String, directory: std::os::fd::OwnedFd) -> Result<Level, StoreError> {
        match Dir::new(directory) {
            Ok(entries) => Ok(Level { name, entries }),
            Err(errno) => Err(self.io_error(&name, errno)),
        }
    }
}
