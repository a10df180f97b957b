//! `coffer doctor`

use anyhow::Result;
use coffer_crypto::{OsRng, rng};
use coffer_format::slot::SlotKind;
use coffer_store::{Fact, ProbeReport, Support, Versioning, probe};
use coffer_verify::{Options, VaultState, read_state};
use serde_json::json;

use super::keys::key_id;
use super::verify::exit_of;
use crate::apart::{self, ServiceSlot, Site};
use crate::bucket::{support_of, told};
use crate::command_error::classify_store;
use crate::exit_code::Exit;
use crate::fitness;
use crate::output::time_utc;
use crate::wiring::World;

pub(super) fn run(world: &World) -> Result<Exit> {
    let store = world.open_store()?;
    let options = Options { vault_id: world.vault_id, ..Options::default() };
    let state = read_state(store.objects(), &options)?;
    let mut reports = Vec::new();
    // What the vault needs of each.
    let mut needed = Vec::new();
    for plain in store.plain() {
        reports.push((plain.url(), probe(plain, &rng::array(&OsRng)?)));
        needed.push(fitness::needed(plain, state.header.store_mode));
    }
    let support = support_of(state.header.store_mode);
    let (mut temps, mut removed) = (Vec::new(), Vec::new());
    for local in store.locals() {
        temps.extend(local.temp_files()?);
        removed.extend(local.remove_stale_temps()?);
    }

    let mut advice = Vec::new();
    if state.slots.len() < 2 {
        advice.push(
            "the vault has one key slot: add a second one of another kind with `coffer keys add`".to_owned(),
        );
    }
    advice.extend(of_stores(&reports, &needed));
    advice.extend(apart::warnings(&sites(&reports), &service_slots(&state)));
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
        "writers": told(support),
        "probe": reports.iter().flat_map(|(url, report)| report.checks.iter().map(move |check| json!({
            "store": url, "name": check.name, "passed": check.is_passed, "tried": check.is_tried, "detail": check.detail,
        }))).collect::<Vec<_>>(),
        "bucket": reports.iter().flat_map(|(url, report)| fitness::facts_json(url, report)).collect::<Vec<_>>(),
        "leftovers": reports.iter().map(|(_, report)| report.leftovers.len()).sum::<usize>(),
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
    lines.push(format!("writers: {}", told(support)));
    for (url, report) in &reports {
        let of = if reports.len() > 1 { format!(" {url}") } else { String::new() };
        for check in &report.checks {
            let outcome = match (check.is_passed, check.is_tried) {
                (true, _) => "ok",
                (false, true) => "FAILED",
                (false, false) => "could not be tried",
            };
            lines.push(format!(
                "store{of}: {}: {outcome}{}",
                check.name,
                if check.is_passed { String::new() } else { format!(": {}", check.detail) }
            ));
        }
        lines.extend(
            report
                .facts
                .iter()
                .map(|fact| format!("bucket{of}: {}: {}: {}", fact.name, fact.found, fact.consequence)),
        );
        if !report.leftovers.is_empty() {
            lines.push(format!("store{of}: {} probe object(s) could not be deleted", report.leftovers.len()));
        }
    }
    if !temps.is_empty() {
        lines.push(format!("{} unfinished write(s), {} removed", temps.len(), removed.len()));
    }
    for finding in &state.findings {
        lines.push(format!("{}: {}: {}", finding.class.name(), finding.object, finding.what));
    }
    lines.extend(advice.iter().map(|advice| format!("advice: {advice}")));
    world.result(value, &lines.join("\n"))?;
    Ok(match exit_of(&state.findings) {
        Exit::Done => exit_of_stores(&reports, &needed),
        exit => exit,
    })
}

/// That a store does less than the vault needs goes before that one could not be asked.
fn exit_of_stores(reports: &[(String, ProbeReport)], needed: &[Support]) -> Exit {
    let all = || reports.iter().map(|(_, report)| report).zip(needed.iter().copied());
    if all().any(|(report, needed)| report.is_broken_for(needed)) {
        return Exit::Failed;
    }
    let untried = reports.iter().find_map(|(_, report)| report.untried.as_ref());
    match untried {
        Some(error) => classify_store(error).0,
        None if all().all(|(report, needed)| report.is_enough_for(needed)) => Exit::Done,
        None => Exit::Failed,
    }
}

/// What follows from the probes, for a vault that needs this of each store.
fn of_stores(reports: &[(String, ProbeReport)], needed: &[Support]) -> Vec<String> {
    let mut advice = Vec::new();
    for ((url, report), support) in reports.iter().zip(needed.iter().copied()) {
        if report.is_broken_for(support) {
            let broken: Vec<_> = report.broken().map(|check| check.name).collect();
            advice.push(match support {
                Support::ConditionalCreate if report.is_condition_broken() => format!(
                    "{url} does not create objects exclusively any more, which this vault relies on: let only one machine \
                     write, and move the vault to a store that does (`coffer replicate`, `coffer handover`)"
                ),
                Support::OldestVersion if report.versioning().is_some_and(|found| *found != Fact::Known(Versioning::On)) => format!(
                    "{url} does not keep versions as this vault needs them: turn versions on again before anything is written"
                ),
                _ => format!(
                    "{url} does not do what this vault needs ({}); do not write to it",
                    broken.join(", ")
                ),
            });
        } else if let Some(error) = &report.untried {
            let hint = classify_store(error).1.map(|hint| format!(": {hint}")).unwrap_or_default();
            advice.push(format!("{url} could not be tried, and what it does is not known{hint}"));
        } else if !report.is_enough_for(support) {
            advice.push(format!(
                "whether {url} keeps versions is not known, and this vault needs them: ask with credentials that may see it"
            ));
        } else if support == Support::SingleWriter {
            advice.push(format!("{url}: only one machine may write, one command at a time"));
        }
        let Some(bucket) = &report.bucket else { continue };
        match (&bucket.versioning, &bucket.protection) {
            (Fact::Known(Versioning::On), _) | (_, Fact::Known(Some(_))) => {}
            (Fact::Known(_), Fact::Known(None)) => advice.push(format!(
                "{url} keeps no versions and has no retention policy: whoever may delete can destroy the vault; turn on \
                 versions with object lock, or set a retention policy"
            )),
            _ => advice.push(format!(
                "whether {url} keeps versions or has a retention policy is not known: with neither, whoever may delete can \
                 destroy the vault; ask with credentials that may see it"
            )),
        }
    }
    advice
}

fn sites(reports: &[(String, ProbeReport)]) -> Vec<Site> {
    let site = |(url, report): &(String, ProbeReport)| {
        let bucket = report.bucket.as_ref();
        Site {
            url: url.clone(),
            location: bucket.and_then(|bucket| bucket.location.known().cloned()),
            root_key: bucket.and_then(|bucket| bucket.root_key.known().cloned().flatten()),
        }
    };
    reports.iter().map(site).collect()
}

fn service_slots(state: &VaultState) -> Vec<ServiceSlot> {
    state.slots.iter().filter_map(|(id, slot)| ServiceSlot::of(id.short(), &slot.kind)).collect()
}
