//! Whether a store can be what it is about to become: a replica of a vault, or the home of its log.
//!
//! It is tried before anything of the vault is written there, as `init` does. A home must do what the vault's header says that its
//! writers rely on; a replica may do less, which is said aloud, as it can never be the home then.

use anyhow::Result;
use coffer_crypto::{OsRng, rng};
use coffer_format::header::StoreMode;
use coffer_store::{ObjectStore, ProbeReport, Support, probe};

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
    let report = tried(world, plain)?;
    let needed = needed(plain, mode);
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
    let report = tried(world, plain)?;
    let needed = needed(plain, mode);
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

fn tried(world: &World, plain: &dyn ObjectStore) -> Result<ProbeReport> {
    let report = probe(plain, &rng::array(&OsRng)?);
    if !report.leftovers.is_empty() {
        let count = report.leftovers.len();
        world.output.note(&format!("{count} probe object(s) could not be deleted from {}", plain.url()));
    }
    Ok(report)
}

/// What went wrong, as far as it matters.
fn failures(report: &ProbeReport, needed: Support) -> String {
    if report.is_enough_for(needed) {
        return String::new();
    }
    let failed = report.checks.iter().filter(|check| !check.is_passed);
    let failed: Vec<_> = failed.map(|check| format!("{}: {}", check.name, check.detail)).collect();
    if failed.is_empty() { String::new() } else { format!(" ({})", failed.join("; ")) }
}
