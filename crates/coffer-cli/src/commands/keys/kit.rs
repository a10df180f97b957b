//! `coffer keys export-kit`: what a stranger needs, years later, beside the vault and one of its keys.
//!
//! The kit holds no secret: the slots in it are those of the vault. It opens nothing without a root key, and stands in for the slots and
//! the header if a store loses them.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use coffer_crypto::hash::sha256;
use coffer_engine::{SlotStatus, Vault};
use coffer_format::id::hex;
use coffer_format::path::display_path;
use coffer_format::slot::{KeyServiceKind, Slot, SlotKind, SlotPurpose};
use serde_json::json;

use super::list::{kind_text, root_key_json};
use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::output::time_utc;
use crate::wiring::World;

const FORMAT: &str = include_str!("../../../../../docs/format.md");
/// A file of `tests/reader` under the same name in the kit.
macro_rules! reader_file {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../../../tests/reader/", $name)))
    };
}
/// The second reader: its command line, and a module for each part of the format.
const READER: [(&str, &str); 14] = [
    reader_file!("coffer_reader.py"),
    reader_file!("coffer_format/__init__.py"),
    reader_file!("coffer_format/cbor.py"),
    reader_file!("coffer_format/conventions.py"),
    reader_file!("coffer_format/header.py"),
    reader_file!("coffer_format/index.py"),
    reader_file!("coffer_format/limits.py"),
    reader_file!("coffer_format/packs.py"),
    reader_file!("coffer_format/records.py"),
    reader_file!("coffer_format/replay.py"),
    reader_file!("coffer_format/seals.py"),
    reader_file!("coffer_format/slots.py"),
    reader_file!("coffer_format/tree.py"),
    reader_file!("coffer_format/vault.py"),
];
/// The packages that the reader needs, a line with a version for each.
const READER_NEEDS: &str = include_str!("../../../../../tests/reader/requirements.txt");

pub(super) fn export(world: &World, dir: &Path) -> Result<Exit> {
    let store = world.open_store()?;
    let vault = world.open_vault(&store)?;
    let slots = vault.slots()?;
    if let Some(lost) = slots.iter().find(|status| status.slot.is_none()) {
        let message = format!(
            "key slot {} is missing or damaged: a kit without it would not be whole",
            lost.id.short()
        );
        return Err(Failure::new(Exit::Corrupt, message)
            .hint("make a new slot with `coffer keys add` and revoke this one, or heal it from another store")
            .into());
    }
    let mut files = vec![
        ("README.txt".to_owned(), instructions(world, &vault, &slots).into_bytes()),
        ("vault-id.txt".to_owned(), format!("{}\n", vault.id()).into_bytes()),
        ("head.txt".to_owned(), vault.log.head().map(|head| format!("{head}\n")).unwrap_or_default().into()),
        ("slots.json".to_owned(), described(&slots)?),
        ("vault".to_owned(), vault.header_bytes()),
        ("format.md".to_owned(), FORMAT.into()),
        ("requirements.txt".to_owned(), READER_NEEDS.into()),
    ];
    files.extend(READER.iter().map(|(name, text)| ((*name).to_owned(), (*text).into())));
    files.extend(slots.iter().filter_map(|status| {
        let bytes = status.slot.as_ref()?.encode();
        (Slot::id(&bytes) == status.id).then(|| (format!("slots/{}", status.id), bytes))
    }));
    let sums: String =
        files.iter().map(|(name, bytes)| format!("{}  {name}\n", hex(&sha256(bytes)))).collect();
    files.push(("SHA256SUMS".to_owned(), sums.into_bytes()));
    write_all(dir, &files).with_context(|| format!("write the kit to {}", dir.display()))?;
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    let value = json!({
        "message_type": "kit", "dir": dir.display().to_string(), "vault_id": vault.id().to_string(), "files": names,
    });
    world.result(value, &format!("wrote {} files to {}", files.len(), dir.display()))?;
    world.output.note("the kit opens nothing by itself; keep it where the root keys are not, and write a new one when slots change");
    Ok(Exit::Done)
}

fn write_all(dir: &Path, files: &[(String, Vec<u8>)]) -> Result<()> {
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::usage(format!("{} is not empty", dir.display()))
            .hint("name a new or an empty directory")
            .into());
    }
    for (name, bytes) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
    }
    Ok(())
}

