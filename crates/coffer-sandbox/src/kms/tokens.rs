//! The tokens of a key service on its own: a file with the hash of each, and whom it stands for.
//!
//! The file is JSON: `{"tokens": [{"name": …, "sha256": …, "roles": […], "instance": …, "keys": […]}]}`. `instance` (a GUID) and `keys`
//! (key ids) narrow what the token is good for; without them it is good for all. A token has 256 random bits, so its plain hash is not to
//! be guessed. The file is read for every call: a token that is taken out is refused from then on.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use coffer_crypto::SecretBytes;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::crypto::{equal, hex, random, random_secret, sha256};
use super::{files, roles};
use crate::error::SandboxError;
use crate::iam::Role;

const FILE_LEN_MAX: u64 = 1 << 20;
const PREFIX: &str = "ckt_";

/// Whom a new token stands for.
#[derive(Debug, Clone, Default)]
pub struct NewToken {
    /// A name for people and for the audit log.
    pub name: String,
    /// What it may do.
    pub roles: Vec<Role>,
    /// Only in this instance.
    pub instance: Option<String>,
    /// Only on these keys.
    pub keys: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sha256: String,
    roles: Vec<Role>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tokens: Vec<Entry>,
}

/// Who shows a token.
#[derive(Debug, Clone)]
pub(super) struct Holder(Entry);

impl Holder {
    /// As the service names whoever made something.
    pub(super) fn identity(&self) -> String {
        format!("token-{}", self.0.name)
    }

    pub(super) fn allows(&self, instance: &str, action: &str, key: Option<&str>) -> bool {
        self.0.instance.as_deref().is_none_or(|only| only == instance)
            && (self.0.keys.is_empty() || key.is_some_and(|key| self.0.keys.iter().any(|one| one == key)))
            && self.0.roles.iter().any(|role| roles::holds(*role, action))
    }
}

fn read(path: &Path) -> Result<File, SandboxError> {
    let at = |source| SandboxError::File { path: path.to_path_buf(), source };
    let bad = |what: String| SandboxError::BadFile { path: path.to_path_buf(), what };
    let opened = fs::File::open(path).map_err(at)?;
    check_mode(path, &opened.metadata().map_err(at)?)?;
    let mut bytes = Vec::new();
    opened.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes).map_err(at)?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        return Err(bad("it is too long for a file of tokens".to_owned()));
    }
    serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))
}

/// Refuses a file that group or others may write to: they could give themselves any role.
#[cfg(unix)]
fn check_mode(path: &Path, metadata: &fs::Metadata) -> Result<(), SandboxError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o022 == 0 { Ok(()) } else { Err(SandboxError::Writable { path: path.to_path_buf(), mode }) }
}

#[cfg(not(unix))]
fn check_mode(_: &Path, _: &fs::Metadata) -> Result<(), SandboxError> {
    Ok(())
}

/// Checks that a file of tokens can be used.
pub(super) fn check(path: &Path) -> Result<(), SandboxError> {
    read(path).map(drop)
}

/// Whom a token stands for, if the file has it.
pub(super) fn holder(path: &Path, token: &str) -> Result<Option<Holder>, SandboxError> {
    let sum = hex(&sha256(&[token.as_bytes()]));
    let found = read(path)?.tokens.into_iter().find(|entry| equal(entry.sha256.as_bytes(), sum.as_bytes()));
    Ok(found.map(Holder))
}

/// Keeps other processes from changing a file of tokens until it is dropped. The file of the lock stays where it is: who removed it could
/// take it from somebody.
fn lock(path: &Path) -> Result<fs::File, SandboxError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let locked = options.open(&beside).and_then(|file| file.lock().map(|()| file));
    locked.map_err(|source| SandboxError::File { path: beside, source })
}

/// Adds a token to a file, which is made if it is not there; gives the token, which is written nowhere. Others who add a token wait
/// meanwhile.
///
/// # Errors
/// The file cannot be read or written, or has a token of this name.
pub fn add_token(path: &Path, new: &NewToken) -> Result<SecretBytes, SandboxError> {
    let at = |source| SandboxError::File { path: path.to_path_buf(), source };
    let _lock = lock(path)?;
    let mut file = if path.exists() { read(path)? } else { File::default() };
    let bad = |what: String| SandboxError::BadFile { path: path.to_path_buf(), what };
    if new.name.is_empty() || new.roles.is_empty() {
        return Err(bad("a token needs a name and a role".to_owned()));
    }
    if file.tokens.iter().any(|entry| entry.name == new.name) {
        return Err(bad(format!("it has a token named {}", new.name)));
    }
    let mut token = PREFIX.as_bytes().to_vec();
    token.extend_from_slice(Zeroizing::new(hex(random_secret().expose())).as_bytes());
    file.tokens.push(Entry {
        name: new.name.clone(),
        sha256: hex(&sha256(&[&token])),
        roles: new.roles.clone(),
        instance: new.instance.clone(),
        keys: new.keys.clone(),
    });
    let text = serde_json::to_vec_pretty(&file).map_err(|error| bad(error.to_string()))?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", hex(&random::<4>())));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&beside).and_then(|mut file| {
        file.write_all(&text)?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    if let Err(source) = written.and_then(|()| fs::rename(&beside, path)) {
        drop(fs::remove_file(&beside));
        return Err(at(source));
    }
    files::sync(files::parent(path)).map_err(at)?;
    Ok(SecretBytes::new(token))
}
