//! Object storage as the command line sees it: how it is reached, and who asks.
//!
//! For each setting the command line goes before the environment, and that before the configuration file; what the file says of
//! one store goes before the environment. Credentials are read when a bucket is opened, not before; none of them is ever
//! shown.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use coffer_crypto::{OsRng, rng};
use coffer_ibm::{
    HttpClient, HttpOptions, IAM_ENDPOINT, Iam, IamCredential, PRIVATE_IAM_ENDPOINT, Patience, Profile,
};
use coffer_store::{
    ApiKey, AwsSettings, Checksums, CosCredentials, Credentials, Network, RateLimit, RequestCounter,
    S3Location, S3Options, S3Place, S3Store, StoreError, UploadMemory,
};
use zeroize::Zeroizing;

use crate::command_error::Failure;
use crate::config::Config;
use crate::exit_code::Exit;
use crate::profile::StoreTable;

/// Longest file with an API key, in bytes.
const KEY_FILE_LEN_MAX: usize = 4096;

/// Flags of object storage.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Object storage")]
pub(crate) struct StorageArgs {
    /// URL of the S3 service, if it is not AWS: https://HOST[:PORT].
    #[arg(long, global = true, value_name = "URL")]
    endpoint: Option<String>,
    /// Region of AWS, or the one that another service wants in signatures.
    #[arg(long, global = true, value_name = "REGION")]
    region: Option<String>,
    /// Network from which Cloud Object Storage is asked.
    #[arg(long, global = true, value_enum, value_name = "NETWORK")]
    network: Option<NetworkName>,
    /// Take the keys from this profile of the files of AWS.
    #[arg(long, global = true, value_name = "NAME", group = "bucket_identity")]
    aws_profile: Option<String>,
    /// Take the keys, or the API key, from this service credential of Cloud Object Storage (JSON).
    #[arg(long, global = true, value_name = "FILE", group = "bucket_identity")]
    cos_credentials: Option<PathBuf>,
    /// Get tokens for the API key of IBM Cloud in this file (as it is, or the JSON of `ibmcloud iam api-key-create`).
    #[arg(long, global = true, value_name = "FILE", group = "bucket_identity")]
    ibm_api_key_file: Option<PathBuf>,
    /// Get tokens as this trusted profile of IBM Cloud, by id or name.
    #[arg(long, global = true, value_name = "PROFILE", group = "bucket_identity")]
    ibm_trusted_profile: Option<String>,
    /// Where the token of the compute resource is that may act as the trusted profile.
    #[arg(long, global = true, value_name = "FILE")]
    ibm_cr_token_file: Option<PathBuf>,
    /// URL of IAM, if it is not that of the public cloud.
    #[arg(long, global = true, value_name = "URL")]
    iam_endpoint: Option<String>,
    /// Also trust the certificates in this file (PEM).
    #[arg(long, global = true, value_name = "FILE", alias = "cacert")]
    ca_cert: Option<PathBuf>,
    /// Send no more than this in a second, in KiB, or with K, M, G or T behind it.
    #[arg(long, global = true, value_name = "RATE", value_parser = parse_rate)]
    limit_upload: Option<u64>,
    /// Receive no more than this in a second, in KiB, or with K, M, G or T behind it.
    #[arg(long, global = true, value_name = "RATE", value_parser = parse_rate)]
    limit_download: Option<u64>,
    /// Show the vault as it was at that time, in a bucket that keeps versions: YYYY-MM-DD HH:MM[:SS] in local time, or as in
    /// RFC 3339. For commands that only read.
    #[arg(long, global = true, value_name = "TIME", value_parser = crate::time::parse_time)]
    pub(crate) as_of: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NetworkName {
    /// From anywhere.
    Public,
    /// From the classic infrastructure of IBM Cloud.
    Private,
    /// From a virtual private cloud of IBM Cloud.
    Direct,
}

impl From<NetworkName> for Network {
    fn from(name: NetworkName) -> Self {
        match name {
            NetworkName::Public => Self::Public,
            NetworkName::Private => Self::Private,
            NetworkName::Direct => Self::Direct,
        }
    }
}

/// How object storage is reached in this run.
#[derive(Debug)]
pub(crate) struct Storage {
    /// What holds for every store, and for key services.
    general: Way,
    /// What holds for the stores that have settings of their own.
    ways: Vec<(S3Location, Way)>,
    /// The time as of which buckets are shown, in milliseconds since 1970.
    pub(crate) as_of_ms: Option<u64>,
    /// Where it is kept what stores were found to do.
    memory: Option<Arc<dyn UploadMemory>>,
}

/// How a store is reached, and who asks.
#[derive(Debug)]
struct Way {
    endpoint: Option<String>,
    region: Option<String>,
    network: Network,
    identity: Option<Identity>,
    cr_token_file: Option<PathBuf>,
    iam_endpoint: Option<String>,
    ca_cert: Option<PathBuf>,
    upload_rate: Option<Arc<RateLimit>>,
    download_rate: Option<Arc<RateLimit>>,
    checksums: Checksums,
    /// How long IAM is waited for, by all stores together.
    patience: Arc<Patience>,
}

/// Who asks, as it was said.
#[derive(Debug, Clone)]
enum Identity {
    AwsProfile(String),
    CosCredentials(PathBuf),
    ApiKeyFile(PathBuf),
    ApiKeyVariable(&'static str),
    TrustedProfile(String),
}

impl Storage {
    pub(crate) fn new(
        args: &StorageArgs,
        config: &Config,
        memory: Option<Arc<dyn UploadMemory>>,
    ) -> Result<Self> {
        let patience = Arc::new(Patience::new(u64::from_le_bytes(rng::array(&OsRng)?)));
        let general = Way::new(args, None, config, &patience)?;
        let own = |table: &StoreTable| {
            let mut way = Way::new(args, Some(table), config, &patience)?;
            // A bound that is not a store's own is one of all together.
            if args.limit_upload.is_some() || table.value("limit-upload").is_none() {
                way.upload_rate.clone_from(&general.upload_rate);
            }
            if args.limit_download.is_some() || table.value("limit-download").is_none() {
                way.download_rate.clone_from(&general.download_rate);
            }
            Ok((table.location.clone(), way))
        };
        Ok(Self {
            ways: config.store_tables.iter().map(own).collect::<Result<_>>()?,
            general,
            as_of_ms: args.as_of.map(|ns| u64::try_from(ns / 1_000_000).unwrap_or(0)),
            memory,
        })
    }

