//! `coffer init`

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, ValueEnum};
use coffer_engine::{Created, InitOptions, LockPolicy, Settings, Vault, init, init_with};
use coffer_format::header::{ChunkerSpec, StoreMode};
use coffer_keys::{RecoveryShares, RootKey};
use coffer_store::Support;
use serde_json::{Value, json};

use super::policy::LockArgs;
use crate::bucket::{mode_of, told};
use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::fitness;
use crate::key_service::PlaceArgs;
use crate::keys;
use crate::pkcs11::NewPkcs11Args;
use crate::process;
use crate::root_keys::none_given;
use crate::shares::{self, ShareCounts};
use crate::stores::Store;
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
    /// Add a slot for this root key of a key service, its CRN or https://HOST/INSTANCE/KEY; may be given several times.
    #[arg(long, value_name = "CRN")]
    pub(crate) add_root_key: Vec<String>,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Add a slot for the key with this label on the token that --pkcs11-module and --pkcs11-token name.
    #[arg(long, value_name = "LABEL")]
    pub(crate) add_pkcs11_key: Option<String>,
    /// Make the vault though the store cannot keep two writers apart, and see to it yourself that only one ever writes.
    #[arg(long)]
    pub(crate) single_writer: bool,
    #[command(flatten)]
    pub(crate) lock: LockArgs,
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
    let policy = args.lock.policy()?;
    args.place.check(args.add_root_key.len())?;
    let mut roots = roots(world, args)?;
    let new_shares = args.add_shares.map(shares::generate).transpose()?.map(Arc::new);
    roots.extend(
        new_shares.iter().map(|set| (Arc::clone(set) as Arc<dyn RootKey>, "recovery shares".to_owned())),
    );
    if is_one_way(&roots) && !args.single_slot {
        if !process::has_terminal() || roots.iter().any(|(root, _)| root.kind_name() == "passphrase") {
            return Err(one_way(&roots).into());
        }
        roots.push((
            Arc::new(world.keys.passphrases().ask_new("Recovery passphrase, the second way in")?),
            "recovery".to_owned(),
        ));
    }
    let store = world.create_store()?;
    let made = make(world, args, &store, (chunker, policy), (&roots, new_shares.as_deref()));
    let (created, facts) = made.inspect_err(|_| store.unmake())?;
    let access = world.access(&store);
    if policy.is_some() {
        let mut vault = Vault::open(access, roots[0].0.as_ref(), Some(created.vault))?;
        Settings::change(&mut vault, &args.lock.changes())?;
    }
    store.replicas.finish();
    if let Some((left, reason)) = store.replicas.left_behind().first() {
        let message = format!("the vault is made, but not in {left}: {reason}");
        return Err(Failure::new(Exit::Partial, message)
            .hint("`coffer replicate --new` completes it")
            .into());
    }
    let value = json!({
        "message_type": "init", "vault_id": created.vault.to_string(), "head": created.head.to_string(),
        "location": access.store.url(), "slots": created.slots.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "resumed": created.resumed, "bucket": facts,
    });
    world.result(value, &created.vault.to_string())?;
    let done = if created.resumed { "completed the vault" } else { "made a vault" };
    world.output.note(&format!(
        "{done} at {} with {} key slot(s); above is its id, the fingerprint: keep it with the keys",
        access.store.url(),
        created.slots.len()
    ));
    Ok(Exit::Done)
}

/// A root key, with the label of its slot.
type LabelledRoot = (Arc<dyn RootKey>, String);

/// Makes the vault, or completes it; with it, what was found of buckets.
fn make(
    world: &World,
    args: &InitArgs,
    store: &Store,
    (chunker, policy): (ChunkerSpec, Option<LockPolicy>),
    (roots, new_shares): (&[LabelledRoot], Option<&RecoveryShares>),
) -> Result<(Created, Vec<Value>)> {
    if let Some(policy) = policy {
        if store.buckets().next().is_none() {
            return Err(Failure::usage("a directory has no locks").hint("leave out --lock").into());
        }
        fitness::check_lock(world, store, policy)?;
    }
    let access = world.access(store);
    let is_new = access.store.stat(&coffer_store::ObjectKey::new("vault")?).is_err();
    let (store_mode, facts) =
        if is_new { mode(world, args, store)? } else { (StoreMode::ConditionalCreate, Vec::new()) };
    if let Some(policy) = policy {
        store.buckets().for_each(|bucket| bucket.retain(policy));
    }
    let options = InitOptions { chunker, store_mode };
    let roots: Vec<(&dyn RootKey, String)> =
        roots.iter().map(|(root, label)| (root.as_ref(), label.clone())).collect();
    store.replicas.name_stores(access.rng)?;
    // Before anything is sealed for them, and after all that may be wrong was looked at.
    let written = new_shares.zip(args.shares_dir.as_deref());
    let written = written.map(|(set, dir)| shares::write(set, dir)).transpose()?;
    let created = match written {
        Some(files) => {
            let created = init_with(&access, &roots, &options, &mut || files.begin_commit());
            let (created, paths) = files.settle(created, world.output)?;
            for path in paths {
                world.output.note(&format!("made share {}", path.display()));
            }
            world.output.note(shares::ADVICE);
            created
        }
        None => init(&access, &roots, &options)?,
    };
    Ok((created, facts))
}

