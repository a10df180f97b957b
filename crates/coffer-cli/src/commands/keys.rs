//! `coffer keys`

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use coffer_crypto::OsRng;
use coffer_engine::SlotStatus;
use coffer_format::id::hex;
use coffer_format::path::display_path;
use coffer_format::slot::{SlotKind, SlotPurpose};
use coffer_keys::{KeyFile, RootKey};
use serde_json::{Value, json};

use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::keys;
use crate::output::{time, time_utc};
use crate::shares::{self, ShareCounts};
use crate::wiring::World;

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a new key file (mode 0600); an existing file is never overwritten.
    #[command(after_help = "Examples:\n  coffer keys new-file ~/coffer.key")]
    NewFile {
        /// The file.
        file: PathBuf,
    },
    /// List the vault's key slots.
    #[command(after_help = "Examples:\n  coffer keys list")]
    List,
    /// Add a key slot.
    #[command(after_help = "Examples:\n  \
        coffer keys add --new-key-file second.key --label second\n  \
        coffer keys add --new-passphrase --label recovery\n  \
        coffer keys add --new-shares 3of5 --shares-dir shares --label board")]
    Add(NewSlotArgs),
    /// Open the vault with the key given, and check the slots it fits.
    #[command(after_help = "Examples:\n  \
        coffer keys test\n  \
        coffer keys test --also-passphrase-file recovery.txt")]
    Test {
        /// Also test the slots that this key file fits.
        #[arg(long, value_name = "FILE")]
        also_key_file: Option<PathBuf>,
        /// Also test the slots that the passphrase in this file fits.
        #[arg(long, value_name = "FILE")]
        also_passphrase_file: Option<PathBuf>,
        /// Also test the slots that these recovery shares fit; may be given several times.
        #[arg(long, value_name = "FILE")]
        also_share: Vec<PathBuf>,
    },
    /// Revoke a key slot. An old copy of it, with the old secret, still opens what it could open.
    #[command(after_help = "Examples:\n  coffer keys revoke 2a8d8284")]
    Revoke {
        /// Beginning of the slot's id, from "keys list".
        slot: String,
    },
    /// Replace the slot that opened the vault by one for a new passphrase.
    #[command(after_help = "Examples:\n  \
        coffer --passphrase-file old.txt keys passwd --new-passphrase-file new.txt")]
    Passwd {
        /// File that holds the new passphrase; without it the terminal is asked.
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
        /// Label of the new slot.
        #[arg(long, default_value = "")]
        label: String,
    },
}

/// What a new slot is for.
#[derive(Debug, Args)]
pub(crate) struct NewSlotArgs {
    /// For this key file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["new_passphrase_file", "new_passphrase"])]
    pub(crate) new_key_file: Option<PathBuf>,
    /// For the passphrase in this file.
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// For a passphrase that the terminal is asked for.
    #[arg(long)]
    pub(crate) new_passphrase: bool,
    /// For new recovery shares: how many are needed of how many, like 3of5.
    #[arg(
        long,
        value_name = "MofN",
        requires = "shares_dir",
        conflicts_with_all = ["new_key_file", "new_passphrase_file", "new_passphrase"],
    )]
    pub(crate) new_shares: Option<ShareCounts>,
    /// Directory for the files with the new shares.
    #[arg(long, value_name = "DIR", requires = "new_shares")]
    pub(crate) shares_dir: Option<PathBuf>,
    /// Label of the slot.
    #[arg(long, default_value = "")]
    pub(crate) label: String,
}

pub(super) fn run(world: &World, command: &KeysCommand) -> Result<Exit> {
    match command {
        KeysCommand::NewFile { file } => new_file(world, file),
        KeysCommand::List => list(world),
        KeysCommand::Add(args) => add(world, args),
        KeysCommand::Test { also_key_file, also_passphrase_file, also_share } => {
            test(world, also_key_file.as_deref(), also_passphrase_file.as_deref(), also_share)
        }
        KeysCommand::Revoke { slot } => revoke(world, slot),
        KeysCommand::Passwd { new_passphrase_file, label } => {
            passwd(world, new_passphrase_file.as_deref(), label)
        }
    }
}

