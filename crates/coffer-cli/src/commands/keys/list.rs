//! `coffer keys list`, and how slots are shown.

use anyhow::Result;
use coffer_engine::{SlotStatus, Vault};
use coffer_format::id::{Head, hex};
use coffer_format::path::display_path;
use coffer_format::slot::{SlotKind, SlotPurpose};
use serde_json::{Value, json};

use crate::exit_code::Exit;
use crate::output::{time, time_utc};
use crate::wiring::World;

/// `restore --request-archived` asks for key slots only where none opens.
const ARCHIVED_SLOTS: &str = "key slots are archived and were not read: have the store bring them back by its own tools (restore-object), and \
    copy them into a class without retrieval times";

/// The id of the key file that a slot is for.
pub(in crate::commands) fn key_id(kind: &SlotKind) -> Option<String> {
    match kind {
        SlotKind::KeyFile { key_id } => Some(hex(key_id)),
        SlotKind::Shares { set_id, .. } => Some(hex(set_id)),
        _ => None,
    }
}

/// A text in a slot, which a service or a token may have given it.
fn shown(text: &str) -> String {
    display_path(text.as_bytes())
}

pub(super) fn kind_text(status: &SlotStatus) -> String {
    match status.slot.as_ref().map(|slot| &slot.kind) {
        None if status.is_archived => "archived".to_owned(),
        None => "missing or damaged".to_owned(),
        Some(SlotKind::Passphrase { memory_kib, passes, lanes, .. }) => {
            format!("passphrase (Argon2id {} MiB, {passes} passes, {lanes} lanes)", memory_kib / 1024)
        }
        Some(SlotKind::KeyFile { key_id }) => format!("key file {}", hex(key_id)),
        Some(SlotKind::Shares { set_id, threshold, digests }) => {
            format!("recovery shares, {threshold} of {}, set {}", digests.len(), hex(set_id))
        }
        Some(kind @ SlotKind::Service(key)) => {
            format!("{}, key {} at {}", kind.name(), shown(&key.key), shown(&key.endpoint))
        }
        Some(SlotKind::Token(key)) => {
            format!("PKCS#11 token {}, key {}", shown(&key.token_label), shown(&key.label))
        }
    }
}

/// Where the root key of a slot is, if it is not in somebody's hands.
pub(super) fn root_key_json(kind: &SlotKind) -> Option<Value> {
    match kind {
        SlotKind::Service(key) => Some(json!({
            "endpoint": key.endpoint, "instance": key.instance, "key": key.key, "crn": key.crn, "region": key.region,
            "ring": key.ring, "version_when_made": key.version, "token": null, "serial": null, "id": null, "mechanism": null,
        })),
        SlotKind::Token(key) => Some(json!({
            "endpoint": null, "instance": null, "key": key.label, "crn": null, "region": null, "ring": null,
            "version_when_made": null, "token": key.token_label, "serial": key.token_serial, "id": hex(&key.id),
            "mechanism": key.mechanism,
        })),
        _ => None,
    }
}

pub(super) fn slot_json(status: &SlotStatus) -> Value {
    let slot = status.slot.as_ref();
    json!({
        "id": status.id.to_string(), "kind": slot.map(|slot| slot.kind.name()),
        "key_id": slot.and_then(|slot| key_id(&slot.kind)), "label": slot.map(|slot| &slot.label),
        "created": slot.map(|slot| time_utc(slot.created_s.saturating_mul(1_000_000_000))),
        "purpose": slot.map(|slot| match slot.purpose {
            SlotPurpose::VaultKey => "vault key",
            SlotPurpose::ReaderSecret => "reader secret",
        }),
        "epoch": slot.map(|slot| slot.epoch), "opened_by": status.opened_by, "tested": status.tested,
        "answer": status.answer, "root_key": slot.and_then(|slot| root_key_json(&slot.kind)),
        "intact": slot.is_some(),
    })
}

