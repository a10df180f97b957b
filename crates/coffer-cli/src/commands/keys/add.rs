//! `coffer keys add`

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use coffer_engine::Vault;
use coffer_format::slot::SlotPurpose;
use coffer_keys::RootKey;
use serde_json::json;

use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::key_service::PlaceArgs;
use crate::pkcs11::NewPkcs11Args;
use crate::shares::{self, ShareCounts};
use crate::wiring::World;
use crate::{keys, process};

/// What a new slot is for.
#[derive(Debug, Args)]
pub(crate) struct NewSlotArgs {
    /// For this key file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["new_passphrase_file", "new_passphrase"])]
    new_key_file: Option<PathBuf>,
    /// For the passphrase in this file.
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase")]
    new_passphrase_file: Option<PathBuf>,
    /// For a passphrase that the terminal is asked for.
    #[arg(long)]
    new_passphrase: bool,
    /// For new recovery shares: how many are needed of how many, like 3of5.
    #[arg(
        long,
        value_name = "MofN",
        requires = "shares_dir",
        conflicts_with_all = ["new_key_file", "new_passphrase_file", "new_passphrase"],
    )]
    new_shares: Option<ShareCounts>,
    /// Directory for the files with the new shares.
    #[arg(long, value_name = "DIR", requires = "new_shares")]
    shares_dir: Option<PathBuf>,
    /// For this root key of a key service: its CRN, or https://HOST/INSTANCE/KEY.
    #[arg(
        long,
        value_name = "CRN",
        conflicts_with_all = ["new_key_file", "new_passphrase_file", "new_passphrase", "new_shares"],
    )]
    new_root_key: Option<String>,
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    token: NewPkcs11Args,
    /// Label of the slot.
    #[arg(long, default_value = "")]
    label: String,
    /// The slot opens the vault for reading only: what it gives signs nothing.
    #[arg(long)]
    reader: bool,
}

impl NewSlotArgs {
    const fn purpose(&self) -> SlotPurpose {
        if self.reader { SlotPurpose::ReaderSecret } else { SlotPurpose::VaultKey }
    }
}

pub(super) fn run(world: &World, args: &NewSlotArgs) -> Result<Exit> {
    args.place.check(usize::from(args.new_root_key.is_some()))?;
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
        _ if args.token.new_pkcs11_key.is_some() => Box::new(world.keys.pkcs11().new_root_key(&args.token)?),
        (Some(path), _, _) => Box::new(keys::key_file(path)?),
        (_, Some(path), _) => Box::new(world.keys.passphrases().of_file(path)?),
        (_, _, asked) if asked || process::has_terminal() => {
            Box::new(world.keys.passphrases().ask_new("New passphrase")?)
        }
        _ => {
            let hint = "give --new-key-file FILE, --new-passphrase-file FILE, --new-root-key CRN, --new-pkcs11-key LABEL, or --new-shares 3of5 --shares-dir DIR";
            return Err(Failure::usage("what the new slot is for is not given").hint(hint).into());
        }
    };
    let (id, head) = vault.add_slot_for(root.as_ref(), &args.label, args.purpose())?;
    let value =
        json!({"message_type": "key_added", "slot": id.to_string(), "head": head.to_string(), "shares": []});
    world.result(value, &format!("added key slot {}\nhead {head}", id.short()))?;
    Ok(Exit::Done)
}

fn add_shares(
    world: &World,
    vault: &mut Vault<'_>,
    counts: ShareCounts,
    dir: &Path,
    args: &NewSlotArgs,
) -> Result<Exit> {
    let set = shares::generate(counts)?;
    let files = shares::write(&set, dir)?;
    let added = vault.add_slot_with(&set, &args.label, args.purpose(), &mut || files.begin_commit());
    let ((id, head), files) = files.settle(added, world.output)?;
    let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    let value = json!({
        "message_type": "key_added", "slot": id.to_string(), "head": head.to_string(), "shares": files,
    });
    let text = format!("added key slot {}\nhead {head}\n{}", id.short(), files.join("\n"));
    world.result(value, &text)?;
    world.output.note(shares::ADVICE);
    Ok(Exit::Done)
}
