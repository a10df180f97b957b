//! `coffer policy`

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use coffer_engine::{LOCK_DAYS, LOCK_DAYS_MAX, LOCK_MODE, LockPolicy, Settings};
use coffer_store::RetentionMode;
use serde_json::{Value, json};

use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::fitness;
use crate::stores::Store;
use crate::wiring::World;

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Show the owner's settings.
    #[command(after_help = "Examples:\n  \
        coffer policy show")]
    Show,
    /// Change the owner's settings.
    #[command(after_help = "Examples:\n  \
        coffer policy set --lock compliance --lock-days 30\n  \
        coffer policy set --lock none")]
    Set(LockArgs),
}

/// How new objects are locked.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LockArgs {
    /// How each new object is locked.
    #[arg(long = "lock", value_enum, value_name = "MODE")]
    pub(crate) lock: Option<LockName>,
    /// For how many days.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=i64::from(LOCK_DAYS_MAX)))]
    pub(crate) lock_days: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LockName {
    /// Not at all.
    None,
    /// Object lock that those with a special right may shorten.
    Governance,
    /// Object lock that nobody may shorten.
    Compliance,
    /// Retention policy of the bucket, on Cloud Object Storage.
    Policy,
}

impl LockArgs {
    /// The policy of a new vault.
    pub(crate) fn policy(&self) -> Result<Option<LockPolicy>> {
        let mode = match (self.lock, self.lock_days) {
            (None | Some(LockName::None), None) => return Ok(None),
            (None | Some(LockName::None), Some(_)) => {
                return Err(
                    Failure::usage("--lock-days needs --lock governance, compliance or policy").into()
                );
            }
            (Some(_), None) => return Err(Failure::usage("--lock needs --lock-days DAYS").into()),
            (Some(LockName::Governance), _) => RetentionMode::Governance,
            (Some(LockName::Compliance), _) => RetentionMode::Compliance,
            (Some(LockName::Policy), _) => RetentionMode::Policy,
        };
        Ok(self.lock_days.map(|days| LockPolicy { mode, days }))
    }

    pub(crate) fn changes(&self) -> Vec<(String, Option<String>)> {
        let mode = self.lock.map(|lock| match lock {
            LockName::None => "none",
            LockName::Governance => "governance",
            LockName::Compliance => "compliance",
            LockName::Policy => "policy",
        });
        let mode = mode.map(|mode| (LOCK_MODE.to_owned(), Some(mode.to_owned())));
        let days = self.lock_days.map(|days| (LOCK_DAYS.to_owned(), Some(days.to_string())));
        mode.into_iter().chain(days).collect()
    }
}

pub(super) fn run(world: &World, command: &PolicyCommand) -> Result<Exit> {
    match command {
        PolicyCommand::Show => {
            let store = world.open_store()?;
            let vault = world.open_vault(&store)?;
            show(world, &Settings::read(&vault)?, None)
        }
        PolicyCommand::Set(args) => {
            let changes = args.changes();
            if changes.is_empty() {
                return Err(Failure::usage("nothing is to be set")
                    .hint("give --lock MODE, --lock-days DAYS")
                    .into());
            }
            let store = world.open_store()?;
            let mut vault = world.open_vault_to_write_unlocked(&store)?;
            if let Some(lock) = lock_of_change(world, &store, &Settings::read(&vault)?, &changes)? {
                store.buckets().for_each(|bucket| bucket.retain(lock));
            }
            let (settings, head) = Settings::change(&mut vault, &changes)?;
            store.replicas.finish();
            show(world, &settings, Some(head.to_string()))
        }
    }
}

/// The lock under which a change of the settings is written: the new one, which every bucket must be able to give; or, when it
/// ends, the old one, if that is a lock that the buckets give.
fn lock_of_change(
    world: &World,
    store: &Store,
    settings: &Settings,
    changes: &[(String, Option<String>)],
) -> Result<Option<LockPolicy>> {
    // Settings that mean nothing are there to be changed.
    let old = settings.lock().ok().flatten();
    let new = settings.clone().with(changes).lock()?;
    if let Some(new) = new {
        fitness::check_lock(world, store, new)?;
    }
    Ok(new.or(old.filter(|old| fitness::can_lock(store, *old))))
}

fn show(world: &World, settings: &Settings, head: Option<String>) -> Result<Exit> {
    let values: serde_json::Map<String, Value> =
        settings.values.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    let value = json!({"message_type": "policy", "settings": values, "head": head});
    let mut lines: Vec<_> = settings.values.iter().map(|(name, value)| format!("{name} {value}")).collect();
    if lines.is_empty() {
        lines.push("no settings: new objects are not locked".to_owned());
    }
    lines.extend(head.map(|head| format!("head {head}")));
    world.result(value, &lines.join("\n"))?;
    Ok(Exit::Done)
}
