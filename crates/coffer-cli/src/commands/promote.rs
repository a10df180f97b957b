//! `coffer promote`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use coffer_engine::{Access, Loss, LostSnapshot, PromoteOptions, Promotion, Vault};
use coffer_format::id::Head;
use coffer_store::ObjectStore;
use serde_json::{Value, json};

use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::fitness::check_home;
use crate::output::{time, time_utc};
use crate::wiring::{World, lock_new_objects};

#[derive(Debug, Args)]
pub(crate) struct PromoteArgs {
    /// The new home, if several stores are given.
    #[arg(long, value_name = "LOCATION")]
    to: Option<PathBuf>,
    /// Go on though it lacks snapshots that were committed elsewhere, or nobody can tell.
    #[arg(long)]
    accept_loss: bool,
    /// The newest head known from a receipt or a witness (NUMBER:HEX).
    #[arg(long, value_name = "HEAD")]
    head: Option<Head>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", default_value = "the home is lost")]
    reason: String,
}

pub(super) fn run(world: &World, args: &PromoteArgs) -> Result<Exit> {
    let at = match &args.to {
        Some(to) => world.store_at(to)?,
        None if world.store_count() > 1 => {
            return Err(Failure::usage("several stores are given: say which one with --to").into());
        }
        None => 0,
    };
    let store = world.open_store()?;
    let target = store.replicas.store(at);
    let root = world.root_key()?;
    // What this machine remembers is weighed here, and not refused as a rollback.
    let access = Access { cache: None, ..world.access_to(&target) };
    let mut vault = Vault::open(access, root.as_ref(), world.vault_id)?;
    vault.signing_key()?;
    lock_new_objects(&store, &vault)?;
    check_home(world, &store, at, vault.log.header.store_mode)?;
    let options =
        PromoteOptions { accept_loss: args.accept_loss, head: args.head, reason: args.reason.clone() };
    match store.replicas.promote(&mut vault, at, world.cache(), &options)? {
        Promotion::WouldLose(loss) => {
            let value = json!({
                "message_type": "promote", "home": null, "head": null, "term": null, "loss": loss_json(&loss),
            });
            world.result(value, &format!("{}\n{}", loss_text(&loss), world.requests_text()))?;
            let message = "the store is not promoted, as snapshots may be lost by it";
            let hint = "if another replica has more, promote that one; --accept-loss goes on, and `coffer reconcile` takes them over if the old home returns";
            Err(Failure::new(Exit::CannotCommit, message).hint(hint).into())
        }
        Promotion::Done { head, term, loss } => {
            let url = target.url();
            let value = json!({
                "message_type": "promote", "home": url, "head": head.to_string(), "term": term, "loss": loss_json(&loss),
            });
            let accepted = if loss.is_none() { String::new() } else { format!("{}\n", loss_text(&loss)) };
            let done = format!(
                "{accepted}the home of the log is {url}, in term {term}\nhead {head}\n{}",
                world.requests_text()
            );
            world.result(value, &done)?;
            Ok(Exit::Done)
        }
    }
}

fn loss_json(loss: &Loss) -> Value {
    let snapshot = |lost: &LostSnapshot| {
        let at = time_utc(lost.time_s.saturating_mul(1_000_000_000));
        json!({"id": lost.id.to_string(), "record": lost.number, "time": at, "known_by": lost.known_by})
    };
    json!({
        "heads": loss.heads.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "snapshots": loss.snapshots.iter().map(snapshot).collect::<Vec<_>>(), "unknown": loss.is_unknown,
    })
}

fn loss_text(loss: &Loss) -> String {
    let mut lines = Vec::new();
    lines.extend(loss.heads.iter().map(|head| format!("the store lacks head {head}")));
    lines.extend(loss.snapshots.iter().map(|lost| {
        let at = time(lost.time_s.saturating_mul(1_000_000_000));
        let id = lost.id.short();
        format!("the store lacks snapshot {id} of {at} (record {}), known by {}", lost.number, lost.known_by)
    }));
    if loss.is_unknown {
        let why = "this machine has no memory of the vault, and no --head is given";
        lines.push(format!("what the store lacks cannot be told: {why}"));
    }
    lines.join("\n")
}
