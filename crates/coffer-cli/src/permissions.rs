//! What each command needs to be allowed on a bucket: one table, from which `docs/permissions.md` is made and by which the
//! commands are tested.

use std::fmt::Write;

/// What every command of this kind asks of the bucket.
#[derive(Debug, Clone, Copy)]
pub struct Permission {
    /// Commands, as a user types them.
    pub commands: &'static [&'static str],
    /// Actions of IBM Cloud IAM without which they fail, `cloud-object-storage.` left out.
    pub actions: &'static [&'static str],
    /// Actions that they use if they may: what the table says on the right.
    pub optional: &'static [(&'static str, &'static str)],
    /// The smallest predefined service role that holds the actions.
    pub role: &'static str,
}

/// Actions of S3 as AWS names them, for those of IBM.
const S3_NAMES: &[(&str, &str)] = &[
    ("bucket.get", "s3:ListBucket"),
    ("bucket.head", "s3:GetEncryptionConfiguration"),
    ("bucket.get_versions", "s3:ListBucketVersions"),
    ("bucket.get_versioning", "s3:GetBucketVersioning"),
    ("bucket.get_location", "s3:GetBucketLocation"),
    ("bucket.get_object_lock_configuration", "s3:GetBucketObjectLockConfiguration"),
    ("bucket.get_protection", "(only IBM)"),
    ("object.get", "s3:GetObject"),
    ("object.head", "s3:GetObject"),
    ("object.get_version", "s3:GetObjectVersion"),
    ("object.put", "s3:PutObject"),
    ("object.post_initiate_upload", "s3:PutObject"),
    ("object.put_part", "s3:PutObject"),
    ("object.post_complete_upload", "s3:PutObject"),
    ("object.delete_upload", "s3:AbortMultipartUpload"),
    ("object.delete", "s3:DeleteObject"),
    ("object.delete_version", "s3:DeleteObjectVersion"),
    ("object.put_object_lock_retention", "s3:PutObjectRetention"),
    ("object.put_object_lock_legal_hold", "s3:PutObjectLegalHold"),
    ("object.post_extend_retention", "(only IBM)"),
    ("object.post_legal_hold", "(only IBM)"),
    ("object.get_legal_hold", "(only IBM)"),
    ("object.restore", "s3:RestoreObject"),
];

const LARGE: &str = "objects of 32 MiB and more, uploaded in parts";
const VERSIONS: &str = "a bucket that keeps versions: which record of a number was there first, what a delete marker hides or something was laid over; `--as-of`";
const UNVERSIONED: &str =
    "a bucket that keeps no versions; on AWS always, as without it what is absent is called denied";
const LOCKED: &str =
    "a vault whose policy locks new objects; never with a writer credential, which cannot read the policy";
const OVERWRITTEN: &str = "objects that something was laid over, where the bucket keeps versions";
const RELEASED: &str = "deleting objects that were released; without it they stay and the report says so";
const FACTS: &str = "saying what the bucket is set to; without it the report says \"not known\"";
const PROBE: &str = "removing the probe's own objects; without it they stay and the report says so";
const LOCK_FACTS: &str =
    "refusing a `--lock` that the bucket cannot give, before anything is written under it";
const PROBE_VERSIONS: &str = "the same where the bucket keeps versions";
const FIRST_VERSIONS: &str = "in place of that where a first version counts: of records in a bucket that keeps versions, of every object in mode \"oldest version wins\"";

