//! Flags and subcommands.

use clap::{ArgAction, Parser, Subcommand};

use crate::commands::backup::BackupArgs;
use crate::commands::cat::CatArgs;
use crate::commands::completions::CompletionsArgs;
use crate::commands::diff::DiffArgs;
use crate::commands::dump::DumpArgs;
use crate::commands::find::FindArgs;
use crate::commands::handover::HandoverArgs;
use crate::commands::init::InitArgs;
use crate::commands::keys::KeysCommand;
use crate::commands::kms::KmsCommand;
use crate::commands::locks::LocksCommand;
use crate::commands::ls::LsArgs;
use crate::commands::man::ManArgs;
use crate::commands::policy::PolicyCommand;
use crate::commands::promote::PromoteArgs;
use crate::commands::reconcile::ReconcileArgs;
use crate::commands::regions::RegionsArgs;
use crate::commands::replicate::ReplicateArgs;
use crate::commands::restore::RestoreArgs;
use crate::commands::sandbox::SandboxCommand;
use crate::commands::snapshots::SnapshotsArgs;
use crate::commands::verify::VerifyArgs;
use crate::global::Global;

/// Encrypted backup archive vault.
#[derive(Debug, Parser)]
#[command(name = "coffer", bin_name = "coffer", version, disable_version_flag = true, max_term_width = 100)]
#[command(styles = crate::style::of_help())]
#[command(after_help = "Examples:\n  \
    coffer keys new-file ~/coffer.key\n  \
    coffer -V /backup/vault --key-file ~/coffer.key init --single-slot\n  \
    coffer -V /backup/vault --key-file ~/coffer.key backup ~/documents\n  \
    coffer -V /backup/vault --key-file ~/coffer.key restore latest --target /tmp/out\n\n\
    Environment: COFFER_VAULT, COFFER_KEY_FILE, COFFER_PASSPHRASE, COFFER_PASSPHRASE_FILE, \
    COFFER_PASSPHRASE_COMMAND, COFFER_PASSPHRASE_COST, COFFER_SHARES, COFFER_WRITER, COFFER_CACHE_DIR, COFFER_CONFIG; of object storage COFFER_ENDPOINT, \
    COFFER_REGION, COFFER_COS_CREDENTIALS, COFFER_IBM_API_KEY_FILE, COFFER_IBM_API_KEY, \
    COFFER_IBM_TRUSTED_PROFILE, COFFER_IBM_CR_TOKEN_FILE, COFFER_IAM_ENDPOINT, COFFER_CA_CERT; of tokens COFFER_PKCS11_MODULE, COFFER_PKCS11_TOKEN, COFFER_PKCS11_KEY, COFFER_PKCS11_PIN_FILE, COFFER_PKCS11_PIN; of key services COFFER_KEY_SERVICE_API_KEY_FILE, COFFER_KEY_SERVICE_TOKEN_FILE, COFFER_KEY_SERVICE_HOSTS. The command line goes before the environment, that \
    before the configuration file. COFFER_PROFILE, as --profile, chooses a profile of that file.\n\n\
    Exit codes: 0 done, 1 failed, 2 usage, 3 partial, 10 no vault, 11 cannot commit, 12 wrong key, 20 corrupt, \
    21 missing, 22 surplus, 23 rollback, 24 restored from a damaged vault, 25 archived, 26 locks expire, 30 no access, 31 unreachable, \
    32 wrong store, 130 interrupted, 141 nobody read the output.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    /// Print the version.
    #[arg(long, action = ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    pub(crate) command: Command,
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
    #[command(after_help = "Examples:\n  \
        coffer snapshots\n  \
        coffer snapshots --tag nightly --host laptop\n  \
        coffer snapshots --group-by host,paths --latest 3")]
    Snapshots(SnapshotsArgs),
    /// List the entries of a snapshot.
    #[command(after_help = "Examples:\n  \
        coffer ls latest\n  \
        coffer ls --long latest~1:/docs")]
    Ls(LsArgs),
    /// Find entries of snapshots by name or path.
    #[command(after_help = "Examples:\n  \
        coffer find '*.odt'\n  \
        coffer find --ignore-case --snapshot latest '/home/**/invoice*'")]
    Find(FindArgs),
    /// Print the content of a file.
    #[command(after_help = "Examples:\n  \
        coffer cat latest:/home/me/notes.txt\n  \
        coffer cat --at 2026-01-31T04:00 --host laptop :/etc/fstab")]
    Cat(CatArgs),
    /// Write a file, or a directory as an archive, to standard output or into a file.
    #[command(after_help = "Examples:\n  \
        coffer dump latest:/home/me > me.tar\n  \
        coffer dump latest:/home/me --archive zip --output me.zip")]
    Dump(DumpArgs),
    /// Show what differs between two snapshots, or a snapshot and a directory.
    #[command(after_help = "Examples:\n  \
        coffer diff latest~1 latest\n  \
        coffer diff --metadata latest~7:/etc latest:/etc\n  \
        coffer diff latest:/home/me --dir /home/me")]
    Diff(DiffArgs),
    /// Restore a snapshot, or a part of it, into a directory.
    #[command(after_help = "Examples:\n  \
        coffer restore latest --target /tmp/out\n  \
        coffer restore 1f0c3a9e:/docs/report.txt --target /tmp/out")]
    Restore(RestoreArgs),
    /// Check that a vault is intact: without keys, or with --deep everything that is sealed.
    #[command(
        visible_alias = "check",
        after_help = "Examples:\n  \
        coffer -V /mnt/copy verify --offline --vault-id ID --head HEAD\n  \
        coffer verify --deep --read-subset 5%"
    )]
    Verify(VerifyArgs),
    /// Bring every other store of the vault up to its home, or show how far each is behind.
    #[command(after_help = "Examples:\n  \
        coffer --store /backup/a --store /mnt/b replicate\n  \
        coffer --store /backup/a --store /mnt/b replicate --status")]
    Replicate(ReplicateArgs),
    /// Move the home of the log to another store, while both answer.
    #[command(after_help = "Examples:\n  \
        coffer --store /backup/a --store /mnt/b handover --to /mnt/b")]
    Handover(HandoverArgs),
    /// Make a replica the home of the log, when the home is lost.
    #[command(after_help = "Examples:\n  \
        coffer promote --store /mnt/b\n  \
        coffer --store /mnt/b --store /mnt/c promote --to /mnt/b --accept-loss")]
    Promote(PromoteArgs),
    /// Take over the snapshots that a store committed after another one was promoted.
    #[command(after_help = "Examples:\n  \
        coffer --store /mnt/b --store /backup/a reconcile --rejoin")]
    Reconcile(ReconcileArgs),
    /// Show how much a vault holds.
    #[command(after_help = "Examples:\n  \
        coffer stats\n  \
        coffer --json stats")]
    Stats,
    /// Make and manage keys.
    #[command(
        subcommand,
        visible_alias = "key",
        after_help = "Examples:\n  \
        coffer keys new-file ~/coffer.key\n  \
        coffer keys add --new-passphrase-file recovery.txt --label recovery\n  \
        coffer keys test --also-passphrase-file recovery.txt"
    )]
    Keys(KeysCommand),
    /// Show or change the owner's settings, above all how objects are locked.
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        coffer policy show\n  \
        coffer policy set --lock compliance --lock-days 30"
    )]
    Policy(PolicyCommand),
    /// Prolong the locks of what kept snapshots need, or lay a legal hold on it.
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        coffer locks extend --dry-run\n  \
        coffer verify --locks --min-days 14"
    )]
    Locks(LocksCommand),
    /// Check the store and the state of the vault, and say what follows.
    #[command(after_help = "Examples:\n  \
        coffer -V /backup/vault doctor")]
    Doctor,
    /// List the locations of Cloud Object Storage.
    #[command(after_help = "Examples:\n  \
        coffer regions\n  \
        coffer --json regions")]
    Regions(RegionsArgs),
    /// Print what a shell needs to complete the words of a command line.
    #[command(after_help = "Examples:\n  \
        coffer completions bash > ~/.local/share/bash-completion/completions/coffer\n  \
        coffer completions zsh > \"${fpath[1]}/_coffer\"\n  \
        coffer completions fish > ~/.config/fish/completions/coffer.fish")]
    Completions(CompletionsArgs),
    /// Print the manual page, or write the pages of all commands into a directory.
    #[command(after_help = "Examples:\n  \
        coffer man | man -l -\n  \
        coffer man --dir ~/.local/share/man/man1")]
    Man(ManArgs),
    /// Run a simulated IBM Cloud region on loopback, to try things out on and to test against.
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        coffer sandbox serve --dir /tmp/region"
    )]
    Sandbox(SandboxCommand),
    /// Run a key service of your own, with the API of Key Protect.
    #[command(
        subcommand,
        after_help = "Examples:\n  \
        coffer kms new-part a.part\n  \
        coffer kms new-part b.part\n  \
        coffer kms new-token --tokens tokens.json --name backup --role Writer\n  \
        coffer kms serve --dir kms --tokens tokens.json --master-key-part a.part --master-key-part b.part"
    )]
    Kms(KmsCommand),
}
