//! Runs one vector of `format.json` through its decoder: the main decoded fields, or the rule that is broken.

use coffer_format::FormatError;
use coffer_format::cbor::Decoder;
use coffer_format::header::{ChunkerSpec, FORMAT_MAJOR, Header, SUITE, StoreMode};
use coffer_format::id::{DomainId, hex};
use coffer_format::index::SegmentHead;
use coffer_format::manifest::Manifest;
use coffer_format::pack::{ChunkKind, Codec, Directory, Footer, FrameHead, padded_len};
use coffer_format::path::check_path;
use coffer_format::record::{Details, OrphanName, Record, RecordKind, RoleAction, chain_value, unpad_body};
use coffer_format::slot::{Slot, SlotPurpose};
use coffer_format::tree::{
    Blob, ChunkRef, Content, TreeEntry, decode_holes, decode_leaf, decode_node, decode_xattrs,
};
use serde_json::{Value, json};

/// The main decoded fields of `bytes`, or the rule that they break.
pub(crate) fn decode(vector: &Value, bytes: &[u8]) -> Result<Value, &'static str> {
    let number = |name: &str| vector[name].as_u64().expect("the vector has this parameter");
    let value = match vector["what"].as_str().expect("a vector says what it is") {
        "cbor" => cbor(bytes),
        "header" => Header::decode(bytes).map(|header| header_value(&header, bytes)),
        "slot" => Slot::decode(bytes).map(|slot| slot_value(&slot, bytes)),
        "record" => Record::decode(bytes).map(|record| record_value(&record, bytes)),
        "details" => {
            let kind = RecordKind::from_number(number("kind")).expect("a kind");
            Details::decode(kind, number("record_number") == 0, Some(bytes)).map(details_value)
        }
        "body_plain" => unpad_body(bytes).map(|cbor| json!({ "cbor": hex(cbor) })),
        "path" => check_path(bytes).map(|()| Value::Null),
        "leaf" => decode_leaf(bytes).map(|entries| entries.iter().map(entry_value).collect()),
        "node" => decode_node(bytes).map(|children| {
            children
                .iter()
                .map(|child| {
                    json!({
                        "last_path": hex(&child.last_path), "chunk": chunk_value(&child.chunk),
                        "entries": child.entry_count, "content_bytes": child.content_bytes,
                    })
                })
                .collect()
        }),
        "content_rows" => ChunkRef::read_rows(bytes, number("row_count_max")).map(|rows| chunks_value(&rows)),
        "holes" => decode_holes(bytes, number("size"))
            .map(|holes| holes.iter().map(|hole| json!([hole.offset, hole.len])).collect()),
        "xattrs" => decode_xattrs(bytes)
            .map(|xattrs| xattrs.iter().map(|(name, value)| json!([hex(name), hex(value)])).collect()),
        "manifest" => Manifest::decode(bytes).map(|manifest| manifest_value(&manifest)),
        "frame_head" => FrameHead::decode(bytes).map(|(head, payload)| {
            json!({
                "codec": u64::from(head.codec == Codec::Zstd),
                "kind": if head.kind == ChunkKind::Data { 1 } else { 2 },
                "plain_len": head.plain_len,
                "payload": hex(payload),
            })
        }),
        "directory" => Directory::decode(bytes, number("directory_offset")).map(|directory| {
            let frames: Vec<_> = directory
                .frames
                .iter()
                .map(|frame| {
                    let place = frame.place;
                    json!({
                        "offset": place.offset, "sealed_len": place.sealed_len, "plain_len": place.plain_len,
                        "chunks": chunks_value(&frame.chunks),
                    })
                })
                .collect();
            json!({ "domain": directory.domain.to_string(), "frames": frames })
        }),
        "footer" => Footer::decode(bytes, number("pack_len")).map(|footer| {
            json!({
                "directory_offset": footer.directory_offset,
                "directory_sealed_len": footer.directory_sealed_len,
                "directory_plain_len": footer.directory_plain_len,
                "frame_count": footer.frame_count,
            })
        }),
        "segment_head" => SegmentHead::decode(bytes, number("object_len")).map(|head| segment_value(&head)),
        "pack_table" => {
            let pack_count = u32::try_from(number("pack_count")).expect("a count of 32 bits");
            let head = SegmentHead {
                domain: DomainId::owner(0),
                salt: [0; 32],
                commitment: [0; 32],
                pack_count,
                frame_count: 0,
                chunk_count: 0,
            };
            head.decode_packs(bytes).map(|packs| {
                packs.iter().map(|pack| json!({ "name": pack.id.to_string(), "len": pack.len })).collect()
            })
        }
        "padded_len" => Ok(json!(padded_len(number("len")))),
        what => panic!("there is no decoder for {what}"),
    };
    value.map_err(|error| rule(&error))
}

