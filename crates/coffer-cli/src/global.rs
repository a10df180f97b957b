//! Flags that every command takes.

use std::path::PathBuf;

use clap::{ArgAction, Args};

use crate::key_service::KeyServiceArgs;
use crate::passphrase::PassphraseArgs;
use crate::pkcs11::Pkcs11Args;
use crate::storage::StorageArgs;

/// Flags that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Where the vault is: a directory, s3://BUCKET/PREFIX, or cos://REGION/BUCKET/PREFIX.
    #[arg(short = 'V', long, global = true, value_name = "LOCATION")]
    pub(crate) vault: Option<PathBuf>,
    /// Another store of the vault; may be given several times. Without --vault, the first one is where a new vault is made.
    #[arg(long, global = true, value_name = "LOCATION")]
    pub(crate) store: Vec<PathBuf>,
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
    /// Open the vault with recovery shares: the file of one; given as often as shares are needed.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) share: Vec<PathBuf>,
    /// Back up with this writer credential, which opens and reads nothing.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) writer: Option<PathBuf>,
    /// Where this machine remembers heads and file fingerprints.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Remember nothing, and consult no memory: rollback is not detected.
    #[arg(long, global = true)]
    pub(crate) no_cache: bool,
    /// Configuration file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Take the settings of this profile of the configuration file.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Print JSON, one value on each line; errors and warnings too.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing beside what was asked for, warnings and errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Name every entry that is backed up or restored; -vv also says which settings are in force.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(flatten)]
    pub(crate) passphrases: PassphraseArgs,
    #[command(flatten)]
    pub(crate) pkcs11: Pkcs11Args,
    #[command(flatten)]
    pub(crate) key_service: KeyServiceArgs,
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
}
