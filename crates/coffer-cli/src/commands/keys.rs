//! `coffer keys`

use std::io::ErrorKind;
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
use crate::key_service::PlaceArgs;
use crate::keys;
use crate::output::{time, time_utc};
use crate::pkcs11::{NewPkcs11Args, NewTokenKeyArgs, new_token_key};
use crate::shares::{self, ShareCounts};
use crate::wiring::World;

mod kit;
mod rotate;
mod service;
mod writer;

use writer::GrantWriterArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a new key file (mode 0600); an existing file is never overwritten.
    #[command(after_help = "Examples:\n  coffer keys new-file ~/coffer.key")]
    NewFile {
        /// The file.
        file: PathBuf,
    },
    /// Make a key on a PKCS#11 token that wraps the vault's key and never leaves the token.
    #[command(after_help = "Examples:\n  \
        coffer --pkcs11-module /usr/lib/softhsm/libsofthsm2.so --pkcs11-token backup keys new-token-key vault-root")]
    NewTokenKey(NewTokenKeyArgs),
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
        #[command(flatten)]
        also: AlsoArgs,
        /// Put what came of it into the vault's log, signed.
        #[arg(long)]
        record: bool,
    },
    /// Revoke a key slot. An old copy of it, with the old secret, still opens what it could open.
    #[command(after_help = "Examples:\n  coffer keys revoke 2a8d8284")]
    Revoke {
        /// Beginning of the slot's id, from "keys list".
        slot: String,
    },
    /// Enrol a writer: make a credential that backs up and reads nothing.
    #[command(after_help = "Examples:\n  \
        coffer keys grant-writer web-1 --out web-1.writer\n  \
        coffer --writer web-1.writer backup /srv/www")]
    GrantWriter(GrantWriterArgs),
    /// Revoke a writer: nothing that it signs from now on counts. Its snapshots stay.
    #[command(after_help = "Examples:\n  coffer keys revoke-writer web-1")]
    RevokeWriter {
        /// Its name, or the beginning of its key (8 digits or more).
        #[arg(value_name = "WRITER")]
        name: String,
    },
    /// List the writers that were ever enrolled.
    #[command(after_help = "Examples:\n  coffer keys writers")]
    Writers,
    /// Have key services wrap their slots anew, under the newest version of each root key. No data is written.
    #[command(after_help = "Examples:\n  coffer --ibm-api-key-file key.json keys rewrap")]
    Rewrap,
    /// Move the slot of a key service to another root key: where the service it names is lost, to one of the same material.
    #[command(after_help = "Examples:\n  \
        coffer --ibm-api-key-file key.json keys retarget 2a8d --to https://kms.example/INSTANCE/KEY")]
    Retarget(service::RetargetArgs),
    /// Give the vault a new key: who has only the old one opens nothing that is written from now on.
    #[command(after_help = "Examples:\n  \
        coffer --key-file a.key keys rotate --also-passphrase-file recovery.txt\n  \
        coffer --key-file a.key keys rotate --revoke-others --reason theft")]
    Rotate(rotate::RotateArgs),
    /// Write what a stranger needs, years later, to open the vault: slots, header, fingerprint, format and instructions.
    #[command(after_help = "Examples:\n  coffer keys export-kit /media/usb/coffer-kit")]
    ExportKit {
        /// The directory, new or empty.
        dir: PathBuf,
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
    fn read(&self) -> Result<Vec<Box<dyn RootKey>>> {
        let mut roots: Vec<Box<dyn RootKey>> = Vec::new();
        for path in &self.also_key_file {
            roots.push(Box::new(keys::key_file(path)?));
        }
        for path in &self.also_passphrase_file {
            roots.push(Box::new(keys::passphrase_file(path)?));
        }
        if !self.also_share.is_empty() {
            roots.push(Box::new(shares::read(&self.also_share)?));
        }
        Ok(roots)
    }
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
    /// For this root key of a key service: its CRN, or https://HOST/INSTANCE/KEY.
    #[arg(
        long,
        value_name = "CRN",
        conflicts_with_all = ["new_key_file", "new_passphrase_file", "new_passphrase", "new_shares"],
    )]
    pub(crate) new_root_key: Option<String>,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    #[command(flatten)]
    pub(crate) token: NewPkcs11Args,
    /// Label of the slot.
    #[arg(long, default_value = "")]
    pub(crate) label: String,
    /// The slot opens the vault for reading only: what it gives signs nothing.
    #[arg(long)]
    pub(crate) reader: bool,
}

impl NewSlotArgs {
    const fn purpose(&self) -> SlotPurpose {
        if self.reader { SlotPurpose::ReaderSecret } else { SlotPurpose::VaultKey }
    }
}

pub(super) fn run(world: &World, command: &KeysCommand) -> Result<Exit> {
    match command {
        KeysCommand::NewFile { file } => new_file(world, file),
        KeysCommand::NewTokenKey(args) => new_token_key(world.output, &world.pkcs11, args),
        KeysCommand::List => list(world),
        KeysCommand::Add(args) => add(world, args),
        KeysCommand::Test { also, record } => test(world, also, *record),
        KeysCommand::Revoke { slot } => revoke(world, slot),
        KeysCommand::Rewrap => service::rewrap(world),
        KeysCommand::Retarget(args) => service::retarget(world, args),
        KeysCommand::Rotate(args) => rotate::run(world, args),
        KeysCommand::ExportKit { dir } => kit::export(world, dir),
        KeysCommand::GrantWriter(args) => writer::grant(world, args),
        KeysCommand::RevokeWriter { name } => writer::revoke(world, name),
        KeysCommand::Writers => writer::list(world),
        KeysCommand::Passwd { new_passphrase_file, label } => {
            passwd(world, new_passphrase_file.as_deref(), label)
        }
    }
}

