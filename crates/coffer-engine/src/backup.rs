//! Backup: a walk in path order, merged with the parent's entries, into chunks, packs, an index segment and one record.
//!
//! One thread walks, reads, cuts and hashes; workers compress, seal, check and store packs. Queues are bounded, and so are packs that are open
//! or on their way (`backup/stage.rs`): memory is these and a few frames for each worker, whatever is backed up. Beside that: the sources, 4 bytes
//! for each entry of the parent, hard links that are not complete, and some 80 bytes for each chunk that no segment lists yet, of which there are
//! a quarter of a million at most (a dry run lists none, and remembers 44 bytes for each).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use coffer_collect::{CollectError, Stream};
use coffer_format::id::{Head, SegmentId, SnapshotId};
use coffer_format::manifest::Manifest;
use coffer_format::record::RecordKind;
use coffer_pipeline::PipelineError;
use coffer_pipeline::chunker::{Chunker, ChunkerParams};
use coffer_pipeline::pack_writer::PackSealer;
use coffer_pipeline::tree_writer::TreeWriter;

use crate::error::EngineError;
use crate::log::explain;
use crate::vault::{Snapshot, Vault};
use crate::writer::signing_key_for;

mod ahead;
mod entries;
mod files;
mod memory;
mod namer;
mod options;
mod parent;
mod report;
mod run;
mod sparse;
mod stage;
mod stream;
mod uploads;

use entries::Parts;
use files::FileReader;
use memory::Memory;
use namer::Namer;
pub use options::BackupOptions;
use options::Origin;
use parent::{Found, Parent};
pub use report::{BackupObserver, BackupReport, DryRunReport, EntryChange};
use run::Run;
use stage::{Stage, StageOptions};
use uploads::{Uploaded, Uploads};

/// Backs up files and directories as one snapshot.
///
/// # Errors
/// Errors of single entries do not end it; they are in the report. What ends it: the store, the key, a log that cannot be committed to,
/// or the user. Nothing is acknowledged then, and earlier snapshots are as they were.
pub fn backup(
    vault: &mut Vault<'_>,
    options: &BackupOptions,
    observer: &mut dyn BackupObserver,
) -> Result<BackupReport, EngineError> {
    commit_run(vault, options, None, observer)
}

/// Backs up what a stream brings as a snapshot of one file.
///
/// # Errors
/// As [`backup`]; and whatever is wrong with the stream, a command that failed at its end among it.
pub fn backup_stream(
    vault: &mut Vault<'_>,
    options: &BackupOptions,
    stream: &mut Stream,
    observer: &mut dyn BackupObserver,
) -> Result<BackupReport, EngineError> {
    commit_run(vault, options, Some(stream), observer)
}

/// Does what [`backup`] does, or [`backup_stream`] if there is a stream, but stores nothing: walks, reads, cuts, and holds the chunks
/// against the index.
///
/// # Errors
/// As theirs.
pub fn dry_run(
    vault: &mut Vault<'_>,
    options: &BackupOptions,
    stream: Option<&mut Stream>,
    observer: &mut dyn BackupObserver,
) -> Result<DryRunReport, EngineError> {
    let Ended { manifest, uploaded, run, .. } = run_until_done(vault, options, stream, observer, true)?;
    Ok(DryRunReport {
        manifest,
        packed_bytes: uploaded.packed_bytes,
        changed_count: run.changed_count,
        excluded_count: run.excluded_count,
        errors: run.errors,
        error_count: run.error_count,
        skipped: run.skipped,
    })
}