    /// Makes ready to use a bucket; asks nothing of it yet.
    pub(crate) fn open(&self, location: &S3Location, counter: RequestCounter) -> Result<S3Store> {
        self.own(location).unwrap_or(&self.general).open(location, counter, self.memory.clone())
    }

    /// Whether a store has settings of its own.
    pub(crate) fn has_own(&self, location: &S3Location) -> bool {
        self.own(location).is_some()
    }

    fn own(&self, location: &S3Location) -> Option<&Way> {
        self.ways.iter().find(|(of, _)| of == location).map(|(_, way)| way)
    }

    /// The file of certificates that are trusted beside those of the system, for services that are no store.
    pub(crate) fn ca_cert(&self) -> Option<&Path> {
        self.general.ca_cert.as_deref()
    }

    /// Whether an identity at IBM Cloud is given.
    pub(crate) fn has_ibm_identity(&self) -> bool {
        self.general.has_ibm_identity()
    }

    /// Whether the services of IBM Cloud are asked at their private addresses.
    pub(crate) const fn is_private(&self) -> bool {
        !matches!(self.general.network, Network::Public)
    }

    /// Who asks key services of IBM Cloud: the API key in `file`, or whoever is given for all of IBM Cloud.
    pub(crate) fn iam_for_keys(
        &self,
        file: Option<&Path>,
        ca_cert: Option<Vec<u8>>,
        limit: Duration,
    ) -> Result<Option<Arc<Iam>>> {
        self.general.iam_for_keys(file, ca_cert, limit)
    }
}

impl Way {
    /// The command line goes before the table of the store, that before the environment, and that before the rest of the
    /// configuration file.
    fn new(
        args: &StorageArgs,
        table: Option<&StoreTable>,
        config: &Config,
        patience: &Arc<Patience>,
    ) -> Result<Self> {
        let own = |setting: &str| table.and_then(|table| table.value(setting)).cloned();
        let text = |flag: Option<&str>, name: &str, setting: &str| {
            flag.map(str::to_owned)
                .or_else(|| own(setting))
                .or_else(|| variable(name))
                .or_else(|| config.storage(setting).cloned())
        };
        let path = |flag: &Option<PathBuf>, name: &str, setting: &str| {
            flag.clone()
                .or_else(|| own(setting).map(PathBuf::from))
                .or_else(|| variable(name).map(PathBuf::from))
                .or_else(|| config.storage(setting).map(PathBuf::from))
        };
        let setting = |name: &str| own(name).or_else(|| config.storage(name).cloned());
        let rate = |flag: Option<u64>, name: &str| match (flag, setting(name)) {
            (None, Some(text)) => parse_rate(&text)
                .map(Some)
                .map_err(|error| Failure::usage(format!("{name} in the configuration file: {error}"))),
            (flag, _) => Ok(flag),
        };
        let network = match (args.network, setting("network")) {
            (Some(name), _) => name.into(),
            (None, None) => Network::Public,
            (None, Some(text)) => NetworkName::from_str(&text, false).map(Network::from).map_err(|_| {
                Failure::usage("network in the configuration file is not public, private or direct")
            })?,
        };
        let checksums = match setting("checksums").as_deref() {
            None | Some("auto") => Checksums::Auto,
            Some("always") => Checksums::Always,
            Some("never") => Checksums::Never,
            Some(_) => {
                let message = "checksums in the configuration file is not auto, always or never";
                return Err(Failure::usage(message).into());
            }
        };
        Ok(Self {
            endpoint: text(args.endpoint.as_deref(), "COFFER_ENDPOINT", "endpoint"),
            region: text(args.region.as_deref(), "COFFER_REGION", "region"),
            network,
            identity: identity(args, table, config)?,
            cr_token_file: path(&args.ibm_cr_token_file, "COFFER_IBM_CR_TOKEN_FILE", "ibm-cr-token-file"),
            iam_endpoint: text(args.iam_endpoint.as_deref(), "COFFER_IAM_ENDPOINT", "iam-endpoint"),
            ca_cert: path(&args.ca_cert, "COFFER_CA_CERT", "ca-cert"),
            upload_rate: rate(args.limit_upload, "limit-upload")?.map(RateLimit::new),
            download_rate: rate(args.limit_download, "limit-download")?.map(RateLimit::new),
            checksums,
            patience: Arc::clone(patience),
        })
    }

