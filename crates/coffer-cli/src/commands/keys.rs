//! `coffer keys`

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use crate::exit_code::Exit;
use crate::pkcs11::{NewTokenKeyArgs, new_token_key};
use crate::wiring::World;

mod add;
mod kit;
mod list;
mod new_file;
mod revoke;
mod rotate;
mod service;
mod test;
mod writer;

use add::NewSlotArgs;
use test::AlsoArgs;
use writer::GrantWriterArgs;

pub(super) use list::key_id;

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
    /// Open the vault with the key given, and check the slots that the keys given fit.
    #[command(after_help = "Examples:\n  \
        coffer keys test\n  \
        coffer keys test --also-passphrase-file recovery.txt")]
    Test {
        #[command(flatten)]
        also: AlsoArgs,
        /// Also fail, with exit code 3, if a slot was not tested because no key for it was given.
        #[arg(long)]
        all: bool,
        /// Put what came of it into the vault's log, signed.
        #[arg(long)]
        record: bool,
    },
    /// Revoke a key slot. An old copy of it, with the old secret, still opens what it could open.
    #[command(after_help = "Examples:\n  coffer keys revoke 2a8d8284")]
    Revoke(revoke::RevokeArgs),
    /// Enrol a writer: make a credential that backs up and reads nothing.
    #[command(after_help = "Examples:\n  \
        coffer keys grant-writer web-1 --out web-1.writer\n  \
        coffer --writer web-1.writer backup /srv/www")]
    GrantWriter(GrantWriterArgs),
    /// Revoke a writer, or another signer: nothing that it signs from now on counts. Its snapshots stay.
    #[command(after_help = "Examples:\n  coffer keys revoke-writer web-1")]
    RevokeWriter {
        /// Its name, or the beginning of its key (8 digits or more).
        #[arg(value_name = "WRITER")]
        name: String,
    },
    /// List the writers that were ever enrolled, and all other signers but the owner.
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
    /// Replace the slot that a passphrase opens by one for a new passphrase.
    #[command(after_help = "Examples:\n  \
        coffer --passphrase-file old.txt keys passwd --new-passphrase-file new.txt")]
    Passwd {
        /// File that holds the new passphrase; without it the terminal is asked.
        #[arg(long, value_name = "FILE")]
        new_passphrase_file: Option<PathBuf>,
        /// Label of the new slot; without it, that of the old one.
        #[arg(long)]
        label: Option<String>,
    },
}

pub(super) fn run(world: &World, command: &KeysCommand) -> Result<Exit> {
    match command {
        KeysCommand::NewFile { file } => new_file::run(world, file),
        KeysCommand::NewTokenKey(args) => new_token_key(world.output, world.keys.pkcs11(), args),
        KeysCommand::List => list::run(world),
        KeysCommand::Add(args) => add::run(world, args),
        KeysCommand::Test { also, all, record } => test::run(world, also, *all, *record),
        KeysCommand::Revoke(args) => revoke::run(world, args),
        KeysCommand::Rewrap => service::rewrap(world),
        KeysCommand::Retarget(args) => service::retarget(world, args),
        KeysCommand::Rotate(args) => rotate::run(world, args),
        KeysCommand::ExportKit { dir } => kit::export(world, dir),
        KeysCommand::GrantWriter(args) => writer::grant(world, args),
        KeysCommand::RevokeWriter { name } => writer::revoke(world, name),
        KeysCommand::Writers => writer::list(world),
        KeysCommand::Passwd { new_passphrase_file, label } => {
            revoke::passwd(world, new_passphrase_file.as_deref(), label.as_deref())
        }
    }
}
