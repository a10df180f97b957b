//! Flags that say which snapshots are meant, for every command that reads them.

use std::ffi::{OsStr, OsString};

use anyhow::Result;
use clap::Args;
use coffer_engine::{Selector, Snapshot, SnapshotFilter, Vault};

use crate::command_error::{Failure, chain};
use crate::output::Output;
use crate::time::parse_time;

/// One snapshot, or a part of it.
#[derive(Debug, Args)]
pub(crate) struct SelectArgs {
    /// "latest", "latest~N", or the beginning of an id; ":/path" behind it for a part.
    #[arg(value_name = "SNAPSHOT[:/PATH]", required_unless_present = "at")]
    snapshot: Option<OsString>,
    /// The latest snapshot is the one that was the latest at this time (local unless it has a zone).
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<i64>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Which snapshots are considered.
#[derive(Debug, Args)]
pub(crate) struct FilterArgs {
    /// Only snapshots of this host; may be given several times for any of them.
    #[arg(short = 'H', long, value_name = "NAME")]
    host: Vec<String>,
    /// Only snapshots with this tag, or with all of TAG,TAG...; may be given several times for any of them.
    #[arg(long, value_name = "TAG[,TAG...]")]
    tag: Vec<String>,
    /// Only snapshots of this path, as it was given or absolute; may be given several times for all of them.
    #[arg(long, value_name = "PATH")]
    path: Vec<OsString>,
}

impl FilterArgs {
    /// The filter, as of a time if there is one.
    pub(crate) fn filter(&self, at_ns: Option<i64>) -> SnapshotFilter {
        SnapshotFilter {
            hosts: self.host.clone(),
            tags: self.tag.clone(),
            paths: self.path.iter().map(|path| path.as_encoded_bytes().to_vec()).collect(),
            at_ns,
        }
    }
}

impl SelectArgs {
    /// What the user said, understood. Needs no vault.
    pub(crate) fn parse(&self) -> Result<Choice> {
        let text = self.snapshot.as_deref().unwrap_or_default();
        Choice::parse(text, self.filter.filter(self.at))
    }
}

/// Which snapshot is meant, and which part of it.
#[derive(Debug)]
pub(crate) struct Choice {
    selector: Selector,
    filter: SnapshotFilter,
    /// The part; empty for everything.
    pub(crate) within: Vec<u8>,
}

impl Choice {
    /// Reads `SNAPSHOT[:/PATH]`. As of a time, the snapshot may be left out: it is the latest.
    pub(crate) fn parse(text: &OsStr, filter: SnapshotFilter) -> Result<Self> {
        let (selector, within) = split_selector(text)?;
        let selector = if selector.is_empty() && filter.at_ns.is_some() { "latest" } else { selector };
        Ok(Self { selector: selector.parse()?, filter, within })
    }

    /// The snapshot. Those that might have been meant, but cannot be read, are warned of.
    pub(crate) fn choose(&self, vault: &Vault<'_>, output: Output) -> Result<Snapshot> {
        let selection = vault.select_with(&self.selector, &self.filter)?;
        for (id, error) in &selection.unread {
            output.warn(&format!("snapshot {id} cannot be read and was passed over: {}", chain(error)));
        }
        Ok(selection.snapshot)
    }
}

/// Splits `SNAPSHOT[:/path]` into selector and path inside the snapshot, which need not be UTF-8.
fn split_selector(text: &OsStr) -> Result<(&str, Vec<u8>)> {
    let bytes = text.as_encoded_bytes();
    let end = bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len());
    let selector = std::str::from_utf8(&bytes[..end])
        .map_err(|_| Failure::usage("the snapshot is named by something that is not UTF-8"))?;
    let mut path = bytes.get(end + 1..).unwrap_or_default();
    while let Some(rest) = path.strip_prefix(b"/") {
        path = rest;
    }
    while let Some(rest) = path.strip_suffix(b"/") {
        path = rest;
    }
    Ok((selector, path.to_vec()))
}
