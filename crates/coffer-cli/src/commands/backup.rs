//! `coffer backup`

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use coffer_collect::{EntryPath, Stream};
use coffer_engine::{
    Ack, BackupObserver, BackupOptions, BackupReport, DryRunReport, EntryChange, Estimate, Receipt,
    ReplicaOptions, SnapshotFilter, backup, backup_stream, dry_run, estimate_backup,
};
use coffer_format::id::{Head, SnapshotId};
use coffer_format::manifest::Manifest;
use coffer_format::path::display_path;
use serde_json::json;

use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::output::{Output, bytes, ratio, time_utc};
use crate::prices::{PriceArgs, PriceRow};
use crate::process::thread_count;
use crate::progress::{Counters, Progress, Unit};
use crate::select_args::Choice;
use crate::stores::Store;
use crate::wiring::World;

mod selection;

use selection::SelectionArgs;

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// What to back up. Relative paths are stored relative; absolute ones, and those with "..", whole.
    #[arg(value_name = "PATH", required_unless_present_any = ["files_from", "files_from_raw", "stdin"])]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Store what standard input brings as one file.
    #[arg(long, conflicts_with_all = ["paths", "stdin_from_command"])]
    stdin: bool,
    /// Run the command that stands behind "--", and store what it prints as one file if it succeeds.
    #[arg(long)]
    stdin_from_command: bool,
    /// Path of that file in the snapshot.
    #[arg(long, value_name = "NAME", default_value = "stdin")]
    stdin_filename: OsString,
    /// Walk, read and compare, say what would be new, and store nothing.
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    prices: PriceArgs,
    /// Make no snapshot if everything is as in the parent.
    #[arg(long)]
    skip_if_unchanged: bool,
    /// Tag the snapshot; may be given several times.
    #[arg(long, value_name = "TAG[,TAG...]", value_delimiter = ',', value_parser = parse_name)]
    pub(crate) tag: Vec<String>,
    /// Host name to record instead of this machine's.
    #[arg(short = 'H', long, value_name = "NAME", value_parser = parse_name)]
    pub(crate) host: Option<String>,
    /// Time to record: YYYY-MM-DD HH:MM[:SS] in local time, or as in RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = crate::time::parse_time)]
    time: Option<i64>,
    /// Snapshot to compare with, instead of the newest one of the same host and paths.
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "force")]
    parent: Option<OsString>,
    /// Read every file, whatever the last snapshot says, and store again what lies in packs that are gone.
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Files may be unchanged though their device or inode number is another.
    #[arg(long)]
    ignore_inode: bool,
    /// Files may be unchanged though the time of their last inode change is another.
    #[arg(long)]
    ignore_ctime: bool,
    /// zstd level 1 to 19, "auto" (2, and incompressible data stored as it is), or "off".
    #[arg(long, value_name = "LEVEL", default_value = "auto", value_parser = parse_compression)]
    pub(crate) compression: coffer_pipeline::compress::Compression,
    /// Do not open, decompress and rehash what was sealed before it is stored.
    #[arg(long)]
    pub(crate) no_extra_verify: bool,
    /// Seconds after which a long backup names what it has stored so far.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) progress_interval: u64,
    /// Log records after which a checkpoint of the log is added, which makes opening the vault faster; 0: never.
    #[arg(long, value_name = "RECORDS", default_value_t = coffer_engine::CHECKPOINT_INTERVAL)]
    pub(crate) checkpoint_interval: u64,
    /// Length in MiB that packs have at most, unless a chunk is longer, 4 to 120.
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u64).range(4..=120))]
    pub(crate) pack_size: u64,
    /// On how many stores a snapshot has to be to be acknowledged: primary, two, or all [default: two, of several].
    #[arg(long, value_name = "LEVEL", value_parser = parse_ack)]
    ack: Option<Ack>,
    /// Threads that compress and seal.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

/// A tag or a host. Blanks around it are no part of it, as in `a, b`.
fn parse_name(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        name => Ok(name.to_owned()),
    }
}