fn commit_run(
    vault: &mut Vault<'_>,
    options: &BackupOptions,
    stream: Option<&mut Stream>,
    observer: &mut dyn BackupObserver,
) -> Result<BackupReport, EngineError> {
    let Ended { manifest, origin, unchanged, mut uploaded, run } =
        run_until_done(vault, options, stream, observer, false)?;
    let (snapshot, head, is_new) = match (unchanged, vault.log.head()) {
        (Some(parent), Some(head)) => (parent, head, false),
        _ => {
            let head = commit(vault, &manifest, &mut uploaded)?;
            (SnapshotId(head.chain), head, true)
        }
    };
    let mut run = run;
    let mut warnings: Vec<String> = vault.log.memory_warning.iter().cloned().collect();
    let remembered = run.memory.take().map(|memory| memory.finish(&snapshot, &manifest));
    if let Some(Err(error)) = remembered {
        warnings.push(format!("the next backup will read every file: {}", explain(&error)));
    }
    if let Some(fingerprints) = run.fingerprints.take().filter(|_| origin.is_walked())
        && let Err(error) = fingerprints.finish(&origin.key(), &snapshot)
    {
        warnings.push(format!("the next backup will read every file: {error}"));
    }
    // The snapshot is committed; a checkpoint spares those time who come without a memory, and can wait.
    if let Err(error) = vault.checkpoint_if_due(options.checkpoint_interval) {
        warnings.push(format!("no checkpoint was added: {error}"));
    }
    Ok(BackupReport {
        snapshot,
        head,
        is_new,
        manifest,
        progress_count: uploaded.progress_count,
        changed_count: run.changed_count,
        excluded_count: run.excluded_count,
        errors: run.errors,
        error_count: run.error_count,
        skipped: run.skipped,
        warnings,
    })
}

fn commit(vault: &mut Vault<'_>, manifest: &Manifest, uploaded: &mut Uploaded) -> Result<Head, EngineError> {
    let body = manifest.encode();
    // What is committed has to be readable: a reader's limits are checked while nothing is promised yet.
    if Manifest::decode(&body)? != *manifest {
        return Err(EngineError::invalid("the manifest of the snapshot would not be read as it was written"));
    }
    let Uploaded { segments, relied_upon, packs, .. } = uploaded;
    uploads::commit_segments(vault, RecordKind::Snapshot, &body, segments, &|state| {
        uploads::check_relied_upon(state, relied_upon, packs)
    })
}

/// A run that came to its end, with nothing committed yet.
struct Ended<'o> {
    /// What the snapshot would be.
    manifest: Manifest,
    /// That of the snapshot which holds what was taken: the new one or, if nothing changed, the parent.
    origin: Origin,
    /// The parent, if no snapshot is to be made because all is as in it.
    unchanged: Option<SnapshotId>,
    uploaded: Uploaded,
    run: Run<'o>,
}

fn run_until_done<'o>(
    vault: &mut Vault<'_>,
    options: &BackupOptions,
    stream: Option<&mut Stream>,
    observer: &'o mut dyn BackupObserver,
    is_dry: bool,
) -> Result<Ended<'o>, EngineError> {
    signing_key_for(&vault.keyring, RecordKind::Snapshot)?;
    options.check()?;
    let mut stream = stream;
    // An index segment that turns out to be damaged is left out, and what it listed is read and stored again.
    let mut distrusted = BTreeSet::new();
    let start_ns = vault.access.clock.now_ns();
    let mut observer = observer;
    loop {
        let mut run = Run::new(start_ns, options, observer);
        match attempt(vault, options, stream.as_deref_mut(), &mut run, &distrusted, is_dry) {
            Err(EngineError::SegmentUnusable { segment, .. })
                if stream.is_none() && distrusted.insert(segment) =>
            {
                observer = run.observer;
            }
            outcome => {
                let Attempt { manifest, origin, unchanged, uploaded } = outcome?;
                return Ok(Ended { manifest, origin, unchanged, uploaded, run });
            }
        }
    }
}

/// As [`Ended`], without the run.
struct Attempt {
    manifest: Manifest,
    origin: Origin,
    unchanged: Option<SnapshotId>,
    uploaded: Uploaded,
}

