//! `coffer keys rewrap` and `coffer keys retarget`: slots of key services.

use anyhow::Result;
use clap::Args;
use coffer_engine::{EngineError, Vault};
use coffer_format::id::SlotId;
use coffer_format::slot::SlotKind;
use coffer_ibm::ServiceRoot;
use coffer_keys::{KeyError, RootKey};
use serde_json::json;

use super::revoke::REVOKED;
use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::key_service::PlaceArgs;
use crate::stores::Store;
use crate::wiring::World;

#[derive(Debug, Args)]
pub(crate) struct RetargetArgs {
    /// Beginning of the slot's id, from "keys list": 4 digits or more.
    slot: String,
    /// The root key to move it to: its CRN, or https://HOST/INSTANCE/KEY.
    #[arg(long, value_name = "CRN")]
    to: String,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Moves every slot of a key service that can be reached to the newest version of its root key.
pub(super) fn rewrap(world: &World) -> Result<Exit> {
    let store = world.open_store()?;
    let mut vault = world.open_vault_to_write(&store)?;
    let root = ServiceRoot::any(world.key_services()?);
    let (mut swaps, mut slots) = (Vec::new(), Vec::new());
    let mut failed = None;
    for status in vault.slots()? {
        let Some(slot) = status.slot.filter(|slot| matches!(slot.kind, SlotKind::Service(_))) else {
            continue;
        };
        let name = status.id;
        let answer = match root.rewrap(&slot) {
            Ok(rewrapped) if rewrapped.is_unchanged() => {
                answered(name, "newest", rewrapped.from.as_deref(), rewrapped.to.as_deref(), None)
            }
            Ok(rewrapped) => {
                let told =
                    answered(name, "rewrapped", rewrapped.from.as_deref(), rewrapped.to.as_deref(), None);
                swaps.push((name, rewrapped.slot));
                told
            }
            Err(error) => {
                let told = answered(name, "failed", None, None, Some(error.to_string()));
                failed = failed.or(Some(error));
                told
            }
        };
        slots.push(answer);
    }
    if slots.is_empty() {
        let hint = "`coffer keys list` shows the slots; `coffer keys add --new-root-key CRN` makes one";
        return Err(Failure::new(Exit::Failed, "no key slot is one of a key service").hint(hint).into());
    }
    let done = if swaps.is_empty() { None } else { Some(vault.replace_slots(&swaps, &root)?) };
    let (new, head) = done.unzip();
    let new: Vec<String> = new.iter().flatten().map(ToString::to_string).collect();
    let value = json!({
        "message_type": "keys_rewrapped", "slots": slots, "new_slots": new,
        "head": head.map(|head| head.to_string()),
    });
    let mut lines: Vec<String> = slots.iter().map(line).collect();
    lines.extend(head.map(|head| format!("head {head}")));
    world.result(value, &lines.join("\n"))?;
    let Some(error) = failed else { return Ok(Exit::Done) };
    world.output.warn(&format!("not every slot was rewrapped: {error}"));
    Ok(Exit::Partial)
}

fn answered(
    slot: SlotId,
    answer: &str,
    from: Option<&str>,
    version: Option<&str>,
    reason: Option<String>,
) -> serde_json::Value {
    json!({"slot": slot.to_string(), "answer": answer, "from": from, "version": version, "reason": reason})
}

fn line(answer: &serde_json::Value) -> String {
    let text = |name: &str| answer.get(name).and_then(serde_json::Value::as_str).unwrap_or("?");
    let slot = text("slot").get(..8).unwrap_or_default();
    match text("answer") {
        "newest" => format!("{slot}  is under the newest version, {}", text("version")),
        "rewrapped" => format!("{slot}  moved from version {} to {}", text("from"), text("version")),
        _ => format!("{slot}  stays as it is: {}", text("reason")),
    }
}

/// Opens the vault with what is given, or else with the root key `stand_in`: one of the same material opens what the lost one did.
fn open_with_or<'a>(world: &'a World, store: &'a Store, stand_in: &dyn RootKey) -> Result<Vault<'a>> {
    if let Some(root) = world.given_root_key()? {
        match world.open_vault_with(store, root.as_ref()) {
            Err(error) if matches!(error.downcast_ref(), Some(EngineError::Key(KeyError::NoSlot { .. }))) => {
                world.output.warn(&format!("{error:#}; trying the root key of --to"));
            }
            opened => return opened,
        }
    }
    world.open_vault_with(store, stand_in)
}

/// Makes a slot for another root key in the place of one, opening the vault with that root key if nothing else does.
pub(super) fn retarget(world: &World, args: &RetargetArgs) -> Result<Exit> {
    let place = args.place.place(&args.to)?;
    let store = world.open_store()?;
    store.replicas.check_writable()?;
    let services = world.key_services()?;
    let stand_in = ServiceRoot::in_place_of_others(services.clone(), place.clone());
    let mut vault = open_with_or(world, &store, &stand_in)?;
    world.prepare_to_write(&store, &vault)?;
    let old = vault.select_slot(&args.slot)?;
    let status = vault.slots()?.into_iter().find(|status| status.id == old);
    let slot = status.and_then(|status| status.slot);
    if !slot.as_ref().is_some_and(|slot| matches!(slot.kind, SlotKind::Service(_))) {
        let hint =
            "`coffer keys add` makes a slot for another kind of key, `coffer keys revoke` takes one away";
        let message = format!("key slot {} is not one of a key service", old.short());
        return Err(Failure::usage(message).hint(hint).into());
    }
    let label = slot.map(|slot| slot.label).unwrap_or_default();
    let (id, head) = vault.replace_slot(old, &ServiceRoot::at(services, place), &label)?;
    let value = json!({
        "message_type": "key_replaced", "slot": id.to_string(), "revoked": old.to_string(), "head": head.to_string(),
        "note": REVOKED,
    });
    world.result(value, &format!("key slot {} replaces {}\nhead {head}", id.short(), old.short()))?;
    world.output.note(REVOKED);
    Ok(Exit::Done)
}
