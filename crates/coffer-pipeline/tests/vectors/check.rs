//! How a reader with keys ends, from the text of a vector alone.

use coffer_crypto::{CryptoError, DomainKeys, ReaderSecret, SealingKeyPair, Secret};
use coffer_format::id::{VaultId, hex, unhex};
use coffer_format::index::{SEGMENT_HEAD_LEN, SegmentHead};
use coffer_format::pack::{ChunkKind, PACK_FOOTER_SIZE};
use coffer_format::record::{Record, chain_value};
use coffer_pipeline::PipelineError;
use coffer_pipeline::pack_reader::{FrameReader, PackKey, chunk_id};
use coffer_pipeline::record::{open_body, signature_is_good};
use coffer_pipeline::segment::{SegmentReader, SegmentTable};
use serde_json::{Value, json};

/// The outcome in the words of the file.
struct Refusal(&'static str);

impl From<PipelineError> for Refusal {
    fn from(error: PipelineError) -> Self {
        Self(match error {
            PipelineError::Commitment { .. } => "commitment",
            PipelineError::Crypto(CryptoError::Open { .. }) => "seal",
            PipelineError::Format(_) => "malformed",
            PipelineError::Decompress { .. } => "payload",
            other => panic!("no vector ends like this: {other}"),
        })
    }
}

impl From<coffer_format::FormatError> for Refusal {
    fn from(_: coffer_format::FormatError) -> Self {
        Self("malformed")
    }
}

struct Keys {
    vault: VaultId,
    pair: SealingKeyPair,
    domain: DomainKeys,
}

fn fixed<const N: usize>(value: &Value) -> [u8; N] {
    unhex(value.as_str().unwrap()).unwrap()
}

fn bytes_of(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// The keys of the file, or of the vector where it names others.
fn keys_of(file: &Value, vector: &Value) -> Keys {
    let field = |name: &str| vector.get(name).unwrap_or(&file["keys"][name]).clone();
    let reader = ReaderSecret::from_secret(Secret::new(fixed(&field("reader_secret"))));
    Keys {
        vault: VaultId(fixed(&field("vault_id"))),
        pair: reader.sealing(),
        domain: reader.domain_keys(&fixed(&field("domain"))),
    }
}

fn object_of(file: &Value, vector: &Value) -> Vec<u8> {
    let objects = file["objects"].as_array().unwrap();
    let object = objects.iter().find(|object| object["name"] == vector["object"]).unwrap();
    let mut bytes = bytes_of(&object["hex"]);
    if let Some(flip) = vector.get("flip") {
        bytes[number(&flip[0])] ^= u8::try_from(number(&flip[1])).unwrap();
    }
    if let Some(len) = vector.get("cut") {
        bytes.truncate(number(len));
    }
    if let Some(more) = vector.get("append") {
        bytes.extend(bytes_of(more));
    }
    bytes
}

/// The outcome of a vector, and its value where it is `ok`.
pub(crate) fn run(file: &Value, vector: &Value) -> (&'static str, Option<Value>) {
    let (keys, bytes) = (keys_of(file, vector), object_of(file, vector));
    if vector.get("object_name").is_some_and(|name| fixed::<32>(name) != *blake3::hash(&bytes).as_bytes()) {
        return ("name", None);
    }
    let result = match vector["what"].as_str().unwrap() {
        "pack" => pack(&keys, &bytes),
        "frame" => frame(&keys, &bytes, &vector["frame"]),
        "segment" => segment(&keys, &bytes),
        "page" => page(&keys, &bytes, &vector["page"]),
        "record" => record(&keys, &bytes),
        what => panic!("{what}"),
    };
    match result {
        Ok(value) => ("ok", Some(value)),
        Err(Refusal(outcome)) => (outcome, None),
    }
}

fn pack_key(keys: &Keys, bytes: &[u8]) -> Result<PackKey, Refusal> {
    let head = bytes.first_chunk().ok_or(Refusal("malformed"))?;
    Ok(PackKey::open(keys.vault, &keys.pair, &keys.domain, head)?)
}

fn pack(keys: &Keys, bytes: &[u8]) -> Result<Value, Refusal> {
    let key = pack_key(keys, bytes)?;
    let end = bytes.last_chunk::<PACK_FOOTER_SIZE>().ok_or(Refusal("malformed"))?;
    let footer = key.footer(end, bytes.len() as u64)?;
    let start = usize::try_from(footer.directory_offset).unwrap();
    let directory = key.directory(&footer, bytes[start..bytes.len() - PACK_FOOTER_SIZE].to_vec())?;
    let frames = directory.frames.iter().map(|frame| {
        let chunks: Vec<_> =
            frame.chunks.iter().map(|chunk| json!([chunk.id.to_string(), chunk.len])).collect();
        json!({
            "offset": frame.place.offset, "sealed_len": frame.place.sealed_len,
            "plain_len": frame.place.plain_len, "chunks": chunks,
        })
    });
    Ok(json!({
        "domain": directory.domain.to_string(), "directory_offset": footer.directory_offset,
        "directory_plain_len": footer.directory_plain_len, "frames": frames.collect::<Vec<_>>(),
    }))
}

fn frame(keys: &Keys, bytes: &[u8], place: &Value) -> Result<Value, Refusal> {
    let key = pack_key(keys, bytes)?;
    let offset = number(&place["offset"]);
    let sealed = &bytes[offset..offset + number(&place["sealed_len"])];
    let plain_len = u32::try_from(number(&place["plain_len"])).unwrap();
    let mut reader = FrameReader::new()?;
    let (kind, plain) = reader.open(&key, place["number"].as_u64().unwrap(), plain_len, sealed)?;
    if (kind == ChunkKind::Data) != (place["kind"] == "data") {
        return Err(Refusal("kind"));
    }
    let mut rest = plain;
    for chunk in place["chunks"].as_array().unwrap() {
        let (bytes, others) = rest.split_at_checked(number(&chunk[1])).ok_or(Refusal("chunk id"))?;
        rest = others;
        if chunk_id(&keys.domain, kind, bytes).0 != fixed(&chunk[0]) {
            return Err(Refusal("chunk id"));
        }
    }
    if !rest.is_empty() {
        return Err(Refusal("chunk id"));
    }
    Ok(json!({ "plain": hex(plain) }))
}

fn segment_reader(keys: &Keys, bytes: &[u8]) -> Result<SegmentReader, Refusal> {
    let head = SegmentHead::decode(bytes, bytes.len() as u64)?;
    Ok(SegmentReader::open(keys.vault, &keys.domain, head)?)
}

fn segment(keys: &Keys, bytes: &[u8]) -> Result<Value, Refusal> {
    let reader = segment_reader(keys, bytes)?;
    let head = reader.head();
    let start = usize::try_from(SEGMENT_HEAD_LEN).unwrap();
    let packs = head.decode_packs(&bytes[start..start + usize::try_from(head.pack_table_len()).unwrap()])?;
    let mut tables = Vec::new();
    for (table, place) in
        [(SegmentTable::Frames, head.frame_table()), (SegmentTable::Chunks, head.chunk_table())]
    {
        let (mut plain, mut page) = (Vec::new(), Vec::new());
        for number in 0..place.page_count() {
            let (offset, len) = place.page(number);
            let (offset, len) = (usize::try_from(offset).unwrap(), usize::try_from(len).unwrap());
            reader.page(table, number, &bytes[offset..offset + len], &mut page)?;
            plain.extend_from_slice(&page);
        }
        tables.push(hex(&plain));
    }
    let packs: Vec<_> = packs.iter().map(|pack| json!([pack.id.to_string(), pack.len])).collect();
    Ok(json!({
        "domain": head.domain.to_string(), "packs": packs, "frame_table": tables[0], "chunk_table": tables[1],
    }))
}

fn page(keys: &Keys, bytes: &[u8], place: &Value) -> Result<Value, Refusal> {
    let reader = segment_reader(keys, bytes)?;
    let table = if place["table"] == "frames" { SegmentTable::Frames } else { SegmentTable::Chunks };
    let offset = number(&place["offset"]);
    let mut plain = Vec::new();
    let sealed = &bytes[offset..offset + number(&place["sealed_len"])];
    reader.page(table, place["number"].as_u64().unwrap(), sealed, &mut plain)?;
    Ok(json!({ "plain_hash": hex(blake3::hash(&plain).as_bytes()) }))
}

fn record(keys: &Keys, bytes: &[u8]) -> Result<Value, Refusal> {
    let record = Record::decode(bytes)?;
    let public = &record.public;
    if !signature_is_good(&public.signer, record.public_bytes, &record.signature) {
        return Err(Refusal("signature"));
    }
    let body = public.body.ok_or(Refusal("malformed"))?;
    if chain_value(record.body) != body.hash {
        return Err(Refusal("body hash"));
    }
    let cbor = open_body(&record, &keys.pair, &keys.domain)?;
    Ok(json!({
        "vault_id": public.vault.to_string(), "number": public.number, "signer": hex(&public.signer),
        "domain": body.domain.to_string(), "epoch": body.epoch, "chain": hex(&chain_value(bytes)),
        "body": hex(&cbor),
    }))
}
