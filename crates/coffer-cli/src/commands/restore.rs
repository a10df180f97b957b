//! `coffer restore`

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use coffer_collect::TargetOptions;
use coffer_engine::{
    Overwrite, RestoreAction, RestoreObserver, RestoreOptions, RestoreReport, Snapshot, restore,
};
use coffer_format::path::display_path;
use serde_json::json;

use crate::command_error::{CommandError, Failure};
use crate::exit_code::Exit;
use crate::output::{Output, bytes, ratio};
use crate::prices::PriceArgs;
use crate::process::{open_file_count_max, thread_count};
use crate::progress::{Counters, Progress, Unit};
use crate::select_args::SelectArgs;
use crate::wiring::World;

mod cold;
mod patterns;

use cold::{ColdArgs, bring_back};
use patterns::PatternArgs;

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// Directory to restore into; made if it is not there.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) target: PathBuf,
    #[command(flatten)]
    patterns: PatternArgs,
    /// What becomes of entries that are there already.
    #[arg(long, value_name = "POLICY", value_enum, default_value_t)]
    overwrite: Policy,
    /// Remove what the snapshot does not hold from the directories that it holds.
    #[arg(long)]
    delete: bool,
    /// Write into files that are there instead of replacing them: only what differs is written, but a file is not whole
    /// until its end.
    #[arg(long)]
    in_place: bool,
    /// Turn runs of zeros into holes.
    #[arg(long)]
    sparse: bool,
    /// Say what would be done, and change nothing; every path with --verbose or --json.
    #[arg(short = 'n', long, conflicts_with = "verify")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    prices: PriceArgs,
    #[command(flatten)]
    cold: ColdArgs,
    /// Read back what was restored, and compare it with the snapshot.
    #[arg(long)]
    verify: bool,
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

/// The words of `--overwrite`.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Policy {
    /// They become what the snapshot holds; content that is right already is left.
    #[default]
    Always,
    /// As always, but files of the same size and time are not read.
    IfChanged,
    /// Only what is older than in the snapshot is replaced.
    IfNewer,
    /// They stay as they are.
    Never,
}

impl From<Policy> for Overwrite {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Always => Self::Always,
            Policy::IfChanged => Self::IfChanged,
            Policy::IfNewer => Self::IfNewer,
            Policy::Never => Self::Never,
        }
    }
}

/// Warnings shown one by one; the rest is counted.
const WARNING_COUNT_MAX: usize = 20;

struct Watch<'w> {
    output: Output,
    progress: &'w Counters,
    dry_run: bool,
    /// What went wrong with standard output.
    failure: Option<std::io::Error>,
}

impl RestoreObserver for Watch<'_> {
    fn entry(&mut self, path: &[u8], _size: u64) {
        self.progress.entry(path);
    }

    fn progress(&mut self, done_bytes: u64) {
        self.progress.set(done_bytes);
    }

    fn action(&mut self, path: &[u8], action: RestoreAction, size: u64) {
        let Output { json, verbose, .. } = self.output;
        if !(verbose || json && self.dry_run) || self.failure.is_some() {
            return;
        }
        if json {
            let value = json!({
                "message_type": "restore_entry", "action": action.name(), "path": display_path(path), "size": size,
            });
            self.failure = self.output.json_line(&value).err();
            return;
        }
        let path = if path.is_empty() { ".".to_owned() } else { display_path(path) };
        let text = format!("{:<9} {path}", action.name());
        if self.dry_run {
            self.failure = self.output.text(&text).err();
        } else {
            self.output.note(&text);
        }
    }
}

/// Refuses a target that is the vault's directory or lies in it: what is restored there would be junk in the vault.
fn refuse_vault(target: &Path, vault: &Path) -> Result<()> {
    // One of several may not be there.
    let Ok(vault) = vault.canonicalize() else { return Ok(()) };
    let target = std::path::absolute(target).context("find the working directory")?;
    // The part of it that is there decides.
    let there = target.ancestors().find_map(|path| path.canonicalize().ok());
    if there.is_some_and(|there| there.starts_with(&vault)) {
        let hint = "choose a directory outside of it";
        let message = format!("{} is in the directory of the vault", target.display());
        return Err(Failure::usage(message).hint(hint).into());
    }
    Ok(())
}

pub(super) fn run(world: &World, args: &RestoreArgs) -> Result<Exit> {
    // Whatever is wrong with the words of the user shows before a key is asked for.
    let choice = args.select.parse()?;
    let options = options(args, choice.within.clone())?;
    let store = world.open_store()?;
    store.directories().try_for_each(|directory| refuse_vault(&args.target, directory))?;
    let options = RestoreOptions { keep: store.identities(), ..options };
    let (vault, snapshot) = loop {
        let opened = world.open_vault(&store).and_then(|vault| {
            let snapshot = choice.choose(&vault, world.output)?;
            Ok((vault, snapshot))
        });
        match opened {
            Ok(opened) => break opened,
            Err(error) if args.cold.is_wanted() && CommandError::is_archived(&error) => {
                if let Some(exit) = cold::bring_back_opening(world, &args.cold, &store, error)? {
                    return Ok(exit);
                }
            }
            Err(error) => return Err(error),
        }
    };
    if args.prices.estimate {
        return cold::estimate(world, &args.prices, &store, &vault, &snapshot, &options);
    }
    if args.cold.is_wanted()
        && let Some(exit) = bring_back(world, &args.cold, &store, &vault, &snapshot, &options)?
    {
        return Ok(exit);
    }
    let started = Instant::now();
    // How much a part of a snapshot is, only the restore finds out.
    let is_whole = options.within.is_empty() && options.include.is_empty() && options.exclude.is_empty();
    let total = is_whole.then_some(snapshot.manifest.statistics.content_bytes);
    let start = ("restored", Unit::Bytes, total);
    let progress = Progress::start(world.output, "restore", start, store.counter());
    let mut watch =
        Watch { output: world.output, progress: progress.counters(), dry_run: args.dry_run, failure: None };
    let report = restore(&vault, &snapshot, &args.target, &options, &mut watch)?;
    if let Some(failure) = watch.failure {
        return Err(failure.into());
    }
    drop(progress);
    let cost = (store.requests().read_bytes, started.elapsed().as_secs_f64());
    print(world, args, &snapshot, &report, cost)?;
    if report.error_count > 0 && cold::is_archived(&store, &vault, &snapshot, &options) {
        world.output.warn("what is missing is archived: `coffer restore --request-archived` asks for it, and for nothing else");
        return Ok(Exit::Archived);
    }
    Ok(match (report.error_count, report.degraded) {
        _ if report.mismatch_count > 0 => Exit::Failed,
        (0, true) => Exit::Degraded,
        (0, false) => Exit::Done,
        _ => Exit::Partial,
    })
}

