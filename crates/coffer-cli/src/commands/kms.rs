//! `coffer kms`

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use coffer_crypto::{OsRng, Secret, SecretBytes};
use coffer_format::id::VaultId;
use coffer_format::path::display_path;
use coffer_format::slot::{Slot, SlotPurpose};
use coffer_keys::pkcs11::{Pkcs11Key, TokenSettings};
use coffer_keys::{make_slot, open_slot};
use coffer_sandbox::{
    AuditEntry, AuditHead, KeyPart, KeyToken, KmsOptions, KmsServer, MasterKeySource, NewToken, Role,
    SandboxError, add_token,
};
use serde_json::json;

use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::output::{self, Output};
use crate::pkcs11::{check_key_label, check_token_label};
use crate::{private_file, process};

/// A file with a key part, a passphrase or a PIN has at most this length.
const SECRET_FILE_LEN_MAX: u64 = 4096;
/// Where the service listens if nothing is said. Slots record where their root key is, so it stays the same from start to start.
const LISTEN: &str = "127.0.0.1:8443";
/// In place of a vault, in the slot that a token wraps a master key in.
const MASTER_KEY: VaultId = VaultId(*b"coffer key service master key v1");

#[derive(Debug, Subcommand)]
pub(crate) enum KmsCommand {
    /// Run the key service until it is interrupted or told to terminate. Its state stays in the directory.
    #[command(after_help = "Examples:\n  \
        coffer kms serve --dir kms --tokens tokens --master-key-part a.part --master-key-part b.part\n  \
        coffer kms serve --dir kms --tokens tokens --master-passphrase-file words")]
    Serve(ServeArgs),
    /// Make a key part of a master key (mode 0600); an existing file is never overwritten.
    #[command(after_help = "Examples:\n  coffer kms new-part /media/one/a.part")]
    NewPart {
        /// The file.
        file: PathBuf,
    },
    /// Make a token for a client, and print it: it is shown once and kept nowhere.
    #[command(after_help = "Examples:\n  \
        coffer kms new-token --tokens tokens.json --name backup --role Reader\n  \
        coffer kms new-token --tokens tokens.json --name admin --role Manager --role KeyPurge")]
    NewToken(NewTokenArgs),
    /// Check the audit log of a key service that does not run, and print its entries.
    #[command(after_help = "Examples:\n  \
        coffer kms audit --dir /var/lib/coffer-kms\n  \
        coffer kms audit --dir /var/lib/coffer-kms --head HEAD")]
    Audit(AuditArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where the state of the service is kept; made if it is not there.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where it listens: on loopback, or with a certificate anywhere. Slots record the port: keep it from start to start.
    #[arg(long, value_name = "ADDRESS", default_value = LISTEN)]
    listen: SocketAddr,
    /// Certificate for HTTPS (PEM), with those of intermediate authorities behind it.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// File of tokens, from "kms new-token".
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// Key part of the master key; given two or three times. All are needed.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["master_passphrase_file", "master_pkcs11"])]
    master_key_part: Vec<PathBuf>,
    /// The master key is made from the passphrase in this file (one line end at its end is ignored).
    #[arg(long, value_name = "FILE", conflicts_with = "master_pkcs11")]
    master_passphrase_file: Option<PathBuf>,
    /// The master key is wrapped by a key on a PKCS#11 token: the module of its maker, a shared library.
    #[arg(long, value_name = "MODULE", requires = "master_pkcs11_pin_file")]
    master_pkcs11: Option<PathBuf>,
    /// Label of the token.
    #[arg(long, value_name = "LABEL", requires = "master_pkcs11")]
    master_pkcs11_token: Option<String>,
    /// Label of the key on the token; needed when the master key is made.
    #[arg(long, value_name = "LABEL", requires = "master_pkcs11")]
    master_pkcs11_key: Option<String>,
    /// File that holds the PIN of the token.
    #[arg(long, value_name = "FILE", requires = "master_pkcs11")]
    master_pkcs11_pin_file: Option<PathBuf>,
    /// Start although the audit log is damaged: it is put aside, and the first entry of a new one says what is wrong with it.
    #[arg(long)]
    accept_damaged_audit: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NewTokenArgs {
    /// File of tokens; made if it is not there.
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// Name of the client, for the audit log.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// What it may do; may be given several times.
    #[arg(long, value_name = "ROLE", required = true, ignore_case = true)]
    role: Vec<RoleName>,
    /// Only in the instance with this GUID.
    #[arg(long, value_name = "GUID")]
    instance: Option<String>,
    /// Only on the key with this id; may be given several times.
    #[arg(long, value_name = "ID")]
    key: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Where the state of the service is kept.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The entry of this number must have this hash, as an earlier check printed it.
    #[arg(long, value_name = "NUMBER:HASH", value_parser = parse_head)]
    head: Option<AuditHead>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    /// List keys, wrap and unwrap.
    #[value(name = "Reader")]
    Reader,
    /// The same, and read the material of standard keys.
    #[value(name = "ReaderPlus")]
    ReaderPlus,
    /// The same, and make, import and rotate keys.
    #[value(name = "Writer")]
    Writer,
    /// Everything but purging keys.
    #[value(name = "Manager")]
    Manager,
    /// Purge deleted keys, and nothing else.
    #[value(name = "KeyPurge")]
    KeyPurge,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Reader => Self::Reader,
            RoleName::ReaderPlus => Self::ReaderPlus,
            RoleName::Writer => Self::Writer,
            RoleName::Manager => Self::Manager,
            RoleName::KeyPurge => Self::KeyPurge,
        }
    }
}