fn parse_ack(text: &str) -> Result<Ack, String> {
    text.parse().map_err(|error: coffer_engine::EngineError| error.to_string())
}

fn parse_compression(text: &str) -> Result<coffer_pipeline::compress::Compression, String> {
    use coffer_pipeline::compress::Compression;
    match text {
        "auto" => Ok(Compression::Auto),
        "off" => Ok(Compression::Off),
        _ => match text.parse::<u8>() {
            Ok(level @ 1..=19) => Ok(Compression::Level(level)),
            _ => Err("expected 1 to 19, auto or off".to_owned()),
        },
    }
}

struct Watch<'w> {
    output: Output,
    progress: &'w Counters,
    dry_run: bool,
    /// What went wrong with standard output.
    failure: Option<std::io::Error>,
}

impl BackupObserver for Watch<'_> {
    fn expected(&mut self, content_bytes: u64) {
        self.progress.expect(content_bytes);
    }

    fn reads_all(&mut self, reason: &'static str) {
        self.output
            .warn(&format!("{reason}: every file is read; what the vault has already is not stored again"));
    }

    fn entry(&mut self, path: &[u8], size: u64, change: EntryChange) {
        self.progress.entry(path);
        self.progress.pass(size);
        if !self.output.verbose || self.failure.is_some() {
            return;
        }
        let path = display_path(path);
        if self.output.json {
            let value = json!({
                "message_type": "backup_entry", "path": path, "size": size, "change": change.name(),
            });
            self.failure = self.output.json_line(&value).err();
        } else if self.dry_run {
            // What would be done is what was asked for.
            self.failure = self.output.text(&format!("{:<9} {path}", change.name())).err();
        } else {
            self.output.note(&format!("{:<9} {path}", change.name()));
        }
    }

    fn error(&mut self, path: &[u8], message: &str) {
        self.progress.error();
        let path = display_path(path);
        self.output.warn(&if message.contains(&path) {
            message.to_owned()
        } else {
            format!("{path}: {message}")
        });
    }
}

pub(super) fn run(world: &World, args: &BackupArgs) -> Result<Exit> {
    let started = Instant::now();
    // Whatever is wrong with the words of the user shows before a key is asked for.
    let sources = if args.takes_stream() { Vec::new() } else { args.selection.sources(&args.paths)? };
    let path = args.stream_path()?;
    let excludes = args.selection.excludes()?;
    let ack = args.ack(world.store_count())?;
    let parent = args.parent.as_deref().map(parse_parent).transpose()?;
    let store = world.open_store_with(ReplicaOptions { ack, ..ReplicaOptions::default() })?;
    let price_row = if args.prices.estimate { Some(args.prices.row()?) } else { None };
    let is_dry = args.dry_run || price_row.is_some();
    let mut vault = world.open_vault_to_back_up(&store, is_dry)?;
    if args.parent.is_some() && vault.writer().is_some() {
        let hint = "leave --parent out: this machine remembers the last backup";
        let message = "a writer credential cannot read the snapshot to compare with";
        return Err(Failure::new(Exit::WrongKey, message).hint(hint).into());
    }
    let parent = parent.map(|parent| parent.choose(&vault, world.output)).transpose()?;
    let progress = Progress::start(world.output, "backup", ("read", Unit::Bytes, None), store.counter());
    let read_counter = progress.done();
    let options = BackupOptions { sources, excludes, read_counter, parent, ..options(args, &store)? };
    let told = vault.log.memory_warning.clone();
    let mut watch =
        Watch { output: world.output, progress: progress.counters(), dry_run: args.dry_run, failure: None };
    let mut stream = if args.takes_stream() { Some(open_stream(args, path)?) } else { None };
    let done: Done = if is_dry {
        dry_run(&mut vault, &options, stream.as_mut(), &mut watch)?.into()
    } else if let Some(stream) = &mut stream {
        backup_stream(&mut vault, &options, stream, &mut watch)?.into()
    } else {
        backup(&mut vault, &options, &mut watch)?.into()
    };
    // What was stored is stored, whoever reads of it; a plan that nobody reads is nothing.
    if let Some(failure) = watch.failure.filter(|_| args.dry_run) {
        return Err(failure.into());
    }
    if let Some(row) = price_row {
        drop(progress);
        let estimate = estimate(&done, args, &store);
        world.output.result(&row.json("backup", &estimate), &estimate_text(&row, &estimate, &done))?;
        return Ok(if done.error_count > 0 { Exit::Partial } else { Exit::Done });
    }
    // A snapshot that was there already needs no new receipt.
    let receipt = match done.head {
        Some(head) if !done.is_dry => {
            Some(store.replicas.acknowledge(&world.access(&store), &vault.log, head)?)
        }
        _ => None,
    };
    if !done.is_dry {
        let forgotten = store.replicas.remember(&world.access(&store), &vault.log);
        forgotten.iter().for_each(|warning| world.output.warn(warning));
    }
    drop(progress);
    let new = done.warnings.iter().filter(|warning| told.as_ref() != Some(warning));
    new.for_each(|warning| world.output.warn(warning));
    for path in &done.skipped {
        world.output.note(&format!("{}: skipped, it holds the vault", display_path(path)));
    }
    let is_alone = store.replicas.is_alone();
    print(world, &done, (receipt.as_ref(), is_alone), started.elapsed().as_secs_f64())?;
    let is_acknowledged = receipt.is_none_or(|receipt| receipt.is_acknowledged);
    Ok(if done.error_count > 0 || !is_acknowledged { Exit::Partial } else { Exit::Done })
}

