//! Credentials of object storage: the keys of AWS and of whoever follows it, and the service credentials of Cloud
//! Object Storage.
//!
//! Nothing here reads the environment; whoever asks says where to look. Secrets are wiped when dropped, are in no
//! `Debug` output and in no error.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::bearer::BearerSource;
use crate::StoreError;

/// Longest file with credentials, in bytes.
const FILE_LEN_MAX: usize = 1 << 20;

/// How a store knows who asks.
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// Requests are signed with a pair of keys (HMAC).
    Keys(AwsKeys),
    /// Requests carry a token.
    Bearer(Arc<dyn BearerSource>),
    /// Requests carry nothing; for public buckets.
    Anonymous,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys(_) => "Keys",
            Self::Bearer(_) => "Bearer",
            Self::Anonymous => "Anonymous",
        })
    }
}

/// A pair of keys, perhaps with the token of a session.
#[derive(Clone, PartialEq, Eq)]
pub struct AwsKeys {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: Zeroizing<String>,
    pub(super) session_token: Option<Zeroizing<String>>,
}

impl fmt::Debug for AwsKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsKeys")
    }
}

/// What a profile of AWS, or the environment, gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AwsSettings {
    /// The keys, if there are any.
    pub keys: Option<AwsKeys>,
    /// The region.
    pub region: Option<String>,
    /// The endpoint of S3.
    pub endpoint: Option<String>,
    /// Where keys were looked for, for messages.
    pub looked_in: String,
}

impl AwsKeys {
    /// A pair of keys.
    #[must_use]
    pub fn new(access_key_id: String, secret_access_key: String, session_token: Option<String>) -> Self {
        Self {
            access_key_id,
            secret_access_key: Zeroizing::new(secret_access_key),
            session_token: session_token.map(Zeroizing::new),
        }
    }
}