/// The keys that the new vault gets slots for, but for new shares, each with the label of its slot: those that are given to open it, and those
/// that are to be added. If there are none, the terminal is asked for a passphrase.
fn roots(world: &World, args: &InitArgs) -> Result<Vec<(Arc<dyn RootKey>, String)>> {
    let given = world.keys.at_hand()?;
    let mut roots: Vec<(Arc<dyn RootKey>, String)> =
        given.into_iter().map(|root| (root, String::new())).collect();
    if args.add_pkcs11_key.is_some() {
        let token = NewPkcs11Args { new_pkcs11_key: args.add_pkcs11_key.clone(), ..NewPkcs11Args::default() };
        roots.push((Arc::new(world.keys.pkcs11().new_root_key(&token)?), String::new()));
    }
    for text in &args.add_root_key {
        roots.push((Arc::new(world.service_root(args.place.place(text)?)?), String::new()));
    }
    if let Some(path) = &args.add_key_file {
        let label = if roots.is_empty() { "" } else { "second" };
        roots.push((Arc::new(keys::key_file(path)?), label.to_owned()));
    }
    if let Some(path) = &args.add_passphrase_file {
        roots.push((Arc::new(world.keys.passphrases().of_file(path)?), "recovery".to_owned()));
    }
    if roots.is_empty() && args.add_shares.is_none() {
        // Credentials of a bucket may be those of a key service as well, but they name no root key.
        if !process::has_terminal() {
            return Err(none_given().into());
        }
        roots.push((
            Arc::new(world.keys.passphrases().ask_new("Passphrase of the new vault")?),
            String::new(),
        ));
    }
    Ok(roots)
}

/// Whether all slots would be of one kind, and be lost together for one reason.
fn is_one_way(roots: &[(Arc<dyn RootKey>, String)]) -> bool {
    let first = roots.first().map(|(root, _)| root.kind_name());
    roots.iter().all(|(root, _)| Some(root.kind_name()) == first)
}

fn one_way(roots: &[(Arc<dyn RootKey>, String)]) -> Failure {
    let message = if roots.len() == 1 {
        "a vault with a single key slot is lost with that one key"
    } else {
        "key slots of one kind are lost together: a second way in is of another kind"
    };
    let hint = "add one with --add-passphrase-file FILE, --add-key-file FILE, --add-root-key CRN or --add-shares 3of5 --shares-dir DIR, or say --single-slot";
    Failure::usage(message).hint(hint)
}

/// How writers will share the stores, after they were probed; said aloud where it is not the usual way. With it, what was found
/// of buckets.
fn mode(world: &World, args: &InitArgs, store: &Store) -> Result<(StoreMode, Vec<Value>)> {
    let mut weakest = Support::ConditionalCreate;
    let mut facts = Vec::new();
    for plain in store.plain() {
        let report = fitness::tried(world, plain, Support::SingleWriter)?;
        facts.extend(fitness::facts_json(&plain.url(), &report));
        fitness::say_checksums(world, &plain.url(), &report);
        let support = report.support();
        if !report.is_enough_for(support) {
            let failed: Vec<_> =
                report.broken().map(|check| format!("{}: {}", check.name, check.detail)).collect();
            let message = format!("{} does not do what a vault needs: {}", plain.url(), failed.join("; "));
            return Err(Failure::new(Exit::Failed, message).hint("use another store").into());
        }
        // Why it is not the usual way.
        if support != Support::ConditionalCreate {
            report.broken().for_each(|check| world.output.warn(&format!("{}: {}", check.name, check.detail)));
        }
        // Of several stores the header can say but one way: that of the weakest.
        weakest = match (weakest, support) {
            (Support::SingleWriter, _) | (_, Support::SingleWriter) => Support::SingleWriter,
            (Support::OldestVersion, _) | (_, Support::OldestVersion) => Support::OldestVersion,
            (Support::ConditionalCreate, Support::ConditionalCreate) => Support::ConditionalCreate,
        };
        if support == Support::SingleWriter
            && !args.single_writer
            && let Some(unknown) = fitness::unknown_versions(&plain.url(), &report)
        {
            return Err(unknown.into());
        }
    }
    if weakest == Support::SingleWriter && !args.single_writer {
        let message = "the store does not create objects exclusively and keeps no versions: two writers would overwrite each other's records";
        let hint = "use a bucket that keeps versions, or say --single-writer and let only one machine write, one command at a time";
        return Err(Failure::new(Exit::Failed, message).hint(hint).into());
    }
    if args.single_writer {
        weakest = Support::SingleWriter;
    }
    if weakest != Support::ConditionalCreate {
        world.output.warn(told(weakest));
    }
    store.buckets().for_each(|bucket| bucket.settle(mode_of(weakest)));
    Ok((mode_of(weakest), facts))
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