/// The table.
pub const TABLE: &[Permission] = &[
    Permission {
        commands: &[
            "snapshots",
            "ls",
            "find",
            "cat",
            "dump",
            "diff",
            "stats",
            "restore",
            "backup --estimate",
            "policy show",
            "keys list",
            "keys writers",
            "keys test",
            "keys export-kit",
        ],
        actions: &["bucket.get", "object.get"],
        optional: &[("bucket.get_versions", VERSIONS), ("object.get_version", VERSIONS)],
        role: "Content Reader",
    },
    Permission {
        commands: &["verify", "restore --estimate", "replicate --status"],
        actions: &["bucket.get", "object.get", "object.head"],
        optional: &[("bucket.get_versions", VERSIONS), ("object.get_version", VERSIONS)],
        role: "Content Reader",
    },
    Permission {
        commands: &[
            "backup",
            "backup --writer FILE",
            "policy set",
            "keys add",
            "keys passwd",
            "keys revoke",
            "keys rotate",
            "keys rewrap",
            "keys retarget",
            "keys test --record",
            "keys grant-writer",
            "keys revoke-writer",
        ],
        // What became of a write whose answer was lost is found out by the length of what is there, and then by its bytes.
        actions: &["bucket.get", "object.get", "object.head", "object.put"],
        optional: &[
            ("object.post_initiate_upload", LARGE),
            ("object.put_part", LARGE),
            ("object.post_complete_upload", LARGE),
            ("object.delete_upload", LARGE),
            ("object.put_object_lock_retention", LOCKED),
            ("bucket.get_object_lock_configuration", LOCK_FACTS),
            ("bucket.get_protection", LOCK_FACTS),
            ("bucket.get_versions", VERSIONS),
            ("object.get_version", VERSIONS),
        ],
        role: "Writer, or Content Reader and Object Writer together, which may delete nothing",
    },
    Permission {
        commands: &["init"],
        actions: &[
            "bucket.get",
            "object.get",
            "object.head",
            "object.put",
            "object.post_initiate_upload",
            "object.put_part",
            "object.post_complete_upload",
        ],
        optional: &[
            ("object.delete", PROBE),
            ("object.delete_version", PROBE_VERSIONS),
            ("object.delete_upload", LARGE),
            (
                "bucket.get_versioning",
                "finding out that versions are kept, where the condition of a create cannot be trusted",
            ),
            ("bucket.get_versions", VERSIONS),
            ("object.get_version", VERSIONS),
            ("object.put_object_lock_retention", LOCKED),
            ("bucket.get_object_lock_configuration", LOCK_FACTS),
            ("bucket.get_protection", LOCK_FACTS),
        ],
        role: "Writer",
    },
    Permission {
        commands: &["doctor"],
        actions: &[
            "bucket.get",
            "object.get",
            "object.head",
            "object.put",
            "object.post_initiate_upload",
            "object.put_part",
            "object.post_complete_upload",
        ],
        optional: &[
            ("object.delete", PROBE),
            ("bucket.get_versions", PROBE_VERSIONS),
            ("object.delete_version", PROBE_VERSIONS),
            ("bucket.get_versioning", FACTS),
            ("bucket.get_location", FACTS),
            ("bucket.get_object_lock_configuration", FACTS),
            ("bucket.get_protection", FACTS),
            ("bucket.head", FACTS),
        ],
        role: "Writer",
    },
    Permission {
        commands: &["replicate", "reconcile"],
        actions: &["bucket.get", "object.get", "object.head", "object.put"],
        optional: &[
            ("object.delete", RELEASED),
            ("object.delete_version", FIRST_VERSIONS),
            ("object.post_initiate_upload", LARGE),
            ("object.put_part", LARGE),
            ("object.post_complete_upload", LARGE),
            ("object.delete_upload", LARGE),
            ("object.put_object_lock_retention", LOCKED),
            ("bucket.get_versions", VERSIONS),
            ("object.get_version", VERSIONS),
        ],
        role: "Writer",
    },
    Permission {
        commands: &["verify --heal"],
        actions: &["bucket.get", "object.get", "object.head", "object.put"],
        optional: &[
            ("object.delete", "replacing what is damaged; what is missing is healed without it"),
            ("object.delete_version", FIRST_VERSIONS),
            ("object.post_initiate_upload", LARGE),
            ("object.put_part", LARGE),
            ("object.post_complete_upload", LARGE),
            ("object.delete_upload", LARGE),
            ("object.put_object_lock_retention", LOCKED),
            ("bucket.get_versions", VERSIONS),
            ("object.get_version", VERSIONS),
        ],
        role: "Writer",
    },
    Permission {
        commands: &["reconcile --rejoin"],
        // A record that is merely hidden would count still: what versions there are has to be seen.
        actions: &[
            "bucket.get",
            "object.get",
            "object.head",
            "object.put",
            "bucket.get_versions",
            "object.delete",
        ],
        optional: &[
            ("object.delete_version", "a bucket that keeps versions"),
            ("object.put_object_lock_retention", LOCKED),
            ("object.get_version", VERSIONS),
        ],
        role: "Writer",
    },
    Permission {
        commands: &["handover", "promote", "replicate --new"],
        actions: &[
            "bucket.get",
            "object.get",
            "object.head",
            "object.put",
            "object.post_initiate_upload",
            "object.put_part",
            "object.post_complete_upload",
        ],
        optional: &[
            ("object.delete", PROBE),
            ("object.delete_version", PROBE_VERSIONS),
            ("object.delete_upload", LARGE),
            (
                "bucket.get_versioning",
                "a vault in mode \"oldest version wins\": finding out that versions are kept",
            ),
            ("object.put_object_lock_retention", LOCKED),
            ("bucket.get_versions", VERSIONS),
            ("object.get_version", VERSIONS),
        ],
        role: "Writer",
    },
    Permission {
        commands: &["verify --locks"],
        actions: &["bucket.get_versions", "object.get", "object.head"],
        optional: &[("bucket.get", UNVERSIONED), ("object.get_version", OVERWRITTEN)],
        role: "Content Reader",
    },
    Permission {
        commands: &["locks extend"],
        actions: &[
            "bucket.get_versions",
            "object.get",
            "object.head",
            "object.put",
            "object.put_object_lock_retention",
        ],
        optional: &[
            ("bucket.get", UNVERSIONED),
            ("object.post_extend_retention", "a bucket with a retention policy, in place of the object lock"),
            ("object.get_version", OVERWRITTEN),
        ],
        role: "Writer",
    },
    Permission {
        commands: &["locks hold", "locks release"],
        actions: &["bucket.get_versions", "object.get", "object.put_object_lock_legal_hold"],
        optional: &[
            ("bucket.get", UNVERSIONED),
            ("object.post_legal_hold", "a bucket with a retention policy, in place of the object lock"),
            ("object.get_legal_hold", "the same"),
            ("bucket.get_protection", "telling which of the two it is"),
        ],
        role: "Writer",
    },
    Permission {
        commands: &["restore --request-archived"],
        actions: &["bucket.get", "object.get", "object.head", "object.restore"],
        optional: &[],
        role: "Writer",
    },
];

