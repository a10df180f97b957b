//! Entries of snapshots as `ls` and `find` print them.

use coffer_engine::{EngineError, LostSubtree};
use coffer_format::path::display_path;
use coffer_format::tree::{Kind, TreeEntry};
use serde_json::{Value, json};

use crate::command_error::{chain, exit_of_loss};
use crate::exit_code::Exit;
use crate::output::{Output, time, time_utc};

/// Prints one entry on one line.
pub(super) fn print(output: Output, entry: &TreeEntry, long: bool) -> std::io::Result<()> {
    if output.json {
        output.json_line(&entry_json(entry))
    } else if long {
        output.text(&long_line(entry))
    } else {
        output.text(&path_text(&entry.path))
    }
}

/// Warns of a part of a tree that cannot be read.
pub(super) fn warn_of_lost(output: Output, lost: &LostSubtree) {
    let path = path_text(&lost.last_path);
    output.warn(&format!("entries up to {path} cannot be read: {}", chain(&lost.error)));
}

/// How a command ends that would have ended with `exit` and met a part of a tree that cannot be read.
pub(super) fn exit_after(exit: Exit, error: &EngineError) -> Exit {
    match exit {
        Exit::Corrupt => exit,
        _ => exit_of_loss(error),
    }
}

/// A path for people; `.` for the root.
pub(super) fn path_text(path: &[u8]) -> String {
    if path.is_empty() { ".".to_owned() } else { display_path(path) }
}

fn long_line(entry: &TreeEntry) -> String {
    let name = |name: &Option<Vec<u8>>, number: u32| {
        name.as_ref().map_or_else(|| number.to_string(), |name| display_path(name))
    };
    let target =
        entry.link_target.as_ref().map(|target| format!(" -> {}", display_path(target))).unwrap_or_default();
    // The first entry of a group knows nothing of the others.
    let first = entry.hard_link.as_ref().map(|first| format!(" link to {}", display_path(first)));
    let first = first.unwrap_or_default();
    let letter = match entry.kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        Kind::CharDevice => 'c',
        Kind::BlockDevice => 'b',
        Kind::Resource => 'r',
    };
    format!(
        "{letter}{} {:>8} {:>8} {:>12} {} {}{target}{first}",
        permissions(entry.mode),
        name(&entry.user, entry.uid),
        name(&entry.group, entry.gid),
        entry.size,
        time(entry.mtime_ns),
        path_text(&entry.path),
    )
}

fn permissions(mode: u32) -> String {
    let mut text = String::with_capacity(9);
    for (shift, special, on, off) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bits = mode >> shift;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (mode & special == 0, bits & 1 == 0) {
            (true, true) => '-',
            (true, false) => 'x',
            (false, false) => on,
            (false, true) => off,
        });
    }
    text
}

fn entry_json(entry: &TreeEntry) -> Value {
    json!({
        "message_type": "entry", "path": display_path(&entry.path), "kind": entry.kind.name(), "mode": entry.mode,
        "uid": entry.uid, "gid": entry.gid, "user": entry.user.as_ref().map(|name| display_path(name)),
        "group": entry.group.as_ref().map(|name| display_path(name)), "size": entry.size,
        "mtime": time_utc(entry.mtime_ns), "link_target": entry.link_target.as_ref().map(|target| display_path(target)),
        "hard_link": entry.hard_link.as_ref().map(|first| display_path(first)),
        "changed_while_read": entry.changed_while_read,
    })
}
