//! `coffer locks`, and `coffer verify --locks`

use anyhow::Result;
use clap::{Args, Subcommand};
use coffer_engine::{
    EngineError, ExtendReport, LockPolicy, LockReport, LockView, Needed, Settings, Vault, extend_locks,
    hold_objects, lock_mode_name, look_at_locks, record_locks,
};
use coffer_format::id::SnapshotId;
use coffer_store::{ClockAhead, ObjectStore, Retention, RetentionMode};
use serde_json::{Value, json};

use crate::bucket::Bucket;
use crate::command_error::{Failure, chain};
use crate::exit_code::Exit;
use crate::output::{time, time_utc};
use crate::stores::Store;
use crate::wiring::World;

#[derive(Debug, Subcommand)]
pub(crate) enum LocksCommand {
    /// Prolong the locks of what kept snapshots need, and of nothing else.
    #[command(after_help = "Examples:\n  \
        coffer locks extend --dry-run\n  \
        coffer locks extend --days 30")]
    Extend(ExtendArgs),
    /// Lay a legal hold on what snapshots need.
    #[command(after_help = "Examples:\n  \
        coffer locks hold\n  \
        coffer locks hold latest")]
    Hold(HoldArgs),
    /// Lift the legal hold from what snapshots need.
    #[command(after_help = "Examples:\n  \
        coffer locks release")]
    Release(HoldArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ExtendArgs {
    /// Until so many days from now, in place of what the policy says.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=i64::from(coffer_engine::LOCK_DAYS_MAX)))]
    days: Option<u32>,
    /// Say what would be prolonged, and change nothing.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    /// Snapshots; without one, all that are kept.
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
}

/// Things listed one by one for people.
const SHOWN_COUNT_MAX: usize = 10;
const DAY_S: u64 = 86_400;

pub(super) fn run(world: &World, command: &LocksCommand) -> Result<Exit> {
    match command {
        LocksCommand::Extend(args) => extend(world, args),
        LocksCommand::Hold(args) => hold(world, args, true),
        LocksCommand::Release(args) => hold(world, args, false),
    }
}

/// Which versions of objects are looked at.
fn view(vault: &Vault<'_>, policy: Option<LockPolicy>) -> LockView {
    let has_versions = policy.is_none_or(|policy| policy.mode != RetentionMode::Policy);
    LockView { store_mode: vault.log.header.store_mode, has_versions }
}

fn extend(world: &World, args: &ExtendArgs) -> Result<Exit> {
    let store = world.open_store()?;
    refuse_directories(&store)?;
    let mut vault =
        if args.dry_run { world.open_vault(&store)? } else { world.open_vault_to_write(&store)? };
    let Some(policy) = Settings::read(&vault)?.lock()? else {
        return Err(Failure::new(Exit::Failed, "the vault's policy locks nothing")
            .hint("`coffer policy set --lock MODE --lock-days DAYS` says how objects are locked")
            .into());
    };
    let clocks = clocks_apart(&store);
    if let Some((url, ahead)) = clocks.first().filter(|_| !args.dry_run) {
        let message =
            format!("no lock is set at {url}: {ahead}, and each would end as much too late or too early");
        return Err(Failure::new(Exit::NoAccess, message).hint(CLOCK_HINT).into());
    }
    let days = args.days.unwrap_or(policy.days);
    let until_s = world.now_s() + u64::from(days) * DAY_S;
    let retention = Retention { mode: policy.mode, until_s };
    let needed = Needed::find(&vault, None)?;
    let objects = needed.objects();
    let view = view(&vault, Some(policy));
    let (reports, not_asked) =
        ask_buckets(&store, |bucket| extend_locks(bucket, &objects, &retention, view, args.dry_run))?;
    let is_whole = needed.unreadable.is_empty()
        && not_asked.is_empty()
        && reports.iter().all(|(_, report)| report.errors.is_empty());
    let extended: u64 = reports.iter().map(|(_, report)| report.extended_count).sum();
    let head = if !args.dry_run && is_whole && extended > 0 {
        let head = record_locks(&mut vault, until_s, objects.len() as u64)?;
        store.replicas.finish();
        Some(head.to_string())
    } else {
        None
    };
    warn_of_clocks(world, &clocks);
    let errors = &needed.unreadable;
    let value = json!({
        "message_type": "summary", "command": "locks extend", "dry_run": args.dry_run, "mode": lock_mode_name(policy.mode),
        "until": time_utc(ns(until_s)), "head": head, "unreadable": errors,
        "not_asked": not_asked_json(&not_asked), "widened": ids_json(&needed.widened),
        "stores": reports.iter().map(|(url, report)| json!({
            "store": url, "objects": report.object_count, "extended": report.extended_count, "first": report.first_count,
            "firmer": report.firmer_count, "unchanged": report.unchanged_count,
            "errors": report.errors.iter().map(|(object, message)| json!({"object": object, "message": message})).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    });
    let mut lines = Vec::new();
    for (url, report) in &reports {
        lines.push(extend_text(url, report, args.dry_run, until_s));
        if report.firmer_count > 0 {
            let would = if args.dry_run { "would be" } else { "are now" };
            let mode = lock_mode_name(policy.mode);
            lines.push(format!(
                "{url}: {} object(s) {would} under {mode}, as the policy says, and not under governance any more",
                report.firmer_count
            ));
        }
        report.errors.iter().for_each(|(object, message)| world.output.warn(&format!("{object}: {message}")));
    }
    errors.iter().for_each(|message| world.output.warn(message));
    lines.extend(not_asked.iter().map(|(url, reason)| format!("{url}: NOT asked: {reason}")));
    lines.extend(widened_text(&needed));
    lines.push(world.requests_text());
    lines.extend(head.map(|head| format!("head {head}")));
    world.summary(value, &lines.join("\n"))?;
    Ok(if is_whole { Exit::Done } else { Exit::Partial })
}

fn extend_text(url: &str, report: &ExtendReport, is_dry: bool, until_s: u64) -> String {
    let would = if is_dry { "would be " } else { "" };
    format!(
        "{url}: of {} object(s) that kept snapshots need, {} {would}locked until {} ({} for the first time), {} are locked longer; {} failed",
        report.object_count,
        report.extended_count,
        time(ns(until_s)),
        report.first_count,
        report.unchanged_count,
        report.errors.len(),
    )
}

fn hold(world: &World, args: &HoldArgs, is_held: bool) -> Result<Exit> {
    let store = world.open_store()?;
    refuse_directories(&store)?;
    let vault = world.open_vault(&store)?;
    let chosen: Vec<SnapshotId> =
        args.snapshots.iter().map(|text| Ok(vault.select(text)?.id())).collect::<Result<_>>()?;
    let mut needed = Needed::find(&vault, (!chosen.is_empty()).then_some(&chosen[..]))?;
    let all_count = needed.objects().len();
    let objects =
        if is_held || chosen.is_empty() { needed.objects() } else { needed.only_for(&vault, &chosen)? };
    let view = view(&vault, Settings::read(&vault)?.lock()?);
    let (failed, not_asked) = ask_buckets(&store, |bucket| hold_objects(bucket, &objects, view, is_held))?;
    let failed: Vec<_> = failed.into_iter().flat_map(|(_, failed)| failed).collect();
    let mut value = if is_held {
        json!({"message_type": "summary", "command": "locks hold"})
    } else {
        json!({"message_type": "summary", "command": "locks release"})
    };
    let error = |(object, message): &(String, String)| json!({"object": object, "message": message});
    value["objects"] = json!(objects.len());
    value["errors"] = failed.iter().map(error).collect();
    value["unreadable"] = json!(needed.unreadable);
    value["not_asked"] = not_asked_json(&not_asked);
    value["widened"] = ids_json(&needed.widened);
    failed.iter().for_each(|(object, message)| world.output.warn(&format!("{object}: {message}")));
    needed.unreadable.iter().for_each(|message| world.output.warn(message));
    let done = if is_held { "under a legal hold" } else { "without coffer's legal hold" };
    let mut lines = vec![format!(
        "{} object(s) of {} snapshot(s) are {done}",
        objects.len() - failed.len().min(objects.len()),
        needed.packs.len(),
    )];
    if objects.len() < all_count {
        lines.push(format!(
            "{} object(s) stay as they are, which other snapshots need or the vault itself; `coffer locks release` without a name lifts all",
            all_count - objects.len()
        ));
    }
    lines.extend(not_asked.iter().map(|(url, reason)| format!("{url}: NOT asked: {reason}")));
    lines.extend(widened_text(&needed));
    lines.push(world.requests_text());
    world.summary(value, &lines.join("\n"))?;
    let is_whole = failed.is_empty() && needed.unreadable.is_empty() && not_asked.is_empty();
    Ok(if is_whole { Exit::Done } else { Exit::Partial })
}

/// The buckets that were not asked, and why.
type NotAsked = Vec<(String, String)>;

/// Asks each bucket that is named. One of several that does not answer, or does not let itself be asked, is told apart.
fn ask_buckets<T>(
    store: &Store,
    mut ask: impl FnMut(&dyn ObjectStore) -> Result<T, EngineError>,
) -> Result<(Vec<(String, T)>, NotAsked)> {
    let mut not_asked = store.unreached_buckets();
    let mut answers = Vec::new();
    for bucket in store.reached_buckets() {
        let objects = bucket.store();
        match ask(&*objects) {
            Ok(answer) => answers.push((objects.url(), answer)),
            Err(EngineError::Store(error)) if !store.replicas.is_alone() => {
                not_asked.push((objects.url(), chain(&error)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((answers, not_asked))
}

fn not_asked_json(not_asked: &NotAsked) -> Value {
    not_asked.iter().map(|(url, reason)| json!({"store": url, "reason": reason})).collect()
}

fn ids_json(ids: &[SnapshotId]) -> Value {
    ids.iter().map(ToString::to_string).collect()
}

/// What there is to know where trees are archived.
fn widened_text(needed: &Needed) -> Option<String> {
    (!needed.widened.is_empty()).then(|| {
        format!(
            "the trees of {} snapshot(s) are archived, so that all packs that the index lists are taken for needed",
            needed.widened.len()
        )
    })
}

/// What to do where the clocks are apart.
const CLOCK_HINT: &str = "set the clock of this machine, best by a time service, and run the command again";

/// Buckets whose clock is too far from that of this machine, by which locks are reckoned.
fn clocks_apart(store: &Store) -> Vec<(String, ClockAhead)> {
    let apart = |bucket: &Bucket| {
        let ahead = bucket.plain().cloud()?.clock_ahead().filter(|ahead| ahead.is_too_far())?;
        Some((bucket.plain().url(), ahead))
    };
    store.reached_buckets().filter_map(apart).collect()
}

fn warn_of_clocks(world: &World, clocks: &[(String, ClockAhead)]) {
    for (url, ahead) in clocks {
        world.output.warn(&format!(
            "{url}: {ahead}: how long locks last is reckoned by the clock of this machine, and is as wrong as that is"
        ));
    }
}

fn refuse_directories(store: &Store) -> Result<()> {
    if store.buckets().next().is_some() || !store.unreached_buckets().is_empty() {
        return Ok(());
    }
    let hint = "only object storage locks objects: s3://BUCKET/PREFIX or cos://LOCATION/BUCKET/PREFIX";
    Err(Failure::usage("a directory has no locks").hint(hint).into())
}

/// `coffer verify --locks`
pub(super) fn verify(world: &World, min_days: Option<u32>) -> Result<Exit> {
    let store = world.open_store()?;
    refuse_directories(&store)?;
    let vault = world.open_vault(&store)?;
    let needed = Needed::find(&vault, None)?;
    let policy = Settings::read(&vault)?.lock()?;
    let wanted = policy.map(|policy| policy.mode);
    let now_s = world.now_s();
    let floor_s = now_s + u64::from(min_days.unwrap_or(0)) * DAY_S;
    let view = view(&vault, policy);
    let (reports, not_asked): (Vec<(String, LockReport)>, _) =
        ask_buckets(&store, |bucket| look_at_locks(bucket, &needed, view, wanted))?;
    let is_short = |until_s: Option<u64>| until_s.is_none_or(|until_s| until_s < floor_s);
    let mut lines = Vec::new();
    let mut short_count = 0_u64;
    for (url, report) in &reports {
        lines.push(format!(
            "{url}: {} object(s) that kept snapshots need, {} of them not locked",
            report.object_count, report.unlocked_count
        ));
        if let (Some(first), Some(wanted)) = (&report.first_weaker, wanted) {
            lines.push(format!(
                "{url}: {} object(s) are under governance, and the policy says {}: {first} is the first; `coffer locks extend` \
                 locks them so",
                report.weaker_count,
                lock_mode_name(wanted)
            ));
        }
        for (at, (snapshot, expiry)) in report.snapshots.iter().enumerate() {
            short_count += u64::from(is_short(expiry.until_s));
            let until = expiry.until_s.map_or_else(
                || "not locked".to_owned(),
                |until_s| {
                    let days = until_s.saturating_sub(now_s) / DAY_S;
                    format!("locked until {} ({days} day(s))", time(ns(until_s)))
                },
            );
            if at < SHOWN_COUNT_MAX || world.output.verbose {
                lines.push(format!("snapshot {}: {until}, by {}", snapshot.short(), expiry.object));
            }
        }
        if report.snapshots.len() > SHOWN_COUNT_MAX && !world.output.verbose {
            lines.push(format!(
                "and {} more snapshot(s); --verbose shows them",
                report.snapshots.len() - SHOWN_COUNT_MAX
            ));
        }
        report.unreadable.iter().for_each(|message| world.output.warn(message));
    }
    lines.extend(not_asked.iter().map(|(url, reason)| format!("{url}: NOT looked at: {reason}")));
    lines.extend(widened_text(&needed));
    lines.push(world.requests_text());
    warn_of_clocks(world, &clocks_apart(&store));
    let is_unreadable = reports.iter().any(|(_, report)| !report.unreadable.is_empty());
    let is_unknown = is_unreadable || !not_asked.is_empty();
    let weaker_count: u64 = reports.iter().map(|(_, report)| report.weaker_count).sum();
    let is_failed = min_days.is_some() && (short_count > 0 || weaker_count > 0 || is_unknown);
    if let Some(days) = min_days {
        lines.push(if is_failed && short_count == 0 && weaker_count > 0 {
            format!("{weaker_count} object(s) are locked less firmly than the policy says; `coffer locks extend` makes it so")
        } else if is_failed && short_count == 0 && is_unknown {
            format!("whether everything that kept snapshots need is locked for {days} day(s) more is not known")
        } else if is_failed {
            format!("{short_count} snapshot(s) depend on an object that is not locked for {days} day(s) more; `coffer locks extend` prolongs")
        } else {
            format!("everything that kept snapshots need is locked for {days} day(s) more")
        });
    }
    let value = json!({
        "message_type": "summary", "command": "verify --locks", "min_days": min_days, "short": short_count,
        "not_asked": not_asked_json(&not_asked), "widened": ids_json(&needed.widened),
        "stores": reports.iter().map(|(url, report)| json!({
            "store": url, "objects": report.object_count, "unlocked": report.unlocked_count, "weaker": report.weaker_count,
            "unreadable": report.unreadable,
            "snapshots": report.snapshots.iter().map(|(id, expiry)| json!({
                "snapshot_id": id.to_string(), "until": expiry.until_s.map(|until_s| time_utc(ns(until_s))),
                "object": expiry.object,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    });
    world.result(value, &lines.join("\n"))?;
    Ok(match (is_failed, is_unknown) {
        (true, _) => Exit::LocksExpire,
        (false, true) => Exit::Partial,
        (false, false) => Exit::Done,
    })
}

fn ns(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000_000)
}
