//! The configuration file: defaults for flags. It holds no secret, only where secrets are found.

use std::path::{Path, PathBuf};

use anyhow::Result as AnyResult;
use coffer_format::id::VaultId;
use serde::{Deserialize, Deserializer};

use crate::command_error::Failure;

/// What a configuration file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    pub(crate) vault: Option<PathBuf>,
    #[serde(default, deserialize_with = "vault_id")]
    pub(crate) vault_id: Option<VaultId>,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) passphrase_file: Option<PathBuf>,
    pub(crate) passphrase_command: Option<String>,
    pub(crate) cache_dir: Option<PathBuf>,
}

impl Config {
    /// Reads the file that flag or environment name, or the default one if it is there.
    pub(crate) fn read(flag: Option<&Path>) -> AnyResult<Self> {
        let variable = || std::env::var_os("COFFER_CONFIG").filter(|value| !value.is_empty());
        let named = flag.map(Path::to_path_buf).or_else(|| variable().map(PathBuf::from));
        let path = match &named {
            Some(path) => path.clone(),
            None => match default_path() {
                Some(path) if path.exists() => path,
                _ => return Ok(Self::default()),
            },
        };
        let fail = |error: &dyn std::fmt::Display| {
            Failure::usage(format!("configuration file {}: {error}", path.display()))
        };
        let text = std::fs::read_to_string(&path).map_err(|error| fail(&error))?;
        // The parser's message shows line and column.
        toml::from_str(&text).map_err(|error| fail(&error.to_string().trim_end()).into())
    }
}

fn vault_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<VaultId>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

fn default_path() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    base.map(|base| base.join("coffer").join("config.toml"))
}
