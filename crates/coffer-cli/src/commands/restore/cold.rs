//! Restoring from an archive class: asking for exactly the packs that are needed, and waiting or coming back later.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use coffer_engine::{ColdState, EngineError, Needs, RestoreOptions, Snapshot, Vault, estimate_restore};
use coffer_store::{ObjectStore, RestoreTier};
use serde_json::json;

use crate::command_error::{Failure, chain};
use crate::exit_code::Exit;
use crate::output::{bytes, time, time_utc};
use crate::prices::PriceArgs;
use crate::stores::Store;
use crate::wiring::World;

/// Where a store contradicts itself.
const CONTESTED_HINT: &str = "if it is so again, ask whoever runs the store how it keeps the object, or restore from another store of the vault";

#[derive(Debug, Clone, Args)]
pub(super) struct ColdArgs {
    /// Ask for the archived packs that this restore needs, and come back later unless --wait is given.
    #[arg(long)]
    request_archived: bool,
    /// How fast they are wanted; stores charge for haste.
    #[arg(long, value_enum, value_name = "TIER", default_value_t = Tier::Bulk, requires = "request_archived")]
    tier: Tier,
    /// For how many days the copies stay readable.
    #[arg(long, value_name = "DAYS", default_value_t = 7, requires = "request_archived",
        value_parser = clap::value_parser!(u32).range(1..=365))]
    days: u32,
    /// Wait until they are there, and go on restoring.
    #[arg(long, requires = "request_archived")]
    wait: bool,
    /// Seconds between two looks while waiting.
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "wait",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    poll: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// Cheapest: half a day or more.
    Bulk,
    /// Within hours, where the store has that.
    Standard,
    /// Fastest.
    Expedited,
}

impl Tier {
    const fn of_store(self) -> RestoreTier {
        match self {
            Self::Bulk => RestoreTier::Bulk,
            Self::Standard => RestoreTier::Standard,
            Self::Expedited => RestoreTier::Expedited,
        }
    }

    /// When it is worth looking again.
    const fn told(self) -> &'static str {
        match self {
            Self::Bulk => "in about 12 hours, on some stores in 48",
            Self::Standard => "in about 5 hours, on Cloud Object Storage in 12",
            Self::Expedited => "in about 5 minutes, on Cloud Object Storage in 2 hours",
        }
    }
}

impl ColdArgs {
    pub(super) const fn is_wanted(&self) -> bool {
        self.request_archived
    }
}

/// Asks for what is archived. `None` when everything that is needed can be read; else how the command ends.
///
/// Where the tree of the snapshot is archived itself, what lies below is known only once it is back: then it takes several
/// rounds.
pub(super) fn bring_back(
    world: &World,
    args: &ColdArgs,
    store: &Store,
    vault: &Vault<'_>,
    snapshot: &Snapshot,
    options: &RestoreOptions,
) -> Result<Option<Exit>> {
    let stores = stores(store)?;
    request_slots(world, args, &stores, vault);
    let mut contested = BTreeSet::new();
    loop {
        let needs = needs_of(world, vault, snapshot, options)?;
        let state = ColdState::look(&stores, &needs)?;
        if state.is_ready() {
            let Some(name) = needs.archived else { return Ok(None) };
            // It may have come back between the read and the question. Nothing can be asked for that is not archived.
            if !contested.insert(name.clone()) {
                let message = format!(
                    "{name} cannot be read: the store says that it is archived, and where it is asked how it keeps it, that it is not"
                );
                return Err(Failure::new(Exit::Failed, message).hint(CONTESTED_HINT).into());
            }
            continue;
        }
        state.request(&stores, args.days, args.tier.of_store())?;
        let partial = if needs.is_partial { "; more will be needed once these are back" } else { "" };
        let text = format!("{}{partial}", told(&state, "object(s)"));
        if !args.wait {
            return come_back(world, args, Some(snapshot), &state, needs.is_partial, &text).map(Some);
        }
        world.output.note(&format!("{text}; waiting"));
        wait(world, store, args.poll)?;
    }
}

/// Asks for key slots that are archived beside the one that opened the vault. Nothing waits for them: they are for the next who has another
/// key.
fn request_slots(world: &World, args: &ColdArgs, stores: &[Arc<dyn ObjectStore>], vault: &Vault<'_>) {
    let state = ColdState::look_at_slots(stores, &vault.state().slots);
    let count = state.archived.len();
    if count == 0 {
        return;
    }
    match state.request(stores, args.days, args.tier.of_store()) {
        Ok(()) => world.output.note(&format!(
            "{count} archived key slot(s) were asked for as well; this restore does not wait for them"
        )),
        Err(error) => {
            world.output.warn(&format!("archived key slots could not be asked for: {}", chain(&error)));
        }
    }
}