fn described(slots: &[SlotStatus]) -> Result<Vec<u8>> {
    let described: Vec<_> = slots
        .iter()
        .map(|status| {
            let slot = status.slot.as_ref();
            json!({
                "slot": status.id.to_string(), "kind": kind_text(status), "label": slot.map(|slot| &slot.label),
                "created": slot.map(|slot| time_utc(slot.created_s.saturating_mul(1_000_000_000))),
                "epoch": slot.map(|slot| slot.epoch), "root_key": slot.and_then(|slot| root_key_json(&slot.kind)),
                "reads_only": slot.map(|slot| slot.purpose == SlotPurpose::ReaderSecret),
            })
        })
        .collect();
    Ok(serde_json::to_vec_pretty(&described)?)
}

/// What has to be at hand for a slot.
fn needed(kind: &SlotKind) -> &'static str {
    match kind {
        SlotKind::Passphrase { .. } => "the passphrase",
        SlotKind::KeyFile { .. } => "the key file with this id, or its line typed from paper",
        SlotKind::Shares { .. } => "as many of the shares as are needed",
        SlotKind::Service(_) => {
            "access to this root key, or to one that was imported from the same material elsewhere"
        }
        SlotKind::Token(_) => "the token, or a backup of it, and its PIN",
    }
}

/// The options of coffer that open a slot with it.
fn options(kind: &SlotKind) -> String {
    match kind {
        SlotKind::Passphrase { .. } => "--passphrase-file FILE".to_owned(),
        SlotKind::KeyFile { .. } => "--key-file FILE".to_owned(),
        SlotKind::Shares { threshold, .. } => {
            format!("--share FILE, {threshold} times, each with the file of another share")
        }
        SlotKind::Service(key) => {
            let host = key.endpoint.split_once("://").map_or(key.endpoint.as_str(), |(_, host)| host);
            let host = display_path(host.as_bytes());
            match key.service {
                KeyServiceKind::Local => {
                    format!("--key-service-token-file FILE --key-service-host {host}")
                }
                KeyServiceKind::KeyProtect | KeyServiceKind::Hpcs => format!(
                    "--key-service-api-key-file FILE, an API key that may unwrap with this root key; \
                     --key-service-host {host} too if that is no host of IBM's"
                ),
            }
        }
        SlotKind::Token(_) => {
            "--pkcs11-module LIBRARY --pkcs11-pin-file FILE, and --pkcs11-token LABEL where the key \
             is in another token now"
                .to_owned()
        }
    }
}

/// The names of the packages that the reader needs.
fn packages() -> String {
    let names = READER_NEEDS.lines().filter_map(|line| line.split_once("=="));
    names.map(|(name, _)| name).collect::<Vec<_>>().join(", ")
}

