//! `coffer snapshots` and `coffer ls`

use std::ffi::OsString;

use anyhow::{Context, Result};
use clap::Args;
use coffer_engine::{EngineError, Snapshot, list as list_entries};
use coffer_format::path::display_path;
use coffer_format::tree::{Kind, TreeEntry};
use serde_json::{Value, json};

use super::split_selector;
use crate::exit_code::Exit;
use crate::output::{bytes, time, time_utc};
use crate::wiring::World;

#[derive(Debug, Args)]
pub(crate) struct SnapshotsArgs {
    /// Only snapshots with this tag.
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<String>,
    /// Only snapshots of this host.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// "latest", "latest~N", or the beginning of an id; ":/path" behind it for a part.
    #[arg(value_name = "SNAPSHOT[:/PATH]")]
    pub(crate) snapshot: OsString,
    /// Show mode, owner, size and time.
    #[arg(short, long)]
    pub(crate) long: bool,
}

pub(super) fn list(world: &World, args: &SnapshotsArgs) -> Result<Exit> {
    let store = world.open_store()?;
    let vault = world.open_vault(&store)?;
    let mut exit = Exit::Done;
    let mut shown = Vec::new();
    for (state, snapshot) in vault.snapshots() {
        match snapshot {
            Ok(snapshot) => {
                let manifest = &snapshot.manifest;
                let host = args.host.as_ref().is_none_or(|host| *host == manifest.host);
                if host && args.tag.iter().all(|tag| manifest.tags.contains(tag)) {
                    shown.push(snapshot);
                }
            }
            Err(error) => {
                world.output.warn(&format!("snapshot {} cannot be read: {}", state.id, one_line(&error)));
                exit = Exit::Corrupt;
            }
        }
    }
    let value = json!({
        "message_type": "snapshots", "vault_id": vault.id().to_string(),
        "head": vault.log.head().map(|head| head.to_string()),
        "snapshots": shown.iter().map(to_json).collect::<Vec<_>>(),
    });
    let mut text = format!("{:<8}  {:<19}  {:<12}  {:>10}  {}", "id", "time", "host", "size", "sources");
    for snapshot in &shown {
        let manifest = &snapshot.manifest;
        let sources: Vec<_> = manifest.sources.iter().map(|source| display_path(source)).collect();
        let tags = if manifest.tags.is_empty() {
            String::new()
        } else {
            format!("  [{}]", display_path(manifest.tags.join(", ").as_bytes()))
        };
        let incomplete = if manifest.completeness.error_count > 0 { "  incomplete" } else { "" };
        text.push_str(&format!(
            "\n{:<8}  {:<19}  {:<12}  {:>10}  {}{tags}{incomplete}",
            snapshot.id().short(),
            time(manifest.end_ns),
            display_path(manifest.host.as_bytes()),
            bytes(manifest.statistics.content_bytes),
            sources.join(" "),
        ));
    }
    text.push_str(&format!("\n{} snapshot(s)", shown.len()));
    world.output.result(&value, &text)?;
    Ok(exit)
}

fn one_line(error: &EngineError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn to_json(snapshot: &Snapshot) -> Value {
    let manifest = &snapshot.manifest;
    json!({
        "id": snapshot.id().to_string(), "short_id": snapshot.id().short(), "record": snapshot.state.number,
        "time": time_utc(manifest.end_ns), "host": manifest.host, "user": manifest.user, "tags": manifest.tags,
        "sources": manifest.sources.iter().map(|source| display_path(source)).collect::<Vec<_>>(),
        "collector": manifest.collector, "entries": manifest.statistics.entry_count,
        "files": manifest.statistics.file_count, "content_bytes": manifest.statistics.content_bytes,
        "stored_bytes": manifest.statistics.stored_bytes, "parent": manifest.parent.map(|id| id.to_string()),
        "complete": manifest.completeness.error_count == 0, "error_count": manifest.completeness.error_count,
        "held": snapshot.state.held,
    })
}

pub(super) fn ls(world: &World, args: &LsArgs) -> Result<Exit> {
    let store = world.open_store()?;
    let vault = world.open_vault(&store)?;
    let (selector, within) = split_selector(&args.snapshot)?;
    let snapshot = vault.select(selector)?;
    let output = world.output;
    let mut exit = Exit::Done;
    let mut failed =
        output.json_line(&json!({"message_type": "snapshot", "snapshot": to_json(&snapshot)})).err();
    let listed = list_entries(&vault, &snapshot, &within, &mut |entry| {
        let shown = match entry {
            Ok(entry) if output.json => output.json_line(&entry_json(&entry)),
            Ok(entry) if args.long => output.text(&long_line(&entry)),
            Ok(entry) => output.text(&path_of(&entry)),
            Err(lost) => {
                let path = display_path(&lost.last_path);
                output.warn(&format!("entries up to {path} cannot be read: {}", one_line(&lost.error)));
                exit = Exit::Corrupt;
                Ok(())
            }
        };
        shown.map_err(|error| {
            failed = Some(error);
            EngineError::Interrupted
        })
    });
    match (failed, listed) {
        // Whoever read the listing has seen enough.
        (Some(failed), _) if failed.kind() == std::io::ErrorKind::BrokenPipe => Ok(exit),
        (Some(failed), _) => Err(failed).context("print the listing"),
        (None, listed) => Ok(listed.map(|()| exit)?),
    }
}

fn path_of(entry: &TreeEntry) -> String {
    if entry.path.is_empty() { ".".to_owned() } else { display_path(&entry.path) }
}

fn long_line(entry: &TreeEntry) -> String {
    let name = |name: &Option<Vec<u8>>, number: u32| {
        name.as_ref().map_or_else(|| number.to_string(), |name| display_path(name))
    };
    let target =
        entry.link_target.as_ref().map(|target| format!(" -> {}", display_path(target))).unwrap_or_default();
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
        "{letter}{} {:>8} {:>8} {:>12} {} {}{target}",
        permissions(entry.mode),
        name(&entry.user, entry.uid),
        name(&entry.group, entry.gid),
        entry.size,
        time(entry.mtime_ns),
        path_of(entry),
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
