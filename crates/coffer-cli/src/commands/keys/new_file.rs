//! `coffer keys new-file`

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};
use coffer_crypto::OsRng;
use coffer_format::id::hex;
use coffer_keys::KeyFile;
use serde_json::json;

use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::private_file;
use crate::wiring::World;

pub(super) fn run(world: &World, path: &Path) -> Result<Exit> {
    let key = KeyFile::generate(&OsRng)?;
    let file = private_file::create_private(path).map_err(|error| {
        let message = format!("make key file {}: {error}", path.display());
        let failure = Failure::new(Exit::Failed, message);
        match error.kind() {
            ErrorKind::AlreadyExists => {
                failure.hint("it may be the only key of a vault; choose another name")
            }
            ErrorKind::NotFound => failure.hint("make the directory first"),
            _ => failure,
        }
    })?;
    let written = private_file::write_private(file, path, key.to_text().expose());
    written.with_context(|| format!("write key file {}", path.display()))?;
    let value =
        json!({"message_type": "key_file", "file": path.display().to_string(), "key_id": hex(&key.key_id())});
    let text = format!("made key file {} (key id {})", path.display(), hex(&key.key_id()));
    world.output.result(&value, &text)?;
    world.output.note("whoever has this file opens what is sealed for it; without it and without another slot, nothing does");
    Ok(Exit::Done)
}
