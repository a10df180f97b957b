//! `coffer cat`

use std::io::{self, Write};

use anyhow::Result;
use clap::Args;
use coffer_engine::cat;

use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::output;
use crate::select_args::SelectArgs;
use crate::wiring::World;

#[derive(Debug, Args)]
pub(crate) struct CatArgs {
    #[command(flatten)]
    select: SelectArgs,
}

pub(super) fn run(world: &World, args: &CatArgs) -> Result<Exit> {
    let choice = args.select.parse()?;
    if choice.within.is_empty() {
        return Err(Failure::usage("no file is given")
            .hint("name it behind the snapshot: latest:/path")
            .into());
    }
    let store = world.open_store()?;
    let vault = world.open_vault(&store)?;
    let snapshot = choice.choose(&vault, world.output)?;
    let report = cat(&vault, &snapshot, &choice.within, &mut StandardOutput)?;
    Ok(if report.degraded { Exit::Degraded } else { Exit::Done })
}

/// Standard output, bytes as they are.
pub(super) struct StandardOutput;

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        output::raw(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
