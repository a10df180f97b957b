//! Roles, and the actions of object storage that each holds, as IBM's table of IAM roles lists them. The key service has its own table.

use serde::{Deserialize, Serialize};

use crate::kms::roles as keys;

/// A service role of object storage or of the key service.
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
    /// Of the key service: what a reader may do, and the material of standard keys.
    ReaderPlus,
    /// Of the key service: to purge deleted keys.
    KeyPurge,
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
    let Some(short) = action.strip_prefix(SERVICE) else { return keys::holds(role, action) };
    ACTIONS.iter().any(|(name, roles)| *name == short && roles.contains(&role))
}

/// Whether IBM's table has this action, written in full.
pub(super) fn is_known(action: &str) -> bool {
    match action.strip_prefix(SERVICE) {
        Some(short) => ACTIONS.iter().any(|(name, _)| *name == short),
        None => keys::is_known(action),
    }
}
