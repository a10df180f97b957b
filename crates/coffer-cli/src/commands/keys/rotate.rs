//! `coffer keys rotate`: a new vault key.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;
use coffer_engine::{BeginningError, LostSlot, RotationPlan, Vault, Writer, by_beginning, stats};
use coffer_format::id::hex;
use coffer_keys::RootKey;
use serde_json::{Value, json};

use super::list::kind_text;
use super::test::AlsoArgs;
use super::writer;
use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::output::bytes;
use crate::wiring::World;

#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    also: AlsoArgs,
    /// Revoke the slots whose keys are not given. Without it, they keep the vault's key from being changed.
    #[arg(long)]
    revoke_others: bool,
    /// Revoke maintainers, and signers whose name cannot be read: coffer enrols none, so whoever had the old key may have. Without it, they
    /// keep the vault's key from being changed.
    #[arg(long)]
    revoke_signers: bool,
    /// Let such a signer stay: the one whose key begins so (4 digits or more). May be given several times.
    #[arg(long, value_name = "KEY")]
    keep_signer: Vec<String>,
    /// Give up deduplication with what was written before, so that the old key says nothing of what comes after, but for writers,
    /// who keep their domains: the next backup uploads everything again.
    #[arg(long)]
    dedup: bool,
    /// Do what --dedup says without asking.
    #[arg(long, short, requires = "dedup")]
    yes: bool,
    /// Say what would be done, and change nothing.
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

const NOTE: &str = "what was written so far stays readable with the old key, for whoever has it and an old copy of the vault. The new slots \
    are under the same root keys, passphrases and shares as before: if one of them is known to somebody, first make slots for another (`coffer keys retarget`, \
    or `keys add` and `keys revoke`), and disable a root key only when no current slot names it any more";

