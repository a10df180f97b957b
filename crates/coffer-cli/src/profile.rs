//! What a configuration file says, checked as a whole.
//!
//! The file has settings at its top, which are those of every profile, tables for commands (`[backup]`) and for stores
//! (`[store."LOCATION"]`), and profiles (`[profile.NAME]`) with settings and tables of their own. Every mistake anywhere in the file is refused with its
//! line; so is a secret. A message never repeats a line of the file, only words that the file uses as names.

use std::collections::BTreeMap;

use clap::builder::ValueRange;
use clap::{Arg, ArgAction, Command};
use coffer_format::id::VaultId;
use coffer_store::{Location, S3Location, S3Place};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::flag::{Flag, refusal};
use crate::similar::closest;

/// The settings that the top of the file, and each profile, may have.
pub(crate) const SETTINGS: [&str; 23] = [
    "vault",
    "vault-id",
    "key-file",
    "passphrase-file",
    "passphrase-command",
    "writer",
    "cache-dir",
    "endpoint",
    "region",
    "network",
    "aws-profile",
    "cos-credentials",
    "ibm-api-key-file",
    "ibm-trusted-profile",
    "ibm-cr-token-file",
    "iam-endpoint",
    "ca-cert",
    "limit-upload",
    "limit-download",
    "checksums",
    "key-service-api-key-file",
    "key-service-token-file",
    "key-service-hosts",
];

/// Settings that one store of object storage may have of its own.
pub(crate) const STORE_SETTINGS: [&str; 13] = {
    let [_, _, _, _, _, _, _, rest @ .., _, _, _] = SETTINGS;
    rest
};

/// Settings of object storage and key services.
pub(crate) const STORAGE_SETTINGS: [&str; 16] = {
    let [_, _, _, _, _, _, _, rest @ ..] = SETTINGS;
    rest
};

/// Words under which people would write a secret down.
const SECRETS: [&str; 7] = ["passphrase", "password", "key", "secret", "vault-key", "vault-password", "pass"];

/// The file's content.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub(crate) top: Settings,
    pub(crate) profiles: BTreeMap<String, Settings>,
}

/// What the top of the file or one profile says.
#[derive(Debug, Default, Clone)]
pub(crate) struct Settings {
    values: BTreeMap<&'static str, String>,
    pub(crate) vault_id: Option<VaultId>,
    /// Further stores of the vault.
    pub(crate) stores: Vec<String>,
    /// Flags by command.
    pub(crate) commands: BTreeMap<String, Vec<Flag>>,
    /// What holds for one store alone, by where it is.
    pub(crate) store_tables: Vec<StoreTable>,
}

/// How one store of object storage is reached, and who asks.
#[derive(Debug, Clone)]
pub(crate) struct StoreTable {
    pub(crate) location: S3Location,
    values: BTreeMap<&'static str, String>,
}

impl StoreTable {
    pub(crate) fn value(&self, name: &str) -> Option<&String> {
        self.values.get(name)
    }
}

impl Settings {
    pub(crate) fn value(&self, name: &str) -> Option<&String> {
        self.values.get(name)
    }
}

/// What is wrong with the file, and where.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) line: usize,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl File {
    /// Reads the text of a file for the command line that `command` describes.
    pub(crate) fn parse(text: &str, command: &Command) -> Result<Self, Mistake> {
        let reader = Reader { text, command };
        let table = DeTable::parse(text).map_err(|error| {
            // The error's own display shows the line, which may hold a secret.
            reader.mistake(error.span().map_or(0, |span| span.start), error.message(), None)
        })?;
        let mut file = Self::default();
        for (key, value) in table.get_ref() {
            if key.get_ref() != "profile" {
                reader.setting(&mut file.top, "", key, value)?;
                continue;
            }
            for (name, value) in reader.table("profile", value)? {
                let label = format!("profile.{}", name.get_ref());
                let mut settings = Settings::default();
                for (key, value) in reader.table(&label, value)? {
                    reader.setting(&mut settings, &format!("{label}."), key, value)?;
                }
                file.profiles.insert(name.get_ref().to_string(), settings);
            }
        }
        Ok(file)
    }
}

type Key<'i> = Spanned<toml::de::DeString<'i>>;
type Value<'i> = Spanned<DeValue<'i>>;

struct Reader<'r> {
    text: &'r str,
    command: &'r Command,
}

