//! Key services as the command line sees them: which root keys, and who asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use coffer_format::slot::ServiceKey;
use coffer_ibm::{KeyServiceOptions, KeyServices, Place, TrustedHost};
use coffer_store::ApiKey;

use crate::command_error::Failure;
use crate::config::Config;
use crate::storage::{Storage, read_ca_cert, read_secret_word};

/// Longest time a key service may take, in seconds, unless another is given.
const LIMIT_S: u64 = 30;
/// How long a request that fails for now is made again, in seconds, unless a time is given: a service that is busy keeps the next slot waiting so
/// long.
const RETRY_LIMIT_S: u64 = 10;
/// Longest time that can be given, in seconds.
const LIMIT_MAX_S: u64 = 86_400;

/// Flags of key services.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Key services")]
pub(crate) struct KeyServiceArgs {
    /// Ask Key Protect and HPCS in the name of the API key in this file; without it, with the identity of object storage.
    #[arg(long, global = true, value_name = "FILE")]
    key_service_api_key_file: Option<PathBuf>,
    /// Ask key services of your own with the token in this file.
    #[arg(long, global = true, value_name = "FILE")]
    key_service_token_file: Option<PathBuf>,
    /// Host, with or without a port, of a key service that may be sent a token, beside those of IBM; may be given several times.
    #[arg(long, global = true, value_name = "HOST")]
    key_service_host: Vec<String>,
    /// How long one key slot may take to be opened by a key service or a token.
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=LIMIT_MAX_S))]
    key_service_timeout: Option<u64>,
}

impl KeyServiceArgs {
    /// How long one key slot may take.
    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(self.key_service_timeout.unwrap_or(LIMIT_S))
    }

    /// How long a request that fails for now is made again.
    fn retry_limit(&self) -> Duration {
        Duration::from_secs(self.key_service_timeout.unwrap_or(RETRY_LIMIT_S))
    }
}

/// A root key for a new slot.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PlaceArgs {
    /// URL of the key service, where it does not follow from the CRN.
    #[arg(long, value_name = "URL")]
    key_endpoint: Option<String>,
    /// Key ring that the root key is in.
    #[arg(long, value_name = "ID")]
    key_ring: Option<String>,
}

impl PlaceArgs {
    /// Refuses what is said of one root key where not one is added: `count` are.
    pub(crate) fn check(&self, count: usize) -> Result<()> {
        if count == 1 || (self.key_endpoint.is_none() && self.key_ring.is_none()) {
            return Ok(());
        }
        let (message, hint) = if count == 0 {
            (
                "--key-endpoint and --key-ring are of a root key, and none is added",
                "name it by its CRN, or leave them out",
            )
        } else {
            (
                "--key-endpoint and --key-ring would be those of all the root keys that are added",
                "make the vault with one of them, and add the others with `coffer keys add --new-root-key CRN`, each with its own; or write \
                 https://HOST/INSTANCE/KEY, which says where the key is",
            )
        };
        Err(Failure::usage(message).hint(hint).into())
    }

    /// The root key that `text` names.
    pub(crate) fn place(&self, text: &str) -> Result<ServiceKey> {
        let place = Place::parse(text, self.key_endpoint.as_deref(), self.key_ring.as_deref());
        let hint = "copy the CRN of the root key from the console, or write https://HOST/INSTANCE/KEY";
        Ok(place.map_err(|error| Failure::usage(error.to_string()).hint(hint))?.0)
    }
}

/// What is known of key services in this run; asked when a slot needs it, not before.
#[derive(Debug)]
pub(crate) struct KeyServiceSettings {
    api_key_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    hosts: Vec<TrustedHost>,
    limit: Duration,
    retry_limit: Duration,
}

impl KeyServiceSettings {
    pub(crate) fn new(args: &KeyServiceArgs, config: &Config) -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let path = |flag: &Option<PathBuf>, name: &str, setting: &str| {
            let flag = flag.clone().or_else(|| variable(name).map(PathBuf::from));
            flag.or_else(|| config.storage(setting).map(PathBuf::from))
        };
        let listed = variable("COFFER_KEY_SERVICE_HOSTS").and_then(|text| text.into_string().ok());
        let listed = listed.or_else(|| config.storage("key-service-hosts").cloned()).unwrap_or_default();
        let listed = listed.split(',').map(str::trim).filter(|host| !host.is_empty());
        let hosts = args.key_service_host.iter().map(String::as_str).chain(listed);
        Self {
            api_key_file: path(
                &args.key_service_api_key_file,
                "COFFER_KEY_SERVICE_API_KEY_FILE",
                "key-service-api-key-file",
            ),
            token_file: path(
                &args.key_service_token_file,
                "COFFER_KEY_SERVICE_TOKEN_FILE",
                "key-service-token-file",
            ),
            hosts: hosts.map(TrustedHost::parse).collect(),
            limit: args.limit(),
            retry_limit: args.retry_limit(),
        }
    }

    /// Whether anything is given with which a key service could be asked.
    pub(crate) fn is_given(&self, storage: &Storage) -> bool {
        self.api_key_file.is_some() || self.token_file.is_some() || storage.has_ibm_identity()
    }

    /// The services, in the name of whoever is given.
    pub(crate) fn services(&self, storage: &Storage) -> Result<Arc<KeyServices>> {
        let ca_cert = storage.ca_cert().map(read_ca_cert).transpose()?;
        let iam = storage.iam_for_keys(self.api_key_file.as_deref(), ca_cert.clone(), self.limit)?;
        let options = KeyServiceOptions {
            ca_cert,
            iam,
            token: self.token_file.as_deref().map(token).transpose()?,
            trusted: self.hosts.clone(),
            private: storage.is_private(),
            limit: self.limit,
            retry_limit: self.retry_limit,
        };
        let services = KeyServices::new(options).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Arc::new(services))
    }
}

fn token(path: &Path) -> Result<ApiKey> {
    let hint =
        "the file holds the token of the key service and nothing else; `coffer kms new-token` makes one";
    read_secret_word("token", path, hint)
}
