//! `coffer backup`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use coffer_engine::{BackupObserver, BackupOptions, BackupReport, backup};
use coffer_format::path::display_path;
use serde_json::json;

use crate::exit_code::Exit;
use crate::output::{Output, bytes, time_utc};
use crate::wiring::{World, thread_count};

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// What to back up. Relative paths are stored relative; absolute ones, and those with "..", whole.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Tag the snapshot; may be given several times.
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<String>,
    /// Host name to record instead of this machine's.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// zstd level 1 to 19, "auto" (3, and incompressible data stored as it is), or "off".
    #[arg(long, value_name = "LEVEL", default_value = "auto", value_parser = parse_compression)]
    pub(crate) compression: coffer_pipeline::compress::Compression,
    /// Read every file, whatever the last snapshot says.
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not open, decompress and rehash what was sealed before it is stored.
    #[arg(long)]
    pub(crate) no_extra_verify: bool,
    /// Seconds after which a long backup names what it has stored so far.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) progress_interval: u64,
    /// Log records after which a checkpoint of the log is added, which makes opening the vault faster; 0: never.
    #[arg(long, value_name = "RECORDS", default_value_t = coffer_engine::CHECKPOINT_INTERVAL)]
    pub(crate) checkpoint_interval: u64,
    /// Length in MiB at which packs are closed, 4 to 120.
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u64).range(4..=120))]
    pub(crate) pack_size: u64,
    /// Threads that compress and seal.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
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

struct Watch {
    output: Output,
}

impl BackupObserver for Watch {
    fn entry(&mut self, path: &[u8], _size: u64) {
        if self.output.verbose {
            self.output.note(&display_path(path));
        }
    }

    fn error(&mut self, path: &[u8], message: &str) {
        let path = display_path(path);
        self.output.warn(&if message.contains(&path) {
            message.to_owned()
        } else {
            format!("{path}: {message}")
        });
    }
}

pub(super) fn run(world: &World, args: &BackupArgs) -> Result<Exit> {
    let store = world.open_store()?;
    let mut vault = world.open_vault(&store)?;
    let options = BackupOptions {
        sources: args.paths.clone(),
        working_directory: std::env::current_dir().context("find the working directory")?,
        host: args.host.clone().unwrap_or_else(host_name),
        user: std::env::var("USER").ok().filter(|user| !user.is_empty()),
        tags: args.tag.clone(),
        program: concat!("coffer ", env!("CARGO_PKG_VERSION")).to_owned(),
        compression: args.compression,
        extra_verify: !args.no_extra_verify,
        worker_count: thread_count(args.threads),
        pack_len_target: args.pack_size << 20,
        progress_interval_ns: args.progress_interval.saturating_mul(1_000_000_000),
        checkpoint_interval: args.checkpoint_interval,
        skip: store.identity().into_iter().collect(),
        force: args.force,
    };
    if !vault.state().damaged.is_empty() {
        world.output.warn("the log of this vault is damaged; run `coffer verify`");
    }
    let told = vault.log.memory_warning.clone();
    let report = backup(&mut vault, &options, &mut Watch { output: world.output })?;
    let new = report.warnings.iter().filter(|warning| told.as_ref() != Some(warning));
    new.for_each(|warning| world.output.warn(warning));
    for path in &report.skipped {
        world.output.note(&format!("{}: skipped, it holds the vault", display_path(path)));
    }
    print(world.output, &report)?;
    Ok(if report.error_count > 0 { Exit::Partial } else { Exit::Done })
}

fn print(output: Output, report: &BackupReport) -> Result<()> {
    let s = &report.manifest.statistics;
    let seconds = (report.manifest.end_ns - report.manifest.start_ns).max(0) as f64 / 1e9;
    let errors: Vec<_> = report
        .errors
        .iter()
        .map(|(path, message)| json!({"path": display_path(path), "message": message}))
        .collect();
    let value = json!({
        "message_type": "backup", "snapshot_id": report.snapshot.to_string(), "head": report.head.to_string(),
        "entries": s.entry_count, "files": s.file_count, "directories": s.directory_count, "unchanged": s.unchanged_count,
        "content_bytes": s.content_bytes, "read_bytes": s.read_bytes, "new_bytes": s.new_bytes,
        "stored_bytes": s.stored_bytes, "new_chunks": s.new_chunk_count, "progress_records": report.progress_count,
        "changed_while_read": report.changed_count, "errors": errors, "error_count": report.error_count,
        "skipped": report.skipped.iter().map(|path| display_path(path)).collect::<Vec<_>>(),
        "time": time_utc(report.manifest.end_ns), "seconds": seconds, "parent": report.manifest.parent.map(|id| id.to_string()),
    });
    let mut text = format!(
        "{} entries, {} files, {}; {} read, {} new, {} stored, {:.1} s",
        s.entry_count,
        s.file_count,
        bytes(s.content_bytes),
        bytes(s.read_bytes),
        bytes(s.new_bytes),
        bytes(s.stored_bytes),
        seconds,
    );
    if report.changed_count > 0 {
        text.push_str(&format!(
            "\n{} file(s) changed while they were read; they are marked",
            report.changed_count
        ));
    }
    if report.error_count > 0 {
        text.push_str(&format!("\n{} error(s): the snapshot is incomplete", report.error_count));
    }
    text.push_str(&format!("\nsnapshot {} is committed\nhead {}", report.snapshot, report.head));
    output.summary(&value, &text)?;
    Ok(())
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