/// What the backup would ask of all stores that it writes to, were it no dry run.
fn estimate(done: &Done, args: &BackupArgs, store: &Store) -> Estimate {
    estimate_backup(
        &store.requests(),
        (done.packed_bytes, done.manifest.statistics.new_chunk_count),
        args.pack_size << 20,
        store.replicas.written_count(),
    )
}

/// The estimate in words, and where it comes from.
fn estimate_text(row: &PriceRow, estimate: &Estimate, done: &Done) -> String {
    let mut text = row.text(estimate);
    if done.packed_bytes > 0 {
        text.push_str(&format!(
            "\n{} new, {} by a sample of it that was compressed",
            bytes(done.manifest.statistics.new_bytes),
            bytes(done.packed_bytes)
        ));
    }
    text
}

impl BackupArgs {
    /// When the backup is acknowledged, with so many stores.
    fn ack(&self, store_count: usize) -> Result<Ack> {
        if self.ack == Some(Ack::Two) && store_count < 2 {
            let hint = "name a second store with --store";
            return Err(Failure::usage("--ack two needs two stores").hint(hint).into());
        }
        Ok(self.ack.unwrap_or_default())
    }

    const fn takes_stream(&self) -> bool {
        self.stdin || self.stdin_from_command
    }

    /// The path of what a stream brings; of no meaning without one.
    fn stream_path(&self) -> Result<EntryPath> {
        if self.takes_stream() && self.selection.names_paths() {
            return Err(Failure::usage(
                "a stream is the only entry of its snapshot; it takes no list of paths",
            )
            .into());
        }
        let mut name = self.stdin_filename.as_bytes();
        while let Some(rest) = name.strip_prefix(b"/") {
            name = rest;
        }
        match EntryPath::new(name) {
            Ok(path) if !path.is_root() => Ok(path),
            Ok(_) => Err(Failure::usage("--stdin-filename names no file").into()),
            Err(error) => Err(Failure::usage(format!("--stdin-filename: {error}")).into()),
        }
    }
}

/// The snapshot to compare with, named as any other one is.
fn parse_parent(text: &OsStr) -> Result<Choice> {
    let parent = Choice::parse(text, SnapshotFilter::default())?;
    if parent.within.is_empty() {
        return Ok(parent);
    }
    let hint = "leave the path out";
    Err(Failure::usage("a backup is compared with a whole snapshot, not with a part of it").hint(hint).into())
}

