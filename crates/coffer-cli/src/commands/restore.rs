//! `coffer restore`

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use coffer_collect::TargetOptions;
use coffer_engine::{RestoreObserver, RestoreOptions, restore};
use coffer_format::path::display_path;
use serde_json::json;

use super::split_selector;
use crate::exit_code::Exit;
use crate::output::{Output, bytes};
use crate::wiring::{World, open_file_count_max, thread_count};

/// Warnings shown one by one; the rest is counted.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// "latest", "latest~N", or the beginning of an id; ":/path" behind it for a part.
    #[arg(value_name = "SNAPSHOT[:/PATH]")]
    pub(crate) snapshot: OsString,
    /// Directory to restore into; made if it is not there.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) target: PathBuf,
    /// Restore owners by number, not by name.
    #[arg(long)]
    pub(crate) numeric_owner: bool,
    /// Restore set-user-id and set-group-id bits and file capabilities.
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Restore device nodes.
    #[arg(long)]
    pub(crate) devices: bool,
    /// Threads that open and write.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

const WARNING_COUNT_MAX: usize = 20;

struct Watch {
    output: Output,
}

impl RestoreObserver for Watch {
    fn entry(&mut self, path: &[u8], _size: u64) {
        if self.output.verbose {
            self.output.note(&display_path(path));
        }
    }
}

pub(super) fn run(world: &World, args: &RestoreArgs) -> Result<Exit> {
    let store = world.open_store()?;
    let vault = world.open_vault(&store)?;
    let (selector, within) = split_selector(&args.snapshot)?;
    let snapshot = vault.select(selector)?;
    let target = TargetOptions {
        numeric_owner: args.numeric_owner,
        privileged_files: args.privileged,
        devices: args.devices,
        ..TargetOptions::default()
    };
    let options = RestoreOptions {
        within,
        target,
        worker_count: thread_count(args.threads),
        open_file_count_max: open_file_count_max(),
    };
    let output = world.output;
    let report = restore(&vault, &snapshot, &args.target, &options, &mut Watch { output })?;
    // JSON has them in its one value.
    if !output.json {
        let shown = if output.verbose { usize::MAX } else { WARNING_COUNT_MAX };
        report.warnings.iter().take(shown).for_each(|warning| output.warn(warning));
        if report.warnings.len() > shown {
            output.warn(&format!("{} more; --verbose shows them", report.warnings.len() - shown));
        }
        report.errors.iter().for_each(|(path, message)| {
            output.warn(&if message.contains(path.as_str()) {
                message.clone()
            } else {
                format!("{path}: {message}")
            });
        });
    }
    let value = json!({
        "message_type": "restore", "snapshot_id": snapshot.id().to_string(), "target": args.target.display().to_string(),
        "entries": report.entry_count, "files": report.file_count, "content_bytes": report.content_bytes,
        "errors": report.errors.iter().map(|(path, message)| json!({"path": path, "message": message})).collect::<Vec<_>>(),
        "error_count": report.errors.len(), "warnings": report.warnings, "degraded": report.degraded,
    });
    let mut text = format!(
        "restored {} entries, {} files, {} of snapshot {} into {}",
        report.entry_count,
        report.file_count,
        bytes(report.content_bytes),
        snapshot.id().short(),
        args.target.display(),
    );
    if !report.errors.is_empty() {
        text.push_str(&format!("\n{} could not be restored", report.errors.len()));
    }
    if report.degraded {
        text.push_str("\nthe vault is damaged: `coffer verify` shows where");
    }
    output.summary(&value, &text)?;
    Ok(match (report.errors.is_empty(), report.degraded) {
        (false, _) => Exit::Partial,
        (true, true) => Exit::Degraded,
        (true, false) => Exit::Done,
    })
}
