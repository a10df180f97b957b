//! `coffer doctor`

use anyhow::Result;
use coffer_crypto::{OsRng, rng};
use coffer_format::slot::SlotKind;
use coffer_store::probe;
use coffer_verify::{Options, read_state};
use serde_json::json;

use super::keys::key_id;
use super::verify::exit_of;
use crate::exit_code::Exit;
use crate::output::time_utc;
use crate::wiring::World;

pub(super) fn run(world: &World) -> Result<Exit> {
    let store = world.open_store()?;
    let options = Options { vault_id: world.vault_id, ..Options::default() };
    let state = read_state(store.objects(), &options)?;
    let report = probe(store.objects(), &rng::array(&OsRng)?);
    let temps = store.local().temp_files()?;
    let removed = store.local().remove_stale_temps()?;

    let mut advice = Vec::new();
    if state.slots.len() < 2 {
        advice.push(
            "the vault has one key slot: add a second one of another kind with `coffer keys add`".to_owned(),
        );
    }
    if !report.can_trust_conditional_create() {
        advice
            .push("the store does not create objects exclusively: do not write from two machines".to_owned());
    }
    if !state.findings.is_empty() {
        advice.push("header, log or key slots are damaged: run `coffer verify`".to_owned());
    }
    if world.cache().is_none() {
        advice.push("no local memory: a rolled-back log is not noticed; keep heads elsewhere".to_owned());
    }
    let kinds: Vec<_> = state
        .slots
        .iter()
        .map(|(id, slot)| match &slot.kind {
            SlotKind::KeyFile { key_id } => {
                format!("{} key file {}", id.short(), coffer_format::id::hex(key_id))
            }
            kind => format!("{} {}", id.short(), kind.name()),
        })
        .collect();
    let head = state.log.head().map(|head| head.to_string());
    let value = json!({
        "message_type": "doctor", "location": store.objects().url(), "vault_id": state.vault_id.to_string(),
        "format_version": format!("1.{}", state.log.minor), "head": head, "records": state.log.next,
        "slots": state.slots.iter().map(|(id, slot)| json!({
            "id": id.to_string(), "kind": slot.kind.name(), "key_id": key_id(&slot.kind), "label": slot.label,
            "created": time_utc(slot.created_s.saturating_mul(1_000_000_000)),
        })).collect::<Vec<_>>(),
        "probe": report.checks.iter().map(|check| json!({
            "name": check.name, "passed": check.is_passed, "detail": check.detail,
        })).collect::<Vec<_>>(),
        "temporary_files": temps.len(), "temporary_files_removed": removed.len(),
        "findings": state.findings.iter().map(|finding| json!({
            "class": finding.class.name(), "object": finding.object, "what": finding.what,
        })).collect::<Vec<_>>(),
        "advice": advice,
    });
    let mut lines = vec![
        format!("location {}", store.objects().url()),
        format!("vault {}  (format 1.{})", state.vault_id, state.log.minor),
        format!("head {}  ({} records)", head.unwrap_or_else(|| "unknown".to_owned()), state.log.next),
    ];
    lines.extend(kinds.iter().map(|kind| format!("key slot {kind}")));
    for check in &report.checks {
        let outcome = if check.is_passed { "ok" } else { "FAILED" };
        lines.push(format!(
            "store: {}: {outcome}{}",
            check.name,
            if check.is_passed { String::new() } else { format!(": {}", check.detail) }
        ));
    }
    if !temps.is_empty() {
        lines.push(format!("{} unfinished write(s), {} removed", temps.len(), removed.len()));
    }
    for finding in &state.findings {
        lines.push(format!("{}: {}: {}", finding.class.name(), finding.object, finding.what));
    }
    lines.extend(advice.iter().map(|advice| format!("advice: {advice}")));
    world.output.result(&value, &lines.join("\n"))?;
    Ok(match exit_of(&state.findings) {
        Exit::Done if !report.is_passed() => Exit::Failed,
        exit => exit,
    })
}