fn rule(error: &FormatError) -> &'static str {
    match error {
        FormatError::Malformed { rule, .. } => rule,
        FormatError::TooLong { .. } => "over the limit",
        FormatError::Version { .. } => "version",
        _ => "another error",
    }
}

fn cbor(bytes: &[u8]) -> Result<Value, FormatError> {
    let mut d = Decoder::new("vector", bytes);
    d.raw()?;
    d.finish()?;
    Ok(cbor_value(&mut Decoder::new("vector", bytes)))
}

/// Integers, text, arrays and truth values as they are, byte strings as `{"bytes": hex}`, maps as `{"map": [[key, value]]}`.
fn cbor_value(d: &mut Decoder<'_>) -> Value {
    if d.at_array() {
        let count = d.array(u64::MAX).expect("an array");
        return (0..count).map(|_| cbor_value(d)).collect();
    }
    if d.clone().map().is_ok() {
        let mut map = d.map().expect("a map");
        let mut fields = Vec::new();
        while let Some(key) = map.next_key(d).expect("a key") {
            fields.push(json!([key, cbor_value(d)]));
        }
        return json!({ "map": fields });
    }
    let one = d.clone();
    drop(d.raw());
    let value =
        one.clone().uint().map(|value| json!(value)).or_else(|_| one.clone().int().map(|value| json!(value)));
    let value = value.or_else(|_| one.clone().bool().map(|value| json!(value)));
    let value = value.or_else(|_| one.clone().text(u64::MAX).map(|value| json!(value)));
    value
        .or_else(|_| one.clone().bytes(u64::MAX).map(|value| json!({ "bytes": hex(value) })))
        .expect("a value")
}

fn header_value(header: &Header, bytes: &[u8]) -> Value {
    let chunker = match header.chunker {
        ChunkerSpec::Pcc { min, bits, max } => [1, min, bits, max],
        ChunkerSpec::Fixed { len } => [2, len, 0, len],
    };
    let store_mode = match header.store_mode {
        StoreMode::ConditionalCreate => 1,
        StoreMode::OldestVersion => 2,
        StoreMode::SingleWriter => 3,
    };
    json!({
        "vault_id": Header::vault_id(bytes).to_string(), "major": FORMAT_MAJOR, "minor": header.minor, "suite": SUITE,
        "chunker": chunker, "store_mode": store_mode, "sealing_key_hash": hex(&chain_value(&header.sealing_key[..])),
        "owner_key": hex(&header.owner_key), "random": hex(&header.random),
    })
}

fn slot_value(slot: &Slot, bytes: &[u8]) -> Value {
    json!({
        "name": Slot::id(bytes).to_string(), "vault": slot.vault.to_string(), "epoch": slot.epoch,
        "purpose": if slot.purpose == SlotPurpose::VaultKey { 1 } else { 2 }, "kind": slot.kind.number(),
        "label": slot.label, "created_s": slot.created_s, "salt": slot.salt.map(|salt| hex(&salt)),
        "commitment": slot.commitment.map(|commitment| hex(&commitment)), "wrapped": hex(&slot.wrapped),
        "context_hash": hex(&chain_value(&slot.context())),
    })
}

