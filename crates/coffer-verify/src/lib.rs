//! An independent reader of the format that proves a vault intact.
//!
//! [`verify`] works without a key: it replays the log and checks that everything the log calls live is present and
//! has the hash it is named by. [`verify_deep`] does the same with a key and then opens every frame, rehashes every
//! chunk, and walks every snapshot's tree down to the last reference. Both read the vault by the specification
//! (`docs/format.md`, sections 8 to 14) and share no code with what writes it, so that they catch a writer's slips.
//!
//! | module | what |
//! | --- | --- |
//! | `options`, `progress`, `report` | what goes in and what comes out |
//! | `source`, `listing`, `parallel` | reading objects, the names in the store, worker threads |
//! | `replay`, `slots` | header, log, key slots |
//! | `segments`, `packs` | index segments and packs, as far as no key is needed |
//! | `deep` | what needs the key |
//!
//! Invariants:
//! - It never writes. It never stops at the first bad entry: what is wrong with one object becomes a [`Finding`], as does that it is archived, and
//!   only a store that cannot be reached or denies a read, a vault too new, or a key that does not fit is an error.
//! - The structure (log, slots, index segments, presence and length of every pack) is always checked whole;
//!   [`Subset`] thins out only the rehashing and opening of packs.
//! - The same vault and options give the same report, whatever the number of threads, but for how often parts of trees are read.
//!
//! A store that is far away is asked with as many threads as it says are worth having, at most 32 without a key and 4 with one.
//!
//! Memory: without a key, some 300 bytes for each pack and 1 MiB for each thread. With a key, in addition a pack of at most 128 MiB for each
//! thread, 32 MiB of frames with parts of trees, and some 100 bytes for each row of the live index, up to [`Options::rows_in_memory`]; the
//! rows of a larger index are compared with packs group by group, and kept in a temporary file, in which references are looked up. And up to
//! some 200 bytes for each distinct leaf and node of the trees (at most 4 million of them are remembered). What a report lists is bounded.
//!
//! It refuses to print, to read a clock, to take randomness from anywhere but [`Options::seed`], and to repair.

#![deny(unsafe_code)]

mod deep;
mod error;
mod listing;
mod options;
mod packs;
mod parallel;
mod progress;
mod replay;
mod report;
mod segments;
mod slots;
mod source;

use coffer_format::header::Header;
use coffer_format::id::{SlotId, VaultId};
use coffer_format::log::LogState;
use coffer_format::slot::Slot;
use coffer_pipeline::keyring::{Keyring, UnwrappedKey};
use coffer_store::ObjectStore;

pub use error::VerifyError;
pub use options::{Options, Subset};
pub use progress::{Progress, Silent, Stage};
pub use report::{Class, Counts, Finding, LISTED_MAX, PACKS_NAMED_MAX, Report, Residue};

use listing::Listing;
use packs::PackTable;
use replay::Replayed;
use report::Findings;
use source::Source;

