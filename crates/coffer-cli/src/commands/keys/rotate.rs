//! `coffer keys rotate`: a new vault key.

use anyhow::Result;
use clap::Args;
use coffer_engine::{LostSlot, RotationPlan, stats};
use coffer_keys::RootKey;
use serde_json::json;

use super::test::AlsoArgs;
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

const NOTE: &str = "what was written so far stays readable with the old key, for whoever has it and an old copy of the vault: \
    disable its root keys, and make new recovery shares";

pub(super) fn run(world: &World, args: &RotateArgs) -> Result<Exit> {
    let store = world.open_store()?;
    let also = args.also.read(world.output)?;
    let (mut vault, mut roots) = world.open_vault_and_keys(&store, true)?;
    roots.extend(also);
    let roots: Vec<&dyn RootKey> = roots.iter().map(AsRef::as_ref).collect();
    let plan = vault.plan_rotation(&roots)?;
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
             old packs stay until they are forgotten and pruned",
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
    if args.dry_run {
        let kept: Vec<_> = plan.kept.iter().map(|(id, ..)| *id).collect();
        let value = json!({
            "message_type": "keys_rotated", "dry_run": true, "epoch": vault.state().epoch() + 1, "kept": ids(&kept),
            "slots": [], "revoked": ids(&revoked), "upload_again": upload, "head": null,
        });
        let text = format!("{} slot(s) would be made anew, {} revoked", kept.len(), revoked.len());
        world.output.result(&value, &text)?;
        return Ok(Exit::Done);
    }
    let kept: Vec<_> = plan.kept.iter().map(|(id, ..)| *id).collect();
    let done = vault.rotate(&roots, &plan, args.dedup, &args.reason)?;
    let value = json!({
        "message_type": "keys_rotated", "dry_run": false, "epoch": done.epoch, "kept": ids(&kept),
        "slots": ids(&done.slots), "revoked": ids(&revoked), "upload_again": upload, "head": done.head.to_string(),
    });
    let mut text =
        format!("epoch {} begins, with a new vault key and {} slot(s)", done.epoch, done.slots.len());
    if !revoked.is_empty() {
        text.push_str(&format!("\nrevoked {}", lost(&plan)));
    }
    world.output.result(&value, &format!("{text}\nhead {}", done.head))?;
    world.output.note(NOTE);
    Ok(Exit::Done)
}

fn lost(plan: &RotationPlan) -> String {
    let name = |lost: &LostSlot| {
        let kind = lost.slot.as_ref().map_or("missing or damaged", |slot| slot.kind.name());
        let answer = lost.answer.as_ref().map(|answer| format!(": {answer}")).unwrap_or_default();
        format!("key slot {} ({kind}{answer})", lost.id.short())
    };
    plan.lost.iter().map(name).collect::<Vec<_>>().join(", ")
}