    fn open(
        &self,
        location: &S3Location,
        counter: RequestCounter,
        upload_memory: Option<Arc<dyn UploadMemory>>,
    ) -> Result<S3Store> {
        let ca_cert = self.ca_cert.as_deref().map(read_ca_cert).transpose()?;
        let is_ibm = location.is_cos() || matches!(location.place, S3Place::Cos(_));
        let found = self.credentials(location, is_ibm, ca_cert.clone())?;
        // What names its own service is asked there.
        let given = self.endpoint.clone().filter(|_| !matches!(location.place, S3Place::Endpoint(_)));
        let leads_away =
            |endpoint: &String| matches!(location.place, S3Place::Cos(_)) && !is_on_this_machine(endpoint);
        if let Some(endpoint) = given.as_ref().filter(|endpoint| leads_away(endpoint)) {
            let message = format!(
                "{} names its own service, and {endpoint} would be asked in its place",
                location.url()
            );
            let hint = "leave out --endpoint (COFFER_ENDPOINT, `endpoint`), or name that service as s3:https://HOST/BUCKET/PREFIX";
            return Err(Failure::usage(message).hint(hint).into());
        }
        let is_chosen = location.place == S3Place::S3 && given.is_some();
        if matches!(found.credentials, Credentials::Bearer(_)) && !is_ibm && !is_chosen {
            let message = format!("a token of IBM Cloud would be sent to the service of {}", location.url());
            let hint = "open that store with keys (HMAC): of a profile with --aws-profile, or in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
            return Err(Failure::usage(message).hint(hint).into());
        }
        let options = S3Options {
            endpoint: given.or(found.endpoint),
            network: self.network,
            region: self.region.clone().or(found.region),
            // What the files of AWS say is a default for all that its owner has.
            is_region_fixed: self.region.is_some(),
            checksums: self.checksums,
            upload_memory,
            ca_cert,
            upload_rate: self.upload_rate.clone(),
            download_rate: self.download_rate.clone(),
            counter,
            ..S3Options::new(found.credentials)
        };
        Ok(S3Store::open(location.clone(), &options)?)
    }

