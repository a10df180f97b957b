//! `coffer keys test`

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;
use coffer_keys::RootKey;
use serde_json::json;

use super::list::{show, slot_json};
use crate::exit_code::Exit;
use crate::wiring::World;
use crate::{keys, shares};

/// Keys beside the one that opens the vault.
#[derive(Debug, Args)]
pub(crate) struct AlsoArgs {
    /// Also take the slots that this key file fits; may be given several times.
    #[arg(long, value_name = "FILE")]
    also_key_file: Vec<PathBuf>,
    /// Also take the slots that the passphrase in this file fits; may be given several times.
    #[arg(long, value_name = "FILE")]
    also_passphrase_file: Vec<PathBuf>,
    /// Also take the slots that these recovery shares fit; given as often as shares are needed.
    #[arg(long, value_name = "FILE")]
    also_share: Vec<PathBuf>,
}

impl AlsoArgs {
    pub(super) fn read(&self, world: &World) -> Result<Vec<Arc<dyn RootKey>>> {
        let mut roots: Vec<Arc<dyn RootKey>> = Vec::new();
        for path in &self.also_key_file {
            roots.push(Arc::new(keys::key_file(path)?));
        }
        for path in &self.also_passphrase_file {
            roots.push(Arc::new(world.keys.passphrases().of_file(path)?));
        }
        if !self.also_share.is_empty() {
            roots.push(shares::read(&self.also_share, world.output)?);
        }
        Ok(roots)
    }
}

/// What is said of a slot that was not tested.
const UNTESTED: &str = "not tested: no key given for it";

pub(super) fn run(world: &World, also: &AlsoArgs, all: bool, record: bool) -> Result<Exit> {
    let store = world.open_store()?;
    let also = also.read(world)?;
    let (mut vault, mut roots) = world.open_vault_and_keys(&store, record)?;
    roots.extend(also);
    let roots: Vec<&dyn RootKey> = roots.iter().map(AsRef::as_ref).collect();
    let mut slots = vault.test_slots(&roots)?;
    let mut untested_count = 0;
    for status in slots.iter_mut().filter(|status| status.slot.is_some() && status.tested.is_none()) {
        status.answer = Some(UNTESTED.to_owned());
        untested_count += 1;
    }
    if let Some(cache) = world.cache() {
        let good = slots.iter().filter(|status| status.tested == Some(true)).map(|status| status.id);
        // It spoils no test that it cannot be remembered.
        drop(cache.set_tested(&vault.id(), &good.collect::<Vec<_>>(), world.now_s()));
    }
    let recorded = if record {
        let report = json!({"slots": slots.iter().map(slot_json).collect::<Vec<_>>()}).to_string();
        Some(vault.record_evidence("keys test", report.as_bytes())?)
    } else {
        None
    };
    let exit = show(world, &vault, &slots, recorded)?;
    if untested_count == 0 {
        return Ok(exit);
    }
    let told = format!(
        "{untested_count} of {} key slots not tested; give their keys as well (--also-key-file, --also-passphrase-file, --also-share …)",
        slots.len()
    );
    if all {
        world.output.warn(&told);
    } else {
        world.output.note(&told);
    }
    Ok(if all && exit == Exit::Done { Exit::Partial } else { exit })
}
