//! `coffer keys revoke` and `coffer keys passwd`: slots that go.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::wiring::World;
use crate::{keys, process};

pub(super) const REVOKED: &str = "whoever has an old copy of this slot and its secret can still open the vault; disable the root key where there is one, and `coffer keys \
     rotate` gives the vault a new key, with which what comes from then on stays closed to them";

pub(super) fn run(world: &World, prefix: &str) -> Result<Exit> {
    let store = world.open_store()?;
    let mut vault = world.open_vault_to_write(&store)?;
    let id = vault.select_slot(prefix)?;
    let head = vault.revoke_slot(id)?;
    let value = json!({"message_type": "key_revoked", "slot": id.to_string(), "head": head.to_string(), "note": REVOKED});
    world.output.result(&value, &format!("revoked key slot {}\nhead {head}", id.short()))?;
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
        Some(path) => keys::passphrase_file(path)?,
        None if process::has_terminal() => keys::ask_new_passphrase("New passphrase")?,
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
    world.output.result(&value, &format!("key slot {} replaces {}\nhead {head}", id.short(), old.short()))?;
    for other in slots.iter().filter(|status| status.id != old && status.tested == Some(true)) {
        let short = other.id.short();
        world.output.warn(&format!(
            "the old passphrase opens key slot {short} as well; `coffer keys revoke {short}` takes it away"
        ));
    }
    world.output.note(REVOKED);
    Ok(Exit::Done)
}
