//! One module for each subcommand.

pub(crate) mod backup;
mod doctor;
pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod restore;
pub(crate) mod snapshots;
mod stats;
pub(crate) mod verify;

use std::ffi::OsStr;

use anyhow::Result;

use crate::cli::{Cli, Command};
use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::wiring::{World, catch_interrupts};

pub(crate) fn run(cli: Cli) -> Result<Exit> {
    let world = World::new(&cli.global)?;
    // What reads or writes much ends in order; everything else can be left at any point.
    let orderly = matches!(cli.command, Command::Backup(_) | Command::Restore(_) | Command::Ls(_));
    catch_interrupts(orderly)?;
    match cli.command {
        Command::Init(args) => init::run(&world, &args),
        Command::Backup(args) => backup::run(&world, &args),
        Command::Snapshots(args) => snapshots::list(&world, &args),
        Command::Ls(args) => snapshots::ls(&world, &args),
        Command::Restore(args) => restore::run(&world, &args),
        Command::Verify(args) => verify::run(&world, &args),
        Command::Stats => stats::run(&world),
        Command::Keys(command) => keys::run(&world, &command),
        Command::Doctor => doctor::run(&world),
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
