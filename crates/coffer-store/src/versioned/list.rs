//! Listings, where versions count.

use std::collections::{BTreeSet, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use super::{VersionedStore, chosen_of};
use crate::{ItemKind, ListItem, ObjectKey, ObjectStore, StoreError, VersionItem};

impl<S: ObjectStore> VersionedStore<S> {
    /// Whether the versions of this name, or of names below it, are to be asked for: its first version counts, and the bucket may
    /// keep more.
    pub(super) fn has_firsts(&self, name: &str) -> bool {
        self.is_first(name)
            && !self.is_refused.load(Ordering::Relaxed)
            && self.inner.cloud().is_some_and(|cloud| cloud.keeps_versions() != Some(false))
    }

    /// Shows what the store shows; of names whose first version counts, all that were ever there.
    pub(super) fn list_newest(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let first_prefix = self.first_prefix.as_deref().unwrap_or_default();
        let inside = if prefix.starts_with(first_prefix) { prefix } else { first_prefix };
        if !inside.starts_with(prefix) || !self.has_firsts(inside) {
            return self.inner.list(prefix, start_after, visit);
        }
        let (mut flow, mut is_shown) = (ControlFlow::Continue(()), false);
        let listed = self.list_versions(inside, start_after, &mut |item| {
            is_shown = true;
            flow = visit(item);
            flow
        });
        match listed {
            Err(StoreError::Denied { .. } | StoreError::Unsupported { .. }) if !is_shown => {
                self.is_refused.store(true, Ordering::Relaxed);
                return self.inner.list(prefix, start_after, visit);
            }
            listed => listed?,
        }
        if inside == prefix || flow.is_break() {
            return Ok(());
        }
        self.inner.list(prefix, start_after, &mut |item| {
            if item.name.starts_with(inside) { ControlFlow::Continue(()) } else { visit(item) }
        })
    }

    /// Shows every name of which a version counts, hidden or not, and keeps in mind which one.
    pub(super) fn list_versions(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        visit: &mut dyn FnMut(ListItem) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        // The versions of a name come one behind the other, names in any order. One that came before is known by a hash.
        let hasher = RandomState::new();
        let mut shown = HashSet::new();
        // Names whose versions do not come together: which counts has to be asked for each alone.
        let mut torn = BTreeSet::new();
        let mut group: Vec<VersionItem> = Vec::new();
        let mut flow = ControlFlow::Continue(());
        let follows_newest = self.rule()?.follows_newest();
        let mut show = |group: &mut Vec<VersionItem>| -> Result<ControlFlow<()>, StoreError> {
            let Some(name) = group.first().map(|version| version.name.clone()) else {
                return Ok(ControlFlow::Continue(()));
            };
            let versions = std::mem::take(group);
            let Some(version) = self.rule_for(&name)?.choose(&versions) else {
                return Ok(ControlFlow::Continue(()));
            };
            if !shown.insert(hasher.hash_one(&name)) {
                self.known().remove(&name);
                torn.insert(name);
                return Ok(ControlFlow::Continue(()));
            }
            if follows_newest {
                self.remember_first(&name, &versions);
            }
            if start_after.is_some_and(|after| name.as_str() <= after) {
                return Ok(ControlFlow::Continue(()));
            }
            if !follows_newest {
                self.remember(&name, &chosen_of(version));
            }
            let kind =
                if ObjectKey::new(name.as_str()).is_ok() { ItemKind::Object } else { ItemKind::Foreign };
            Ok(visit(ListItem { name, len: version.len, kind }))
        };
        let mut failed = None;
        let mut show = |group: &mut Vec<VersionItem>| {
            show(group).unwrap_or_else(|error| {
                failed = Some(error);
                ControlFlow::Break(())
            })
        };
        self.cloud_inside()?.versions(prefix, &mut |version| {
            if group.last().is_some_and(|last| last.name != version.name) {
                flow = show(&mut group);
            }
            group.push(version);
            flow
        })?;
        if flow.is_continue() {
            let _ = show(&mut group);
        }
        if let Some(error) = failed {
            return Err(error);
        }
        for name in torn.into_iter().filter(|_| follows_newest) {
            if let Ok(key) = ObjectKey::new(name.as_str()) {
                self.remember_first(&name, &self.versions_of(&key)?);
            }
        }
        Ok(())
    }
}
