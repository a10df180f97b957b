//! Errors as a user sees them: what happened, why, and what to type next.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::io;

use coffer_collect::CollectError;
use coffer_engine::{EngineError, Refusal, Selector};
use coffer_keys::{Answer, KeyError, ServiceAnswer, Untried};
use coffer_store::{CredentialFault, StoreError, TokenFault};
use coffer_verify::VerifyError;

use crate::exit_code::Exit;
use crate::output::{self, Unread};
use crate::pkcs11;
use crate::shares;
use crate::style::Word;

/// A failure that the command line itself found.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into(), hint: None }
    }

    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// An error ready to be shown.
#[derive(Debug)]
pub(crate) struct CommandError {
    pub(crate) exit: Exit,
    message: String,
    hint: Option<String>,
}

impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        let (exit, hint) = classify(&error);
        let mut message = String::new();
        for cause in error.chain() {
            let text = cause.to_string();
            // Some errors show their cause themselves.
            if !message.ends_with(&text) {
                if !message.is_empty() {
                    message.push_str(": ");
                }
                message.push_str(&text);
            }
        }
        Self { exit, message, hint }
    }
}

impl CommandError {
    /// The process ends in the middle of its work, because the user wants that.
    pub(crate) fn interrupted(hint: Option<String>) -> Self {
        Self { exit: Exit::Interrupted, message: EngineError::Interrupted.to_string(), hint }
    }

    pub(crate) fn is_archived(error: &anyhow::Error) -> bool {
        classify(error).0 == Exit::Archived
    }

    pub(crate) fn is_interrupted(error: &anyhow::Error) -> bool {
        classify(error).0 == Exit::Interrupted
    }

    /// Says it on standard error. That nobody reads standard output needs no words.
    pub(crate) fn print(&self, json: bool) {
        if self.exit == Exit::Unread {
            return;
        }
        if json {
            let value = serde_json::json!({
                "message_type": "error", "exit_code": self.exit as u8, "kind": self.exit.name(),
                "message": self.message, "hint": self.hint,
            });
            return output::message(&value.to_string());
        }
        output::message(&format!("{} {}", Word::Error.shown(), self.message));
        print_hint(self.hint.as_deref());
    }
}

fn print_hint(hint: Option<&str>) {
    if let Some(hint) = hint {
        output::message(&format!("{} {hint}", Word::Hint.shown()));
    }
}

/// Says what is wrong with the command line, as the parser describes it; `note` is what else had a part in it.
pub(crate) fn print_usage(error: &clap::Error, words: &[OsString], note: Option<String>, json: bool) {
    let hint = habit(error, words).or(note);
    if json {
        let text = error.to_string();
        let text = text.trim_end();
        let message = text.strip_prefix("error: ").unwrap_or(text).to_owned();
        CommandError { exit: Exit::Usage, message, hint }.print(true);
    } else {
        drop(error.print());
        print_hint(hint.as_deref());
    }
}

/// What a hand that is used to another program may have meant.
fn habit(error: &clap::Error, words: &[OsString]) -> Option<String> {
    use clap::error::{ContextKind, ContextValue};
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else { return None };
    let name = word.split('=').next().unwrap_or(word);
    let meant = match name {
        "-r" | "--repo" | "--repository" => "-V, --vault LOCATION",
        "-p" | "--password-file" => "--passphrase-file FILE",
        "--password-command" => "--passphrase-command COMMAND",
        "--read-data" => "`coffer verify --deep`",
        "--read-data-subset" => "--read-subset SUBSET",
        _ => return part(word, words),
    };
    Some(format!("did you mean {meant}?"))
}

/// A path behind a snapshot may be the part of it that is meant.
fn part(path: &str, words: &[OsString]) -> Option<String> {
    let at = words.iter().position(|word| word == path)?;
    let command = words.iter().position(|word| PART_COMMANDS.iter().any(|command| word == *command))?;
    let snapshot = words.get(at.checked_sub(1)?)?.to_str()?;
    let names_one =
        at > command + 1 && !snapshot.contains([':', '/']) && snapshot.parse::<Selector>().is_ok();
    let slash = if path.starts_with('/') { "" } else { "/" };
    (names_one && !path.starts_with('-')).then(|| format!("did you mean {snapshot}:{slash}{path}?"))
}

