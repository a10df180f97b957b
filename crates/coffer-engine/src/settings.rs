//! The owner's settings, which policy records hold.
//!
//! The last policy record that took effect holds all that are in force. Names that this program does not know are kept.

use std::collections::BTreeMap;

use coffer_format::id::Head;
use coffer_format::limits::RECORD_LEN_MAX;
use coffer_format::object::ObjectName;
use coffer_format::policy::{decode_policy, encode_policy};
use coffer_format::record::{Details, Record, RecordKind};
use coffer_pipeline::record::open_body;
use coffer_store::RetentionMode;

use crate::error::EngineError;
use crate::parts::Parts;
use crate::vault::Vault;

/// Name of the setting that says how objects are locked.
pub const LOCK_MODE: &str = "lock.mode";
/// Name of the setting that says for how many days.
pub const LOCK_DAYS: &str = "lock.days";
/// Longest lock, in days.
pub const LOCK_DAYS_MAX: u32 = 36_500;

/// How new objects are locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LockPolicy {
    /// How firmly, and by which means.
    pub mode: RetentionMode,
    /// For how many days.
    pub days: u32,
}

impl LockPolicy {
    /// The end of a lock that begins now, in seconds since 1970.
    #[must_use]
    pub fn until_s(&self, now_s: i64) -> u64 {
        u64::try_from(now_s).unwrap_or(0).saturating_add(u64::from(self.days) * 86_400)
    }
}

/// The word for a mode, as settings and flags have it.
#[must_use]
pub const fn lock_mode_name(mode: RetentionMode) -> &'static str {
    match mode {
        RetentionMode::Governance => "governance",
        RetentionMode::Compliance => "compliance",
        RetentionMode::Policy => "policy",
    }
}

/// Settings by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Values by name.
    pub values: BTreeMap<String, String>,
}

impl Settings {
    /// The settings in force.
    ///
    /// # Errors
    /// When the record that holds them cannot be read or opened, or is not the one that an owner signed.
    pub fn read(vault: &Vault<'_>) -> Result<Self, EngineError> {
        vault.check_reads("read the settings")?;
        let Some(number) = vault.state().last_policy else { return Ok(Self::default()) };
        let name = ObjectName::Record(number);
        let open = |bytes: &[u8]| -> Result<Self, EngineError> {
            // Whoever can seal a body to the vault can lay one over the owner's.
            if !vault.log.is_policy(number, bytes) {
                return Err(EngineError::invalid("it is not the policy that an owner of the vault signed"));
            }
            let record = Record::decode(bytes)?;
            let body = record.public.body.ok_or_else(|| EngineError::invalid("the policy has no body"))?;
            let pair = vault.keyring.sealing(body.epoch);
            let pair = pair.ok_or(EngineError::NotAllowed { action: "read this epoch" })?;
            let domain = vault.domain_keys(&body.domain)?;
            Ok(Self { values: decode_policy(&open_body(&record, pair, &domain)?)? })
        };
        // Where one copy of it is not what it should be, another one is read.
        let parts = Parts::new(vault.access.store, vault.id(), None);
        parts.whole(name, RECORD_LEN_MAX, &mut |bytes| {
            open(bytes).map_err(|error| EngineError::of_object(name, error))
        })
    }

    /// The settings after a change: values are set, and those that are `None` removed.
    #[must_use]
    pub fn with(mut self, changes: &[(String, Option<String>)]) -> Self {
        for (name, value) in changes {
            match value {
                Some(value) => self.values.insert(name.clone(), value.clone()),
                None => self.values.remove(name),
            };
        }
        self
    }

    /// How new objects are locked; `None` if they are not.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for values that mean nothing: it is not guessed what was meant.
    pub fn lock(&self) -> Result<Option<LockPolicy>, EngineError> {
        let mode = match self.values.get(LOCK_MODE).map(String::as_str) {
            None | Some("none") => return Ok(None),
            Some("governance") => RetentionMode::Governance,
            Some("compliance") => RetentionMode::Compliance,
            Some("policy") => RetentionMode::Policy,
            Some(other) => {
                return Err(EngineError::invalid(format!("{LOCK_MODE} is {other:?}, which has no meaning")));
            }
        };
        let days = self.values.get(LOCK_DAYS).map(String::as_str).unwrap_or_default();
        match days.parse() {
            Ok(days @ 1..=LOCK_DAYS_MAX) => Ok(Some(LockPolicy { mode, days })),
            _ => Err(EngineError::invalid(format!("{LOCK_DAYS} is {days:?}, not 1 to {LOCK_DAYS_MAX}"))),
        }
    }

    /// Sets values, removes those that are `None`, and commits what is then in force.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] before anything is written, when a value means nothing; else as for any commit.
    pub fn change(
        vault: &mut Vault<'_>,
        changes: &[(String, Option<String>)],
    ) -> Result<(Self, Head), EngineError> {
        loop {
            let base = vault.state().last_policy;
            let settings = Self::read(vault)?.with(changes);
            settings.lock()?;
            let details = Details::Policy { minor: None }.encode();
            let mut is_overtaken = false;
            let committed = vault.commit(
                RecordKind::Policy,
                Some(&encode_policy(&settings.values)),
                &mut |state, public| {
                    if state.last_policy != base {
                        is_overtaken = true;
                        return Err(EngineError::CannotCommit {
                            reason: "the settings were changed meanwhile".to_owned(),
                        });
                    }
                    public.details.clone_from(&details);
                    Ok(())
                },
            );
            match committed {
                // Somebody else set something first: theirs is kept, and ours comes on top.
                Err(_) if is_overtaken => {}
                committed => return Ok((settings, committed?)),
            }
        }
    }
}
