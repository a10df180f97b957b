//! One module for each subcommand.

mod backup;
mod doctor;
mod init;
mod keys;
mod restore;
mod snapshots;
mod stats;
mod verify;

use anyhow::Result;

use crate::cli::{Cli, Command};
use crate::exit_code::Exit;
use crate::wiring::{World, catch_interrupts};

pub(crate) fn run(cli: Cli) -> Result<Exit> {
    let world = World::new(&cli.global)?;
    catch_interrupts()?;
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

/// Splits `SNAPSHOT[:/path]` into selector and path inside the snapshot.
fn split_selector(text: &str) -> (&str, Vec<u8>) {
    match text.split_once(':') {
        Some((selector, path)) => (selector, path.trim_matches('/').as_bytes().to_vec()),
        None => (text, Vec::new()),
    }
}
