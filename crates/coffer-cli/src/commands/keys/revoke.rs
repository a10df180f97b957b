//! `coffer keys revoke` and `coffer keys passwd`: slots that go.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use coffer_keys::RootKey;
use serde_json::json;

use super::test::AlsoArgs;
use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::process;
use crate::wiring::World;

pub(super) const REVOKED: &str = "whoever has an old copy of this slot and its secret can still open the vault; `coffer keys rotate` gives the vault a new key, with \
     which what comes from then on stays closed to them. Where the slot has a root key, disable that once no current slot names it (`coffer keys list`): \
     others may be under the same one";

#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// Beginning of the slot's id, from "keys list": 4 digits or more.
    slot: String,
    #[command(flatten)]
    also: AlsoArgs,
    /// Revoke the slot that opens the vault though no other one was opened.
    #[arg(long)]
    untested: bool,
}

pub(super) fn run(world: &World, args: &RevokeArgs) -> Result<Exit> {
    let store = world.open_store()?;
    let also = args.also.read(world)?;
    let mut vault = world.open_vault_to_write(&store)?;
    let id = vault.select_slot(&args.slot)?;
    let head = if args.untested {
        vault.revoke_slot(id)?
    } else {
        // Of no use but where the slot that opened the vault goes.
        let given = if id == vault.opened_by { world.all_root_keys()? } else { Vec::new() };
        let roots: Vec<&dyn RootKey> = given.iter().chain(&also).map(AsRef::as_ref).collect();
        vault.revoke_slot_with(id, &roots)?
    };
    let value = json!({"message_type": "key_revoked", "slot": id.to_string(), "head": head.to_string(), "note": REVOKED});
    world.result(value, &format!("revoked key slot {}\nhead {head}", id.short()))?;
    world.output.note(REVOKED);
    Ok(Exit::Done)
}

/// Replaces the slot that the given passphrase opens; what else is given opens nothing here, or another slot would go.
pub(super) fn passwd(world: &World, file: Option<&Path>, label: Option<&str>) -> Result<Exit> {
    let old_root = world.keys.passphrase()?;
    let store = world.open_store()?;
    store.replicas.check_writable()?;
    let mut vault = world.open_vault_with(&store, old_root.as_ref())?;
    world.prepare_to_write(&store, &vault)?;
    let root = match file {
        Some(path) => world.keys.passphrases().of_file(path)?,
        None if process::has_terminal() => world.keys.passphrases().ask_new("New passphrase")?,
        None => {
            return Err(Failure::usage("no new passphrase").hint("give --new-passphrase-file FILE").into());
        }
    };
    let old = vault.opened_by;
    let slots = vault.test_slots(&[old_root.as_ref()])?;
    let old_label = slots.iter().find(|status| status.id == old).and_then(|status| status.slot.as_ref());
    let old_label = old_label.map(|slot| slot.label.as_str()).unwrap_or_default();
    let (id, head) = vault.replace_slot(old, &root, label.unwrap_or(old_label))?;
    let value = json!({
        "message_type": "key_replaced", "slot": id.to_string(), "revoked": old.to_string(), "head": head.to_string(),
        "note": REVOKED,
    });
    world.result(value, &format!("key slot {} replaces {}\nhead {head}", id.short(), old.short()))?;
    for other in slots.iter().filter(|status| status.id != old && status.tested == Some(true)) {
        let short = other.id.short();
        world.output.warn(&format!(
            "the old passphrase opens key slot {short} as well; `coffer keys revoke {short}` takes it away"
        ));
    }
    world.output.note(REVOKED);
    Ok(Exit::Done)
}