    fn credentials(&self, location: &S3Location, is_ibm: bool, ca_cert: Option<Vec<u8>>) -> Result<Found> {
        let iam = |credential| self.iam(credential, None, ca_cert.clone());
        match &self.identity {
            Some(Identity::AwsProfile(name)) => {
                let found = AwsSettings::find(Some(name), &|name| variable(name))?;
                return Found::keys(found, location);
            }
            Some(Identity::CosCredentials(path)) => return self.of_service(path, ca_cert),
            Some(Identity::ApiKeyFile(path)) => return iam(IamCredential::ApiKey(read_api_key(path)?)),
            Some(Identity::ApiKeyVariable(name)) => return iam(api_key_variable(name)?),
            Some(Identity::TrustedProfile(name)) => {
                let (profile, token_file) = (Profile::parse(name), self.cr_token_file.clone());
                return iam(IamCredential::TrustedProfile { profile, token_file });
            }
            None => {}
        }
        let found = AwsSettings::find(None, &|name| variable(name))?;
        if is_ibm && found.keys.is_none() {
            if variable("IBMCLOUD_API_KEY").is_some() {
                return iam(api_key_variable("IBMCLOUD_API_KEY")?);
            }
            let home = variable("HOME").map(|home| PathBuf::from(home).join(".bluemix/cos_credentials"));
            if let Some(path) = home.filter(|path| path.exists()) {
                return self.of_service(&path, ca_cert);
            }
        }
        Found::keys(found, location)
    }

    /// HMAC keys if the credential has them, else tokens.
    fn of_service(&self, path: &Path, ca_cert: Option<Vec<u8>>) -> Result<Found> {
        let credential = CosCredentials::read(path)?;
        match (credential.keys, credential.api_key) {
            (Some(keys), _) => Ok(Found::plain(Credentials::Keys(keys))),
            (None, Some(key)) => {
                self.iam(IamCredential::ApiKey(key), credential.iam_endpoint.as_deref(), ca_cert)
            }
            // Reading it found one of the two.
            (None, None) => Ok(Found::plain(Credentials::Anonymous)),
        }
    }

    fn iam(
        &self,
        credential: IamCredential,
        endpoint: Option<&str>,
        ca_cert: Option<Vec<u8>>,
    ) -> Result<Found> {
        Ok(Found::plain(Credentials::Bearer(self.identity_of(credential, endpoint, ca_cert, None)?)))
    }

    fn identity_of(
        &self,
        credential: IamCredential,
        endpoint: Option<&str>,
        ca_cert: Option<Vec<u8>>,
        call_timeout: Option<Duration>,
    ) -> Result<Arc<Iam>> {
        let options = HttpOptions { ca_cert, call_timeout, no_proxy: false };
        let http = HttpClient::new(&options).map_err(of_setting)?;
        let default = match self.network {
            Network::Public => IAM_ENDPOINT,
            // In a network that is cut off from the public one, IAM is asked inside it too.
            _ => PRIVATE_IAM_ENDPOINT,
        };
        let endpoint = self.iam_endpoint.as_deref().or(endpoint).unwrap_or(default);
        let iam = Iam::new(http, endpoint, credential).map_err(of_setting)?;
        Ok(Arc::new(iam.sharing(Arc::clone(&self.patience))))
    }

    /// Whether an identity at IBM Cloud is given.
    fn has_ibm_identity(&self) -> bool {
        !matches!(self.identity, None | Some(Identity::AwsProfile(_) | Identity::CosCredentials(_)))
            || variable("IBMCLOUD_API_KEY").is_some()
    }

