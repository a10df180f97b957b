//! What the stat fields of a snapshot's entries amount to, 8 bytes for each, in the order of the entries.
//!
//! Written as a backup goes, and read as the next one does: neither has all of them in memory. Before anything in such a file is believed it
//! was read once as a whole, for its hash.
//!
//! ```text
//! magic (8) || fingerprints u64 || snapshot (32) || H of it all (32)
//! ```

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use coffer_crypto::hash::Hasher;
use coffer_format::id::{SnapshotId, VaultId, hex};

use super::{Cache, Recording};
use crate::error::EngineError;

const MAGIC: &[u8; 8] = b"coffstt2";
/// Snapshot and hash.
const END_LEN: usize = 64;
/// Written and read in pieces of this length.
const PIECE_LEN: usize = 64 << 10;

impl Cache {
    /// Begins to remember the fingerprints of a snapshot that is being made.
    pub(crate) fn record_fingerprints(&self, vault: &VaultId, origin: &[u8; 32]) -> RecordedFingerprints {
        let recording = self.record(vault, &file_name(origin)).and_then(|mut recording| {
            recording.write(MAGIC)?;
            Ok(recording)
        });
        RecordedFingerprints { recording, piece: Vec::new() }
    }

    /// The fingerprints of a snapshot, if they are remembered. Each of them is shown once before.
    pub(crate) fn fingerprints(
        &self,
        vault: &VaultId,
        origin: &[u8; 32],
        snapshot: &SnapshotId,
        show: &mut dyn FnMut(u64),
    ) -> Option<KeptFingerprints> {
        let file = self.open_file(vault, &file_name(origin))?;
        KeptFingerprints::check(file, snapshot, show).ok().flatten()
    }
}

fn file_name(origin: &[u8; 32]) -> String {
    format!("origin-{}", hex(&origin[..16]))
}

/// Fingerprints of a backup that is under way.
pub(crate) struct RecordedFingerprints {
    /// Or what went wrong with it: the backup goes on without.
    recording: Result<Recording, EngineError>,
    piece: Vec<u8>,
}

impl RecordedFingerprints {
    pub(crate) fn push(&mut self, fingerprint: u64) {
        self.piece.extend_from_slice(&fingerprint.to_le_bytes());
        if self.piece.len() >= PIECE_LEN {
            self.write();
        }
    }

    fn write(&mut self) {
        if let Ok(recording) = &mut self.recording
            && let Err(error) = recording.write(&self.piece)
        {
            self.recording = Err(error);
        }
        self.piece.clear();
    }

    /// They are those of this snapshot, which is of this origin.
    pub(crate) fn finish(mut self, origin: &[u8; 32], snapshot: &SnapshotId) -> Result<(), EngineError> {
        self.write();
        let mut recording = self.recording?;
        recording.write(&snapshot.0)?;
        recording.finish_as(&file_name(origin))
    }
}

/// Fingerprints that are remembered, one after the other.
#[derive(Default)]
pub(crate) struct KeptFingerprints {
    /// With the number of those that are still to be read.
    file: Option<(BufReader<File>, u64)>,
    /// The number of the one that was read last, counted from one, and what it is.
    last: (u64, u64),
}

