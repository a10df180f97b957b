//! `coffer keys grant-writer`, `revoke-writer` and `writers`

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use coffer_engine::{Writer, WriterOptions};
use coffer_format::id::hex;
use coffer_format::path::display_path;
use coffer_format::record::Role;
use coffer_keys::WriterCredential;
use serde_json::{Value, json};

use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::output::{time, time_utc};
use crate::pending_files::PendingFiles;
use crate::private_file;
use crate::wiring::World;

#[derive(Debug, Args)]
pub(crate) struct GrantWriterArgs {
    /// Name of the writer. No other one that is enrolled has it.
    name: String,
    /// File for the credential (mode 0600); an existing file is never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Host that the writer is for; recorded, and not enforced.
    #[arg(short = 'H', long, value_name = "NAME")]
    host: Option<String>,
    /// Share the dedup domain of this writer. The two have to trust each other.
    #[arg(long, value_name = "WRITER")]
    group: Option<String>,
}

const KEEP: &str =
    "whoever has this file can add snapshots and read none; the machine that backs up needs no other key";
const REVOKED: &str = "what it has committed stays, and what it signs from now on is void; take its access to the store away as well";

pub(super) fn grant(world: &World, args: &GrantWriterArgs) -> Result<Exit> {
    let store = world.open_store()?;
    let mut vault = world.open_vault_to_write(&store)?;
    let options = WriterOptions { name: args.name.clone(), group: args.group.clone() };
    let credential = vault.new_writer(&options)?;
    // What is enrolled has to be there: the file goes before the record.
    let file = write_credential(&args.out, &credential)?;
    let enrolled = vault.enrol_writer_with(&credential, args.host.as_deref(), &mut || file.begin_commit());
    let (head, _) = file.settle(enrolled, world.output)?;
    let value = json!({
        "message_type": "writer_granted", "name": args.name, "host": args.host, "group": args.group,
        "key": hex(&credential.verifying_key()), "domain": hex(&credential.domain().0),
        "file": args.out.display().to_string(), "head": head.to_string(),
    });
    let name = display_path(args.name.as_bytes());
    let text = format!("writer {name} is enrolled; its credential is in {}\nhead {head}", args.out.display());
    world.result(value, &text)?;
    if let Some(group) = &args.group {
        world.output.warn(&format!(
            "{name} shares the dedup domain of {}: each can find out what the other has stored, and spoil what the other stores",
            display_path(group.as_bytes())
        ));
    }
    world.output.note(KEEP);
    Ok(Exit::Done)
}

fn write_credential(path: &Path, credential: &WriterCredential) -> Result<PendingFiles> {
    let pending = PendingFiles::new(format!(
        "whether the writer was enrolled is not known: if `coffer keys writers` does not show the key {}, delete {}",
        &hex(&credential.verifying_key())[..8],
        path.display()
    ));
    let file = pending.create(path).map_err(|error| {
        let message = format!("make the credential {}: {error}", path.display());
        let failure = Failure::new(Exit::Failed, message);
        match error.kind() {
            ErrorKind::AlreadyExists => failure.hint("it may be in use; choose another name with --out"),
            ErrorKind::NotFound => failure.hint("make the directory first"),
            _ => failure,
        }
    })?;
    let written = private_file::write_private(file, path, credential.to_text().expose());
    written.with_context(|| format!("write the credential {}", path.display()))?;
    Ok(pending)
}

pub(super) fn revoke(world: &World, name: &str) -> Result<Exit> {
    let store = world.open_store()?;
    let mut vault = world.open_vault_to_write(&store)?;
    let (writer, head) = vault.revoke_writer(name)?;
    let value = json!({
        "message_type": "writer_revoked", "name": writer.name, "role": role_name(&writer), "key": hex(&writer.key), "head": head.to_string(),
        "note": REVOKED,
    });
    let what = if writer.role == Role::Put { "writer" } else { role_name(&writer) };
    world.result(value, &format!("revoked {what} {}\nhead {head}", shown(&writer)))?;
    world.output.note(REVOKED);
    Ok(Exit::Done)
}

pub(super) fn list(world: &World) -> Result<Exit> {
    let store = world.open_store()?;
    let mut vault = world.open_vault(&store)?;
    let writers = vault.writers()?;
    let value =
        json!({"message_type": "writers", "writers": writers.iter().map(writer_json).collect::<Vec<_>>()});
    let lines: Vec<String> = writers.iter().map(|writer| line(writer, &writers)).collect();
    let text = if lines.is_empty() { "no writer was enrolled yet".to_owned() } else { lines.join("\n") };
    world.result(value, &text)?;
    Ok(Exit::Done)
}

fn writer_json(writer: &Writer) -> Value {
    let record = |place: Option<(u64, i64)>| place.map(|(number, _)| number);
    let when =
        |place: Option<(u64, i64)>| place.map(|(_, time_s)| time_utc(time_s.saturating_mul(1_000_000_000)));
    json!({
        "name": writer.name, "role": role_name(writer), "host": writer.host, "key": hex(&writer.key),
        "domains": writer.domains.iter().map(|domain| hex(&domain.0)).collect::<Vec<_>>(),
        "enrolled_record": record(writer.enrolled), "enrolled": when(writer.enrolled), "is_revoked": writer.is_revoked,
        "revoked_record": record(writer.revoked), "revoked": when(writer.revoked),
    })
}

/// The name, or the beginning of the key of one whose name is lost.
fn shown(writer: &Writer) -> String {
    let key = || format!("{} (its name cannot be read)", &hex(&writer.key)[..8]);
    writer.name.as_ref().map_or_else(key, |name| display_path(name.as_bytes()))
}

/// The word of the format for what it may sign.
pub(super) const fn role_name(writer: &Writer) -> &'static str {
    match writer.role {
        Role::Owner => "owner",
        Role::Maintainer => "maintainer",
        Role::Put => "put",
        Role::Read => "read",
    }
}

/// Who it is, in a line.
pub(super) fn told(writer: &Writer) -> String {
    let since = writer.enrolled.map_or_else(
        || "by a record that is lost".to_owned(),
        |(number, _)| format!("since record {number}"),
    );
    format!("{}, role {}, key {}, enrolled {since}", shown(writer), role_name(writer), &hex(&writer.key)[..8])
}

fn line(writer: &Writer, all: &[Writer]) -> String {
    let at = |place: &Option<(u64, i64)>| {
        place.map_or_else(
            || "at a record that is lost".to_owned(),
            |(number, time_s)| format!("{} (record {number})", time(time_s.saturating_mul(1_000_000_000))),
        )
    };
    let host = writer.host.as_ref().map(|host| format!("  for {}", display_path(host.as_bytes())));
    let shares = |other: &&Writer| {
        other.key != writer.key && other.domains.iter().any(|domain| writer.domains.contains(domain))
    };
    let others: Vec<String> = all.iter().filter(shares).map(shown).collect();
    let group = match others.as_slice() {
        [] => String::new(),
        others => format!("  shares its domain with {}", others.join(", ")),
    };
    let revoked =
        if writer.is_revoked { format!("  REVOKED {}", at(&writer.revoked)) } else { String::new() };
    let role = if writer.role == Role::Put { String::new() } else { format!("  role {}", role_name(writer)) };
    format!(
        "{}{role}  key {}{}  enrolled {}{group}{revoked}",
        shown(writer),
        &hex(&writer.key)[..8],
        host.unwrap_or_default(),
        at(&writer.enrolled),
    )
}
