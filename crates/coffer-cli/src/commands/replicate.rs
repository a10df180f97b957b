//! `coffer replicate`

use anyhow::Result;
use clap::Args;
use coffer_engine::{CopyReport, Log, ReplicaOptions, ReplicateReport, Standing, StoreStatus};
use coffer_format::id::hex;
use serde_json::{Value, json};

use crate::exit_code::Exit;
use crate::fitness::check_replica;
use crate::output::{bytes, time, time_utc};
use crate::stores::Store;
use crate::wiring::World;

#[derive(Debug, Args)]
pub(crate) struct ReplicateArgs {
    /// Only show what each store holds, and how far it is behind.
    #[arg(long, conflicts_with = "new")]
    status: bool,
    /// Make replicas of stores that are empty, and directories for those that are not there.
    #[arg(long)]
    new: bool,
    /// Write to buckets without locks, though the vault has a policy that may ask for them and no key opens it.
    #[arg(long, conflicts_with = "status")]
    unlocked: bool,
}

pub(super) fn run(world: &World, args: &ReplicateArgs) -> Result<Exit> {
    let store = if args.new {
        world.open_store_and_new_ones()?
    } else if args.status {
        world.open_store_to_show(ReplicaOptions::for_copying())?
    } else {
        world.open_store_with(ReplicaOptions::for_copying())?
    };
    let access = world.access(&store);
    if args.status {
        let (log, status) =
            store.replicas.status(&access).inspect_err(|_| world.say_what_is_apart(&store))?;
        let head = log.head().map(|head| head.to_string());
        let value = json!({
            "message_type": "replicas", "vault_id": log.vault.to_string(), "head": head, "term": log.state.term,
            "stores": status.iter().map(|status| status_json(status, log.state.next)).collect::<Vec<_>>(),
        });
        let mut lines = vec![format!("head {}, term {}", head.unwrap_or_default(), log.state.term)];
        lines.extend(status.iter().map(|status| status_text(status, log.state.next)));
        world.result(value, &lines.join("\n"))?;
        if let Err(refused) = store.replicas.check_writable() {
            world.output.warn(&crate::command_error::chain(&refused));
        }
        let is_behind =
            |status: &StoreStatus| status.behind_records != Some(0) || status.behind_objects != Some(0);
        return Ok(if status.iter().any(is_behind) { Exit::Partial } else { Exit::Done });
    }
    if args.new {
        check_new_ones(world, &store)?;
    }
    world.lock_by_policy(&store, args.unlocked)?;
    let report = store.replicas.replicate(&access, args.new)?;
    let left_out = |(store, reason): &(String, String)| json!({"store": store, "reason": reason});
    let value = json!({
        "message_type": "summary", "command": "replicate", "source": report.source, "records": report.next,
        "copies": report.copies.iter().map(copy_json).collect::<Vec<_>>(),
        "left_out": report.left_out.iter().map(left_out).collect::<Vec<_>>(), "complete": report.is_complete(),
    });
    world.result(value, &format!("{}\n{}", text(&report), world.requests_text()))?;
    Ok(if report.is_complete() { Exit::Done } else { Exit::Partial })
}

/// Tries the stores that are about to become replicas, before anything of the vault is written there.
fn check_new_ones(world: &World, store: &Store) -> Result<()> {
    let new: Vec<_> = (0..store.replicas.store_count()).filter(|at| store.replicas.is_new(*at)).collect();
    if new.is_empty() {
        return Ok(());
    }
    let mode = Log::read(&world.access(store), world.vault_id)?.header.store_mode;
    for at in new {
        check_replica(world, store, at, mode)?;
        if let Some(bucket) = store.bucket_at(at) {
            bucket.settle(mode);
        }
    }
    Ok(())
}

const fn standing_name(standing: &Standing) -> &'static str {
    match standing {
        Standing::InLine { .. } => "in line",
        Standing::Fenced { .. } => "fenced",
        Standing::Unreachable { .. } => "unreachable",
    }
}

fn status_json(status: &StoreStatus, next: u64) -> Value {
    let last_seen = status.last_seen.as_ref().map(|seen| {
        json!({
            "time": time_utc(seen.time_s.saturating_mul(1_000_000_000)), "behind_records": next.saturating_sub(seen.next),
            "behind_objects": seen.behind_objects,
        })
    });
    json!({
        "store": status.store, "id": hex(&status.id), "home": status.is_home, "standing": standing_name(&status.standing),
        "behind_records": status.behind_records, "behind_objects": status.behind_objects,
        "last_seen": last_seen,
    })
}

fn status_text(status: &StoreStatus, next: u64) -> String {
    let role = if status.is_home { "home" } else { "replica" };
    let state = match (&status.standing, status.behind_records, status.behind_objects) {
        (Standing::InLine { .. }, Some(0), Some(0)) => "holds everything".to_owned(),
        (Standing::InLine { .. }, records, objects) => format!(
            "{} record(s) and {} object(s) behind",
            records.unwrap_or_default(),
            objects.map_or_else(|| "?".to_owned(), |count| count.to_string())
        ),
        (Standing::Fenced { fork, next }, ..) => {
            format!("fenced: {} record(s) of its own from number {fork} on", next.saturating_sub(*fork))
        }
        (Standing::Unreachable { reason }, ..) => format!("not reached: {reason}"),
    };
    let state = match &status.last_seen {
        None => state,
        Some(seen) => {
            let at = time(seen.time_s.saturating_mul(1_000_000_000));
            let behind = next.saturating_sub(seen.next);
            let objects = match seen.behind_objects {
                None | Some(0) => String::new(),
                Some(count) => format!(", and lacked {count} object(s) then"),
            };
            format!("{state}; by what this machine saw of it on {at}, {behind} record(s) behind now{objects}")
        }
    };
    format!("{role} {} ({}): {state}", status.store, &hex(&status.id)[..8])
}

pub(super) fn copy_json(copy: &CopyReport) -> Value {
    json!({
        "store": copy.store, "records": copy.record_count, "objects": copy.object_count, "bytes": copy.bytes,
        "deleted": copy.deleted_count, "undeletable": copy.undeletable_count, "lost": copy.lost,
        "not_looked_at": copy.not_looked_at, "damaged_records": copy.damaged_records, "error": copy.error,
    })
}

fn text(report: &ReplicateReport) -> String {
    let mut lines = vec![format!("from {}, {} record(s)", report.source, report.next)];
    for copy in &report.copies {
        let (records, objects) = (copy.record_count, copy.object_count);
        lines.push(format!(
            "{}: {records} record(s) and {objects} object(s) copied, {}",
            copy.store,
            bytes(copy.bytes)
        ));
        if copy.deleted_count > 0 {
            lines.push(format!("  {} released object(s) deleted", copy.deleted_count));
        }
        if copy.undeletable_count > 0 {
            lines.push(format!("  {} released object(s) are locked and stay", copy.undeletable_count));
        }
        if !copy.damaged_records.is_empty() {
            lines.push(format!(
                "  {} record(s) of the log are missing or damaged, as a signer says, and are so in the copy; `coffer verify` names them",
                copy.damaged_records.len()
            ));
        }
        lines.extend(copy.lost.iter().map(|name| format!("  no store has {name} whole")));
        lines.extend(copy.error.iter().map(|error| format!("  not complete: {error}")));
    }
    lines.extend(report.left_out.iter().map(|(store, reason)| format!("{store}: left out: {reason}")));
    lines.push(if report.is_complete() { "every store holds everything" } else { "NOT complete" }.to_owned());
    lines.join("\n")
}
