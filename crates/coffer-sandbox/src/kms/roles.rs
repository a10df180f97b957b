//! The actions of the key service and the roles that hold them, as IBM's table of IAM roles lists them.

use crate::iam::Role;

const P: &[Role] = &[Role::KeyPurge];
const M: &[Role] = &[Role::Manager];
const MW: &[Role] = &[Role::Manager, Role::Writer];
const MWP: &[Role] = &[Role::Manager, Role::Writer, Role::ReaderPlus];
const MWPR: &[Role] = &[Role::Manager, Role::Writer, Role::ReaderPlus, Role::Reader];

/// Each action and who may do it.
const ACTIONS: &[(&str, &[Role])] = &[
    ("kms.secrets.head", MWPR),
    ("kms.secrets.list", MWPR),
    ("kms.secrets.create", MW),
    ("kms.secrets-with-policy-overrides.create", M),
    ("kms.secrets.read", MWP),
    ("kms.secrets-metadata.read", MWPR),
    ("kms.secrets.patch", M),
    ("kms.secrets.delete", M),
    ("kms.secrets.purge", P),
    ("kms.secrets.restore", M),
    ("kms.secrets-key-versions.list", MWPR),
    ("kms.secrets.wrap", MWPR),
    ("kms.secrets.unwrap", MWPR),
    ("kms.secrets.rewrap", MWPR),
    ("kms.secrets.rotate", MW),
    ("kms.secrets.enable", M),
    ("kms.secrets.disable", M),
    ("kms.secrets.setkeyfordeletion", MW),
    ("kms.secrets.unsetkeyfordeletion", MW),
    ("kms.secrets.sync", MW),
    ("kms.secrets-alias.create", MW),
    ("kms.secrets-alias.delete", MW),
    ("kms.policies.read", M),
    ("kms.policies.write", M),
    ("kms.instance-policies.read", M),
    ("kms.instance-policies.write", M),
    ("kms.instance-allowed-ip-port.read", MWPR),
    ("kms.import-token.create", MW),
    ("kms.import-token.read", MW),
    ("kms.key-rings.list", MWPR),
    ("kms.key-rings.create", MW),
    ("kms.key-rings.delete", M),
    ("kms.registrations.list", MWPR),
    ("kms.registrations.write", MWPR),
    ("kms.kmip-management.create", MW),
    ("kms.kmip-management.list", MWPR),
    ("kms.kmip-management.read", MWPR),
    ("kms.kmip-management.delete", M),
    ("kms.audit.read", M),
];

/// Whether a role holds an action.
pub(crate) fn holds(role: Role, action: &str) -> bool {
    ACTIONS.iter().any(|(name, roles)| *name == action && roles.contains(&role))
}

/// Whether there is this action.
pub(crate) fn is_known(action: &str) -> bool {
    ACTIONS.iter().any(|(name, _)| *name == action)
}
