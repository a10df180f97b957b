//! `coffer reconcile`

use anyhow::Result;
use clap::Args;
use coffer_engine::{ReconcileReport, Rejoined, ReplicaOptions};
use coffer_format::id::SnapshotId;
use serde_json::json;

use crate::exit_code::Exit;
use crate::wiring::World;

#[derive(Debug, Args)]
pub(crate) struct ReconcileArgs {
    /// Remove from the fenced store the records that it took after the fork, and make it a replica again.
    #[arg(long)]
    rejoin: bool,
}

pub(super) fn run(world: &World, args: &ReconcileArgs) -> Result<Exit> {
    let store = world.open_store_with(ReplicaOptions::for_copying())?;
    let mut vault = world.open_vault_to_write(&store)?;
    let report = store.replicas.reconcile(&mut vault, args.rejoin)?;
    let receipt = match report.heads.last() {
        Some(head) => Some(store.replicas.acknowledge(&world.access(&store), &vault.log, *head)?),
        None => None,
    };
    let fenced = |(store, fork): &(String, u64)| json!({"store": store, "fork": fork});
    let refused = |(id, reason): &(SnapshotId, String)| json!({"id": id.to_string(), "reason": reason});
    let rejoined = |rejoined: &Rejoined| json!({"store": rejoined.store, "removed_records": rejoined.removed_count, "fenced": rejoined.is_fenced, "error": rejoined.error});
    let value = json!({
        "message_type": "summary", "command": "reconcile",
        "fenced": report.fenced.iter().map(fenced).collect::<Vec<_>>(),
        "snapshots": report.snapshots.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "progress_records": report.progress_count, "void_records": report.void_count, "objects": report.object_count,
        "refused": report.refused.iter().map(refused).collect::<Vec<_>>(),
        "lost": report.lost,
        "heads": report.heads.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "rejoined": report.rejoined.iter().map(rejoined).collect::<Vec<_>>(),
        "acknowledged": receipt.as_ref().map(|receipt| receipt.is_acknowledged),
    });
    world.result(value, &format!("{}\n{}", text(&report), world.requests_text()))?;
    let is_acknowledged = receipt.is_none_or(|receipt| receipt.is_acknowledged);
    let is_whole = report.refused.is_empty()
        && report.lost.is_empty()
        && report.rejoined.iter().all(|rejoined| rejoined.error.is_none());
    Ok(if is_acknowledged && is_whole { Exit::Done } else { Exit::Partial })
}

fn text(report: &ReconcileReport) -> String {
    if report.fenced.is_empty() {
        return "no store is fenced; there is nothing to reconcile".to_owned();
    }
    let mut lines = Vec::new();
    lines.extend(report.fenced.iter().map(|(store, fork)| format!("{store} left the line at record {fork}")));
    lines.extend(report.snapshots.iter().map(|id| format!("snapshot {id} is taken over")));
    lines.push(format!(
        "{} snapshot(s) and {} progress record(s) taken over, {} object(s) copied, {} other record(s) void",
        report.snapshots.len(),
        report.progress_count,
        report.object_count,
        report.void_count
    ));
    lines.extend(
        report.lost.iter().map(|name| format!("no store has {name} whole, which what was taken over needs")),
    );
    lines
        .extend(report.refused.iter().map(|(id, reason)| format!("record {id} is not taken over: {reason}")));
    lines.extend(report.rejoined.iter().map(|rejoined| match &rejoined.error {
        None => format!("{}: {} record(s) removed, in line again", rejoined.store, rejoined.removed_count),
        Some(error) if rejoined.is_fenced => {
            format!("{}: stays fenced, {} record(s) removed: {error}", rejoined.store, rejoined.removed_count)
        }
        Some(error) => format!(
            "{}: {} record(s) removed, in line but not complete; `coffer replicate` copies the rest: {error}",
            rejoined.store, rejoined.removed_count
        ),
    }));
    lines.extend(report.heads.iter().map(|head| format!("head {head}")));
    lines.join("\n")
}