/// The document.
#[must_use]
pub fn document() -> String {
    let mut text = String::from(HEAD);
    for row in TABLE {
        let commands: Vec<_> = row.commands.iter().map(|command| format!("`coffer {command}`")).collect();
        text.push_str(&format!(
            "\n## {}\n\nRole: {}.\n\n| action | on AWS | for |\n| --- | --- | --- |\n",
            commands.join(", "),
            row.role
        ));
        let needed = row.actions.iter().map(|action| (*action, "always"));
        for (action, what) in needed.chain(row.optional.iter().copied()) {
            let s3 = S3_NAMES.iter().find(|(name, _)| *name == action).map_or("", |(_, s3)| *s3);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| `{action}` | `{s3}` | {what} |");
        }
    }
    text.push_str(TAIL);
    text
}

const TAIL: &str = "
## Root keys of Key Protect and HPCS

Role: Reader, on the instance or on the one root key. It is enough for every command: to make a slot (`init`, `keys add`, `keys retarget`, `keys
rotate`: metadata and wrap), to open the vault (unwrap) and to move slots to a new version (`keys rewrap`: rewrap and unwrap). No command rotates, disables or
deletes a root key, or reads one; give none of the roles that may.
";

const HEAD: &str = "# What each command must be allowed on a bucket

This page is made from the table in `crates/coffer-cli/src/permissions.rs`, and a test holds it against the commands: each
works in the simulated region with exactly the actions that say \"always\", and fails with one of them less.

A command that works on several stores needs what its row says on each bucket that it writes to, and on the others what `verify` needs:
a backup on all of them, `replicate` and `verify --heal` on those that lack something, `handover` on both homes, `promote` on the new one,
`reconcile` on all, `reconcile --rejoin` deletes in the store that is fenced.

Where the bucket keeps versions, let every client list them (`bucket.get_versions`): the log goes by the first version of each record. A client
that may not sees the newest, and a writer who lays a record of his own over another one shows it to that client alone. Nothing says so to
it before it meets another client's head.

On AWS, `verify --locks` and `locks extend` also need `s3:GetObjectRetention`: without it the store does not say how an object is
locked, and it counts as not locked.

Actions are those of IBM Cloud IAM, `cloud-object-storage.` left out; next to each is the action of S3 on AWS that it amounts
to. A role of IBM Cloud is the smallest predefined one that holds them; a policy with the single actions is less. Nothing that
backs up needs to delete or to overwrite: give nightly jobs credentials that can do neither.
";