fn new_file(world: &World, path: &Path) -> Result<Exit> {
    let key = KeyFile::generate(&OsRng)?;
    let file = keys::create_private(path).map_err(|error| {
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
    let written = keys::write_private(file, path, key.to_text().expose());
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
        Some(kind @ SlotKind::Service(key)) => {
            format!("{}, key {} at {}", kind.name(), key.key, key.endpoint)
        }
        Some(SlotKind::Token(key)) => format!("PKCS#11 token {}, key {}", key.token_label, key.label),
    }
}

/// Where the root key of a slot is, if it is not in somebody's hands.
fn root_key_json(kind: &SlotKind) -> Option<Value> {
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
        "answer": status.answer, "root_key": slot.and_then(|slot| root_key_json(&slot.kind)),
        "intact": slot.is_some(),
    })
}

fn show(world: &World, vault: &coffer_engine::Vault<'_>, slots: &[SlotStatus]) -> Result<Exit> {
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
    let value = json!({"message_type": "keys", "slots": slots.iter().map(of_slot).collect::<Vec<_>>()});
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
            (None, _, None) => String::new(),
            (None, _, Some(at)) => format!("  tested {}", time(at)),
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
    world.output.result(&value, &lines.join("\n"))?;
    let broken = slots.iter().any(|status| status.slot.is_none() || status.tested == Some(false));
    Ok(if broken { Exit::Corrupt } else { Exit::Done })
}

fn list(world: &World) -> Result<Exit> {
    let store = world.open_store()?;
    let vault = world.open_vault(&store)?;
    show(world, &vault, &vault.slots()?)
}

fn test(world: &World, also: &AlsoArgs, record: bool) -> Result<Exit> {
    let store = world.open_store()?;
    let mut roots = world.all_root_keys()?;
    roots.extend(also.read()?);
    let roots: Vec<&dyn RootKey> = roots.iter().map(AsRef::as_ref).collect();
    let mut vault = if record { world.open_vault_to_write(&store)? } else { world.open_vault(&store)? };
    let slots = vault.test_slots(&roots)?;
    if let Some(cache) = world.cache() {
        let good = slots.iter().filter(|status| status.tested == Some(true)).map(|status| status.id);
        // It spoils no test that it cannot be remembered.
        drop(cache.set_tested(&vault.id(), &good.collect::<Vec<_>>(), world.now_s()));
    }
    if record {
        let report = json!({"slots": slots.iter().map(slot_json).collect::<Vec<_>>()}).to_string();
        let head = vault.record_evidence("keys test", report.as_bytes())?;
        world.output.note(&format!("recorded; head {head}"));
    }
    show(world, &vault, &slots)
}

fn add(world: &World, args: &NewSlotArgs) -> Result<Exit> {
    let store = world.open_store()?;
    let mut vault = world.open_vault_to_write(&store)?;
    if let (Some(counts), Some(dir)) = (args.new_shares, &args.shares_dir) {
        return add_shares(world, &mut vault, counts, dir, args);
    }
    let root: Box<dyn RootKey> = match (&args.new_key_file, &args.new_passphrase_file, args.new_passphrase) {
        _ if args.new_root_key.is_some() => {
            let text = args.new_root_key.as_deref().unwrap_or_default();
            Box::new(world.service_root(args.place.place(text)?)?)
        }
        _ if args.token.new_pkcs11_key.is_some() => Box::new(world.pkcs11.new_root_key(&args.token)?),
        (Some(path), _, _) => Box::new(keys::key_file(path)?),
        (_, Some(path), _) => Box::new(keys::passphrase_file(path)?),
        (_, _, asked) if asked || keys::has_terminal() => {
            Box::new(keys::ask_new_passphrase("New passphrase")?)
        }
        _ => {
            let hint = "give --new-key-file FILE, --new-passphrase-file FILE, --new-root-key CRN, --new-pkcs11-key LABEL, or --new-shares 3of5 --shares-dir DIR";
            return Err(Failure::usage("what the new slot is for is not given").hint(hint).into());
        }
    };
    let (id, head) = vault.add_slot_for(root.as_ref(), &args.label, args.purpose())?;
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
    args: &NewSlotArgs,
) -> Result<Exit> {
    let (set, paths) = shares::make(counts, dir)?;
    let (id, head) = vault.add_slot_for(&set, &args.label, args.purpose())?;
    let files: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let value = json!({
        "message_type": "key_added", "slot": id.to_string(), "head": head.to_string(), "shares": files,
    });
    let text = format!("added key slot {}\nhead {head}\n{}", id.short(), files.join("\n"));
    world.output.result(&value, &text)?;
    world.output.note(shares::ADVICE);
    Ok(Exit::Done)
}

const REVOKED: &str = "whoever has an old copy of this slot and its secret can still open the vault; disable the root key where there is one, and `coffer keys \
     rotate` gives the vault a new key, with which what comes from then on stays closed to them";

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