/// Verifies a vault without a key.
///
/// # Errors
/// [`VerifyError`] when the store cannot be reached, holds no vault, or the vault needs a newer program. Whatever is
/// wrong with the vault itself stands in the report.
pub fn verify(
    store: &dyn ObjectStore,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, VerifyError> {
    run(store, None, options, progress)
}

/// Verifies a vault with the vault key or reader secret of its newest epoch: what [`verify`] does, and then everything
/// that is sealed. Each byte of a pack is read once for both; leaves and nodes of trees are read again when the trees
/// are walked.
///
/// Affected snapshots and paths are exact as far as the trees can be read; what lay below a lost leaf or node is named
/// as a stretch of paths.
///
/// # Errors
/// As [`verify`], and when the key is not that of the newest epoch.
pub fn verify_deep(
    store: &dyn ObjectStore,
    key: (u32, UnwrappedKey),
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, VerifyError> {
    run(store, Some(key), options, progress)
}

/// What can be known of a vault before a key is at hand: enough to choose a slot and unwrap it.
#[derive(Debug)]
pub struct VaultState {
    /// The vault.
    pub vault_id: VaultId,
    /// Bytes of the header: from `vault`, or from record 0 if that is lost.
    pub header_bytes: Vec<u8>,
    /// The header.
    pub header: Header,
    /// The state that the log leads to.
    pub log: LogState,
    /// Current slots that are intact, ascending by name.
    pub slots: Vec<(SlotId, Slot)>,
    /// What is wrong with header, log and slots.
    pub findings: Vec<Finding>,
}

/// Reads header, log and current slots, for a caller that wants to unwrap a key without any other reader.
///
/// # Errors
/// As [`verify`], and [`VerifyError::OtherVault`] when the header of the given vault id is not there.
pub fn read_state(store: &dyn ObjectStore, options: &Options) -> Result<VaultState, VerifyError> {
    let source = Source::new(store);
    let listing = Listing::read(store)?;
    let (mut findings, mut counts) = (Findings::default(), Counts::default());
    let replayed = replay::replay(&source, &listing, options, &Silent, &mut findings, &mut counts)?;
    let Some(replayed) = replayed else {
        return Err(VerifyError::OtherVault { url: store.url() });
    };
    let slots = slots::check(&source, &replayed.log, &mut findings, &mut counts)?;
    let Replayed { header_bytes, header, log, .. } = replayed;
    Ok(VaultState { vault_id: log.vault, header_bytes, header, log, slots, findings: findings.finish() })
}

fn run(
    store: &dyn ObjectStore,
    key: Option<(u32, UnwrappedKey)>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report, VerifyError> {
    let source = Source::new(store);
    // The names are taken first: what the log turns out to know beyond them was committed meanwhile, and nothing that
    // is committed is mistaken for surplus.
    let listing = Listing::read(store)?;
    let (mut findings, mut counts) = (Findings::default(), Counts::default());
    let replayed = replay::replay(&source, &listing, options, progress, &mut findings, &mut counts)?;
    let Some(replayed) = replayed else {
        return Ok(Report {
            vault_id: None,
            head: None,
            origin_proved: false,
            fresh_proved: false,
            deep: key.is_some(),
            counts: Counts { read_bytes: source.read_bytes(), ..counts },
            findings: findings.finish(),
            residue: Vec::new(),
        });
    };
    let deep = key.is_some();
    let keyring = key.map(|(epoch, key)| open_keyring(&replayed.log, epoch, key)).transpose()?;
    slots::check(&source, &replayed.log, &mut findings, &mut counts)?;

    let segments = segments::check(&source, &replayed, keyring.as_ref(), options, progress)?;
    let (table, rows) = PackTable::new(segments);
    counts.packs = table.packs.len() as u64;
    counts.pack_bytes = table.packs.iter().map(|pack| pack.len).sum();
    let chosen = options.subset.choose(&table.packs, options.seed);
    match &keyring {
        None => packs::check(
            &source,
            &listing,
            &table,
            &chosen,
            &replayed,
            options,
            progress,
            &mut findings,
            &mut counts,
        )?,
        Some(keyring) => {
            let task = deep::Task {
                source: &source,
                listing: &listing,
                replayed: &replayed,
                keyring,
                table: &table,
                chosen: &chosen,
                threads: options.threads.max(source.threads(1).min(DEEP_THREAD_COUNT)),
                rows_in_memory: (!segments::are_kept(&replayed, options)).then_some(options.rows_in_memory),
                progress,
            };
            deep::check(&task, rows, &mut findings, &mut counts)?;
        }
    }
    let residue = listing.residue(&source, &replayed, &table, &mut findings, &mut counts)?;
    counts.read_bytes = source.read_bytes();
    Ok(Report {
        vault_id: Some(replayed.log.vault),
        head: replayed.log.head(),
        origin_proved: options.vault_id.is_some(),
        fresh_proved: replayed.fresh_proved,
        deep,
        counts,
        findings: findings.finish(),
        residue,
    })
}

/// Packs that are opened at once because the store is far away: each is in memory whole.
const DEEP_THREAD_COUNT: usize = 4;

fn open_keyring(log: &LogState, epoch: u32, key: UnwrappedKey) -> Result<Keyring, VerifyError> {
    if epoch != log.epoch() {
        return Err(VerifyError::OldKey { epoch, newest: log.epoch() });
    }
    Keyring::open(log.vault, &log.epochs, epoch, key).map_err(|source| VerifyError::Key { epoch, source })
}
