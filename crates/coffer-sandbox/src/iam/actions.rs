//! The actions of object storage and the roles that hold them, as IBM's table of IAM roles lists them.

use serde::{Deserialize, Serialize};

/// A service role of object storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Role {
    /// Everything, retention policies and quotas too.
    Manager,
    /// Buckets and objects, to read and to write.
    Writer,
    /// Buckets and objects, to read.
    Reader,
    /// Objects, to list and to read.
    ContentReader,
    /// Objects, to read but not to list.
    ObjectReader,
    /// Objects, to write only.
    ObjectWriter,
}

const M: &[Role] = &[Role::Manager];
const MW: &[Role] = &[Role::Manager, Role::Writer];
const MWR: &[Role] = &[Role::Manager, Role::Writer, Role::Reader];
const LISTS: &[Role] = &[Role::Manager, Role::Writer, Role::Reader, Role::ContentReader];
const READS: &[Role] = &[Role::Manager, Role::Writer, Role::Reader, Role::ContentReader, Role::ObjectReader];
const WRITES: &[Role] = &[Role::Manager, Role::Writer, Role::ObjectWriter];
const PARTS: &[Role] = &[Role::Manager, Role::Writer, Role::Reader, Role::ObjectWriter];

/// Each action, without `cloud-object-storage.` before it, and who may do it.
const ACTIONS: &[(&str, &[Role])] = &[
    ("account.get_account_buckets", MWR),
    ("bucket.put_bucket", MW),
    ("bucket.delete_bucket", MW),
    ("bucket.get", LISTS),
    ("bucket.list_crk_id", MW),
    ("bucket.head", LISTS),
    ("bucket.get_versions", LISTS),
    ("bucket.get_uploads", MWR),
    ("bucket.get_versioning", MWR),
    ("bucket.put_versioning", MW),
    ("bucket.get_object_lock_configuration", MWR),
    ("bucket.put_object_lock_configuration", MW),
    ("bucket.get_location", LISTS),
    ("bucket.get_lifecycle", MWR),
    ("bucket.put_lifecycle", MW),
    ("bucket.get_protection", MWR),
    ("bucket.put_protection", M),
    ("object.get", READS),
    ("object.head", READS),
    ("object.get_version", READS),
    ("object.head_version", READS),
    ("object.get_object_lock_retention", MWR),
    ("object.get_object_lock_retention_version", MWR),
    ("object.put_object_lock_retention", WRITES),
    ("object.put_object_lock_retention_version", WRITES),
    ("object.get_object_lock_legal_hold", MWR),
    ("object.get_object_lock_legal_hold_version", MWR),
    ("object.put_object_lock_legal_hold", WRITES),
    ("object.put_object_lock_legal_hold_version", WRITES),
    ("object.bypass_governance_retention", M),
    ("object.put", WRITES),
    ("object.post_initiate_upload", WRITES),
    ("object.put_part", WRITES),
    ("object.copy_part", MW),
    ("object.copy_part_get", MWR),
    ("object.copy_part_get_version", READS),
    ("object.post_complete_upload", WRITES),
    ("object.copy", MW),
    ("object.copy_get", MWR),
    ("object.copy_get_version", READS),
    ("object.delete", MW),
    ("object.delete_version", MW),
    ("object.get_uploads", PARTS),
    ("object.delete_upload", WRITES),
    ("object.restore", MW),
    ("object.restore_version", MW),
    ("object.post_multi_delete", MW),
    ("object.post_legal_hold", MW),
    ("object.get_legal_hold", MWR),
    ("object.post_extend_retention", MW),
];

const SERVICE: &str = "cloud-object-storage.";

/// Whether a role holds an action, written in full.
pub(super) fn holds(role: Role, action: &str) -> bool {
    let Some(short) = action.strip_prefix(SERVICE) else { return false };
    ACTIONS.iter().any(|(name, roles)| *name == short && roles.contains(&role))
}

/// Whether IBM's table has this action, written in full.
pub(super) fn is_known(action: &str) -> bool {
    action.strip_prefix(SERVICE).is_some_and(|short| ACTIONS.iter().any(|(name, _)| *name == short))
}
