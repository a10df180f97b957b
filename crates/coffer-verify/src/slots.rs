//! Current key slots: present, intact, for this vault (specification section 7).

use coffer_format::id::SlotId;
use coffer_format::limits::SLOT_LEN_MAX;
use coffer_format::log::LogState;
use coffer_format::object::ObjectName;
use coffer_format::slot::Slot;

use crate::error::VerifyError;
use crate::report::{Class, Counts, Findings};
use crate::source::Source;

/// Checks every current slot and returns those that are intact.
pub(crate) fn check(
    source: &Source<'_>,
    log: &LogState,
    findings: &mut Findings,
    counts: &mut Counts,
) -> Result<Vec<(SlotId, Slot)>, VerifyError> {
    counts.slots = log.slots.len() as u64;
    let mut slots = Vec::new();
    let mut bytes = Vec::new();
    for id in &log.slots {
        let name = ObjectName::Slot(*id);
        let mut read = source.read(name, SLOT_LEN_MAX, &mut bytes)?;
        if read.is_ok() && Slot::id(&bytes) != *id && source.distrust(name) {
            read = source.read(name, SLOT_LEN_MAX, &mut bytes)?;
        }
        if let Err(fault) = read {
            findings.add(fault.class(), name, fault.what());
            continue;
        }
        match judge(id, &bytes, log) {
            Ok(slot) => slots.push((*id, slot)),
            Err(what) => drop(findings.add(Class::Corrupt, name, what)),
        }
    }
    Ok(slots)
}

fn judge(id: &SlotId, bytes: &[u8], log: &LogState) -> Result<Slot, String> {
    let actual = Slot::id(bytes);
    if actual != *id {
        return Err(format!("its bytes have the hash {actual}"));
    }
    let slot = Slot::decode(bytes).map_err(|error| error.to_string())?;
    if slot.vault != log.vault {
        return Err(format!("it is a slot of the vault {}", slot.vault));
    }
    if slot.epoch > log.epoch() {
        return Err(format!("it is for epoch {}, which does not exist", slot.epoch));
    }
    Ok(slot)
}
