//! Whether a store can be what it is about to become: a replica of a vault, or the home of its log.
//!
//! It is tried before anything of the vault is written there, as `init` does. A home must do what the vault's header says that its
//! writers rely on; a replica may do less, which is said aloud, as it can never be the home then.

use anyhow::Result;
use coffer_crypto::{OsRng, rng};
use coffer_engine::{LockPolicy, lock_mode_name};
use coffer_format::header::StoreMode;
use coffer_store::{BucketFacts, Fact, ObjectStore, ProbeReport, RetentionMode, StoreError, Support, probe};
use serde_json::{Value, json};

use crate::bucket::{support_of, told};
use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::stores::Store;
use crate::wiring::World;

/// What a vault in this mode needs of one of its stores. A directory creates each name once, and needs no versions for it.
pub(crate) fn needed(store: &dyn ObjectStore, mode: StoreMode) -> Support {
    match support_of(mode) {
        Support::OldestVersion if store.cloud().is_none() => Support::ConditionalCreate,
        support => support,
    }
}

/// Refuses a store that cannot be the home of the log.
pub(crate) fn check_home(world: &World, store: &Store, at: usize, mode: StoreMode) -> Result<()> {
    let Some(plain) = store.plain().nth(at) else { return Ok(()) };
    let needed = needed(plain, mode);
    let report = tried(world, plain, needed)?;
    if report.is_enough_for(needed) {
        if needed == Support::SingleWriter {
            world.output.warn(&format!("{}: {}", plain.url(), told(needed)));
        }
        return Ok(());
    }
    let message = format!(
        "{} cannot be the home of this vault's log: {}; the writers of this vault rely on more: {}{}",
        plain.url(),
        told(report.support()),
        told(needed),
        failures(&report, needed)
    );
    let hint = "choose a store that does as much as the first one did when the vault was made; `coffer doctor` tries them";
    Err(Failure::new(Exit::Failed, message).hint(hint).into())
}

/// Refuses a store that cannot be a replica, and says what follows where it cannot be more than that.
pub(crate) fn check_replica(world: &World, store: &Store, at: usize, mode: StoreMode) -> Result<()> {
    let Some(plain) = store.plain().nth(at) else { return Ok(()) };
    let needed = needed(plain, mode);
    let report = tried(world, plain, needed)?;
    if report.is_enough_for(needed) {
        world.output.note(&format!("{}: {}", plain.url(), told(report.support())));
        return Ok(());
    }
    // In such a vault a bucket is written to by versions, and in no other way.
    let needs_versions = needed == Support::OldestVersion;
    if needs_versions || !report.is_enough_for(Support::SingleWriter) {
        let what = if needs_versions { ": the oldest version of a name counts in this vault" } else { "" };
        let message =
            format!("{} cannot be a replica of this vault{what}{}", plain.url(), failures(&report, needed));
        let hint =
            if needs_versions { "turn on versions there, or use another store" } else { "use another store" };
        return Err(Failure::new(Exit::Failed, message).hint(hint).into());
    }
    world.output.warn(&format!(
        "{} can be a replica of this vault, never the home of its log: {}",
        plain.url(),
        told(report.support())
    ));
    Ok(())
}

/// What a probe found of a bucket, and what follows from it.
pub(crate) fn facts_json(url: &str, report: &ProbeReport) -> Vec<Value> {
    let fact = |fact: &coffer_store::ProbeFact| json!({"store": url, "name": fact.name, "found": fact.found, "consequence": fact.consequence});
    report.facts.iter().map(fact).collect()
}

/// Says whether uploads to a bucket bring checksums, and why.
pub(crate) fn say_checksums(world: &World, url: &str, report: &ProbeReport) {
    if let Some(fact) = report.facts.iter().find(|fact| fact.name == "checksums") {
        world.output.note(&format!("{url}: checksums {}: {}", fact.found, fact.consequence));
    }
}

/// Tries a store that must do what `needed` says. That it cannot be tried is an error of its own, and no word on what it does.
pub(crate) fn tried(world: &World, plain: &dyn ObjectStore, needed: Support) -> Result<ProbeReport> {
    let mut report = probe(plain, &rng::array(&OsRng)?);
    if !report.leftovers.is_empty() {
        let count = report.leftovers.len();
        world.output.note(&format!("{count} probe object(s) could not be deleted from {}", plain.url()));
    }
    if report.is_broken_for(needed) {
        return Ok(report);
    }
    if let Some(error) = report.untried.take() {
        let context = format!("what {} does cannot be tried", plain.url());
        return Err(anyhow::Error::new(error).context(context));
    }
    let unknown = unknown_versions(&plain.url(), &report).filter(|_| needed == Support::OldestVersion);
    unknown.map_or(Ok(report), |unknown| Err(unknown.into()))
}