impl Reader<'_> {
    fn mistake(&self, offset: usize, message: impl Into<String>, hint: Option<String>) -> Mistake {
        let before = self.text.get(..offset.min(self.text.len())).unwrap_or_default();
        Mistake { line: before.matches('\n').count() + 1, message: message.into(), hint }
    }

    fn wrong_type(&self, name: &str, value: &Value<'_>, expected: &str) -> Mistake {
        let message = format!("{name} must be {expected}, here it is {}", kind(value.get_ref()));
        self.mistake(value.span().start, message, None)
    }

    fn table<'v, 'i>(&self, name: &str, value: &'v Value<'i>) -> Result<&'v DeTable<'i>, Mistake> {
        value.get_ref().as_table().ok_or_else(|| self.wrong_type(name, value, "a table"))
    }

    /// One key at the top of the file or of a profile.
    fn setting(
        &self,
        settings: &mut Settings,
        prefix: &str,
        key: &Key<'_>,
        value: &Value<'_>,
    ) -> Result<(), Mistake> {
        let name = key.get_ref().as_ref();
        let at = key.span().start;
        if let Some(known) = SETTINGS.iter().find(|known| **known == name) {
            let DeValue::String(text) = value.get_ref() else {
                return Err(self.wrong_type(name, value, "a string"));
            };
            if name == "vault-id" {
                let id = text.parse().map_err(|error| {
                    self.mistake(
                        at,
                        format!("vault-id: {error}"),
                        Some("`coffer doctor` shows it".to_owned()),
                    )
                })?;
                settings.vault_id = Some(id);
            }
            settings.values.insert(known, text.to_string());
            return Ok(());
        }
        if name == "stores" {
            let DeValue::Array(items) = value.get_ref() else {
                return Err(self.wrong_type(name, value, "a list of strings"));
            };
            let text = |item: &Value<'_>| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                _ => Err(self.wrong_type("each of stores", item, "a string")),
            };
            settings.stores = items.iter().map(text).collect::<Result<_, _>>()?;
            return Ok(());
        }
        if name == "store" {
            for (place, value) in self.table(&format!("{prefix}store"), value)? {
                let table = self.store(place, value)?;
                if settings.store_tables.iter().any(|other| other.location == table.location) {
                    let message = "this store has a table already, in other words".to_owned();
                    return Err(self.mistake(place.span().start, message, None));
                }
                settings.store_tables.push(table);
            }
            return Ok(());
        }
        self.refuse_secret(key)?;
        let commands = || self.command.get_subcommands().filter(|command| takes_table(command));
        if let Some(command) = commands().find(|command| command.get_name() == name) {
            let label = format!("{prefix}{name}");
            let mut flags = Vec::new();
            for (key, value) in self.table(&label, value)? {
                flags.push(self.flag(command, &label, key, value)?);
            }
            settings.commands.insert(name.to_owned(), flags);
            return Ok(());
        }
        if let Some(command) = commands().find(|command| command.get_all_aliases().any(|alias| alias == name))
        {
            // One name for each table, so that no flag stands in two places.
            let message = format!("{name} is no table: the command has it under its first name");
            return Err(self.mistake(at, message, Some(format!("write [{prefix}{}]", command.get_name()))));
        }
        let tables = commands().map(Command::get_name).chain(["store"]);
        let tables = tables.chain((prefix.is_empty()).then_some("profile"));
        let known: Vec<&str> = SETTINGS.into_iter().chain(tables).collect();
        let what = if value.get_ref().is_table() { "table" } else { "setting" };
        let hint = match closest(name, known.iter().copied()) {
            Some(near) => format!("did you mean {near}?"),
            None if what == "table" && prefix.is_empty() => {
                format!("a profile is written [profile.{name}], flags of a command [backup]")
            }
            None => format!("settings are {}", SETTINGS.join(", ")),
        };
        Err(self.mistake(at, format!("{name} is no {what}"), Some(hint)))
    }

    /// Nobody is to write a secret down.
    fn refuse_secret(&self, key: &Key<'_>) -> Result<(), Mistake> {
        let name = key.get_ref().as_ref();
        if !SECRETS.contains(&name) {
            return Ok(());
        }
        let hint = "say where the secret is: passphrase-file = \"FILE\", passphrase-command = \"COMMAND\" or key-file = \"FILE\"";
        let message = format!(
            "{name} is refused: a configuration file holds no secret, as it is copied, shown and backed up"
        );
        Err(self.mistake(key.span().start, message, Some(hint.to_owned())))
    }

    /// The table of one store. Its name is not repeated in messages: it may hold credentials.
    fn store(&self, place: &Key<'_>, value: &Value<'_>) -> Result<StoreTable, Mistake> {
        let at = place.span().start;
        let location = match Location::parse(place.get_ref().as_ref()) {
            Ok(Location::S3(location)) => location,
            Ok(_) => {
                let message = "a table of a store is for a bucket: a directory is reached without settings";
                let hint = "its name is the location, as in [store.\"s3://BUCKET/PREFIX\"]".to_owned();
                return Err(self.mistake(at, message, Some(hint)));
            }
            Err(error) => return Err(self.mistake(at, error.to_string(), None)),
        };
        let mut values = BTreeMap::new();
        for (key, value) in self.table("the store", value)? {
            let name = key.get_ref().as_ref();
            self.refuse_secret(key)?;
            let Some(known) = STORE_SETTINGS.iter().find(|known| **known == name) else {
                let hint = match closest(name, STORE_SETTINGS) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("a store takes {}", STORE_SETTINGS.join(", ")),
                };
                let message = format!("{name} is no setting of a store");
                return Err(self.mistake(key.span().start, message, Some(hint)));
            };
            if name == "endpoint" && matches!(location.place, S3Place::Endpoint(_)) {
                let message = "this location names its service itself, and takes no endpoint";
                return Err(self.mistake(key.span().start, message, None));
            }
            let DeValue::String(text) = value.get_ref() else {
                return Err(self.wrong_type(name, value, "a string"));
            };
            values.insert(*known, text.to_string());
        }
        Ok(StoreTable { location, values })
    }

    /// One key in the table of a command.
    fn flag(
        &self,
        command: &Command,
        label: &str,
        key: &Key<'_>,
        value: &Value<'_>,
    ) -> Result<Flag, Mistake> {
        let name = key.get_ref().as_ref();
        let full = format!("{label}.{name}");
        let flags = || command.get_arguments().filter(|argument| takes_default(argument));
        let Some(argument) = flags().find(|argument| name_of(argument) == name) else {
            let known: Vec<String> = flags().map(name_of).collect();
            let hint = match closest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("[{label}] takes {}", known.join(", ")),
            };
            let message = format!("{name} is no flag of `coffer {}`", command.get_name());
            return Err(self.mistake(key.span().start, message, Some(hint)));
        };
        let values = match (argument.get_action(), value.get_ref()) {
            (ArgAction::SetTrue, DeValue::Boolean(set)) => vec![String::new(); usize::from(*set)],
            (ArgAction::SetTrue, _) => return Err(self.wrong_type(&full, value, "true or false")),
            (_, DeValue::Array(items)) if takes_many(argument) => {
                let item = |item| self.scalar(&format!("each of {full}"), item);
                items.iter().map(item).collect::<Result<_, _>>()?
            }
            _ => vec![self.scalar(&full, value)?],
        };
        let flag = Flag { id: argument.get_id().to_string(), name: name.to_owned(), values };
        match refusal(&flag, command) {
            None => Ok(flag),
            Some(reason) => {
                let hint = format!("`coffer {} --help` says what it takes", command.get_name());
                Err(self.mistake(key.span().start, reason, Some(hint)))
            }
        }
    }

    fn scalar(&self, name: &str, value: &Value<'_>) -> Result<String, Mistake> {
        match value.get_ref() {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Integer(number) => Ok(number.to_string()),
            _ => Err(self.wrong_type(name, value, "a string or a number")),
        }
    }
}

/// Whether a command can have a table: it does something itself, and with a vault.
fn takes_table(command: &Command) -> bool {
    !command.has_subcommands()
        && command.get_arguments().any(takes_default)
        && !["completions", "man", "help"].contains(&command.get_name())
}

fn takes_default(argument: &Arg) -> bool {
    !argument.is_global_set()
        && matches!(argument.get_action(), ArgAction::Set | ArgAction::Append | ArgAction::SetTrue)
}

fn takes_many(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Append)
        || argument.get_num_args().is_some_and(|count: ValueRange| count.max_values() > 1)
}

/// The name of an argument in the file: that of its long flag, or of the field behind a positional argument.
fn name_of(argument: &Arg) -> String {
    argument.get_long().map_or_else(|| argument.get_id().as_str().replace('_', "-"), str::to_owned)
}

const fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
