//! The configuration file: defaults for flags. It holds no secret, only where secrets are found.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use coffer_format::id::VaultId;
use serde::Deserialize;

use crate::command_error::Failure;

/// What a configuration file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    pub(crate) vault: Option<PathBuf>,
    vault_id: Option<String>,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) passphrase_file: Option<PathBuf>,
    pub(crate) passphrase_command: Option<String>,
    pub(crate) cache_dir: Option<PathBuf>,
    #[serde(skip)]
    pub(crate) pinned: Option<VaultId>,
}

impl Config {
    /// Reads the file that flag or environment name, or the default one if it is there.
    pub(crate) fn read(flag: Option<&Path>) -> Result<Self> {
        let named =
            flag.map(Path::to_path_buf).or_else(|| std::env::var_os("COFFER_CONFIG").map(PathBuf::from));
        let path = match &named {
            Some(path) => path.clone(),
            None => match default_path() {
                Some(path) if path.exists() => path,
                _ => return Ok(Self::default()),
            },
        };
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("read configuration file {}", path.display()))?;
        // The parser's message shows line and column.
        let mut config: Self = toml::from_str(&text)
            .map_err(|error| Failure::usage(format!("configuration file {}: {error}", path.display())))?;
        if let Some(id) = &config.vault_id {
            let parsed = id.parse().map_err(|error| {
                Failure::usage(format!("configuration file {}: vault-id: {error}", path.display()))
            })?;
            config.pinned = Some(parsed);
        }
        Ok(config)
    }
}

fn default_path() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    base.map(|base| base.join("coffer").join("config.toml"))
}
