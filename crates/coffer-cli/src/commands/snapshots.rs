//! `coffer snapshots`

use std::collections::BTreeMap;
use std::ffi::OsString;

use anyhow::Result;
use clap::{Args, ValueEnum};
use coffer_engine::{EngineError, Snapshot, SnapshotFilter, Vault};
use coffer_format::id::SnapshotId;
use coffer_format::path::display_path;
use serde_json::{Value, json};

use crate::command_error::{Failure, chain};
use crate::exit_code::Exit;
use crate::output::{Output, bytes, time, time_utc};
use crate::select_args::{Choice, FilterArgs};
use crate::wiring::World;

#[derive(Debug, Args)]
pub(crate) struct SnapshotsArgs {
    /// Only these: "latest", "latest~N", or the beginning of an id.
    #[arg(value_name = "SNAPSHOT")]
    snapshot: Vec<OsString>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only the last N of each group; groups are those of --group-by, or else those of host and paths.
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
    /// Show groups of snapshots that have these in common.
    #[arg(short, long, value_enum, value_delimiter = ',', value_name = "WHAT[,WHAT...]")]
    group_by: Vec<GroupBy>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GroupBy {
    Host,
    Paths,
    Tags,
}

/// What the snapshots of a group have in common; nothing that groups are not made by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    host: Option<String>,
    paths: Vec<Vec<u8>>,
    tags: Vec<String>,
}

impl Group {
    fn of(snapshot: &Snapshot, by: &[GroupBy]) -> Self {
        let manifest = &snapshot.manifest;
        let mut paths = if by.contains(&GroupBy::Paths) { manifest.sources.clone() } else { Vec::new() };
        paths.sort();
        let tags = if by.contains(&GroupBy::Tags) { manifest.tags.clone() } else { Vec::new() };
        Self { host: by.contains(&GroupBy::Host).then(|| manifest.host.clone()), paths, tags }
    }

    fn heading(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.host.as_ref().map(|host| format!("host {}", display_path(host.as_bytes()))));
        let list = |word: &str, items: Vec<String>| {
            (!items.is_empty()).then(|| format!("{word} {}", items.join(" ")))
        };
        parts.extend(list("paths", self.paths.iter().map(|path| display_path(path)).collect()));
        parts.extend(list("tags", self.tags.iter().map(|tag| display_path(tag.as_bytes())).collect()));
        if parts.is_empty() { "no tags".to_owned() } else { parts.join(", ") }
    }
}

pub(super) fn run(world: &World, args: &SnapshotsArgs) -> Result<Exit> {
    let filter = args.filter.filter(None);
    let choices = choices(args, &filter)?;
    let store = world.open_store()?;
    let vault = world.open_vault(&store)?;
    let mut unread = Vec::new();
    let mut shown = if choices.is_empty() {
        all(&vault, &filter, world.output, &mut unread)?
    } else {
        chosen(&vault, &choices, world.output)?
    };
    if let Some(latest) = args.latest {
        let by = if args.group_by.is_empty() { &[GroupBy::Host, GroupBy::Paths][..] } else { &args.group_by };
        let mut left: BTreeMap<Group, usize> = BTreeMap::new();
        shown.reverse();
        shown.retain(|snapshot| {
            let count = left.entry(Group::of(snapshot, by)).or_default();
            *count += 1;
            *count <= latest
        });
        shown.reverse();
    }
    let mut groups: BTreeMap<Group, Vec<&Snapshot>> = BTreeMap::new();
    if !args.group_by.is_empty() {
        for snapshot in &shown {
            groups.entry(Group::of(snapshot, &args.group_by)).or_default().push(snapshot);
        }
    }
    let value = json!({
        "message_type": "snapshots", "vault_id": vault.id().to_string(),
        "head": vault.log.head().map(|head| head.to_string()),
        "snapshots": shown.iter().map(to_json).collect::<Vec<_>>(),
        "groups": groups.iter().map(group_json).collect::<Vec<_>>(),
        "unread": unread.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    let mut text = format!("{:<8}  {:<19}  {:<12}  {:>10}  {}", "id", "time", "host", "size", "sources");
    if args.group_by.is_empty() {
        shown.iter().for_each(|snapshot| text.push_str(&line(snapshot)));
    }
    for (group, snapshots) in &groups {
        text.push_str(&format!("\n{}:", group.heading()));
        snapshots.iter().for_each(|snapshot| text.push_str(&line(snapshot)));
    }
    text.push_str(&format!("\n{} snapshot(s)", shown.len()));
    world.result(value, &text)?;
    Ok(Exit::Done)
}

fn choices(args: &SnapshotsArgs, filter: &SnapshotFilter) -> Result<Vec<Choice>> {
    let choose = |text: &OsString| {
        let choice = Choice::parse(text, filter.clone())?;
        if choice.within.is_empty() {
            Ok(choice)
        } else {
            let hint = "`coffer ls SNAPSHOT:/PATH` lists a part of a snapshot";
            Err(Failure::usage("a snapshot to list takes no path").hint(hint).into())
        }
    };
    args.snapshot.iter().map(choose).collect()
}

/// All snapshots that the filter admits, the oldest first. Those that cannot be read are warned of, and are in `unread`: any writer can make
/// one, so they end nothing.
fn all(
    vault: &Vault<'_>,
    filter: &SnapshotFilter,
    output: Output,
    unread: &mut Vec<SnapshotId>,
) -> Result<Vec<Snapshot>> {
    let mut found = Vec::new();
    for (state, snapshot) in vault.snapshots() {
        match snapshot {
            Ok(snapshot) if filter.admits(&snapshot.manifest) => found.push(snapshot),
            Ok(_) => {}
            Err(error @ EngineError::Store(_)) => return Err(error.into()),
            Err(error) => {
                output.warn(&format!("snapshot {} cannot be read: {}", state.id, chain(&error)));
                unread.push(state.id);
            }
        }
    }
    Ok(found)
}

/// The snapshots that were named, the oldest first, and each of them once.
fn chosen(vault: &Vault<'_>, choices: &[Choice], output: Output) -> Result<Vec<Snapshot>> {
    let mut found = choices.iter().map(|choice| choice.choose(vault, output)).collect::<Result<Vec<_>>>()?;
    found.sort_by_key(|snapshot| snapshot.state.number);
    found.dedup_by_key(|snapshot| snapshot.state.number);
    Ok(found)
}

fn line(snapshot: &Snapshot) -> String {
    let manifest = &snapshot.manifest;
    let sources: Vec<_> = manifest.sources.iter().map(|source| display_path(source)).collect();
    let tags = if manifest.tags.is_empty() {
        String::new()
    } else {
        format!("  [{}]", display_path(manifest.tags.join(", ").as_bytes()))
    };
    let incomplete = if manifest.completeness.error_count > 0 { "  incomplete" } else { "" };
    format!(
        "\n{:<8}  {:<19}  {:<12}  {:>10}  {}{tags}{incomplete}",
        snapshot.id().short(),
        time(manifest.end_ns),
        display_path(manifest.host.as_bytes()),
        bytes(manifest.statistics.content_bytes),
        sources.join(" "),
    )
}

fn group_json((group, snapshots): (&Group, &Vec<&Snapshot>)) -> Value {
    json!({
        "host": group.host, "paths": group.paths.iter().map(|path| display_path(path)).collect::<Vec<_>>(),
        "tags": group.tags, "snapshots": snapshots.iter().map(|snapshot| snapshot.id().to_string()).collect::<Vec<_>>(),
    })
}

/// A snapshot as JSON has it everywhere.
pub(super) fn to_json(snapshot: &Snapshot) -> Value {
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