impl AwsSettings {
    /// Looks where the tools of AWS look: at the variables of the environment that `variable` gives, then into the
    /// profile of the files `~/.aws/credentials` and `~/.aws/config`. A `profile` that is named here goes before the
    /// keys in the environment.
    ///
    /// # Errors
    /// [`StoreError::InvalidSetting`] for a profile that is not there, one whose keys come from elsewhere (a role, a
    /// command, a login), half a pair of keys, or a file that cannot be read.
    pub fn find(
        profile: Option<&str>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, StoreError> {
        let mut found = Self {
            region: variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")),
            endpoint: variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL")),
            ..Self::default()
        };
        let mut looked_in = Vec::new();
        if profile.is_none() {
            looked_in.push("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned());
            let (id, secret) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"));
            found.keys = match (id, secret) {
                (Some(id), Some(secret)) => Some(AwsKeys::new(id, secret, variable("AWS_SESSION_TOKEN"))),
                (None, None) => None,
                _ => {
                    return Err(invalid(
                        "the environment",
                        "of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY one is set and one is not",
                    ));
                }
            };
        }
        let named = profile.map(str::to_owned).or_else(|| variable("AWS_PROFILE"));
        let home = variable("HOME").map(PathBuf::from);
        let path = |name: &str, file: &str| {
            variable(name)
                .map(PathBuf::from)
                .or_else(|| home.as_ref().map(|home| home.join(".aws").join(file)))
        };
        let credentials = path("AWS_SHARED_CREDENTIALS_FILE", "credentials");
        let config = path("AWS_CONFIG_FILE", "config");
        let name = named.as_deref().unwrap_or("default");
        let mut merged = Section::new();
        let mut is_there = false;
        for (path, is_config) in [(&config, true), (&credentials, false)] {
            let Some(path) = path else { continue };
            looked_in.push(format!("profile {name} of {}", path.display()));
            if let Some(section) = read_profile(path, name, is_config)? {
                is_there = true;
                merged.extend(section);
            }
        }
        found.looked_in = looked_in.join(", ");
        if !is_there && named.is_some() {
            return Err(invalid(&format!("AWS profile {name}"), "it is not in the files of AWS"));
        }
        let mut take = |key: &str| merged.remove(key).filter(|value| !value.is_empty());
        found.region = found.region.or_else(|| take("region").map(|value| value.to_string()));
        found.endpoint = found.endpoint.or_else(|| take("endpoint_url").map(|value| value.to_string()));
        if found.keys.is_none() {
            found.keys = match (take("aws_access_key_id"), take("aws_secret_access_key")) {
                (Some(id), Some(secret)) => Some(AwsKeys {
                    access_key_id: id.to_string(),
                    secret_access_key: secret,
                    session_token: take("aws_session_token"),
                }),
                (None, None) => {
                    let elsewhere = ["credential_process", "role_arn", "sso_session", "sso_start_url"];
                    match elsewhere.iter().find(|key| merged.contains_key(**key)) {
                        None => None,
                        Some(key) => {
                            let reason = format!(
                                "its keys come by {key}, which is not followed here; give them in the environment, \
                                 as by `aws configure export-credentials --format env`"
                            );
                            return Err(invalid(&format!("AWS profile {name}"), &reason));
                        }
                    }
                }
                _ => {
                    let reason = "of aws_access_key_id and aws_secret_access_key one is missing";
                    return Err(invalid(&format!("AWS profile {name}"), reason));
                }
            };
        }
        Ok(found)
    }
}

/// A service credential of Cloud Object Storage, as the console and `ibmcloud resource service-key` give it.
#[derive(Debug, Clone)]
pub struct CosCredentials {
    /// HMAC keys, if the credential was made with them.
    pub keys: Option<AwsKeys>,
    /// The API key of a service id.
    pub api_key: Option<ApiKey>,
    /// CRN of the instance.
    pub instance_id: Option<String>,
    /// Where tokens come from, if not from the usual place.
    pub iam_endpoint: Option<String>,
}

/// An API key of IBM Cloud. It is wiped when dropped and never shown; clones share the one copy.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(Arc<Zeroizing<String>>);

impl ApiKey {
    /// Takes a key.
    #[must_use]
    pub fn new(key: String) -> Self {
        Self(Arc::new(Zeroizing::new(key)))
    }

    /// The key itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

impl CosCredentials {
    /// Reads a file with a service credential.
    ///
    /// # Errors
    /// [`StoreError::InvalidSetting`].
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let what = format!("the service credential in {}", path.display());
        let bytes = read_bounded(path).map_err(|error| invalid(&what, &error.to_string()))?;
        let bytes = bytes.ok_or_else(|| invalid(&what, "there is no such file"))?;
        Self::parse(&bytes, &what)
    }

    fn parse(bytes: &[u8], what: &str) -> Result<Self, StoreError> {
        // The parser's message could repeat a part of the text.
        let mut value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|_| invalid(what, "it is not JSON"))?;
        if value.get("credentials").is_some_and(serde_json::Value::is_object) {
            value = value["credentials"].take();
        }
        let take = |value: &mut serde_json::Value, name: &str| match value
            .get_mut(name)
            .map(serde_json::Value::take)
        {
            Some(serde_json::Value::String(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        let keys = value.get_mut("cos_hmac_keys").map(|keys| {
            match (take(keys, "access_key_id"), take(keys, "secret_access_key")) {
                (Some(id), Some(secret)) => Ok(AwsKeys::new(id, secret, None)),
                _ => Err(invalid(what, "its cos_hmac_keys are incomplete")),
            }
        });
        let found = Self {
            keys: keys.transpose()?,
            api_key: take(&mut value, "apikey").map(ApiKey::new),
            instance_id: take(&mut value, "resource_instance_id"),
            iam_endpoint: take(&mut value, "iam_auth_endpoint"),
        };
        if found.keys.is_none() && found.api_key.is_none() {
            return Err(invalid(what, "it holds neither cos_hmac_keys nor apikey"));
        }
        Ok(found)
    }
}

type Section = BTreeMap<String, Zeroizing<String>>;

/// One profile of a file of AWS, or nothing if the file or the profile is not there.
fn read_profile(path: &Path, name: &str, is_config: bool) -> Result<Option<Section>, StoreError> {
    let what = format!("{}", path.display());
    let Some(bytes) = read_bounded(path).map_err(|error| invalid(&what, &error.to_string()))? else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| invalid(&what, "it is not UTF-8"))?;
    Ok(parse_profile(text, name, is_config))
}

/// Lines are `[section]`, `key = value`, a comment, or, indented, a part of the value before it, which is of no use here.
fn parse_profile(text: &str, name: &str, is_config: bool) -> Option<Section> {
    let mut section: Option<Section> = None;
    let mut is_wanted = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = trimmed.strip_prefix('[') {
            let title = rest.split(']').next().unwrap_or_default().trim();
            let title = match title.strip_prefix("profile") {
                Some(rest) if is_config && rest.starts_with(char::is_whitespace) => rest.trim(),
                _ if is_config && title != "default" => "",
                _ => title,
            };
            is_wanted = !title.is_empty() && title == name;
            if is_wanted {
                section.get_or_insert_default();
            }
            continue;
        }
        if !is_wanted || line.starts_with([' ', '\t']) {
            continue;
        }
        if let (Some((key, value)), Some(section)) = (line.split_once('='), &mut section) {
            let value = value.split(" #").next().unwrap_or_default().trim();
            section.insert(key.trim().to_ascii_lowercase(), Zeroizing::new(value.to_owned()));
        }
    }
    section
}

fn read_bounded(path: &Path) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    // A buffer that grew would leave pieces of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_LEN_MAX));
    file.take(FILE_LEN_MAX as u64).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn invalid(what: &str, reason: &str) -> StoreError {
    StoreError::InvalidSetting { what: what.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(
        directory: &Path,
        profile: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Result<AwsSettings, StoreError> {
        AwsSettings::find(profile, &|name| {
            if name == "HOME" {
                return Some(directory.display().to_string());
            }
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn id(settings: &AwsSettings) -> Option<&str> {
        settings.keys.as_ref().map(|keys| keys.access_key_id.as_str())
    }

    #[test]
    fn keys_come_from_the_environment_or_a_profile() {
        let home = tempfile::tempdir().expect("a directory");
        let aws = home.path().join(".aws");
        let environment = [("AWS_ACCESS_KEY_ID", "env"), ("AWS_SECRET_ACCESS_KEY", "hidden")];
        assert_eq!(find(home.path(), None, &[]).expect("no files are no error").keys, None);
        assert_eq!(id(&find(home.path(), None, &environment).expect("keys")), Some("env"));
        find(home.path(), Some("x"), &environment).expect_err("no such profile");

        std::fs::create_dir(&aws).expect("a directory");
        let credentials = "# comment\n[default]\naws_access_key_id=one\naws_secret_access_key = s=1 # why\n\
                           [ other ]\naws_access_key_id = two\naws_secret_access_key = s2\naws_session_token = t2\n\
                           [half]\naws_access_key_id = three\n";
        std::fs::write(aws.join("credentials"), credentials).expect("is written");
        let config = "[default]\nregion = eu-central-1\n[profile other]\nregion = us-east-2\n\
                      endpoint_url = https://s3.example\ns3 =\n  region = nested\n\
                      [profile role]\nrole_arn = arn\nsource_profile = default\n[other]\nregion = wrong\n";
        std::fs::write(aws.join("config"), config).expect("is written");

        let found = find(home.path(), None, &[]).expect("the default profile");
        assert_eq!((id(&found), found.region.as_deref()), (Some("one"), Some("eu-central-1")));
        assert_eq!(found.keys.expect("keys").secret_access_key.as_str(), "s=1");
        let found = find(home.path(), None, &environment).expect("the environment goes first");
        assert_eq!((id(&found), found.region.as_deref()), (Some("env"), Some("eu-central-1")));
        let found =
            find(home.path(), Some("other"), &environment).expect("a profile that is named goes first");
        assert_eq!((id(&found), found.region.as_deref()), (Some("two"), Some("us-east-2")));
        assert_eq!(found.endpoint.as_deref(), Some("https://s3.example"));
        assert!(found.keys.expect("keys").session_token.is_some());
        let found = find(home.path(), None, &[("AWS_PROFILE", "other"), ("AWS_REGION", "ap")]).expect("keys");
        assert_eq!((id(&found), found.region.as_deref()), (Some("two"), Some("ap")));

        for (profile, expected) in
            [("half", "one is missing"), ("role", "role_arn"), ("none", "not in the files")]
        {
            let message = find(home.path(), Some(profile), &[]).expect_err(profile).to_string();
            assert!(message.contains(expected) && !message.contains("s=1"), "{message}");
        }
        find(home.path(), None, &environment[..1]).expect_err("half a pair");
    }

    #[test]
    fn service_credentials_of_every_kind() {
        let parse = |text: &str| CosCredentials::parse(text.as_bytes(), "the file");
        let full = r#"{"apikey": "zq7", "resource_instance_id": "crn:x::", "iam_auth_endpoint": "http://localhost/x",
            "cos_hmac_keys": {"access_key_id": "a", "secret_access_key": "b"}}"#;
        let found = parse(full).expect("a credential");
        assert_eq!(found.keys, Some(AwsKeys::new("a".to_owned(), "b".to_owned(), None)));
        assert_eq!(found.api_key.as_ref().map(ApiKey::expose), Some("zq7"));
        assert_eq!(found.instance_id.as_deref(), Some("crn:x::"));
        assert!(!format!("{found:?}").contains("zq7"), "{found:?}");
        let wrapped = parse(r#"{"name": "n", "credentials": {"apikey": "k"}}"#).expect("a service key");
        assert!(wrapped.keys.is_none() && wrapped.api_key.is_some());
        for (text, expected) in [
            ("secret", "not JSON"),
            ("{}", "neither"),
            (r#"{"apikey": 7}"#, "neither"),
            (r#"{"cos_hmac_keys": {"access_key_id": "secret"}}"#, "incomplete"),
        ] {
            let message = parse(text).expect_err(text).to_string();
            assert!(message.contains(expected) && !message.contains("secret"), "{message}");
        }
    }
}
