//! From a snapshot's record to the root of its tree (specification sections 8.1 and 9.1).

use coffer_format::limits::RECORD_LEN_MAX;
use coffer_format::log::SnapshotState;
use coffer_format::manifest::Manifest;
use coffer_format::object::ObjectName;
use coffer_format::record::{Details, Record, RecordKind, chain_value};
use coffer_format::tree::TreeRoot;
use coffer_pipeline::record::open_body;

use crate::error::VerifyError;
use crate::report::{Class, Findings};
use crate::source::reason;

use super::{Domains, Task};

/// Opens the manifest of a snapshot; what is wrong with it becomes a finding.
pub(crate) fn root_of(
    task: &Task<'_>,
    domains: &Domains,
    snapshot: &SnapshotState,
    findings: &mut Findings,
) -> Result<Option<TreeRoot>, VerifyError> {
    let name = ObjectName::Record(snapshot.number);
    let mut bytes = Vec::new();
    if let Err(fault) = task.source.read(name, RECORD_LEN_MAX, &mut bytes)? {
        findings.add(fault.class(), name, fault.what()).snapshots.insert(snapshot.id);
        return Ok(None);
    }
    match manifest(task, domains, snapshot, &bytes) {
        Ok(manifest) => Ok(Some(manifest.root)),
        Err(what) => {
            let what = format!("the manifest of its snapshot cannot be read: {what}");
            findings.add(Class::Corrupt, name, what).snapshots.insert(snapshot.id);
            Ok(None)
        }
    }
}

fn manifest(
    task: &Task<'_>,
    domains: &Domains,
    snapshot: &SnapshotState,
    bytes: &[u8],
) -> Result<Manifest, String> {
    let changed = || "the record is not the one that was replayed".to_owned();
    let record = Record::decode(bytes).map_err(|_| changed())?;
    let quoted;
    let record = if chain_value(bytes) == snapshot.id.0 {
        record
    } else {
        // A snapshot that came in by a reconcile record is quoted in it whole.
        quoted = quoted_record(&record, snapshot).ok_or_else(changed)?;
        Record::decode(&quoted).map_err(|_| changed())?
    };
    let epoch = snapshot.body.epoch;
    let pair = task.keyring.sealing(epoch).ok_or_else(|| format!("there is no epoch {epoch}"))?;
    let domain = snapshot.body.domain;
    let keys =
        domains.get(&domain).ok_or_else(|| format!("domain {domain} is of an epoch that does not exist"))?;
    let cbor = open_body(&record, pair, keys).map_err(|error| reason(&error))?;
    Manifest::decode(&cbor).map_err(|error| error.to_string())
}

fn quoted_record(record: &Record<'_>, snapshot: &SnapshotState) -> Option<Vec<u8>> {
    let kind = RecordKind::from_number(record.public.kind)?;
    match Details::decode(kind, false, record.public.details.as_deref()).ok()? {
        Details::Reconcile { records } => {
            records.into_iter().find(|bytes| chain_value(bytes) == snapshot.id.0)
        }
        _ => None,
    }
}