fn new_file(world: &World, path: &Path) -> Result<Exit> {
    let key = KeyFile::generate(&OsRng)?;
    let mut file = keys::create_private(path).map_err(|error| {
        let message = format!("make key file {}: {error}", path.display());
        let failure = Failure::new(Exit::Failed, message);
        match error.kind() {
            ErrorKind::AlreadyExists => {
                failure.hint("it may be the only key of a vault; choose another name")
            }
            ErrorKind::NotFound => failure.hint("make the directory first"),
            _ => failure,
        }
    })?;
    let written = file.write_all(key.to_text().expose()).and_then(|()| file.sync_all());
    written.with_context(|| format!("write key file {}", path.display()))?;
    let value =
        json!({"message_type": "key_file", "file": path.display().to_string(), "key_id": hex(&key.key_id())});
    let text = format!("made key file {} (key id {})", path.display(), hex(&key.key_id()));
    world.output.result(&value, &text)?;
    world.output.note("whoever has this file opens what is sealed for it; without it and without another slot, nothing does");
    Ok(Exit::Done)
}

/// The id of the key file that a slot is for.
pub(super) fn key_id(kind: &SlotKind) -> Option<String> {
    match kind {
        SlotKind::KeyFile { key_id } => Some(hex(key_id)),
        SlotKind::Shares { set_id, .. } => Some(hex(set_id)),
        _ => None,
    }
}

fn kind_text(status: &SlotStatus) -> String {
    match status.slot.as_ref().map(|slot| &slot.kind) {
        None => "missing or damaged".to_owned(),
        Some(SlotKind::Passphrase { memory_kib, passes, lanes, .. }) => {
            format!("passphrase (Argon2id {} MiB, {passes} passes, {lanes} lanes)", memory_kib / 1024)
        }
        Some(SlotKind::KeyFile { key_id }) => format!("key file {}", hex(key_id)),
        Some(SlotKind::Shares { set_id, threshold, digests }) => {
            format!("recovery shares, {threshold} of {}, set {}", digests.len(), hex(set_id))
        }
        Some(kind) => kind.name().to_owned(),
    }
}

fn slot_json(status: &SlotStatus) -> Value {
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
        "intact": slot.is_some(),
    })
}

fn show(world: &World, slots: &[SlotStatus]) -> Result<Exit> {
    let value = json!({"message_type": "keys", "slots": slots.iter().map(slot_json).collect::<Vec<_>>()});
    let mut lines = Vec::new();
    for status in slots {
        let mark = if status.opened_by { '*' } else { ' ' };
        let made = status
            .slot
            .as_ref()
            .map_or_else(String::new, |slot| time(slot.created_s.saturating_mul(1_000_000_000)));
        let label = status.slot.as_ref().map(|slot| display_path(slot.label.as_bytes())).unwrap_or_default();
        let tested = match status.tested {
            None => "",
            Some(true) => "  gives the vault's key",
            Some(false) => "  DOES NOT OPEN",
        };
        lines.push(format!(
            "{mark} {}  {made:<19}  {}  {label}{tested}",
            status.id.short(),
            kind_text(status)
        ));
    }
    lines.push("* opened the vault".to_owned());
    world.output.result(&value, &lines.join("\n"))?;
    let broken = slots.iter().any(|status| status.slot.is_none() || status.tested == Some(false));
    Ok(if broken { Exit::Corrupt } else { Exit::Done })
}

fn list(world: &World) -> Result<Exit> {
    let store = world.open_store()?;
    let vault = world.open_vault(&store)?;
    show(world, &vault.slots()?)
}

