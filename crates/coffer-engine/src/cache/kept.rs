//! What is kept of a vault that is far away: the state of its log, and parts of objects.
//!
//! Nothing here is believed because it is here. A state is signed with the owner's key, as a checkpoint is, and parts of objects are
//! opened as if they came from the store, where they were opened once before they were kept. A hash tells what a disk has garbled.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use coffer_crypto::SigningKey;
use coffer_crypto::hash::{Hasher, hash};
use coffer_format::id::{SlotId, VaultId, hex};
use coffer_format::log::LogState;

use super::Cache;
use crate::error::EngineError;

const STATE_MAGIC: &[u8; 8] = b"coffmem1";
const STATE_PREFIX: &[u8] = b"coffer/1 local state\0";
/// A longer state is not kept.
const STATE_LEN_MAX: u64 = 64 << 20;
/// Parts of objects of one vault take at most this much of the disk, and what is kept between two looks.
const OBJECTS_LEN_MAX: u64 = 1 << 30;
/// After so many bytes it is looked whether there are too many.
const LOOK_INTERVAL: u64 = 64 << 20;
/// What a file takes at least.
const FILE_LEN_MIN: u64 = 4096;

/// The state of a log as this machine knew it, not yet proved.
#[derive(Debug)]
pub(crate) struct KeptState {
    /// The slot that opened the vault.
    pub(crate) slot: SlotId,
    /// The last record in it, as far as can be told without the key.
    pub(crate) number: u64,
    state: Vec<u8>,
    signature: [u8; 64],
}

impl KeptState {
    /// The state, if the owner whose key this is signed it.
    pub(crate) fn open(&self, vault: VaultId, key: &SigningKey) -> Option<LogState> {
        let state = self.signed_with(vault, key)?;
        let owner = state.epochs.last().map(|epoch| epoch.owner_key);
        let is_current = owner == Some(*key.verifying_key().as_bytes()) && state.slots.contains(&self.slot);
        is_current.then_some(state)
    }

    /// The state, if the writer whose key this is signed it, and was enrolled in it.
    pub(crate) fn open_of_writer(&self, vault: VaultId, key: &SigningKey) -> Option<LogState> {
        let state = self.signed_with(vault, key)?;
        let is_enrolled = state.signer(key.verifying_key().as_bytes()).is_some();
        is_enrolled.then_some(state)
    }

    fn signed_with(&self, vault: VaultId, key: &SigningKey) -> Option<LogState> {
        let message = message(vault, &self.slot, &self.state);
        key.verifying_key().verify(&message, &self.signature).ok()?;
        let state = LogState::decode(vault, &self.state).ok()?;
        (state.next.checked_sub(1) == Some(self.number)).then_some(state)
    }
}

/// What is signed: no record begins like this.
fn message(vault: VaultId, slot: &SlotId, state: &[u8]) -> Vec<u8> {
    [STATE_PREFIX, &vault.0, &slot.0, &hash(state)].concat()
}

impl Cache {
    /// The state of a vault's log that is kept, for who opens slots or for the writer with this key.
    pub(crate) fn kept_state(&self, vault: &VaultId, writer: Option<&[u8; 32]>) -> Option<KeptState> {
        let path = self.vault_path(vault, &state_name(writer));
        let len = fs::metadata(&path).ok()?.len();
        let bytes = (len <= STATE_LEN_MAX).then(|| fs::read(path).ok())??;
        let rest = bytes.strip_prefix(STATE_MAGIC)?;
        let (slot, rest) = rest.split_first_chunk::<32>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (state, signature) = rest.split_last_chunk::<64>()?;
        let number = u64::from_le_bytes(*number);
        Some(KeptState { slot: SlotId(*slot), number, state: state.to_vec(), signature: *signature })
    }

    /// Keeps the state of a vault's log, unless it has damage. A writer, who has no slot, keeps it under its own key.
    pub(crate) fn keep_state(
        &self,
        vault: &VaultId,
        slot: Option<&SlotId>,
        state: &LogState,
        key: &SigningKey,
    ) -> Result<(), EngineError> {
        let writer = slot.is_none().then(|| *key.verifying_key().as_bytes());
        let slot = slot.unwrap_or(&SlotId([0; 32]));
        let Some((head, state)) = state.head().zip(state.encode()) else { return Ok(()) };
        let len = STATE_MAGIC.len() + 32 + 8 + state.len() + 64;
        if len as u64 > STATE_LEN_MAX {
            return Ok(());
        }
        let signature = key.sign(&message(*vault, slot, &state));
        let number = head.number.to_le_bytes();
        let bytes = [STATE_MAGIC.as_slice(), &slot.0, &number, &state, &signature].concat();
        self.replace(&self.vault_path(vault, &state_name(writer.as_ref())), &bytes)
    }

    /// The part of an object that was kept under this name, if it is as it was.
    pub(crate) fn part(&self, vault: &VaultId, name: &str) -> Option<Vec<u8>> {
        let mut bytes = fs::read(self.part_path(vault, name)).ok()?;
        let len = bytes.len().checked_sub(32)?;
        let intact = checksum(name, &bytes[..len]) == bytes[len..];
        bytes.truncate(len);
        intact.then_some(bytes)
    }

    /// Whether something was kept under this name.
    pub(crate) fn has_part(&self, vault: &VaultId, name: &str) -> bool {
        self.part_path(vault, name).is_file()
    }

    /// Keeps a part of an object. That this fails costs a request the next time, and nothing else.
    pub(crate) fn keep_part(&self, vault: &VaultId, name: &str, bytes: &[u8]) {
        let written = self.replace_with(&self.part_path(vault, name), false, &mut |out| {
            out.write_all(bytes)?;
            out.write_all(&checksum(name, bytes))
        });
        if written.is_err() {
            return;
        }
        let before = self.kept_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if before == u64::MAX || before > LOOK_INTERVAL {
            self.kept_bytes.store(0, Ordering::Relaxed);
            drop_oldest(&self.vault_path(vault, "objects"), OBJECTS_LEN_MAX);
        }
    }

    fn part_path(&self, vault: &VaultId, name: &str) -> PathBuf {
        let name = hex(&hash(name.as_bytes())[..16]);
        self.vault_path(vault, "objects").join(&name[..2]).join(&name[2..])
    }
}

fn state_name(writer: Option<&[u8; 32]>) -> String {
    writer.map_or_else(|| "state".to_owned(), |key| format!("state-{}", hex(&key[..16])))
}

fn checksum(name: &str, bytes: &[u8]) -> [u8; 32] {
    let mut hasher = Hasher::new();
    hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes()).update(bytes);
    hasher.finalize()
}

/// Removes the files that were written first, if all together have more than `len_max` bytes, until they have an eighth less.
fn drop_oldest(folder: &Path, len_max: u64) {
    let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    for file in entries(folder).flat_map(|shelf| entries(&shelf.path())) {
        let Ok(found) = file.metadata() else { continue };
        let Ok(written) = found.modified() else { continue };
        files.push((written, found.len().max(FILE_LEN_MIN), file.path()));
    }
    let mut len: u64 = files.iter().map(|(_, len, _)| len).sum();
    if len <= len_max {
        return;
    }
    files.sort_unstable();
    for (_, file_len, path) in files {
        if len <= len_max / 8 * 7 {
            return;
        }
        // One that another process removed is gone as well.
        drop(fs::remove_file(path));
        len -= file_len;
    }
}

#[cfg(test)]
mod tests;