fn parse_head(text: &str) -> Result<AuditHead, &'static str> {
    AuditHead::parse(text).ok_or("expected NUMBER:HASH, as `coffer kms audit` prints them")
}

pub(super) fn run(command: &KmsCommand, output: Output) -> Result<Exit> {
    match command {
        KmsCommand::Serve(args) => serve(args, output),
        KmsCommand::NewPart { file } => new_part(file, output),
        KmsCommand::NewToken(args) => new_token(args, output),
        KmsCommand::Audit(args) => audit(args, output),
    }
}

fn failure(error: SandboxError) -> anyhow::Error {
    let (exit, hint) = match &error {
        SandboxError::WrongMasterKey { .. } => (
            Exit::WrongKey,
            "nothing was changed; give the parts, passphrase or token that the service was first started with",
        ),
        SandboxError::MasterKey { .. } => (
            Exit::WrongKey,
            "nothing was changed; a master key comes of two or three different parts (`coffer kms new-part FILE`), of a passphrase or of a token, and \
             a service that was started before needs what it was first started with",
        ),
        SandboxError::File { path, source }
            if source.kind() == ErrorKind::NotFound && path.ends_with("kms.redb") =>
        {
            (Exit::Failed, "no service was ever started with this directory: check --dir")
        }
        SandboxError::Audit { .. } => (
            Exit::Corrupt,
            "somebody or something changed the log; keep a copy of the directory as it is, and compare it with older ones; \
            to start nevertheless, with a new log, give \"kms serve --accept-damaged-audit\"",
        ),
        SandboxError::NotLoopback { .. } => {
            (Exit::Usage, "give --tls-cert and --tls-key, or listen on 127.0.0.1")
        }
        SandboxError::Writable { .. } => (
            Exit::Failed,
            "who can write to it can give themselves any role: look at what is in it, and then `chmod go-w` it",
        ),
        SandboxError::InUse { .. } => (Exit::Failed, "another process serves this directory; stop it first"),
        SandboxError::Listen { source, .. } if source.kind() == ErrorKind::AddrInUse => (
            Exit::Failed,
            "another process listens there: stop it, or name another port with --listen; \
            `coffer keys retarget` takes slots that were made at this port to the new one",
        ),
        _ => return error.into(),
    };
    let message = match &error {
        SandboxError::NotLoopback { address } => {
            format!("listen on {address}: without a certificate only on loopback")
        }
        SandboxError::Listen { address, source } => format!("listen on {address}: {source}"),
        SandboxError::InUse { path } => format!("use {}: it is in use", path.display()),
        SandboxError::File { path, .. } => format!("{} is not there", path.display()),
        _ => error.to_string(),
    };
    Failure::new(exit, message).hint(hint).into()
}

fn read(what: &str, path: &Path) -> Result<SecretBytes> {
    let bytes = private_file::read_bounded(what, path, SECRET_FILE_LEN_MAX + 1, "check the path")?;
    Ok(SecretBytes::new(bytes))
}

