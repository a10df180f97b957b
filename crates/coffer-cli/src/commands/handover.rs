//! `coffer handover`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use coffer_engine::ReplicaOptions;
use coffer_store::ObjectStore;
use serde_json::json;

use crate::exit_code::Exit;
use crate::fitness::check_home;
use crate::wiring::{World, lock_new_objects};

#[derive(Debug, Args)]
pub(crate) struct HandoverArgs {
    /// The new home: one of the stores given by --vault and --store.
    #[arg(long, value_name = "LOCATION")]
    to: PathBuf,
}

pub(super) fn run(world: &World, args: &HandoverArgs) -> Result<Exit> {
    let at = world.store_at(&args.to)?;
    let store = world.open_store_with(ReplicaOptions::for_copying())?;
    let mut vault = world.open_vault(&store)?;
    // Before any work is done: a reader secret signs nothing.
    vault.signing_key()?;
    lock_new_objects(&store, &vault)?;
    check_home(world, &store, at, vault.log.header.store_mode)?;
    let head = store.replicas.handover(&mut vault, at)?;
    let url = store.replicas.store(at).url();
    let value = json!({"message_type": "handover", "home": url, "head": head.to_string()});
    let text = format!("the home of the log is {url}\nhead {head}\n{}", world.requests_text());
    world.result(value, &text)?;
    Ok(Exit::Done)
}
