//! `coffer verify`

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use coffer_crypto::{OsRng, ReaderSecret, VaultKey, rng};
use coffer_format::slot::SlotPurpose;
use coffer_keys::try_slots;
use coffer_pipeline::keyring::UnwrappedKey;
use coffer_store::RequestCounts;
use coffer_verify::{Class, Finding, Options, Report, Subset, read_state, verify, verify_deep};
use serde_json::{Value, json};

use crate::exit_code::Exit;
use crate::output::{bytes, requests_json, requests_text};
use crate::progress::{Progress, Unit};
use crate::wiring::{World, thread_count};

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Use nothing but the vault's own files and what is given here: no key, no network, no local memory.
    #[arg(long, conflicts_with = "deep")]
    pub(crate) offline: bool,
    /// With a key: open every frame, rehash every chunk, walk every tree.
    #[arg(long)]
    pub(crate) deep: bool,
    /// A head that the log must contain (NUMBER:HEX), from the last backup's receipt or a witness.
    #[arg(long, value_name = "HEAD")]
    pub(crate) head: Option<coffer_format::id::Head>,
    /// Read only a part of the packs: n/m, a percentage, or a size as 10G. Everything else is checked in any case.
    #[arg(long, value_name = "SUBSET")]
    pub(crate) read_subset: Option<Subset>,
    /// Threads that read and check.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

/// Paths and residue shown for people; JSON has all that the report lists.
const SHOWN_COUNT_MAX: usize = 10;

pub(super) fn run(world: &World, args: &VerifyArgs) -> Result<Exit> {
    let started = Instant::now();
    let store = world.open_store()?;
    let mut options = Options {
        vault_id: world.vault_id,
        head: args.head,
        subset: args.read_subset.unwrap_or(Subset::All),
        seed: rng::array(&OsRng)?,
        threads: thread_count(args.threads),
    };
    if !args.offline
        && let Some(cache) = world.cache()
    {
        // What this machine saw before is as good as what somebody wrote down.
        let remembered = cache.remembered(&store.objects().url())?;
        options.vault_id = options.vault_id.or(remembered.map(|(vault, _)| vault));
        options.head = options.head.or(remembered.and_then(|(_, head)| head));
    }
    // A passphrase is asked for before anything is drawn.
    let root = if args.deep { Some(world.root_key()?) } else { None };
    let start = ("log", Unit::Records, None);
    let progress = Progress::start(world.output, "verify", start, store.counter());
    let report = if let Some(root) = root {
        let state = read_state(store.objects(), &options)?;
        let (_, slot, key) = try_slots(&state.slots, state.vault_id, root.as_ref())?;
        let epoch = slot.epoch;
        let key = match slot.purpose {
            SlotPurpose::VaultKey => UnwrappedKey::VaultKey(VaultKey::from_secret(key)),
            SlotPurpose::ReaderSecret => UnwrappedKey::Reader(ReaderSecret::from_secret(key)),
        };
        verify_deep(store.objects(), (epoch, key), &options, progress.counters())?
    } else {
        verify(store.objects(), &options, progress.counters())?
    };
    drop(progress);
    let requests = store.requests();
    let seconds = started.elapsed().as_secs_f64();
    let text = to_text(&report, args, &requests);
    world.output.result(&to_json(&report, &requests, seconds), &text)?;
    if report.vault_id.is_none()
        && let Some(expected) = options.vault_id
        && let Ok(state) = read_state(store.objects(), &Options { vault_id: None, ..Options::default() })
    {
        // What is there is a vault in itself.
        let actual = state.vault_id;
        world.output.warn(&format!("the vault here is {actual}, expected was {expected}"));
        return Ok(Exit::Rollback);
    }
    Ok(exit_of(&report.findings))
}

/// The worst class found decides.
pub(super) fn exit_of(findings: &[Finding]) -> Exit {
    let has = |class| findings.iter().any(|finding| finding.class == class);
    if has(Class::Rollback) {
        Exit::Rollback
    } else if has(Class::Corrupt) {
        Exit::Corrupt
    } else if has(Class::Missing) {
        Exit::Missing
    } else if has(Class::Surplus) {
        Exit::Surplus
    } else {
        Exit::Done
    }
}

const ORIGIN_UNPROVED: &str = "self-consistent; origin not proved (give --vault-id)";
const FRESHNESS_UNPROVED: &str =
    "freshness not proved (give --head): an older state of this vault would look the same";

