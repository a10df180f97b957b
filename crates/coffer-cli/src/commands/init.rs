//! `coffer init`

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use coffer_engine::{InitOptions, init};
use coffer_format::header::{ChunkerSpec, StoreMode};
use coffer_keys::RootKey;
use coffer_store::probe;
use serde_json::json;

use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::keys;
use crate::shares::{self, ShareCounts};
use crate::wiring::World;

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Be content with the one key slot of the key given.
    #[arg(long)]
    pub(crate) single_slot: bool,
    /// Add a slot for this key file.
    #[arg(long, value_name = "FILE")]
    pub(crate) add_key_file: Option<PathBuf>,
    /// Add a slot for the passphrase in this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) add_passphrase_file: Option<PathBuf>,
    /// Add a slot for new recovery shares: how many are needed of how many, like 3of5.
    #[arg(long, value_name = "MofN", requires = "shares_dir")]
    pub(crate) add_shares: Option<ShareCounts>,
    /// Directory for the files with the new shares.
    #[arg(long, value_name = "DIR", requires = "add_shares")]
    pub(crate) shares_dir: Option<PathBuf>,
    /// How files are cut into chunks.
    #[arg(long, value_enum, default_value_t = ChunkerName::Pcc)]
    pub(crate) chunker: ChunkerName,
    /// Chunk length in KiB: the minimum for pcc, the length for fixed.
    #[arg(long, value_name = "KIB")]
    pub(crate) chunk_size: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChunkerName {
    /// By content: edits inside a file cost little.
    Pcc,
    /// Of one length: for disk images and databases.
    Fixed,
}

pub(super) fn run(world: &World, args: &InitArgs) -> Result<Exit> {
    let chunker = chunker(args)?;
    let second_given =
        args.add_key_file.is_some() || args.add_passphrase_file.is_some() || args.add_shares.is_some();
    if !args.single_slot && !second_given && !keys::has_terminal() {
        let hint = "add a second way in with --add-passphrase-file FILE, --add-key-file FILE or --add-shares 3of5 --shares-dir DIR, or say --single-slot";
        return Err(Failure::usage("a vault with a single key slot is lost with that one key")
            .hint(hint)
            .into());
    }
    let mut roots: Vec<(Box<dyn RootKey>, String)> = Vec::new();
    if world.has_key_source() {
        roots.push((world.root_key()?, String::new()));
    } else if keys::has_terminal() {
        roots.push((Box::new(keys::ask_new_passphrase("Passphrase of the new vault")?), String::new()));
    } else {
        roots.push((world.root_key()?, String::new()));
    }
    if let Some(path) = &args.add_key_file {
        roots.push((Box::new(keys::key_file(path)?), "second".to_owned()));
    }
    if let Some(path) = &args.add_passphrase_file {
        roots.push((Box::new(keys::passphrase_file(path)?), "recovery".to_owned()));
    }
    if let (Some(counts), Some(dir)) = (args.add_shares, &args.shares_dir) {
        let (set, paths) = shares::make(counts, dir)?;
        for path in &paths {
            world.output.note(&format!("made share {}", path.display()));
        }
        world.output.note(shares::ADVICE);
        roots.push((Box::new(set), "recovery shares".to_owned()));
    }
    if roots.len() == 1 && !args.single_slot {
        roots.push((
            Box::new(keys::ask_new_passphrase("Recovery passphrase, the second way in")?),
            "recovery".to_owned(),
        ));
    }
    let store = world.create_store()?;
    let access = world.access(&store);
    if access.store.stat(&coffer_store::ObjectKey::new("vault")?).is_err() {
        let report = probe(access.store, &coffer_crypto::rng::array(access.rng)?);
        if !report.can_trust_conditional_create() {
            let failed: Vec<_> =
                report.checks.iter().filter(|check| !check.is_passed).map(|check| check.name).collect();
            let message = format!("the store does not do what a vault needs: {}", failed.join(", "));
            return Err(Failure::new(Exit::Failed, message).hint("`coffer doctor` shows the details").into());
        }
    }
    let options = InitOptions { chunker, store_mode: StoreMode::ConditionalCreate };
    let roots: Vec<(&dyn RootKey, String)> =
        roots.iter().map(|(root, label)| (root.as_ref(), label.clone())).collect();
    let created = init(&access, &roots, &options)?;
    let value = json!({
        "message_type": "init", "vault_id": created.vault.to_string(), "head": created.head.to_string(),
        "location": access.store.url(), "slots": created.slots.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "resumed": created.resumed,
    });
    world.output.result(&value, &created.vault.to_string())?;
    let done = if created.resumed { "completed the vault" } else { "made a vault" };
    world.output.note(&format!(
        "{done} at {} with {} key slot(s); above is its id, the fingerprint: keep it with the keys",
        access.store.url(),
        created.slots.len()
    ));
    Ok(Exit::Done)
}

fn chunker(args: &InitArgs) -> Result<ChunkerSpec> {
    let too_large = || Failure::usage("--chunk-size is too large");
    let size = args.chunk_size.map(|kib| kib.checked_mul(1024).ok_or_else(too_large)).transpose()?;
    let spec = match (args.chunker, size) {
        (ChunkerName::Pcc, None) => ChunkerSpec::DEFAULT,
        (ChunkerName::Pcc, Some(min)) => {
            // The mean is about three times the minimum, the maximum sixteen times, as with the default.
            let bits = (min.max(1).ilog2() + 1).clamp(6, 30);
            ChunkerSpec::Pcc { min, bits, max: min.checked_mul(16).ok_or_else(too_large)?.min(16 << 20) }
        }
        (ChunkerName::Fixed, size) => ChunkerSpec::Fixed { len: size.unwrap_or(1 << 20) },
    };
    spec.check().map_err(|error| Failure::usage(format!("--chunk-size: {error}")))?;
    Ok(spec)
}