fn record_value(record: &Record<'_>, bytes: &[u8]) -> Value {
    let public = &record.public;
    let added = public
        .segments_added
        .iter()
        .map(|segment| json!([segment.id.to_string(), segment.len, segment.domain.to_string()]));
    json!({
        "chain": hex(&chain_value(bytes)), "vault": public.vault.to_string(), "number": public.number,
        "term": public.term, "previous": hex(&public.previous), "signer": hex(&public.signer), "kind": public.kind,
        "minor": public.minor, "time_s": public.time_s, "home": hex(&public.home),
        "body": public.body.map(|body| json!({
            "hash": hex(&body.hash), "domain": body.domain.to_string(), "epoch": body.epoch, "len": record.body.len(),
        })),
        "segments_added": added.collect::<Vec<_>>(),
        "segments_removed": public.segments_removed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "slots": public.slots.as_ref().map(|slots| slots.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "details": public.details.as_ref().map(|details| hex(details)),
    })
}

fn details_value(details: Details) -> Value {
    fn list<T: ToString>(ids: &[T]) -> Vec<String> {
        ids.iter().map(ToString::to_string).collect()
    }
    match details {
        Details::None => Value::Null,
        Details::Snapshots { ids } => json!({ "snapshots": list(&ids) }),
        Details::Hold { ids, held } => json!({ "snapshots": list(&ids), "held": held }),
        Details::Prune { base, orphans } => {
            let orphans = orphans.iter().map(|orphan| match orphan {
                OrphanName::Pack(id) => json!([1, id.to_string()]),
                OrphanName::Segment(id) => json!([2, id.to_string()]),
            });
            json!({ "base": base, "orphans": orphans.collect::<Vec<_>>() })
        }
        Details::Sweep { base, segments, packs } => {
            json!({ "base": base, "segments": list(&segments), "packs": list(&packs) })
        }
        Details::Genesis { header } => json!({ "header": hex(&header) }),
        Details::Epoch(epoch) => json!({
            "number": epoch.number, "sealing_key_hash": hex(&chain_value(&epoch.sealing_key[..])),
            "owner_key": hex(&epoch.owner_key), "previous_vault_key": hex(&epoch.previous_vault_key),
            "previous_reader_secret": hex(&epoch.previous_reader_secret), "new_domains": epoch.new_domains,
        }),
        Details::Role(RoleAction::Enrol { key, role, domains }) => {
            json!({ "action": 1, "key": hex(&key), "role": role.number(), "domains": list(&domains) })
        }
        Details::Role(RoleAction::Revoke { key }) => json!({ "action": 2, "key": hex(&key) }),
        Details::Policy { minor } => json!({ "minor": minor }),
        Details::Approval { hash, approved } => json!({ "hash": hex(&hash), "approved": approved }),
        Details::Handover { home } => json!({ "home": hex(&home) }),
        Details::Promote { home, last, chain } => {
            json!({ "home": hex(&home), "last": last, "chain": hex(&chain) })
        }
        Details::Reconcile { records } => {
            json!({ "records": records.iter().map(|record| hex(record)).collect::<Vec<_>>() })
        }
        Details::Locks { until_s, object_count } => json!({ "until_s": until_s, "objects": object_count }),
        Details::Evidence { hash } => json!({ "hash": hex(&hash) }),
        Details::Checkpoint { number, state_hash } => {
            json!({ "number": number, "state_hash": hex(&state_hash) })
        }
    }
}

fn chunk_value(chunk: &ChunkRef) -> Value {
    json!([chunk.id.to_string(), chunk.len])
}

fn chunks_value(chunks: &[ChunkRef]) -> Value {
    chunks.iter().map(chunk_value).collect()
}

fn entry_value(entry: &TreeEntry) -> Value {
    let blob = |blob: &Option<Blob>| match blob {
        None => Value::Null,
        Some(Blob::Inline(bytes)) => json!(hex(bytes)),
        Some(Blob::Chunk(chunk)) => chunk_value(chunk),
    };
    let content = match &entry.content {
        Content::Empty => Value::Null,
        Content::Inline(bytes) => json!(hex(bytes)),
        Content::List { level, rows } => json!({ "level": level, "rows": chunks_value(rows) }),
    };
    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| hex(bytes));
    json!({
        "path": hex(&entry.path), "kind": entry.kind as u64 + 1, "mode": entry.mode, "uid": entry.uid, "gid": entry.gid,
        "user": bytes(&entry.user), "group": bytes(&entry.group), "mtime_ns": entry.mtime_ns, "size": entry.size,
        "content": content, "link_target": bytes(&entry.link_target), "hard_link": bytes(&entry.hard_link),
        "xattrs": blob(&entry.xattrs), "holes": blob(&entry.holes), "device": entry.device,
        "changed_while_read": entry.changed_while_read, "resource": bytes(&entry.resource),
    })
}

fn manifest_value(manifest: &Manifest) -> Value {
    let statistics = manifest.statistics;
    let errors = manifest.completeness.errors.iter().map(|(path, message)| json!([hex(path), message]));
    json!({
        "collector": manifest.collector, "host": manifest.host, "tags": manifest.tags,
        "sources": manifest.sources.iter().map(|source| hex(source)).collect::<Vec<_>>(),
        "start_ns": manifest.start_ns, "end_ns": manifest.end_ns,
        "root": { "chunk": chunk_value(&manifest.root.chunk), "height": manifest.root.height },
        "statistics": [
            statistics.entry_count, statistics.file_count, statistics.directory_count, statistics.content_bytes,
            statistics.read_bytes, statistics.new_bytes, statistics.stored_bytes, statistics.new_chunk_count,
            statistics.unchanged_count,
        ],
        "parent": manifest.parent.map(|parent| parent.to_string()),
        "errors": errors.collect::<Vec<_>>(), "error_count": manifest.completeness.error_count,
        "program": manifest.program, "user": manifest.user,
        "facts": manifest.facts.as_ref().map(|facts| hex(facts)),
    })
}

fn segment_value(head: &SegmentHead) -> Value {
    let (frames, chunks) = (head.frame_table(), head.chunk_table());
    json!({
        "domain": head.domain.to_string(), "salt": hex(&head.salt), "commitment": hex(&head.commitment),
        "pack_count": head.pack_count, "frame_count": head.frame_count, "chunk_count": head.chunk_count,
        "frame_table": { "offset": frames.offset, "plain_len": frames.plain_len, "pages": frames.page_count() },
        "chunk_table": { "offset": chunks.offset, "plain_len": chunks.plain_len, "pages": chunks.page_count() },
    })
}