fn options(args: &BackupArgs, store: &Store) -> Result<BackupOptions> {
    let working_directory = std::env::current_dir().context("find the working directory")?;
    let host = args.host.clone().unwrap_or_else(host_name);
    Ok(BackupOptions {
        skip: store.identities(),
        user: std::env::var("USER").ok().filter(|user| !user.is_empty()),
        tags: args.tag.clone(),
        time_ns: args.time,
        force: args.force,
        ignore_inode: args.ignore_inode,
        ignore_ctime: args.ignore_ctime,
        skip_if_unchanged: args.skip_if_unchanged,
        compression: args.compression,
        extra_verify: !args.no_extra_verify,
        worker_count: thread_count(args.threads),
        pack_len_target: args.pack_size << 20,
        progress_interval_ns: args.progress_interval.saturating_mul(1_000_000_000),
        checkpoint_interval: args.checkpoint_interval,
        ..BackupOptions::new(Vec::new(), working_directory, host)
    })
}

fn open_stream(args: &BackupArgs, path: EntryPath) -> Result<Stream> {
    let Some((program, arguments)) = args.paths.split_first() else {
        return Ok(Stream::new(path, std::io::stdin()));
    };
    let mut command = Command::new(program);
    // The passphrase of the vault is no business of a command that only prints.
    command.args(arguments).env_remove("COFFER_PASSPHRASE");
    Ok(Stream::of_command(path, command)?)
}

/// What was done, or would be.
struct Done {
    snapshot: Option<SnapshotId>,
    head: Option<Head>,
    is_dry: bool,
    manifest: Manifest,
    /// Of a dry run: what packs would have, about.
    packed_bytes: u64,
    progress_count: u64,
    changed_count: u64,
    excluded_count: u64,
    errors: Vec<(Vec<u8>, String)>,
    error_count: u64,
    skipped: Vec<Vec<u8>>,
    warnings: Vec<String>,
}

impl From<BackupReport> for Done {
    fn from(report: BackupReport) -> Self {
        Self {
            snapshot: report.is_new.then_some(report.snapshot),
            head: Some(report.head),
            is_dry: false,
            manifest: report.manifest,
            packed_bytes: 0,
            progress_count: report.progress_count,
            changed_count: report.changed_count,
            excluded_count: report.excluded_count,
            errors: report.errors,
            error_count: report.error_count,
            skipped: report.skipped,
            warnings: report.warnings,
        }
    }
}

impl From<DryRunReport> for Done {
    fn from(report: DryRunReport) -> Self {
        Self {
            snapshot: None,
            head: None,
            is_dry: true,
            manifest: report.manifest,
            packed_bytes: report.packed_bytes,
            progress_count: 0,
            changed_count: report.changed_count,
            excluded_count: report.excluded_count,
            errors: report.errors,
            error_count: report.error_count,
            skipped: report.skipped,
            warnings: Vec::new(),
        }
    }
}

