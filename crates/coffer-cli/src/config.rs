//! The configuration file: defaults for flags, for all profiles or for one. It holds no secret, only where secrets are
//! found.
//!
//! This module finds the file, chooses the profile and puts both together; [`crate::profile`] reads what it says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Command;
use coffer_format::id::VaultId;

use crate::command_error::Failure;
use crate::flag::Flag;
use crate::profile::{File, STORAGE_SETTINGS, Settings, StoreTable};
use crate::similar::closest;

/// What the configuration says for this run.
#[derive(Debug, Default)]
pub(crate) struct Config {
    /// The file, if one was read.
    pub(crate) path: Option<PathBuf>,
    /// The profile, if one was chosen.
    pub(crate) profile: Option<String>,
    pub(crate) vault: Option<PathBuf>,
    /// Further stores.
    pub(crate) stores: Vec<PathBuf>,
    pub(crate) vault_id: Option<VaultId>,
    pub(crate) cache_dir: Option<PathBuf>,
    /// Where keys are, the profile before the top of the file.
    pub(crate) keys: Vec<KeySettings>,
    storage: BTreeMap<&'static str, String>,
    /// What holds for single stores.
    pub(crate) store_tables: Vec<StoreTable>,
    commands: BTreeMap<String, Vec<Flag>>,
}

/// Settings of object storage that hold for any bucket; the others belong to the vault beside them.
const FOR_ANY_BUCKET: [&str; 4] = ["iam-endpoint", "ca-cert", "limit-upload", "limit-download"];

/// Where keys are, according to one part of the file.
#[derive(Debug, Default)]
pub(crate) struct KeySettings {
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) passphrase_file: Option<PathBuf>,
    pub(crate) passphrase_command: Option<String>,
    pub(crate) writer: Option<PathBuf>,
}

impl Config {
    /// Reads the file that flag or environment name, or the default one if it is there, and takes the profile that
    /// flag or environment name from it.
    pub(crate) fn read(file: Option<&Path>, profile: Option<&str>, command: &Command) -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let profile = match profile {
            Some("") => {
                let hint = "give the name of a profile, or leave --profile out";
                return Err(Failure::usage("--profile is empty").hint(hint).into());
            }
            Some(name) => Some(name.to_owned()),
            None => variable("COFFER_PROFILE")
                .map(|name| name.into_string().map_err(|_| Failure::usage("COFFER_PROFILE is not UTF-8")))
                .transpose()?,
        };
        let named = file.map(Path::to_path_buf).or_else(|| variable("COFFER_CONFIG").map(PathBuf::from));
        let default = default_path();
        let path = match named.or_else(|| default.clone().filter(|path| path.exists())) {
            Some(path) => path,
            None => {
                return match profile {
                    Some(name) => Err(no_file(&name, default.as_deref()).into()),
                    None => Ok(Self::default()),
                };
            }
        };
        let shown = path.display();
        let text = std::fs::read_to_string(&path).map_err(|error| {
            Failure::usage(format!("the configuration file {shown} cannot be read: {error}"))
                .hint("check --config and COFFER_CONFIG")
        })?;
        let file = File::parse(&text, command).map_err(|mistake| Failure {
            hint: mistake.hint,
            ..Failure::usage(format!(
                "configuration file {shown}, line {}: {}",
                mistake.line, mistake.message
            ))
        })?;
        Self::choose(file, path, profile)
    }

    fn choose(mut file: File, path: PathBuf, profile: Option<String>) -> Result<Self> {
        let Some(name) = profile else {
            let keys = vec![key_settings(&file.top)];
            return Ok(Self::of(&Settings::default(), file.top, keys, path, None));
        };
        let Some(chosen) = file.profiles.remove(&name) else {
            return Err(unknown(&name, &file, &path).into());
        };
        let keys = vec![key_settings(&chosen), key_settings(&file.top)];
        Ok(Self::of(&chosen, file.top, keys, path, Some(name)))
    }

    /// What the profile says, and what the top of the file says beside it.
    fn of(
        chosen: &Settings,
        top: Settings,
        keys: Vec<KeySettings>,
        path: PathBuf,
        profile: Option<String>,
    ) -> Self {
        let value = |name| chosen.value(name).or_else(|| top.value(name)).map(PathBuf::from);
        // The id at the top is that of the vault at the top.
        let top_id = top.vault_id.filter(|_| chosen.value("vault").is_none() && chosen.stores.is_empty());
        let cache_dir = value("cache-dir");
        // What one part names is the whole list.
        let names_any = chosen.value("vault").is_some() || !chosen.stores.is_empty();
        let place = if names_any { chosen } else { &top };
        let vault = place.value("vault").map(PathBuf::from);
        let stores = place.stores.iter().map(PathBuf::from).collect();
        let is_inherited = |name| chosen.value("vault").is_none() || FOR_ANY_BUCKET.contains(&name);
        let storage = STORAGE_SETTINGS.into_iter().filter_map(|name| {
            let inherited = || top.value(name).filter(|_| is_inherited(name));
            Some((name, chosen.value(name).or_else(inherited)?.clone()))
        });
        let storage = storage.collect();
        // A table of the profile stands in place of the one at the top, whole: two identities must not be mixed.
        let mut store_tables = chosen.store_tables.clone();
        let is_replaced =
            |table: &StoreTable| chosen.store_tables.iter().any(|other| other.location == table.location);
        store_tables.extend(top.store_tables.into_iter().filter(|table| !is_replaced(table)));
        let mut commands = top.commands;
        for (command, flags) in &chosen.commands {
            let inherited = commands.entry(command.clone()).or_default();
            inherited.retain(|flag| flags.iter().all(|other| other.id != flag.id));
            inherited.extend(flags.iter().cloned());
        }
        Self {
            path: Some(path),
            profile,
            vault,
            stores,
            vault_id: chosen.vault_id.or(top_id),
            cache_dir,
            keys,
            storage,
            store_tables,
            commands,
        }
    }

    /// A setting of object storage.
    pub(crate) fn storage(&self, name: &str) -> Option<&String> {
        self.storage.get(name)
    }

    /// The flags that the file gives for a command.
    pub(crate) fn flags(&self, command: &str) -> &[Flag] {
        self.commands.get(command).map(Vec::as_slice).unwrap_or_default()
    }
}

fn key_settings(settings: &Settings) -> KeySettings {
    KeySettings {
        key_file: settings.value("key-file").map(PathBuf::from),
        passphrase_file: settings.value("passphrase-file").map(PathBuf::from),
        passphrase_command: settings.value("passphrase-command").cloned(),
        writer: settings.value("writer").map(PathBuf::from),
    }
}

fn no_file(profile: &str, default: Option<&Path>) -> Failure {
    let place = default.map_or_else(
        || "give --config FILE".to_owned(),
        |path| format!("write [profile.{profile}] into {}, or give --config FILE", path.display()),
    );
    Failure::usage(format!("there is no profile {profile}: no configuration file is there")).hint(place)
}

fn unknown(profile: &str, file: &File, path: &Path) -> Failure {
    let known: Vec<&str> = file.profiles.keys().map(String::as_str).collect();
    let listed = match known.as_slice() {
        [] => "it has none".to_owned(),
        names => format!("it has {}", names.join(", ")),
    };
    let near = closest(profile, known.iter().copied());
    let hint = near
        .map_or_else(|| format!("write [profile.{profile}] into it"), |near| format!("did you mean {near}?"));
    Failure::usage(format!("there is no profile {profile} in {}; {listed}", path.display())).hint(hint)
}

fn default_path() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    base.map(|base| base.join("coffer").join("config.toml"))
}