fn to_text(report: &Report, args: &VerifyArgs, requests: &RequestCounts) -> String {
    let c = &report.counts;
    let mut lines = Vec::new();
    for finding in &report.findings {
        lines.push(finding_text(finding));
    }
    let vault = report.vault_id.map_or_else(|| "none that can be trusted".to_owned(), |id| id.to_string());
    let head = report.head.map_or_else(|| "unknown".to_owned(), |head| head.to_string());
    lines.push(format!("vault {vault}\nhead {head}"));
    lines.push(format!(
        "{} record(s), {} snapshot(s), {} key slot(s), {} index segment(s), {} pack(s) of {}; read {}",
        c.records,
        c.snapshots,
        c.slots,
        c.segments,
        c.packs,
        bytes(c.pack_bytes),
        bytes(c.read_bytes),
    ));
    if c.hashed_packs < c.packs {
        lines.push(format!(
            "{} of {} packs were read whole; of the others presence and length were checked",
            c.hashed_packs, c.packs
        ));
    }
    if report.deep {
        lines.push(format!(
            "{} frame(s) opened, {} chunk(s) of {} rehashed, {} tree(s) with {} entries walked",
            c.frames,
            c.chunks,
            bytes(c.chunk_bytes),
            c.trees,
            c.entries,
        ));
    }
    if !report.residue.is_empty() {
        lines.push(format!(
            "{} uncommitted or released object(s), {}: harmless",
            c.residue_objects,
            bytes(c.residue_bytes)
        ));
        lines
            .extend(report.residue.iter().take(SHOWN_COUNT_MAX).map(|residue| format!("  {}", residue.name)));
    }
    lines.push(requests_text(requests));
    let origin =
        if report.origin_proved { "origin proved: the vault id is the one given" } else { ORIGIN_UNPROVED };
    let fresh = if report.fresh_proved { "at least as new as the head given" } else { FRESHNESS_UNPROVED };
    lines.push(format!("{origin}\n{fresh}"));
    if !report.deep {
        let with = if args.offline { "" } else { "; with a key, --deep checks what is sealed" };
        lines.push(format!(
            "without a key: every byte that the log calls live was checked for presence and hash{with}"
        ));
    }
    lines.push(match report.findings.len() {
        0 => "no errors were found".to_owned(),
        count => format!("{count} finding(s)"),
    });
    lines.join("\n")
}

fn finding_text(finding: &Finding) -> String {
    let mut text = format!("{}: {}: {}", finding.class.name(), finding.object, finding.what);
    if !finding.snapshots.is_empty() {
        let ids: Vec<_> = finding.snapshots.iter().map(coffer_format::id::SnapshotId::short).collect();
        text.push_str(&format!("\n  affects snapshots {}", ids.join(" ")));
    }
    for path in finding.paths.iter().take(SHOWN_COUNT_MAX) {
        text.push_str(&format!("\n  affects {path}"));
    }
    if finding.path_count > SHOWN_COUNT_MAX as u64 {
        text.push_str(&format!("\n  and {} more path(s)", finding.path_count - SHOWN_COUNT_MAX as u64));
    }
    text
}

fn to_json(report: &Report, requests: &RequestCounts, seconds: f64) -> Value {
    let c = &report.counts;
    let finding = |finding: &Finding| {
        json!({
            "class": finding.class.name(), "object": finding.object, "what": finding.what,
            "snapshots": finding.snapshots.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "paths": finding.paths, "path_count": finding.path_count,
            "chunks": finding.chunks, "chunk_count": finding.chunk_count,
        })
    };
    let residue: Vec<_> =
        report.residue.iter().map(|residue| json!({"object": residue.name, "bytes": residue.len})).collect();
    json!({
        "message_type": "summary", "command": "verify", "vault_id": report.vault_id.map(|id| id.to_string()),
        "head": report.head.map(|head| head.to_string()), "origin_proved": report.origin_proved,
        "fresh_proved": report.fresh_proved, "deep": report.deep,
        "statements": [
            if report.origin_proved { "origin proved" } else { "self-consistent; origin not proved" },
            if report.fresh_proved { "at least as new as the head given" } else { "freshness not proved" },
        ],
        "records": c.records, "void_records": c.void_records, "damaged_records": c.damaged_records,
        "slots": c.slots, "snapshots": c.snapshots, "forgotten_snapshots": c.forgotten_snapshots, "segments": c.segments, "packs": c.packs,
        "pack_bytes": c.pack_bytes, "hashed_packs": c.hashed_packs, "hashed_bytes": c.hashed_bytes,
        "read_bytes": c.read_bytes, "frames": c.frames, "chunks": c.chunks, "chunk_bytes": c.chunk_bytes,
        "trees": c.trees, "entries": c.entries, "tree_chunks": c.tree_chunks,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "residue": residue, "residue_count": c.residue_objects, "residue_bytes": c.residue_bytes,
        "requests": requests_json(requests), "seconds": seconds,
    })
}