fn print(
    world: &World,
    done: &Done,
    (receipt, is_alone): (Option<&Receipt>, bool),
    seconds: f64,
) -> Result<()> {
    let s = &done.manifest.statistics;
    let shown = |(path, message): &(Vec<u8>, String)| json!({"path": display_path(path), "message": message});
    let lag = |lag: &coffer_engine::Lag| json!({"store": lag.store, "records": lag.record_count, "objects": lag.object_count, "reason": lag.reason});
    let value = json!({
        "acknowledged": receipt.map(|receipt| receipt.is_acknowledged), "ack_stores": receipt.map(|receipt| receipt.wanted_count),
        "stores": receipt.map(|receipt| receipt.holders.clone()).unwrap_or_default(),
        "lagging": receipt.map(|receipt| receipt.lagging.iter().map(lag).collect::<Vec<_>>()).unwrap_or_default(),
        "message_type": "summary", "command": "backup", "snapshot_id": done.snapshot.map(|id| id.to_string()),
        "head": done.head.map(|head| head.to_string()), "dry_run": done.is_dry,
        "entries": s.entry_count, "files": s.file_count, "directories": s.directory_count, "unchanged": s.unchanged_count,
        "content_bytes": s.content_bytes, "read_bytes": s.read_bytes, "new_bytes": s.new_bytes,
        "stored_bytes": s.stored_bytes, "new_chunks": s.new_chunk_count, "progress_records": done.progress_count,
        "changed_while_read": done.changed_count, "excluded": done.excluded_count,
        "errors": done.errors.iter().map(shown).collect::<Vec<_>>(), "error_count": done.error_count,
        "skipped": done.skipped.iter().map(|path| display_path(path)).collect::<Vec<_>>(),
        "time": time_utc(done.manifest.end_ns), "seconds": seconds, "parent": done.manifest.parent.map(|id| id.to_string()),
        "ratio": ratio(s.new_bytes, s.stored_bytes),
    });
    let mut text = text(done, world.requests_text(), seconds);
    if let Some(receipt) = receipt.filter(|_| !is_alone) {
        text.push_str(&receipt_text(receipt));
    }
    world.summary(value, &text)?;
    Ok(())
}

/// Which stores hold the snapshot, and how far the others are behind.
fn receipt_text(receipt: &Receipt) -> String {
    let mut text = String::new();
    for holder in &receipt.holders {
        text.push_str(&format!("\nheld by {holder}"));
    }
    for lag in &receipt.lagging {
        let count = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
        let (records, objects) = (count(lag.record_count), count(lag.object_count));
        text.push_str(&format!(
            "\nbehind {}: {records} record(s), {objects} object(s): {}",
            lag.store, lag.reason
        ));
    }
    let (held, wanted) = (receipt.holders.len(), receipt.wanted_count);
    text.push_str(&if receipt.is_acknowledged {
        format!("\nacknowledged: {held} store(s) hold it, {wanted} had to")
    } else {
        format!("\nNOT acknowledged: {held} store(s) hold it, {wanted} have to; `coffer replicate` catches the others up")
    });
    text
}

/// From here on a ratio says something of compression.
const RATIO_BYTES_MIN: u64 = 1 << 20;

fn text(done: &Done, requests: String, seconds: f64) -> String {
    let s = &done.manifest.statistics;
    // Of little, the padding of packs makes more than what it holds.
    let ratio = match s.new_bytes {
        0..RATIO_BYTES_MIN => String::new(),
        new_bytes => format!(" (ratio {:.2})", ratio(new_bytes, s.stored_bytes)),
    };
    let stored =
        if done.is_dry { String::new() } else { format!(" {} stored{ratio},", bytes(s.stored_bytes)) };
    let mut lines = vec![format!(
        "{} entries, {} files, {}; {} read, {} new,{stored} {seconds:.1} s",
        s.entry_count,
        s.file_count,
        bytes(s.content_bytes),
        bytes(s.read_bytes),
        bytes(s.new_bytes),
    )];
    lines.push(requests);
    if done.excluded_count > 0 {
        lines.push(format!("{} excluded", done.excluded_count));
    }
    if done.changed_count > 0 {
        lines.push(format!("{} file(s) changed while they were read; they are marked", done.changed_count));
    }
    if done.error_count > 0 {
        lines.push(format!("{} error(s): the snapshot is incomplete", done.error_count));
    }
    match (&done.snapshot, &done.manifest.parent) {
        _ if done.is_dry => lines.push("dry run: nothing was stored".to_owned()),
        (Some(snapshot), _) => lines.push(format!("snapshot {snapshot} is committed")),
        (None, Some(parent)) => {
            lines.push(format!("everything is as in snapshot {parent}; no snapshot was made"));
        }
        (None, None) => {}
    }
    lines.extend(done.head.map(|head| format!("head {head}")));
    lines.join("\n")
}

fn host_name() -> String {
    #[cfg(unix)]
    {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }
    #[cfg(not(unix))]
    {
        std::env::var("COMPUTERNAME").unwrap_or_default()
    }
}
