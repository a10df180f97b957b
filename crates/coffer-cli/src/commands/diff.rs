//! `coffer diff`

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use coffer_engine::{
    Change, DiffCounts, DiffItem, DiffOptions, DiffReport, Difference, DirectoryOptions, EngineError,
    Snapshot, diff, diff_directory,
};
use coffer_format::path::display_path;
use coffer_format::tree::Kind;
use serde_json::json;

use super::entries;
use crate::command_error::{Failure, chain};
use crate::exit_code::Exit;
use crate::output::{Output, bytes};
use crate::select_args::{Choice, FilterArgs};
use crate::time::parse_time;
use crate::wiring::World;

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The old snapshot and the new one: "latest", "latest~N", or the beginning of an id; ":/path" behind it for a part. With --dir there
    /// is no new one. With --at, the old one is left out, or only ":/path".
    #[arg(value_name = "SNAPSHOT[:/PATH]", num_args = 0..=2)]
    snapshot: Vec<OsString>,
    /// The old snapshot is the one that was the latest at this time (local unless it has a zone).
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<i64>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Compare the snapshot with this directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// With --dir: also read files that have the same size and time.
    #[arg(long, requires = "dir")]
    checksum: bool,
    /// Also show entries of which only the metadata differs.
    #[arg(long)]
    metadata: bool,
}

/// What is compared.
enum Sides {
    Snapshots(Choice, Choice),
    Directory(Choice, PathBuf),
}

pub(super) fn run(world: &World, args: &DiffArgs) -> Result<Exit> {
    let sides = sides(args)?;
    let store = world.open_store()?;
    let vault = world.open_vault(&store)?;
    let output = world.output;
    let mut failed = None;
    let mut lost_exit = Exit::Done;
    let mut visit = |item: DiffItem| {
        if let DiffItem::Lost(lost) = &item {
            lost_exit = entries::exit_after(lost_exit, &lost.error);
        }
        show(output, item).map_err(|error| {
            failed = Some(error);
            EngineError::Interrupted
        })
    };
    let (report, old, new) = match &sides {
        Sides::Snapshots(old, new) => {
            let (first, second) = (old.choose(&vault, output)?, new.choose(&vault, output)?);
            let options = DiffOptions {
                old_within: old.within.clone(),
                new_within: new.within.clone(),
                metadata: args.metadata,
            };
            (diff(&vault, &first, &second, &options, &mut visit), first, Some(second))
        }
        Sides::Directory(old, directory) => {
            let options = DirectoryOptions {
                within: old.within.clone(),
                metadata: args.metadata,
                read_all: args.checksum,
                skip: store.identities(),
            };
            let old = old.choose(&vault, output)?;
            (diff_directory(&vault, &old, directory, &options, &mut visit), old, None)
        }
    };
    if let Some(failed) = failed {
        return Err(failed).context("print the differences");
    }
    let report = report?;
    print(world, args, &report, (&old, new.as_ref()))?;
    Ok(match (report.lost, report.uncompared_count) {
        (true, _) if lost_exit != Exit::Done => lost_exit,
        (true, _) => Exit::Corrupt,
        (false, 0) => Exit::Done,
        (false, _) => Exit::Partial,
    })
}

fn sides(args: &DiffArgs) -> Result<Sides> {
    let given: Vec<&OsStr> = args.snapshot.iter().map(OsString::as_os_str).collect();
    let latest = OsStr::new("");
    match (args.at, &args.dir, given.as_slice()) {
        (Some(_), None, [new]) => Ok(Sides::Snapshots(old_side(args, latest)?, new_side(args, new)?)),
        (_, None, [old, new]) => Ok(Sides::Snapshots(old_side(args, old)?, new_side(args, new)?)),
        (Some(_), Some(directory), []) => Ok(Sides::Directory(old_side(args, latest)?, directory.clone())),
        (_, Some(directory), [old]) => Ok(Sides::Directory(old_side(args, old)?, directory.clone())),
        (at, ..) => {
            let hint = if at.is_some() {
                "with --at TIME: SNAPSHOT, or :/PATH SNAPSHOT:/PATH, or :/PATH --dir DIR"
            } else {
                "name two snapshots, or one and --dir DIR; --at TIME stands for the old snapshot"
            };
            Err(Failure::usage("two sides are to be compared").hint(hint).into())
        }
    }
}

