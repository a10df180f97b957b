//! `coffer dump`

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use coffer_collect::{ArchiveWriter, TarArchive, ZipArchive};
use coffer_engine::{DumpReport, EngineError, Snapshot, Vault, cat, dump, entry_at};
use coffer_format::tree::Kind;
use serde_json::json;

use super::cat::StandardOutput;
use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::output::{Output, bytes};
use crate::select_args::{Choice, SelectArgs};
use crate::wiring::World;

/// Archives are written in pieces of this length.
const BUFFER_LEN: usize = 1 << 18;
/// Warnings shown one by one; the rest is counted.
const WARNING_COUNT_MAX: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// Format of the archive that a directory becomes (default: tar). A single file is written as it is unless this is given.
    #[arg(short, long, value_enum)]
    archive: Option<Format>,
    /// Write into this file instead of standard output; it is there once it is complete.
    #[arg(short, long, visible_alias = "target", value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// Everything that a snapshot keeps of files.
    Tar,
    /// Files, directories and symbolic links, without owners and attributes.
    Zip,
}

pub(super) fn run(world: &World, args: &DumpArgs) -> Result<Exit> {
    let choice = args.select.parse()?;
    let store = world.open_store()?;
    let vault = world.open_vault(&store)?;
    let snapshot = choice.choose(&vault, world.output)?;
    let format = format(args, &vault, &snapshot, &choice)?;
    let report = match &args.output {
        Some(path) => {
            let mut file = OutputFile::create(path).with_context(|| format!("create {}", path.display()))?;
            let report = write(&vault, &snapshot, &choice, format, &mut file.out)?;
            file.finish().with_context(|| format!("write {}", path.display()))?;
            report
        }
        None => write(&vault, &snapshot, &choice, format, &mut StandardOutput)?,
    };
    warn(world.output, &report);
    // Standard output is taken, unless the dump goes into a file.
    if let Some(path) = &args.output {
        print(world, path, &snapshot, &report)?;
    }
    if report.archived_count > 0 {
        world.output.warn(
            "what is missing is archived: `coffer restore` with the same snapshot and path, --target DIR and --request-archived asks for it, \
             and for nothing else; dump it when it is back",
        );
        return Ok(Exit::Archived);
    }
    Ok(match (report.error_count, report.degraded) {
        (0, false) => Exit::Done,
        (0, true) => Exit::Degraded,
        _ => Exit::Partial,
    })
}

/// The archive's format; none for a file that is written as it is.
fn format(
    args: &DumpArgs,
    vault: &Vault<'_>,
    snapshot: &Snapshot,
    choice: &Choice,
) -> Result<Option<Format>> {
    let is_file = args.archive.is_none()
        && !choice.within.is_empty()
        && match entry_at(vault, snapshot, &choice.within)? {
            // A directory that is above others need not be an entry.
            None => false,
            Some(entry) => entry.kind != Kind::Directory,
        };
    if is_file {
        return Ok(None);
    }
    if args.output.is_none() && io::stdout().is_terminal() {
        let hint = "redirect it, or give --output FILE";
        return Err(Failure::usage("an archive is not written to a terminal").hint(hint).into());
    }
    Ok(Some(args.archive.unwrap_or(Format::Tar)))
}

fn write(
    vault: &Vault<'_>,
    snapshot: &Snapshot,
    choice: &Choice,
    format: Option<Format>,
    out: &mut dyn Write,
) -> Result<DumpReport, EngineError> {
    let Some(format) = format else { return cat(vault, snapshot, &choice.within, out) };
    let mut out = BufWriter::with_capacity(BUFFER_LEN, out);
    let archive: Box<dyn ArchiveWriter + '_> = match format {
        Format::Tar => Box::new(TarArchive::new(&mut out)),
        Format::Zip => Box::new(ZipArchive::new(&mut out)),
    };
    let dumped = dump(vault, snapshot, &choice.within, archive);
    if dumped.is_err() {
        // What is left in the buffer is of no use to anybody.
        drop(out.into_parts());
    }
    dumped
}

/// A file that gets its name when it is complete. What is no regular file, such as a named pipe, is written to directly.
struct OutputFile {
    out: File,
    /// The file under its working name, and its name to be.
    place: Option<(PathBuf, PathBuf)>,
}

impl OutputFile {
    fn create(path: &Path) -> io::Result<Self> {
        match fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                return Ok(Self { out: File::options().write(true).open(path)?, place: None });
            }
            _ => {}
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let mut working_name = std::ffi::OsString::from(".");
        working_name.push(name);
        working_name.push(format!(".coffer-{}", std::process::id()));
        let working = path.with_file_name(working_name);
        let out = File::options().write(true).create_new(true).open(&working)?;
        Ok(Self { out, place: Some((working, path.to_path_buf())) })
    }

    fn finish(mut self) -> io::Result<()> {
        self.out.flush()?;
        let Some((working, path)) = &self.place else { return Ok(()) };
        self.out.sync_all()?;
        fs::rename(working, path)?;
        self.place = None;
        Ok(())
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some((working, _)) = &self.place {
            // It is not complete, and whoever ended early says so.
            drop(fs::remove_file(working));
        }
    }
}

fn print(world: &World, path: &Path, snapshot: &Snapshot, report: &DumpReport) -> io::Result<()> {
    let errors = report.errors.iter().map(|(path, message)| json!({"path": path, "message": message}));
    let value = json!({
        "message_type": "summary", "command": "dump", "snapshot_id": snapshot.id().to_string(),
        "output": path.display().to_string(), "entries": report.entry_count, "files": report.file_count,
        "content_bytes": report.content_bytes, "errors": errors.collect::<Vec<_>>(), "error_count": report.error_count,
        "warnings": report.warnings, "degraded": report.degraded,
    });
    let text = format!(
        "{} entries, {} files, {} of snapshot {} in {}",
        report.entry_count,
        report.file_count,
        bytes(report.content_bytes),
        snapshot.id().short(),
        path.display(),
    );
    world.summary(value, &text)
}

fn warn(output: Output, report: &DumpReport) {
    let shown = if output.verbose || output.json { usize::MAX } else { WARNING_COUNT_MAX };
    report.warnings.iter().take(shown).for_each(|warning| output.warn(warning));
    if report.warnings.len() > shown {
        output.warn(&format!("{} more; --verbose shows them", report.warnings.len() - shown));
    }
    for (path, message) in &report.errors {
        output.warn(&if message.contains(path.as_str()) {
            message.clone()
        } else {
            format!("{path}: {message}")
        });
    }
    if report.error_count > 0 {
        output.warn(&format!("{} could not be written", report.error_count));
    }
    if report.degraded {
        output.warn("the vault is damaged: `coffer verify` shows where");
    }
}