impl KeptFingerprints {
    fn check(mut file: File, snapshot: &SnapshotId, show: &mut dyn FnMut(u64)) -> io::Result<Option<Self>> {
        let head_len = MAGIC.len() as u64;
        let Some(len) = file.metadata()?.len().checked_sub(head_len + END_LEN as u64) else {
            return Ok(None);
        };
        let mut end = [0; END_LEN];
        file.seek(SeekFrom::Start(head_len + len))?;
        file.read_exact(&mut end)?;
        let (known, checksum) = end.split_at(32);
        if *known != snapshot.0 || len % 8 != 0 {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(0))?;
        let mut magic = [0; 8];
        file.read_exact(&mut magic)?;
        let mut hasher = Hasher::new();
        hasher.update(&magic);
        let mut piece = vec![0; PIECE_LEN];
        let mut left = len;
        while left > 0 {
            let piece_len = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_LEN);
            let piece = &mut piece[..piece_len];
            file.read_exact(piece)?;
            hasher.update(piece);
            piece.as_chunks::<8>().0.iter().for_each(|word| show(u64::from_le_bytes(*word)));
            left -= piece_len as u64;
        }
        hasher.update(known);
        if magic != *MAGIC || hasher.finalize() != *checksum {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(head_len))?;
        let file = BufReader::with_capacity(PIECE_LEN, file);
        Ok(Some(Self { file: Some((file, len / 8)), last: (0, 0) }))
    }

    /// The fingerprint of the entry with this number, counted from zero; 0, which equals none, if there is none. The next question may not be
    /// about an entry before it.
    pub(crate) fn of_entry(&mut self, number: u64) -> u64 {
        while self.last.0 <= number {
            self.last = (self.last.0 + 1, self.next().unwrap_or_default());
        }
        self.last.1
    }

    fn next(&mut self) -> Option<u64> {
        let (file, left) = self.file.as_mut()?;
        *left = left.checked_sub(1)?;
        let mut word = [0; 8];
        // What cannot be read any more is not known, and neither is what comes behind it.
        if file.read_exact(&mut word).is_err() {
            self.file = None;
            return None;
        }
        Some(u64::from_le_bytes(word))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const VAULT: VaultId = VaultId([1; 32]);
    const ORIGIN: [u8; 32] = [2; 32];

    fn recorded(cache: &Cache, count: u64) {
        let mut recorded = cache.record_fingerprints(&VAULT, &[9; 32]);
        (0..count).for_each(|number| recorded.push(number * number + 1));
        recorded.finish(&ORIGIN, &SnapshotId([3; 32])).unwrap();
    }

    fn shown(cache: &Cache, snapshot: u8) -> Option<(Vec<u64>, KeptFingerprints)> {
        let mut shown = Vec::new();
        let kept =
            cache.fingerprints(&VAULT, &ORIGIN, &SnapshotId([snapshot; 32]), &mut |word| shown.push(word));
        kept.map(|kept| (shown, kept))
    }

    #[test]
    fn they_come_back_in_their_order_and_behind_the_last_there_is_none() {
        let place = tempfile::tempdir().unwrap();
        let cache = Cache::new(place.path());
        for count in [0, 1, 8192, 20_000] {
            recorded(&cache, count);
            let (shown, mut kept) = shown(&cache, 3).expect("they are remembered");
            assert_eq!(shown, (0..count).map(|number| number * number + 1).collect::<Vec<_>>());
            for number in (0..count).step_by(3) {
                assert_eq!(kept.of_entry(number), number * number + 1);
                assert_eq!(kept.of_entry(number), number * number + 1, "asked again");
            }
            assert_eq!(kept.of_entry(count + 5), 0);
        }
    }

    #[test]
    fn those_of_another_snapshot_or_damaged_ones_are_not_believed() {
        let place = tempfile::tempdir().unwrap();
        let cache = Cache::new(place.path());
        recorded(&cache, 100);
        assert!(shown(&cache, 4).is_none());
        let path = cache.vault_path(&VAULT, &file_name(&ORIGIN));
        let whole = fs::read(&path).unwrap();
        for at in [0, 8, 500, whole.len() - 40, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(shown(&cache, 3).is_none(), "byte {at}");
        }
        for len in [0, 71, 72, whole.len() - 8, whole.len() - 1] {
            fs::write(&path, &whole[..len]).unwrap();
            assert!(shown(&cache, 3).is_none(), "{len} bytes");
        }
        fs::write(&path, &whole).unwrap();
        assert!(shown(&cache, 3).is_some());
    }

    #[test]
    fn of_a_backup_that_does_not_end_nothing_is_left() {
        let place = tempfile::tempdir().unwrap();
        let cache = Cache::new(place.path());
        recorded(&cache, 10);
        let mut given_up = cache.record_fingerprints(&VAULT, &ORIGIN);
        (0..20_000).for_each(|number| given_up.push(number));
        drop(given_up);
        assert_eq!(shown(&cache, 3).expect("they are as before").0.len(), 10);
        assert_eq!(fs::read_dir(cache.vault_path(&VAULT, "")).unwrap().count(), 1);
    }
}