    fn iam_for_keys(
        &self,
        file: Option<&Path>,
        ca_cert: Option<Vec<u8>>,
        limit: Duration,
    ) -> Result<Option<Arc<Iam>>> {
        let credential = match (file, &self.identity) {
            (Some(path), _) => IamCredential::ApiKey(read_api_key(path)?),
            (None, Some(Identity::ApiKeyFile(path))) => IamCredential::ApiKey(read_api_key(path)?),
            (None, Some(Identity::ApiKeyVariable(name))) => api_key_variable(name)?,
            (None, Some(Identity::TrustedProfile(name))) => {
                let (profile, token_file) = (Profile::parse(name), self.cr_token_file.clone());
                IamCredential::TrustedProfile { profile, token_file }
            }
            (None, _) if variable("IBMCLOUD_API_KEY").is_some() => api_key_variable("IBMCLOUD_API_KEY")?,
            (None, _) => return Ok(None),
        };
        self.identity_of(credential, None, ca_cert, Some(limit)).map(Some)
    }
}

/// Credentials, and what was found beside them.
struct Found {
    credentials: Credentials,
    region: Option<String>,
    endpoint: Option<String>,
}

impl Found {
    const fn plain(credentials: Credentials) -> Self {
        Self { credentials, region: None, endpoint: None }
    }

    fn keys(found: AwsSettings, location: &S3Location) -> Result<Self> {
        let Some(keys) = found.keys else {
            return Err(
                StoreError::NoCredentials { store: location.url(), looked_in: found.looked_in }.into()
            );
        };
        // An endpoint for AWS is none for what names another place.
        let endpoint = found.endpoint.filter(|_| location.place == S3Place::S3);
        Ok(Self { credentials: Credentials::Keys(keys), region: found.region, endpoint })
    }
}

/// Whether an endpoint is that of a simulated region: it may stand for any location.
fn is_on_this_machine(endpoint: &str) -> bool {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    ["127.", "localhost", "[::1]"].iter().any(|start| host.starts_with(start))
}

/// The one identity that is given, by the highest of command line, table of the store, environment and configuration that gives
/// any.
fn identity(args: &StorageArgs, table: Option<&StoreTable>, config: &Config) -> Result<Option<Identity>> {
    let flags = [
        args.aws_profile.clone().map(Identity::AwsProfile),
        args.cos_credentials.clone().map(Identity::CosCredentials),
        args.ibm_api_key_file.clone().map(Identity::ApiKeyFile),
        args.ibm_trusted_profile.clone().map(Identity::TrustedProfile),
    ];
    let variables = [
        variable("COFFER_COS_CREDENTIALS").map(|path| Identity::CosCredentials(path.into())),
        variable("COFFER_IBM_API_KEY_FILE").map(|path| Identity::ApiKeyFile(path.into())),
        variable("COFFER_IBM_API_KEY").map(|_| Identity::ApiKeyVariable("COFFER_IBM_API_KEY")),
        variable("COFFER_IBM_TRUSTED_PROFILE").map(Identity::TrustedProfile),
    ];
    let of = |setting: &dyn Fn(&str) -> Option<String>| {
        [
            setting("aws-profile").map(Identity::AwsProfile),
            setting("cos-credentials").map(|path| Identity::CosCredentials(path.into())),
            setting("ibm-api-key-file").map(|path| Identity::ApiKeyFile(path.into())),
            setting("ibm-trusted-profile").map(Identity::TrustedProfile),
        ]
    };
    let own = of(&|name| table?.value(name).cloned());
    let settings = of(&|name| config.storage(name).cloned());
    let levels = [
        ("on the command line", flags),
        ("for one store in the configuration file", own),
        ("in the environment", variables),
        ("in the configuration file", settings),
    ];
    for (level, given) in levels {
        let mut given = given.into_iter().flatten();
        let first = given.next();
        if given.next().is_some() {
            let message = format!("two identities for object storage are given {level}");
            let hint = "give one of AWS profile, service credential, API key and trusted profile";
            return Err(Failure::usage(message).hint(hint).into());
        }
        if first.is_some() {
            return Ok(first);
        }
    }
    Ok(None)
}

/// A variable of the environment; an empty one counts as none, as does one that is not UTF-8.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn api_key_variable(name: &str) -> Result<IamCredential> {
    let key = Zeroizing::new(variable(name).with_context(|| format!("{name} is empty"))?);
    Ok(IamCredential::ApiKey(ApiKey::new(key.trim().to_owned())))
}

/// What `ibmcloud iam api-key-create` writes. The key is looked at where it was read, and copied nowhere else.
#[derive(serde::Deserialize)]
struct MadeKey<'a> {
    #[serde(borrow)]
    apikey: Option<&'a str>,
}

