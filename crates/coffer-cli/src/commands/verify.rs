//! `coffer verify`

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use coffer_crypto::{OsRng, ReaderSecret, VaultKey, rng};
use coffer_engine::{HealOutcome, Healed};
use coffer_format::id::VaultId;
use coffer_format::object::SLOTS_PREFIX;
use coffer_format::slot::SlotPurpose;
use coffer_keys::{KeyError, RootKey, try_slots};
use coffer_pipeline::keyring::UnwrappedKey;
use coffer_store::ObjectStore;
use coffer_verify::{Class, Finding, Options, Report, Subset, read_state, verify, verify_deep};
use serde_json::{Value, json};

use crate::command_error::{ARCHIVED_HINT, Failure};
use crate::exit_code::Exit;
use crate::output::bytes;
use crate::process::thread_count;
use crate::progress::{Progress, Unit};
use crate::stores::Store;
use crate::wiring::World;

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
    /// Repair each store from the others: what is missing is copied, what is damaged is replaced.
    #[arg(long, conflicts_with = "offline")]
    heal: bool,
    /// With --heal: write to buckets without locks, though the vault has a policy that may ask for them and no key opens it.
    #[arg(long, requires = "heal")]
    unlocked: bool,
    /// Ask the buckets until when what kept snapshots need is locked, and check nothing else.
    #[arg(long, conflicts_with_all = ["offline", "deep", "read_subset", "head"])]
    pub(crate) locks: bool,
    /// Fail if a kept snapshot depends on an object that is locked for fewer days than this, or not at all.
    #[arg(long, value_name = "DAYS", requires = "locks")]
    pub(crate) min_days: Option<u32>,
    /// Threads that read and check.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

/// Paths and residue shown for people; JSON has all that the report lists.
const SHOWN_COUNT_MAX: usize = 10;

/// Damage in one object can hide that of others: so often is healed and looked again.
const HEAL_ROUND_COUNT_MAX: usize = 3;

pub(super) fn run(world: &World, args: &VerifyArgs) -> Result<Exit> {
    if args.locks {
        return super::locks::verify(world, args.min_days);
    }
    let store = world.open_store()?;
    // A passphrase is asked for before anything is drawn.
    let root = if args.deep { Some(world.root_key()?) } else { None };
    let mut exits = Vec::new();
    let mut healed_any = false;
    if args.heal {
        if store.replicas.is_alone() {
            let hint = "name a second store of the vault with --store";
            return Err(Failure::usage("--heal takes good copies from another store, and one is given")
                .hint(hint)
                .into());
        }
        world.lock_by_policy(&store, args.unlocked)?;
        if let Some(copied) = store.replicas.heal_home(&world.access(&store))? {
            healed_any = true;
            let value = json!({"message_type": "healed_home", "copy": super::replicate::copy_json(&copied)});
            let text = format!("{}: {} record(s) given back to the home", copied.store, copied.record_count);
            world.output.result(&value, &text)?;
        }
    }
    for at in 0..store.replicas.store_count() {
        if store.replicas.is_unreachable(at) {
            exits.push(Exit::Partial);
            continue;
        }
        let mut verified = verify_one(world, args, &store, at, root.as_deref())?;
        for _ in 0..HEAL_ROUND_COUNT_MAX {
            let is_wrong = |finding: &&Finding| matches!(finding.class, Class::Missing | Class::Corrupt);
            let wrong: Vec<_> = verified
                .report
                .findings
                .iter()
                .filter(is_wrong)
                .map(|finding| finding.object.clone())
                .collect();
            if !args.heal || wrong.is_empty() {
                break;
            }
            let healed = store.replicas.heal(at, &wrong);
            healed.iter().try_for_each(|healed| tell_healed(world, healed))?;
            if !healed.iter().any(|healed| healed.outcome.is_whole()) {
                break;
            }
            healed_any = true;
            verified = verify_one(world, args, &store, at, root.as_deref())?;
        }
        exits.push(verified.tell(world, args, store.replicas.is_alone())?);
    }
    let worst = exits.into_iter().max_by_key(|exit| gravity(*exit)).unwrap_or(Exit::Done);
    // All is well again, but it was not.
    Ok(if worst == Exit::Done && healed_any { Exit::Degraded } else { worst })
}

const fn gravity(exit: Exit) -> u8 {
    match exit {
        Exit::Done => 0,
        Exit::Surplus => 1,
        Exit::Partial => 2,
        Exit::Archived => 3,
        Exit::Missing => 4,
        Exit::Corrupt => 5,
        _ => 6,
    }
}

fn tell_healed(world: &World, healed: &Healed) -> Result<()> {
    let (outcome, detail) = match &healed.outcome {
        HealOutcome::Restored => ("restored", None),
        HealOutcome::Replaced => ("replaced", None),
        HealOutcome::Whole => ("whole", None),
        HealOutcome::NoCopy => ("no_copy", None),
        HealOutcome::Locked(reason) => ("locked", Some(reason)),
        HealOutcome::Failed(reason) => ("failed", Some(reason)),
    };
    let value = json!({
        "message_type": "healed", "store": healed.store, "object": healed.object, "outcome": outcome, "detail": detail,
    });
    let said = match &healed.outcome {
        HealOutcome::Restored => "was missing and is there again".to_owned(),
        HealOutcome::Replaced => "was damaged and is replaced".to_owned(),
        HealOutcome::Whole => "is whole".to_owned(),
        HealOutcome::NoCopy => "cannot be healed: no other store has it whole".to_owned(),
        HealOutcome::Locked(reason) => {
            format!("cannot be replaced, the store does not let it be deleted: {reason}")
        }
        HealOutcome::Failed(reason) => format!("could not be healed: {reason}"),
    };
    Ok(world.output.result(&value, &format!("{}: {} {said}", healed.store, healed.object))?)
}

