//! `coffer stats`

use anyhow::Result;
use coffer_engine::stats;
use serde_json::json;

use crate::exit_code::Exit;
use crate::output::bytes;
use crate::wiring::World;

pub(super) fn run(world: &World) -> Result<Exit> {
    let store = world.open_store()?;
    let vault = world.open_vault(&store)?;
    let s = stats(&vault)?;
    let value = json!({
        "message_type": "stats", "vault_id": vault.id().to_string(), "records": s.record_count,
        "snapshots": s.snapshot_count, "content_bytes": s.content_bytes, "new_bytes": s.new_bytes,
        "segments": s.segment_count, "segment_bytes": s.segment_bytes, "packs": s.pack_count,
        "pack_bytes": s.pack_bytes, "chunks": s.chunk_count, "unreadable": s.unreadable_count,
    });
    let ratio = |part: u64| if s.pack_bytes == 0 { 0.0 } else { part as f64 / s.pack_bytes as f64 };
    let text = format!(
        "{} snapshot(s) of {} in all\n{} pack(s), {}; {} index segment(s), {}; {} chunk(s); {} log record(s)\n\
         compression {:.2}, compression and deduplication {:.2}",
        s.snapshot_count,
        bytes(s.content_bytes),
        s.pack_count,
        bytes(s.pack_bytes),
        s.segment_count,
        bytes(s.segment_bytes),
        s.chunk_count,
        s.record_count,
        ratio(s.new_bytes),
        ratio(s.content_bytes),
    );
    world.result(value, &text)?;
    if s.unreadable_count > 0 {
        world
            .output
            .warn(&format!("{} object(s) could not be read; run `coffer verify`", s.unreadable_count));
        return Ok(Exit::Corrupt);
    }
    Ok(Exit::Done)
}