fn attempt(
    vault: &mut Vault<'_>,
    options: &BackupOptions,
    stream: Option<&mut Stream>,
    run: &mut Run<'_>,
    distrusted: &BTreeSet<SegmentId>,
    is_dry: bool,
) -> Result<Attempt, EngineError> {
    let access = vault.access;
    let origin = Origin::new(options, stream.as_deref());
    let (sealing_key, _) = vault.sealing_key()?;
    let domain = vault.write_domain();
    let sealer = PackSealer { vault: vault.id(), sealing_key, domain: vault.domain_keys(&domain)? };
    let tree_keys = vault.domain_keys(&domain)?;
    let params = ChunkerParams::try_from(vault.log.header.chunker).map_err(PipelineError::from)?;
    let chunker = Chunker::new(params, tree_keys.chunker_key().expose());
    let namer = match options.worker_count {
        0 | 1 => None,
        _ => Some(Namer::new(vault.domain_keys(&domain)?)),
    };
    let (found, state) = match parent::find(vault, options, &origin)? {
        Found::Parent(found, state) => (Some(*found), state),
        Found::Nothing(reason) => {
            // What is told once is not told again as the run begins anew.
            if let Some(reason) = reason.filter(|_| distrusted.is_empty()) {
                run.observer.reads_all(reason);
            }
            (None, None)
        }
    };
    if !is_dry {
        run.memory = Memory::begin(vault, &origin)?;
        let cache = access.cache.filter(|_| origin.is_walked() && vault.writer.is_none());
        run.fingerprints = cache.map(|cache| cache.record_fingerprints(&vault.id(), &origin.key()));
    }
    if let Some(parent) = &found {
        run.observer.expected(parent.manifest.statistics.content_bytes);
    }
    let stopped = AtomicBool::new(false);

    let (root, uploaded) = std::thread::scope(|scope| {
        let stage = Stage::new(scope, StageOptions::new(&access, &sealer, options, &stopped, is_dry));
        let uploads = Uploads::new(vault, stage, options, &origin.collector, distrusted)?;
        // Where index segments are damaged, nothing that a parent refers to is taken on trust: it is read and stored again.
        let parent = match &found {
            Some(snapshot) if distrusted.is_empty() && uploads.index_is_whole() => Some(match state {
                Some(state) => Parent::Local(state),
                None => Parent::in_vault(&uploads, snapshot)?,
            }),
            _ => None,
        };
        let tree = TreeWriter::new(&tree_keys);
        let files = FileReader::new(chunker, namer, Arc::clone(&options.read_counter));
        let mut parts = Parts { run, uploads, parent, tree, files, source_count: 0 };
        let outcome = match stream {
            Some(stream) => parts.take_stream(stream, options),
            None => parts.take_all(scope, &sealer.domain, options),
        };
        let Parts { uploads, .. } = parts;
        match outcome {
            Ok(root) => Ok((root, uploads.finish()?)),
            Err(error) => {
                uploads.abandon(is_worth_keeping(&error));
                Err(error)
            }
        }
    })?;

    // Where something had to be stored again, though the parent refers to it, a snapshot has to list it.
    let as_before = |found: &&Snapshot| found.manifest.root == root && uploaded.segments.is_empty();
    let unchanged = found.as_ref().filter(|_| options.skip_if_unchanged).filter(as_before);
    let holder = unchanged.map_or_else(|| origin.clone(), |parent| Origin::of(&parent.manifest));
    let unchanged = unchanged.map(Snapshot::id);
    let manifest = run.manifest(options, origin, root, found.as_ref(), access.clock.now_ns(), &uploaded);
    Ok(Attempt { manifest, origin: holder, unchanged, uploaded })
}

/// Whether the next run will meet again what this one has stored before it failed.
const fn is_worth_keeping(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Interrupted
            | EngineError::SegmentUnusable { .. }
            | EngineError::Collect(CollectError::CommandFailed { .. } | CollectError::Stream { .. })
    )
}