/// Commands that take one snapshot, or a part of it.
const PART_COMMANDS: [&str; 4] = ["ls", "cat", "dump", "restore"];

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some errors show their cause themselves.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

fn classify(error: &anyhow::Error) -> (Exit, Option<String>) {
    if error.chain().any(is_unread) {
        return (Exit::Unread, None);
    }
    // In the middle of a run it comes as a write that the stores refuse.
    if let Some(refusal) = error.chain().find_map(|cause| cause.downcast_ref::<Refusal>()) {
        return classify_refusal(refusal);
    }
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return (failure.exit, failure.hint.clone());
        }
        if let Some(engine) = cause.downcast_ref::<EngineError>() {
            return classify_engine(engine);
        }
        if let Some(error) = cause.downcast_ref::<VerifyError>() {
            return classify_verify(error);
        }
        if let Some(key) = cause.downcast_ref::<KeyError>() {
            return classify_key(key);
        }
        if let Some(store) = cause.downcast_ref::<StoreError>() {
            return classify_store(store);
        }
    }
    (Exit::Failed, None)
}

/// How a command ends that shows the rest of what it was asked for without a part that cannot be read: that is damaged, unless it is
/// archived, or the store does not let it be read.
pub(crate) fn exit_of_loss(error: &EngineError) -> Exit {
    if error.is_archived() {
        return Exit::Archived;
    }
    let store = match error {
        EngineError::Store(store) => Some(store),
        EngineError::ChunkLost { source: Some(source), .. } => match &**source {
            EngineError::Store(store) => Some(store),
            _ => None,
        },
        _ => None,
    };
    match store.map(|store| classify_store(store).0) {
        Some(exit @ (Exit::NoAccess | Exit::Unreachable)) => exit,
        _ => Exit::Corrupt,
    }
}

