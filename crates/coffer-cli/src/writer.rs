//! The writer credential that a backup runs with. It opens nothing: whatever else needs a key of the vault is refused.

use std::path::{Path, PathBuf};

use anyhow::Result;
use coffer_crypto::SecretBytes;
use coffer_keys::WriterCredential;
use coffer_keys::writer::WRITER_TEXT_LEN_MAX;

use crate::command_error::Failure;
use crate::config::Config;
use crate::exit_code::Exit;
use crate::global::Global;
use crate::private_file::read_bounded;

/// Variables that name a key of the vault.
const KEY_VARIABLES: [&str; 5] = [
    "COFFER_KEY_FILE",
    "COFFER_PASSPHRASE_FILE",
    "COFFER_PASSPHRASE_COMMAND",
    "COFFER_PASSPHRASE",
    "COFFER_SHARES",
];

/// The credential that is given, if the highest of command line, environment and configuration that names any key names one.
pub(crate) fn path(global: &Global, config: &Config) -> Result<Option<PathBuf>> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let has_key = global.key_file.is_some()
        || global.passphrase_file.is_some()
        || global.passphrase_command.is_some()
        || !global.share.is_empty();
    let mut levels = vec![
        ("on the command line", global.writer.clone(), has_key),
        (
            "in the environment",
            variable("COFFER_WRITER").map(PathBuf::from),
            KEY_VARIABLES.iter().any(|name| variable(name).is_some()),
        ),
    ];
    levels.extend(config.keys.iter().map(|keys| {
        let has_key =
            keys.key_file.is_some() || keys.passphrase_file.is_some() || keys.passphrase_command.is_some();
        ("in the configuration file", keys.writer.clone(), has_key)
    }));
    for (level, writer, has_key) in levels {
        match (writer, has_key) {
            (Some(_), true) => {
                let message = format!("a writer credential and a key of the vault are given {level}");
                let hint = "give the one that the command is to be run with";
                return Err(Failure::usage(message).hint(hint).into());
            }
            (Some(writer), false) => return Ok(Some(writer)),
            (None, true) => return Ok(None),
            (None, false) => {}
        }
    }
    Ok(None)
}

/// Why a command that needs a key of the vault does not run with a writer credential.
pub(crate) fn refusal(path: &Path) -> Failure {
    let message =
        format!("the writer credential {} backs up, and opens nothing in the vault", path.display());
    Failure::new(Exit::WrongKey, message).hint(
        "with it `coffer backup` works, and what needs no key: `coffer verify`, `coffer doctor`; for anything else give a key of \
         the vault, such as --key-file FILE",
    )
}

/// Reads a credential.
pub(crate) fn read(path: &Path) -> Result<WriterCredential> {
    let missing =
        "check the path; `coffer keys grant-writer NAME --out FILE` makes one, with a key of the vault";
    let bytes = read_bounded("writer credential", path, WRITER_TEXT_LEN_MAX as u64 + 1, missing)?;
    let secret = SecretBytes::new(bytes);
    Ok(WriterCredential::parse(secret.expose()).map_err(|error| {
        Failure::new(Exit::WrongKey, format!("{} is no writer credential: {error}", path.display()))
            .hint("if it is a key file, give --key-file")
    })?)
}
