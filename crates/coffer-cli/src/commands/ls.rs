//! `coffer ls`

use anyhow::{Context, Result};
use clap::Args;
use coffer_engine::{EngineError, list};
use serde_json::json;

use super::{entries, snapshots};
use crate::exit_code::Exit;
use crate::select_args::SelectArgs;
use crate::wiring::World;

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    select: SelectArgs,
    /// Show mode, owner, size and time.
    #[arg(short, long)]
    long: bool,
}

pub(super) fn run(world: &World, args: &LsArgs) -> Result<Exit> {
    let choice = args.select.parse()?;
    let store = world.open_store()?;
    let vault = world.open_vault(&store)?;
    let output = world.output;
    let snapshot = choice.choose(&vault, output)?;
    let (mut exit, mut count) = (Exit::Done, 0_u64);
    let mut failed = output
        .json_line(&json!({"message_type": "snapshot", "snapshot": snapshots::to_json(&snapshot)}))
        .err();
    let listed = list(&vault, &snapshot, &choice.within, &mut |entry| {
        let shown = match entry {
            Ok(entry) => {
                count += 1;
                entries::print(output, &entry, args.long)
            }
            Err(lost) => {
                entries::warn_of_lost(output, &lost);
                exit = entries::exit_after(exit, &lost.error);
                Ok(())
            }
        };
        shown.map_err(|error| {
            failed = Some(error);
            EngineError::Interrupted
        })
    });
    if let Some(failed) = failed {
        return Err(failed).context("print the listing");
    }
    listed?;
    world.json_summary(json!({
        "message_type": "summary", "command": "ls", "snapshot_id": snapshot.id().to_string(), "entries": count,
    }))?;
    Ok(exit)
}
