//! Hard links, made when every file is there.

use coffer_collect::{DirectoryTarget, EntryKind, EntryPath};
use coffer_format::tree::Kind;

use super::lookup;
use super::plan::clear;
use super::report::{Overwrite, RestoreAction, RestoreObserver, RestoreOptions};
use super::surplus::Surplus;
use super::writing::Shared;
use crate::error::EngineError;
use crate::read::ChunkReader;
use crate::vault::Snapshot;

/// A hard link that is still to be made.
pub(super) struct Link {
    pub(super) path: EntryPath,
    /// What it is a link to: the first path of its group, or what stands in for that.
    pub(super) first: EntryPath,
    pub(super) mtime_ns: i64,
    pub(super) is_stand_in: bool,
}

/// Makes the links; each that cannot be made is an error of its entry.
pub(super) fn make_links(
    links: &[Link],
    snapshot: &Snapshot,
    chunks: &mut ChunkReader<'_>,
    shared: &Shared<'_>,
    target: &mut DirectoryTarget,
    surplus: &Surplus<'_>,
    (options, observer): (&RestoreOptions, &mut dyn RestoreObserver),
) {
    for link in links {
        // Only what this restore has written is linked to, never what stood there before.
        let made = shared.is_restored(&link.first)
            && (link.is_stand_in || has_content(snapshot, &link.first, chunks));
        let linked = if made {
            let mut clear = |target: &mut DirectoryTarget| {
                clear(surplus, &link.path, target, shared, &mut *observer);
            };
            make(link, options, target, &mut clear)
        } else {
            let reason = format!("{}, which it is a hard link to, was not restored", link.first);
            Err(EngineError::invalid(reason))
        };
        match linked {
            Ok(action) => {
                shared.note(|report| report.add(action, None));
                observer.action(link.path.as_bytes(), action, 0);
            }
            Err(error) => shared.failed(&link.path, &error, false),
        }
    }
}

fn make(
    link: &Link,
    options: &RestoreOptions,
    target: &mut DirectoryTarget,
    clear: &mut dyn FnMut(&mut DirectoryTarget),
) -> Result<RestoreAction, EngineError> {
    let (action, is_directory) = link_action(link, options, target)?;
    if matches!(action, RestoreAction::Create | RestoreAction::Update) {
        if is_directory {
            clear(target);
        }
        target.hard_link(&link.path, &link.first)?;
    }
    Ok(action)
}

/// What becomes of the path of a link, and whether a directory stands there.
pub(super) fn link_action(
    link: &Link,
    options: &RestoreOptions,
    target: &mut DirectoryTarget,
) -> Result<(RestoreAction, bool), EngineError> {
    let Some(existing) = target.look(&link.path)? else { return Ok((RestoreAction::Create, false)) };
    let first = target.look(&link.first)?;
    if first.is_some_and(|first| first.identity() == existing.identity()) {
        return Ok((RestoreAction::Unchanged, false));
    }
    let stays = match options.overwrite {
        Overwrite::Always | Overwrite::IfChanged => false,
        Overwrite::IfNewer => link.mtime_ns <= existing.mtime_ns(),
        Overwrite::Never => true,
    };
    let action = if stays { RestoreAction::Skip } else { RestoreAction::Update };
    Ok((action, existing.kind() == Some(EntryKind::Directory)))
}

/// Whether the snapshot has an entry at `path` that hard links can lead to.
fn has_content(snapshot: &Snapshot, path: &EntryPath, chunks: &mut ChunkReader<'_>) -> bool {
    lookup(snapshot, path.as_bytes(), chunks).is_ok_and(|entry| {
        entry.is_some_and(|entry| entry.kind != Kind::Directory && entry.hard_link.is_none())
    })
}
