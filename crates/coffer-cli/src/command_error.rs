//! Errors as a user sees them: what happened, why, and what to type next.

use std::fmt;
use std::io::Write;

use coffer_engine::EngineError;
use coffer_keys::KeyError;
use coffer_store::StoreError;
use coffer_verify::VerifyError;

use crate::exit_code::Exit;

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
    /// A mistake on the command line, as the parser describes it.
    pub(crate) fn of_parser(error: &clap::Error) -> Self {
        let text = error.to_string();
        let text = text.trim_end();
        let message = text.strip_prefix("error: ").unwrap_or(text).to_owned();
        Self { exit: Exit::Usage, message, hint: None }
    }

    pub(crate) fn print(&self, json: bool) {
        let mut out = std::io::stderr().lock();
        let code = self.exit as u8;
        let written = if json {
            let value = serde_json::json!({
                "message_type": "error", "exit_code": code, "kind": self.exit.name(), "message": self.message,
                "hint": self.hint,
            });
            writeln!(out, "{value}")
        } else {
            let hint = self.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            writeln!(out, "error: {}{hint}", self.message)
        };
        // Nobody is left to tell if standard error is gone.
        drop(written);
    }
}

fn classify(error: &anyhow::Error) -> (Exit, Option<String>) {
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

fn classify_engine(error: &EngineError) -> (Exit, Option<String>) {
    let hint = |text: &str| Some(text.to_owned());
    match error {
        EngineError::NoVault { .. } => (Exit::NoVault, hint("make one with `coffer init`, or check --vault")),
        EngineError::Unfinished { .. } => {
            (Exit::NoVault, hint("run `coffer init` again with the same key; it holds nothing yet"))
        }
        EngineError::VaultExists { .. } => (Exit::Failed, hint("`coffer snapshots` shows what is in it")),
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
        EngineError::CannotCommit { .. } => {
            (Exit::CannotCommit, hint("nothing was acknowledged; run the command again"))
        }
        EngineError::Key(key) => classify_key(key),
        EngineError::NotAllowed { .. } => {
            (Exit::WrongKey, hint("open the vault with a slot that holds the vault key"))
        }
        EngineError::Interrupted => {
            (Exit::Interrupted, hint("what was stored is kept; run the command again to continue"))
        }
        EngineError::NoSnapshot { .. } | EngineError::AmbiguousSnapshot { .. } => {
            (Exit::Failed, hint("`coffer snapshots` lists them"))
        }
        EngineError::NoPath { .. } => (Exit::Failed, hint("`coffer ls SNAPSHOT` shows the paths")),
        EngineError::Damaged { .. } | EngineError::ChunkLost { .. } => {
            (Exit::Corrupt, hint("`coffer verify` shows what is damaged, and what it affects"))
        }
        EngineError::Pipeline(_) | EngineError::Format(_) => {
            (Exit::Corrupt, hint("`coffer verify` shows what is damaged"))
        }
        EngineError::Store(store) => classify_store(store),
        EngineError::Cache { .. } => {
            (Exit::Failed, hint("choose another directory with --cache-dir, or do without by --no-cache"))
        }
        _ => (Exit::Failed, None),
    }
}

fn classify_key(error: &KeyError) -> (Exit, Option<String>) {
    match error {
        KeyError::WrongKey { .. } | KeyError::NoSlot { .. } => (
            Exit::WrongKey,
            Some("check which key belongs to this vault; `coffer doctor` shows its slots".to_owned()),
        ),
        _ => (Exit::WrongKey, None),
    }
}

fn classify_verify(error: &VerifyError) -> (Exit, Option<String>) {
    match error {
        VerifyError::NotAVault { .. } => (Exit::NoVault, Some("check --vault".to_owned())),
        VerifyError::OtherVault { .. } => (Exit::Rollback, Some("check --vault-id".to_owned())),
        VerifyError::Subset { .. } => (Exit::Usage, None),
        VerifyError::Key { .. } | VerifyError::OldKey { .. } => (Exit::WrongKey, None),
        _ => (Exit::Failed, None),
    }
}

fn classify_store(error: &StoreError) -> (Exit, Option<String>) {
    match error {
        StoreError::NoSpace { .. } => (
            Exit::Failed,
            Some("free some space and run the command again; earlier snapshots are intact".to_owned()),
        ),
        StoreError::Denied { .. } => {
            (Exit::Failed, Some("check the permissions of the vault's directory".to_owned()))
        }
        StoreError::NotFound { .. } => {
            (Exit::Missing, Some("`coffer verify` shows what is missing".to_owned()))
        }
        _ => (Exit::Failed, None),
    }
}