fn options(args: &RestoreArgs, within: Vec<u8>) -> Result<RestoreOptions> {
    let (include, exclude) = (args.patterns.include()?, args.patterns.exclude()?);
    let unbounded = include.is_empty() && exclude.is_empty() && within.is_empty();
    if args.delete && unbounded && is_file_system_root(&args.target) {
        let message = "--delete would remove from / everything that is not in the snapshot";
        return Err(Failure::usage(message)
            .hint("bound it with --include, --exclude or SNAPSHOT:/PATH, and look first with --dry-run")
            .into());
    }
    Ok(RestoreOptions {
        within,
        include,
        exclude,
        overwrite: args.overwrite.into(),
        delete: args.delete,
        keep: Vec::new(),
        in_place: args.in_place,
        dry_run: args.dry_run,
        verify: args.verify,
        target: TargetOptions {
            numeric_owner: args.numeric_owner,
            privileged_files: args.privileged,
            devices: args.devices,
            sparse: args.sparse,
            ..TargetOptions::default()
        },
        worker_count: thread_count(args.threads),
        open_file_count_max: open_file_count_max(),
    })
}

/// Whether the path leads to `/`, whatever it is called.
fn is_file_system_root(path: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|stat| (stat.dev(), stat.ino()));
    matches!((identity(path), identity(Path::new("/"))), (Ok(one), Ok(other)) if one == other)
}

fn print(
    world: &World,
    args: &RestoreArgs,
    snapshot: &Snapshot,
    report: &RestoreReport,
    (read_bytes, seconds): (u64, f64),
) -> std::io::Result<()> {
    let output = world.output;
    let shown = if output.verbose || output.json { usize::MAX } else { WARNING_COUNT_MAX };
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
    let errors = report.errors.iter().map(|(path, message)| json!({"path": path, "message": message}));
    let value = json!({
        "message_type": "summary", "command": "restore", "snapshot_id": snapshot.id().to_string(),
        "target": args.target.display().to_string(), "dry_run": args.dry_run,
        "entries": report.entry_count, "files": report.file_count, "content_bytes": report.content_bytes,
        "created": report.created_count, "updated": report.updated_count, "unchanged": report.unchanged_count,
        "skipped": report.skipped_count, "deleted": report.deleted_count, "fetched_bytes": report.fetched_bytes,
        "written_bytes": report.written_bytes, "reused_bytes": report.reused_bytes,
        "verified": report.verified_count, "mismatches": report.mismatch_count,
        "errors": errors.collect::<Vec<_>>(), "error_count": report.error_count, "warnings": report.warnings,
        "degraded": report.degraded, "seconds": seconds,
        "ratio": ratio(report.content_bytes, read_bytes),
    });
    world.summary(value, &summary(args, snapshot, report, (&world.requests_text(), seconds)))
}

fn summary(
    args: &RestoreArgs,
    snapshot: &Snapshot,
    report: &RestoreReport,
    (requests, seconds): (&str, f64),
) -> String {
    let mut text = format!(
        "{} {} entries, {} files, {} of snapshot {} into {}",
        if args.dry_run { "would restore" } else { "restored" },
        report.entry_count,
        report.file_count,
        bytes(report.content_bytes),
        snapshot.id().short(),
        args.target.display(),
    );
    let counts = [
        (report.created_count, "created"),
        (report.updated_count, "updated"),
        (report.unchanged_count, "unchanged"),
        (report.skipped_count, "skipped"),
        (report.deleted_count, "deleted"),
    ];
    // A restore into nothing has made everything: that goes without saying.
    if report.updated_count + report.unchanged_count + report.skipped_count + report.deleted_count > 0 {
        let counts: Vec<_> = counts.iter().filter(|(count, _)| *count > 0).collect();
        let counts: Vec<_> = counts.iter().map(|(count, word)| format!("{count} {word}")).collect();
        text.push_str(&format!("\n{}", counts.join(", ")));
    }
    if !args.dry_run {
        text.push_str(&format!("\n{} fetched, ", bytes(report.fetched_bytes)));
    } else {
        text.push('\n');
    }
    text.push_str(&format!(
        "{} {}, {} there already",
        bytes(report.written_bytes),
        if args.dry_run { "to write" } else { "written" },
        bytes(report.reused_bytes),
    ));
    text.push_str(&format!(", {seconds:.1} s\n{requests}"));
    if args.verify {
        text.push_str(&format!(
            "\n{} files read back, {} of them wrong",
            report.verified_count, report.mismatch_count
        ));
    }
    if report.error_count > 0 {
        text.push_str(&format!("\n{} could not be restored", report.error_count));
    }
    if report.degraded {
        text.push_str("\nthe vault is damaged: `coffer verify` shows where");
    }
    text
}