fn is_unread(cause: &(dyn Error + 'static)) -> bool {
    let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.is_some_and(|inner| inner.is::<Unread>())
}

fn classify_engine(error: &EngineError) -> (Exit, Option<String>) {
    let hint = |text: &str| Some(text.to_owned());
    match error {
        EngineError::NoVault { .. } => {
            (Exit::NoVault, hint("check --vault, or make a vault there with `coffer init`"))
        }
        EngineError::Unfinished { .. } => {
            let begun = "it holds no backup yet. Run `coffer init` again with a key that it was begun with, given in the same words; if there is none \
                any more, delete `vault` and `slots/` there, and run it again";
            (Exit::NoVault, hint(begun))
        }
        EngineError::LogLost { .. } => (
            Exit::Missing,
            hint(
                "delete nothing there: a copy of `log/`, another store of the vault with `coffer verify --heal`, or earlier versions in a bucket bring \
                 it back; `coffer verify` shows what is missing",
            ),
        ),
        EngineError::VaultExists { .. } => (Exit::Failed, hint("`coffer snapshots` shows what is in it")),
        EngineError::CredentialOfOther { .. } => (
            Exit::WrongKey,
            hint("check --vault and --writer; `coffer keys grant-writer` makes a credential for this vault"),
        ),
        EngineError::OtherVault { .. } => (
            Exit::Rollback,
            hint(
                "if the vault was replaced on purpose, delete this machine's memory of it (--cache-dir) or correct --vault-id",
            ),
        ),
        EngineError::Rollback { .. } => (
            Exit::Rollback,
            hint(
                "do not write to it; compare with a copy or a witness by `coffer verify --offline --head HEAD`; --no-cache reads what is there",
            ),
        ),
        EngineError::Refused(refusal) => classify_refusal(refusal),
        EngineError::WrongVersions { .. } | EngineError::WrongMode { .. } => (
            Exit::Rollback,
            hint(
                "the header there was replaced or lost: give --vault-id ID, so that its first version is taken; with other stores, `coffer verify --heal` repairs it",
            ),
        ),
        EngineError::HomeAnswers { .. } => {
            (Exit::CannotCommit, hint("`coffer handover --to STORE` moves the log without loss"))
        }
        EngineError::SameStore { .. } => {
            (Exit::Usage, hint("name each store once; of a copied directory only one can be used at a time"))
        }
        EngineError::CannotCommit { .. } => {
            (Exit::CannotCommit, hint("nothing was acknowledged; run the command again"))
        }
        EngineError::Key(key) | EngineError::NoNewSlot { source: key } => classify_key(key),
        EngineError::SlotUnread { source } => classify_store(source),
        EngineError::SlotUnknown { slot, source } => (
            classify_key(source).0,
            Some(format!(
                "try again later; if its root key is gone for good, `coffer keys revoke {}` first, with the key of another slot",
                slot.short()
            )),
        ),
        EngineError::LastOpened { .. } => (
            Exit::Failed,
            hint(
                "give the key of another slot as well (--also-key-file, --also-passphrase-file, --also-share …), or open the vault with another \
                 one; --untested revokes it all the same",
            ),
        ),
        EngineError::WriterRevoked { .. } => (
            Exit::WrongKey,
            hint(
                "nothing was committed; whoever has the key of the vault can make another credential: `coffer keys grant-writer`",
            ),
        ),
        EngineError::WriterUnknown { .. } => (
            Exit::WrongKey,
            hint("check --writer and --vault; `coffer keys writers` lists those who are enrolled"),
        ),
        EngineError::NotAllowed { .. } => {
            (Exit::WrongKey, hint("open the vault with a slot that holds the vault key"))
        }
        // What follows from it depends on the command.
        EngineError::Interrupted => (Exit::Interrupted, None),
        EngineError::NoThread { .. } => (
            Exit::Failed,
            hint(
                "raise the limit of processes or threads (`ulimit -u`, or that of the container) and run the command again; what is stored is intact",
            ),
        ),
        EngineError::BadSelector { .. } => (Exit::Usage, hint("`coffer snapshots` lists them")),
        EngineError::NoSnapshot { .. } | EngineError::AmbiguousSnapshot { .. } => {
            (Exit::Failed, hint("`coffer snapshots` lists them"))
        }
        EngineError::AmbiguousOrigin { .. } => (
            Exit::Failed,
            hint(
                "narrow it with --host, --path or --tag, or name a snapshot by its id; `coffer snapshots` lists them",
            ),
        ),
        EngineError::NoPath { .. } => (Exit::Failed, hint("`coffer ls SNAPSHOT` shows the paths")),
        error if error.is_archived() => archived(),
        EngineError::Damaged { .. } | EngineError::ChunkLost { .. } => {
            (Exit::Corrupt, hint("`coffer verify` shows what is damaged, and what it affects"))
        }
        EngineError::Pipeline(_) | EngineError::Format(_) => {
            (Exit::Corrupt, hint("`coffer verify` shows what is damaged"))
        }
        EngineError::Store(store) => classify_store(store),
        EngineError::Collect(CollectError::Target { .. }) => {
            (Exit::Failed, hint("give a directory that you may write to with --target"))
        }
        EngineError::Cache { .. } => {
            (Exit::Failed, hint("choose another directory with --cache-dir, or do without by --no-cache"))
        }
        _ => (Exit::Failed, None),
    }
}

/// Why nothing may be committed to a vault that can be read.
fn classify_refusal(refusal: &Refusal) -> (Exit, Option<String>) {
    let (exit, hint) = match refusal {
        Refusal::PromotedApart { .. } => (
            Exit::Rollback,
            "choose one of them: `coffer promote --to STORE --accept-loss`, then `coffer reconcile`; one store alone can be read",
        ),
        Refusal::HomeBehind { .. } => {
            (Exit::Rollback, "`coffer verify --heal` gives it back what the replica has")
        }
        Refusal::HandoverUnfinished { .. } => {
            (Exit::CannotCommit, "run `coffer handover` or `coffer replicate` again")
        }
        Refusal::HomeEmpty { .. } => (
            Exit::CannotCommit,
            "if it lost everything, `coffer promote --to REPLICA` makes a replica the home; `coffer replicate --new` fills it again, if \
             this machine knows it as the home; if the home is elsewhere, name it with --store",
        ),
        _ => (
            Exit::CannotCommit,
            "name the home with --store as well; if it is lost, `coffer promote` makes a replica the home",
        ),
    };
    (exit, Some(hint.to_owned()))
}

const SLOW_PASSPHRASE: &str = "--passphrase-timeout gives the work more time, and a faster machine needs less; another slot may open the vault meanwhile. A slot that costs more \
    than any of yours may have been planted";

fn classify_key(error: &KeyError) -> (Exit, Option<String>) {
    match error {
        // One answer that says more than that the key does not fit is what there is to act on.
        KeyError::NoSlot { answers, .. }
            if let [Answer { error: KeyError::Service { answer, host, service, .. }, .. }] = &**answers =>
        {
            classify_service(*answer, (service, host))
        }
        KeyError::NoSlot { answers, .. }
            if let [Answer { error: KeyError::Token(error), .. }] = &**answers =>
        {
            pkcs11::classify(error)
        }
        KeyError::NoSlot { answers, .. }
            if let [Answer { error: KeyError::SharesMissing { .. }, .. }] = &**answers =>
        {
            (Exit::WrongKey, Some(shares::MORE.to_owned()))
        }
        KeyError::PassphraseSlow { .. } | KeyError::PassphraseBusy { .. } => {
            (Exit::WrongKey, Some(SLOW_PASSPHRASE.to_owned()))
        }
        KeyError::NoSlot { answers, .. }
            if answers.iter().any(|answer| matches!(answer.error, KeyError::PassphraseSlow { .. })) =>
        {
            (Exit::WrongKey, Some(SLOW_PASSPHRASE.to_owned()))
        }
        KeyError::NoSlot { slot_count: 0, lost, .. } if !lost.is_empty() => {
            let exit = if lost.iter().all(|lost| lost.is_missing) { Exit::Missing } else { Exit::Corrupt };
            (exit, Some(LOST_SLOT.to_owned()))
        }
        KeyError::NoSlot { lost, .. } if !lost.is_empty() => (Exit::WrongKey, Some(LOST_SLOT.to_owned())),
        KeyError::NoSlot { untried, .. } if !untried.is_empty() => {
            (Exit::WrongKey, Some(of_untried(untried)))
        }
        KeyError::WrongKey { .. } | KeyError::NoSlot { .. } => (
            Exit::WrongKey,
            Some("check which key belongs to this vault; `coffer doctor` shows its slots".to_owned()),
        ),
        KeyError::Service { answer, host, service, .. } => classify_service(*answer, (service, host)),
        KeyError::Token(error) => pkcs11::classify(error),
        _ => (Exit::WrongKey, None),
    }
}

/// What helps where a slot is lost.
const LOST_SLOT: &str = "put the slot's file back under `slots/`, from a recovery kit (`coffer keys export-kit`) or another copy of the vault; with another store of \
    it, `coffer verify --heal` does so; the key of another slot opens it meanwhile";

/// What to give where no slot was tried.
fn of_untried(untried: &[Untried]) -> String {
    let mut steps = Vec::new();
    for Untried { kind, .. } in untried {
        let step = match *kind {
            OWN_SERVICE => "a key service of your own is asked with --key-service-token-file FILE",
            "PKCS#11 token" => {
                "a key on a token is used with --pkcs11-module FILE, and with --pkcs11-key LABEL as the slot names it or without it"
            }
            _ => {
                "Key Protect and HPCS are asked with --key-service-api-key-file, --ibm-api-key-file or --ibm-trusted-profile"
            }
        };
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    steps.join("; ")
}

/// What slots and answers call a key service that is not one of IBM.
const OWN_SERVICE: &str = "local key service";

fn classify_service(answer: ServiceAnswer, (service, host): (&str, &str)) -> (Exit, Option<String>) {
    let hint = match answer {
        ServiceAnswer::KeyDeleted => {
            "restore the root key within 30 days of its deletion, or open the vault with another slot; `coffer keys retarget` moves the slot to a root key of the same material".to_owned()
        }
        ServiceAnswer::KeyDisabled => "enable the root key, or open the vault with another slot".to_owned(),
        ServiceAnswer::KeyMissing => {
            "check the id of the instance and of the root key; if the instance is gone, `coffer keys retarget` moves the slot to a root key of the same material".to_owned()
        }
        ServiceAnswer::Denied if service == OWN_SERVICE => {
            "--key-service-token-file has to hold a token that the service knows, with the role Reader or higher; `coffer kms new-token` makes one".to_owned()
        }
        ServiceAnswer::NotSecure => {
            "if its certificate is of an authority of your own, give --ca-cert FILE; it has to be for this host".to_owned()
        }
        ServiceAnswer::Denied => {
            "the identity needs the role Reader or higher on the instance or the key".to_owned()
        }
        ServiceAnswer::NotThisKey => {
            "the root key has other material than the one the slot was made with; check which key it names".to_owned()
        }
        ServiceAnswer::Busy | ServiceAnswer::Unreachable => {
            "try again later, or open the vault with another slot".to_owned()
        }
        ServiceAnswer::HostNotTrusted => {
            format!("if you know that host, say --key-service-host {host}; if not, somebody may have planted it")
        }
        ServiceAnswer::NoCredentials => {
            "give --key-service-api-key-file, --ibm-api-key-file or --ibm-trusted-profile, or --key-service-token-file for a service of your own".to_owned()
        }
        ServiceAnswer::AddressRefused => {
            "tokens go over https://, and over http:// on this machine alone: give the service a certificate (`coffer kms serve --tls-cert`), and name it as https://HOST/INSTANCE/KEY; `coffer keys retarget` takes a slot there".to_owned()
        }
        _ => "check the endpoint of the service and the id of the root key, or open the vault with another slot".to_owned(),
    };
    let exit = match answer {
        ServiceAnswer::Busy | ServiceAnswer::Unreachable | ServiceAnswer::NotSecure => Exit::Unreachable,
        ServiceAnswer::Denied
        | ServiceAnswer::NoCredentials
        | ServiceAnswer::HostNotTrusted
        | ServiceAnswer::AddressRefused => Exit::NoAccess,
        _ => Exit::WrongKey,
    };
    (exit, Some(hint))
}

fn classify_verify(error: &VerifyError) -> (Exit, Option<String>) {
    match error {
        VerifyError::NotAVault { .. } => (Exit::NoVault, Some("check --vault".to_owned())),
        VerifyError::OtherVault { .. } => (Exit::Rollback, Some("check --vault-id".to_owned())),
        VerifyError::Subset { .. } => (Exit::Usage, None),
        VerifyError::Key { .. } | VerifyError::OldKey { .. } => (Exit::WrongKey, None),
        VerifyError::Store { source } => classify_store(source),
        VerifyError::Scratch { .. } => {
            (Exit::Failed, Some("free some space there, or set TMPDIR to another directory".to_owned()))
        }
        _ => (Exit::Failed, None),
    }
}

pub(crate) fn classify_store(error: &StoreError) -> (Exit, Option<String>) {
    match error {
        StoreError::NoSpace { .. } => (
            Exit::Failed,
            Some("free some space and run the command again; earlier snapshots are intact".to_owned()),
        ),
        StoreError::Denied { store, .. } if store.starts_with("file:") => {
            (Exit::Failed, Some("check the permissions of the vault's directory".to_owned()))
        }
        StoreError::LockRefused { .. } => (
            Exit::Failed,
            Some(
                "`coffer doctor` says which locks the bucket has; `coffer policy set` changes what is asked for, and --lock none ends it"
                    .to_owned(),
            ),
        ),
        StoreError::NotFound { .. } => {
            (Exit::Missing, Some("`coffer verify` shows what is missing".to_owned()))
        }
        error => classify_remote(error),
    }
}

/// What goes wrong with object storage.
fn classify_remote(error: &StoreError) -> (Exit, Option<String>) {
    let (exit, hint) = match error {
        StoreError::Denied { .. } => (
            Exit::NoAccess,
            "check what the credentials may do with the bucket, and whether a lock protects it",
        ),
        StoreError::NoCredentials { .. } => (
            Exit::NoAccess,
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --aws-profile, --cos-credentials, --ibm-api-key-file or --ibm-trusted-profile",
        ),
        StoreError::CredentialsRefused { reason, .. } => (Exit::NoAccess, credential_hint(*reason)),
        StoreError::NoToken { endpoint, fault, .. } => return classify_token(endpoint, *fault),
        StoreError::Unproven { .. } => (
            Exit::NoAccess,
            "give the token of the compute resource with --ibm-cr-token-file, or another identity: --ibm-api-key-file, --cos-credentials, --aws-profile",
        ),
        StoreError::ClockSkew { .. } => (
            Exit::NoAccess,
            "set the clock of this machine, best by a time service, and run the command again",
        ),
        StoreError::NoBucket { .. } => {
            (Exit::NoVault, "check --vault and --endpoint; coffer makes no buckets, so make it first")
        }
        StoreError::WrongRegion { region: Some(region), .. } => {
            return (Exit::WrongStore, Some(format!("give --region {region}")));
        }
        StoreError::WrongRegion { .. } => (
            Exit::WrongStore,
            "give the region of the bucket with --region, or the endpoint of its location; `coffer regions` lists those of IBM Cloud",
        ),
        StoreError::NotS3 { .. } => {
            (Exit::WrongStore, "check --endpoint: it is the URL of the S3 service itself, not of its console")
        }
        StoreError::Tls { .. } => (
            Exit::Unreachable,
            "check the host; if its certificate is of an authority of your own, give --ca-cert FILE; without TLS the endpoint starts with http://",
        ),
        StoreError::Unreachable { .. } => {
            (Exit::Unreachable, "check --endpoint, --network, HTTPS_PROXY and the network of this machine")
        }
        StoreError::Unavailable { store, .. } if !store.starts_with("file:") => (
            Exit::Unreachable,
            "it was tried several times; what is stored is intact, so run the command again later",
        ),
        StoreError::Archived { .. } => return archived(),
        StoreError::VersionsOff { .. } => (
            Exit::Failed,
            "versioning of the bucket was suspended: turn it on again, and run the command again; nothing was acknowledged. A bucket that keeps none \
             needs a vault of its own, with one writer: `coffer init --single-writer`",
        ),
        StoreError::InvalidSetting { .. } | StoreError::InvalidLocation { .. } => {
            (Exit::Usage, "docs/storage.md shows what is expected")
        }
        _ => return (Exit::Failed, None),
    };
    (exit, Some(hint.to_owned()))
}

/// What goes wrong with the service that gives tokens for object storage.
fn classify_token(endpoint: &str, fault: TokenFault) -> (Exit, Option<String>) {
    let (exit, hint) = match fault {
        TokenFault::Unreachable => (
            Exit::Unreachable,
            format!(
                "IAM was asked at {endpoint}: check --iam-endpoint, --network, HTTPS_PROXY and the network of this machine; keys of HMAC \
                 (--aws-profile) need no IAM"
            ),
        ),
        TokenFault::Tls => (
            Exit::Unreachable,
            format!(
                "IAM was asked at {endpoint}: check --iam-endpoint; if its certificate is of an authority of your own, give --ca-cert FILE"
            ),
        ),
        TokenFault::NotIdentity => (Exit::WrongStore, format!("{endpoint} is not IAM: check --iam-endpoint")),
        _ => (
            Exit::Unreachable,
            format!(
                "IAM at {endpoint} was asked for as long as it is waited for; what is stored is intact, so run the command again in some minutes; \
                 keys of HMAC (--aws-profile) need no IAM"
            ),
        ),
    };
    (exit, Some(hint))
}

/// What to do where something is archived.
pub(crate) const ARCHIVED_HINT: &str = "`coffer restore SNAPSHOT --target DIR --request-archived` asks for what is needed, key slots and log included, and for nothing else";

fn archived() -> (Exit, Option<String>) {
    (Exit::Archived, Some(ARCHIVED_HINT.to_owned()))
}

const fn credential_hint(reason: CredentialFault) -> &'static str {
    match reason {
        CredentialFault::Expired => "get new credentials, as by logging in again",
        CredentialFault::UnknownKey => "check the access key, and whether it is one for this endpoint",
        CredentialFault::WrongSecret => "check the secret key; a character may be missing",
        CredentialFault::IdentityRefused => {
            "check the API key or the trusted profile, and --iam-endpoint; a key that was deleted or locked does not come back"
        }
        _ => {
            "check what the identity may do with the bucket, and that bucket and identity are of one account"
        }
    }
}

#[cfg(test)]
mod tests {
    use coffer_format::id::SlotId;
    use coffer_keys::LostSlot;

    use super::*;

    fn no_slot(slot_count: usize, untried: &[Untried], lost: Vec<LostSlot>) -> (Exit, String) {
        let (root, kinds, answers) = ("set of keys", Box::default(), Box::default());
        let (untried, lost) = (untried.into(), lost.into());
        let error = KeyError::NoSlot { root, slot_count, tried_count: 0, kinds, answers, untried, lost };
        let (exit, hint) = classify(&EngineError::Key(error).into());
        (exit, hint.unwrap_or_default())
    }

    #[test]
    fn where_no_slot_was_tried_the_hint_says_what_to_give() {
        for (kind, step) in [
            ("local key service", "--key-service-token-file"),
            ("PKCS#11 token", "--pkcs11-key LABEL"),
            ("HPCS", "--ibm-api-key-file"),
        ] {
            let untried = Untried { slot: SlotId([1; 32]), kind, root_key: "key root".to_owned() };
            let (exit, hint) = no_slot(2, &[untried.clone(), untried], Vec::new());
            assert!(exit == Exit::WrongKey && hint.matches(step).count() == 1, "{hint}");
        }
    }

    #[test]
    fn a_vault_without_a_slot_that_can_be_used_is_damaged() {
        let lost = |is_missing| LostSlot { slot: SlotId([1; 32]), is_missing };
        for (slot_count, lost, expected) in [
            (0, vec![lost(true), lost(true)], Exit::Missing),
            (0, vec![lost(true), lost(false)], Exit::Corrupt),
            (1, vec![lost(false)], Exit::WrongKey),
        ] {
            let (exit, hint) = no_slot(slot_count, &[], lost);
            assert!(exit == expected && hint.contains("recovery kit"), "{hint}");
        }
    }

    #[test]
    fn an_identity_service_that_stays_busy_is_named_with_what_it_said_and_what_to_do() {
        let error = anyhow::Error::new(EngineError::Store(StoreError::NoToken {
            store: "s3://bucket/v".to_owned(),
            endpoint: "https://iam.example".to_owned(),
            fault: TokenFault::Unavailable,
            source: "IAM is not available: status 503: busy".into(),
        }));
        let (exit, hint) = classify(&error);
        let (hint, told) = (hint.unwrap_or_default(), format!("{error:#}"));
        assert_eq!(exit, Exit::Unreachable);
        assert!(told.contains("no token for s3://bucket/v") && told.contains("status 503: busy"), "{told}");
        assert!(
            hint.contains("IAM at https://iam.example") && hint.contains("run the command again"),
            "{hint}"
        );
    }

    #[test]
    fn a_refusal_in_the_middle_of_a_run_ends_as_one_at_its_beginning() {
        let apart = || Refusal::PromotedApart { stores: vec!["a".to_owned(), "b".to_owned()], term: 1 };
        let denied = StoreError::Denied {
            name: "log/000000000005".to_owned(),
            store: "s3://bucket/v".to_owned(),
            source: apart().into(),
        };
        let early = classify(&EngineError::Refused(apart()).into());
        let late = classify(&EngineError::Store(denied).into());
        assert_eq!(early.0, Exit::Rollback);
        assert_eq!(late, early);
        assert!(late.1.is_some_and(|hint| hint.contains("coffer promote")));
    }
}