pub(super) fn run(world: &World, args: &RotateArgs) -> Result<Exit> {
    let store = world.open_store()?;
    let also = args.also.read(world)?;
    let (mut vault, mut roots) = world.open_vault_and_keys(&store, true)?;
    roots.extend(also);
    let roots: Vec<&dyn RootKey> = roots.iter().map(AsRef::as_ref).collect();
    let mut plan = vault.plan_rotation(&roots)?;
    let unwanted = judge_signers(world, args, &mut plan)?;
    if !args.revoke_others && !plan.lost.is_empty() {
        let hint = "give the keys of all slots (--also-key-file, --also-passphrase-file, --also-share …), or say --revoke-others";
        let message =
            format!("the keys of {} are not at hand: they would open the vault no more", lost(&plan));
        return Err(Failure::new(Exit::Failed, message).hint(hint).into());
    }
    let again = if args.dedup { Some(stats(&vault)?) } else { None };
    if let Some(stats) = &again {
        let size = bytes(stats.new_bytes);
        world.output.note(&format!(
            "deduplication starts anew: up to {size} of content, now {} in packs, is compressed and uploaded again by the next backups, and the \
             old packs stay for the snapshots that need them",
            bytes(stats.pack_bytes)
        ));
        if !args.yes && !args.dry_run {
            let hint =
                "say --yes to do it, or leave out --dedup: the new key protects what comes after without it";
            return Err(Failure::usage("--dedup makes everything be uploaded again").hint(hint).into());
        }
    }
    let ids = |ids: &[coffer_format::id::SlotId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let revoked: Vec<_> = plan.lost.iter().map(|lost| lost.id).collect();
    let upload = again.map(|stats| stats.new_bytes);
    let signers = plan.signers.iter().map(signer_json).collect::<Vec<_>>();
    let revoked_signers = unwanted.iter().map(|signer| hex(&signer.key)).collect::<Vec<_>>();
    if args.dry_run {
        let kept: Vec<_> = plan.kept.iter().map(|(id, ..)| *id).collect();
        let value = json!({
            "message_type": "keys_rotated", "dry_run": true, "epoch": vault.state().epoch() + 1, "kept": ids(&kept),
            "slots": [], "revoked": ids(&revoked), "signers": signers, "revoked_signers": revoked_signers, "upload_again": upload,
            "head": null,
        });
        let mut text = format!("{} slot(s) would be made anew, {} revoked", kept.len(), revoked.len());
        unwanted.iter().for_each(|signer| text.push_str(&format!("\nwould revoke {}", writer::told(signer))));
        world.result(value, &text)?;
        return Ok(Exit::Done);
    }
    let kept: Vec<_> = plan.kept.iter().map(|(id, ..)| *id).collect();
    // Before the new key: when it begins, nobody is enrolled but those of the plan.
    for signer in &unwanted {
        vault.revoke_signer(signer)?;
    }
    let done = vault.rotate(&roots, &plan, args.dedup, &args.reason)?;
    let value = json!({
        "message_type": "keys_rotated", "dry_run": false, "epoch": done.epoch, "kept": ids(&kept),
        "slots": ids(&done.slots), "revoked": ids(&revoked), "signers": signers, "revoked_signers": revoked_signers, "upload_again": upload,
        "head": done.head.to_string(),
    });
    let mut text =
        format!("epoch {} begins, with a new vault key and {} slot(s)", done.epoch, done.slots.len());
    if !revoked.is_empty() {
        text.push_str(&format!("\nrevoked {}", lost(&plan)));
    }
    unwanted.iter().for_each(|signer| text.push_str(&format!("\nrevoked {}", writer::told(signer))));
    // Asked before the result, which counts it; what comes of it is no reason to keep the head back.
    let in_use = root_keys_in_use(&vault);
    world.result(value, &format!("{text}\nhead {}", done.head))?;
    world.output.note(NOTE);
    let in_use = in_use?;
    if !in_use.is_empty() {
        world.output.note(&format!("root keys that current slots need: {}", in_use.join("; ")));
    }
    Ok(Exit::Done)
}

/// The signers that are to be revoked, which are taken out of the plan. Says who stays: a new key of the vault takes the right to sign from
/// nobody but the owner before.
fn judge_signers(world: &World, args: &RotateArgs, plan: &mut RotationPlan) -> Result<Vec<Writer>> {
    let mut kept = BTreeSet::new();
    for key in &args.keep_signer {
        let signer = by_beginning(key, &plan.signers, |signer| hex(&signer.key)).map_err(|error| {
            let message = match error {
                BeginningError::None { .. } => format!("no signer whose key begins with {key} is enrolled"),
                error => format!("--keep-signer names no one signer: {error}"),
            };
            Failure::usage(message).hint("`coffer keys writers` shows the keys")
        })?;
        kept.insert(signer.key);
    }
    let is_wanted = |signer: &Writer| signer.is_ordinary() || kept.contains(&signer.key);
    let (wanted, unwanted): (Vec<_>, Vec<_>) =
        std::mem::take(&mut plan.signers).into_iter().partition(is_wanted);
    plan.signers = wanted;
    for signer in &plan.signers {
        let text = format!("{} stays enrolled and keeps its right to sign", writer::told(signer));
        world.output.note(&text);
    }
    if !unwanted.is_empty() && !args.revoke_signers {
        let told: Vec<_> = unwanted.iter().map(writer::told).collect();
        let message = format!("the right to sign of these would outlast the old key: {}", told.join("; "));
        let hint = "coffer enrols nobody like that, so whoever had the vault's key may have: say --revoke-signers, and --keep-signer KEY for each that you know";
        return Err(Failure::new(Exit::Failed, message).hint(hint).into());
    }
    Ok(unwanted)
}

fn signer_json(signer: &Writer) -> Value {
    json!({
        "name": signer.name, "role": writer::role_name(signer), "key": hex(&signer.key),
        "enrolled_record": signer.enrolled.map(|(number, _)| number),
    })
}

/// Root keys of services and tokens that current slots name: who disables one of them loses the slot.
fn root_keys_in_use(vault: &Vault<'_>) -> Result<Vec<String>> {
    let slots = vault.slots()?;
    let named = slots.iter().filter(|status| status.slot.as_ref().is_some_and(|slot| !slot.kind.is_local()));
    Ok(named.map(|status| format!("{} (slot {})", kind_text(status), status.id.short())).collect())
}

fn lost(plan: &RotationPlan) -> String {
    let name = |lost: &LostSlot| {
        let kind = lost.slot.as_ref().map_or("missing or damaged", |slot| slot.kind.name());
        let answer = lost.answer.as_ref().map(|answer| format!(": {answer}")).unwrap_or_default();
        format!("key slot {} ({kind}{answer})", lost.id.short())
    };
    plan.lost.iter().map(name).collect::<Vec<_>>().join(", ")
}