fn old_side(args: &DiffArgs, text: &OsStr) -> Result<Choice> {
    if args.at.is_some() && !is_nameless(text) {
        let form = if args.dir.is_some() { ":/PATH --dir DIR" } else { ":/PATH SNAPSHOT:/PATH" };
        let shown = entries::path_text(text.as_encoded_bytes());
        return Err(Failure::usage(format!(
            "--at says which snapshot is the old one, and so does \"{shown}\""
        ))
        .hint(format!("give only the part of it: coffer diff --at TIME {form}"))
        .into());
    }
    Choice::parse(text, args.filter.filter(args.at))
}

fn new_side(args: &DiffArgs, text: &OsStr) -> Result<Choice> {
    if is_nameless(text) {
        let at = if args.at.is_some() { "--at TIME :/PATH" } else { "SNAPSHOT:/PATH" };
        let shown = entries::path_text(text.as_encoded_bytes());
        return Err(Failure::usage(format!("\"{shown}\" does not say which snapshot is the new one"))
            .hint(format!("name it before the path: coffer diff {at} SNAPSHOT:/PATH"))
            .into());
    }
    Choice::parse(text, args.filter.filter(None))
}

/// Whether the text says at most which part of a snapshot is meant.
fn is_nameless(text: &OsStr) -> bool {
    matches!(text.as_encoded_bytes().first(), None | Some(b':'))
}

const fn modifier(change: Change) -> &'static str {
    match change {
        Change::Added => "+",
        Change::Removed => "-",
        Change::Kind => "T",
        Change::Content { suspect: false } => "M",
        Change::Content { suspect: true } => "M?",
        Change::Metadata => "U",
    }
}

fn show(output: Output, item: DiffItem) -> std::io::Result<()> {
    match item {
        DiffItem::Difference(Difference { path, change, kind, old_size, new_size }) => {
            let modifier = modifier(change);
            if output.json {
                return output.json_line(&json!({
                    "message_type": "change", "path": display_path(&path), "modifier": modifier, "kind": kind.name(),
                    "old_size": old_size, "new_size": new_size,
                }));
            }
            let slash = if kind == Kind::Directory { "/" } else { "" };
            output.text(&format!("{modifier:<4} {}{slash}", entries::path_text(&path)))
        }
        DiffItem::Lost(lost) => {
            entries::warn_of_lost(output, &lost);
            Ok(())
        }
        DiffItem::Uncompared { path, error } => {
            let (path, message) = (entries::path_text(&path), chain(&error));
            output.warn(&if message.contains(&path) { message } else { format!("{path}: {message}") });
            Ok(())
        }
    }
}

fn print(
    world: &World,
    args: &DiffArgs,
    report: &DiffReport,
    (old, new): (&Snapshot, Option<&Snapshot>),
) -> std::io::Result<()> {
    let counts = |counts: &DiffCounts| {
        json!({
            "files": counts.file_count, "directories": counts.directory_count, "others": counts.other_count,
            "content_bytes": counts.content_bytes,
        })
    };
    let value = json!({
        "message_type": "summary", "command": "diff", "old_snapshot_id": old.id().to_string(),
        "new_snapshot_id": new.map(|new| new.id().to_string()),
        "directory": args.dir.as_ref().map(|directory| directory.display().to_string()),
        "added": counts(&report.added), "removed": counts(&report.removed), "changed_content": report.content_count,
        "changed_metadata": report.metadata_count, "changed_kind": report.kind_count,
        "not_compared": report.uncompared_count, "tree_chunks": report.tree_chunk_count,
    });
    let DiffReport { added, removed, .. } = report;
    let mut text = format!(
        "files: {} new, {} removed; directories: {} new, {} removed; others: {} new, {} removed\n",
        added.file_count,
        removed.file_count,
        added.directory_count,
        removed.directory_count,
        added.other_count,
        removed.other_count,
    );
    text.push_str(&format!("changed: {} in content", report.content_count));
    if args.metadata {
        text.push_str(&format!(", {} in metadata", report.metadata_count));
    }
    text.push_str(&format!(
        ", {} in kind\ncontent: {} added, {} removed",
        report.kind_count,
        bytes(added.content_bytes),
        bytes(removed.content_bytes),
    ));
    if report.uncompared_count > 0 {
        text.push_str(&format!("\n{} could not be compared", report.uncompared_count));
    }
    world.summary(value, &text)
}
