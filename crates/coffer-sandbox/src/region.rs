//! One region: its clock, its records, and the services that share them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use s3s::S3Result;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock, Millis};
use crate::cos::{Bodies, named_bodies};
use crate::error::SandboxError;
use crate::iam::{HmacKeys, Iam, Policy, Role};
use crate::kms::Kms;
use crate::records::{OrInternal, Records};
use crate::refused;
use crate::switches::Switches;

/// The identity that every region has from its first start: manager of everything.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) api_key: String,
    pub(crate) hmac: HmacKeys,
}

impl std::fmt::Debug for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Owner").field("hmac", &self.hmac).finish_non_exhaustive()
    }
}

/// What all services of a region share.
#[derive(Debug)]
pub(crate) struct Region {
    records: Records,
    clock: Clock,
    iam: Iam,
    bodies: Bodies,
    kms: Kms,
    /// The port of the private endpoint of the key service, once that is open.
    kms_private_port: OnceLock<u16>,
    switches: Mutex<Switches>,
    location: String,
    instance: String,
    owner: Owner,
}

const SWITCHES: &str = "switches";
const CLOCK: &str = "clock-added-ms";
const ROOT_KEYS: &str = "root-keys";
const OWNER: &str = "owner";

impl Region {
    /// Opens the region that a directory holds, or makes one there.
    pub(crate) fn open(directory: &Path, location: &str, instance: &str) -> Result<Self, SandboxError> {
        let at = |source| SandboxError::File { path: directory.to_path_buf(), source };
        std::fs::create_dir_all(directory).map_err(at)?;
        let records = Records::open(directory)?;
        let named = named_bodies(&records).map_err(refused)?;
        let bodies = Bodies::open(directory.join("bodies"), &named).map_err(at)?;
        let added_ms: Option<Millis> = records.setting(CLOCK).map_err(refused)?;
        let switches: Option<Switches> = records.setting(SWITCHES).map_err(refused)?;
        let iam = Iam::default();
        let owner = owner(&records, &iam, instance).map_err(refused)?;
        Ok(Self {
            clock: Clock::ahead_by(added_ms.unwrap_or(0)),
            iam,
            bodies,
            kms: Kms::open(directory, location, false)?,
            kms_private_port: OnceLock::new(),
            switches: Mutex::new(switches.unwrap_or_default()),
            location: location.to_owned(),
            instance: instance.to_owned(),
            owner,
            records,
        })
    }

    pub(crate) fn records(&self) -> &Records {
        &self.records
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn iam(&self) -> &Iam {
        &self.iam
    }

    pub(crate) fn bodies(&self) -> &Bodies {
        &self.bodies
    }

    pub(crate) fn kms(&self) -> &Kms {
        &self.kms
    }

    pub(crate) fn kms_private_port(&self) -> Option<u16> {
        self.kms_private_port.get().copied()
    }

    /// Says where the private endpoint of the key service is.
    pub(crate) fn set_kms_private_port(&self, port: u16) {
        self.kms_private_port.get_or_init(|| port);
    }

    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Where object storage is, unless a bucket says otherwise.
    pub(crate) fn location(&self) -> &str {
        &self.location
    }

    /// GUID of the service instance of object storage.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    pub(crate) fn has_instance(&self, guid: &str) -> bool {
        self.instance == guid
    }

    fn lock_switches(&self) -> MutexGuard<'_, Switches> {
        self.switches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the switches stand.
    pub(crate) fn switches(&self) -> Switches {
        self.lock_switches().clone()
    }

    /// Moves switches.
    pub(crate) fn switch(&self, change: impl FnOnce(&mut Switches)) -> S3Result<()> {
        let mut switches = self.lock_switches();
        change(&mut switches);
        self.records.set_setting(SWITCHES, &*switches)
    }

    /// Whether this request to object storage is one of those to be refused.
    pub(crate) fn take_slow_down(&self) -> bool {
        take_one(&mut self.lock_switches().slow_down_count)
    }

    /// Whether this request to IAM is one of those to be refused.
    pub(crate) fn take_iam_unavailable(&self) -> bool {
        let mut switches = self.lock_switches();
        switches.iam_unavailable_count > 0
            && !take_one(&mut switches.iam_unavailable_skip)
            && take_one(&mut switches.iam_unavailable_count)
    }

    /// Whether this request to the key service is one of those to be refused.
    pub(crate) fn take_kms_too_many(&self) -> bool {
        take_one(&mut self.lock_switches().kms_too_many_count)
    }

    /// Whether this request to the key service is one of those to fail.
    pub(crate) fn take_kms_failure(&self) -> bool {
        let mut switches = self.lock_switches();
        switches.kms_failure_count > 0
            && !take_one(&mut switches.kms_failure_skip)
            && take_one(&mut switches.kms_failure_count)
    }

    /// Moves the clock forward and carries out what has expired then.
    pub(crate) async fn advance(&self, by: Duration) -> S3Result<()> {
        self.clock.advance(by);
        self.records.set_setting(CLOCK, &self.clock.added_ms())?;
        self.kms.sweep(self.clock.now_ms()).or_internal()?;
        crate::cos::sweep(self).await
    }

    fn root_keys(&self) -> S3Result<BTreeMap<String, bool>> {
        Ok(self.records.setting(ROOT_KEYS)?.unwrap_or_default())
    }

    /// Whether a root key is there and enabled: in the key service of the region, or where its CRN names no instance of that, as it was
    /// made known.
    pub(crate) fn is_root_key_enabled(&self, crn: &str) -> S3Result<bool> {
        if let Some(is_usable) = self.kms.is_usable(crn, self.clock.now_ms()) {
            return Ok(is_usable);
        }
        Ok(self.root_keys()?.get(crn) == Some(&true))
    }

    /// Makes a root key known, or enables or disables it.
    pub(crate) fn set_root_key(&self, crn: &str, is_enabled: bool) -> S3Result<()> {
        let mut keys = self.root_keys()?;
        keys.insert(crn.to_owned(), is_enabled);
        self.records.set_setting(ROOT_KEYS, &keys)
    }
}

fn take_one(count: &mut u64) -> bool {
    let is_left = *count > 0;
    *count = count.saturating_sub(1);
    is_left
}

fn owner(records: &Records, iam: &Iam, instance: &str) -> S3Result<Owner> {
    if let Some(owner) = records.setting(OWNER)? {
        return Ok(owner);
    }
    let everything = [Policy::role(Role::Manager), Policy::role(Role::KeyPurge)];
    let id = iam.create_service_id(records, "owner", &everything)?;
    let owner =
        Owner { api_key: iam.create_api_key(records, &id)?, hmac: iam.create_hmac(records, &id, instance)? };
    records.set_setting(OWNER, &owner)?;
    Ok(owner)
}
