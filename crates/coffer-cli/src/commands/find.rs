//! `coffer find`

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};

use anyhow::{Context, Result};
use clap::Args;
use coffer_collect::Patterns;
use coffer_engine::{EngineError, FindOptions, Finder, Snapshot, Vault};
use coffer_format::path::display_path;
use serde_json::json;

use super::{entries, snapshots};
use crate::command_error::{Failure, chain};
use crate::exit_code::Exit;
use crate::output::{Output, time};
use crate::select_args::{Choice, FilterArgs};
use crate::time::parse_time;
use crate::wiring::World;

#[derive(Debug, Args)]
pub(crate) struct FindArgs {
    /// What is looked for: a name such as "*.txt" or, with a slash in it, a whole path such as "/home/**/*.txt".
    #[arg(required = true, value_name = "PATTERN")]
    pattern: Vec<OsString>,
    /// Take upper and lower case letters for the same.
    #[arg(short, long)]
    ignore_case: bool,
    /// Search this snapshot, or the part of it at :/PATH, instead of all; may be given several times.
    #[arg(short, long, value_name = "SNAPSHOT[:/PATH]")]
    snapshot: Vec<OsString>,
    /// Search the snapshot that was the latest at this time; with --snapshot, "latest" is that one.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<i64>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Only what was changed at this time or later.
    #[arg(short = 'O', long, value_name = "TIME", value_parser = parse_time)]
    oldest: Option<i64>,
    /// Only what was changed at this time or earlier.
    #[arg(short = 'N', long, value_name = "TIME", value_parser = parse_time)]
    newest: Option<i64>,
    /// Show mode, owner, size and time.
    #[arg(short, long)]
    long: bool,
}

pub(super) fn run(world: &World, args: &FindArgs) -> Result<Exit> {
    let options = FindOptions { patterns: patterns(args)?, oldest_ns: args.oldest, newest_ns: args.newest };
    let filter = args.filter.filter(args.at);
    let choices = args.snapshot.iter().map(|text| Choice::parse(text, filter.clone()));
    let mut choices = choices.collect::<Result<Vec<_>>>()?;
    if choices.is_empty() && args.at.is_some() {
        choices.push(Choice::parse(OsStr::new("latest"), filter.clone())?);
    }
    let store = world.open_store()?;
    let vault = world.open_vault(&store)?;
    let output = world.output;
    let mut search =
        Search { output, long: args.long, finder: Finder::new(options), found: 0, exit: Exit::Done };
    if choices.is_empty() {
        for (state, snapshot) in vault.snapshots() {
            match snapshot {
                Ok(snapshot) if filter.admits(&snapshot.manifest) => search.search(&vault, &snapshot, b"")?,
                Ok(_) => {}
                Err(error) => {
                    output.warn(&format!("snapshot {} cannot be read: {}", state.id, chain(&error)));
                    search.exit = Exit::Corrupt;
                }
            }
        }
    }
    for choice in choices {
        search.search(&vault, &choice.choose(&vault, output)?, &choice.within)?;
    }
    if search.found == 0 {
        output.note("nothing was found");
    }
    world.json_summary(json!({"message_type": "summary", "command": "find", "entries": search.found}))?;
    Ok(search.exit)
}

fn patterns(args: &FindArgs) -> Result<Patterns> {
    let mut builder = Patterns::builder();
    for pattern in &args.pattern {
        builder
            .add(&with_blanks(pattern.as_encoded_bytes()), args.ignore_case)
            .map_err(|error| Failure::usage(error.to_string()))?;
    }
    if args.pattern.iter().all(|pattern| pattern.as_encoded_bytes().starts_with(b"!")) {
        let hint = "\\! at its beginning stands for itself";
        return Err(Failure::usage("with ! alone nothing is found: there is nothing to take back")
            .hint(hint)
            .into());
    }
    builder.build().map_err(|error| Failure::usage(error.to_string()).into())
}

/// The pattern with a blank at its end as it stands. In a file of patterns it would be an oversight, in a word it is meant.
fn with_blanks(pattern: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(pattern).ok().and_then(|text| text.char_indices().next_back()) {
        Some((start, last)) if last.is_whitespace() && !pattern[..start].ends_with(b"\\") => {
            Cow::Owned([&pattern[..start], b"[", &pattern[start..], b"]"].concat())
        }
        _ => Cow::Borrowed(pattern),
    }
}

struct Search {
    output: Output,
    long: bool,
    finder: Finder,
    found: u64,
    exit: Exit,
}

impl Search {
    fn search(&mut self, vault: &Vault<'_>, snapshot: &Snapshot, within: &[u8]) -> Result<()> {
        let Self { output, long, finder, found, exit } = self;
        let output = *output;
        let mut is_named = false;
        let mut failed = None;
        let searched = finder.find(vault, snapshot, within, &mut |entry| {
            let shown = match entry {
                Ok(entry) => {
                    *found += 1;
                    let named =
                        if std::mem::replace(&mut is_named, true) { Ok(()) } else { name(output, snapshot) };
                    named.and_then(|()| entries::print(output, &entry, *long))
                }
                Err(lost) => {
                    entries::warn_of_lost(output, &lost);
                    *exit = entries::exit_after(*exit, &lost.error);
                    Ok(())
                }
            };
            shown.map_err(|error| {
                failed = Some(error);
                EngineError::Interrupted
            })
        });
        match failed {
            Some(failed) => Err(failed).context("print what was found"),
            None => Ok(searched?),
        }
    }
}

/// Says in which snapshot the entries are that follow.
fn name(output: Output, snapshot: &Snapshot) -> std::io::Result<()> {
    output.json_line(&json!({"message_type": "snapshot", "snapshot": snapshots::to_json(snapshot)}))?;
    let manifest = &snapshot.manifest;
    output.text(&format!(
        "snapshot {} of {}, {}",
        snapshot.id().short(),
        display_path(manifest.host.as_bytes()),
        time(manifest.end_ns),
    ))
}