/// What was found in one store.
struct Verified {
    url: String,
    report: Report,
    expected: Option<VaultId>,
    actual: Option<VaultId>,
    seconds: f64,
}

fn verify_one(
    world: &World,
    args: &VerifyArgs,
    store: &Store,
    at: usize,
    root: Option<&dyn RootKey>,
) -> Result<Verified> {
    let started = Instant::now();
    let objects = store.replicas.store(at);
    let objects: &dyn ObjectStore = &objects;
    let mut options = Options {
        vault_id: world.vault_id,
        head: args.head,
        subset: args.read_subset.unwrap_or(Subset::All),
        seed: rng::array(&OsRng)?,
        threads: thread_count(args.threads),
        ..Options::default()
    };
    if !args.offline
        && let Some(cache) = world.cache()
    {
        // What this machine saw before is as good as what somebody wrote down. A replica may be behind it.
        let remembered = cache.remembered(&store.replicas.source_store().place())?;
        options.vault_id = options.vault_id.or(remembered.map(|(vault, _)| vault));
        let head = remembered.and_then(|(_, head)| head).filter(|_| at == store.replicas.source());
        options.head = options.head.or(head);
    }
    let start = ("log", Unit::Records, None);
    let progress = Progress::start(world.output, "verify", start, store.counter());
    let report = if let Some(root) = root {
        let state = read_state(objects, &options)?;
        let (_, slot, key) =
            try_slots(&state.slots, state.vault_id, root).map_err(|error| no_slot(&state.findings, error))?;
        let epoch = slot.epoch;
        let key = match slot.purpose {
            SlotPurpose::VaultKey => UnwrappedKey::VaultKey(VaultKey::from_secret(key)),
            SlotPurpose::ReaderSecret => UnwrappedKey::Reader(ReaderSecret::from_secret(key)),
        };
        verify_deep(objects, (epoch, key), &options, progress.counters())?
    } else {
        verify(objects, &options, progress.counters())?
    };
    drop(progress);
    let mut actual = None;
    if report.vault_id.is_none()
        && options.vault_id.is_some()
        && let Ok(state) = read_state(objects, &Options { vault_id: None, ..Options::default() })
    {
        // What is there is a vault in itself.
        actual = Some(state.vault_id);
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Verified { url: objects.url(), report, expected: options.vault_id, actual, seconds })
}

/// That no slot opens, unless the key may fit one that is archived.
fn no_slot(findings: &[Finding], error: KeyError) -> anyhow::Error {
    let is_plain = matches!(&error, KeyError::NoSlot { answers, .. } if answers.iter().all(|answer| matches!(answer.error, KeyError::WrongKey { .. })));
    let is_slot =
        |finding: &&Finding| finding.class == Class::Archived && finding.object.starts_with(SLOTS_PREFIX);
    match findings.iter().find(is_slot).filter(|_| is_plain) {
        Some(slot) => {
            let message = format!("{} is archived, and the key fits no other key slot", slot.object);
            Failure::new(Exit::Archived, message).hint(ARCHIVED_HINT).into()
        }
        None => error.into(),
    }
}

impl Verified {
    fn tell(&self, world: &World, args: &VerifyArgs, is_alone: bool) -> Result<Exit> {
        let mut text = to_text(&self.report, args, world.requests_text());
        if !is_alone {
            text = format!("store {}\n{text}", self.url);
        }
        let mut value = to_json(&self.report, self.seconds);
        value["store"] = json!(self.url);
        world.result(value, &text)?;
        if let (Some(expected), Some(actual)) = (self.expected, self.actual) {
            world.output.warn(&format!("the vault here is {actual}, expected was {expected}"));
            return Ok(Exit::Rollback);
        }
        Ok(exit_of(&self.report.findings))
    }
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
    } else if has(Class::Archived) {
        Exit::Archived
    } else if has(Class::Surplus) {
        Exit::Surplus
    } else {
        Exit::Done
    }
}

const ORIGIN_UNPROVED: &str = "self-consistent; origin not proved (give --vault-id)";
const FRESHNESS_UNPROVED: &str =
    "freshness not proved (give --head): an older state of this vault would look the same";

fn to_text(report: &Report, args: &VerifyArgs, requests: String) -> String {
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
    lines.push(requests);
    let origin =
        if report.origin_proved { "origin proved: the vault id is the one given" } else { ORIGIN_UNPROVED };
    let is_rolled_back = report.findings.iter().any(|finding| finding.class == Class::Rollback);
    let fresh = if report.fresh_proved {
        "at least as new as the head given"
    } else if is_rolled_back {
        "not as new as it was: see above"
    } else {
        FRESHNESS_UNPROVED
    };
    lines.push(format!("{origin}\n{fresh}"));
    let archived_count = report.findings.iter().filter(|finding| finding.class == Class::Archived).count();
    if archived_count > 0 {
        lines.push(format!(
            "{archived_count} object(s) are archived and were not read, which says nothing against them; `coffer restore \
             --request-archived` brings back what a snapshot needs"
        ));
    } else if !report.deep {
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

fn to_json(report: &Report, seconds: f64) -> Value {
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
        "seconds": seconds,
    })
}
