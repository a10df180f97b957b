//! Names of users and groups, from `/etc/passwd` and `/etc/group`.
//!
//! The files are read once. Users that only a name service knows (LDAP and the like) have no name here; their
//! numbers are kept all the same.

use std::collections::HashMap;
use std::sync::OnceLock;

/// Users and groups by number and by name.
#[derive(Clone, Debug, Default)]
pub struct Names {
    users: Table,
    groups: Table,
}

#[derive(Clone, Debug, Default)]
struct Table {
    by_id: HashMap<u32, Vec<u8>>,
    by_name: HashMap<Vec<u8>, u32>,
}

impl Names {
    /// The names of this system, read at the first call. A file that cannot be read counts as empty.
    pub fn system() -> &'static Self {
        static SYSTEM: OnceLock<Names> = OnceLock::new();
        SYSTEM.get_or_init(|| {
            let read = |path| std::fs::read(path).unwrap_or_default();
            Self::parse(&read("/etc/passwd"), &read("/etc/group"))
        })
    }

    /// Takes the names from the text of a passwd and a group file. Lines that make no sense are passed over; of
    /// several lines with one number, or with one name, the first counts.
    #[must_use]
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self { users: Table::parse(passwd), groups: Table::parse(group) }
    }

    /// The name of user `uid`.
    #[must_use]
    pub fn user(&self, uid: u32) -> Option<&[u8]> {
        self.users.by_id.get(&uid).map(Vec::as_slice)
    }

    /// The name of group `gid`.
    #[must_use]
    pub fn group(&self, gid: u32) -> Option<&[u8]> {
        self.groups.by_id.get(&gid).map(Vec::as_slice)
    }

    /// The number of the user called `name`.
    #[must_use]
    pub fn uid(&self, name: &[u8]) -> Option<u32> {
        self.users.by_name.get(name).copied()
    }

    /// The number of the group called `name`.
    #[must_use]
    pub fn gid(&self, name: &[u8]) -> Option<u32> {
        self.groups.by_name.get(name).copied()
    }
}

impl Table {
    /// Both files begin a line with `name:password:number`.
    fn parse(text: &[u8]) -> Self {
        let mut table = Self::default();
        for line in text.split(|&b| b == b'\n') {
            let mut fields = line.split(|&b| b == b':');
            let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let id = std::str::from_utf8(id).ok().and_then(|id| id.parse::<u32>().ok());
            let (Some(id), false) = (id, name.is_empty() || name.starts_with(b"#")) else { continue };
            table.by_id.entry(id).or_insert_with(|| name.to_vec());
            table.by_name.entry(name.to_vec()).or_insert(id);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_files_and_passes_over_nonsense() {
        let passwd =
            b"root:x:0:0:root:/root:/bin/sh\n\n#old:x:7:7::/:/\n+::::::\nann:x:1000:100::/home/ann:/bin/sh\n\
            toor:x:0:0::/:/\nann:x:2000:1::/:/\nbad:x:minus:1\nmax:x:4294967296:1";
        let names = Names::parse(passwd, b"wheel:x:10:ann\nstaff:x:50:");
        assert_eq!(names.user(0), Some(&b"root"[..]));
        assert_eq!(names.user(1000), Some(&b"ann"[..]));
        assert_eq!(names.user(2000), Some(&b"ann"[..]));
        assert_eq!(names.user(7), None);
        assert_eq!((names.uid(b"toor"), names.uid(b"ann")), (Some(0), Some(1000)));
        assert_eq!((names.uid(b"bad"), names.uid(b"max"), names.uid(b"")), (None, None, None));
        assert_eq!(
            (names.group(50), names.gid(b"wheel"), names.gid(b"ann")),
            (Some(&b"staff"[..]), Some(10), None)
        );
    }
}