/// That the store does not say whether it keeps versions, for who needs to know.
pub(crate) fn unknown_versions(url: &str, report: &ProbeReport) -> Option<Failure> {
    let Fact::Unknown(reason) = report.versioning()? else { return None };
    let message = format!("whether {url} keeps versions is not known: {reason}");
    let hint = "two writers need them where objects are not created exclusively; give credentials that may see what the bucket is set to, or \
                make the vault with --single-writer and let only one machine write, one command at a time";
    Some(Failure::new(Exit::Failed, message).hint(hint))
}

/// Refuses a lock that one of the buckets cannot give: whatever is written there from then on would be refused.
pub(crate) fn check_lock(world: &World, store: &Store, policy: LockPolicy) -> Result<()> {
    for (url, facts) in bucket_facts(store) {
        let mode = lock_mode_name(policy.mode);
        match obstacle(policy, &facts?) {
            Fact::Known(None) => {}
            Fact::Known(Some(obstacle)) => {
                let message =
                    format!("{url} cannot lock objects by {mode} for {} day(s): {obstacle}", policy.days);
                let hint = match policy.mode {
                    RetentionMode::Policy => {
                        "set a retention policy on the bucket that allows it, or choose another --lock; `coffer doctor` says what each bucket has"
                    }
                    _ => {
                        "turn on object lock for the bucket, or choose another --lock; `coffer doctor` says what each bucket has"
                    }
                };
                return Err(Failure::new(Exit::Failed, message).hint(hint).into());
            }
            Fact::Unknown(reason) => world.output.warn(&format!(
                "whether {url} can lock objects by {mode} is not known ({reason}); if it cannot, it refuses what is written from now on"
            )),
        }
    }
    Ok(())
}

/// Whether every bucket says that it can lock objects so.
pub(crate) fn can_lock(store: &Store, policy: LockPolicy) -> bool {
    bucket_facts(store)
        .all(|(_, facts)| facts.is_ok_and(|facts| obstacle(policy, &facts) == Fact::Known(None)))
}

fn bucket_facts(store: &Store) -> impl Iterator<Item = (String, Result<BucketFacts, StoreError>)> {
    store.buckets().filter_map(|bucket| {
        let plain = bucket.plain();
        Some((plain.url(), plain.cloud()?.bucket_facts()))
    })
}

/// What in a bucket stands against such a lock, if anything does.
fn obstacle(policy: LockPolicy, facts: &BucketFacts) -> Fact<Option<String>> {
    let none = |what: &str| Fact::Known(Some(what.to_owned()));
    match (policy.mode, &facts.protection, &facts.object_lock) {
        (RetentionMode::Policy, Fact::Unknown(reason), _)
        | (RetentionMode::Governance | RetentionMode::Compliance, _, Fact::Unknown(reason)) => {
            Fact::Unknown(reason.clone())
        }
        (RetentionMode::Policy, Fact::Known(None), _) => none("it has no retention policy"),
        (RetentionMode::Policy, Fact::Known(Some(own)), _)
            if policy.days <= own.minimum_days || policy.days > own.maximum_days =>
        {
            // A lock counts from before it is asked for: one of the minimum would come a moment too short.
            let (first, last) = (own.minimum_days.saturating_add(1), own.maximum_days);
            Fact::Known(Some(format!("its retention policy takes {first} to {last} day(s)")))
        }
        (RetentionMode::Governance | RetentionMode::Compliance, _, Fact::Known(None)) => {
            none("it has no object lock")
        }
        (_, _, Fact::Known(_)) | (RetentionMode::Policy, Fact::Known(_), _) => Fact::Known(None),
    }
}

/// What went wrong, as far as it matters.
fn failures(report: &ProbeReport, needed: Support) -> String {
    if report.is_enough_for(needed) {
        return String::new();
    }
    let failed: Vec<_> = report.broken().map(|check| format!("{}: {}", check.name, check.detail)).collect();
    if failed.is_empty() { String::new() } else { format!(" ({})", failed.join("; ")) }
}