fn instructions(world: &World, vault: &Vault<'_>, slots: &[SlotStatus]) -> String {
    let mut text = format!(
        "RECOVERY KIT of a coffer vault\n\n\
         Vault id     {}\n\
         Written      {}\n\
         Vault was at {}\n\
         Program      coffer {}\n\n\
         What this is. The vault holds encrypted backups. It opens with ONE of the keys listed below; the key is not in this kit. The kit\n\
         holds the vault's header and key slots, should the store lose them, the description of the format, and a small reader in Python.\n\
         Check the kit with: sha256sum -c SHA256SUMS\n\n\
         What you need: a copy of the vault (a directory, or a bucket with the objects vault, slots/, log/, packs/, index/), and one of:\n\n",
        vault.id(),
        time_utc(i64::try_from(world.now_s()).unwrap_or_default().saturating_mul(1_000_000_000)),
        vault.access.store.url(),
        env!("CARGO_PKG_VERSION"),
    );
    for status in slots {
        let Some(slot) = &status.slot else { continue };
        let label = display_path(slot.label.as_bytes());
        let label = if label.is_empty() { label } else { format!(" \"{label}\"") };
        text.push_str(&format!(
            "  - slot {}{label}: {}\n      needs      {}\n      opens with {}\n",
            status.id.short(),
            kind_text(status),
            needed(&slot.kind),
            options(&slot.kind)
        ));
    }
    text.push_str(&format!(
        "\nWith the program coffer:\n\n    \
         coffer --vault PLACE --vault-id ID OPTIONS snapshots\n    \
         coffer --vault PLACE --vault-id ID OPTIONS restore latest --target DIR\n\n\
         OPTIONS are those of one slot above. PLACE is a directory, s3://BUCKET/PREFIX or cos://REGION/BUCKET/PREFIX; a bucket needs its own\n\
         credentials besides (coffer help; `coffer doctor` says what is missing). A key service, or a bucket, with a certificate that the system does not know: --ca-cert FILE.\n\n\
         head.txt is where the vault was when this kit was written. Whether the vault at PLACE is at least as new, without a key:\n\n    \
         coffer --vault PLACE --vault-id ID verify --head \"$(cat head.txt)\"\n\n\
         If the store has lost the header or slots, copy `vault` and `slots/` of this kit to their places in the vault.\n\
         If a key service is lost, and its root key was imported from material that you have: import it into another instance, then\n\
         coffer --vault PLACE --vault-id ID OPTIONS keys retarget SLOT --to CRN\n\n\
         where OPTIONS are, for a key service of IBM, --key-service-api-key-file FILE, and for one of your own, --to https://HOST/INSTANCE/KEY with\n\
         --key-service-token-file FILE --key-service-host HOST.\n\n\
         Without the program: coffer_reader.py, with the folder coffer_format beside it, reads a vault in a directory with a key file or a passphrase. It needs Python 3.10 or later and the packages\n\
         {}; requirements.txt has the versions it was tested with:\n\n    \
         python3 -m venv reader && reader/bin/pip install -r requirements.txt\n    \
         reader/bin/python coffer_reader.py VAULT --key-file FILE list\n    \
         reader/bin/python coffer_reader.py VAULT --key-file FILE restore latest DIR\n\n\
         --passphrase-file FILE in place of --key-file for a passphrase. format.md says every byte, so that a reader can be written anew.\n",
        packages()
    ));
    text
}

#[cfg(test)]
mod tests {
    use coffer_format::slot::{ServiceKey, TokenKey};

    use super::*;

    fn service(service: KeyServiceKind) -> SlotKind {
        SlotKind::Service(ServiceKey {
            service,
            endpoint: "https://kms.example:8443".to_owned(),
            instance: "instance".to_owned(),
            key: "root".to_owned(),
            crn: None,
            version: None,
            region: None,
            ring: None,
        })
    }

    #[test]
    fn each_kind_of_slot_is_told_with_options_that_there_are() {
        let token = TokenKey {
            token_label: "hsm".to_owned(),
            token_serial: String::new(),
            label: "backup".to_owned(),
            id: Vec::new(),
            mechanism: 0,
            iv: None,
            mac: None,
            salt: None,
        };
        let kinds = [
            (SlotKind::Passphrase { memory_kib: 0, passes: 0, lanes: 0, salt: [0; 16] }, "--passphrase-file"),
            (SlotKind::KeyFile { key_id: [0; 8] }, "--key-file"),
            (SlotKind::Shares { set_id: [0; 8], threshold: 3, digests: Vec::new() }, "--share FILE, 3 times"),
            (
                service(KeyServiceKind::Local),
                "--key-service-token-file FILE --key-service-host kms.example:8443",
            ),
            (service(KeyServiceKind::KeyProtect), "--key-service-api-key-file"),
            (service(KeyServiceKind::Hpcs), "--key-service-api-key-file"),
            (SlotKind::Token(token), "--pkcs11-module LIBRARY --pkcs11-pin-file FILE"),
        ];
        let command = <crate::cli::Cli as clap::CommandFactory>::command();
        let known: Vec<_> =
            command.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned)).collect();
        for (kind, expected) in kinds {
            let text = options(&kind);
            assert!(text.starts_with(expected), "{text}");
            for option in text.split([' ', ',', ';']).filter_map(|word| word.strip_prefix("--")) {
                assert!(known.iter().any(|name| name == option), "{option}");
            }
        }
    }

    #[test]
    fn the_whole_reader_is_in_the_kit() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reader/coffer_format");
        let there =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut there: Vec<_> = there.filter(|name| name.ends_with(".py")).collect();
        there.sort();
        let kept = READER.iter().filter_map(|(name, _)| name.strip_prefix("coffer_format/"));
        assert_eq!(kept.collect::<Vec<_>>(), there);
    }

    #[test]
    fn the_packages_of_the_reader_are_named() {
        assert_eq!(packages(), "argon2-cffi, blake3, cbor2, cryptography, kyber-py, zstandard");
    }
}