pub(crate) fn read_api_key(path: &Path) -> Result<ApiKey> {
    let hint =
        "the file holds the key and nothing else, or the JSON that `ibmcloud iam api-key-create` wrote";
    read_secret_word("API key", path, hint)
}

/// Reads a key, or what stands in the place of one: `what` and `hint` are for people.
pub(crate) fn read_secret_word(what: &str, path: &Path, hint: &str) -> Result<ApiKey> {
    use std::io::Read;
    let refuse = |reason: &str| {
        let message = format!("the {what} in {} cannot be used: {reason}", path.display());
        Failure::new(Exit::NoAccess, message).hint(hint)
    };
    // A buffer that grew would leave pieces of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_LEN_MAX));
    std::fs::File::open(path)
        .and_then(|file| file.take(KEY_FILE_LEN_MAX as u64).read_to_string(&mut text))
        .map_err(|error| refuse(&error.to_string()))?;
    let text = text.trim();
    if text.starts_with('{') {
        let made: MadeKey<'_> = serde_json::from_str(text).map_err(|_| refuse("it is not JSON"))?;
        return Ok(ApiKey::new(made.apikey.ok_or_else(|| refuse("it has no member apikey"))?.to_owned()));
    }
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err(refuse("it is empty or holds white space").into());
    }
    Ok(ApiKey::new(text.to_owned()))
}

pub(crate) fn read_ca_cert(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        let message = format!("the file of trusted certificates {} cannot be read: {error}", path.display());
        Failure::usage(message).hint("check --ca-cert").into()
    })
}

fn of_setting(error: coffer_ibm::IbmError) -> Failure {
    Failure::usage(error.to_string())
        .hint("check --iam-endpoint, --ca-cert and the file of the service credential")
}

/// A number of KiB per second, or of bytes with a unit of 1024, 1024², … behind it.
fn parse_rate(text: &str) -> Result<u64, String> {
    let shift = match text.chars().last() {
        Some('k' | 'K') | None => 10,
        Some('m' | 'M') => 20,
        Some('g' | 'G') => 30,
        Some('t' | 'T') => 40,
        Some(_) => 10,
    };
    let digits = text.trim_end_matches(|last: char| "kKmMgGtT".contains(last));
    let number = if text.len() > digits.len() + 1 { None } else { digits.parse::<u64>().ok() };
    let rate = number.filter(|number| *number > 0).and_then(|number| number.checked_mul(1 << shift));
    rate.ok_or_else(|| {
        "expected KiB per second, such as 500, or a number with K, M, G or T, such as 2M".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_in_kib_or_have_units() {
        for (text, expected) in
            [("1", 1 << 10), ("500", 500 << 10), ("500k", 500 << 10), ("2M", 2 << 20), ("1G", 1 << 30)]
        {
            assert_eq!(parse_rate(text), Ok(expected), "{text}");
        }
        for text in ["", "0", "M", "-1", "1.5M", "1MM", "99999999999T", "1X", " 1"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_api_key_is_a_line_or_json() {
        let directory = std::env::temp_dir().join(format!("coffer-api-key-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("key");
        let check = |text: &str| {
            std::fs::write(&path, text).expect("is written");
            read_api_key(&path).map(|key| key.expose().to_owned()).map_err(|error| error.to_string())
        };
        assert_eq!(check("abc-_1\n"), Ok("abc-_1".to_owned()));
        assert_eq!(check("{\"name\": \"n\", \"apikey\": \"abc\"}\n"), Ok("abc".to_owned()));
        for text in ["", "secret key", "{\"secret\": 1}", "{secret"] {
            let message = check(text).expect_err(text);
            assert!(!message.contains("secret"), "{message}");
        }
        std::fs::remove_dir_all(&directory).expect("is removed");
    }
}