fn read_line(what: &str, path: &Path) -> Result<SecretBytes> {
    let bytes = private_file::read_bounded(what, path, SECRET_FILE_LEN_MAX + 1, "check the path")?;
    Ok(SecretBytes::new(private_file::without_line_end(bytes)))
}

fn master_key(args: &ServeArgs) -> Result<Option<MasterKeySource>> {
    if !args.master_key_part.is_empty() {
        let parts = args.master_key_part.iter().map(|path| {
            let part = KeyPart::parse(read("key part", path)?.expose()).map_err(failure);
            part.with_context(|| format!("read the key part {}", path.display()))
        });
        return Ok(Some(MasterKeySource::Parts(parts.collect::<Result<_>>()?)));
    }
    if let Some(path) = &args.master_passphrase_file {
        return Ok(Some(MasterKeySource::Passphrase(read_line("passphrase file", path)?)));
    }
    let (Some(module), Some(pin)) = (&args.master_pkcs11, &args.master_pkcs11_pin_file) else {
        return Ok(None);
    };
    check_token_label(args.master_pkcs11_token.as_deref(), "check --master-pkcs11-token")?;
    check_key_label(args.master_pkcs11_key.as_deref())?;
    let settings = TokenSettings {
        module: module.clone(),
        token_label: args.master_pkcs11_token.clone(),
        key_label: args.master_pkcs11_key.clone(),
        pin: Some(read_line("PIN file", pin)?),
        ..TokenSettings::default()
    };
    let named = args.master_pkcs11_key.as_deref().unwrap_or("the key");
    let described =
        format!("{named} on the token {}", args.master_pkcs11_token.as_deref().unwrap_or("given"));
    Ok(Some(MasterKeySource::Token(Box::new(Token { key: Pkcs11Key::new(settings), described }))))
}

/// A key on a token as the key service uses it: the master key stands in a slot such as vaults have.
struct Token {
    key: Pkcs11Key,
    described: String,
}