/// Tells what is known of the slots, and by which record the log knows it now.
pub(super) fn show(
    world: &World,
    vault: &Vault<'_>,
    slots: &[SlotStatus],
    recorded: Option<Head>,
) -> Result<Exit> {
    let tested = world.cache().map(|cache| cache.tested(&vault.id())).unwrap_or_default();
    let last = |status: &SlotStatus| {
        let seconds = i64::try_from(*tested.get(&status.id)?).ok()?;
        Some(seconds.saturating_mul(1_000_000_000))
    };
    let of_slot = |status: &SlotStatus| {
        let mut value = slot_json(status);
        value["last_tested"] = json!(last(status).map(time_utc));
        value
    };
    let value = json!({
        "message_type": "keys", "slots": slots.iter().map(of_slot).collect::<Vec<_>>(),
        "head": recorded.map(|head| head.to_string()),
    });
    let mut lines = Vec::new();
    for status in slots {
        let mark = if status.opened_by { '*' } else { ' ' };
        let made = status
            .slot
            .as_ref()
            .map_or_else(String::new, |slot| time(slot.created_s.saturating_mul(1_000_000_000)));
        let label = status.slot.as_ref().map(|slot| display_path(slot.label.as_bytes())).unwrap_or_default();
        let only_reads = status.slot.as_ref().is_some_and(|slot| slot.purpose == SlotPurpose::ReaderSecret);
        let only_reads = if only_reads { "  reads only" } else { "" };
        let tested = match (status.tested, &status.answer, last(status)) {
            (None, None, None) => String::new(),
            (None, None, Some(at)) => format!("  tested {}", time(at)),
            (None, Some(reason), None) => format!("  {reason}"),
            (None, Some(reason), Some(at)) => format!("  {reason} (tested {})", time(at)),
            (Some(true), ..) => "  gives the vault's key".to_owned(),
            (Some(false), None, _) => "  DOES NOT OPEN".to_owned(),
            (Some(false), Some(answer), _) => format!("  DOES NOT OPEN: {answer}"),
        };
        lines.push(format!(
            "{mark} {}  {made:<19}  {}  {label}{only_reads}{tested}",
            status.id.short(),
            kind_text(status)
        ));
    }
    lines.push("* opened the vault".to_owned());
    lines.extend(recorded.map(|head| format!("head {head}")));
    world.result(value, &lines.join("\n"))?;
    let is_lost = |status: &SlotStatus| status.slot.is_none() && !status.is_archived;
    let broken = slots.iter().any(|status| is_lost(status) || status.tested == Some(false));
    if slots.iter().any(|status| status.is_archived) {
        world.output.warn(ARCHIVED_SLOTS);
    }
    Ok(match slots.iter().any(|status| status.is_archived) {
        _ if broken => Exit::Corrupt,
        true => Exit::Archived,
        false => Exit::Done,
    })
}

pub(super) fn run(world: &World) -> Result<Exit> {
    let store = world.open_store()?;
    let vault = world.open_vault(&store)?;
    show(world, &vault, &vault.slots()?, None)
}

#[cfg(test)]
mod tests {
    use coffer_format::id::{SlotId, VaultId};
    use coffer_format::slot::{KeyServiceKind, ServiceKey, Slot, TokenKey};

    use super::*;

    fn told(kind: SlotKind) -> String {
        let slot = Slot::unwrapped(VaultId([1; 32]), 0, SlotPurpose::VaultKey, kind, String::new(), 0);
        let (tested, answer) = (None, None);
        let id = SlotId([2; 32]);
        kind_text(&SlotStatus { id, slot: Some(slot), is_archived: false, opened_by: false, tested, answer })
    }

    #[test]
    fn what_a_service_or_a_token_said_is_shown_escaped() {
        let hostile = || "\u{1b}[2J".to_owned();
        let service = told(SlotKind::Service(ServiceKey {
            service: KeyServiceKind::Local,
            endpoint: hostile(),
            instance: hostile(),
            key: hostile(),
            crn: None,
            version: None,
            region: None,
            ring: None,
        }));
        let token = told(SlotKind::Token(TokenKey {
            token_label: hostile(),
            token_serial: hostile(),
            label: hostile(),
            id: Vec::new(),
            mechanism: 0,
            iv: None,
            mac: None,
            salt: None,
        }));
        for text in [service, token] {
            assert!(!text.contains('\u{1b}') && text.matches("\\x1b[2J").count() == 2, "{text}");
        }
    }
}
