//! Flags and subcommands.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use coffer_verify::Subset;

/// Encrypted backup archive vault.
#[derive(Debug, Parser)]
#[command(name = "coffer", bin_name = "coffer", version, disable_version_flag = true, max_term_width = 100)]
#[command(
    after_help = "Environment: COFFER_VAULT, COFFER_KEY_FILE, COFFER_PASSPHRASE, COFFER_PASSPHRASE_FILE, \
    COFFER_PASSPHRASE_COMMAND, COFFER_CACHE_DIR, COFFER_CONFIG. The command line goes before the environment, that \
    before the configuration file.\n\n\
    Exit codes: 0 done, 1 failed, 2 usage, 3 partial, 10 no vault, 11 cannot commit, 12 wrong key, 20 corrupt, \
    21 missing, 22 surplus, 23 rollback, 24 restored from a damaged vault, 130 interrupted."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    /// Print the version.
    #[arg(long, action = ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Where the vault is: a directory.
    #[arg(short = 'V', long, global = true, value_name = "LOCATION")]
    pub(crate) vault: Option<PathBuf>,
    /// The id (fingerprint) that the vault must have.
    #[arg(long, global = true, value_name = "ID")]
    pub(crate) vault_id: Option<coffer_format::id::VaultId>,
    /// Open the vault with this key file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Open the vault with the passphrase in this file (one line end at its end is ignored).
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Open the vault with the passphrase that this shell command prints.
    #[arg(long, global = true, value_name = "COMMAND")]
    pub(crate) passphrase_command: Option<String>,
    /// Where this machine remembers heads and file fingerprints.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Remember nothing, and consult no memory: rollback is not detected.
    #[arg(long, global = true)]
    pub(crate) no_cache: bool,
    /// Configuration file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON, one value on each line; errors and warnings too.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing beside what was asked for, warnings and errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Name every entry that is backed up or restored.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a vault.
    #[command(after_help = "Examples:\n  \
        coffer keys new-file ~/coffer.key\n  \
        coffer -V /backup/vault --key-file ~/coffer.key init --add-passphrase-file recovery.txt\n  \
        coffer -V /backup/vault --key-file ~/coffer.key init --single-slot")]
    Init(InitArgs),
    /// Back up files and directories as one snapshot.
    #[command(after_help = "Examples:\n  \
        coffer -V /backup/vault --key-file ~/coffer.key backup ~/documents\n  \
        coffer backup --tag nightly src docs        (with COFFER_VAULT and COFFER_KEY_FILE set)")]
    Backup(BackupArgs),
    /// List snapshots.
    Snapshots(SnapshotsArgs),
    /// List the entries of a snapshot.
    Ls(LsArgs),
    /// Restore a snapshot, or a part of it, into a directory.
    #[command(after_help = "Examples:\n  \
        coffer restore latest --target /tmp/out\n  \
        coffer restore 1f0c3a9e:/docs/report.txt --target /tmp/out")]
    Restore(RestoreArgs),
    /// Check that a vault is intact: without keys, or with --deep everything that is sealed.
    #[command(
        alias = "check",
        after_help = "Examples:\n  \
        coffer -V /mnt/copy verify --offline --vault-id ID --head HEAD\n  \
        coffer verify --deep --read-subset 5%"
    )]
    Verify(VerifyArgs),
    /// Show how much a vault holds.
    Stats,
    /// Make and manage keys.
    #[command(subcommand, alias = "key")]
    Keys(KeysCommand),
    /// Check the store and the state of the vault, and say what follows.
    Doctor,
}

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

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// What to back up. Relative paths are stored relative; absolute ones, and those with "..", whole.
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Tag the snapshot; may be given several times.
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<String>,
    /// Host name to record instead of this machine's.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// zstd level 1 to 19, "auto" (3, and incompressible data stored as it is), or "off".
    #[arg(long, value_name = "LEVEL", default_value = "auto", value_parser = parse_compression)]
    pub(crate) compression: coffer_pipeline::compress::Compression,
    /// Read every file, whatever the last snapshot says.
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not open, decompress and rehash what was sealed before it is stored.
    #[arg(long)]
    pub(crate) no_extra_verify: bool,
    /// Seconds after which a long backup names what it has stored so far.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) progress_interval: u64,
    /// Length in MiB at which packs are closed, 4 to 120.
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u64).range(4..=120))]
    pub(crate) pack_size: u64,
    /// Threads that compress and seal.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

fn parse_compression(text: &str) -> Result<coffer_pipeline::compress::Compression, String> {
    use coffer_pipeline::compress::Compression;
    match text {
        "auto" => Ok(Compression::Auto),
        "off" => Ok(Compression::Off),
        _ => match text.parse::<u8>() {
            Ok(level @ 1..=19) => Ok(Compression::Level(level)),
            _ => Err("expected 1 to 19, auto or off".to_owned()),
        },
    }
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotsArgs {
    /// Only snapshots with this tag.
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<String>,
    /// Only snapshots of this host.
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// "latest", "latest~N", or the beginning of an id; ":/path" behind it for a part.
    #[arg(value_name = "SNAPSHOT[:/PATH]")]
    pub(crate) snapshot: OsString,
    /// Show mode, owner, size and time.
    #[arg(short, long)]
    pub(crate) long: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// "latest", "latest~N", or the beginning of an id; ":/path" behind it for a part.
    #[arg(value_name = "SNAPSHOT[:/PATH]")]
    pub(crate) snapshot: OsString,
    /// Directory to restore into; made if it is not there.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) target: PathBuf,
    /// Restore owners by number, not by name.
    #[arg(long)]
    pub(crate) numeric_owner: bool,
    /// Restore set-user-id and set-group-id bits and file capabilities.
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Restore device nodes.
    #[arg(long)]
    pub(crate) devices: bool,
    /// Threads that open and write.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Use nothing but the vault's own files and what is given here: no key, no network, no local memory.
    #[arg(long, conflicts_with = "deep")]
    pub(crate) offline: bool,
    /// With a key: open every frame, rehash every chunk, walk every tree.
    #[arg(long)]
    pub(crate) deep: bool,
    /// A head that the log must contain (NUMBER:HEX), from the last backup's receipt or a witness.
    #[arg(long, value_name = "HEAD")]
    pub(crate) head: Option<coffer_format::id::Head>,
    /// Read only a part of the packs: n/m, a percentage, or a size as 10G. Everything else is checked in any case.
    #[arg(long, value_name = "SUBSET")]
    pub(crate) read_subset: Option<Subset>,
    /// Threads that read and check.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a new key file (mode 0600); an existing file is never overwritten.
    NewFile {
        /// The file.
        file: PathBuf,
    },
    /// List the vault's key slots.
    List,
    /// Add a key slot.
    Add(NewSlotArgs),
    /// Open the vault with the key given, and check the slots it fits.
    Test {
        /// Also test the slots that this key file fits.
        #[arg(long, value_name = "FILE")]
        also_key_file: Option<PathBuf>,
        /// Also test the slots that the passphrase in this file fits.
        #[arg(long, value_name = "FILE")]
        also_passphrase_file: Option<PathBuf>,
    },
    /// Revoke a key slot. An old copy of it, with the old secret, still opens what it could open.
    Revoke {
        /// Beginning of the slot's id, from "keys list".
        slot: String,
    },
    /// Replace the slot that opened the vault by one for a new passphrase.
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
    /// Label of the slot.
    #[arg(long, default_value = "")]
    pub(crate) label: String,
}
