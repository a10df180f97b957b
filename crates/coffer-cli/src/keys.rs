//! Where keys come from: command line, environment, configuration, terminal. Several may be given at once; any that opens the vault will do.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result};
use coffer_crypto::{Argon2Params, SecretBytes};
use coffer_keys::{KeyFile, Passphrase, RootKey};
use zeroize::Zeroizing;

use crate::command_error::Failure;
use crate::config::Config;
use crate::exit_code::Exit;
use crate::global::Global;
use crate::output::Output;
use crate::private_file::{read_bounded, without_line_end};
use crate::shares;

/// A key file has at most this length.
const KEY_FILE_LEN_MAX: u64 = 4096;
/// A passphrase has at most this length.
const PASSPHRASE_LEN_MAX: u64 = 1 << 20;

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
    pub(crate) fn read(&self, output: Output) -> Result<Arc<dyn RootKey>> {
        match self {
            Self::KeyFile(path) => Ok(Arc::new(key_file(path)?)),
            Self::Shares(paths) => Ok(Arc::new(shares::read(paths, output)?)),
            Self::PassphraseFile(path) => Ok(Arc::new(passphrase_file(path)?)),
            Self::PassphraseCommand(command) => Ok(Arc::new(passphrase(passphrase_of_command(command)?)?)),
            Self::PassphraseVariable => {
                let value = std::env::var("COFFER_PASSPHRASE");
                let value =
                    value.map_err(|_| Failure::new(Exit::WrongKey, "COFFER_PASSPHRASE is not UTF-8"))?;
                Ok(Arc::new(passphrase(value.into_bytes())?))
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
        Failure::new(Exit::WrongKey, format!("{} is no key file: {error}", path.display()))
            .hint("if a passphrase is in it, give --passphrase-file")
    })?)
}

/// Reads the passphrase in a file.
pub(crate) fn passphrase_file(path: &Path) -> Result<Passphrase> {
    let missing = "check the path; the file holds the passphrase and nothing else";
    let bytes = read_bounded("passphrase file", path, PASSPHRASE_LEN_MAX, missing)?;
    passphrase(without_line_end(bytes)).with_context(|| format!("read passphrase file {}", path.display()))
}

/// Asks the terminal for the passphrase that opens the vault.
pub(crate) fn ask_passphrase(prompt: &str) -> Result<Passphrase> {
    let text = rpassword::prompt_password(prompt).context("read the passphrase from the terminal")?;
    passphrase(text.into_bytes())
}

/// Asks the terminal for a new passphrase, twice.
pub(crate) fn ask_new_passphrase(prompt: &str) -> Result<Passphrase> {
    let read = |prompt: &str| -> Result<SecretBytes> {
        let text = rpassword::prompt_password(prompt).context("read the passphrase from the terminal")?;
        Ok(SecretBytes::new(text.into_bytes()))
    };
    let first = read(&format!("{prompt}: "))?;
    let second = read(&format!("{prompt}, again: "))?;
    if first.expose() != second.expose() {
        return Err(Failure::usage("the two passphrases differ").into());
    }
    passphrase(first.expose().to_vec())
}

fn passphrase(bytes: Vec<u8>) -> Result<Passphrase> {
    Ok(Passphrase::new(SecretBytes::new(bytes), Argon2Params::FLOOR)?)
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