/// An error with its causes, as one text.
fn text(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

impl KeyToken for Token {
    fn describe(&self) -> String {
        self.described.clone()
    }

    fn wrap(&self, key: &Secret<32>) -> Result<Vec<u8>, String> {
        let made = make_slot(&self.key, MASTER_KEY, 0, SlotPurpose::VaultKey, "", 0, key, &OsRng);
        made.map(|(_, bytes, _)| bytes).map_err(text)
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<Secret<32>, String> {
        let slot = Slot::decode(wrapped).map_err(text)?;
        open_slot(&slot, MASTER_KEY, &self.key).map_err(text)
    }
}

fn serve(args: &ServeArgs, output: Output) -> Result<Exit> {
    let mut options = KmsOptions::new(&args.dir, &args.tokens);
    options.listen = args.listen;
    options.tls = args.tls_cert.clone().zip(args.tls_key.clone());
    options.master_key = master_key(args)?;
    options.accepts_damaged_audit = args.accept_damaged_audit;
    if args.accept_damaged_audit && options.master_key.is_none() {
        let message = "check the audit log: --accept-damaged-audit needs the master key";
        return Err(Failure::new(Exit::Usage, message).hint("give the master key too").into());
    }
    let end = process::catch_end()?;
    let server = KmsServer::start(&options).map_err(failure)?;
    let value = json!({
        "message_type": "kms", "endpoint": server.endpoint(), "instance_id": server.instance_id(),
        "pattern": server.pattern(),
    });
    if output.json {
        output.json_line(&value)?;
    } else {
        let mut lines = vec![format!("key service: {}", server.endpoint())];
        lines.push(format!("instance: {}", server.instance_id()));
        lines.extend(
            server.pattern().map(|pattern| format!("verification pattern of the master key: {pattern}")),
        );
        lines.push("ready".to_owned());
        output::line(&lines.join("\n"))?;
    }
    if server.pattern().is_none() {
        output.warn("there is no master key: every call is answered 503");
    }
    if let Some(damage) = server.audit_damage() {
        output.warn(&format!("the audit log was {}", display_path(damage.as_bytes())));
    } else if args.accept_damaged_audit {
        output.warn("the audit log is whole: start without --accept-damaged-audit from now on");
    }
    // The service has threads of its own. There is a sender for as long as the process runs.
    let _ = end.recv();
    server.stop().map_err(failure)?;
    Ok(Exit::Done)
}

fn new_part(path: &Path, output: Output) -> Result<Exit> {
    let part = KeyPart::generate();
    let file = private_file::create_private(path).map_err(|error| {
        let message = format!("make the key part {}: {error}", path.display());
        Failure::new(Exit::Failed, message).hint("a key part is never overwritten; choose another name")
    })?;
    let written = private_file::write_private(file, path, part.to_text().expose());
    written.with_context(|| format!("write the key part {}", path.display()))?;
    let pattern = part.pattern();
    let value = json!({"message_type": "kms_part", "file": path.display().to_string(), "pattern": pattern});
    output.result(&value, &format!("made key part {} (pattern {pattern})", path.display()))?;
    output.note("without every part of it a master key cannot be put together again: keep them apart, and a copy of each");
    Ok(Exit::Done)
}

fn new_token(args: &NewTokenArgs, output: Output) -> Result<Exit> {
    let new = NewToken {
        name: args.name.clone(),
        roles: args.role.iter().map(|role| Role::from(*role)).collect(),
        instance: args.instance.clone(),
        keys: args.key.clone(),
    };
    let token = add_token(&args.tokens, &new).map_err(failure)?;
    let text = String::from_utf8_lossy(token.expose()).into_owned();
    let value = json!({"message_type": "kms_token", "name": args.name, "token": text});
    output.result(&value, &text)?;
    output.note("this is the only time that the token is shown");
    Ok(Exit::Done)
}

/// An entry for people. Whoever wrote the log, what it says moves no cursor and begins no line.
fn line_of(entry: &AuditEntry) -> String {
    let key = entry.key.as_deref().unwrap_or("-");
    let mut line =
        format!("{} {} {} {} {key} {}", entry.number, entry.time, entry.identity, entry.action, entry.status);
    if entry.count != 1 {
        line += &format!(" ({} calls)", entry.count);
    }
    for more in [&entry.code, &entry.note].into_iter().flatten() {
        line += " ";
        line += more;
    }
    display_path(line.as_bytes())
}

fn audit(args: &AuditArgs, output: Output) -> Result<Exit> {
    let head = KmsServer::verify_audit(&args.dir, args.head.as_ref(), &mut |entry| {
        let value = json!({
            "message_type": "kms_audit_entry", "number": entry.number, "time": entry.time, "instance": entry.instance,
            "identity": entry.identity, "action": entry.action, "key": entry.key, "status": entry.status,
            "code": entry.code, "correlation": entry.correlation, "count": entry.count, "note": entry.note,
        });
        let printed = output.result(&value, &line_of(entry));
        printed.map_err(|source| SandboxError::File { path: PathBuf::from("standard output"), source })
    })
    .map_err(failure)?;
    let aside = KmsServer::audits_aside(&args.dir).map_err(failure)?;
    let value = json!({
        "message_type": "kms_audit", "entries": head.number, "hash": head.hash, "put_aside": aside,
    });
    output.result(&value, &format!("the log is whole: {}:{}", head.number, head.hash))?;
    if !aside.is_empty() {
        let names = aside.join(", ");
        output.warn(&format!(
            "it is not the first: logs that were damaged were put aside as {names} (tables in kms.redb)"
        ));
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_entry_is_one_line_whatever_it_says() {
        let entry = |identity: &str, more: Value| {
            let mut entry = json!({
                "number": 7, "time": "2026-01-02T03:04:05Z", "instance": "guid", "identity": identity,
                "action": "kms.request", "key": null, "status": 401, "code": null, "correlation": "c",
            });
            entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            line_of(&serde_json::from_value(entry).unwrap())
        };
        let start = "7 2026-01-02T03:04:05Z";
        assert_eq!(entry("-", json!({})), format!("{start} - kms.request - 401"));
        assert_eq!(entry("-", json!({"count": 9})), format!("{start} - kms.request - 401 (9 calls)"));
        assert_eq!(
            entry("a\n8", json!({"key": "\u{1b}[2J", "code": "\u{9b}C", "note": "n\r"})),
            format!("{start} a\\x0a8 kms.request \\x1b[2J 401 \\xc2\\x9bC n\\x0d")
        );
    }
}