fn test(
    world: &World,
    key_file: Option<&Path>,
    passphrase_file: Option<&Path>,
    share_files: &[PathBuf],
) -> Result<Exit> {
    let store = world.open_store()?;
    let first = world.root_key()?;
    let vault = coffer_engine::Vault::open(world.access(&store), first.as_ref(), world.vault_id)?;
    let mut roots: Vec<Box<dyn RootKey>> = vec![first];
    if let Some(path) = key_file {
        roots.push(Box::new(keys::key_file(path)?));
    }
    if let Some(path) = passphrase_file {
        roots.push(Box::new(keys::passphrase_file(path)?));
    }
    if !share_files.is_empty() {
        roots.push(Box::new(shares::read(share_files)?));
    }
    let roots: Vec<&dyn RootKey> = roots.iter().map(AsRef::as_ref).collect();
    show(world, &vault.test_slots(&roots)?)
}

fn add(world: &World, args: &NewSlotArgs) -> Result<Exit> {
    let store = world.open_store()?;
    let mut vault = world.open_vault_to_write(&store)?;
    if let (Some(counts), Some(dir)) = (args.new_shares, &args.shares_dir) {
        return add_shares(world, &mut vault, counts, dir, &args.label);
    }
    let root: Box<dyn RootKey> = match (&args.new_key_file, &args.new_passphrase_file, args.new_passphrase) {
        (Some(path), _, _) => Box::new(keys::key_file(path)?),
        (_, Some(path), _) => Box::new(keys::passphrase_file(path)?),
        (_, _, asked) if asked || keys::has_terminal() => {
            Box::new(keys::ask_new_passphrase("New passphrase")?)
        }
        _ => {
            let hint =
                "give --new-key-file FILE, --new-passphrase-file FILE, or --new-shares 3of5 --shares-dir DIR";
            return Err(Failure::usage("what the new slot is for is not given").hint(hint).into());
        }
    };
    let (id, head) = vault.add_slot(root.as_ref(), &args.label)?;
    let value =
        json!({"message_type": "key_added", "slot": id.to_string(), "head": head.to_string(), "shares": []});
    world.output.result(&value, &format!("added key slot {}\nhead {head}", id.short()))?;
    Ok(Exit::Done)
}

fn add_shares(
    world: &World,
    vault: &mut coffer_engine::Vault<'_>,
    counts: ShareCounts,
    dir: &Path,
    label: &str,
) -> Result<Exit> {
    let (set, paths) = shares::make(counts, dir)?;
    let (id, head) = vault.add_slot(&set, label)?;
    let files: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let value = json!({
        "message_type": "key_added", "slot": id.to_string(), "head": head.to_string(), "shares": files,
    });
    let text = format!("added key slot {}\nhead {head}\n{}", id.short(), files.join("\n"));
    world.output.result(&value, &text)?;
    world.output.note(shares::ADVICE);
    Ok(Exit::Done)
}

const REVOKED: &str =
    "whoever has an old copy of this slot and its secret can still open what it opened so far";

fn revoke(world: &World, prefix: &str) -> Result<Exit> {
    let store = world.open_store()?;
    let mut vault = world.open_vault_to_write(&store)?;
    let id = vault.select_slot(prefix)?;
    let head = vault.revoke_slot(id)?;
    let value = json!({"message_type": "key_revoked", "slot": id.to_string(), "head": head.to_string(), "note": REVOKED});
    world.output.result(&value, &format!("revoked key slot {}\nhead {head}", id.short()))?;
    world.output.note(REVOKED);
    Ok(Exit::Done)
}

fn passwd(world: &World, file: Option<&Path>, label: &str) -> Result<Exit> {
    let store = world.open_store()?;
    let mut vault = world.open_vault_to_write(&store)?;
    let root = match file {
        Some(path) => keys::passphrase_file(path)?,
        None if keys::has_terminal() => keys::ask_new_passphrase("New passphrase")?,
        None => {
            return Err(Failure::usage("no new passphrase").hint("give --new-passphrase-file FILE").into());
        }
    };
    let old = vault.opened_by;
    let (id, head) = vault.replace_slot(old, &root, label)?;
    let value = json!({
        "message_type": "key_replaced", "slot": id.to_string(), "revoked": old.to_string(), "head": head.to_string(),
        "note": REVOKED,
    });
    world.output.result(&value, &format!("key slot {} replaces {}\nhead {head}", id.short(), old.short()))?;
    world.output.note(REVOKED);
    Ok(Exit::Done)
}
