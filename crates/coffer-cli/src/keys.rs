//! Where keys come from: command line, environment, configuration, terminal. Several may be given at once; any that opens the vault will do.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result};
use coffer_crypto::SecretBytes;
use coffer_keys::{KeyFile, RootKey, WriterCredential};
use zeroize::Zeroizing;

use crate::command_error::Failure;
use crate::config::Config;
use crate::exit_code::Exit;
use crate::global::Global;
use crate::output::Output;
use crate::passphrase::{PASSPHRASE_LEN_MAX, Passphrases};
use crate::private_file::{read_bounded, without_line_end};
use crate::shares;

/// A key file has at most this length.
const KEY_FILE_LEN_MAX: u64 = 4096;

/// Where a key comes from.
#[derive(Debug, Clone)]
pub(crate) enum KeySource {
    KeyFile(PathBuf),
    PassphraseFile(PathBuf),
    PassphraseCommand(String),
    /// The environment holds the passphrase itself.
    PassphraseVariable,
    /// Files with recovery shares.
    Shares(Vec<PathBuf>),
}

/// The sources that are given, by the highest of command line, environment and configuration that gives any. Each is tried.
pub(crate) fn sources(global: &Global, config: &Config) -> Result<Vec<KeySource>> {
    let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let command = std::env::var_os("COFFER_PASSPHRASE_COMMAND").filter(|value| !value.is_empty());
    let command = command
        .map(|value| {
            value.into_string().map_err(|_| Failure::usage("COFFER_PASSPHRASE_COMMAND is not UTF-8"))
        })
        .transpose()?;
    let variable = std::env::var_os("COFFER_PASSPHRASE").is_some_and(|value| !value.is_empty());
    let shares: Vec<PathBuf> = std::env::var_os("COFFER_SHARES")
        .map(|value| std::env::split_paths(&value).filter(|path| !path.as_os_str().is_empty()).collect())
        .unwrap_or_default();
    let mut levels = vec![
        collect(&global.key_file, &global.passphrase_file, &global.passphrase_command, false, &global.share),
        collect(&path("COFFER_KEY_FILE"), &path("COFFER_PASSPHRASE_FILE"), &command, variable, &shares),
    ];
    levels.extend(
        config
            .keys
            .iter()
            .map(|keys| collect(&keys.key_file, &keys.passphrase_file, &keys.passphrase_command, false, &[])),
    );
    let first = levels.into_iter().find(|sources| !sources.is_empty()).unwrap_or_default();
    let passphrases = first.iter().filter(|source| source.is_passphrase()).count();
    if passphrases > 1 {
        let hint = "give one of passphrase file, passphrase command and COFFER_PASSPHRASE";
        return Err(Failure::usage("two passphrases are given").hint(hint).into());
    }
    Ok(first)
}

fn collect(
    key_file: &Option<PathBuf>,
    passphrase_file: &Option<PathBuf>,
    command: &Option<String>,
    variable: bool,
    shares: &[PathBuf],
) -> Vec<KeySource> {
    let key_file = key_file.clone().map(KeySource::KeyFile);
    let passphrase_file = passphrase_file.clone().map(KeySource::PassphraseFile);
    let command = command.clone().map(KeySource::PassphraseCommand);
    let variable = variable.then_some(KeySource::PassphraseVariable);
    let shares = (!shares.is_empty()).then(|| KeySource::Shares(shares.to_vec()));
    [key_file, shares, passphrase_file, command, variable].into_iter().flatten().collect()
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyFile(path) => write!(f, "key file {}", path.display()),
            Self::PassphraseFile(path) => write!(f, "passphrase file {}", path.display()),
            // A command may hold a secret itself.
            Self::PassphraseCommand(_) => f.write_str("passphrase command"),
            Self::PassphraseVariable => f.write_str("COFFER_PASSPHRASE"),
            Self::Shares(paths) => write!(f, "{} recovery share(s)", paths.len()),
        }
    }
}

impl KeySource {
    pub(crate) const fn is_passphrase(&self) -> bool {
        matches!(self, Self::PassphraseFile(_) | Self::PassphraseCommand(_) | Self::PassphraseVariable)
    }

    /// Reads the key.
    pub(crate) fn read(&self, output: Output, passphrases: Passphrases) -> Result<Arc<dyn RootKey>> {
        match self {
            Self::KeyFile(path) => Ok(Arc::new(key_file(path)?)),
            Self::Shares(paths) => shares::read(paths, output),
            Self::PassphraseFile(path) => Ok(Arc::new(passphrases.of_file(path)?)),
            Self::PassphraseCommand(command) => {
                Ok(Arc::new(passphrases.of_bytes(passphrase_of_command(command)?)?))
            }
            Self::PassphraseVariable => {
                let value = std::env::var("COFFER_PASSPHRASE");
                let value =
                    value.map_err(|_| Failure::new(Exit::WrongKey, "COFFER_PASSPHRASE is not UTF-8"))?;
                Ok(Arc::new(passphrases.of_bytes(value.into_bytes())?))
            }
        }
    }
}

/// Reads a key file.
pub(crate) fn key_file(path: &Path) -> Result<KeyFile> {
    let missing = "check the path; `coffer keys new-file FILE` makes a key file";
    let bytes = read_bounded("key file", path, KEY_FILE_LEN_MAX + 1, missing)?;
    let secret = SecretBytes::new(bytes);
    Ok(KeyFile::parse(secret.expose()).map_err(|error| {
        let hint = if WriterCredential::parse(secret.expose()).is_ok() {
            "it is a writer credential: give --writer"
        } else {
            "if a passphrase is in it, give --passphrase-file"
        };
        Failure::new(Exit::WrongKey, format!("{} is no key file: {error}", path.display())).hint(hint)
    })?)
}

fn passphrase_of_command(command: &str) -> Result<Vec<u8>> {
    // What it prints goes into memory that does not grow, so that no piece is left behind in what was freed.
    let mut text = Zeroizing::new(Vec::with_capacity(usize::try_from(PASSPHRASE_LEN_MAX)?));
    let mut run = || -> std::io::Result<ExitStatus> {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(command).stdin(Stdio::inherit()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = shell.spawn()?;
        if let Some(out) = child.stdout.take() {
            out.take(PASSPHRASE_LEN_MAX).read_to_end(&mut text)?;
        }
        child.wait()
    };
    let status = run().context("run the passphrase command")?;
    if !status.success() {
        let message = format!("the passphrase command failed ({status})");
        return Err(Failure::new(Exit::WrongKey, message).into());
    }
    let text = without_line_end(std::mem::take(&mut *text));
    if text.is_empty() {
        let failure = Failure::new(Exit::WrongKey, "the passphrase command printed nothing");
        return Err(failure.hint("it has to print the passphrase on standard output").into());
    }
    Ok(text)
}