/// Asks for what the vault is opened with, as `refusal` says that a part of it is archived: header, log, key slots and index segments.
/// `None` when all of it can be read; else how the command ends.
pub(super) fn bring_back_opening(
    world: &World,
    args: &ColdArgs,
    store: &Store,
    refusal: anyhow::Error,
) -> Result<Option<Exit>> {
    let stores = stores(store)?;
    let mut refusal = Some(refusal);
    loop {
        let state = ColdState::look_at_all_but_packs(&stores)?;
        if state.is_ready() {
            let Some(refusal) = refusal else { return Ok(None) };
            // It was ready from the start: this is not what was in the way, or it has come back by now.
            let message = format!(
                "{refusal:#}; but the store says of all that a vault is opened with that it can be read"
            );
            return Err(Failure::new(Exit::Failed, message).hint(CONTESTED_HINT).into());
        }
        refusal = None;
        state.request(&stores, args.days, args.tier.of_store())?;
        let text = format!(
            "{}; the packs will be needed once the vault opens",
            told(&state, "object(s) that the vault is opened with")
        );
        if !args.wait {
            return come_back(world, args, None, &state, true, &text).map(Some);
        }
        world.output.note(&format!("{text}; waiting"));
        wait(world, store, args.poll)?;
    }
}

fn told(state: &ColdState, what: &str) -> String {
    format!(
        "{} archived {what}, {}, were asked for; {} are on their way, {} can be read",
        state.archived.len(),
        bytes(state.archived_bytes),
        state.coming_count,
        state.ready_count
    )
}

/// Says what was asked for, and when to come back.
fn come_back(
    world: &World,
    args: &ColdArgs,
    snapshot: Option<&Snapshot>,
    state: &ColdState,
    is_partial: bool,
    text: &str,
) -> Result<Exit> {
    let value = json!({
        "message_type": "summary", "command": "restore --request-archived",
        "snapshot_id": snapshot.map(|snapshot| snapshot.id().to_string()),
        "requested": state.archived.len(), "requested_bytes": state.archived_bytes, "coming": state.coming_count,
        "ready": state.ready_count, "ready_until": state.ready_until_s.map(|until_s| time_utc(ns(until_s))),
        "more_to_come": is_partial,
    });
    let until = state.ready_until_s.map(|until_s| format!("\nthe first copy goes at {}", time(ns(until_s))));
    let text = format!(
        "{text}{}\nnothing was restored yet: run the same command again {}\n{}",
        until.unwrap_or_default(),
        args.tier.told(),
        world.requests_text()
    );
    world.summary(value, &text)?;
    Ok(Exit::Archived)
}

fn wait(world: &World, store: &Store, seconds: u64) -> Result<()> {
    for _ in 0..seconds {
        if world.access(store).interrupt.load(Ordering::Relaxed) {
            return Err(EngineError::Interrupted.into());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

/// `coffer restore --estimate`
pub(super) fn estimate(
    world: &World,
    prices: &PriceArgs,
    store: &Store,
    vault: &Vault<'_>,
    snapshot: &Snapshot,
    options: &RestoreOptions,
) -> Result<Exit> {
    let row = prices.row()?;
    let needs = needs_of(world, vault, snapshot, options)?;
    let asked = store.requests();
    let archived = match stores(store) {
        Ok(stores) => {
            let state = ColdState::look(&stores, &needs)?;
            (state.archived.len() as u64, state.archived_bytes)
        }
        Err(_) => (0, 0),
    };
    if needs.is_partial {
        world.output.warn("a part of the snapshot's tree is archived: more would be needed than is known");
    }
    let estimate = estimate_restore(&asked, &needs, archived);
    world.output.result(&row.json("restore", &estimate), &row.text(&estimate))?;
    Ok(Exit::Done)
}

fn needs_of(
    world: &World,
    vault: &Vault<'_>,
    snapshot: &Snapshot,
    options: &RestoreOptions,
) -> Result<Needs> {
    let mut needs = Needs::default();
    needs.add(vault, snapshot, options)?;
    needs.unreadable.iter().for_each(|message| world.output.warn(message));
    Ok(needs)
}

/// Whether something that a restore needs is archived; asked once it has failed.
pub(super) fn is_archived(
    store: &Store,
    vault: &Vault<'_>,
    snapshot: &Snapshot,
    options: &RestoreOptions,
) -> bool {
    let Ok(stores) = stores(store) else { return false };
    let mut needs = Needs::default();
    needs.add(vault, snapshot, options).is_ok()
        && (needs.is_partial || ColdState::look(&stores, &needs).is_ok_and(|state| !state.is_ready()))
}

/// The stores that are reached, in the order in which they are given; one of them at least is a bucket, as only those have an archive.
fn stores(store: &Store) -> Result<Vec<Arc<dyn ObjectStore>>> {
    if store.buckets().next().is_none() {
        let hint = "what is in a directory is read as it is";
        return Err(Failure::usage("only a bucket has archived objects").hint(hint).into());
    }
    let reached = (0..store.replicas.store_count()).filter(|at| !store.replicas.is_unreachable(*at));
    Ok(reached.map(|at| store.replicas.store(at)).collect())
}

fn ns(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000_000)
}
